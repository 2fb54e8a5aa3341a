//! Commands to the log and its answers: the only interface for other modules.

mod answer;
mod claim;
mod events;
mod items;
mod order;
mod output;
mod plans;
mod position;
mod query;
mod refusal;
mod rest;
mod steering;
mod subscription;
mod webhooks;

use std::sync::Arc;

pub use self::answer::{Answer, ResetReason, Resume, RunAtItsEnd};
pub use self::claim::{Claim, Fingerprint};
pub use self::events::WantedEvents;
pub use self::items::{WantedItems, WantedRun};
pub use self::order::{ChildEnd, ChildResult, Order, Resumed};
pub use self::output::{Output, WantedOutput};
pub use self::plans::{FiringNote, NewPlan, Origin, PlanCommand, PlanLimits, ScheduledPlan};
pub use self::position::Position;
pub use self::query::{EventList, Query, WantedDue};
pub use self::refusal::Refusal;
pub use self::rest::{Made, MadeRest, OutputRest, Part, Rest, RunRest};
pub use self::steering::SteerRequest;
pub(in crate::log) use self::subscription::Unretold;
pub use self::subscription::{ClientSaid, Retold, StartingPosition, Subscription};
pub use self::webhooks::{DueEvent, DuePage, WebhookFilter, Webhooks};
use super::frames::Frames;
use super::store::{Followed, OutboxChange, Outgoing, RunNumber, WishRow, Wishes};
use super::work::WorkCounts;
use crate::auth::TicketNote;
use crate::model::{Plan, ProjectId, Record, RunId, SlabKey};

/// Whom an answer is for. The log carries it back and does nothing else with it.
#[derive(Debug, Clone)]
pub enum ReplyTo {
    /// A connection of the loop, whose request waits.
    Connection(SlabKey),
    /// A stream of the loop, which is behind.
    Stream(SlabKey),
    /// A channel of the loop, which lacks messages.
    Channel(SlabKey),
    /// A thread that waits for it.
    Caller(crossbeam_channel::Sender<Answer>),
}

/// A command for the log.
#[derive(Debug, Clone)]
pub enum Command {
    /// Number, keep and broadcast what a publisher sent; all of it or nothing.
    Publish {
        /// To whom.
        project: ProjectId,
        /// What.
        events: Vec<PublishedEvent>,
        /// Answered by [`Answer::Published`].
        reply: ReplyTo,
    },
    /// Take on a run, unless it was taken on before.
    Submit {
        /// The run.
        submission: Box<Submission>,
        /// Answered by [`Answer::Accepted`].
        reply: ReplyTo,
    },
    /// Ask a run to end.
    Cancel {
        /// The run's project.
        project: ProjectId,
        /// The run.
        run: RunId,
        /// Answered by [`Answer::CancelAccepted`], where anyone waits.
        reply: Option<ReplyTo>,
    },
    /// Have a run do something. The run decides; the answer comes once that is kept.
    Steer {
        /// The request.
        request: Box<SteerRequest>,
        /// Answered by [`Answer::Accepted`].
        reply: ReplyTo,
    },
    /// Keep what an executor says: [`Order::Kept`].
    Records(Vec<Record>),
    /// The executor has ended, and all that it said came before: what runs were still to be steered to is refused.
    ExecutorEnded,
    /// Remember what became of a ticket.
    Note {
        /// What became of it.
        note: TicketNote,
        /// Answered by [`Answer::Noted`], where anyone waits.
        reply: Option<ReplyTo>,
    },
    /// Change the outbox of webhooks.
    Outbox {
        /// What.
        changes: Vec<OutboxChange>,
        /// Answered by [`Answer::Noted`].
        reply: ReplyTo,
    },
    /// Store a plan, remove one, or keep what has come of its schedule.
    Plan {
        /// What to do with the plan.
        command: PlanCommand,
        /// Answered by [`Answer::PlanStored`], [`Answer::PlanRemoved`] or [`Answer::Noted`].
        reply: ReplyTo,
    },
    /// Tell where a stream begins, and what it is sent first. From then on the project's messages are delivered.
    Subscribe {
        /// The request.
        subscription: Arc<Subscription>,
        /// The ticket that is spent for it. Where the stream begins, that is kept first.
        spends: Option<Spends>,
        /// Answered by [`Answer::StartsAt`].
        reply: ReplyTo,
    },
    /// Look something up.
    Read {
        /// What.
        query: Query,
        /// Answered by the answer that the query names.
        reply: ReplyTo,
    },
    /// Nobody watches this project any more.
    Unwatch(ProjectId),
    /// Send the state of the items of running steps, as [`Answer::Page`], and all further updates about items in
    /// [`Frames::items`].
    Items {
        /// The project, which is watched.
        project: ProjectId,
        /// Only of this run.
        run: Option<RunNumber>,
        /// The position that the page names.
        after: u64,
        /// Where the answer goes.
        reply: ReplyTo,
    },
    /// No stream of this project shows items any more.
    IgnoreItems(ProjectId),
    /// Say when everything that came before is kept, or refused: [`Answer::Reached`].
    Barrier(ReplyTo),
    /// Tell what other nodes have written.
    Follow(Vec<Followed>),
    /// Go on with the runs of these projects that the store says are this node's.
    Adopt(Vec<ProjectId>),
    /// Number, keep and broadcast what applications have published in transactions of their own.
    Drain(Vec<Outgoing>),
    /// Have runs of this node do what others were asked for, and answer those whose wishes others have answered.
    Wishes(Wishes),
    /// Have a run of this node do what another was asked for. The log itself makes these of the open [`Wishes`](Self::Wishes).
    Grant(Box<WishRow>),
    /// Tell what other nodes have noted of tickets: [`Delivery::Tickets`].
    Tickets(Vec<TicketNote>),
    /// Write something that nobody reads, so that a [`Tail`](super::store::Tail) sees it come.
    Probe,
    /// This node has not been heard of for so long that the others think it is gone.
    Fence,
    /// The executor has dropped all runs for this [`Order::Abandon`]. All their records came before this.
    Abandoned(u64),
    /// Finish what has come, and end.
    Close,
}

