//! A request that waits for the answer of another thread.

use std::sync::Arc;

use super::admission::{Metered, Permit};
use super::exchange::Exchange;
use crate::api::{ChangeRequest, Otherwise, Render, RerunRequest, StoredRun};
use crate::auth::Spending;
use crate::log::{StartingPosition, Subscription};
use crate::model::Taken;
use crate::stream::BundleSubscription;

/// A request that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    /// What it waits for, and how its answer is shown.
    pub(super) what: What,
    /// The exchange that the answer goes to.
    pub(super) exchange: Exchange,
    /// Its share of its token's publish rate, which is given back if the request is refused.
    pub(super) metered: Option<Taken<Metered>>,
}

/// What a request waits for.
#[derive(Debug)]
pub(super) enum What {
    /// An answer.
    Answer(Render),
    /// Keys that its token may name. The request stays in the input and is decoded again.
    Keys,
    /// The document of a run, to run it again.
    Rerun(Box<RerunRequest>),
    /// The plan of a run, to change it.
    Change(Box<ChangeRequest>),
    /// A stored plan, to run it.
    Stored(Box<StoredRun>),
    /// A stream.
    Stream {
        /// The subscription.
        wanted: Arc<Subscription>,
        /// The ticket that it spends.
        spends: Option<Spending>,
        /// Its permit among the streams of its auth token.
        permit: Option<Permit>,
        /// What to do if its run is not known.
        otherwise: Option<Otherwise>,
        /// The memory that it takes.
        #[expect(dead_code, reason = "it goes back when it is dropped")]
        held: Option<Taken<usize>>,
    },
    /// A stream of several projects.
    Bundle(Box<WaitingBundle>),
}

/// A stream of several projects that waits until its start in each of them is known.
#[derive(Debug)]
pub(super) struct WaitingBundle {
    /// The subscription.
    pub(super) wanted: Arc<BundleSubscription>,
    /// The starts that are known so far. Empty before the log is asked.
    pub(super) starts: Vec<Option<StartingPosition>>,
    /// Its permit among the questions to the log.
    pub(super) asking: Option<Permit>,
    /// The ticket that it spends.
    pub(super) spends: Option<Spending>,
    /// Its permit among the streams of its auth token.
    pub(super) permit: Option<Permit>,
}
