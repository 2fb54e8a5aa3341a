//! Messages as subscribers get them: encoded once, joined, with the marks that a reader of them needs.

/// A row of consecutive messages of one project, encoded as SSE events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frames {
    /// The first message's `seq`.
    pub first_seq: u64,
    /// The events, one after the other.
    pub bytes: Vec<u8>,
    /// One mark a message.
    pub marks: Vec<Mark>,
}

/// Where a message ends in its [`Frames`], and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The offset just behind it.
    pub end: usize,
    /// The run that it belongs to, if it is one's.
    pub run: Option<RunNumber>,
    /// Is it the last message of that run?
    pub is_last: bool,
}

/// A run's number within its data directory: what messages are filtered by. Never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunNumber(pub std::num::NonZeroU64);

impl Frames {
    /// An empty row that goes on from `first_seq`.
    pub fn starting_at(first_seq: u64) -> Self {
        Self { first_seq, ..Self::default() }
    }

    /// The `seq` behind the row's last message.
    pub fn next_seq(&self) -> u64 {
        self.first_seq + self.marks.len() as u64
    }

    /// Ends the message whose bytes were written last.
    pub fn mark(&mut self, run: Option<RunNumber>, is_last: bool) {
        self.marks.push(Mark { end: self.bytes.len(), run, is_last });
    }
}

/// A piece of history for one reader: the messages behind its position, or as many as fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The events, one after the other; none where nothing behind the position is the reader's.
    pub bytes: Vec<u8>,
    /// How many they are.
    pub messages: usize,
    /// Everything up to here is in `bytes`, or not the reader's.
    pub up_to: u64,
    /// Does it hold the last message of the run that the reader follows?
    pub has_last: bool,
}