impl Command {
    /// The project that it writes to, where that is one.
    pub(in crate::log) fn project(&self) -> Option<&ProjectId> {
        match self {
            Self::Publish { project, .. } | Self::Cancel { project, .. } => Some(project),
            Self::Submit { submission, .. } => Some(submission.project()),
            Self::Steer { request, .. } => Some(request.project()),
            Self::Grant(wish) => Some(&wish.project),
            Self::Plan { command, .. } => Some(command.project()),
            _ => None,
        }
    }
}

/// A ticket that is spent for a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spends {
    /// The note that it is spent.
    pub note: TicketNote,
    /// The client shows a message id that only a client that has watched can know: the stream begins even if another
    /// node has spent the ticket.
    pub is_proven: bool,
}

/// One message of a publisher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedEvent {
    /// A [valid](crate::model::is_valid_type) type.
    pub message_type: String,
    /// A JSON object on one line.
    pub payload: Vec<u8>,
}

/// A run to take on.
#[derive(Debug, Clone)]
pub struct Submission {
    /// By what the call is known when it comes again, and the project.
    pub claim: Claim,
    /// Its id.
    pub run: RunId,
    /// The plan, checked.
    pub plan: Arc<Plan>,
    /// The plan and its inputs as JSON, to read again after a restart.
    pub document: Arc<[u8]>,
    /// The answer to the call, now and when it is repeated.
    pub answer: Arc<[u8]>,
    /// The stored plan that it is made of, where it is.
    pub origin: Option<Origin>,
}

impl Submission {
    /// Its project.
    pub fn project(&self) -> &ProjectId {
        &self.claim.project
    }
}

/// A position that a client showed, already known to be genuine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResumeFrom {
    /// Behind this message of this log.
    Seq(u64),
    /// A position that is none of this log's.
    Unknown,
}

/// What leaves the log for the loop.
#[derive(Debug)]
pub enum Delivery {
    /// Messages of a watched project.
    Frames {
        /// The project.
        project: ProjectId,
        /// Its next messages.
        frames: Frames,
    },
    /// The newest messages of a project that is watched from now on. Where the stream begins is answered later.
    Opened {
        /// The project.
        project: ProjectId,
        /// The messages.
        frames: Frames,
    },
    /// The answer to a command.
    Reply {
        /// Where the answer goes.
        to: ReplyTo,
        /// The answer.
        answer: Answer,
    },
    /// Counts of what a batch stored.
    Worked(WorkCounts),
    /// What other nodes have noted of tickets.
    Tickets(Vec<TicketNote>),
    /// The store takes nothing any more, or takes everything again.
    StoreIsDown(bool),
}
