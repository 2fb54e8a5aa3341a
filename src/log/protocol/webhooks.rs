//! Which webhook receives which events, and the events that are due.

use std::sync::Arc;

use crate::log::store::DueId;
use crate::model::{Notable, ProjectId, Timestamp};

/// The webhooks that there are, and how much may wait for each.
#[derive(Debug, Clone, Default)]
pub struct Webhooks {
    /// All of them.
    pub filters: Vec<WebhookFilter>,
    /// The most rows that may wait for one webhook; beyond that its oldest are dropped.
    pub rows_max: u64,
}

/// The events that a webhook subscribes to.
#[derive(Debug, Clone)]
pub struct WebhookFilter {
    /// The webhook's name.
    pub name: Arc<str>,
    /// Only these.
    pub events: Vec<Notable>,
    /// The projects; none means all.
    pub projects: Option<Vec<ProjectId>>,
}

impl WebhookFilter {
    /// Does the webhook subscribe to this?
    pub fn wants(&self, notable: Notable, project: &ProjectId) -> bool {
        self.events.contains(&notable) && self.projects.as_ref().is_none_or(|projects| projects.contains(project))
    }
}

/// The events that are due for a webhook now.
#[derive(Debug, Default)]
pub struct DuePage {
    /// As much of it as was asked for.
    pub events: Vec<DueEvent>,
    /// When the next event becomes due.
    pub next_at: Option<Timestamp>,
    /// How much waits in all.
    pub waiting: u64,
}

/// An event to be sent.
#[derive(Debug)]
pub struct DueEvent {
    /// Its row.
    pub id: DueId,
    /// The number of failed attempts.
    pub attempts: u32,
    /// The id of the message.
    pub message_id: String,
    /// The event: see [`cloudevents`](crate::formats::cloudevents).
    pub body: Vec<u8>,
}
