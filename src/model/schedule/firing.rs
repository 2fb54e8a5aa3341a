//! The firings of one schedule. No clock and no thread: `now` and whether a run is active are passed in.
//!
//! All times up to [`until`](Firings::until) are handled and never come again. If the clock is set back, nothing fires
//! until it has reached that time again. Only if it is set back by more than [`SET_BACK_MAX_MS`] the earlier time is
//! considered wrong, and the schedule continues from the current time. If the clock jumps forward or the server was
//! down, the newest missed firing is made up for, and the others are reported and counted.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::Schedule;
use crate::model::{Overlap, RunId, Timestamp};

/// The most firings that wait for the run of an earlier one. Further ones are skipped.
const WAITING_MAX: usize = 10;

/// How far the clock may be set back before the earlier time counts as wrong: further than time zones differ.
const SET_BACK_MAX_MS: u64 = 24 * 60 * 60 * 1000;

/// The most due times that are counted. There may be more.
pub(super) const DUE_COUNTED_MAX: u64 = 1000;

/// The times that are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    /// The newest one.
    pub(super) newest: Timestamp,
    /// How many, up to [`DUE_COUNTED_MAX`].
    pub(super) count: u64,
}

/// The results of a schedule so far, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Firings {
    /// When the schedule was set that these results belong to.
    pub set_at: Timestamp,
    /// All times up to this one are handled.
    pub until: Timestamp,
    /// The run of the newest firing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// The time of the newest firing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_fired: Option<Timestamp>,
    /// The newest time that was skipped because a run was active or its group was full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_skipped: Option<Timestamp>,
    /// The newest time that was missed because no server was running, and was not made up for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_missed: Option<Timestamp>,
    /// Why the newest firing failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Times that wait for the active run to end.
    #[serde(skip_serializing_if = "VecDeque::is_empty")]
    pub waiting: VecDeque<Timestamp>,
}

/// What to do about a schedule now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// The time whose run is to start.
    pub fire: Option<Timestamp>,
    /// The run that is to be cancelled.
    pub cancel: Option<RunId>,
    /// The number of skipped times.
    pub skipped: u64,
    /// The number of missed times.
    pub missed: u64,
}

impl Firings {
    /// Reads the stored results of the schedule that was set at `since`. If they are missing, or belong to an earlier
    /// schedule, all times up to `since` count as handled and none waits.
    pub fn read(kept: &[u8], since: Timestamp) -> Self {
        let mut firings: Self = serde_json::from_slice(kept).unwrap_or_default();
        if firings.set_at != since {
            (firings.set_at, firings.until) = (since, since);
            firings.waiting.clear();
        }
        firings
    }

    /// The results in the form in which they are stored.
    pub fn json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The next `count` times.
    pub fn next(&self, schedule: &Schedule, count: usize) -> Vec<Timestamp> {
        std::iter::successors(schedule.next(self.until), |at| schedule.next(*at)).take(count).collect()
    }

    /// Whether there is something to do now that depends on whether the run is active.
    pub fn is_due(&self, next: Option<Timestamp>, now: Timestamp) -> bool {
        !self.waiting.is_empty() || next.is_some_and(|next| next <= now) || self.is_ahead(now)
    }

    /// Decides what to do, and updates what is to be stored. `goes_on`: the run of the newest firing has not ended.
    pub fn step(&mut self, schedule: &Schedule, overlap: Overlap, goes_on: bool, now: Timestamp) -> Verdict {
        let mut verdict = Verdict::default();
        if self.is_ahead(now) {
            self.until = now;
        }
        if let Some(due) = schedule.due(self.until, now) {
            self.pass(due, schedule, &mut verdict);
            self.admit(due.newest, overlap, goes_on, &mut verdict);
        }
        if !goes_on {
            verdict.fire = self.waiting.pop_front();
        }
        verdict
    }

    /// The run of the time `at` has started.
    pub fn fired(&mut self, at: Timestamp, run: RunId) {
        (self.run_id, self.last_fired, self.last_error) = (Some(run), Some(at), None);
    }

    /// The run of the time `at` was refused for good. The schedule continues with the next time.
    pub fn refused(&mut self, at: Timestamp, why: String) {
        (self.last_skipped, self.last_error) = (Some(at), Some(why));
    }

    fn is_ahead(&self, now: Timestamp) -> bool {
        self.until.millis_since(now) > SET_BACK_MAX_MS
    }

    /// Counts all due times except the newest as missed.
    fn pass(&mut self, due: Due, schedule: &Schedule, verdict: &mut Verdict) {
        verdict.missed = due.count - 1;
        if verdict.missed > 0 {
            let missed = std::iter::successors(schedule.next(self.until), |at| schedule.next(*at));
            self.last_missed = missed.take_while(|at| *at < due.newest).take(DUE_COUNTED_MAX as usize).last();
        }
        self.until = due.newest;
    }

    fn admit(&mut self, at: Timestamp, overlap: Overlap, goes_on: bool, verdict: &mut Verdict) {
        let has_to_wait = goes_on || !self.waiting.is_empty();
        match overlap {
            Overlap::Skip if has_to_wait => self.skip(at, verdict),
            Overlap::Queue if self.waiting.len() >= WAITING_MAX => self.skip(at, verdict),
            Overlap::Cancel => {
                while let Some(earlier) = self.waiting.pop_front() {
                    self.skip(earlier, verdict);
                }
                verdict.cancel = self.run_id.clone().filter(|_| goes_on);
                self.waiting.push_back(at);
            }
            Overlap::Skip | Overlap::Queue => self.waiting.push_back(at),
        }
    }

