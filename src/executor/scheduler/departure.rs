//! Runs that are released because another node continues them. Their attempts are ended, and nothing more is reported
//! of them. What remains for a while are workers that have not returned. They get a moment to finish, are then killed,
//! and after another moment are no longer waited for. Such a worker stays busy until its tool returns. Its report is
//! then dropped, because the key of a run is never reused.

use std::collections::HashSet;
use std::time::Duration;

use super::{Actions, CallId, Scheduler};
use crate::executor::tool::CancelToken;
use crate::model::Now;

/// What commands have between SIGTERM and SIGKILL, if their tool gives them as much. Others may begin the same steps two
/// seconds after a node has found itself alone.
const KILL_AFTER: Duration = Duration::from_millis(1500);

/// How long it is waited for workers after that.
const GIVE_UP_AFTER: Duration = Duration::from_millis(1500);

/// See the top of this file.
pub(super) struct Departure {
    /// The calls that are awaited.
    calls: HashSet<CallId>,
    tokens: Vec<CancelToken>,
    phase: Phase,
}

#[derive(Clone, Copy)]
enum Phase {
    /// They were asked to end, and go on to `Killed` at this time.
    Asked(Duration),
    /// They were killed, and are waited for until then.
    Killed(Duration),
}

impl Departure {
    fn due(&self) -> Duration {
        let (Phase::Asked(at) | Phase::Killed(at)) = self.phase;
        at
    }

    /// Is this call waited for?
    pub(super) fn awaits(&self, call: CallId) -> bool {
        self.calls.contains(&call)
    }
}

impl Scheduler {
    /// Forgets all runs, and ends what their attempts do. [`is_letting_go`](Self::is_letting_go) says when that is done.
    pub fn let_go(&mut self, now: Now, out: &mut Actions) {
        let runs = &self.runs;
        let is_calling = |target: &super::CallTarget| {
            runs.get(&target.run).is_some_and(|entry| entry.run.is_calling(target.unit, target.attempt))
        };
        let calls: Vec<_> = self.calls.iter().filter(|(_, target)| is_calling(target)).map(|(call, _)| *call).collect();
        let tokens = self.forget_runs();
        (out.records, out.children) = Default::default();
        out.cancels.extend(tokens.iter().cloned());
        if !calls.is_empty() {
            let departure = self.departure.get_or_insert_with(|| Departure {
                calls: HashSet::new(),
                tokens: Vec::new(),
                phase: Phase::Asked(now.mono + KILL_AFTER),
            });
            departure.calls.extend(calls);
            departure.tokens.extend(tokens);
        }
    }

    /// Does a worker still run an attempt of a dropped run?
    pub fn is_letting_go(&self) -> bool {
        self.departure.is_some()
    }

    /// A worker has come back, or never had the call.
    pub(super) fn note_back(&mut self, call: CallId) {
        if let Some(departure) = &mut self.departure {
            departure.calls.remove(&call);
        }
    }

    /// This job of a dropped run was not given to a worker.
    pub fn forget_call(&mut self, call: CallId) {
        self.calls.remove(&call);
        self.note_back(call);
    }

    /// Does what is due of it.
    pub(super) fn see_off(&mut self, now: Now, out: &mut Actions) {
        let Some(departure) = &mut self.departure else { return };
        if departure.calls.is_empty() {
            self.departure = None;
            return;
        }
        match departure.phase {
            Phase::Asked(at) if at <= now.mono => {
                out.kills.append(&mut departure.tokens);
                departure.phase = Phase::Killed(at + GIVE_UP_AFTER);
            }
            Phase::Killed(at) if at <= now.mono => {
                log::warn!(
                    "{} step attempts of released runs are still running after they were killed",
                    departure.calls.len()
                );
                self.departure = None;
            }
            Phase::Asked(_) | Phase::Killed(_) => {}
        }
    }

    /// When something of it is due.
    pub(super) fn departure_due(&self) -> Option<Duration> {
        let departure = self.departure.as_ref()?;
        Some(if departure.calls.is_empty() { Duration::ZERO } else { departure.due() })
    }
}
