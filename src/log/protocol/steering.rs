//! A request to an active run, as a command to the log.

use std::sync::Arc;

use super::Claim;
use crate::model::{ProjectId, RunId, Steering};

/// What someone wants of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct SteerRequest {
    /// By what the call is known when it comes again, and the project.
    pub claim: Claim,
    /// The run.
    pub run: RunId,
    /// Who wants it.
    pub by: Arc<str>,
    /// What is wanted.
    pub what: Steering,
}

impl SteerRequest {
    /// The run's project.
    pub fn project(&self) -> &ProjectId {
        &self.claim.project
    }
}
