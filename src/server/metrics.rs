//! What is counted, and how Prometheus reads it. All metric names stand here.

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

/// Counted by the loop.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Connections taken in.
    pub connections_accepted: u64,
    /// Connections closed unheard, because even the reserve was full.
    pub connections_dropped: u64,
    /// What was refused, by the limit.
    pub refused: Refused,
    /// Requests decoded.
    pub requests: u64,
    /// Responses by the first digit of their status.
    responses: [u64; 6],
    /// Messages that publishers sent.
    pub messages_in: u64,
    /// Messages that came from the log for someone who watches.
    pub messages_logged: u64,
    /// Streams put off until later.
    pub streams_refused: u64,
    /// Streams begun, by how.
    resumes: [u64; 5],
    /// From broadcast to the last subscriber's write.
    pub fan_out: Histogram,
    /// Batches that wait for the log, taken at the end of a turn.
    pub log_waiting: usize,
    /// Batches that wait for the loop, taken at the end of a turn.
    pub inbox_waiting: usize,
    /// What was kept; runs and steps.
    pub work: WorkCounts,
    /// The store takes nothing.
    pub store_is_down: bool,
    /// How often an identity provider's keys were fetched: well, and in vain.
    pub key_fetches: [u64; 2],
}

const RESUME_WORDS: [&str; 5] = ["fresh", "resumed", "reset_unknown_id", "reset_expired", "reset_ahead"];

