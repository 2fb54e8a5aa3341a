//! The worker threads: each makes one attempt at a time and reports the result to the executor.
//!
//! The jobs channel has room for one job per worker, and the scheduler starts no more jobs than there are free workers,
//! so sending never blocks. The reports channel is bounded too, and the executor never stops reading it. The [`Valve`]
//! keeps tools from flooding it: while it is shut, a call that has written [more than a little](SHUT_BYTES_MAX) waits
//! until it is open again or the call is cancelled.
//!
//! A tool that panics fails its attempt. A panic anywhere else in a worker would leave its step running forever. It is
//! reported as [`Panicked`] and ends the executor.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::{fmt, io};

use super::call::attempt;
use super::context::Context;
use super::scheduler::{CallId, Job, Report};
use super::tool::{CancelToken, OutputSink};
use super::valve::Valve;
use crate::model::{OutputStream, Usage};
use crossbeam_channel::{Receiver, Sender, bounded};

/// The largest piece of live output in one report. With 1,024 reports in the channel at most 16 MiB wait there.
const PIECE_BYTES_MAX: usize = 16 * 1024;

/// How much output a call may write while the valve is shut before it has to wait: the size of a pipe.
const SHUT_BYTES_MAX: usize = 64 * 1024;

/// The least weight of a piece, so that there are at most 256.
const PIECE_BYTES_MIN: usize = 256;

/// A thread of the executor has panicked, outside of any tool. Runs can't be relied on to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panicked {
    /// The thread's name.
    pub thread: String,
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the thread {} has panicked", self.thread)
    }
}

impl std::error::Error for Panicked {}

/// A report of a worker.
pub(super) type FromWorker = Result<Report, Panicked>;

/// Starts `workers` threads that report to `reports`. They end when the sender that comes back is dropped, each when
/// its call is over.
///
/// # Errors
/// If the system grants no thread more.
pub fn spawn(
    workers: usize,
    context: &Arc<Context>,
    reports: &Sender<FromWorker>,
    valve: &Arc<Valve>,
) -> io::Result<Sender<Job>> {
    let (sender, jobs) = bounded(workers);
    for number in 1..=workers {
        let (context, jobs, reports, valve) = (context.clone(), jobs.clone(), reports.clone(), valve.clone());
        let name = format!("worker-{number}");
        let thread = name.clone();
        thread::Builder::new().name(name).spawn(move || {
            let _alarm = Alarm { thread, reports: &reports };
            work(&context, &jobs, &reports, &valve);
        })?;
    }
    Ok(sender)
}

fn work(context: &Context, jobs: &Receiver<Job>, reports: &Sender<FromWorker>, valve: &Valve) {
    for Job { call, launch, .. } in jobs {
        let reporter = Reporter::new(call, reports, valve, &launch.cancel);
        let result = attempt(context, &launch, &reporter);
        // Its descriptors are closed before anyone hears that it is over.
        drop(launch);
        // The executor's thread may be gone; then the jobs end too.
        let _ = reports.send(Ok(Report::Finished { call, result }));
    }
}

/// Tells when a worker unwinds.
struct Alarm<'a> {
    thread: String,
    reports: &'a Sender<FromWorker>,
}

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = self.reports.send(Err(Panicked { thread: std::mem::take(&mut self.thread) }));
        }
    }
}

/// Passes a tool's live output on.
struct Reporter<'a> {
    call: CallId,
    reports: &'a Sender<FromWorker>,
    valve: &'a Valve,
    cancel: &'a CancelToken,
    /// Bytes since the valve was moved, and how often it had been by then.
    said: AtomicUsize,
    moves: AtomicU64,
}

impl<'a> Reporter<'a> {
    fn new(call: CallId, reports: &'a Sender<FromWorker>, valve: &'a Valve, cancel: &'a CancelToken) -> Self {
        Self { call, reports, valve, cancel, said: AtomicUsize::new(0), moves: AtomicU64::new(valve.moves()) }
    }

    /// Counts `bytes`; how many there are since the valve was moved. A tool's own threads may count at once, and then some
    /// bytes not at all.
    fn count(&self, bytes: usize) -> usize {
        let moves = self.valve.moves();
        if self.moves.swap(moves, Ordering::Relaxed) != moves {
            self.said.store(0, Ordering::Relaxed);
        }
        self.said.fetch_add(bytes, Ordering::Relaxed) + bytes
    }
}

