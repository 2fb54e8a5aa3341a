//! The thread of the scheduler: finds the due schedules, and has the log start their runs.
//!
//! It may wait for the log, and nobody waits for it. It works only from what the log has stored, and reads it each
//! time: so it makes no difference who has changed it. A run and what its schedule has come to are kept together, and
//! the run's id follows from the time: a firing is made once, whatever ends the process, and whoever else makes it too.
//! What comes of a schedule is kept where nothing else has come of it meanwhile: so nodes that share a store, each with
//! a scheduler, count a firing once between them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select};

use super::board::{Board, Fate};
use crate::api::{PlanRequest, Prepared, Purpose, prepare, refusal, run_of_firing};
use crate::auth::Principal;
use crate::clock;
use crate::executor::Context;
use crate::http::Problem;
use crate::log::{Answer, Command, FiringNote, LogHandle, Origin, PlanCommand, Query, Refusal, ReplyTo, ScheduledPlan};
use crate::model::schedule::{Firings, Schedule, Verdict};
use crate::model::{PlanName, ProjectId, RunId, ScheduleSpec, Timestamp};

/// How soon the log is asked again that did not take or tell something.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How often it is looked whether a run has ended that a firing waits for.
const WAITING_PACE: Duration = Duration::from_millis(500);

/// The longest that nothing is looked at: a clock that was set is noticed by then.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// The same if other nodes share the store, which store plans without ringing here.
const SHARED_WAIT_MAX: Duration = Duration::from_secs(5);

/// See the top of this file.
pub(crate) struct Scheduler {
    log: LogHandle,
    context: Arc<Context>,
    steps_max: usize,
    board: Arc<Board>,
    rung: Receiver<()>,
    wait_max: Duration,
    closed: Receiver<()>,
    /// The parsed schedule of each plan, and its next time.
    read: HashMap<(ProjectId, PlanName), Read>,
    /// The problem that was logged last, so that it is logged once.
    told: String,
}

/// A schedule that was read.
struct Read {
    spec: ScheduleSpec,
    schedule: Option<Schedule>,
    since: Timestamp,
    next: Option<Timestamp>,
}

/// The way to the scheduler's thread.
#[derive(Clone)]
pub(crate) struct SchedulerHandle(Sender<()>);

impl SchedulerHandle {
    /// Nothing fires any more.
    pub(crate) fn close(&self) {
        // Fails if it was told before.
        let _ = self.0.try_send(());
    }
}

/// There is nobody to ask any more.
struct LogHasEnded;

impl Scheduler {
    /// A scheduler that checks again when `rung` rings, and its handle. If the store is shared, it also checks by
    /// itself.
    pub(crate) fn new(
        log: LogHandle,
        context: Arc<Context>,
        steps_max: usize,
        board: Arc<Board>,
        rung: Receiver<()>,
        is_shared: bool,
    ) -> (Self, SchedulerHandle) {
        let (close, closed) = bounded(1);
        let (read, told) = Default::default();
        let wait_max = if is_shared { SHARED_WAIT_MAX } else { WAIT_MAX };
        (Self { log, context, steps_max, board, rung, wait_max, closed, read, told }, SchedulerHandle(close))
    }

    /// Works until it is stopped, or the log has ended.
    pub(crate) fn run(mut self) {
        while let Ok(wait) = self.work() {
            select! {
                recv(self.closed) -> _ => return,
                recv(self.rung) -> _ => {}
                default(wait) => {}
            }
        }
    }

    /// Looks at all schedules; how long there is nothing to do then.
    fn work(&mut self) -> Result<Duration, LogHasEnded> {
        let Answer::Schedules(rows) = self.ask(|reply| Command::Read { query: Query::Schedules, reply })? else {
            return Ok(ASK_AGAIN);
        };
        self.read.retain(|(project, name), _| rows.iter().any(|row| row.project == *project && row.name == *name));
        let mut wait = self.wait_max;
        for row in &rows {
            if !self.closed.is_empty() {
                break;
            }
            wait = wait.min(self.look(row, clock::wall())?);
        }
        Ok(wait)
    }

