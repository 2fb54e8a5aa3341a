//! Whether this node still holds its lease, as far as its own clock can tell.
//!
//! A renewal counts from the time it was sent: the database cannot have processed it earlier. So this clock never
//! overestimates how much of the lease is left.
//!
//! A node that has joined again is a new node, whose lease starts at that time even before its first renewal.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::pace::Pace;
use super::trouble::Trouble;
use crate::log::{Beat, BeatError, StoreError};

/// The pulse, shared by the thread that renews the lease and the thread that fences this node if no answer arrives.
#[derive(Clone)]
pub(crate) struct SharedPulse(Arc<Mutex<Pulse>>);

/// See the top of this file.
pub(super) struct Pulse {
    pace: Pace,
    lease: Lease,
    /// When it last began to join again, as far as known.
    joined_at: Duration,
    beat_at: Duration,
    trouble: Trouble,
}

/// What is known about the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lease {
    /// This node holds it. The time when the last successful renewal was sent, or the node began to join.
    Held { since: Duration },
    /// It may be lost: the node was fenced, and has not joined again yet.
    Lost,
}

/// What follows from the result of a renewal.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// This node must be fenced.
    pub(super) fences: bool,
    /// A line for the log.
    pub(super) line: Option<String>,
}

impl SharedPulse {
    /// For a node that began to join at `now`. Its first renewal is due at once.
    pub(crate) fn new(pace: Pace, now: Duration) -> Self {
        Self(Arc::new(Mutex::new(Pulse::new(pace, now))))
    }

