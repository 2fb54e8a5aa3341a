//! The delivery of one webhook: what is in progress, what follows from an outcome, and when there is more to do.
//!
//! It uses no clock, thread or socket: the courier passes it due events, outcomes of attempts, and `now`. The queue is
//! in the log; only the few events in progress are held here.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::schedule::{DELAY_MAX, Schedule};
use crate::log::{DueEvent, DueId, DuePage, DueTimes, OutboxChange, WantedDue};
use crate::model::Timestamp;

/// How many attempts of one webhook run at a time. Each webhook has its own limit, so that a slow receiver delays no
/// other.
pub(super) const ON_THEIR_WAY_MAX: usize = 4;

/// See the top of this file.
pub(super) struct Post {
    name: Arc<str>,
    schedule: Schedule,
    body_bytes_max: usize,
    on_their_way: BTreeMap<DueId, Flight>,
    /// The receiver wants no more of it, until the next start.
    is_off: bool,
    /// There may be something due that nobody has looked at.
    is_rung: bool,
    /// When something is due by itself.
    look_at: Option<Timestamp>,
    /// Until when the receiver asked to be left alone.
    paused_until: Option<Timestamp>,
    /// The last attempt was without success.
    is_failing: bool,
}

/// How far an event has come that is on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Flight {
    /// It is being sent, after this many failed attempts.
    Sent { attempts: u32, message_id: String },
    /// What became of it is not kept yet: until it is, it is not sent again.
    Unkept,
}

/// What a webhook asks for.
#[derive(Debug, PartialEq)]
pub(super) enum Wish {
    /// Nothing now.
    Nothing,
    /// To be given what is due.
    Due(WantedDue),
    /// Drop everything that waits.
    LetGo(OutboxChange),
}

/// The result of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The receiver has answered.
    Answered {
        /// With this status.
        status: u16,
        /// It asks to be left alone for so long.
        retry_after: Option<Duration>,
    },
    /// It has not, and why; shows no more of the url than its server.
    Failed(String),
}

impl Sent {
    /// How long the receiver asks to be left alone, within bounds.
    fn asks_for(&self) -> Option<Duration> {
        match self {
            Self::Answered { retry_after, .. } => retry_after.map(|asked| asked.min(DELAY_MAX)),
            Self::Failed(_) => None,
        }
    }
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered { status, .. } => write!(f, "answered {status}"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

/// What follows from an attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The change of the outbox.
    pub(super) change: OutboxChange,
    pub(super) fate: Fate,
    /// What is logged, if that is news.
    pub(super) news: Option<String>,
}

/// The outcome of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The receiver has it.
    Delivered,
    /// It is tried again.
    PutOff,
    /// It is not.
    GivenUp,
    /// It is not, and neither is any other.
    Off,
}

impl Post {
    pub(super) fn new(name: Arc<str>, schedule: Schedule, body_bytes_max: usize) -> Self {
        Self {
            name,
            schedule,
            body_bytes_max,
            on_their_way: BTreeMap::new(),
            is_off: false,
            is_rung: true,
            look_at: None,
            paused_until: None,
            is_failing: false,
        }
    }

    /// There may be something due.
    pub(super) fn ring(&mut self) {
        self.is_rung = true;
    }

    /// How much of it is being sent.
    pub(super) fn sending(&self) -> usize {
        self.on_their_way.values().filter(|flight| **flight != Flight::Unkept).count()
    }

    /// How much is on its way: sent, and not kept as sent.
    pub(super) fn on_their_way(&self) -> usize {
        self.on_their_way.len()
    }

    /// What to do now.
    pub(super) fn wish(&mut self, now: Timestamp) -> Wish {
        let is_due = self.is_rung || self.look_at.is_some_and(|at| at <= now);
        if !is_due {
            return Wish::Nothing;
        }
        if self.is_off {
            (self.is_rung, self.look_at) = (false, None);
            return Wish::LetGo(OutboxChange::LetGo(self.name.clone()));
        }
        if self.paused_until.is_some_and(|until| until > now && until <= self.horizon(now)) {
            return Wish::Nothing;
        }
        let limit = ON_THEIR_WAY_MAX.saturating_sub(self.on_their_way.len());
        if limit == 0 {
            return Wish::Nothing;
        }
        Wish::Due(WantedDue {
            webhook: self.name.clone(),
            times: DueTimes { now, horizon: self.horizon(now) },
            limit,
            except: self.on_their_way.keys().copied().collect(),
            body_bytes_max: self.body_bytes_max,
        })
    }

