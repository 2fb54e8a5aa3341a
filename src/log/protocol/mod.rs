//! What the log is asked, and what it answers: the one way for everyone outside.

mod claim;
mod events;
mod output;
mod position;
mod rest;
mod subscription;
mod webhooks;

use std::collections::HashMap;
use std::sync::Arc;

pub use self::claim::{Claim, Fingerprint};
pub use self::events::WantedEvents;
pub use self::output::{Output, WantedOutput};
pub use self::position::Position;
pub use self::rest::{Made, MadeRest, OutputRest, Part, Rest, RunRest};
pub(in crate::log) use self::subscription::Unretold;
pub use self::subscription::{ClientSaid, Retold, StartingPosition, Subscription};
pub use self::webhooks::{DueEvent, DuePage, WebhookFilter, Webhooks};
use super::frames::{Frames, Page, Row, View};
use super::store::{DueId, DueTimes, OutboxChange, RunNumber};
use super::work::WorkCounts;
use crate::auth::TicketNote;
use crate::formats::Format;
use crate::http::Problem;
use crate::model::{Plan, ProjectId, Record, RunId, RunState, RunStatus, SlabKey, StepId, Timestamp};

/// Whom an answer is for. The log carries it back and does nothing else with it.
#[derive(Debug, Clone)]
pub enum ReplyTo {
    /// One of the loop's connections, whose request waits.
    Connection(SlabKey),
    /// One of the loop's streams, which is behind.
    Stream(SlabKey),
    /// One of the loop's channels, which lacks something.
    Channel(SlabKey),
    /// A thread that waits for it.
    Caller(crossbeam_channel::Sender<Answer>),
}

/// What the log is asked to do.
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
    /// Keep what an executor says: [`Order::Kept`].
    Records(Vec<Record>),
    /// Remember what became of a ticket.
    Note {
        /// What became of it.
        note: TicketNote,
        /// Answered by [`Answer::Noted`], where anyone waits.
        reply: Option<ReplyTo>,
    },
    /// Keep what became of what waits to be told to webhooks.
    Outbox {
        /// What.
        changes: Vec<OutboxChange>,
        /// Answered by [`Answer::Noted`].
        reply: ReplyTo,
    },
    /// Say where a stream begins, and what it is told first. From then on the project's messages are delivered.
    Subscribe {
        /// What is wanted.
        subscription: Arc<Subscription>,
        /// The ticket that is spent for it. Where the stream begins, that is kept first.
        spends: Option<TicketNote>,
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
    /// Say when everything that came before is kept, or refused: [`Answer::Reached`].
    Barrier(ReplyTo),
    /// Finish what has come, and end.
    Close,
}

impl Command {
    /// The project that it writes to, where that is one.
    pub(in crate::log) fn project(&self) -> Option<&ProjectId> {
        match self {
            Self::Publish { project, .. } | Self::Cancel { project, .. } => Some(project),
            Self::Submit { submission, .. } => Some(submission.project()),
            _ => None,
        }
    }
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
    /// What the call is answered, now and when it is made again.
    pub answer: Arc<[u8]>,
}

impl Submission {
    /// Its project.
    pub fn project(&self) -> &ProjectId {
        &self.claim.project
    }
}

