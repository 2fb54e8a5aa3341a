//! Questions to the log that change nothing.

use std::sync::Arc;

use super::{Claim, Position, Rest, WantedEvents, WantedItems, WantedOutput, WantedRun};
use crate::formats::Format;
use crate::http::Problem;
use crate::log::frames::View;
use crate::log::store::{DueId, DueTimes, RunNumber};
use crate::model::{PlanName, ProjectId, RunId, RunStatus, StepId, Timestamp};

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
        /// How much of it.
        wanted: WantedRun,
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
    /// What a run was made of, how it ended and what its steps' outputs take, to go on from it: [`Answer::Ended`].
    Ended {
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
    /// The items of a step that have begun: [`Answer::Json`].
    Items {
        /// Its project.
        project: ProjectId,
        /// Its run.
        run: RunId,
        /// The step.
        step: StepId,
        /// Which of them.
        wanted: WantedItems,
    },
    /// More of what is read piece by piece: [`Answer::OutputRest`].
    OutputRest {
        /// What was left of it.
        rest: Box<Rest>,
        /// About so many bytes at most.
        bytes_max: usize,
    },
    /// The stored plans of a project: [`Answer::Json`].
    StoredPlans {
        /// The project.
        project: ProjectId,
        /// What time it is, for the times that are shown of schedules.
        now: Timestamp,
    },
    /// A stored plan: [`Answer::StoredPlan`].
    StoredPlan {
        /// Its project.
        project: ProjectId,
        /// Its name.
        name: PlanName,
        /// To the byte, or without its secrets.
        is_whole: bool,
    },
    /// The same to the byte, with its secrets, to run it: [`Answer::Document`].
    StoredDocument {
        /// Its project.
        project: ProjectId,
        /// Its name.
        name: PlanName,
    },
    /// All plans that have a schedule: [`Answer::Schedules`].
    Schedules,
    /// What came of a run that a step of another has begun: [`Answer::ChildResult`].
    ChildResult {
        /// Its project.
        project: ProjectId,
        /// The run.
        run: RunId,
    },
    /// Whether a run has ended, or is not kept: [`Answer::HasEnded`].
    HasEnded {
        /// Its project.
        project: ProjectId,
        /// The run.
        run: RunId,
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
