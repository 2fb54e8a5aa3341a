//! Every worker is busy and every queue full, and still more plans and messages come. They are refused with a time to
//! come back at; streams go on, `readyz` and `healthz` tell the truth, and what was taken on is carried out.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::shown::{LATENCY_COLUMNS, latency_cells, mib, report};
use super::steps::{publish_at, settings, wait_for_goal, wait_for_streams};
use crate::failure::{Failure, Outcome, failure};
use crate::fleet::Fleet;
use crate::loopback::{Answer, Target};
use crate::options::{Options, Parameter, Scenario};
use crate::report::{Report, Table};
use crate::server::{Data, Server, Setup};
use crate::watch::Watch;

/// Where messages are published and followed.
const PROJECT: &str = "followed";

/// Where plans are run. Whoever follows messages counts them, so runs have a project of their own.
const BUSY: &str = "busy";

/// Threads that submit plans, one at a time each.
const SUBMITTERS: usize = 8;

/// Between two plans of one of them.
const PAUSE: Duration = Duration::from_millis(2);

/// Workers, runs at a time, runs that wait.
const BOUNDS: [&str; 6] = ["--executor-workers", "2", "--limits-active-runs", "4", "--limits-queued-runs", "8"];

/// How many messages over the server's own bound are published.
const TOO_MANY: f64 = 2.0;

/// A tool that holds a worker.
const TOOLS: &str = "[tools.work]\nkind = \"command\"\nargv = [\"sleep\", \"0.5\"]\n";

pub const SCENARIO: Scenario = Scenario {
    name: "overload",
    about: "more plans and messages than the workers and queues of the server can take",
    parameters: &[
        Parameter { name: "subscribers", default: "100", help: "number of subscribers that must not be affected" },
        Parameter {
            name: "publish-rate",
            default: "200",
            help: "messages per second that one token may publish (limits.publish_rate)",
        },
        Parameter { name: "payload", default: "250", help: "size of each payload in bytes" },
        Parameter { name: "seconds", default: "10", help: "duration in seconds" },
        Parameter {
            name: "p99-ms",
            default: "100",
            help: "maximum 99th percentile of the subscribers' latency, in milliseconds",
        },
        Parameter { name: "left-kib", default: "4096", help: "maximum memory growth once the work is done, in KiB" },
    ],
    data: &[Data::Temporary],
    limit_s: 120,
    run,
};

fn run(options: &Options, data: Data, watch: &mut Watch) -> Outcome<Report> {
    let mut report = report(options, data);
    let tools = ToolFile::new()?;
    let rate: f64 = options.number("publish-rate")?;
    let publish_rate = rate.to_string();
    let own = ["--config", tools.path(), "--limits-publish-rate", &publish_rate];
    let flags = [&own[..], &BOUNDS].concat();
    let server = Server::start_with(&options.server, &Setup { checks_tokens: true, ..Setup::new(data, &flags) })?;
    let subscribers = options.number("subscribers")?;
    let fleet = Fleet::open_new(&settings(&server, PROJECT, subscribers))?;
    wait_for_streams(watch, &fleet, subscribers)?;
    let memory = || server.memory().map(|memory| memory.anonymous_kib as f64);
    let before_kib = memory();
    let publisher = publish_at(&server, PROJECT, rate * TOO_MANY, options.number("payload")?)?;
    let seen = submit_for(&server, Duration::from_secs_f64(options.number("seconds")?), watch)?;
    let during_kib = memory();
    let published = publisher.stop()?;
    fleet.set_goal(published.messages)?;
    wait_for_goal(watch, &fleet, subscribers)?;
    let tally = fleet.tally()?;
    report.fail_all(tally.complaints("subscribers"));
    judge_publishing(&mut report, published.refused, published.first_refusal.as_deref());
    seen.judge(&mut report);
    let accepted = seen.submits.get("202").copied().unwrap_or(0);
    let done = || server.target().metric("stepcast_runs_total{status=\"completed\"}").unwrap_or(0.0);
    let so_far = || format!("{} of {accepted}", done());
    watch.until("all accepted runs have ended", || done() >= accepted as f64, so_far)?;
    let mut table =
        Table::new("latency of subscribers under overload", &[&["deliveries"], &LATENCY_COLUMNS[..]].concat());
    table.row([&[json!(tally.latencies.len())][..], &latency_cells(&tally.latencies)].concat());
    report.table(table);
    if tally.latencies.ms(0.99).is_none_or(|ms| ms > options.number("p99-ms").unwrap_or(0.0)) {
        report.fail("the subscribers were affected");
    }
    report.figure("messages published", published.messages, "");
    report.figure("messages refused", published.refused, "");
    seen.show(&mut report);
    for (when, kib) in [("before", before_kib), ("during", during_kib)] {
        report.figure(&format!("anonymous memory {when}"), mib(kib), "MiB");
    }
    judge_memory(&mut report, (before_kib, &memory), options.number("left-kib")?, watch)?;
    server.stop()?;
    Ok(report)
}