/// What can be looked up.
#[derive(Debug, Clone, PartialEq)]
pub enum Query {
    /// The messages behind a position, for a stream that is behind: [`Answer::Page`] or, where they are gone,
    /// [`Answer::StartsAt`] with a reset.
    Page {
        /// The project.
        project: ProjectId,
        /// Behind this message.
        after: u64,
        /// This run alone.
        run: Option<RunNumber>,
        /// How the stream is shown them.
        view: View,
        /// About how many bytes at most; one message always fits.
        bytes_max: usize,
    },
    /// What a run says behind a position, retold for all who watch it: [`Answer::Row`].
    Row {
        /// Its project.
        project: ProjectId,
        /// The run.
        run: RunNumber,
        /// In this format.
        format: Format,
        /// Behind this message of the project.
        after: u64,
        /// About how many bytes at most; one message always fits.
        bytes_max: usize,
    },
    /// A project's runs, newest first: [`Answer::Json`].
    Runs {
        /// The project.
        project: ProjectId,
        /// Only those.
        status: Option<RunStatus>,
        /// Only those older than this.
        before: Option<Position>,
        /// At most so many.
        limit: usize,
    },
    /// A run: [`Answer::Json`], or [`Answer::LongJson`] where it is large.
    Run {
        /// Its project.
        project: ProjectId,
        /// The run.
        run: RunId,
        /// Its outputs whole, or as a snapshot has them.
        whole_outputs: bool,
    },
    /// The plan that a run was made of, without its secrets: [`Answer::Json`].
    Plan {
        /// Its project.
        project: ProjectId,
        /// The run.
        run: RunId,
    },
    /// The same to the byte, with its secrets, to run it again: [`Answer::Document`].
    Document {
        /// Its project.
        project: ProjectId,
        /// The run.
        run: RunId,
    },
    /// A run's messages: [`Answer::Json`], or [`Answer::Batch`] as CloudEvents.
    RunEvents {
        /// Its project.
        project: ProjectId,
        /// The run.
        run: RunId,
        /// Behind this message.
        after: u64,
        /// At most so many.
        limit: usize,
        /// As what.
        list: EventList,
    },
    /// A project's messages: [`Answer::Json`].
    Events {
        /// The project.
        project: ProjectId,
        /// Which of them.
        wanted: WantedEvents,
    },
    /// What a call that can't be carried out is answered: as the one that had its name before, or else with its problem,
    /// [`Answer::Problem`].
    Recall {
        /// By what it is known.
        claim: Box<Claim>,
        /// Its problem.
        otherwise: Box<Problem>,
    },
    /// A step's output so far: [`Answer::Output`].
    Output {
        /// Its project.
        project: ProjectId,
        /// Its run.
        run: RunId,
        /// The step.
        step: StepId,
        /// What of it.
        wanted: WantedOutput,
    },
    /// More of what is read piece by piece: [`Answer::OutputRest`].
    OutputRest {
        /// What was left of it.
        rest: Box<Rest>,
        /// About so many bytes at most.
        bytes_max: usize,
    },
    /// What a webhook is to be told just now: [`Answer::Due`].
    Due(Box<WantedDue>),
    /// The projects that there are: [`Answer::Json`].
    Projects {
        /// Only those; all where there is none.
        visible: Option<Vec<ProjectId>>,
        /// Only those behind this one.
        after: Option<ProjectId>,
        /// At most so many.
        limit: usize,
    },
}

impl Query {
    /// Is it of a run that is retold in a format?
    pub(in crate::log) fn is_of_format(&self) -> bool {
        matches!(self, Self::Row { .. } | Self::Page { view: View::Format(_), .. })
    }
}

/// What is asked of that which waits for a webhook.
#[derive(Debug, Clone, PartialEq)]
pub struct WantedDue {
    /// Which one.
    pub webhook: Arc<str>,
    /// What time it is.
    pub times: DueTimes,
    /// At most so many events.
    pub limit: usize,
    /// None of these: they are on their way.
    pub except: Vec<DueId>,
    /// The largest event that is sent whole.
    pub body_bytes_max: usize,
}

/// As what a run's messages are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EventList {
    /// As they are sent to those who watch.
    #[default]
    Messages,
    /// As [CloudEvents](crate::formats::cloudevents).
    CloudEvents,
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
    /// The newest messages of a project that is watched from now on. Who asked for it is told later where the stream begins.
    Opened {
        /// The project.
        project: ProjectId,
        /// The messages.
        frames: Frames,
    },
    /// What a command is answered.
    Reply {
        /// Who asked.
        to: ReplyTo,
        /// The answer.
        answer: Answer,
    },
    /// What was kept in a batch.
    Worked(WorkCounts),
    /// The store takes nothing any more, or takes everything again.
    StoreIsDown(bool),
}

