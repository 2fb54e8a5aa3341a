//! Turns the log's answer into the response to the caller.

use serde_json::json;

use super::refusals::refusal;
use crate::auth::IdSigner;
use crate::formats::cloudevents::BATCH_MEDIA_TYPE;
use crate::http::{Body, Conditions, Problem, Response, range};
use crate::log::{Answer, Output, Rest};
use crate::model::{PlanName, ProjectId, RunId, decimal};

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
    /// What a run has done that was wanted of it.
    Steered,
    /// A run that was asked to end.
    Cancelled(RunId),
    /// A plan that was stored, or removed.
    PlanStored(PlanName),
    /// A stored plan or that of a run, or nothing where the client has it.
    StoredPlan(Conditions),
    /// A body as it comes.
    Body,
    /// A list of CloudEvents.
    Batch {
        /// The url of the next page, except for the id that it begins after.
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
            (Self::Steered, Answer::Accepted { body, replayed }) => {
                let response = Response::json(200, body);
                if replayed { response.header("Idempotent-Replay", "true") } else { response }
            }
            (_, Answer::Accepted { body, replayed: true }) => {
                Response::json(202, body).header("Idempotent-Replay", "true")
            }
            (_, Answer::Accepted { body, replayed: false }) => Response::json(202, body),
            (Self::Cancelled(run), Answer::CancelAccepted) => {
                Response::json(202, json!({"runId": run, "status": "cancelling"}).to_string())
            }
            (Self::PlanStored(name), Answer::PlanStored { is_new, tag, updated_at }) => {
                let tag = format!("\"{tag}\"");
                let body = json!({"name": name, "etag": tag, "updatedAt": updated_at}).to_string();
                Response::json(if is_new { 201 } else { 200 }, body).header("ETag", tag)
            }
            (Self::PlanStored(_), Answer::PlanRemoved) => Response::new(204),
            (Self::StoredPlan(asked), Answer::StoredPlan { body, tag }) => {
                let tag = format!("\"{tag}\"");
                let is_known = asked.is_known(Some(&tag));
                let response = if is_known { Response::new(304) } else { Response::json(200, body) };
                response.header("ETag", tag).header("Vary", "Authorization")
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

/// An array has no room for other fields, so they are headers.
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

/// Content of `length` bytes, which begins with `bytes`; these are empty if only the length was requested.
fn beginning(length: u64, bytes: Vec<u8>) -> Body {
    let mut body = Body::pulled(length);
    if !bytes.is_empty() && !body.give(bytes) {
        log::error!("the log gave more of an output than was selected");
    }
    body
}
