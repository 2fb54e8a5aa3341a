//! A neighbour at work, on a nice thread: what it does in this program must not slow down those who are measured.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::kinds::{Act, Kind};
use super::stage::Stage;
use crate::asker::{Asker, Question};
use crate::failure::{Outcome, failure};
use crate::fleet::{Fleet, Settings};
use crate::loopback::Target;
use crate::scenario::steps::{publish_all, wait_for_streams};
use crate::subscriber::Pace;
use crate::tally::Tally;
use crate::watch::Watch;

/// How nice: the least that the system gives to anyone.
const NICE: i32 = 19;

/// A neighbour that has asked enough for now looks so often whether it is to stop.
const SLEEP_MAX: Duration = Duration::from_millis(50);

/// Messages that a watcher leaves unread before the turn begins, in arrays: more than all buffers on the way hold.
const UNREAD_MESSAGES: u64 = 10_000;

/// Bytes of each.
const UNREAD_BYTES: usize = 500;

/// A neighbour at work.
#[derive(Debug)]
pub(super) struct Neighbour {
    work: Work,
    began: Instant,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Done {
    /// What it did, in a few words.
    pub did: String,
    /// It was answered anything, or asked for nothing.
    pub is_served: bool,
    /// What went wrong.
    pub complaints: Vec<String>,
}

#[derive(Debug)]
enum Work {
    Nothing,
    Asking(Asking),
    Streams(Fleet, Kind),
}

impl Neighbour {
    /// Begins; a watcher that reads nothing is behind when this returns.
    pub(super) fn start(kind: Kind, stage: &Stage, watch: &mut Watch) -> Outcome<Self> {
        let target = stage.server.target();
        let work = match kind.act(&stage.server) {
            Act::Nothing => Work::Nothing,
            Act::Ask(question) => Work::Asking(Asking::start(target, question, stage.asks_per_second)?),
            Act::Replay => Work::Streams(nice_fleet(stage.replay_settings()?)?, kind),
            Act::ReadNothing(project) => {
                let settings = Settings { pace: Pace::Nothing, ..Settings::new(target, project, 1) };
                let fleet = nice_fleet(settings)?;
                wait_for_streams(watch, &fleet, 1)?;
                publish_all(watch, &stage.server, project, UNREAD_MESSAGES, UNREAD_BYTES)?;
                Work::Streams(fleet, kind)
            }
        };
        Ok(Self { work, began: Instant::now() })
    }

    /// Ends it.
    pub(super) fn stop(self) -> Outcome<Done> {
        let seconds = self.began.elapsed().as_secs_f64();
        match self.work {
            Work::Nothing => Ok(Done { did: "nothing".to_owned(), is_served: true, complaints: Vec::new() }),
            Work::Asking(asking) => asking.stop(seconds),
            Work::Streams(fleet, Kind::Replay) => Ok(replayed(&fleet.tally()?, seconds)),
            Work::Streams(fleet, _) => {
                let tally = fleet.tally()?;
                Ok(Done {
                    did: "read nothing".to_owned(),
                    is_served: true,
                    complaints: tally.complaints("the unread watcher"),
                })
            }
        }
    }
}

fn replayed(tally: &Tally, seconds: f64) -> Done {
    let did = format!("{:.0} messages/s", tally.messages as f64 / seconds);
    Done { did, is_served: tally.messages > 0, complaints: tally.complaints("replay") }
}

/// Subscribers whose threads are nice, as they are begun by one that is.
fn nice_fleet(settings: Settings) -> Outcome<Fleet> {
    nicely(move || Fleet::open_new(&settings))
}

/// Carries something out on a nice thread.
fn nicely<T: Send + 'static>(act: impl FnOnce() -> Outcome<T> + Send + 'static) -> Outcome<T> {
    let thread = std::thread::spawn(move || {
        rustix::process::nice(NICE)?;
        act()
    });
    thread.join().unwrap_or_else(|_| failure("a neighbour's thread panicked"))
}

/// The same question again and again.
#[derive(Debug)]
struct Asking {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Outcome<Asker>>,
}

impl Asking {
    fn start(target: Target, question: Question, per_second: f64) -> Outcome<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let end = is_over.clone();
        let thread = std::thread::Builder::new().name("neighbour".to_owned()).spawn(move || {
            rustix::process::nice(NICE)?;
            let mut asker = Asker::new(target);
            let is_over = || end.load(Ordering::Relaxed);
            let began = Instant::now();
            while !is_over() {
                let early = pause(asker.answers, per_second).saturating_sub(began.elapsed());
                if early.is_zero() {
                    asker.ask(&question, is_over)?;
                } else {
                    std::thread::sleep(early.min(SLEEP_MAX));
                }
            }
            Ok(asker)
        })?;
        Ok(Self { is_over, thread })
    }

    fn stop(self, seconds: f64) -> Outcome<Done> {
        self.is_over.store(true, Ordering::Relaxed);
        let asker = self.thread.join().unwrap_or_else(|_| failure("a neighbour's thread panicked"))?;
        let (answers, megabytes) = (asker.answers as f64 / seconds, asker.bytes as f64 / 1e6 / seconds);
        let did = format!("{answers:.1} answers/s, {megabytes:.0} MB/s");
        Ok(Done { did, is_served: asker.bytes > 0, complaints: Vec::new() })
    }
}

/// When the next question is due that comes after so many, from the first one on.
fn pause(answers: u64, per_second: f64) -> Duration {
    if per_second > 0.0 { Duration::from_secs_f64(answers as f64 / per_second) } else { Duration::ZERO }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neighbour_asks_as_often_as_it_may() {
        assert_eq!(pause(500, 1000.0), Duration::from_millis(500));
        assert_eq!(pause(500, 0.0), Duration::ZERO);
    }
}