/// What a command is answered.
#[derive(Debug)]
pub enum Answer {
    /// The messages are kept.
    Published {
        /// The first one's `seq`.
        first_seq: u64,
        /// How many.
        count: usize,
    },
    /// The run is taken on.
    Accepted {
        /// What the caller gets.
        body: Arc<[u8]>,
        /// It was taken on before.
        replayed: bool,
    },
    /// The run was asked to end.
    CancelAccepted,
    /// The note is kept.
    Noted,
    /// Everything that came before is kept, or refused.
    Reached,
    /// A stream may begin, or begin anew.
    StartsAt(Box<StartingPosition>),
    /// The messages asked for.
    Page(Page),
    /// The messages asked for, retold.
    Row(Row),
    /// A body, whole.
    Json(Vec<u8>),
    /// A list of events, whole.
    Batch {
        /// JSON.
        body: Vec<u8>,
        /// The id of its last message, where more follow it.
        next: Option<String>,
    },
    /// The beginning of a body that is read piece by piece.
    LongJson {
        /// Bytes that there are in all.
        length: u64,
        /// The first of them.
        bytes: Vec<u8>,
        /// Where the others are.
        rest: Option<Box<Rest>>,
    },
    /// A run's plan and inputs.
    Document(Arc<[u8]>),
    /// A step's output, or the beginning of what was selected of it.
    Output(Box<Output>),
    /// What a webhook is to be told.
    Due(DuePage),
    /// What comes behind that.
    OutputRest {
        /// The bytes.
        bytes: Vec<u8>,
        /// What is left then.
        rest: Option<Box<Rest>>,
    },
    /// It can't be done.
    Refused(Refusal),
    /// It can't be done, as whoever asked knew.
    Problem(Box<Problem>),
}

/// How a stream begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// Without a position shown.
    Fresh,
    /// At the position shown.
    Resumed,
    /// Elsewhere, because the position shown can't be gone on from.
    Reset(ResetReason),
}

/// Why a position can't be gone on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResetReason {
    /// It is none of this log's.
    UnknownId,
    /// What came behind it is no longer kept.
    Expired,
    /// The log is not that far.
    Ahead,
}

impl ResetReason {
    /// As on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownId => "unknown_id",
            Self::Expired => "expired",
            Self::Ahead => "ahead",
        }
    }
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No such run.
    UnknownRun,
    /// The run has no such step.
    UnknownStep,
    /// The output was replaced by that of another attempt, or let go, while it was read.
    OutputReplaced,
    /// The run has ended.
    RunEnded,
    /// The idempotency key or run id was used with another body.
    KeyReused,
    /// This many runs are active or wait: as many as may.
    TooManyRuns(usize),
    /// This many runs of the project are active or wait: as many as may.
    TooManyProjectRuns(usize),
    /// This many projects are kept: as many as may.
    TooManyProjects(usize),
    /// The project's keys take as much as they may of these bytes, which are for the keys of all.
    TooManyKeys(u64),
    /// The store does not take anything now.
    StoreUnavailable,
    /// The store takes no such thing, now or later: it is too large.
    TooLarge,
    /// The store takes no such thing, now or later: what this server makes of it contradicts what is kept.
    NotKept,
    /// The store does not take anything now: it is kept that the run was asked to end once it does, if nothing ends the
    /// process before.
    CancelHeldBack,
}

/// What leaves the log for the executor.
#[derive(Debug)]
pub enum Order {
    /// Begin a run.
    Start {
        /// Its project.
        project: ProjectId,
        /// The run.
        run: RunId,
        /// Its plan.
        plan: Arc<Plan>,
        /// When it was accepted.
        created_at: Timestamp,
    },
    /// Go on with a run that an earlier process left active.
    Resume(Box<Resumed>),
    /// End a run.
    Cancel {
        /// Its project.
        project: ProjectId,
        /// The run.
        run: RunId,
    },
    /// So many [`Command::Records`] more are kept, those that came first.
    Kept(u64),
    /// The store takes nothing any more, or everything again.
    StoreIsDown(bool),
}

/// A run to go on with.
#[derive(Debug)]
pub struct Resumed {
    /// Its project.
    pub project: ProjectId,
    /// Its plan.
    pub plan: Arc<Plan>,
    /// The fold of its messages.
    pub state: RunState,
    /// The whole outputs of the steps whose messages hold only the beginning.
    pub whole_outputs: HashMap<StepId, Arc<serde_json::Value>>,
    /// It was asked to end.
    pub cancelled: bool,
}
