//! A store that fails while two steps run: one whose timeout runs out meanwhile, and one whose run is cancelled. How
//! late are both ended? Each holds a pipe open, so that its end is seen by the system, whatever the server says.
//!
//! The store fails because the server's files may not grow any more, nor be written at all (`RLIMIT_FSIZE`, which one
//! process may set for another of the same user): every write gives an error, as with a full or broken disk.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::{Value, json};

use super::judge::{Limits, late, median};
use super::prober::Prober;
use crate::failure::{Failure, Outcome, failure};
use crate::loopback::Target;
use crate::options::Options;
use crate::report::{Report, Table};
use crate::scenario::steps::{NO_BOUNDS, publish_at};
use crate::server::{Data, Server, TemporaryDirectory};
use crate::watch::Watch;

/// The timeout of a step.
const TIMEOUT: Duration = Duration::from_secs(1);

/// From when the store fails until the cancel.
const CANCEL_AFTER: Duration = Duration::from_millis(400);

/// After so long beyond its time, something counts as not carried out.
const LATE_MAX: Duration = Duration::from_secs(3);

/// How long a step may take to begin.
const BEGIN_MAX: Duration = Duration::from_secs(10);

/// Messages a second meanwhile: what makes the server notice.
const PUBLISH_PER_SECOND: f64 = 100.0;

/// A step's end is seen so much before its time at most: it began a little before it had its pipe.
const EARLY_MAX: Duration = Duration::from_millis(200);

/// Where the steps run.
const PROJECT: &str = "held";

/// Steps that print meanwhile: what they say waits for the store, and must not make others wait.
const CHATTY: usize = 4;

/// A step that does nothing but hold a pipe, and one that prints besides.
const TOOLS: &str = r#"
[tools.hold]
kind = "command"
argv = ["sh", "-c", "exec sleep 3600 > \"$1\"", "hold", "{{ inputs.pipe }}"]

[tools.chat]
kind = "command"
argv = ["sh", "-c", "exec 9> \"$1\"; while :; do echo a line; sleep 0.02; done", "chat", "{{ inputs.pipe }}"]
"#;

/// What one trial showed.
#[derive(Debug, Default)]
struct Trial {
    /// How late the step with a timeout was ended; none for not at all.
    timeout_ms: Option<f64>,
    /// How late the cancelled one was.
    cancel_ms: Option<f64>,
    healthz_p99_ms: f64,
}

/// As often as was asked for, without and with an outage in turn.
pub(super) fn run(options: &Options, watch: &mut Watch, limits: &Limits, report: &mut Report) -> Outcome<()> {
    let directory = TemporaryDirectory::new()?;
    let config = directory.path().join("stepcast.toml");
    std::fs::write(&config, TOOLS)?;
    let config = config.to_string_lossy().into_owned();
    let server = Server::start(
        &options.server,
        Data::Temporary,
        &[&NO_BOUNDS[..], &["--config", &config, "--executor-workers", "16"]].concat(),
    )?;
    let (mut before, mut with) = (Vec::new(), Vec::new());
    let runs: usize = options.number("runs")?;
    for number in 0..runs {
        before.push(trial(&server, directory.path(), (2 * number, false), watch, report)?);
        with.push(trial(&server, directory.path(), (2 * number + 1, true), watch, report)?);
    }
    server.stop()?;
    let mut table = Table::new("while the store fails", &["what", "before ms", "with ms", "worst with ms"]);
    for (what, of) in [
        ("a step's timeout of 1 s: late by", (|trial| trial.timeout_ms) as fn(&Trial) -> Option<f64>),
        ("a cancel: late by", |trial| trial.cancel_ms),
    ] {
        let times = |trials: &[Trial]| trials.iter().map(of).collect::<Vec<_>>();
        let worst = times(&with).into_iter().map(|ms| ms.unwrap_or(f64::INFINITY)).fold(0.0, f64::max);
        table.row(vec![json!(what), shown(late(&times(&before))), shown(late(&times(&with))), shown(Some(worst))]);
        report.fail_all(limits.judge_late(what.split(':').next().unwrap_or(what), &times(&with)).into_iter().collect());
    }
    let healthz = |trials: &[Trial]| median(trials.iter().map(|trial| trial.healthz_p99_ms));
    let worst = with.iter().map(|trial| trial.healthz_p99_ms).fold(0.0, f64::max);
    table.row(vec![json!("healthz p99"), json!(healthz(&before)), json!(healthz(&with)), json!(worst)]);
    if healthz(&with) > limits.healthz_ms_max {
        let (with, most) = (healthz(&with), limits.healthz_ms_max);
        report.fail(format!("a store that fails: p99 of healthz is {with:.2} ms (maximum {most})"));
    }
    report.table(table);
    report.note(
        "late: time until the process of the step is gone, from one second after the step began, or from when the cancel was sent",
    );
    Ok(())
}

