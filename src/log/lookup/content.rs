//! Content that is read in pieces: the rest of it, and how to continue.

use crate::log::protocol::{Answer, Refusal, Rest};
use crate::log::store::{Look, StoreError};

/// The first bytes of content, and what is left then; nothing where what was promised is not there any more.
pub(in crate::log) type Piece = Option<(Vec<u8>, Option<Box<Rest>>)>;

impl Rest {
    /// The next piece, of about `bytes_max` bytes at most. If its source was deleted or replaced meanwhile, there is no
    /// next piece.
    pub(in crate::log) fn answer(&self, look: Look<'_>, bytes_max: usize) -> Result<Answer, StoreError> {
        let mut piece = None;
        match self {
            Self::Output(rest) => look(&mut |history| rest.go_on(history, bytes_max).map(|found| piece = found))?,
            Self::Made(rest) => piece = Some(rest.clone().read(bytes_max)),
            Self::Run(rest) => piece = rest.clone().read(look, bytes_max)?,
        }
        Ok(piece.map_or(Answer::Refused(Refusal::OutputReplaced), |(bytes, rest)| Answer::OutputRest { bytes, rest }))
    }
}
