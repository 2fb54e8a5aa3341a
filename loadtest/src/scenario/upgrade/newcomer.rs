//! One who comes anew for each call: is it ever refused, and how long does it wait?

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::clock::now_ns;
use crate::failure::{Outcome, failure};
use crate::latency::Latencies;
use crate::loopback::Target;

/// Between two calls.
const PAUSE: Duration = Duration::from_millis(1);

/// What it has seen.
#[derive(Debug, Default)]
pub struct Came {
    /// From the beginning of a connection to the end of the answer.
    pub waits: Latencies,
    /// Calls without a good answer.
    pub refused: u64,
    /// Why the first of them had none.
    pub first_refusal: Option<String>,
}

/// See the top of this file. It goes when it is dropped.
#[derive(Debug)]
pub struct Newcomer {
    is_stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<Came>>,
}

impl Newcomer {
    /// Begins.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(target: Target) -> Outcome<Self> {
        let is_stopping = Arc::new(AtomicBool::new(false));
        let stop = is_stopping.clone();
        let come = move || {
            let mut came = Came::default();
            while !stop.load(Ordering::Relaxed) {
                let began_ns = now_ns();
                match target.get("/healthz") {
                    Ok(_) => came.waits.record(now_ns() - began_ns),
                    Err(why) => {
                        came.refused += 1;
                        came.first_refusal.get_or_insert(why.to_string());
                    }
                }
                std::thread::sleep(PAUSE);
            }
            came
        };
        let thread = std::thread::Builder::new().name("newcomer".to_owned()).spawn(come)?;
        Ok(Self { is_stopping, thread: Some(thread) })
    }

    /// It comes no more; what it has seen.
    ///
    /// # Errors
    /// Where its thread has ended.
    pub fn stop(mut self) -> Outcome<Came> {
        self.is_stopping.store(true, Ordering::Relaxed);
        let came = self.thread.take().and_then(|thread| thread.join().ok());
        came.map_or_else(|| failure("the newcomer's thread has ended"), Ok)
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }
}
