//! How a stream begins: its position, as far as the backlog determines it, and what it is sent first.

use std::io::Write;

use super::ConnectionManager;
use crate::http::Coding;
use crate::log::{Resume, ResumeFrom, StartingPosition, Subscription};
use crate::model::{Now, ProjectId, SlabKey};
use crate::stream::control;
use crate::stream::subscriber::Transport;

impl<S: Write> ConnectionManager<S> {
    /// Where a stream begins that needs nothing of the log: its project's backlog is held, and reaches as far back as the
    /// subscriber was.
    pub fn starting_position(&self, wanted: &Subscription) -> Option<StartingPosition> {
        let project = &wanted.project;
        let (after, resume) = match wanted.resume {
            _ if wanted.run.is_some() => return None,
            Some(ResumeFrom::Seq(seq)) if self.reaches(project, seq) => (seq, Resume::Resumed),
            None if !wanted.snapshots => (self.newest(project)?, Resume::Fresh),
            _ => return None,
        };
        Some(StartingPosition::new(project, after, resume))
    }

    /// Begins a stream of an open project: says where that is, and writes what it lacks.
    ///
    /// # Errors
    /// The socket comes back where the project is not open.
    pub fn begin(
        &mut self,
        mut transport: Transport<S>,
        wanted: &Subscription,
        start: &StartingPosition,
        now: Now,
    ) -> Result<SlabKey, S> {
        if wanted.view.format().is_some() {
            return self.begin_retold(transport, wanted, start, now);
        }
        let (mut events, mut id) = (Vec::new(), Vec::new());
        self.signer.write(&mut id, &start.project, start.after);
        control::write_connected(&mut events, start, self.settings.heartbeat, Some((self.settings.retry_ms, &id)));
        control::write_reset(&mut events, start);
        transport.preface.append(&mut transport.coding.encoded(wanted.view.of_events(events)));
        self.add_sse(transport, wanted, start, now)
    }

    /// The response for a client that can't have a stream now: a time to come back at, because any status but 200 would
    /// make an `EventSource` give up for good.
    pub fn busy<'p>(&mut self, projects: impl IntoIterator<Item = &'p ProjectId>, coding: Coding) -> Vec<u8> {
        let mut retry_ms = Some(self.reconnection_ms().max(1));
        let mut events = Vec::new();
        for project in projects {
            control::write_closing(&mut events, project, 0, "busy", retry_ms.take());
        }
        let mut content = coding.encoded(events);
        content.extend_from_slice(coding.end());
        content
    }
}
