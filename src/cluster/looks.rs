//! Decides when to read what other nodes have written.
//!
//! A project that a notification names is read at once; all projects are read periodically, whatever notifications
//! arrive. What was found is passed to the log, and nothing more is read before the log has processed it, because it
//! would be found a second time. So at most one read's worth waits for the log, or two if the log is slow.

use std::collections::BTreeSet;
use std::time::Duration;

use super::pace::Pace;
use crate::log::{FOLLOWED_MAX, Followed, Hints, Standing};
use crate::model::ProjectId;

/// How often a probe is written to see it come back.
const PROBE_EACH: Duration = Duration::from_secs(5);

/// How soon a probe is tried again if the log had no room for it.
const PROBE_AGAIN: Duration = Duration::from_secs(1);

/// How long to wait for the log to process what was found. It may delay its answer for as long as its store is down.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// How soon to check whether the log has processed it, at first and later.
const ANSWER_PACE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(50));

/// How soon to offer the log again what it had no room for.
const NO_ROOM_WAIT: Duration = Duration::from_millis(20);

/// Maximum number of bytes that one read returns.
pub(super) const BYTES_MAX: usize = 1 << 20;

/// Maximum number of messages of applications that one read returns.
pub(super) const PUBLISHED_MAX: usize = 512;

/// See the top of this file.
pub(super) struct Looks {
    pace: Pace,
    due: Due,
    /// When all projects are due.
    all_at: Duration,
    probe_at: Duration,
    /// When the log was given what it has not processed yet.
    handed_at: Option<Duration>,
    /// The log has no room until then.
    full_until: Duration,
}

#[derive(Debug, Default)]
struct Due {
    projects: BTreeSet<ProjectId>,
    wishes: bool,
    published: bool,
}

/// What to read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// Only these projects, or all that are followed.
    pub(super) projects: Option<Vec<ProjectId>>,
    pub(super) wishes: bool,
    pub(super) published: bool,
}

impl Looks {
    pub(super) fn new(pace: Pace, now: Duration) -> Self {
        Self { pace, due: Due::default(), all_at: now, probe_at: now, handed_at: None, full_until: Duration::ZERO }
    }

    /// Notes a notification of another node.
    pub(super) fn hear(&mut self, hints: Hints, now: Duration) {
        self.due.projects.extend(hints.projects);
        self.due.wishes |= hints.has_wishes;
        self.due.published |= hints.has_published;
        if hints.is_anything {
            self.look_at_all(now);
        }
    }

    /// Notifications may have been lost.
    pub(super) fn look_at_all(&mut self, now: Duration) {
        self.all_at = self.all_at.min(now);
    }

    /// What to read now.
    pub(super) fn next(&mut self, is_log_idle: bool, now: Duration) -> Option<Look> {
        if self.handed_at.is_some_and(|at| now < at + ANSWER_MAX || !is_log_idle) || now < self.full_until {
            return None;
        }
        self.handed_at = None;
        let Due { projects, wishes, published } = std::mem::take(&mut self.due);
        if now >= self.all_at {
            self.all_at = now + self.pace.look_each;
            return Some(Look { projects: None, wishes: true, published: true });
        }
        let has_any = wishes || published || !projects.is_empty();
        has_any.then(|| Look { projects: Some(projects.into_iter().collect()), wishes, published })
    }

    /// The log was given what was found.
    pub(super) fn has_handed(&mut self, now: Duration) {
        self.handed_at = Some(now);
    }

    /// The log has processed it.
    pub(super) fn is_answered(&mut self) {
        self.handed_at = None;
    }

    /// The log had no room for what this read has found.
    pub(super) fn had_no_room(&mut self, look: Look, now: Duration) {
        self.full_until = now + NO_ROOM_WAIT;
        self.look_again(look, now);
    }

    /// There is more to read where this read has found something.
    pub(super) fn look_again(&mut self, look: Look, now: Duration) {
        self.due.wishes |= look.wishes;
        self.due.published |= look.published;
        match look.projects {
            Some(projects) => self.due.projects.extend(projects),
            None => self.look_at_all(now),
        }
    }

    /// Whether it is time to write a probe.
    pub(super) fn probes(&mut self, now: Duration) -> bool {
        let is_due = now >= self.probe_at;
        if is_due {
            self.probe_at = now + PROBE_EACH;
        }
        is_due
    }

    /// The log had no room for the probe.
    pub(super) fn probes_soon(&mut self, now: Duration) {
        self.probe_at = now + PROBE_AGAIN;
    }

    /// How long nothing is due unless a notification arrives.
    pub(super) fn wait(&self, now: Duration) -> Duration {
        if let Some(at) = self.handed_at {
            return if now < at + ANSWER_PACE.1 { ANSWER_PACE.0 } else { ANSWER_PACE.1 };
        }
        let is_due = self.due.wishes || self.due.published || !self.due.projects.is_empty();
        let look_at = if is_due { now } else { self.all_at };
        look_at.max(self.full_until).min(self.probe_at.max(self.full_until)).saturating_sub(now)
    }
}

