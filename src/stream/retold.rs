//! A run of a project in another format: the source of its channel.
//!
//! It is told that the run has new messages, and asks the log for them in its format. So a message is converted to a
//! format once, by another thread, however many streams follow it.

use super::backlog::Backlog;
use crate::formats::Format;
use crate::log::{Row, RunNumber};

/// A run in a format, as far as it was read. The log is asked for the rest, one piece at a time; later messages come
/// with the next piece.
pub(super) struct Retold {
    pub(super) project: u32,
    pub(super) run: RunNumber,
    pub(super) format: Format,
    backlog: Backlog,
    /// The run may have said something up to this position.
    heard: u64,
    /// A piece has been asked for, and has not come.
    is_asked: bool,
    /// A message has come that ends the streams.
    has_end: bool,
}

impl Retold {
    /// A run that was read up to `position`.
    pub(super) fn after(position: u64, project: u32, run: RunNumber, format: Format) -> Self {
        let backlog = Backlog::after(position);
        Self { project, run, format, backlog, heard: position, is_asked: false, has_end: false }
    }

    /// The run may have new messages up to this position. Is there something to ask for now, and was nothing before?
    pub(super) fn hear(&mut self, position: u64) -> bool {
        let lacked = self.lacks();
        self.heard = self.heard.max(position);
        !lacked && self.lacks()
    }

    /// Is there something to ask for, and nothing on its way?
    pub(super) fn lacks(&self) -> bool {
        // Behind the end of a turn the run goes on.
        let may_come = !self.has_end || self.format.is_in_turns();
        self.heard > self.backlog.newest() && !self.is_asked && may_come
    }

    /// Notes that it was asked for. Returns the position after which.
    pub(super) fn ask(&mut self) -> u64 {
        self.is_asked = true;
        self.backlog.newest()
    }

    /// What was asked for has come, or can't.
    pub(super) fn answered(&mut self) {
        self.is_asked = false;
    }

    /// What those who watch are written from.
    pub(super) fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    /// Holds that to so many bytes.
    pub(super) fn trim(&mut self, bytes_max: usize) {
        self.backlog.trim(bytes_max);
    }

    /// Whether a message has come after which streams end. Writes to streams then watch for it.
    pub(super) fn has_end(&self) -> bool {
        self.has_end
    }

    /// Takes what comes next. Is it of any concern for those who watch? Where something between is missing, they read on
    /// from the log.
    pub(super) fn append(&mut self, row: &Row, bytes_max: usize) -> bool {
        let is_news = !row.marks.is_empty() || row.after > self.backlog.newest();
        self.has_end |= row.marks.iter().any(|mark| mark.is_last);
        self.backlog.append_row(row);
        self.backlog.trim(bytes_max);
        is_news
    }
}
