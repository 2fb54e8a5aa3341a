//! Decides whether a response answers a request.

use serde_json::Value;

use super::answer::Head;
use super::client::{Asked, Steer, TicketUse, What};
use super::medium::Medium;
use super::tokens;
use super::tokens::{TICKET_TTL, Ticket};
use super::world::World;
use crate::model::{ProjectId, RunId};

/// An answer that takes a server several turns.
const LARGE: &[u8] = include_bytes!("../../api/openapi.json");

impl<M: Medium> World<M> {
    /// Holds an answer that is no stream against what was asked.
    pub(super) fn judge(&mut self, index: usize, asked: &Asked, head: &Head, body: &[u8], is_whole: bool) {
        let status = head.status;
        let text = String::from_utf8_lossy(body).into_owned();
        if status >= 400 && !asked.is_head {
            let problem: Value = serde_json::from_slice(body).expect("a problem is JSON");
            assert_eq!((problem["status"].as_u64(), problem["code"].is_string()), (Some(status.into()), true));
            assert!(problem["title"].is_string() && problem["detail"].is_string(), "{text}");
            assert_eq!(head.get("content-type"), Some("application/problem+json"));
            if matches!(status, 503 | 429) {
                assert!(head.get("retry-after").is_some(), "{head:?}");
            }
        }
        if text.contains(r#""code":"too_many_keys""#) {
            self.meet("keys full");
        }
        match status {
            503 if self.may_refuse(index, asked.at) || self.was_down_since(asked.at) => {
                let is_stores = text.contains(r#""code":"store_unavailable""#);
                assert!(!is_stores || self.was_down_since(asked.at), "client {index}: {text}");
                if is_stores {
                    self.meet("store unavailable");
                }
                return self.judge_refusal(index, head);
            }
            // It may have been on its way for a while, to a slow reader who sent the rest meanwhile;
            // or there was so much of it that the time ran out before all of it was read.
            408 => {
                let reads_slowly = self.laws.read_bytes_max < usize::MAX;
                let was_slow = reads_slowly || self.clients[index].wire.borrow().was_blocked;
                return assert!(!is_whole || was_slow, "client {index}: {text}");
            }
            _ => {}
        }
        let is_bad = matches!(asked.what, What::Status(expected) if expected >= 400);
        assert!(is_bad || !self.clients[index].is_refused, "client {index} is one too many, and is answered {status}");
        if !matches!(asked.what, What::Status(_)) {
            self.judge_credentials(index, asked, status);
        }
        if matches!(status, 401 | 403) && !matches!(asked.what, What::Status(_)) {
            return;
        }
        if let Some(expected) = self.expected(asked) {
            assert!(expected.contains(&status), "client {index}: {status} and not {expected:?}: {text}");
        }
        if !asked.is_head {
            self.judge_body(index, asked, head, body);
        }
    }

    fn judge_refusal(&self, index: usize, head: &Head) {
        assert!(!self.clients[index].is_refused || head.closes(), "client {index}: {head:?}");
    }

    /// The statuses that a call may be answered with, besides those of the circumstances.
    fn expected(&self, asked: &Asked) -> Option<Vec<u16>> {
        Some(match &asked.what {
            // A plan may find the intake full before anyone sees that it is no good.
            What::Status(status @ (400 | 422)) => vec![*status, 429],
            What::Status(status) => vec![*status],
            What::Read | What::Run { .. } | What::Events { .. } => vec![200, 404],
            What::Ready | What::History { .. } => vec![200],
            What::Publish { .. } if self.laws.is_jwt => vec![202, 429],
            What::Publish { .. } => vec![202],
            What::Submit { body, .. } => {
                let mut expected = vec![202, 429, 422];
                expected.extend(body.contains("\"stored\"").then_some(404));
                expected.extend(body.contains("\"reject\"").then_some(409));
                expected
            }
            What::Rerun { .. } => vec![202, 404, 409, 429, 422],
            What::Any(expected) => expected.to_vec(),
            What::Steer(steered) => match steered.what {
                Steer::Retry => vec![202, 404, 409, 422, 429],
                Steer::Decide { .. } | Steer::Change { .. } => vec![200, 404, 409, 422, 429],
            },
            What::Cancel => vec![202, 404, 409],
            What::Ticket { .. } => vec![200],
            What::Stream { wanted, .. } => {
                let mut expected = vec![];
                expected.extend(wanted.run.is_some().then_some(404));
                expected.extend(wanted.has_seen_the_end.then_some(204));
                expected.extend((wanted.run.is_some() && wanted.shown.is_some()).then_some(204));
                expected.extend(asked.who.is_some().then_some(429));
                expected
            }
        })
    }

    /// Was the caller let in, or turned away, as its token says?
    pub(super) fn judge_credentials(&mut self, index: usize, asked: &Asked, status: u16) {
        let has_ended = self.tokens.expires_at(asked.who).is_some_and(|end| end <= self.now.wall);
        if let What::Stream { ticket: Some(used), .. } = asked.what {
            return self.judge_ticket(index, asked, used, status);
        }
        match status {
            401 => assert!(has_ended, "client {index}: its token is good"),
            403 => assert!(!asked.may, "client {index}: it may"),
            _ => assert!(asked.may && !asked.is_late, "client {index}: {status} though it may not"),
        }
    }

    fn judge_ticket(&self, index: usize, asked: &Asked, used: TicketUse, status: u16) {
        let held = &self.tokens.tickets[used.ticket];
        let ttl_ms = u64::try_from(TICKET_TTL.as_millis()).expect("small");
        // By a clock that was set back it is of the future, and nobody can tell how much time it has left.
        let is_of_the_future = held.issued_at.millis_since(self.now.wall) > ttl_ms;
        let is_old = is_of_the_future || self.now.wall >= held.issued_at.plus_millis(ttl_ms);
        let has_ended = self.tokens.expires_at(asked.who).is_some_and(|end| end <= self.now.wall);
        if status == 403 {
            assert!(!used.must_pass || has_ended || !asked.may, "client {index}: its ticket opens its stream again");
            let may_fail = held.uses > u32::from(!asked.is_head) || is_old || has_ended || !asked.may;
            assert!(may_fail, "client {index}: its ticket is good");
        } else {
            assert!(asked.may && !asked.is_late, "client {index}: {status} though its ticket is no good");
        }
    }

    fn judge_body(&mut self, index: usize, asked: &Asked, head: &Head, body: &[u8]) {
        match (&asked.what, head.status) {
            (What::Publish { project, events }, 202) => self.judge_published(index, project, events, body),
            (What::Submit { key, body: sent, .. }, 202) => self.judge_accepted(key, sent, head, body),
            (What::Submit { .. } | What::Rerun { .. }, 409) => {
                assert!(String::from_utf8_lossy(body).contains(r#""code":"concurrency_conflict""#));
                self.meet("group full");
            }
            (What::Rerun { key, of }, 202) => {
                self.meet("run again");
                self.judge_accepted(key, of, head, body);
            }
            (What::Steer(steered), _) => self.judge_steered(asked, steered, head, body),
            (What::Status(200), 200) if body.len() >= LARGE.len() => {
                self.meet("large answer");
                assert!(body == LARGE, "client {index}: pieces are missing, or stand in another order");
            }
            (What::Run { project, run }, 200) => self.judge_run(project, run, body),
            (What::Events { project, run }, 200) => self.judge_events(project, run, body),
            (What::History { project }, 200) => self.judge_history(project, body),
            (What::Ticket { project }, 200) => {
                let answer: Value = serde_json::from_slice(body).expect("JSON");
                let text = answer["ticket"].as_str().expect("a ticket").to_owned();
                let token = asked.who.expect("tickets are for those with a token");
                // Its client may have read it late.
                let (project, issued_at) = (project.clone(), tokens::issued_at(&text));
                self.tokens.tickets.push(Ticket { text, project, token, issued_at, uses: 0, is_spent: false });
            }
            _ => {}
        }
    }

    /// Each event stands in the history, as it was sent, in the order sent.
    fn judge_published(&mut self, index: usize, project: &ProjectId, events: &[(String, String)], body: &[u8]) {
        let answer: Value = serde_json::from_slice(body).expect("JSON");
        let ids = answer["ids"].as_array().expect("ids");
        assert!(answer["subscribers"].is_u64() && ids.len() == events.len(), "client {index}: {answer}");
        let Some(project_model) = self.model.project(project) else { return assert!(events.is_empty()) };
        let mut last = None;
        for (id, (kind, payload)) in ids.iter().zip(events) {
            let id = self.model.signer.read(id.as_str().expect("an id"), project).expect("an id of the project");
            assert!(last.is_none_or(|last: u64| id.seq() == last + 1), "they stand side by side");
            last = Some(id.seq());
            let seq = id.seq();
            let kept = &project_model.history[usize::try_from(seq - 1).expect("small")];
            let expected = format!(r#"{{"type":"{kind}","projectId":"{project}","seq":{seq},"payload":{payload}}}"#);
            assert_eq!(String::from_utf8_lossy(&kept.json), expected);
        }
    }

    /// The same call twice has the same answer twice, and the second says so.
    fn judge_accepted(&mut self, key: &str, sent: &str, head: &Head, body: &[u8]) {
        let is_replay = head.get("idempotent-replay") == Some("true");
        let answer: Value = serde_json::from_slice(body).expect("JSON");
        assert!(answer["runId"].is_string() && answer["planSummary"].is_object(), "{answer}");
        let id = answer["runId"].as_str();
        assert!(self.model.runs().any(|(_, run, _)| Some(run.as_str()) == id), "a run that was taken on: {answer}");
        if key.is_empty() {
            return;
        }
        // Whatever has become of its run.
        if is_replay {
            self.meet("replay");
        }
        self.judge_same(key.to_owned(), sent.to_owned(), body);
    }

    /// What is sent under a key is answered as it was before.
    pub(super) fn judge_same(&mut self, key: String, sent: String, body: &[u8]) {
        let before = self.accepted.entry(key).or_insert_with(|| (sent.clone(), body.to_vec()));
        assert_eq!((&before.0, before.1.as_slice()), (&sent, body));
    }

    /// The state is the fold of the messages up to the one that it names.
    fn judge_run(&self, project: &ProjectId, run: &RunId, body: &[u8]) {
        let answer: Value = serde_json::from_slice(body).expect("JSON");
        let last = answer["lastEventId"].as_str().expect("an id");
        let last = self.model.signer.read(last, project).expect("an id of the project").seq();
        let known = self.model.run(project, run).expect("it is known to the model");
        let mut expected = known.snapshots(last, project, &self.model.signer);
        let is_as_shown = |expected: &mut Value| {
            let (mut shown, steps) = (answer.clone(), expected["steps"].as_array().map_or(0, Vec::len));
            for at in 0..steps {
                // The answer holds outputs whole, where the messages have them cut.
                if expected["steps"][at]["truncated"] == true && shown["steps"].get(at).is_some() {
                    let blank = |view: &mut Value| view["steps"][at] = Value::Null;
                    blank(&mut shown);
                    blank(expected);
                }
            }
            shown == *expected
        };
        assert!(expected.iter_mut().any(is_as_shown), "{answer:#} is none of {expected:#?}");
    }

    fn judge_events(&self, project: &ProjectId, run: &RunId, body: &[u8]) {
        let answer: Value = serde_json::from_slice(body).expect("JSON");
        let seqs: Vec<_> = answer["events"]
            .as_array()
            .expect("events")
            .iter()
            .map(|event| self.judge_kept(project, Some(run), event))
            .collect();
        assert!(seqs.is_sorted_by(|a, b| a < b));
    }

    /// What publishers said, in one order or the other.
    fn judge_history(&self, project: &ProjectId, body: &[u8]) {
        let answer: Value = serde_json::from_slice(body).expect("JSON");
        let seqs: Vec<_> = answer["events"]
            .as_array()
            .expect("events")
            .iter()
            .map(|event| self.judge_kept(project, None, event))
            .collect();
        assert!(seqs.is_sorted_by(|a, b| a < b) || seqs.is_sorted_by(|a, b| a > b));
        assert!(seqs.iter().all(|seq| *seq >= answer["oldest"].as_u64().expect("the oldest")));
    }

    /// An event with its id is a message as it was kept; its `seq`.
    fn judge_kept(&self, project: &ProjectId, run: Option<&RunId>, event: &Value) -> u64 {
        let history = &self.model.project(project).expect("it is known to the model").history;
        let seq = event["seq"].as_u64().expect("a seq");
        let kept = &history[usize::try_from(seq - 1).expect("small")];
        assert_eq!(kept.run.as_ref(), run);
        assert_eq!(event["id"].as_str(), Some(&*self.model.id(project, seq)));
        let mut message = event.clone();
        message.as_object_mut().expect("an object").remove("id");
        assert_eq!(message, serde_json::from_slice::<Value>(&kept.json).expect("JSON"));
        seq
    }
}
