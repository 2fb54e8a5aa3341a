//! How a stream begins, in two types: what is wanted, and where that begins.

use std::sync::Arc;

use super::{Resume, ResumeFrom};
use crate::log::frames::{Frames, View};
use crate::log::store::RunNumber;
use crate::log::views::Snapshot;
use crate::model::{ProjectId, RunId, Timestamp};

/// What a subscriber wants. `api` makes it of the request, once; the log says where it [begins](StartingPosition), and the
/// connection manager keeps the stream by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// What to watch.
    pub project: ProjectId,
    /// Go on behind this position, if the subscriber shows one.
    pub resume: Option<ResumeFrom>,
    /// Send this run's messages alone, and end behind its last.
    pub run: Option<RunId>,
    /// Begin with snapshots of runs.
    pub snapshots: bool,
    /// How messages are shown.
    pub view: View,
    /// Send heartbeats as messages instead of comments.
    pub heartbeat_as_message: bool,
    /// Whose streams it counts towards, where it comes by a token.
    pub token_key: Option<u64>,
    /// When the subscriber's token ends.
    pub expires_at: Option<Timestamp>,
    /// It comes from an `EventSource`, or from who acts like one: any status but 200 would make that give up for good.
    pub is_event_source: bool,
}

impl Subscription {
    /// To all of a project, from now on and for everyone.
    pub fn to(project: ProjectId) -> Self {
        Self {
            project,
            resume: None,
            run: None,
            snapshots: false,
            view: View::default(),
            heartbeat_as_message: false,
            token_key: None,
            expires_at: None,
            is_event_source: false,
        }
    }
}

/// Where a stream begins, or begins anew: a position in the log, and what is told of everything before it.
#[derive(Debug)]
pub struct StartingPosition {
    /// The project.
    pub project: ProjectId,
    /// Behind this message. Everything up to it the subscriber has, or is told of by the snapshots.
    pub after: u64,
    /// How that is to what the subscriber had.
    pub resume: Resume,
    /// The run that it follows alone.
    pub run: Option<RunNumber>,
    /// That run has ended and the subscriber has seen it: there is no stream to begin.
    pub is_over: bool,
    /// `workflow_snapshot` messages.
    pub snapshots: Vec<Arc<[u8]>>,
    /// Those that are still to be made.
    pub(in crate::log) unmade: Vec<Arc<Snapshot>>,
    /// The project's newest messages, where the loop was not sent them so far.
    pub backlog: Option<Frames>,
}

impl StartingPosition {
    /// Of a stream of everything behind message `after`, without snapshots.
    pub fn new(project: &ProjectId, after: u64, resume: Resume) -> Self {
        Self {
            project: project.clone(),
            after,
            resume,
            run: None,
            is_over: false,
            snapshots: Vec::new(),
            unmade: Vec::new(),
            backlog: None,
        }
    }
}
