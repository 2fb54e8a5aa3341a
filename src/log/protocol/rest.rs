//! The rest of content that is read in pieces. The reader returns it to get the next piece.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::log::store::RunNumber;
use crate::model::{OutputStream, RunState, StepId};

/// What is left of content.
#[derive(Debug, Clone, PartialEq)]
pub enum Rest {
    /// Of a step's output.
    Output(OutputRest),
    /// Of an output that no step wrote as it is.
    Made(MadeRest),
    /// Of a run.
    Run(RunRest),
}

/// What is left of an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputRest {
    pub(in crate::log) number: RunNumber,
    pub(in crate::log) step: StepId,
    /// Of this attempt. Bytes of another do not go on from what was read.
    pub(in crate::log) attempt: u32,
    pub(in crate::log) stream: OutputStream,
    pub(in crate::log) range: Range<u64>,
}

/// What is left of an output that was made of what a step returned: once, for all who read of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeRest {
    pub(in crate::log) made: Arc<Made>,
    pub(in crate::log) range: Range<u64>,
}

/// What a step returned, written out.
#[derive(Debug, PartialEq, Eq)]
pub struct Made {
    pub(in crate::log) bytes: Vec<u8>,
    pub(in crate::log) is_json: bool,
}

/// What is left of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRest {
    pub(in crate::log) number: RunNumber,
    /// Of one that has ended the same for all who read it.
    pub(in crate::log) state: Arc<RunState>,
    /// The steps whose outputs are shown whole, by their places, and the size of those.
    pub(in crate::log) wholes: VecDeque<(usize, u64)>,
    /// The step that is written next.
    pub(in crate::log) next: usize,
    /// What comes before it.
    pub(in crate::log) parts: VecDeque<Part>,
    /// What comes behind the last.
    pub(in crate::log) end: Vec<u8>,
}

/// What comes next of a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// This text.
    Text(Vec<u8>),
    /// These bytes of a step's whole output.
    Whole(StepId, Range<u64>),
}