    /// Does what is due of one; how long there is nothing to do then.
    fn look(&mut self, row: &ScheduledPlan, now: Timestamp) -> Result<Duration, LogHasEnded> {
        let mut firings = Firings::read(&row.firings, row.scheduled_at);
        let Some((spec, schedule, next)) = self.read(row, firings.until) else { return Ok(WAIT_MAX) };
        if !spec.enabled {
            return Ok(WAIT_MAX);
        }
        if !firings.is_due(next, now) {
            return Ok(next.map_or(WAIT_MAX, |next| Duration::from_millis(next.millis_since(now))));
        }
        let goes_on = match &firings.run_id {
            Some(run) => self.goes_on(&row.project, run)?,
            None => false,
        };
        let before = firings.clone();
        let verdict = firings.step(&schedule, spec.overlap, goes_on, now);
        if verdict == Verdict::default() && firings == before {
            return Ok(if firings.waiting.is_empty() { Duration::ZERO } else { WAITING_PACE });
        }
        self.carry_out(row, firings, verdict)
    }

    fn carry_out(&mut self, row: &ScheduledPlan, firings: Firings, verdict: Verdict) -> Result<Duration, LogHasEnded> {
        if let Some(run) = verdict.cancel.clone() {
            // A run that has ended meanwhile needs no cancel.
            let project = row.project.clone();
            self.ask(|reply| Command::Cancel { project, run, reply: Some(reply) })?;
        }
        let is_waiting = !firings.waiting.is_empty();
        let is_kept = match verdict.fire {
            Some(at) => self.fire(row, firings, at)?,
            None => self.note(row, &firings)?,
        };
        if !is_kept {
            return Ok(ASK_AGAIN);
        }
        self.tell(row, &verdict);
        Ok(if is_waiting { WAITING_PACE } else { Duration::ZERO })
    }

    /// Starts the run of a firing. `false` if it is to be tried again.
    fn fire(&mut self, row: &ScheduledPlan, mut firings: Firings, at: Timestamp) -> Result<bool, LogHasEnded> {
        let (project, name) = (row.project.clone(), row.name.clone());
        let query = Query::StoredDocument { project: project.clone(), name: name.clone() };
        let Answer::Document(document) = self.ask(|reply| Command::Read { query, reply })? else { return Ok(false) };
        let run = run_of_firing(&project, &name, at);
        let before = firings.clone();
        firings.fired(at, run.clone());
        let origin = Origin { name, firing: Some(what_came(row, &firings)) };
        let request = PlanRequest {
            body: document.to_vec(),
            purpose: Purpose::Fired(project, run.clone(), origin),
            idempotency_key: None,
            principal: Principal::anyone(),
        };
        match prepare(request, &self.context, self.steps_max, run) {
            Ok(Prepared::Run(submission)) => {
                match self.ask(|reply| Command::Submit { submission, reply })? {
                    Answer::Accepted { replayed: false, .. } => {
                        self.board.count(Fate::Fired, 1);
                        Ok(true)
                    }
                    // Someone else has fired it.
                    Answer::Accepted { replayed: true, .. } => self.note(row, &firings),
                    Answer::Refused(refused @ Refusal::ConcurrencyConflict { .. }) => {
                        self.skip(row, before, at, &refusal(&refused))
                    }
                    answer => Ok(self.complain(row, &answer)),
                }
            }
            Ok(_) => Ok(true),
            Err(problem) => self.fail(row, before, at, &problem),
        }
    }

    /// Skips a firing, because the group of its plan is full and does not queue. It is logged once that is stored.
    fn skip(
        &mut self,
        row: &ScheduledPlan,
        mut firings: Firings,
        at: Timestamp,
        problem: &Problem,
    ) -> Result<bool, LogHasEnded> {
        let why = format!("the firing of {at} was skipped: {}", problem.detail);
        firings.refused(at, why.clone());
        let is_kept = self.note(row, &firings)?;
        if is_kept {
            log::info!("schedule of plan {} in project {}: {why}", row.name, row.project);
            self.board.count(Fate::Skipped, 1);
        }
        Ok(is_kept)
    }

