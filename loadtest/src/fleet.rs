//! Many subscribers on few threads: each thread polls its share of them. Whoever holds a [`Fleet`] tells them to come,
//! go and come back, and looks at the gauges meanwhile.

mod gauges;
mod settings;
mod work;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use mio::{Poll, Waker};

use crate::failure::{Failure, Outcome, failure};
use crate::subscriber::{Position, Subscriber};
use crate::tally::Tally;

pub use gauges::Gauges;
pub use settings::Settings;
use work::{Command, WAKER, Work};

/// Streams of one process at most: a bit less than the descriptors that it may have.
pub const SUBSCRIBERS_MAX: usize = 19_000;

/// Subscribers at work; they go when it is dropped.
#[derive(Debug)]
pub struct Fleet {
    crews: Vec<Crew>,
    gauges: Arc<Gauges>,
}

#[derive(Debug)]
struct Crew {
    commands: Sender<Command>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Fleet {
    /// Subscribers without streams.
    ///
    /// # Errors
    /// Where there are too many, or the system has no room for them.
    pub fn new(settings: &Settings) -> Outcome<Self> {
        if settings.subscribers > SUBSCRIBERS_MAX {
            return failure(format!("at most {SUBSCRIBERS_MAX} subscribers in one process"));
        }
        let gauges = Arc::new(Gauges::default());
        let threads = settings.threads.clamp(1, settings.subscribers.max(1));
        let crews = (0..threads).map(|thread| Crew::new(settings, thread..threads, gauges.clone()));
        Ok(Self { crews: crews.collect::<Outcome<_>>()?, gauges })
    }

    /// Subscribers that open their streams at once.
    ///
    /// # Errors
    /// As [`Fleet::new`].
    pub fn open_new(settings: &Settings) -> Outcome<Self> {
        let fleet = Self::new(settings)?;
        fleet.open();
        Ok(fleet)
    }

    /// What is the case just now.
    pub fn gauges(&self) -> &Gauges {
        &self.gauges
    }

    /// Everyone without a stream opens one, resuming where it can.
    pub fn open(&self) {
        self.tell(|| Command::Open);
    }

    /// Everyone drops its stream.
    pub fn close(&self) {
        self.tell(|| Command::Close);
    }

    /// From now on [`Gauges::at_goal`] counts those that have the message of this number.
    ///
    /// # Errors
    /// Where a thread has gone.
    pub fn set_goal(&self, seq: u64) -> Outcome<()> {
        self.ask(|answer| Command::Goal(seq, answer)).map(drop)
    }

    /// Forgets what was tallied so far.
    ///
    /// # Errors
    /// Where a thread has gone.
    pub fn forget(&self) -> Outcome<()> {
        self.ask(Command::Forget).map(drop)
    }

    /// What was seen since the beginning, or since [`Fleet::forget`].
    ///
    /// # Errors
    /// Where a thread has gone.
    pub fn tally(&self) -> Outcome<Tally> {
        let mut sum = Tally::default();
        self.ask(Command::Tally)?.iter().for_each(|tally| sum.add(tally));
        Ok(sum)
    }

    /// Where some subscriber would go on; none while nobody has an id.
    ///
    /// # Errors
    /// Where a thread has gone.
    pub fn position(&self) -> Outcome<Option<Position>> {
        Ok(self.ask(Command::Position)?.into_iter().flatten().next())
    }

    fn tell(&self, command: impl Fn() -> Command) {
        for crew in &self.crews {
            crew.tell(command());
        }
    }

    fn ask<T>(&self, command: impl Fn(Sender<T>) -> Command) -> Outcome<Vec<T>> {
        let answers = self.crews.iter().map(|crew| {
            let (sender, answer) = channel();
            crew.tell(command(sender));
            answer
        });
        let gone = |_| Failure("a subscriber thread panicked".to_owned());
        let answers: Vec<Receiver<T>> = answers.collect();
        answers.into_iter().map(|answer| answer.recv().map_err(gone)).collect()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.tell(|| Command::Stop);
        for thread in self.crews.iter_mut().filter_map(|crew| crew.thread.take()) {
            // A thread that panicked has said so on stderr.
            let _ = thread.join();
        }
    }
}

impl Crew {
    fn new(settings: &Settings, share: std::ops::Range<usize>, gauges: Arc<Gauges>) -> Outcome<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let (sender, commands) = channel();
        let numbers = (share.start..settings.subscribers).step_by(share.end);
        let project = |number| number % settings.projects.len().max(1);
        let position = settings.position.as_ref();
        let member = |number| match settings.is_numbered {
            true => Subscriber::new(number, project(number), position),
            false => Subscriber::new(number, project(number), position).of_unnumbered(),
        };
        let members = numbers.map(member).collect();
        let work = Work::new(settings.clone(), poll, members, gauges);
        let builder = std::thread::Builder::new().name("subscribers".to_owned());
        let thread = builder.spawn(move || work.run(&commands))?;
        Ok(Self { commands: sender, waker, thread: Some(thread) })
    }

    fn tell(&self, command: Command) {
        // Both fail only where the thread has ended, which whoever waits for an answer learns.
        let _ = self.commands.send(command);
        let _ = self.waker.wake();
    }
}

#[cfg(test)]
mod tests;