/// What those who submitted and looked were answered.
#[derive(Default)]
struct Answers {
    /// Plans, by status and code.
    submits: BTreeMap<String, u64>,
    /// Refusals without a time to come back at.
    without_time: u64,
    /// `healthz` and `readyz`, by path and status.
    probes: BTreeMap<String, u64>,
    took_ms_max: f64,
}

impl Answers {
    fn note_submit(&mut self, answer: &Answer) {
        let code =
            serde_json::from_str::<Value>(&answer.body).ok().and_then(|body| body["code"].as_str().map(str::to_owned));
        let word = code.map_or_else(|| answer.status.to_string(), |code| format!("{} {code}", answer.status));
        *self.submits.entry(word).or_default() += 1;
        self.without_time += u64::from(answer.status >= 400 && answer.retry_after.is_none());
    }

    fn add(&mut self, other: Self) {
        other.submits.into_iter().for_each(|(word, n)| *self.submits.entry(word).or_default() += n);
        other.probes.into_iter().for_each(|(word, n)| *self.probes.entry(word).or_default() += n);
        self.without_time += other.without_time;
        self.took_ms_max = self.took_ms_max.max(other.took_ms_max);
    }

    fn judge(&self, report: &mut Report) {
        if !self.submits.keys().any(|word| word.starts_with("429")) {
            report.fail(format!("no plan was refused with 429: {:?}", self.submits));
        }
        if self.submits.keys().any(|word| !word.starts_with("202") && !word.starts_with("429")) {
            report.fail(format!("unexpected answers to plans: {:?}", self.submits));
        }
        if self.without_time > 0 {
            report.fail(format!("{} refusals had no Retry-After header", self.without_time));
        }
        if self.probes.is_empty() || self.probes.keys().any(|word| !word.ends_with("200")) {
            report.fail(format!("/healthz or /readyz did not answer 200: {:?}", self.probes));
        }
    }

    fn show(&self, report: &mut Report) {
        for (word, n) in &self.submits {
            report.figure(&format!("plans answered {word}"), *n, "");
        }
        for (word, n) in &self.probes {
            report.figure(word, *n, "");
        }
        report.figure("slowest answer to a plan or probe", self.took_ms_max, "ms");
    }
}

/// Submits plans from several threads, and looks how the server says it is.
fn submit_for(server: &Server, time: Duration, watch: &mut Watch) -> Outcome<Answers> {
    let is_over = AtomicBool::new(false);
    let (target, token) = (server.target(), server.token().unwrap_or_default());
    let (target, token, is_over) = (target, token.as_str(), &is_over);
    std::thread::scope(|scope| {
        let submitters: Vec<_> =
            (0..SUBMITTERS).map(|_| scope.spawn(move || until(is_over, |seen| submit(target, token, seen)))).collect();
        let prober = scope.spawn(move || until(is_over, |seen| probe(target, seen)));
        let waited = watch.pass("under overload", time, String::new);
        is_over.store(true, Ordering::Relaxed);
        let mut sum = Answers::default();
        for thread in submitters.into_iter().chain([prober]) {
            let seen = thread.join().map_err(|_| Failure("a submitter thread panicked".to_owned()))?;
            sum.add(seen?);
        }
        waited.map(|()| sum)
    })
}