    fn skip(&mut self, at: Timestamp, verdict: &mut Verdict) {
        self.last_skipped = Some(at);
        verdict.skipped += 1;
    }
}

#[cfg(all(test, feature = "schedules"))]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    fn at(minutes: u64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + minutes * MINUTE)
    }

    fn run() -> RunId {
        RunId::parse("r").expect("an id")
    }

    fn minutes() -> Schedule {
        Schedule::parse("* * * * *", "UTC").expect("a schedule")
    }

    fn since(minute: u64) -> Firings {
        Firings { until: at(minute), ..Firings::default() }
    }

    #[test]
    fn a_schedule_that_was_set_by_a_clock_that_ran_ahead_was_looked_at_without_end() {
        let (set_at, now) = (at(3 * 24 * 60), at(5));
        let mut firings = Firings::read(b"", set_at);
        assert_eq!(firings.until, set_at);
        firings.step(&minutes(), Overlap::Skip, false, now);
        assert_eq!(firings.until, now, "its clock was wrong then");
        assert_eq!(Firings::read(&firings.json(), set_at), firings, "and it stays so");
    }

    #[test]
    fn each_time_fires_once() {
        let (schedule, mut firings) = (minutes(), since(0));
        assert!(!firings.is_due(schedule.next(firings.until), at(0).plus_millis(59_999)));
        assert!(firings.is_due(schedule.next(firings.until), at(1)));
        let fires = |firings: &mut Firings, now| firings.step(&schedule, Overlap::Skip, false, now);
        assert_eq!(fires(&mut firings, at(1)), Verdict { fire: Some(at(1)), ..Verdict::default() });
        assert_eq!(fires(&mut firings, at(1).plus_millis(7)), Verdict::default());
        assert_eq!(firings.next(&schedule, 3), [at(2), at(3), at(4)]);
    }

    #[test]
    fn of_what_was_missed_the_newest_is_made_good() {
        let (schedule, mut firings) = (minutes(), since(0));
        let verdict = firings.step(&schedule, Overlap::Skip, false, at(90).plus_millis(1));
        assert_eq!(verdict, Verdict { fire: Some(at(90)), missed: 89, ..Verdict::default() });
        assert_eq!((firings.until, firings.last_missed), (at(90), Some(at(89))));
    }

    #[test]
    fn a_clock_that_is_set_back_fires_nothing_twice() {
        let (schedule, mut firings) = (minutes(), since(60));
        for now in [59, 30, 0] {
            assert_eq!(firings.step(&schedule, Overlap::Queue, false, at(now)), Verdict::default());
        }
        assert_eq!(firings.step(&schedule, Overlap::Queue, false, at(61)).fire, Some(at(61)));
        // By more than a day: it was wrong before.
        let day = 24 * 60;
        let mut firings = since(day * 400);
        assert!(firings.is_due(schedule.next(firings.until), at(3)));
        assert_eq!(firings.step(&schedule, Overlap::Skip, false, at(3)), Verdict::default());
        assert_eq!(firings.step(&schedule, Overlap::Skip, false, at(4)).fire, Some(at(4)));
    }

    #[test]
    fn where_a_run_goes_on_a_firing_is_skipped_or_waits_or_ends_it() {
        let schedule = minutes();
        let mut skips = Firings { run_id: Some(run()), ..since(0) };
        let verdict = skips.step(&schedule, Overlap::Skip, true, at(1));
        assert_eq!(verdict, Verdict { skipped: 1, ..Verdict::default() });
        assert_eq!((skips.last_skipped, skips.until), (Some(at(1)), at(1)));

        let mut queues = Firings { run_id: Some(run()), ..since(0) };
        for minute in 1..=12 {
            let skipped = u64::from(minute > WAITING_MAX as u64);
            let verdict = queues.step(&schedule, Overlap::Queue, true, at(minute));
            assert_eq!(verdict, Verdict { skipped, ..Verdict::default() }, "{minute}");
        }
        assert_eq!(queues.step(&schedule, Overlap::Queue, false, at(12)).fire, Some(at(1)));
        assert_eq!(queues.waiting.len(), WAITING_MAX - 1);

        let mut cancels = Firings { run_id: Some(run()), ..since(0) };
        let verdict = cancels.step(&schedule, Overlap::Cancel, true, at(1));
        assert_eq!(verdict, Verdict { cancel: Some(run()), ..Verdict::default() });
        let verdict = cancels.step(&schedule, Overlap::Cancel, true, at(2));
        assert_eq!(verdict, Verdict { cancel: Some(run()), skipped: 1, ..Verdict::default() });
        assert_eq!(cancels.step(&schedule, Overlap::Cancel, false, at(2)).fire, Some(at(2)));
    }

    #[test]
    fn what_is_kept_is_read_again_and_a_schedule_that_is_set_anew_begins_there() {
        let mut firings = Firings { set_at: at(1), run_id: Some(run()), waiting: [at(3)].into(), ..since(3) };
        firings.fired(at(2), run());
        assert_eq!(Firings::read(&firings.json(), at(1)), firings);
        let anew = Firings::read(&firings.json(), at(9));
        assert_eq!((anew.until, anew.waiting.len(), anew.run_id), (at(9), 0, Some(run())));
        assert_eq!(Firings::read(b"", at(5)), Firings { set_at: at(5), ..since(5) });
    }
}
