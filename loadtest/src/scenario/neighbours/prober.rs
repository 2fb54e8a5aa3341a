//! Asks `healthz` at a steady rate on a thread of its own. A time counts from when the question was due, so that a
//! server that stalls is not asked less often.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::asker::{Asker, Question, Until};
use crate::failure::{Outcome, failure};
use crate::latency::Latencies;
use crate::loopback::Target;

/// Between two questions.
const EVERY: Duration = Duration::from_millis(2);

/// One who asks.
#[derive(Debug)]
pub(super) struct Prober {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Outcome<Latencies>>,
}

impl Prober {
    /// Begins to ask.
    pub(super) fn start(target: Target) -> Outcome<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let end = is_over.clone();
        let thread = std::thread::Builder::new().name("prober".to_owned());
        Ok(Self { is_over, thread: thread.spawn(move || probe(target, &end))? })
    }

    /// Asks no more; how long the answers took.
    pub(super) fn stop(self) -> Outcome<Latencies> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| failure("the prober's thread panicked"))
    }
}

fn probe(target: Target, is_over: &AtomicBool) -> Outcome<Latencies> {
    let (mut asker, mut latencies) = (Asker::new(target), Latencies::default());
    let question = Question::get(target, "/healthz", "", Until::End);
    let (began, mut number) = (Instant::now(), 0);
    while !is_over.load(Ordering::Relaxed) {
        let due = began + EVERY * number;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        // An answer that never comes is the server's end, and said as such; it is not left out.
        asker.ask(&question, || false)?;
        latencies.record(u64::try_from(due.elapsed().as_nanos()).unwrap_or(u64::MAX));
        number += 1;
    }
    Ok(latencies)
}
