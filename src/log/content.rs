//! Content that is read piece by piece: what is left of it, and how it is gone on with.

use super::history::Look;
use super::output::OutputRest;
use super::run_content::RunRest;
use super::store::StoreError;
use super::{Answer, Refusal};

/// What is left of content that is read piece by piece.
#[derive(Debug, Clone, PartialEq)]
pub enum Rest {
    /// Of a step's output.
    Output(OutputRest),
    /// Of a run.
    Run(RunRest),
}

/// The first bytes of content, and what is left then; nothing where what was promised is not there any more.
pub(super) type Piece = Option<(Vec<u8>, Option<Box<Rest>>)>;

impl Rest {
    /// What comes behind what was answered before, about so many bytes at most. Where what it was read from was let go
    /// or replaced meanwhile, there is nothing that goes on from it.
    pub(super) fn answer(&self, look: Look<'_>, bytes_max: usize) -> Result<Answer, StoreError> {
        let mut piece = None;
        match self {
            Self::Output(rest) => look(&mut |history| rest.go_on(history, bytes_max).map(|found| piece = found))?,
            Self::Run(rest) => piece = rest.clone().read(look, bytes_max)?,
        }
        Ok(piece.map_or(Answer::Refused(Refusal::OutputReplaced), |(bytes, rest)| Answer::OutputRest { bytes, rest }))
    }
}
