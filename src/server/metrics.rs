//! Counters of the server, and how they are written for Prometheus. All metric names are in this file.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use super::refused::{Limit, Refused};
use super::tls::TlsCounts;
use crate::cluster::Vitals;
use crate::executor::tool::UsageFaults;
use crate::http::Problem;
use crate::log::{ResetReason, Resume, StoreCounts, WorkCounts};
use crate::model::{Histogram, Now};
use crate::schedules::FIRING_WORDS;
use crate::stream::{CloseReason, Stats};

/// Counters of the event loop.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Connections accepted.
    pub connections_accepted: u64,
    /// Connections closed without an answer, because even the reserve was used up.
    pub connections_dropped: u64,
    /// Refused requests and connections, by limit.
    pub refused: Refused,
    /// Requests received.
    pub requests: u64,
    /// Responses by the first digit of their status.
    responses: [u64; 6],
    /// Messages received from publishers.
    pub messages_in: u64,
    /// Messages from the log for at least one stream.
    pub messages_logged: u64,
    /// Streams told to retry later.
    pub streams_refused: u64,
    /// Streams opened, by where they start.
    resumes: [u64; 5],
    /// Time from a broadcast to its last write.
    pub fan_out: Histogram,
    /// Batches in the queue of the log at the end of a turn.
    pub log_waiting: usize,
    /// Batches in the queue of the loop at the end of a turn.
    pub inbox_waiting: usize,
    /// Counts of stored messages, runs and steps.
    pub work: WorkCounts,
    /// Whether the store cannot be written to.
    pub store_is_down: bool,
    /// Fetches of the keys of the identity provider: successful and failed.
    pub key_fetches: [u64; 2],
}

const RESUME_WORDS: [&str; 5] = ["fresh", "resumed", "reset_unknown_id", "reset_expired", "reset_ahead"];

