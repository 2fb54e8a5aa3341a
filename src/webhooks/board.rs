//! The state of all webhooks, for the API and the metrics: written by the courier, read by the loop.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::declaration::WebhookDeclaration;
use super::post::Fate;
use crate::log::OutboxChange;
use crate::model::{Notable, ProjectId, Timestamp};

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Board(Mutex<Vec<Standing>>);

/// The state of a webhook.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Standing {
    name: String,
    /// The part of its URL that may be shown.
    server: String,
    events: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    projects: Option<Vec<ProjectId>>,
    /// `on`, or `off` where the receiver wants no more of it.
    state: &'static str,
    /// Events that wait, those on their way included.
    pub(super) pending: u64,
    pub(super) on_their_way: usize,
    /// Events that were taken since the start.
    pub(super) delivered: u64,
    /// Attempts without success since the start.
    pub(super) failed: u64,
    /// Events given up since the start, without those dropped because too many were queued.
    pub(super) given_up: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_attempt_at: Option<Timestamp>,
    /// `204`, or why there was no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_result: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_attempt_at: Option<Timestamp>,
}

impl Standing {
    /// An attempt has ended so, and that is kept: what is counted is not sent once more.
    pub(super) fn count(&mut self, fate: Fate, change: &OutboxChange) {
        match fate {
            Fate::Delivered => self.delivered += 1,
            Fate::PutOff => self.failed += 1,
            Fate::GivenUp => (self.failed, self.given_up) = (self.failed + 1, self.given_up + 1),
            Fate::Off => {
                (self.state, self.failed, self.given_up) = ("off", self.failed + 1, self.given_up + self.pending)
            }
        }
        match change {
            OutboxChange::PutOff { next_at, .. } => {
                self.next_attempt_at = Some(self.next_attempt_at.map_or(*next_at, |at| at.min(*next_at)));
            }
            OutboxChange::LetGo(_) => (self.pending, self.next_attempt_at) = (0, None),
            OutboxChange::Done(_) | OutboxChange::Due(_) => self.pending = self.pending.saturating_sub(1),
        }
    }
}

impl Board {
    /// A board of these webhooks.
    pub(crate) fn of(declarations: &[WebhookDeclaration]) -> Self {
        let standings = declarations.iter().map(|it| Standing {
            name: it.name.clone(),
            server: crate::outbound::origin(it.url.expose()).to_owned(),
            events: it.events.iter().map(|event: &Notable| event.as_str()).collect(),
            projects: it.projects.clone(),
            state: "on",
            pending: 0,
            on_their_way: 0,
            delivered: 0,
            failed: 0,
            given_up: 0,
            last_attempt_at: None,
            last_result: None,
            next_attempt_at: None,
        });
        Self(Mutex::new(standings.collect()))
    }

    /// All of them as JSON.
    pub(crate) fn json(&self) -> Vec<u8> {
        let webhooks = serde_json::to_vec(&*self.lock()).unwrap_or_else(|_| b"[]".to_vec());
        [b"{\"webhooks\":", webhooks.as_slice(), b"}"].concat()
    }

    /// For the metrics: name, pending, under way, delivered, failed, given up.
    pub(crate) fn counts(&self) -> Vec<(String, [u64; 5])> {
        let counts = |it: &Standing| {
            let counts = [it.pending, it.on_their_way as u64, it.delivered, it.failed, it.given_up];
            (it.name.clone(), counts)
        };
        self.lock().iter().map(counts).collect()
    }

    /// Changes the state of the webhook at this index.
    pub(super) fn change(&self, place: usize, change: impl FnOnce(&mut Standing)) {
        if let Some(standing) = self.lock().get_mut(place) {
            change(standing);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Standing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