/// What is the case just now.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gauges {
    /// Connections that are no streams.
    pub connections: usize,
    /// Connections and streams that may be.
    pub connections_max: usize,
    /// Those of them that are beyond a limit, and wait to be told so.
    pub refused: usize,
    /// Bytes of requests and answers that they hold, but for what each of them may keep.
    pub buffer_bytes: usize,
    /// Used tickets that are remembered, of all subjects.
    pub tickets: usize,
    /// Streams.
    pub streams: usize,
    /// Those of them that read a run in a format, by its word.
    pub retold: [(&'static str, u64); 2],
    /// Those of them that are of several projects.
    pub streams_of_several: usize,
    /// Projects with a backlog.
    pub projects_watched: usize,
    /// Bytes that backlogs hold.
    pub backlog_bytes: usize,
    /// What streams have done so far.
    pub stream_stats: Stats,
}

impl Metrics {
    /// A response leaves.
    pub fn count_response(&mut self, status: u16) {
        self.responses[usize::from(status / 100).min(5)] += 1;
    }

    /// A connection is closed unheard.
    pub fn count_dropped(&mut self, limit: Limit) {
        self.connections_dropped += 1;
        self.refused.count(limit);
    }

    /// A problem that arises at a limit is counted as that.
    pub fn count_problem(&mut self, problem: &Problem) {
        if let Some(limit) = Limit::of_code(problem.code) {
            self.refused.count(limit);
        }
    }

    /// A stream begins.
    pub fn count_resume(&mut self, resume: Resume) {
        self.resumes[match resume {
            Resume::Fresh => 0,
            Resume::Resumed => 1,
            Resume::Reset(ResetReason::UnknownId) => 2,
            Resume::Reset(ResetReason::Expired) => 3,
            Resume::Reset(ResetReason::Ahead) => 4,
        }] += 1;
    }

    /// Everything in the text format that Prometheus scrapes (exposition format 0.0.4).
    pub fn render(&self, now: &Gauges) -> String {
        let mut page = Page(String::with_capacity(8 * 1024));
        self.render_http(&mut page, now);
        self.render_streams(&mut page, now);
        self.render_work(&mut page);
        page.0
    }

    /// The same of what attempts have used of language models, and of what could not be read of it, by tool.
    pub fn render_usage(&self, faults: &BTreeMap<Arc<str>, Arc<UsageFaults>>) -> String {
        let mut page = Page(String::new());
        page.head("counter", "stepcast_usage_tokens_total", "Tokens that attempts have used; cached are among input.");
        for (tool, used) in self.work.usage() {
            let kinds = [("input", used.input_tokens), ("output", used.output_tokens)];
            for (kind, count) in kinds.into_iter().chain(used.cached_tokens.map(|cached| ("cached", cached))) {
                page.line("stepcast_usage_tokens_total", &[("tool", tool), ("kind", kind)], count);
            }
        }
        page.head("counter", "stepcast_usage_cost_total", "What they have cost, where that is known.");
        for (tool, used) in self.work.usage() {
            used.cost.into_iter().for_each(|cost| page.line("stepcast_usage_cost_total", &[("tool", tool)], cost));
        }
        let help = "Attempts whose usage could not be read, by why.";
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
        let help = "TLS handshakes that were completed, by version.";
        page.labelled("stepcast_tls_handshakes_total", help, "version", counts.handshakes());
        let help = "TLS handshakes that were not completed, by why.";
        page.labelled("stepcast_tls_handshake_failures_total", help, "reason", counts.failures());
        let help = "How often the certificate was read again (SIGHUP), by outcome.";
        page.labelled("stepcast_tls_reloads_total", help, "outcome", counts.reloads());
        page.0
    }

    /// The same of webhooks: of each its name, what is pending and on its way, and what was delivered, failed, given up.
    pub fn render_webhooks(&self, webhooks: &[(String, [u64; 5])]) -> String {
        const OUTCOMES: [&str; 2] = ["delivered", "failed"];
        let mut page = Page(String::new());
        let gauge = |place: usize| webhooks.iter().map(move |(name, counts)| (name, counts[place]));
        let help = "Events that wait to be sent, those on their way included.";
        page.labelled_as("gauge", "stepcast_webhook_pending", help, "webhook", gauge(0));
        page.labelled_as("gauge", "stepcast_webhook_sending", "Attempts on their way.", "webhook", gauge(1));
        page.head("counter", "stepcast_webhook_attempts_total", "Attempts, by what came of them.");
        for (name, counts) in webhooks {
            for (outcome, count) in OUTCOMES.iter().zip(&counts[2..]) {
                let labels = format!("webhook=\"{name}\",outcome=\"{outcome}\"");
                let _ = writeln!(page.0, "stepcast_webhook_attempts_total{{{labels}}} {count}");
            }
        }
        let given_up = webhooks.iter().map(|(name, counts)| (name, counts[4]));
        page.labelled("stepcast_webhook_given_up_total", "Events that are not tried again.", "webhook", given_up);
        let help = "Events given up because too many waited (limits.webhook_events).";
        page.counter("stepcast_webhook_dropped_total", help, self.work.held().webhooks_dropped);
        page.0
    }

    /// The same of schedules: what came of their firings.
    pub fn render_firings(counts: [u64; FIRING_WORDS.len()]) -> String {
        let mut page = Page(String::new());
        let (name, help) = ("stepcast_schedule_firings_total", "Firings of schedules, by what came of them.");
        page.labelled(name, help, "outcome", FIRING_WORDS.into_iter().zip(counts));
        page.0
    }

    /// The same of a node among others that share its store.
    pub fn render_node(vitals: &Vitals, store: &StoreCounts, now: Now) -> String {
        let (mut page, shown) = (Page(String::new()), vitals.shown(now.mono));
        page.gauge("stepcast_nodes", "Nodes that are alive, this one too.", usize::try_from(shown.nodes).unwrap_or(0));
        let help = "Since the beat began by which this node's lease goes.";
        page.seconds("stepcast_lease_age_seconds", help, shown.lease_age);
        let help = "Since this node knew of all that others had written.";
        page.seconds("stepcast_tail_lag_seconds", help, shown.tail_lag);
        let help = "Since something came back that this node had written; not ready from 15 on.";
        page.seconds("stepcast_round_trip_age_seconds", help, shown.round_trip_age);
        page.counter("stepcast_fences_total", "How often this node was thought gone, and began anew.", shown.fences);
        page.counter("stepcast_takeovers_total", "Nodes whose runs this one has taken over.", shown.taken_over);
        page.histogram("stepcast_store_append_seconds", "Batches kept, by how long that took.", &store.appends());
        let help = "Batches that were made anew because another node had written before.";
        page.counter("stepcast_store_conflicts_total", help, store.conflicts());
        page.0
    }

    fn render_http(&self, page: &mut Page, now: &Gauges) {
        page.gauge("stepcast_connections", "Open connections that are no streams.", now.connections);
        page.gauge("stepcast_connections_max", "As many of both as may be.", now.connections_max);
        page.gauge("stepcast_connections_refused", "Those of them that are beyond a limit.", now.refused);
        page.gauge("stepcast_buffer_bytes", "What they hold of requests and answers.", now.buffer_bytes);
        page.gauge("stepcast_tickets", "Used tickets that are remembered.", now.tickets);
        page.counter("stepcast_connections_accepted_total", "Connections taken in.", self.connections_accepted);
        let help = "Connections closed unheard, at the limit and its reserve.";
        page.counter("stepcast_connections_dropped_total", help, self.connections_dropped);
        page.labelled("stepcast_refused_total", "Refused, by the limit.", "limit", self.refused.each());
        page.counter("stepcast_http_requests_total", "Requests decoded.", self.requests);
        let fetches = ["ok", "failed"].into_iter().zip(self.key_fetches);
        page.labelled("stepcast_key_fetches_total", "Fetches of auth.jwks, by outcome.", "outcome", fetches);
        let classes = (1..6).map(|class| (format!("{class}xx"), self.responses[class]));
        page.labelled("stepcast_http_responses_total", "Responses by class of status.", "class", classes);
    }

    fn render_streams(&self, page: &mut Page, now: &Gauges) {
        let stats = &now.stream_stats;
        page.gauge("stepcast_streams", "Open streams.", now.streams);
        let help = "Open streams of a run in a format.";
        page.labelled_as("gauge", "stepcast_streams_retold", help, "format", now.retold);
        page.gauge("stepcast_streams_of_several", "Open streams of several projects.", now.streams_of_several);
        page.counter("stepcast_streams_opened_total", "Streams begun.", stats.opened);
        page.counter("stepcast_streams_put_off_total", "Streams told to come back later.", self.streams_refused);
        let closed = CloseReason::ALL.iter().zip(stats.closed).map(|(reason, n)| (reason.as_str(), n));
        page.labelled("stepcast_streams_closed_total", "Streams ended, by reason.", "reason", closed);
        let resumes = RESUME_WORDS.into_iter().zip(self.resumes);
        page.labelled("stepcast_resumes_total", "Streams begun, by where they go on.", "outcome", resumes);
        page.counter("stepcast_messages_published_total", "Messages that publishers sent.", self.messages_in);
        page.counter("stepcast_messages_broadcast_total", "Messages broadcast to someone.", self.messages_logged);
        page.counter("stepcast_messages_delivered_total", "Messages handed to sockets.", stats.messages);
        page.counter("stepcast_stream_bytes_total", "Bytes handed to streams' sockets.", stats.bytes);
        page.counter("stepcast_stream_writes_total", "Writes made for broadcasts.", stats.writes);
        page.counter("stepcast_history_pages_total", "Pages of history read for streams.", stats.pages);
        page.gauge("stepcast_backlogs", "Projects whose newest messages are held encoded.", now.projects_watched);
        page.gauge("stepcast_backlog_bytes", "Bytes that these take.", now.backlog_bytes);
        page.histogram("stepcast_fan_out_seconds", "From broadcast to the last write.", &self.fan_out);
    }

    fn render_work(&self, page: &mut Page) {
        let (runs, held) = (self.work.runs(), self.work.held());
        page.labelled("stepcast_runs_total", "Runs, by what became of them.", "status", runs);
        page.gauge("stepcast_runs_open", "Runs that run or wait.", held.open_runs);
        page.gauge("stepcast_projects", "Projects that hold something, or are watched.", held.projects);
        let help = "Bytes that the keys of the last 24 hours take, out of limits.idempotency_bytes.";
        page.gauge("stepcast_idempotency_bytes", help, usize::try_from(held.key_bytes).unwrap_or(usize::MAX));
        let steps = self.work.steps();
        page.labelled("stepcast_steps_total", "Moves of steps, by where to.", "status", steps);
        page.gauge("stepcast_steps_waiting", "Steps that wait for a decision.", held.steps_waiting);
        let help = "Decisions of steps, by what was decided; expired where nobody did in time.";
        page.labelled("stepcast_decisions_total", help, "decision", self.work.decisions());
        let help = "Batches that the log has committed.";
        page.counter("stepcast_log_commits_total", help, self.work.commits());
        page.counter("stepcast_log_messages_total", "Messages that the log has kept.", self.work.messages());
        let help = "1 while the store takes nothing.";
        page.gauge("stepcast_store_down", help, usize::from(self.store_is_down));
        let waiting = [("log", self.log_waiting as u64), ("loop", self.inbox_waiting as u64)];
        page.labelled_as("gauge", "stepcast_queue_depth", "Batches that wait for a thread.", "queue", waiting);
    }
}

/// A page of metrics in the making.
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

/// A label's value as the format has it.
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
