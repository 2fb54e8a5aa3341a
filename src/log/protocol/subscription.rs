//! How a stream begins, in two types: what the client wants, and where its stream starts.

use std::sync::Arc;

use super::{ResetReason, Resume, ResumeFrom};
use crate::formats::{Format, Had, Names};
use crate::log::frames::{Frames, Row, View};
use crate::log::store::RunNumber;
use crate::log::views::{RunView, Snapshot};
use crate::model::{ProjectId, RunId, Timestamp};

/// What a client subscribes to. `api` reads it from the request, the log says where the stream
/// [begins](StartingPosition), and the connection manager serves the stream by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The project to watch.
    pub project: ProjectId,
    /// The position that the client shows: the stream continues after it.
    pub resume: Option<ResumeFrom>,
    /// Send only the messages of this run, and end after its last.
    pub run: Option<RunId>,
    /// Begin with snapshots of runs.
    pub snapshots: bool,
    /// How messages are shown.
    pub view: View,
    /// Send heartbeats as messages instead of comments.
    pub heartbeat_as_message: bool,
    /// The token whose streams it counts towards, if it comes with a token.
    pub token_key: Option<u64>,
    /// When the subscriber's token ends.
    pub expires_at: Option<Timestamp>,
    /// The client is an `EventSource`, or acts like one: any status but 200 would make it give up for good.
    pub is_event_source: bool,
    /// What the client of a format says about itself.
    pub said: Option<Box<ClientSaid>>,
}

/// What the client of a format says about itself in its request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientSaid {
    /// Its names for the thread and the run.
    pub names: Names,
    /// The messages that it has: a JSON array.
    pub messages: Option<Box<str>>,
    /// The part of the run's message that it has, if it continues that message.
    pub had: Option<Had>,
}

impl ClientSaid {
    /// About how many bytes it takes to keep.
    pub fn bytes(&self) -> usize {
        self.messages.as_ref().map_or(0, |messages| messages.len()) + self.had.as_ref().map_or(0, Had::bytes)
    }
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
            said: None,
        }
    }
}

/// Where a stream begins, or begins again: a position in the log, and what is told of everything before it.
#[derive(Debug)]
pub struct StartingPosition {
    /// The project.
    pub project: ProjectId,
    /// The stream begins after this message. The client has everything up to it, or learns it from the snapshots.
    pub after: u64,
    /// How that is to what the subscriber had.
    pub resume: Resume,
    /// The run that it follows alone.
    pub run: Option<RunNumber>,
    /// That run has ended and the subscriber has seen it: there is no stream to begin.
    pub is_over: bool,
    /// `workflow_snapshot` messages.
    pub snapshots: Vec<Arc<[u8]>>,
    /// Snapshots that are still to be made.
    pub(in crate::log) unmade: Vec<Arc<Snapshot>>,
    /// The project's newest messages, where the loop was not sent them so far.
    pub backlog: Option<Frames>,
    /// What a stream in a format is sent first, unless it continues where it was.
    pub retold: Option<Box<Retold>>,
    /// The run that is still to be retold.
    pub(in crate::log) unretold: Option<Unretold>,
}

/// A run so far, retold in a format.
#[derive(Debug)]
pub struct Retold {
    /// The format.
    pub format: Format,
    /// What a new stream is sent first, as chunks.
    pub prelude: Vec<u8>,
    /// The stream ends after it.
    pub ends: bool,
    /// When the run ended, where it has.
    pub ended_at: Option<Timestamp>,
    /// What the run's channel lacks up to there. None if that is too much.
    pub row: Option<Row>,
}

/// A run that is to be retold for a format.
#[derive(Debug)]
pub(in crate::log) struct Unretold {
    pub(in crate::log) wanted: Arc<Subscription>,
    /// The state of the run, if it has not ended.
    pub(in crate::log) live: Option<RunView>,
}

impl StartingPosition {
    /// The position of a stream that begins after message `after`, without snapshots.
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
            retold: None,
            unretold: None,
        }
    }

    /// The stream begins at this position, with the run retold.
    pub(in crate::log) fn begin_retold(&mut self, at: u64, retold: Retold) {
        self.after = at;
        self.retold = Some(Box::new(retold));
        if self.resume == Resume::Resumed {
            // The client's position is none of this run that the stream can continue from.
            self.resume = Resume::Reset(ResetReason::UnknownId);
        }
    }

    /// The bytes of what is sent about everything before it.
    pub fn bytes(&self) -> usize {
        let retold = self.retold.as_ref().map_or(0, |retold| retold.prelude.len());
        self.snapshots.iter().map(|snapshot| snapshot.len()).sum::<usize>() + retold
    }

    /// Is there nothing left to make before the first message?
    pub fn is_told(&self) -> bool {
        self.retold.as_ref().is_some_and(|retold| retold.ends)
    }
}
