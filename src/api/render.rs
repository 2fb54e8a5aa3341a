//! From what the log answers to what the caller gets.

use serde_json::json;

use crate::auth::IdSigner;
use crate::http::{Body, Conditions, Problem, Response, range};
use crate::log::{Answer, ProjectRow, Refusal};
use crate::model::{ProjectId, RunId, decimal};

/// How the answer to an [`Ask`](super::Ask) is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Render {
    /// The ids of published messages, and how many watch.
    Published {
        /// Where they were published.
        project: ProjectId,
        /// Whose publish rate they count towards.
        token_key: Option<u64>,
    },
    /// A run that was taken on.
    Accepted,
    /// A run that was asked to end.
    Cancelled(RunId),
    /// A body as it comes.
    Body,
    /// A step's output, or a part of it.
    Output {
        /// Which, and whether it is known already.
        asked: Conditions,
    },
    /// Projects, each with how many watch.
    Projects,
}

impl Render {
    /// The response that `answer` makes. `subscribers` tells how many watch a project.
    pub fn response(&self, answer: Answer, signer: &IdSigner, subscribers: impl Fn(&ProjectId) -> usize) -> Response {
        match (self, answer) {
            (_, Answer::Refused(refused)) => refusal(&refused).into(),
            (Self::Published { project, .. }, Answer::Published { first_seq, count }) => {
                published(project, first_seq, count, subscribers(project), signer)
            }
            (_, Answer::Problem(problem)) => (*problem).into(),
            (_, Answer::Accepted { body, replayed: true }) => {
                Response::json(202, body).header("Idempotent-Replay", "true")
            }
            (_, Answer::Accepted { body, replayed: false }) => Response::json(202, body),
            (Self::Cancelled(run), Answer::CancelAccepted) => {
                Response::json(202, json!({"runId": run, "status": "cancelling"}).to_string())
            }
            (_, Answer::Json(body)) => Response::json(200, body),
            (Self::Output { asked }, Answer::Output { bytes, is_json, tag }) => output(bytes, is_json, tag, asked),
            (_, Answer::Projects { rows, has_more }) => projects(&rows, has_more, subscribers),
            (_, answer) => {
                log::error!("the log answered {answer:?} to what is shown as {self:?}");
                Problem::internal("the log gave another answer than was asked for").into()
            }
        }
    }
}

/// What a refusal of the log means to the caller.
pub fn refusal(refusal: &Refusal) -> Problem {
    match refusal {
        Refusal::UnknownRun => Problem::new(404, "unknown_run", "there is no such run in this project"),
        Refusal::UnknownStep => Problem::new(404, "unknown_step", "the run has no such step"),
        Refusal::RunEnded => Problem::conflict("run_ended", "the run has ended"),
        Refusal::KeyReused => {
            Problem::new(422, "idempotency_key_reused", "this Idempotency-Key or runId was used with another body")
        }
        Refusal::TooManyRuns => Problem::too_many("too_many_runs", "as many runs wait as may", 5),
        Refusal::TooManyProjectRuns => {
            Problem::too_many("too_many_project_runs", "as many runs of this project run or wait as may", 5)
        }
        Refusal::TooManyProjects => Problem::unavailable("too_many_projects", "as many projects are kept as may", 60),
        Refusal::TooManyKeys => {
            let detail = "the Idempotency-Keys and runIds of the last 24 hours take as much of limits.idempotency_bytes as \
                this project may have: call later, or without one";
            Problem::too_many("too_many_keys", detail, 60)
        }
        Refusal::StoreUnavailable => Problem::unavailable("store_unavailable", "the store takes nothing just now", 5),
        Refusal::CancelHeldBack => {
            let detail = "the run is ended, but the store takes nothing just now: if the server stops before it does, the \
                run goes on at the next start; call again to know";
            Problem::unavailable("store_unavailable", detail, 5)
        }
    }
}

fn published(project: &ProjectId, first_seq: u64, count: usize, subscribers: usize, signer: &IdSigner) -> Response {
    let mut body = Vec::with_capacity(64 + count * 48);
    body.extend_from_slice(b"{\"ids\":[");
    for seq in first_seq..first_seq + count as u64 {
        body.extend_from_slice(if seq == first_seq { b"\"" } else { b",\"" });
        signer.write(&mut body, project, seq);
        body.push(b'"');
    }
    body.extend_from_slice(b"],\"subscribers\":");
    body.extend_from_slice(decimal(subscribers as u64, &mut [0; 20]));
    body.push(b'}');
    Response::json(202, body)
}

fn output(bytes: Vec<u8>, is_json: bool, tag: Option<String>, asked: &Conditions) -> Response {
    let length = bytes.len() as u64;
    let response = match asked.is_known(tag.as_deref()) {
        true => Response::new(304),
        false => selected(bytes, is_json, asked.select(tag.as_deref(), length)),
    };
    match tag {
        Some(tag) => response.header("ETag", tag),
        None => response,
    }
}

fn selected(bytes: Vec<u8>, is_json: bool, selection: range::Selection) -> Response {
    let length = bytes.len() as u64;
    let show = |status: u16, body: Vec<u8>| match is_json {
        true => Response::json(status, Body::from(body)),
        false => Response::text(status, Body::from(body)),
    };
    match selection {
        range::Selection::Whole => show(200, bytes).header("Accept-Ranges", "bytes"),
        range::Selection::Part(part) => {
            let content_range = range::content_range(&part, length);
            let cut = bytes[part.start as usize..part.end as usize].to_vec();
            show(206, cut).header("Content-Range", content_range)
        }
        range::Selection::Unsatisfiable => {
            let problem = Problem::new(416, "range_not_satisfiable", format!("the output has {length} bytes"));
            Response::from(problem).header("Content-Range", range::unsatisfied(length))
        }
    }
}

fn projects(rows: &[ProjectRow], has_more: bool, subscribers: impl Fn(&ProjectId) -> usize) -> Response {
    let shown: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({"projectId": row.project, "activeRuns": row.active_runs,
                "subscribers": subscribers(&row.project), "lastActivity": row.last_activity})
        })
        .collect();
    let mut body = json!({"projects": shown});
    if let (true, Some(last)) = (has_more, rows.last()) {
        body["next"] = json!(last.project);
    }
    Response::json(200, body.to_string())
}