    /// There may be runs to take over: the next renewal is due at once, if allowed.
    pub(crate) fn hurry(&self, now: Duration) {
        self.lock().hurry(now);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Pulse> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pulse {
    pub(super) fn new(pace: Pace, now: Duration) -> Self {
        let trouble = Trouble::with("renew this node's lease");
        Self { pace, lease: Lease::Held { since: now }, joined_at: Duration::ZERO, beat_at: now, trouble }
    }

    /// When the next renewal is due.
    pub(super) fn beat_at(&self) -> Duration {
        self.beat_at
    }

    /// There may be runs to take over.
    pub(super) fn hurry(&mut self, now: Duration) {
        if matches!(self.lease, Lease::Held { .. }) {
            self.beat_at = self.beat_at.min(now);
        }
    }

    /// When this node must be fenced unless a renewal succeeds first; nothing if it is fenced already.
    pub(super) fn fences_at(&self) -> Option<Duration> {
        match self.lease {
            Lease::Held { since } => Some(since + self.pace.fence_after()),
            Lease::Lost => None,
        }
    }

    /// Processes the result of a renewal that was sent at `began`, by a node that last began to join at `joined_at`.
    pub(super) fn hear(
        &mut self,
        joined_at: Duration,
        began: Duration,
        beat: &Result<Beat, BeatError>,
        now: Duration,
    ) -> Heard {
        self.note_joined(joined_at);
        match beat {
            Ok(_) => {
                self.lease = Lease::Held { since: began.max(self.joined_at) };
                self.beat_at = began + self.pace.beat_each();
                Heard { fences: false, line: self.trouble.is_over() }
            }
            Err(BeatError::Fenced) if began < self.joined_at => {
                // That was said of who it was before.
                self.beat_at = now;
                Heard::default()
            }
            Err(BeatError::Fenced) => {
                let fences = matches!(self.lease, Lease::Held { .. });
                self.lease = Lease::Lost;
                self.put_off("its lease has expired, and the other nodes treat it as failed", now, fences)
            }
            Err(BeatError::Down(StoreError(reason))) => self.put_off(reason, now, false),
        }
    }

    fn put_off(&mut self, reason: &str, now: Duration, fences: bool) -> Heard {
        let (wait, line) = self.trouble.has_failed(reason);
        self.beat_at = now + wait.min(self.pace.beat_each());
        Heard { fences, line }
    }

    /// Whether too little of the lease is left. True once, and again after the node has joined again.
    pub(super) fn runs_out(&mut self, joined_at: Duration, now: Duration) -> bool {
        self.note_joined(joined_at);
        let is_over = self.fences_at().is_some_and(|at| now >= at);
        if is_over {
            self.lease = Lease::Lost;
        }
        is_over
    }

    fn note_joined(&mut self, at: Duration) {
        if at > self.joined_at {
            self.joined_at = at;
            self.lease = Lease::Held { since: at };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn down() -> Result<Beat, BeatError> {
        Err(BeatError::Down(StoreError("cut".into())))
    }

    #[test]
    fn a_node_whose_beats_come_to_nothing_fences_itself_once_before_its_lease_is_over() {
        let pace = Pace::notified(at(15));
        let mut pulse = Pulse::new(pace, at(0));
        assert_eq!((pulse.beat_at(), pulse.fences_at()), (at(0), Some(at(13))));
        assert!(!pulse.hear(at(0), at(5), &Ok(Beat::default()), at(7)).fences);
        let next = at(5) + pace.beat_each();
        assert_eq!((pulse.beat_at(), pulse.fences_at()), (next, Some(at(18))), "it counts from when it began");
        assert_eq!(
            pulse.hear(at(0), at(10), &down(), at(12)).line.as_deref(),
            Some("cannot renew this node's lease: cut")
        );
        assert!(pulse.beat_at() < at(13), "it is tried again sooner than it beats");
        assert!(!pulse.runs_out(at(0), at(17)));
        assert!(pulse.runs_out(at(0), at(18)));
        assert!(!pulse.runs_out(at(0), at(30)), "it is told once");
        assert_eq!(pulse.fences_at(), None);
        assert!(!pulse.hear(at(0), at(31), &Err(BeatError::Fenced), at(31)).fences, "it is fenced already");
        pulse.hear(at(0), at(40), &Ok(Beat::default()), at(40));
        assert_eq!(pulse.fences_at(), Some(at(53)), "it has joined again");
    }

    #[test]
    fn a_node_that_others_think_gone_is_fenced_at_once_and_once() {
        let mut pulse = Pulse::new(Pace::notified(at(15)), at(0));
        assert!(pulse.hear(at(0), at(5), &Err(BeatError::Fenced), at(5)).fences);
        assert!(!pulse.hear(at(0), at(6), &Err(BeatError::Fenced), at(6)).fences);
        assert!(!pulse.runs_out(at(0), at(60)));
        pulse.hear(at(0), at(61), &Ok(Beat::default()), at(61));
        assert!(pulse.hear(at(0), at(66), &Err(BeatError::Fenced), at(66)).fences);
    }

    #[test]
    fn a_node_beats_at_once_where_another_has_left_unless_it_has_to_join_again_itself() {
        let mut pulse = Pulse::new(Pace::notified(at(15)), at(0));
        pulse.hear(at(0), at(0), &Ok(Beat::default()), at(0));
        pulse.hurry(at(1));
        assert_eq!(pulse.beat_at(), at(1));
        pulse.hear(at(0), at(1), &Err(BeatError::Fenced), at(1));
        let beat_at = pulse.beat_at();
        pulse.hurry(at(1));
        assert_eq!(pulse.beat_at(), beat_at);
    }

    #[test]
    fn a_beat_that_was_taken_and_came_back_too_late_fences_all_the_same() {
        let mut pulse = Pulse::new(Pace::notified(at(15)), at(0));
        pulse.hear(at(0), at(5), &Ok(Beat::default()), at(19));
        assert!(pulse.runs_out(at(0), at(19)), "little may be left of it");
    }

    #[test]
    fn a_node_that_has_joined_again_and_can_never_beat_is_fenced_again() {
        let mut pulse = Pulse::new(Pace::notified(at(15)), at(0));
        assert!(pulse.runs_out(at(0), at(13)));
        assert!(!pulse.hear(at(20), at(22), &down(), at(27)).fences);
        assert_eq!(pulse.fences_at(), Some(at(33)), "though no beat of it was ever taken");
        assert!(!pulse.runs_out(at(20), at(32)));
        assert!(pulse.runs_out(at(20), at(33)));
        assert!(!pulse.runs_out(at(20), at(60)));
    }

    #[test]
    fn what_is_said_of_who_a_node_was_before_does_not_fence_it_once_it_has_joined_again() {
        let mut pulse = Pulse::new(Pace::notified(at(15)), at(0));
        assert!(!pulse.hear(at(6), at(5), &Err(BeatError::Fenced), at(7)).fences);
        assert_eq!((pulse.beat_at(), pulse.fences_at()), (at(7), Some(at(19))), "it asks for itself at once");
        assert!(pulse.hear(at(6), at(8), &Err(BeatError::Fenced), at(8)).fences);
    }
}