impl OutputSink for Reporter<'_> {
    fn write(&self, stream: OutputStream, bytes: &[u8]) {
        while self.paused().is_some() && !self.cancel.is_cancelled() {
            self.valve.wait(self.cancel);
        }
        self.write_now(stream, bytes);
    }

    fn paused(&self) -> Option<BorrowedFd<'_>> {
        self.valve.shut().filter(|_| self.count(0) >= SHUT_BYTES_MAX)
    }

    fn usage(&self, usage: &Usage) {
        let _ = self.reports.send(Ok(Report::Usage { call: self.call, usage: Box::new(usage.clone()) }));
    }

    fn write_now(&self, stream: OutputStream, bytes: &[u8]) {
        self.count(bytes.len().max(PIECE_BYTES_MIN));
        for piece in bytes.chunks(PIECE_BYTES_MAX) {
            let _ = self.reports.send(Ok(Report::Output { call: self.call, stream, bytes: piece.to_vec() }));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::executor::run::{AttemptError, Effects, Launch, Run};
    use crate::executor::scheduler::Durability;
    use crate::executor::testing::{context_with, new_run, plan};
    use crate::executor::tool::{Call, Outcome, Tool, ToolError};
    use crate::model::{Now, Plan};

    /// Does what its inputs say.
    struct Puppet;

    impl Tool for Puppet {
        fn call(&self, call: &Call<'_>) -> Result<Outcome, ToolError> {
            match call.inputs.get("do").and_then(Value::as_str) {
                Some("panic") => panic!("at step {}", call.step),
                Some("write") => call.output.write(OutputStream::Stdout, &[b'x'; PIECE_BYTES_MAX + 1]),
                Some(text) => return Err(ToolError::new(text)),
                None => {}
            }
            Ok(Outcome::Output(json!(call.attempt)))
        }
    }

    fn launches(context: &Arc<Context>, plan: Plan) -> Vec<Launch> {
        let mut run = Run::new(new_run("r", plan), context.clone());
        let mut effects = Effects::default();
        run.start(Now::default(), &mut effects);
        std::iter::from_fn(|| run.take(Now::default(), &mut effects)).collect()
    }

    /// What comes of each of these inputs, on one worker, one after another.
    fn work_through(cases: &[(&str, Value)]) -> Vec<Result<Outcome, AttemptError>> {
        let context = context_with(|registry| registry.insert("puppet", Puppet));
        let names: Vec<_> = (0..cases.len()).map(|at| format!("s{at}")).collect();
        let mut plan = plan(&names.iter().map(String::as_str).collect::<Vec<_>>());
        for (step, (tool, inputs)) in plan.steps.iter_mut().zip(cases) {
            step.tool = (*tool).into();
            step.inputs = inputs.as_object().cloned().unwrap_or_default();
        }
        let (reports, reported) = bounded(8);
        let valve = Arc::new(Valve::new().expect("a descriptor"));
        let jobs = spawn(1, &context, &reports, &valve).expect("a thread");
        let mut results = Vec::new();
        for launch in launches(&context, plan) {
            jobs.send(Job { call: CallId::default(), launch, durability: Durability::Later }).expect("a worker");
            results.extend(reported.iter().find_map(|report| match report.expect("no panic") {
                Report::Finished { result, .. } => Some(result),
                Report::Output { bytes, .. } => {
                    assert!(bytes.len() <= PIECE_BYTES_MAX);
                    None
                }
                Report::Usage { .. } => None,
            }));
        }
        results
    }

    #[test]
    fn a_worker_outlives_whatever_its_attempts_come_to() {
        let passing = |text: &str| Err(AttemptError::Passing(text.to_owned()));
        let lasting = |text: &str| Err(AttemptError::Lasting(text.to_owned()));
        let table = [
            ("puppet", json!({"do": "panic"}), passing("the tool panicked: at step s0")),
            ("puppet", json!({"do": "refuse"}), passing("refuse")),
            ("puppet", json!({"do": "write"}), Ok(Outcome::Output(json!(1)))),
            ("echo", json!({"x": "{{ nobody }}"}), lasting("inputs.x: nobody is undefined")),
            ("echo", json!({"refused": 1}), lasting("the tool rejected its inputs: refused: is not welcome")),
            ("echo", json!({"misses": 1}), lasting("the tool rejected its inputs: `must` is missing")),
            ("nothing", json!({}), lasting("the tool nothing is no longer configured")),
            ("echo", json!({"x": 1}), Ok(Outcome::Output(json!({"x": 1})))),
        ];
        let cases: Vec<_> = table.iter().map(|(tool, inputs, _)| (*tool, inputs.clone())).collect();
        let expected: Vec<_> = table.into_iter().map(|(_, _, result)| result).collect();
        assert_eq!(work_through(&cases), expected);
    }

    #[test]
    fn an_attempt_that_was_cancelled_before_it_began_is_not_made() {
        let context = context_with(|registry| registry.insert("puppet", Puppet));
        let launch = launches(&context, plan(&["a"])).remove(0);
        launch.cancel.cancel();
        let (reports, reported) = bounded(1);
        let valve = Arc::new(Valve::new().expect("a descriptor"));
        let jobs = spawn(1, &context, &reports, &valve).expect("a thread");
        jobs.send(Job { call: CallId::default(), launch, durability: Durability::Later }).expect("a worker");
        assert!(matches!(reported.recv(), Ok(Ok(Report::Finished { result: Err(AttemptError::Passing(_)), .. }))));
    }
}
