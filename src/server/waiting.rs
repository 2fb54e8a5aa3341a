//! A request that waits for another thread.

use std::sync::Arc;

use super::admission::{Metered, Place};
use super::exchange::Exchange;
use crate::api::{Render, RerunRequest};
use crate::auth::Spending;
use crate::log::Subscription;
use crate::model::Taken;

/// A request that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    /// How its answer is shown.
    pub(super) what: What,
    /// Whom the answer is for.
    pub(super) exchange: Exchange,
    /// What of its token's publish rate it takes, unless it is refused.
    pub(super) metered: Option<Taken<Metered>>,
}

/// What a request waits for.
#[derive(Debug)]
pub(super) enum What {
    /// An answer.
    Answer(Render),
    /// Keys, one of which its token may name. It is still in the input, and looked at again.
    Keys,
    /// What a run was made of, to run that again.
    Rerun(Box<RerunRequest>),
    /// A stream.
    Stream {
        /// What it is to be.
        wanted: Arc<Subscription>,
        /// The ticket that it spends.
        spends: Option<Spending>,
        /// Its place among those of its token.
        place: Option<Place>,
    },
}