    /// Takes the due events: they are under way from now on.
    pub(super) fn take(&mut self, page: &DuePage) {
        self.look_at = page.next_at;
        for DueEvent { id, attempts, message_id, .. } in &page.events {
            let flight = Flight::Sent { attempts: *attempts, message_id: message_id.clone() };
            self.on_their_way.insert(*id, flight);
        }
        // Where there is no room for more, there may be more.
        self.is_rung = self.on_their_way.len() >= ON_THEIR_WAY_MAX;
    }

    /// An attempt has ended. `chance` is from 0 to 1, and no one knows it before.
    pub(super) fn ended(&mut self, id: DueId, sent: Sent, now: Timestamp, chance: f64) -> Option<Verdict> {
        let flight = self.on_their_way.get_mut(&id)?;
        let Flight::Sent { attempts, message_id } = std::mem::replace(flight, Flight::Unkept) else { return None };
        Some(match sent {
            Sent::Answered { status: 200..=299, .. } => self.delivered(id),
            Sent::Answered { status: 410, .. } => self.turn_off(),
            sent => self.not_taken(id, attempts + 1, &message_id, sent, now, chance),
        })
    }

    /// What became of these is kept.
    pub(super) fn kept(&mut self, change: &OutboxChange) {
        match change {
            OutboxChange::Done(id) | OutboxChange::PutOff { id, .. } => drop(self.on_their_way.remove(id)),
            OutboxChange::LetGo(webhook) if *webhook == self.name => {
                self.on_their_way.retain(|_, flight| *flight != Flight::Unkept);
            }
            OutboxChange::LetGo(_) | OutboxChange::Due(_) => {}
        }
        if let OutboxChange::PutOff { next_at, .. } = change {
            self.look_at = Some(self.look_at.map_or(*next_at, |at| at.min(*next_at)));
        }
    }

    /// When there is something to do though nothing happens.
    pub(super) fn next_at(&self) -> Option<Timestamp> {
        if self.on_their_way.len() >= ON_THEIR_WAY_MAX {
            return None;
        }
        match (self.is_rung, self.paused_until) {
            (true, paused_until) => paused_until,
            (false, paused_until) => self.look_at.map(|at| at.max(paused_until.unwrap_or_default())),
        }
    }

    fn delivered(&mut self, id: DueId) -> Verdict {
        let was_failing = std::mem::take(&mut self.is_failing);
        self.paused_until = None;
        let news = was_failing.then(|| format!("webhook {}: the receiver accepts events again", self.name));
        Verdict { change: OutboxChange::Done(id), fate: Fate::Delivered, news }
    }

    /// What Standard Webhooks has a sender do then.
    fn turn_off(&mut self) -> Verdict {
        self.is_off = true;
        let news = format!(
            "webhook {}: the receiver answered 410 Gone; the webhook is off until the next start, and its queued events are dropped",
            self.name
        );
        Verdict { change: OutboxChange::LetGo(self.name.clone()), fate: Fate::Off, news: Some(news) }
    }

    fn not_taken(
        &mut self,
        id: DueId,
        attempts: u32,
        message_id: &str,
        sent: Sent,
        now: Timestamp,
        chance: f64,
    ) -> Verdict {
        let (why, asked) = (sent.to_string(), sent.asks_for());
        let later = |delay: Duration| now.plus_millis(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
        self.paused_until = asked.map(later).or(self.paused_until);
        let was_failing = std::mem::replace(&mut self.is_failing, true);
        let (name, all) = (&self.name, self.schedule.attempts());
        match self.schedule.delay(attempts, asked, chance).map(later) {
            Some(next_at) => {
                let news = format!(
                    "webhook {name}: attempt {attempts} of {all} to deliver event {message_id} failed: {why}; the next attempt is at \
                     {next_at}"
                );
                let change = OutboxChange::PutOff { id, attempts, next_at };
                Verdict { change, fate: Fate::PutOff, news: (!was_failing).then_some(news) }
            }
            None => {
                let news = format!("webhook {name}: gave up on event {message_id} after {attempts} attempts: {why}");
                Verdict { change: OutboxChange::Done(id), fate: Fate::GivenUp, news: Some(news) }
            }
        }
    }

    /// Beyond what anything is put off until.
    fn horizon(&self, now: Timestamp) -> Timestamp {
        now.plus_millis(u64::try_from(self.schedule.horizon().as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests;