    /// Fails a firing, because its plan can't be run. It is logged once that is stored.
    fn fail(
        &mut self,
        row: &ScheduledPlan,
        mut firings: Firings,
        at: Timestamp,
        problem: &Problem,
    ) -> Result<bool, LogHasEnded> {
        let why = format!("the firing of {at} failed: {}", problem.detail);
        firings.last_error = Some(why.clone());
        let is_kept = self.note(row, &firings)?;
        if is_kept {
            log::error!("schedule of plan {} in project {}: {why}", row.name, row.project);
            self.board.count(Fate::Failed, 1);
        }
        Ok(is_kept)
    }

    /// Has it kept what has come of a schedule.
    fn note(&mut self, row: &ScheduledPlan, firings: &Firings) -> Result<bool, LogHasEnded> {
        let firing = what_came(row, firings);
        let command = PlanCommand::Note { project: row.project.clone(), name: row.name.clone(), firing };
        Ok(match self.ask(|reply| Command::Plan { command, reply })? {
            Answer::Noted => true,
            answer => self.complain(row, &answer),
        })
    }

    /// A run can't be accepted now, or its schedule has changed. Logs it once.
    fn complain(&mut self, row: &ScheduledPlan, answer: &Answer) -> bool {
        let why = match answer {
            Answer::Refused(Refusal::PreconditionFailed | Refusal::UnknownPlan) => return false,
            Answer::Refused(refused) => refusal(refused).detail.into_owned(),
            answer => format!("unexpected answer of the log: {answer:?}"),
        };
        let line = format!("schedule of plan {} in project {}: a firing is delayed: {why}", row.name, row.project);
        if self.told != line {
            log::warn!("{line}");
            self.told = line;
        }
        false
    }

    fn tell(&self, row: &ScheduledPlan, verdict: &Verdict) {
        let ScheduledPlan { project, name, .. } = row;
        if verdict.missed > 0 {
            self.board.count(Fate::Missed, verdict.missed);
            log::warn!("schedule of plan {name} in project {project}: {} firings were missed", verdict.missed);
        }
        if verdict.skipped > 0 {
            self.board.count(Fate::Skipped, verdict.skipped);
            log::info!(
                "schedule of plan {name} in project {project}: skipped a firing because an earlier run is still active"
            );
        }
    }

    fn goes_on(&self, project: &ProjectId, run: &RunId) -> Result<bool, LogHasEnded> {
        let query = Query::HasEnded { project: project.clone(), run: run.clone() };
        let answer = self.ask(|reply| Command::Read { query, reply })?;
        // If this is not known now, the run is taken to be active: what is due waits for it, or is skipped.
        Ok(!matches!(answer, Answer::HasEnded(true)))
    }

    /// A schedule, and its next time after `since`; none if the schedule is no longer valid, for example because its
    /// time zone is gone.
    fn read(&mut self, row: &ScheduledPlan, since: Timestamp) -> Option<(ScheduleSpec, Schedule, Option<Timestamp>)> {
        let spec: ScheduleSpec = serde_json::from_slice(row.schedule.as_deref()?).ok()?;
        let key = (row.project.clone(), row.name.clone());
        if self.read.get(&key).is_none_or(|read| read.spec != spec) {
            let schedule = Schedule::parse(&spec.cron, &spec.time_zone);
            let schedule = schedule.inspect_err(|error| {
                log::error!("schedule of plan {} in project {}: {}", row.name, row.project, error.message);
            });
            let schedule = schedule.ok();
            let next = schedule.as_ref().and_then(|schedule| schedule.next(since));
            self.read.insert(key.clone(), Read { spec, schedule, since, next });
        }
        let read = self.read.get_mut(&key)?;
        let schedule = read.schedule.as_ref()?;
        if read.since != since {
            (read.since, read.next) = (since, schedule.next(since));
        }
        Some((read.spec.clone(), schedule.clone(), read.next))
    }

    fn ask(&self, command: impl FnOnce(ReplyTo) -> Command) -> Result<Answer, LogHasEnded> {
        self.log.ask(command).ok_or(LogHasEnded)
    }
}

/// The results of a schedule, valid only if nobody else has changed them since they were read.
fn what_came(row: &ScheduledPlan, firings: &Firings) -> FiringNote {
    FiringNote { scheduled_at: row.scheduled_at, before: row.firings.clone(), firings: firings.json().into() }
}