/// So late, or not at all.
fn shown(ms: Option<f64>) -> Value {
    match ms.filter(|ms| ms.is_finite()) {
        Some(ms) => json!(ms),
        None => json!(format!("never (> {})", LATE_MAX.as_millis())),
    }
}

fn trial(
    server: &Server,
    directory: &Path,
    (number, is_failing): (usize, bool),
    watch: &mut Watch,
    report: &mut Report,
) -> Outcome<Trial> {
    let target = server.target();
    let hold =
        |run: &str, tool, timeout| BlockedRun::begin(target, directory, format!("{run}{number}"), (tool, timeout));
    let chatty = (0..CHATTY).map(|n| hold(&format!("chat{n}-"), "chat", None)).collect::<Outcome<Vec<_>>>()?;
    chatty.iter().try_for_each(|chatty| chatty.began().map(drop))?;
    let cancelled = hold("cancel", "hold", None)?;
    cancelled.began()?;
    let late = hold("timeout", "hold", Some(TIMEOUT))?;
    let late_began = late.began()?;
    let publisher = publish_at(server, "published", PUBLISH_PER_SECOND, 250)?;
    let outage = if is_failing { Some(Outage::begin(server)?) } else { None };
    let prober = Prober::start(target)?;
    watch.pass("until the cancel", CANCEL_AFTER, String::new)?;
    let (cancel_sent, path) = (Instant::now(), cancelled.path("/cancel"));
    // Its answer may have to wait for the store; what counts is whether it is carried out.
    let cancel = std::thread::spawn(move || target.call("POST", &path, None, ""));
    let trial = Trial {
        timeout_ms: late.late_by(late_began + TIMEOUT)?,
        cancel_ms: cancelled.late_by(cancel_sent)?,
        healthz_p99_ms: prober.stop()?.ms(0.99).unwrap_or_default(),
    };
    let is_ready = || target.call("GET", "/readyz", None, "").is_ok_and(|answer| answer.status == 200);
    let was_ready = is_ready();
    drop(outage);
    let published = publisher.stop()?;
    if is_failing && was_ready && published.refused == 0 {
        report.fail("a store that fails: the store did not fail, or the server did not notice");
    }
    watch.until("the store is back", is_ready, String::new)?;
    // What was refused then is asked for again, or the run would go on beside the next trial.
    if !cancel.join().is_ok_and(|answer| answer.is_ok_and(|answer| answer.status == 202)) {
        target.call("POST", &cancelled.path("/cancel"), None, "")?;
    }
    watch.until("the step that timed out is known as such", || late.status() == "failed", || late.status())?;
    watch.until("the cancelled run is known as such", || cancelled.status() == "cancelled", || cancelled.status())?;
    for chatty in chatty {
        target.call("POST", &chatty.path("/cancel"), None, "")?;
        watch.until("what printed is cancelled", || chatty.status() == "cancelled", || chatty.status())?;
    }
    Ok(trial)
}

/// A run of one step that holds a pipe for as long as it lives.
struct BlockedRun {
    target: Target,
    run: String,
    /// When the step began, and when it ended.
    times: Receiver<Instant>,
}

