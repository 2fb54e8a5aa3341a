//! Maps a refusal of the log to the response that the caller gets.

use std::fmt::Display;

use super::handler::refused;
use super::steering::steering_refusal;
use crate::auth::{AuthError, TicketError};
use crate::http::Problem;
use crate::log::Refusal;
use crate::model::{Quoted, RunId};

/// How many runs of a full group are named.
const CONFLICTING_RUNS_SHOWN: usize = 10;

/// What `refusal` means to the caller.
pub fn refusal(refusal: &Refusal) -> Problem {
    match refusal {
        Refusal::UnknownRun => Problem::new(404, "unknown_run", "run not found in this project"),
        Refusal::UnknownStep => Problem::new(404, "unknown_step", "step not found in this run"),
        Refusal::UnknownItem => {
            Problem::new(404, "unknown_item", "item not found: no item with this index has started")
        }
        Refusal::UnknownPlan => Problem::new(404, "unknown_plan", "no plan is stored under this name in this project"),
        Refusal::OutputReplaced => {
            Problem::conflict("output_replaced", "the output was replaced while it was being read; read it again")
        }
        Refusal::RunEnded => Problem::conflict("run_ended", "the run has ended"),
        Refusal::RunNotEnded => {
            Problem::conflict("run_not_ended", "the run has not ended; only a run that has ended can be retried")
        }
        Refusal::PreconditionFailed => {
            Problem::new(412, "precondition_failed", "the stored plan does not satisfy If-Match or If-None-Match")
        }
        Refusal::KeyReused => Problem::new(
            422,
            "idempotency_key_reused",
            "this Idempotency-Key or runId was already used with a different body",
        ),
        Refusal::ConcurrencyConflict { group, runs } => group_is_full(group, runs),
        Refusal::TooManyStoredPlans(limit) => STORED_PLANS.reached(limit),
        Refusal::TooManySchedules(limit) => SCHEDULES.reached(limit),
        Refusal::TooManyPlanBytes(limit) => PLAN_BYTES.reached(limit),
        Refusal::TooManyRuns(limit) => RUNS.reached(limit),
        Refusal::TooManyProjectRuns(limit) => PROJECT_RUNS.reached(limit),
        Refusal::TooManyProjects(limit) => PROJECTS.reached(limit),
        Refusal::TooManyKeys(limit) => KEYS.reached(limit),
        Refusal::TooManySteerings(limit) => STEERINGS.reached(limit),
        Refusal::StoreUnavailable => {
            Problem::unavailable("store_unavailable", "the store is unavailable; try again later", 5)
        }
        Refusal::TooLarge => Problem::new(413, "body_too_large", "the body is larger than the store accepts"),
        Refusal::NotKept => Problem::internal(
            "the store rejected this write for good; this is an error of the server, and its log has the details",
        ),
        Refusal::CancelHeldBack => {
            let detail = "the run is cancelled, but the store is unavailable: if the server stops before the cancellation is \
                stored, the run resumes at the next start; repeat the call to make sure";
            Problem::unavailable("store_unavailable", detail, 5)
        }
        Refusal::TicketSpent => refused(&AuthError::Ticket(TicketError::Spent)),
        Refusal::Steering(error) => steering_refusal(error),
    }
}

fn group_is_full(group: &str, runs: &[RunId]) -> Problem {
    let shown: Vec<&str> = runs.iter().take(CONFLICTING_RUNS_SHOWN).map(RunId::as_str).collect();
    let more = runs.len() - shown.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let detail = format!("the concurrency group {} is full; its runs: {}{more}", Quoted(group), shown.join(", "));
    Problem::conflict("concurrency_conflict", detail)
}

/// A limit that a call has reached.
struct Limit {
    status: u16,
    code: &'static str,
    /// The problem, in words.
    what: &'static str,
    /// The text after the number: unit, and setting or "not configurable".
    named: &'static str,
    /// Seconds after which there may be room.
    retry_after: u32,
}

impl Limit {
    fn reached(&self, limit: &impl Display) -> Problem {
        let Self { status, code, what, named, retry_after } = *self;
        let detail = format!("{what} (limit {limit}{named}");
        Problem { retry_after: Some(retry_after), ..Problem::new(status, code, detail) }
    }
}

const STORED_PLANS: Limit = Limit {
    status: 429,
    code: "too_many_stored_plans",
    what: "too many plans are stored in this project",
    named: ", limits.stored_plans)",
    retry_after: 60,
};

const SCHEDULES: Limit = Limit {
    status: 429,
    code: "too_many_schedules",
    what: "too many stored plans have a schedule",
    named: ", limits.schedules)",
    retry_after: 60,
};

const PLAN_BYTES: Limit = Limit {
    status: 429,
    code: "too_many_stored_plans",
    what: "the stored plans take up too much space",
    named: " bytes, limits.stored_plan_bytes)",
    retry_after: 60,
};

const RUNS: Limit = Limit {
    status: 429,
    code: "too_many_runs",
    what: "too many runs are active or waiting",
    named: ", limits.active_runs + limits.queued_runs)",
    retry_after: 5,
};

const PROJECT_RUNS: Limit = Limit {
    status: 429,
    code: "too_many_project_runs",
    what: "too many runs of this project are active or waiting",
    named: ", limits.runs_per_project)",
    retry_after: 5,
};

const PROJECTS: Limit = Limit {
    status: 503,
    code: "too_many_projects",
    what: "too many projects have messages, runs or streams",
    named: ", limits.projects)",
    retry_after: 60,
};

const KEYS: Limit = Limit {
    status: 429,
    code: "too_many_keys",
    what: "too many Idempotency-Keys and runIds were used in the last 24 hours",
    named: " bytes, limits.idempotency_bytes, shared by all projects); try again later, or without a key",
    retry_after: 60,
};

const STEERINGS: Limit = Limit {
    status: 429,
    code: "too_many_steerings",
    what: "too many decisions and plan changes are pending",
    named: ", not configurable)",
    retry_after: 1,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_contradicts_the_store_is_no_body_that_is_too_large() {
        let status = |refused: &Refusal| (refusal(refused).status, refusal(refused).code);
        assert_eq!(status(&Refusal::NotKept), (500, "internal"));
        assert_eq!(status(&Refusal::TooLarge), (413, "body_too_large"));
    }

    #[test]
    fn a_limit_is_named_and_told_until_when() {
        let problem = refusal(&Refusal::TooManyPlanBytes(9));
        assert_eq!(problem.detail, "the stored plans take up too much space (limit 9 bytes, limits.stored_plan_bytes)");
        assert_eq!((problem.status, problem.code, problem.retry_after), (429, "too_many_stored_plans", Some(60)));
        assert_eq!(refusal(&Refusal::TooManyProjects(1)).status, 503);
    }
}
