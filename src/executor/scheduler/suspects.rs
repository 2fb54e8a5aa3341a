//! Steps that may crash the process: each was running when the process ended, so many times in a row that one more
//! would be too many. Only one of them is tried at a time, across all runs; otherwise the step that crashes the process
//! would also make all others running at that time look guilty.

use std::collections::VecDeque;

use super::{Actions, CallTarget, RunKey, Scheduler};
use crate::executor::run::Launch;
use crate::model::Now;

/// See the top of this file.
#[derive(Default)]
pub(super) struct Suspects {
    /// Runs that have one, each once, in the order of their turns.
    waiting: VecDeque<RunKey>,
    /// The one that was tried last.
    tried: Option<CallTarget>,
}

impl Suspects {
    /// A run has one that wants a worker.
    pub(super) fn wait(&mut self, run: RunKey) {
        self.waiting.push_back(run);
    }

    /// Have there been any?
    fn have_been(&self) -> bool {
        !self.waiting.is_empty() || self.tried.is_some()
    }
}

impl Scheduler {
    /// Is it the turn of one? The next is tried when the attempt at the last is over, or given up.
    pub(super) fn can_try_suspect(&self) -> bool {
        let is_tried = |target: CallTarget| {
            self.runs.get(&target.run).is_some_and(|entry| entry.run.is_calling(target.unit, target.attempt))
        };
        !self.suspects.waiting.is_empty() && !self.suspects.tried.is_some_and(is_tried)
    }

    /// An attempt at the next.
    pub(super) fn try_suspect(&mut self, now: Now, out: &mut Actions) -> Option<(CallTarget, Launch)> {
        let key = self.suspects.waiting.pop_front()?;
        self.runs.get_mut(&key)?.is_suspected = false;
        let launch = self.with_run(key, out, |run, effects| run.take_suspect(now, effects)).flatten()?;
        let target = CallTarget::of(key, &launch);
        self.suspects.tried = Some(target);
        Some((target, launch))
    }

    /// Where one step may be what ended the process, so may be all others that were interrupted: the message that counts
    /// an attempt may have been lost with the process. So none of them is run beside another.
    pub(super) fn suspect_all_interrupted(&mut self, out: &mut Actions) {
        if !self.suspects.have_been() {
            return;
        }
        let resumed: Vec<RunKey> =
            self.runs.iter().filter(|(_, entry)| entry.is_resumed).map(|(&key, _)| key).collect();
        for key in resumed {
            self.with_run(key, out, |run, _| run.suspect_interrupted());
        }
    }
}
