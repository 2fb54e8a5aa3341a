//! The rest of content that is read in pieces. The reader returns it to get the next piece.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::log::store::RunNumber;
use crate::model::{OutputStream, RunState, StepId};

/// The rest of a content that is sent in pieces.
#[derive(Debug, Clone, PartialEq)]
pub enum Rest {
    /// The rest of a step's output.
    Output(OutputRest),
    /// The rest of an output that is made of a return value.
    Made(MadeRest),
    /// The rest of a run.
    Run(RunRest),
}

/// The rest of an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputRest {
    pub(in crate::log) number: RunNumber,
    pub(in crate::log) step: StepId,
    /// The attempt. Bytes of another attempt do not continue what was read.
    pub(in crate::log) attempt: u32,
    pub(in crate::log) stream: OutputStream,
    pub(in crate::log) range: Range<u64>,
}

/// The rest of an output that is made of a return value, once for all readers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeRest {
    pub(in crate::log) made: Arc<Made>,
    pub(in crate::log) range: Range<u64>,
}

/// A return value as text.
#[derive(Debug, PartialEq, Eq)]
pub struct Made {
    pub(in crate::log) bytes: Vec<u8>,
    pub(in crate::log) is_json: bool,
}

/// The rest of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRest {
    pub(in crate::log) number: RunNumber,
    /// The state. All readers share that of a run that has ended.
    pub(in crate::log) state: Arc<RunState>,
    /// The steps whose outputs are shown whole, by their places, and the size of those.
    pub(in crate::log) wholes: VecDeque<(usize, u64)>,
    /// The step that is written next.
    pub(in crate::log) next: usize,
    /// The parts that come before it.
    pub(in crate::log) parts: VecDeque<Part>,
    /// The bytes after the last part.
    pub(in crate::log) end: Vec<u8>,
}

/// The next part of a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// This text.
    Text(Vec<u8>),
    /// These bytes of a step's whole output.
    Whole(StepId, Range<u64>),
}
