//! Messages as subscribers receive them: encoded once per view and joined, with the marks that readers of them need.
//!
//! A frame is one message in one view, already framed as one chunk of the chunked coding. Most subscribers are sent it
//! as it is.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use super::store::RunNumber;
use crate::auth::IdSigner;
use crate::formats::Format;
use crate::http::{sse, write_chunk};
use crate::model::ProjectId;
use crate::text::tell;

/// How a subscriber is shown messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum View {
    /// As events, for programs.
    #[default]
    Events,
    /// In lines, for people.
    Text,
    /// As events, with those of items between them.
    Items,
    /// One run, retold in a format that frontends read.
    Format(Format),
}

impl View {
    /// The content type of a stream of it.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Events | Self::Items | Self::Format(_) => sse::EVENTS,
            Self::Text => sse::TEXT,
        }
    }

    /// What else the head of a stream of it says.
    pub fn headers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Events | Self::Items | Self::Text => &[],
            Self::Format(format) => format.headers(),
        }
    }

    /// The format that runs are retold in.
    pub fn format(self) -> Option<Format> {
        match self {
            Self::Events | Self::Items | Self::Text => None,
            Self::Format(format) => Some(format),
        }
    }

    /// Whole `events` in this view, as chunks. A format has nothing that they would be in it.
    pub fn of_events(self, events: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Events | Self::Items => events,
            Self::Text => told(&events),
            Self::Format(_) => Vec::new(),
        }
    }
}

/// What whole `events` say in lines, as one chunk; no chunk where they say nothing.
fn told(events: &[u8]) -> Vec<u8> {
    let (mut text, mut chunk) = (Vec::new(), Vec::new());
    tell(events, &mut text);
    write_chunk(&mut chunk, &text);
    chunk
}

/// A row of consecutive messages of one project, encoded in one view.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frames {
    /// The first message's `seq`.
    pub first_seq: u64,
    /// The frames, one after the other.
    pub bytes: Vec<u8>,
    /// One mark a message.
    pub marks: Vec<Mark>,
    /// What is said of items between them, for those who have asked for it.
    pub items: Vec<ItemFrame>,
}

/// What is said of an item. It has no number, and nobody keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemFrame {
    /// How many messages of its [`Frames`] come before it.
    pub behind: usize,
    /// The run that it belongs to.
    pub run: RunNumber,
    /// The frame.
    pub bytes: Vec<u8>,
}

/// Where a message ends in its [`Frames`], and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The offset just after it.
    pub end: usize,
    /// The run that it belongs to, if it is one's.
    pub run: Option<RunNumber>,
    /// Is it the last message of that run?
    pub is_last: bool,
}

impl Frames {
    /// An empty row that goes on from `first_seq`.
    pub fn starting_at(first_seq: u64) -> Self {
        Self { first_seq, ..Self::default() }
    }

    /// The `seq` after the row's last message.
    #[cfg(test)]
    pub fn next_seq(&self) -> u64 {
        self.first_seq + self.marks.len() as u64
    }

    /// Ends the message whose bytes were written last.
    pub fn mark(&mut self, run: Option<RunNumber>, is_last: bool) {
        self.marks.push(Mark { end: self.bytes.len(), run, is_last });
    }

    /// The same messages, which are events here, in lines for people; those before message `from` are left out.
    pub fn told(&self, from: u64) -> Self {
        let known = usize::try_from(from.saturating_sub(self.first_seq)).unwrap_or(usize::MAX).min(self.marks.len());
        let mut told_frames = Self::starting_at(self.first_seq + known as u64);
        let mut start = known.checked_sub(1).map_or(0, |last| self.marks[last].end);
        for mark in &self.marks[known..] {
            told_frames.bytes.append(&mut told(&self.bytes[start..mark.end]));
            told_frames.mark(mark.run, mark.is_last);
            start = mark.end;
        }
        told_frames
    }
}

/// Encodes a message as the frame that subscribers get.
pub(super) fn write_frame(
    to: &mut Vec<u8>,
    view: View,
    signer: &IdSigner,
    id_text: &mut Vec<u8>,
    project: &ProjectId,
    seq: u64,
    json: &[u8],
) {
    match view {
        View::Events | View::Items => {
            id_text.clear();
            signer.write(id_text, project, seq);
            sse::write_event(to, std::str::from_utf8(id_text).ok(), None, json);
        }
        View::Text => {
            let mut event = Vec::new();
            sse::write_event(&mut event, None, None, json);
            to.append(&mut told(&event));
        }
        // Takes more than the message: see `lookup::retelling`.
        View::Format(_) => {}
    }
}

/// Messages of one run with others of its project between them, retold in one format.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    /// It begins after this position of the project.
    pub after: u64,
    /// The frames, one after the other.
    pub bytes: Vec<u8>,
    /// One mark a message.
    pub marks: Vec<RowMark>,
    /// Everything of the run up to here is in it.
    pub up_to: u64,
}

/// Where a message ends in its [`Row`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowMark {
    /// The message's number in its project.
    pub seq: u64,
    /// The offset just after it.
    pub end: usize,
    /// Does a stream end after it? So it does after the last message of the run.
    pub is_last: bool,
}

impl Row {
    /// An empty row after this position.
    pub fn after(position: u64) -> Self {
        Self { after: position, up_to: position, ..Self::default() }
    }

    /// Ends the message whose bytes were written last.
    pub fn mark(&mut self, seq: u64, is_last: bool) {
        self.marks.push(RowMark { seq, end: self.bytes.len(), is_last });
        self.up_to = seq;
    }

    /// Does a stream end after it?
    pub fn has_last(&self) -> bool {
        self.marks.last().is_some_and(|mark| mark.is_last)
    }

    /// The same for one reader.
    pub fn into_page(self) -> Page {
        let (messages, up_to, has_last) = (self.marks.len(), self.up_to, self.has_last());
        Page { bytes: self.bytes.into(), messages, up_to, has_last }
    }
}

/// A piece of history for one reader: the messages after its position, or as many as fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The frames in order. Empty if nothing after the position is for the reader.
    pub bytes: SharedBytes,
    /// How many they are.
    pub messages: usize,
    /// Everything up to here is in `bytes`, or not the reader's.
    pub up_to: u64,
    /// Does it hold the last message of the run that the reader follows?
    pub has_last: bool,
}

/// A stretch of bytes that others may hold too: what many readers are sent is there once.
#[derive(Clone, Default)]
pub struct SharedBytes {
    whole: Arc<[u8]>,
    range: Range<usize>,
}

impl SharedBytes {
    /// The `range` of `whole`, which stays as a whole as long as any stretch of it does. A range beyond it is empty.
    pub(super) fn of(whole: &Arc<[u8]>, range: Range<usize>) -> Self {
        debug_assert!(whole.get(range.clone()).is_some(), "the range is one of it");
        Self { whole: whole.clone(), range }
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.whole.get(self.range.clone()).unwrap_or_default()
    }
}

impl From<Vec<u8>> for SharedBytes {
    fn from(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        Self { whole: bytes.into(), range }
    }
}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self))
    }
}

impl PartialEq for SharedBytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for SharedBytes {}
