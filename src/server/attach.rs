//! From a connection to a stream: what a subscriber is told first.

use crate::api::StreamRequest;
use crate::auth::{IdSigner, Spending};
use crate::http::{Coding, sse};
use crate::log::{Attached, Command, Query, ReplyTo, ResetReason, Resume, ResumeFrom, RunNumber, View};
use crate::model::{ProjectId, Timestamp, write_message};
use crate::stream::NewStream;

use super::admission::Place;

/// A stream that waits for the log to say where it begins.
#[derive(Debug)]
pub(super) struct Attaching {
    pub(super) project: ProjectId,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) heartbeat_as_message: bool,
    pub(super) view: View,
    pub(super) coding: Coding,
    /// It would give up for good on any status but 200.
    pub(super) is_event_source: bool,
    /// The ticket that it spends.
    pub(super) spends: Option<Spending>,
    /// Its place among those of its token.
    pub(super) place: Option<Place>,
    /// What the log was asked.
    pub(super) query: Query,
}

impl Attaching {
    /// What the log is to do.
    pub(super) fn command(&self, reply: ReplyTo) -> Command {
        let query = self.query.clone();
        match &self.spends {
            Some(spends) => Command::Spend { note: spends.note().clone(), query, reply },
            None => Command::Read { query, reply },
        }
    }

    /// The stream begins: its ticket stays spent.
    pub(super) fn keep(&mut self) {
        if let Some(spends) = self.spends.take() {
            spends.keep();
        }
    }
}

/// What every stream is told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Greeting {
    /// Milliseconds between reconnects.
    pub(super) retry_ms: u64,
    /// Milliseconds between heartbeats.
    pub(super) heartbeat_ms: u64,
}

/// What the log is asked before a stream begins.
pub(super) fn query(request: &StreamRequest) -> Query {
    Query::Attach {
        project: request.project.clone(),
        resume: request.resume,
        run: request.run.clone(),
        snapshots: request.snapshots,
    }
}

/// Where a stream begins, and how, that needs nothing of the log: its project's backlog is held, up to message `newest`,
/// and `reaches` what is behind a message.
pub(super) fn beginning_in_backlog(
    request: &StreamRequest,
    newest: Option<u64>,
    reaches: impl FnOnce(u64) -> bool,
) -> Option<(u64, Resume)> {
    let needs_log = request.run.is_some() || request.spends.is_some();
    match request.resume {
        _ if needs_log => None,
        Some(ResumeFrom::Seq(seq)) => reaches(seq).then_some((seq, Resume::Resumed)),
        Some(ResumeFrom::Unknown) => None,
        None if request.snapshots => None,
        None => newest.map(|newest| (newest, Resume::Fresh)),
    }
}

/// The beginning of a stream: `connected` and, where it can't go on from where the client was, why, and snapshots.
pub(super) struct Beginning<'a> {
    pub(super) project: &'a ProjectId,
    pub(super) position: u64,
    pub(super) resume: Resume,
    pub(super) run: Option<RunNumber>,
    pub(super) snapshots: &'a [std::sync::Arc<[u8]>],
}

impl<'a> Beginning<'a> {
    pub(super) fn of(project: &'a ProjectId, attached: &'a Attached) -> Self {
        Self {
            project,
            position: attached.position,
            resume: attached.resume,
            run: attached.run,
            snapshots: &attached.snapshots,
        }
    }

    /// The stream, with `head` before everything.
    pub(super) fn stream(
        &self,
        attaching: &Attaching,
        head: Vec<u8>,
        greeting: Greeting,
        signer: &IdSigner,
    ) -> NewStream {
        let (mut preface, mut events) = (head, Vec::new());
        self.write_connected(&mut events, greeting, signer);
        self.write_reset(&mut events);
        preface.append(&mut attaching.coding.encoded(attaching.view.of_events(events)));
        NewStream {
            after: self.position,
            preface,
            only_run: self.run,
            heartbeat_as_message: attaching.heartbeat_as_message,
            view: attaching.view,
            coding: attaching.coding,
            expires_at: attaching.expires_at,
            socket_token: 0,
        }
    }

    /// `connected` and the position that the stream goes on from, in one block with `retry:`.
    fn write_connected(&self, to: &mut Vec<u8>, greeting: Greeting, signer: &IdSigner) {
        let resume = match self.resume {
            Resume::Fresh => "fresh",
            Resume::Resumed => "resumed",
            Resume::Reset(_) => "reset",
        };
        let payload = format!("{{\"resume\":\"{resume}\",\"heartbeat\":{}}}", greeting.heartbeat_ms);
        let mut message = Vec::with_capacity(160);
        write_message(&mut message, "connected", self.project, self.position, payload.as_bytes());
        let mut id = Vec::with_capacity(64);
        signer.write(&mut id, self.project, self.position);
        sse::write_event(to, str::from_utf8(&id).ok(), Some(greeting.retry_ms), &message);
    }

    /// `stream_reset`, where there was one, and the snapshots.
    pub(super) fn write_reset(&self, to: &mut Vec<u8>) {
        if let Resume::Reset(reason) = self.resume {
            write_reset_message(to, self.project, self.position, reason);
        }
        for snapshot in self.snapshots {
            sse::write_event(to, None, None, snapshot);
        }
    }
}

fn write_reset_message(to: &mut Vec<u8>, project: &ProjectId, position: u64, reason: ResetReason) {
    let payload = format!("{{\"reason\":\"{}\"}}", reason.as_str());
    let mut message = Vec::new();
    write_message(&mut message, "stream_reset", project, position, payload.as_bytes());
    sse::write_event(to, None, None, &message);
}

/// What a client that can't have a stream just now gets in its place: 200 and a time to come back at, because any other
/// status would make an `EventSource` give up for good.
pub(super) fn write_busy(to: &mut Vec<u8>, project: &ProjectId, retry_ms: u64) {
    let mut message = Vec::new();
    write_message(&mut message, "stream_closing", project, 0, br#"{"reason":"busy"}"#);
    sse::write_event(to, None, Some(retry_ms), &message);
}
