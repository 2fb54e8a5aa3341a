//! Questions to the log that change nothing.

use std::sync::Arc;

use super::{Claim, Position, Rest, WantedEvents, WantedItems, WantedOutput, WantedRun};
use crate::formats::Format;
use crate::http::Problem;
use crate::log::frames::View;
use crate::log::store::{DueId, DueTimes, RunNumber};
use crate::model::{PlanName, ProjectId, RunId, RunStatus, StepId, Timestamp};

/// Questions to the log.
#[derive(Debug, Clone, PartialEq)]
pub enum Query {
    /// The messages after a position, for a stream that is behind: [`Answer::Page`] or, if they are gone,
    /// [`Answer::StartsAt`] with a reset.
    Page {
        /// The project.
        project: ProjectId,
        /// After this message.
        after: u64,
        /// Only this run.
        run: Option<RunNumber>,
        /// How the stream shows them.
        view: View,
        /// Maximum size in bytes, approximately; one message always fits.
        bytes_max: usize,
    },
    /// The messages of a run after a position, in another format, for all who follow it: [`Answer::Row`].
    Row {
        /// Its project.
        project: ProjectId,
        /// The run.
        run: RunNumber,
        /// In this format.
        format: Format,
        /// After this message of the project.
        after: u64,
        /// Maximum size in bytes, approximately; one message always fits.
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
        /// Maximum number.
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
    /// The plan of a run, without its secrets: [`Answer::Json`].
    Plan {
        /// Its project.
        project: ProjectId,
        /// The run.
        run: RunId,
    },
    /// The plan of a run byte for byte, with its secrets, to run it again: [`Answer::Document`].
    Document {
        /// Its project.
        project: ProjectId,
        /// The run.
        run: RunId,
    },
    /// The plan of a run, how it ended and the sizes of its outputs, to run again from it: [`Answer::Ended`].
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
        /// After this message.
        after: u64,
        /// Maximum number.
        limit: usize,
        /// In which form.
        list: EventList,
    },
    /// A project's messages: [`Answer::Json`].
    Events {
        /// The project.
        project: ProjectId,
        /// Which of them.
        wanted: WantedEvents,
    },
    /// The answer to a call that can't be carried out: that of an earlier call with the same name, or else its problem,
    /// [`Answer::Problem`].
    Recall {
        /// The names of the call.
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
        /// Which part of it.
        wanted: WantedOutput,
    },
    /// The items of a step that have started: [`Answer::Json`].
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
    /// The next piece of content that is read in pieces: [`Answer::OutputRest`].
    OutputRest {
        /// The rest of it.
        rest: Box<Rest>,
        /// Maximum size in bytes, approximately.
        bytes_max: usize,
    },
    /// The stored plans of a project: [`Answer::Json`].
    StoredPlans {
        /// The project.
        project: ProjectId,
        /// The current time, for the times of schedules.
        now: Timestamp,
    },
    /// A stored plan: [`Answer::StoredPlan`].
    StoredPlan {
        /// Its project.
        project: ProjectId,
        /// Its name.
        name: PlanName,
        /// Byte for byte, or without its secrets.
        is_whole: bool,
    },
    /// A stored plan byte for byte, with its secrets, to run it: [`Answer::Document`].
    StoredDocument {
        /// Its project.
        project: ProjectId,
        /// Its name.
        name: PlanName,
    },
    /// All plans that have a schedule: [`Answer::Schedules`].
    Schedules,
    /// The result of a run that was started by a step of another: [`Answer::ChildResult`].
    ChildResult {
        /// Its project.
        project: ProjectId,
        /// The run.
        run: RunId,
    },
    /// Whether a run has ended, or is no longer stored: [`Answer::HasEnded`].
    HasEnded {
        /// Its project.
        project: ProjectId,
        /// The run.
        run: RunId,
    },
    /// The events that are due for a webhook: [`Answer::Due`].
    Due(Box<WantedDue>),
    /// The projects: [`Answer::Json`].
    Projects {
        /// Only these; all if there are none.
        visible: Option<Vec<ProjectId>>,
        /// Only those after this.
        after: Option<ProjectId>,
        /// Maximum number.
        limit: usize,
    },
}

impl Query {
    /// Whether it is about a run in another format.
    pub(in crate::log) fn is_of_format(&self) -> bool {
        matches!(self, Self::Row { .. } | Self::Page { view: View::Format(_), .. })
    }
}

/// A question about the events of a webhook.
#[derive(Debug, Clone, PartialEq)]
pub struct WantedDue {
    /// The webhook.
    pub webhook: Arc<str>,
    /// The current time.
    pub times: DueTimes,
    /// Maximum number of events.
    pub limit: usize,
    /// Not these: they are being sent.
    pub except: Vec<DueId>,
    /// The largest event that is sent with its data.
    pub body_bytes_max: usize,
}

/// The form in which the messages of a run are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EventList {
    /// As they are sent to subscribers.
    #[default]
    Messages,
    /// As [CloudEvents](crate::formats::cloudevents).
    CloudEvents,
}