/// The projects that may have more than this read has found.
pub(super) fn with_more(standings: &[Standing], found: &[Followed]) -> Vec<ProjectId> {
    let fair_part = BYTES_MAX / standings.len().max(1);
    let bytes = |it: &Followed| it.messages.iter().map(|message| message.json.len()).sum::<usize>();
    found
        .iter()
        .filter(|it| 2 * bytes(it) >= fair_part || it.messages.len() >= FOLLOWED_MAX)
        .map(|it| it.project.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{PlaceInRun, StoredMessage};
    use crate::model::Timestamp;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn project(name: &str) -> ProjectId {
        ProjectId::parse(name).expect("an id")
    }

    fn of(name: &str) -> Hints {
        Hints { projects: vec![project(name)], ..Hints::default() }
    }

    const ALL: Look = Look { projects: None, wishes: true, published: true };

    fn looks() -> Looks {
        let mut looks = Looks::new(Pace::notified(at(15_000)), at(0));
        assert!(looks.probes(at(0)));
        assert_eq!(looks.next(true, at(0)), Some(ALL), "what others wrote before it began");
        looks
    }

    #[test]
    fn a_hint_is_looked_at_at_once_and_everything_each_second() {
        let mut looks = looks();
        assert_eq!(looks.wait(at(100)), at(900));
        looks.hear(of("a"), at(200));
        assert_eq!(looks.wait(at(200)), at(0));
        let these = Look { projects: Some(vec![project("a")]), wishes: false, published: false };
        assert_eq!(looks.next(true, at(200)), Some(these));
        assert_eq!((looks.next(true, at(999)), looks.wait(at(999))), (None, at(1)));
        assert_eq!(looks.next(true, at(1000)), Some(ALL));
        looks.hear(Hints { is_anything: true, ..Hints::default() }, at(1200));
        assert_eq!(looks.next(true, at(1200)), Some(ALL));
        assert_eq!(looks.wait(at(1200)), at(1000));
    }

    #[test]
    fn nothing_is_looked_at_before_the_log_has_come_to_what_was_found() {
        let mut looks = looks();
        looks.has_handed(at(10));
        looks.hear(of("a"), at(11));
        assert_eq!((looks.next(true, at(11)), looks.wait(at(11))), (None, at(5)), "it does not turn round and round");
        assert_eq!(looks.wait(at(500)), at(50));
        looks.is_answered();
        assert_eq!(looks.next(true, at(12)).and_then(|look| look.projects), Some(vec![project("a")]));
        looks.has_handed(at(20));
        assert_eq!(looks.next(true, at(1019)), None);
        assert_eq!(looks.next(false, at(5000)), None, "the log has not even taken it");
        assert_eq!(looks.next(true, at(5000)), Some(ALL), "it has, and can't do it: what it says may come late");
    }

    #[test]
    fn what_the_log_had_no_room_for_is_looked_at_again_and_not_at_once() {
        let mut looks = looks();
        looks.hear(of("a"), at(10));
        let look = looks.next(true, at(10)).expect("a look");
        looks.had_no_room(look, at(10));
        looks.hear(of("b"), at(11));
        assert_eq!((looks.next(true, at(11)), looks.wait(at(11))), (None, at(19)));
        let both = looks.next(true, at(30)).and_then(|look| look.projects);
        assert_eq!(both, Some(vec![project("a"), project("b")]));
    }

    #[test]
    fn a_probe_is_written_each_5_seconds_and_sooner_where_there_was_no_room_for_it() {
        let mut looks = looks();
        assert!(!looks.probes(at(4999)));
        assert!(looks.probes(at(5000)));
        looks.probes_soon(at(5000));
        assert!(!looks.probes(at(5999)));
        assert!(looks.probes(at(6000)) && !looks.probes(at(6001)));
    }

    #[test]
    fn of_a_burst_of_small_messages_there_is_more_though_it_weighs_little() {
        let standings = [Standing { project: project("a"), newest: 0, revision: 0 }];
        let message = |seq: usize| StoredMessage {
            seq: seq as u64,
            at: Timestamp::from_millis(0),
            run: None,
            place: PlaceInRun::Middle,
            json: b"{}".as_slice().into(),
        };
        let found = |count| {
            let messages = (1..=count).map(message).collect();
            vec![Followed { project: project("a"), revision: 0, messages }]
        };
        assert_eq!(with_more(&standings, &found(FOLLOWED_MAX)), [project("a")]);
        assert_eq!(with_more(&standings, &found(FOLLOWED_MAX - 1)), []);
    }
}