fn until(is_over: &AtomicBool, mut act: impl FnMut(&mut Answers) -> Outcome<()>) -> Outcome<Answers> {
    let mut seen = Answers::default();
    while !is_over.load(Ordering::Relaxed) {
        let began = Instant::now();
        act(&mut seen)?;
        seen.took_ms_max = seen.took_ms_max.max(began.elapsed().as_secs_f64() * 1e3);
        std::thread::sleep(PAUSE);
    }
    Ok(seen)
}

fn submit(target: Target, token: &str, seen: &mut Answers) -> Outcome<()> {
    const PLAN: &str = r#"{"name":"busy","steps":[{"id":"a","tool":"work"},{"id":"b","tool":"work"}]}"#;
    seen.note_submit(&target.call("POST", &format!("/api/projects/{BUSY}/workflows"), Some(token), PLAN)?);
    Ok(())
}

fn probe(target: Target, seen: &mut Answers) -> Outcome<()> {
    for path in ["/healthz", "/readyz"] {
        let answer = target.call("GET", path, None, "")?;
        *seen.probes.entry(format!("{path} answered {}", answer.status)).or_default() += 1;
    }
    Ok(())
}

fn judge_publishing(report: &mut Report, refused: u64, first: Option<&str>) {
    match first {
        Some(text) if text.starts_with("429") && text.contains("publish_rate") => {}
        _ => report.fail(format!("{refused} messages above the rate limit were refused, the first with {first:?}")),
    }
}

fn judge_memory(
    report: &mut Report,
    (before_kib, now): (Option<f64>, &dyn Fn() -> Option<f64>),
    left_kib_max: f64,
    watch: &mut Watch,
) -> Outcome<()> {
    const GIVES_BACK_WITHIN: Duration = Duration::from_secs(10);
    let left = || now().zip(before_kib).map_or(0.0, |(now, before)| now - before);
    let began = Instant::now();
    let is_back = || left() <= left_kib_max || began.elapsed() > GIVES_BACK_WITHIN;
    watch.until("memory is back", is_back, || format!("{} KiB", left()))?;
    report.figure("anonymous memory after, against before", left(), "KiB");
    if left() > left_kib_max {
        report.fail(format!("{:.0} KiB more memory than before", left()));
    }
    Ok(())
}

/// A configuration that goes with this program.
struct ToolFile(PathBuf);

impl ToolFile {
    fn new() -> Outcome<Self> {
        let path = std::env::temp_dir().join(format!("stepcast-overload-{}.toml", std::process::id()));
        std::fs::write(&path, TOOLS)?;
        match path.to_str() {
            Some(_) => Ok(Self(path)),
            None => failure("the path of the temporary directory is not valid UTF-8"),
        }
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

impl Drop for ToolFile {
    fn drop(&mut self) {
        // What is left of it is a few bytes among temporary files.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(submits: &[(u16, Option<u32>, &str)], probe: &str) -> Answers {
        let mut answers = Answers::default();
        for (status, retry_after, body) in submits {
            answers.note_submit(&Answer { status: *status, retry_after: *retry_after, body: (*body).to_owned() });
        }
        answers.probes.insert(probe.to_owned(), 1);
        answers
    }

    #[test]
    fn only_refusals_with_a_time_are_good_ones() {
        let full = (429, Some(5), r#"{"code":"too_many_runs"}"#);
        for (answers, is_good) in [
            (answers(&[(202, None, "{}"), full], "/readyz answered 200"), true),
            (answers(&[(202, None, "{}")], "/readyz answered 200"), false),
            (answers(&[full, (429, None, "{}")], "/readyz answered 200"), false),
            (answers(&[full, (503, Some(1), "{}")], "/readyz answered 200"), false),
            (answers(&[full], "/readyz answered 503"), false),
        ] {
            let mut report = Report::new("overload");
            answers.judge(&mut report);
            assert_eq!(report.is_good(), is_good, "{:?}", answers.submits);
        }
        assert!(answers(&[full], "").submits.contains_key("429 too_many_runs"));
    }

    #[test]
    fn publishers_are_refused_for_their_rate_and_for_nothing_else() {
        for (first, is_good) in
            [(Some(r#"429 {"code":"publish_rate"}"#), true), (Some("503 overloaded"), false), (None, false)]
        {
            let mut report = Report::new("overload");
            judge_publishing(&mut report, 1, first);
            assert_eq!(report.is_good(), is_good, "{first:?}");
        }
    }
}
