//! What several nodes need from a shared store: which nodes are alive, and what other nodes have written.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{RunNumber, StoreError, StoredMessage};
use crate::auth::TicketNote;
use crate::model::{ProjectId, RunId};

/// A node, from its start, or from when it joined again: no other ever has its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub [u8; 8]);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// How far a node knows a project that it follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The project.
    pub project: ProjectId,
    /// The `seq` of its newest message.
    pub newest: u64,
    /// See [`Head::revision`](super::Head::revision).
    pub revision: u64,
}

/// Messages of a project that a [`Tail`] finds in one call at most.
pub const FOLLOWED_MAX: usize = 512;

/// What has come to a project that a node follows, beyond what it knew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// The project.
    pub project: ProjectId,
    /// Its revision when its messages were read.
    pub revision: u64,
    /// Its next messages, in order; perhaps not all of them, and none where they are gone from history.
    pub messages: Vec<StoredMessage>,
}

/// What others may have written, as far as a [`Tail`] was told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    /// These projects may have moved.
    pub projects: Vec<ProjectId>,
    /// There may be wishes, or answers to them.
    pub has_wishes: bool,
    /// Applications may have published in transactions of their own.
    pub has_published: bool,
    /// A node has left: its runs may be taken over.
    pub has_left: bool,
    /// Everything may have moved: more than can be told here.
    pub is_anything: bool,
}

/// Finds out what others have written. On a thread and a connection of its own.
pub trait Tail: Send {
    /// Waits until others may have written something, or `up_to` has passed, and says what it was told. A hint: it may come
    /// for nothing, and be lost. What came between two calls is told by the next, at once.
    ///
    /// # Errors
    /// Where it can't be heard. What was told meanwhile is lost.
    fn wait(&mut self, up_to: Duration) -> Result<Hints, StoreError>;

    /// What has come to these projects beyond where they stand, in one call for all: nothing of those that stand there
    /// still. Each is given a fair part of `bytes_max`, one message at least and [`FOLLOWED_MAX`] at most; what is left is there
    /// at the next call.
    ///
    /// # Errors
    /// Where it can't be read.
    fn changes_since(&mut self, standings: &[Standing], bytes_max: usize) -> Result<Vec<Followed>, StoreError>;

    /// What is wanted of this node's runs, and what came of the wishes that this node waits for.
    ///
    /// # Errors
    /// Where it can't be read.
    fn wishes(&mut self, waiting: &[WishId]) -> Result<Wishes, StoreError>;

    /// What applications have published in transactions of their own and no node has numbered so far, the oldest first:
    /// nothing where another node is to do that. And nothing to these projects, which have no room.
    ///
    /// # Errors
    /// Where it can't be read.
    fn published(&mut self, max: usize, put_off: &[ProjectId]) -> Result<Vec<Outgoing>, StoreError>;

    /// What nodes have noted lately of tickets that have more time: again is no harm, and nothing is to be left out that was
    /// kept and not [handed on](Self::has_told_tickets) so far.
    ///
    /// # Errors
    /// Where it can't be read.
    fn tickets(&mut self) -> Result<Vec<TicketNote>, StoreError> {
        Ok(Vec::new())
    }

    /// What [`Self::tickets`] found last was handed on: until that is said, it is found again.
    fn has_told_tickets(&mut self) {}

    /// The number that this node's [`Store::probe`](super::Store::probe) wrote and that has come back this way last. One that has
    /// joined again counts anew.
    fn probed(&self) -> u64;
}

/// What an application has published in a transaction of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Its number: [`Write::Drained`](super::Write::Drained).
    pub id: u64,
    /// To whom.
    pub project: ProjectId,
    /// Its type.
    pub message_type: String,
    /// A JSON object on one line.
    pub payload: Vec<u8>,
}

/// Keeps a node alive among the others. On a thread and a connection of its own.
pub trait Lease: Send {
    /// Says that this node is alive, and takes the runs over of nodes that have said nothing for too long.
    ///
    /// # Errors
    /// See [`BeatError`].
    fn beat(&mut self) -> Result<Beat, BeatError>;

    /// Says that this node is alive, and takes nothing over: for one that could not go on with it so far.
    ///
    /// # Errors
    /// See [`BeatError`].
    fn renew(&mut self) -> Result<Beat, BeatError>;

    /// Tells the others that these projects have moved, and whether wishes have. A hint, see [`Tail::wait`].
    ///
    /// # Errors
    /// Where it can't be said.
    fn wake(&mut self, projects: &[ProjectId], has_wishes: bool) -> Result<(), StoreError>;

    /// This node goes: its runs may be taken over at once.
    ///
    /// # Errors
    /// Where it can't be said. Its time runs out then.
    fn leave(&mut self) -> Result<(), StoreError>;
}

/// What came of a beat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Beat {
    /// Projects of runs that are this node's from now on.
    pub taken_over: Vec<ProjectId>,
    /// Nodes that are alive, this one too.
    pub nodes: u64,
    /// Nodes whose runs were taken over in this beat.
    pub dead: u64,
}

/// Why a beat came to nothing, or a [probe](super::Store::probe).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BeatError {
    /// This node is thought to be gone.
    Fenced,
    /// The engine can't be asked now.
    Down(StoreError),
}

impl From<StoreError> for BeatError {
    fn from(error: StoreError) -> Self {
        Self::Down(error)
    }
}

/// A wish's number: random, so that no two nodes have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WishId(pub [u8; 16]);

/// A wish for a run, as it is kept until the run's node has answered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WishRow {
    /// Its number.
    pub id: WishId,
    /// The run's project.
    pub project: ProjectId,
    /// The run.
    pub run: RunId,
    /// Its number.
    pub number: RunNumber,
    /// What is wanted, and by whom: JSON, of whoever made it.
    pub wish: Arc<[u8]>,
}

/// What there is of wishes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Those for runs of this node that are not answered, the oldest first.
    pub open: Vec<WishRow>,
    /// Answers to those that this node waits for. A wish of a run that has ended without an answer has an empty one.
    pub answered: Vec<(WishId, Arc<[u8]>)>,
}
