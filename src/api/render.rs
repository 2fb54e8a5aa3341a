//! From what the log answers to what the caller gets.

use serde_json::json;

use crate::auth::IdSigner;
use crate::formats::cloudevents::BATCH_MEDIA_TYPE;
use crate::http::{Body, Problem, Response, range};
use crate::log::{Answer, Output, Refusal, Rest};
use crate::model::{ProjectId, RunId, decimal};

/// Bytes of an output that are read from the log at a time: enough that a reader of the disk is not asked for every
/// flush, and so few that many slow downloads hold little.
pub const OUTPUT_PIECE_BYTES: usize = 256 * 1024;

/// What the caller gets.
#[derive(Debug)]
pub struct Shown {
    /// The response.
    pub response: Response,
    /// Where the log holds what its content still lacks.
    pub rest: Option<Box<Rest>>,
}

impl From<Response> for Shown {
    fn from(response: Response) -> Self {
        Self { response, rest: None }
    }
}

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
    /// A list of CloudEvents.
    Batch {
        /// Where the next page is, but for the id that it begins behind.
        next: String,
    },
    /// A step's output, or a part of it.
    Output,
}

impl Render {
    /// What `answer` is shown as. `subscribers` tells how many watch a project.
    pub fn show(&self, mut answer: Answer, signer: &IdSigner, subscribers: impl Fn(&ProjectId) -> usize) -> Shown {
        let rest = match &mut answer {
            Answer::Output(output) => output.rest.take(),
            Answer::LongJson { rest, .. } => rest.take(),
            _ => None,
        };
        Shown { response: self.response(answer, signer, subscribers), rest }
    }

    fn response(&self, answer: Answer, signer: &IdSigner, subscribers: impl Fn(&ProjectId) -> usize) -> Response {
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
            (Self::Batch { next: path }, Answer::Batch { body, next }) => batch(path, body, next),
            (_, Answer::Json(body)) => Response::json(200, body),
            (_, Answer::LongJson { length, bytes, .. }) => Response::json(200, beginning(length, bytes)),
            (Self::Output, Answer::Output(output)) => shown_output(*output),
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
        Refusal::OutputReplaced => Problem::conflict("output_replaced", "the output was replaced while it was read"),
        Refusal::RunEnded => Problem::conflict("run_ended", "the run has ended"),
        Refusal::KeyReused => {
            Problem::new(422, "idempotency_key_reused", "this Idempotency-Key or runId was used with another body")
        }
        Refusal::TooManyRuns(limit) => {
            let detail =
                format!("too many runs are active or waiting (limit {limit}, limits.active_runs + limits.queued_runs)");
            Problem::too_many("too_many_runs", detail, 5)
        }
        Refusal::TooManyProjectRuns(limit) => {
            let detail =
                format!("too many runs of this project are active or waiting (limit {limit}, limits.runs_per_project)");
            Problem::too_many("too_many_project_runs", detail, 5)
        }
        Refusal::TooManyProjects(limit) => {
            let detail = format!("too many projects have messages, runs or streams (limit {limit}, limits.projects)");
            Problem::unavailable("too_many_projects", detail, 60)
        }
        Refusal::TooManyKeys(limit) => {
            let detail = format!(
                "too many Idempotency-Keys and runIds were used in the last 24 hours (limit {limit} bytes, \
                 limits.idempotency_bytes, of which this project may use what others leave): call later, or without one"
            );
            Problem::too_many("too_many_keys", detail, 60)
        }
        Refusal::StoreUnavailable => Problem::unavailable("store_unavailable", "the store takes nothing just now", 5),
        Refusal::TooLarge => Problem::new(413, "body_too_large", "this is more than the store keeps in one piece"),
        Refusal::NotKept => {
            Problem::internal("the store does not keep this, now or later: a fault of this server, whose log says more")
        }
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

/// An array has no room for what is told beside its items.
fn batch(path: &str, body: Vec<u8>, next: Option<String>) -> Response {
    let response = Response::new(200).content(BATCH_MEDIA_TYPE, body).header("Vary", "Accept");
    match next {
        Some(after) => response.header("Link", format!("<{path}{after}>; rel=\"next\"")),
        None => response,
    }
}

fn shown_output(output: Output) -> Response {
    let Output { length, is_json, attempt, tag, selected, bytes, .. } = output;
    let response = match selected {
        None => Response::new(304),
        Some(selection) => part(selection, length, is_json, bytes),
    };
    // A further attempt writes anew: what was read of the one before does not go on in it.
    let response = response.header("Stepcast-Attempt", attempt.to_string());
    match tag {
        Some(tag) => response.header("ETag", tag),
        None => response,
    }
}

fn part(selection: range::Selection, length: u64, is_json: bool, bytes: Vec<u8>) -> Response {
    let show = |status: u16, selected: u64| match is_json {
        true => Response::json(status, beginning(selected, bytes)),
        false => Response::text(status, beginning(selected, bytes)),
    };
    match selection {
        range::Selection::Whole => show(200, length).header("Accept-Ranges", "bytes"),
        range::Selection::Part(part) => {
            show(206, part.end - part.start).header("Content-Range", range::content_range(&part, length))
        }
        range::Selection::Unsatisfiable => {
            let problem = Problem::new(416, "range_not_satisfiable", format!("the output has {length} bytes"));
            Response::from(problem).header("Content-Range", range::unsatisfied(length))
        }
    }
}

/// Content of so many bytes, of which `bytes` are the first. Where only its length was asked for they are none.
fn beginning(length: u64, bytes: Vec<u8>) -> Body {
    let mut body = Body::pulled(length);
    if !bytes.is_empty() && !body.give(bytes) {
        log::error!("the log gave more of an output than was selected");
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_contradicts_the_store_is_no_body_that_is_too_large() {
        let status = |refused: &Refusal| (refusal(refused).status, refusal(refused).code);
        assert_eq!(status(&Refusal::NotKept), (500, "internal"));
        assert_eq!(status(&Refusal::TooLarge), (413, "body_too_large"));
    }
}