impl BlockedRun {
    fn begin(
        target: Target,
        directory: &Path,
        run: String,
        (tool, timeout): (&str, Option<Duration>),
    ) -> Outcome<Self> {
        let pipe = directory.join(&run);
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        let times = follow(pipe.clone())?;
        let mut step = json!({"id": "held", "tool": tool, "inputs": {"pipe": pipe.to_string_lossy()}});
        if let Some(timeout) = timeout {
            step["timeout"] = json!(timeout.as_millis() as u64);
        }
        let body = json!({"plan": {"name": "held", "steps": [step]}, "runId": run}).to_string();
        let answer = target.call("POST", &format!("/api/projects/{PROJECT}/workflows"), None, &body)?;
        match answer.status {
            202 => Ok(Self { target, run, times }),
            status => failure(format!("a plan was answered with {status}: {}", answer.body)),
        }
    }

    fn path(&self, rest: &str) -> String {
        format!("/api/projects/{PROJECT}/workflows/{}{rest}", self.run)
    }

    /// Waits until the step has begun; when that was.
    fn began(&self) -> Outcome<Instant> {
        self.times.recv_timeout(BEGIN_MAX).map_err(|_| Failure(format!("the step of {} did not begin", self.run)))
    }

    /// Waits until the step has ended; by how many milliseconds that was after `due`. None where it goes on.
    fn late_by(&self, due: Instant) -> Outcome<Option<f64>> {
        let left = (due + LATE_MAX).saturating_duration_since(Instant::now());
        match self.times.recv_timeout(left) {
            Ok(ended) if ended + EARLY_MAX < due => failure(format!("{} ended before its time", self.run)),
            Ok(ended) => Ok(Some(ended.saturating_duration_since(due).as_secs_f64() * 1e3)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => failure(format!("cannot read the pipe of {}", self.run)),
        }
    }

    /// The run's status, as far as it is known.
    fn status(&self) -> String {
        let state = self.target.get(&self.path("?outputs=cut")).unwrap_or_default();
        let state: Value = serde_json::from_str(&state).unwrap_or_default();
        state["status"].as_str().unwrap_or_default().to_owned()
    }
}

/// When someone opens a pipe to write, and when nobody has it open any more. The thread waits for both without a bound,
/// and ends with this program.
fn follow(pipe: PathBuf) -> Outcome<Receiver<Instant>> {
    let (sender, times) = channel();
    std::thread::Builder::new().name("pipe".to_owned()).spawn(move || {
        let Ok(mut file) = std::fs::File::open(&pipe) else { return };
        // Nobody waits any more where a trial was given up.
        let _ = sender.send(Instant::now());
        if std::io::copy(&mut file, &mut std::io::sink()).is_ok() {
            let _ = sender.send(Instant::now());
        }
    })?;
    Ok(times)
}

/// A store that takes nothing, until this is dropped.
struct Outage(Pid, Rlimit);

impl Outage {
    fn begin(server: &Server) -> Outcome<Self> {
        let Some(pid) = server.pid().and_then(|pid| Pid::from_raw(pid as i32)) else {
            return failure("only the store of a server that was started here can be made to fail");
        };
        // A server has this program's limit, but for what is set here.
        let before = getrlimit(Resource::Fsize);
        prlimit(Some(pid), Resource::Fsize, Rlimit { current: Some(0), maximum: before.maximum })?;
        Ok(Self(pid, before))
    }
}

impl Drop for Outage {
    fn drop(&mut self) {
        // Where it has ended there is nothing to restore.
        let _ = prlimit(Some(self.0), Resource::Fsize, self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_tells_when_its_holder_comes_and_goes() {
        let directory = TemporaryDirectory::new().expect("a directory");
        let pipe = directory.path().join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
        let times = follow(pipe.clone()).expect("a thread");
        let before = Instant::now();
        let holder = std::fs::OpenOptions::new().write(true).open(&pipe).expect("it is read");
        let began = times.recv_timeout(BEGIN_MAX).expect("it has come");
        drop(holder);
        let ended = times.recv_timeout(BEGIN_MAX).expect("it has gone");
        assert!(before <= began && began <= ended);
    }

    #[test]
    fn what_never_was_carried_out_is_shown_as_that() {
        assert_eq!(shown(Some(3.5)), json!(3.5));
        assert_eq!(shown(None), json!("never (> 3000)"));
        assert_eq!(shown(Some(f64::INFINITY)), shown(None));
    }
}
