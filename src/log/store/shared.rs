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

/// New messages of a project that a node follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// The project.
    pub project: ProjectId,
    /// Its revision when its messages were read.
    pub revision: u64,
    /// Its next messages, in order; perhaps not all of them, and none if they are gone from history.
    pub messages: Vec<StoredMessage>,
}

/// What other nodes may have written, according to a [`Tail`].
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
    /// Anything may have changed: there is too much to list.
    pub is_anything: bool,
}

/// Finds what other nodes have written. It has its own thread and connection.
pub trait Tail: Send {
    /// Waits until others may have written something, or `up_to` has passed, and returns the hints that have come. A
    /// hint may be wrong, and may be lost. Hints that come between two calls are returned by the next, at once.
    ///
    /// # Errors
    /// If it can't be heard. What was told meanwhile is lost.
    fn wait(&mut self, up_to: Duration) -> Result<Hints, StoreError>;

    /// The changes of these projects since their standings, in one call. Unchanged projects are left out. Each gets a
    /// fair part of `bytes_max`: at least one message, at most [`FOLLOWED_MAX`]. The next call returns the rest.
    ///
    /// # Errors
    /// If it can't be read.
    fn changes_since(&mut self, standings: &[Standing], bytes_max: usize) -> Result<Vec<Followed>, StoreError>;

    /// The wishes for runs of this node, and the answers to the wishes that this node waits for.
    ///
    /// # Errors
    /// If it can't be read.
    fn wishes(&mut self, waiting: &[WishId]) -> Result<Wishes, StoreError>;

    /// What applications have published in transactions of their own and no node has numbered so far, the oldest first:
    /// nothing where another node is to do that. And nothing to these projects, which have no room.
    ///
    /// # Errors
    /// If it can't be read.
    fn published(&mut self, max: usize, put_off: &[ProjectId]) -> Result<Vec<Outgoing>, StoreError>;

    /// The latest notes of nodes about tickets that have not expired. A note may come twice, but none that was stored
    /// and not yet [handed on](Self::has_told_tickets) may be left out.
    ///
    /// # Errors
    /// If it can't be read.
    fn tickets(&mut self) -> Result<Vec<TicketNote>, StoreError> {
        Ok(Vec::new())
    }

    /// The last result of [`Self::tickets`] was handed on. Until this is called, it is returned again.
    fn has_told_tickets(&mut self) {}

    /// The number that this node's [`Store::probe`](super::Store::probe) wrote and that has come back this way last. One that has
    /// joined again counts again.
    fn probed(&self) -> u64;
}

/// A message that an application has published in its own transaction.
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

/// Renews the lease of a node. It has its own thread and connection.
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
    /// If it can't be said.
    fn wake(&mut self, projects: &[ProjectId], has_wishes: bool) -> Result<(), StoreError>;

    /// This node goes: its runs may be taken over at once.
    ///
    /// # Errors
    /// If it can't be said. Its time runs out then.
    fn leave(&mut self) -> Result<(), StoreError>;
}

/// The result of a beat.
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

/// The row of a wish, stored until the node of the run has answered it.
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
    /// What is wanted, and by whom, as JSON that the journal writes.
    pub wish: Arc<[u8]>,
}

/// The wishes that concern a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Those for runs of this node that are not answered, the oldest first.
    pub open: Vec<WishRow>,
    /// Answers to those that this node waits for. A wish of a run that has ended without an answer has an empty one.
    pub answered: Vec<(WishId, Arc<[u8]>)>,
}