/// Current values.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gauges {
    /// Connections that are not streams.
    pub connections: usize,
    /// Maximum number of connections and streams.
    pub connections_max: usize,
    /// Connections above a limit, which wait for an answer that says so.
    pub refused: usize,
    /// Bytes of buffered requests and responses, except the small amount that each connection may always use.
    pub buffer_bytes: usize,
    /// Used tickets that are remembered, of all token subjects.
    pub tickets: usize,
    /// Open streams.
    pub streams: usize,
    /// Streams of one run in another format, by format.
    pub retold: [(&'static str, u64); 2],
    /// Streams of several projects.
    pub streams_of_several: usize,
    /// Projects with encoded messages in memory.
    pub projects_watched: usize,
    /// Bytes of these encoded messages.
    pub backlog_bytes: usize,
    /// Totals over all streams.
    pub stream_stats: Stats,
}

impl Metrics {
    /// Counts a response.
    pub fn count_response(&mut self, status: u16) {
        self.responses[usize::from(status / 100).min(5)] += 1;
    }

    /// Counts a connection closed without an answer.
    pub fn count_dropped(&mut self, limit: Limit) {
        self.connections_dropped += 1;
        self.refused.count(limit);
    }

    /// Counts a problem that was caused by a limit.
    pub fn count_problem(&mut self, problem: &Problem) {
        if let Some(limit) = Limit::of_code(problem.code) {
            self.refused.count(limit);
        }
    }

    /// Counts an opened stream.
    pub fn count_resume(&mut self, resume: Resume) {
        self.resumes[match resume {
            Resume::Fresh => 0,
            Resume::Resumed => 1,
            Resume::Reset(ResetReason::UnknownId) => 2,
            Resume::Reset(ResetReason::Expired) => 3,
            Resume::Reset(ResetReason::Ahead) => 4,
        }] += 1;
    }

    /// All metrics in the text format of Prometheus (exposition format 0.0.4).
    pub fn render(&self, now: &Gauges) -> String {
        let mut page = Page(String::with_capacity(8 * 1024));
        self.render_http(&mut page, now);
        self.render_streams(&mut page, now);
        self.render_work(&mut page);
        page.0
    }

    /// The same for the usage of language models by attempts, and for usage that could not be read, by tool.
    pub fn render_usage(&self, faults: &BTreeMap<Arc<str>, Arc<UsageFaults>>) -> String {
        let mut page = Page(String::new());
        page.head(
            "counter",
            "stepcast_usage_tokens_total",
            "Language model tokens used by step attempts, by tool and kind (cached tokens are also counted as input).",
        );
        for (tool, used) in self.work.usage() {
            let kinds = [("input", used.input_tokens), ("output", used.output_tokens)];
            for (kind, count) in kinds.into_iter().chain(used.cached_tokens.map(|cached| ("cached", cached))) {
                page.line("stepcast_usage_tokens_total", &[("tool", tool), ("kind", kind)], count);
            }
        }
        page.head("counter", "stepcast_usage_cost_total", "Cost of the language model tokens used by step attempts, by tool; attempts of unknown cost are not counted.");
        for (tool, used) in self.work.usage() {
            used.cost.into_iter().for_each(|cost| page.line("stepcast_usage_cost_total", &[("tool", tool)], cost));
        }
        let help = "Step attempts whose token usage could not be determined, by tool and reason.";
        page.head("counter", "stepcast_usage_unread_total", help);
        for (tool, faults) in faults {
            for (reason, count) in faults.counts() {
                page.line("stepcast_usage_unread_total", &[("tool", tool), ("reason", reason)], count);
            }
        }
        page.0
    }

    /// The same of TLS, where it is spoken.
    pub fn render_tls(counts: &TlsCounts) -> String {
        let mut page = Page(String::new());
        let help = "TLS handshakes completed, by TLS version.";
        page.labelled("stepcast_tls_handshakes_total", help, "version", counts.handshakes());
        let help = "TLS handshakes that failed, by reason.";
        page.labelled("stepcast_tls_handshake_failures_total", help, "reason", counts.failures());
        let help = "Reloads of the TLS certificate (SIGHUP), by outcome.";
        page.labelled("stepcast_tls_reloads_total", help, "outcome", counts.reloads());
        page.0
    }

    /// The same for webhooks. Of each: its name, and the counts pending, in progress, delivered, failed and given up.
    pub fn render_webhooks(&self, webhooks: &[(String, [u64; 5])]) -> String {
        const OUTCOMES: [&str; 2] = ["delivered", "failed"];
        let mut page = Page(String::new());
        let gauge = |place: usize| webhooks.iter().map(move |(name, counts)| (name, counts[place]));
        let help = "Current number of webhook events that are not delivered yet, including those being sent.";
        page.labelled_as("gauge", "stepcast_webhook_pending", help, "webhook", gauge(0));
        page.labelled_as(
            "gauge",
            "stepcast_webhook_sending",
            "Current number of webhook requests in progress.",
            "webhook",
            gauge(1),
        );
        page.head("counter", "stepcast_webhook_attempts_total", "Webhook requests that have finished, by outcome.");
        for (name, counts) in webhooks {
            for (outcome, count) in OUTCOMES.iter().zip(&counts[2..]) {
                let labels = format!("webhook=\"{name}\",outcome=\"{outcome}\"");
                let _ = writeln!(page.0, "stepcast_webhook_attempts_total{{{labels}}} {count}");
            }
        }
        let given_up = webhooks.iter().map(|(name, counts)| (name, counts[4]));
        page.labelled(
            "stepcast_webhook_given_up_total",
            "Webhook events given up after their last attempt, or because the receiver answered 410 Gone.",
            "webhook",
            given_up,
        );
        let help = "Webhook events dropped because too many were queued (limits.webhook_events).";
        page.counter("stepcast_webhook_dropped_total", help, self.work.gauges().webhooks_dropped);
        page.0
    }

    /// The same for the outcomes of schedule firings.
    pub fn render_firings(counts: [u64; FIRING_WORDS.len()]) -> String {
        let mut page = Page(String::new());
        let (name, help) = ("stepcast_schedule_firings_total", "Firings of schedules, by outcome.");
        page.labelled(name, help, "outcome", FIRING_WORDS.into_iter().zip(counts));
        page.0
    }

    /// The same for a node of a cluster.
    pub fn render_node(vitals: &Vitals, store: &StoreCounts, now: Now) -> String {
        let (mut page, shown) = (Page(String::new()), vitals.shown(now.mono));
        page.gauge(
            "stepcast_nodes",
            "Current number of live nodes in the cluster, including this one.",
            usize::try_from(shown.nodes).unwrap_or(0),
        );
        let help = "Seconds since this node last renewed its lease.";
        page.seconds("stepcast_lease_age_seconds", help, shown.lease_age);
        let help = "Seconds since this node had last read everything that other nodes had written.";
        page.seconds("stepcast_tail_lag_seconds", help, shown.tail_lag);
        let help =
            "Seconds since this node last read back a row that it had written; from 15 seconds on /readyz answers 503.";
        page.seconds("stepcast_round_trip_age_seconds", help, shown.round_trip_age);
        page.counter(
            "stepcast_fences_total",
            "Times this node lost its lease and joined the cluster again.",
            shown.fences,
        );
        page.counter("stepcast_takeovers_total", "Failed nodes whose runs this node has taken over.", shown.taken_over);
        page.histogram(
            "stepcast_store_append_seconds",
            "Time taken to append a batch to the store, in seconds.",
            &store.appends(),
        );
        let help = "Batches built again because another node had written to the same project first.";
        page.counter("stepcast_store_conflicts_total", help, store.conflicts());
        page.0
    }

    fn render_http(&self, page: &mut Page, now: &Gauges) {
        page.gauge(
            "stepcast_connections",
            "Current number of open HTTP connections that are not event streams.",
            now.connections,
        );
        page.gauge(
            "stepcast_connections_max",
            "Maximum number of open connections, event streams included (limits.connections).",
            now.connections_max,
        );
        page.gauge("stepcast_connections_refused", "Current number of open HTTP connections above a connection limit, kept only to answer that they are refused.", now.refused);
        page.gauge(
            "stepcast_buffer_bytes",
            "Memory used by buffered requests and responses of all connections, in bytes (limits.buffer_bytes).",
            now.buffer_bytes,
        );
        page.gauge(
            "stepcast_tickets",
            "Current number of used tickets that are remembered (limits.tickets).",
            now.tickets,
        );
        page.counter("stepcast_connections_accepted_total", "Connections accepted.", self.connections_accepted);
        let help = "Connections closed without an answer because the connection limit and its reserve were used up.";
        page.counter("stepcast_connections_dropped_total", help, self.connections_dropped);
        page.labelled(
            "stepcast_refused_total",
            "Requests and connections refused at a limit, by limit.",
            "limit",
            self.refused.each(),
        );
        page.counter("stepcast_http_requests_total", "HTTP requests received.", self.requests);
        let fetches = ["ok", "failed"].into_iter().zip(self.key_fetches);
        page.labelled(
            "stepcast_key_fetches_total",
            "Attempts to load the key set of the identity provider (auth.jwks), by outcome.",
            "outcome",
            fetches,
        );
        let classes = (1..6).map(|class| (format!("{class}xx"), self.responses[class]));
        page.labelled("stepcast_http_responses_total", "HTTP responses, by status class.", "class", classes);
    }

    fn render_streams(&self, page: &mut Page, now: &Gauges) {
        let stats = &now.stream_stats;
        page.gauge("stepcast_streams", "Current number of open event streams.", now.streams);
        let help = "Current number of open event streams that send one run in another format, by format.";
        page.labelled_as("gauge", "stepcast_streams_retold", help, "format", now.retold);
        page.gauge(
            "stepcast_streams_of_several",
            "Current number of open event streams that carry several projects.",
            now.streams_of_several,
        );
        page.counter("stepcast_streams_opened_total", "Event streams opened.", stats.opened);
        page.counter(
            "stepcast_streams_put_off_total",
            "Requests for an event stream that were told to retry later.",
            self.streams_refused,
        );
        let closed = CloseReason::ALL.iter().zip(stats.closed).map(|(reason, n)| (reason.as_str(), n));
        page.labelled("stepcast_streams_closed_total", "Event streams closed, by reason.", "reason", closed);
        let resumes = RESUME_WORDS.into_iter().zip(self.resumes);
        page.labelled(
            "stepcast_resumes_total",
            "Event streams opened, by where they start: fresh, resumed, or reset with its reason.",
            "outcome",
            resumes,
        );
        page.counter("stepcast_messages_published_total", "Messages received from publishers.", self.messages_in);
        page.counter(
            "stepcast_messages_broadcast_total",
            "Messages broadcast to at least one event stream.",
            self.messages_logged,
        );
        page.counter("stepcast_messages_delivered_total", "Messages written to event streams.", stats.messages);
        page.counter("stepcast_stream_bytes_total", "Bytes written to event streams.", stats.bytes);
        page.counter("stepcast_stream_writes_total", "Socket writes made to send broadcast messages.", stats.writes);
        page.counter(
            "stepcast_history_pages_total",
            "Pages of history read for event streams that have fallen behind.",
            stats.pages,
        );
        page.gauge(
            "stepcast_backlogs",
            "Current number of projects whose newest messages are kept encoded in memory.",
            now.projects_watched,
        );
        page.gauge(
            "stepcast_backlog_bytes",
            "Memory used by the encoded newest messages of all projects, in bytes.",
            now.backlog_bytes,
        );
        page.histogram(
            "stepcast_fan_out_seconds",
            "Time from the broadcast of a message to its last write to an event stream, in seconds.",
            &self.fan_out,
        );
    }

    fn render_work(&self, page: &mut Page) {
        let (runs, gauges) = (self.work.runs(), self.work.gauges());
        page.labelled("stepcast_runs_total", "Runs that have started, completed or failed, by status.", "status", runs);
        page.gauge("stepcast_runs_open", "Current number of running and queued runs.", gauges.open_runs);
        page.gauge(
            "stepcast_projects",
            "Current number of projects that have messages, runs or subscribers.",
            gauges.projects,
        );
        let help = "Memory used by the idempotency keys of the last 24 hours, in bytes (limits.idempotency_bytes).";
        page.gauge("stepcast_idempotency_bytes", help, usize::try_from(gauges.key_bytes).unwrap_or(usize::MAX));
        let steps = self.work.steps();
        page.labelled("stepcast_steps_total", "Status changes of steps, by new status.", "status", steps);
        page.gauge("stepcast_steps_waiting", "Current number of steps that wait for a decision.", gauges.steps_waiting);
        let help = "Decisions of waiting steps, by decision (expired: nobody decided in time).";
        page.labelled("stepcast_decisions_total", help, "decision", self.work.decisions());
        let help = "Batches committed to the store.";
        page.counter("stepcast_log_commits_total", help, self.work.commits());
        page.counter("stepcast_log_messages_total", "Messages committed to the store.", self.work.messages());
        let help = "1 if the store cannot be written to, otherwise 0.";
        page.gauge("stepcast_store_down", help, usize::from(self.store_is_down));
        let waiting = [("log", self.log_waiting as u64), ("loop", self.inbox_waiting as u64)];
        page.labelled_as(
            "gauge",
            "stepcast_queue_depth",
            "Current number of batches in the queue of a thread, by queue.",
            "queue",
            waiting,
        );
    }
}

/// A page of metrics under construction.
struct Page(String);

impl Page {
    fn head(&mut self, kind: &str, name: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl fmt::Display) {
        let label = |(label, value): &(&str, &str)| format!("{label}=\"{}\"", escaped(value));
        let labels: Vec<_> = labels.iter().map(label).collect();
        let _ = writeln!(self.0, "{name}{{{}}} {value}", labels.join(","));
    }

    fn gauge(&mut self, name: &str, help: &str, value: usize) {
        self.head("gauge", name, help);
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn seconds(&mut self, name: &str, help: &str, value: Duration) {
        self.head("gauge", name, help);
        let _ = writeln!(self.0, "{name} {}", value.as_secs_f64());
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head("counter", name, help);
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn labelled(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (impl AsRef<str>, u64)>,
    ) {
        self.labelled_as("counter", name, help, label, values);
    }

    fn labelled_as(
        &mut self,
        kind: &str,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (impl AsRef<str>, u64)>,
    ) {
        self.head(kind, name, help);
        for (word, value) in values {
            let _ = writeln!(self.0, "{name}{{{label}=\"{}\"}} {value}", word.as_ref());
        }
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head("histogram", name, help);
        for (bound, below) in histogram.below() {
            let _ = writeln!(self.0, "{name}_bucket{{le=\"{bound}\"}} {below}");
        }
        let (sum, count) = (histogram.sum(), histogram.count());
        let _ = writeln!(self.0, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}");
    }
}

/// A label value, escaped as the format requires.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    #[test]
    fn a_node_among_others_shows_how_it_is() {
        let vitals = Vitals::new(Duration::from_secs(1));
        let now = Now { mono: Duration::from_millis(2500), wall: Timestamp::default() };
        let counts = StoreCounts::default();
        counts.count_append(Duration::from_millis(2), &Ok(()));
        let page = Metrics::render_node(&vitals, &counts, now);
        for line in [
            "stepcast_nodes 1",
            "stepcast_lease_age_seconds 1.5",
            "stepcast_fences_total 0",
            "stepcast_store_append_seconds_bucket{le=\"0.0025\"} 1",
            "stepcast_store_conflicts_total 0",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
    }

    #[test]
    fn the_page_is_what_prometheus_reads() {
        let mut metrics = Metrics::default();
        metrics.count_response(204);
        metrics.fan_out.record(Duration::from_micros(200));
        metrics.fan_out.record(Duration::from_secs(5));
        let gauges = Gauges {
            connections: 3,
            connections_max: 5,
            refused: 0,
            buffer_bytes: 0,
            tickets: 0,
            streams: 2,
            retold: [("agui", 1), ("ai", 0)],
            streams_of_several: 1,
            projects_watched: 1,
            backlog_bytes: 10,
            stream_stats: Stats::default(),
        };
        let page = metrics.render(&gauges);
        for line in [
            "stepcast_connections 3",
            "stepcast_refused_total{limit=\"connections_per_address\"} 0",
            "stepcast_http_responses_total{class=\"2xx\"} 1",
            "stepcast_streams_closed_total{reason=\"stalled\"} 0",
            "stepcast_streams_retold{format=\"agui\"} 1",
            "stepcast_fan_out_seconds_bucket{le=\"0.00025\"} 1",
            "stepcast_fan_out_seconds_bucket{le=\"+Inf\"} 2",
            "stepcast_fan_out_seconds_count 2",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.rsplit_once(' ').is_some_and(|(_, value)| value.parse::<f64>().is_ok()), "{line}");
        }
    }
}
