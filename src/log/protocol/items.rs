//! A request for a run and the items of its steps.

use crate::model::StepStatus;

/// The items of a step that a call asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WantedItems {
    /// Behind this one.
    pub after: Option<u32>,
    /// Only those.
    pub status: Option<StepStatus>,
    /// The maximum number.
    pub limit: usize,
}

/// The parts of a run that a call asks for besides its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WantedRun {
    /// Its outputs whole, or as a snapshot has them.
    pub whole_outputs: bool,
    /// The items of its steps, as many as there is room for.
    pub items: bool,
}

impl WantedRun {
    /// With whole outputs.
    pub const WHOLE: Self = Self { whole_outputs: true, items: false };
    /// As a snapshot has it.
    pub const CUT: Self = Self { whole_outputs: false, items: false };
}
