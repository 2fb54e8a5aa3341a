//! What a run knows about an active step in addition to its messages.

use std::time::Duration;

use serde_json::Value;

use crate::executor::joiner::Joiner;
use crate::executor::tool::CancelToken;
use crate::executor::tool::registry::Timeout;
use crate::model::{Deadline, Decision, Now, RunId, Timestamp, Usage};

/// A unit that has begun and has not ended.
#[derive(Debug)]
pub(super) struct Live {
    /// Since its first attempt.
    pub watch: Stopwatch,
    /// Its live output.
    pub output: Joiner,
    /// Bytes of what its attempt said so far, up to the limit of what is kept.
    pub said: usize,
    /// The usage that its attempt has reported so far.
    pub usage: Option<Box<Usage>>,
    /// The decision, until it is reported.
    pub decision: Option<Box<Decision>>,
    pub phase: Phase,
    /// Its entry among the run's deadlines.
    pub due: Option<Duration>,
}

impl Live {
    pub fn new(watch: Stopwatch, phase: Phase) -> Self {
        Self { watch, output: Joiner::default(), said: 0, usage: None, decision: None, phase, due: None }
    }

    /// An attempt begins, which has said and used nothing.
    pub fn begin(&mut self) {
        (self.said, self.usage) = (0, None);
    }

    /// The part of `bytes` that is stored if an attempt may store `max` bytes in all. A cut text ends with a note that
    /// says so.
    pub fn keep(&mut self, mut bytes: Vec<u8>, max: usize) -> Option<Vec<u8>> {
        let room = max.checked_sub(self.said)?;
        self.said += bytes.len();
        if bytes.len() > room {
            bytes.truncate(room);
            bytes.extend_from_slice(format!("\n[truncated: the output is larger than {max} bytes]").as_bytes());
        }
        Some(bytes)
    }

    /// When it has to be looked at again.
    pub fn deadline(&self) -> Option<Duration> {
        [self.phase.deadline().map(Deadline::at), self.output.due()].into_iter().flatten().min()
    }
}

/// The phase of a live step.
#[derive(Debug)]
pub(super) enum Phase {
    /// Waits for a worker, not for the first time. May go on to `Calling`.
    Queued,
    /// A worker has it, or is to have it once the log has kept that it runs. May go on to any other, or end.
    Calling { cancel: CancelToken, timeout: Option<TimeLimit> },
    /// A worker has it and was asked to give it up. Ends, or after a timeout goes on to `Retrying`, when the worker
    /// does or at `until`, whichever comes first.
    Leaving { cancel: CancelToken, until: Deadline, why: Leave },
    /// Its run ends for its cost, which this attempt was the one to tell: a worker has it that may be about to bring its
    /// answer, which is paid for. Ends when the worker does, or at `until` goes on to `Leaving`.
    Finishing { cancel: CancelToken, until: Deadline },
    /// A decision is waited for, until `expiry` where that is there; the attempt's `timeout` counts too. Ends, or after a
    /// timeout goes on to `Retrying`.
    Waiting { expiry: Option<Deadline>, timeout: Option<TimeLimit> },
    /// A delay that an attempt began is over at `until`. Ends, or after a timeout goes on to `Retrying`.
    Delaying { until: Deadline, end: DelayEnd },
    /// The attempt has started a child run and waits for its end, or for its own timeout. It ends, or continues with
    /// `Retrying`.
    Joining { run: RunId, timeout: Option<TimeLimit> },
    /// Its attempt failed; the next is due at `until`. Goes on to `Queued`.
    Retrying { until: Deadline },
    /// A step whose items are on their way; at `tell` it says how far they are. Ends.
    Spread { tell: Option<Deadline> },
}

impl Phase {
    fn deadline(&self) -> Option<Deadline> {
        match self {
            Self::Queued => None,
            Self::Spread { tell } => *tell,
            Self::Calling { timeout, .. } | Self::Joining { timeout, .. } => timeout.and_then(|timeout| timeout.ends),
            Self::Waiting { expiry, timeout } => {
                [*expiry, timeout.and_then(|timeout| timeout.ends)].into_iter().flatten().min()
            }
            Self::Delaying { until, .. }
            | Self::Leaving { until, .. }
            | Self::Finishing { until, .. }
            | Self::Retrying { until } => Some(*until),
        }
    }
}

/// The end of a delay. It is known when the delay begins: the delay is longer than the attempt may take, or not.
#[derive(Debug)]
pub(super) enum DelayEnd {
    /// The step is done, with this output.
    Done(Value),
    /// The attempt took longer than this.
    TimedOut(Timeout),
}

/// Why a worker was asked to give an attempt up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// The attempt took longer than this.
    TimedOut(Timeout),
    /// The run ends.
    RunEnds,
}

/// What an attempt may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeLimit {
    /// None while it may not begin: that counts for nothing.
    pub ends: Option<Deadline>,
    pub limit: Timeout,
}

impl TimeLimit {
    pub fn from(now: Now, limit: Timeout) -> Self {
        Self { ends: Some(Deadline::after(limit.lasts, now)), limit }
    }

    /// A timeout that does not run until the attempt begins.
    pub fn not_begun(limit: Timeout) -> Self {
        Self { ends: None, limit }
    }
}

/// Counts from a moment on, which may lie before this process began. Only tells how long something took: what is due is
/// a [`Deadline`].
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stopwatch {
    since: Duration,
    /// What had passed by `since`.
    before: Duration,
}

impl Stopwatch {
    pub fn start(now: Now) -> Self {
        Self { since: now.mono, before: Duration::ZERO }
    }

    /// A stopwatch that was started at `at`, by the wall clock.
    pub fn resume(at: Option<Timestamp>, now: Now) -> Self {
        let ms = at.map_or(0, |at| now.wall.millis_since(at));
        Self { since: now.mono, before: Duration::from_millis(ms) }
    }

    pub fn elapsed(self, now: Now) -> Duration {
        self.before + now.mono.saturating_sub(self.since)
    }

    pub fn elapsed_ms(self, now: Now) -> u64 {
        millis(self.elapsed(now))
    }
}

/// `duration` in whole milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
