//! What clients ask for: requests as bytes, good ones and bad ones, each with what has to come of it.

use serde_json::{Value, json};

use super::client::{Asked, Lost, TicketUse, What};
use super::follower::{Shown, Wanted};
use super::laws::BODY_BYTES;
use super::medium::Medium;
use super::world::World;
use crate::auth::Scope;
use crate::formats::Format;
use crate::model::{ProjectId, RunId};

/// Projects that clients know.
pub(super) const PROJECTS: usize = 4;

/// A request before it is bytes.
pub(super) struct Draft {
    pub(super) method: &'static str,
    pub(super) target: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Option<String>,
}

/// Requests that are refused before anyone looks who asks, with the status; those that break the framing end the
/// connection.
const BAD: [(&str, u16); 18] = [
    ("GET /healthz HTTP/1.1\r\n\r\n", 400),
    ("GET /healthz HTTP/1.1\nHost: h\n\n", 400),
    ("GET /healthz HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", 400),
    ("GET /healthz HTTP/1.1\r\nHost : h\r\n\r\n", 400),
    ("GET /healthz HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n", 400),
    ("GET /healthz HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    ("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    ("POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    ("POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    ("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 99999\r\n\r\n", 413),
    ("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nExpect: tea\r\n\r\nx", 417),
    ("BREW /pot HTTP/1.1\r\nHost: h\r\n\r\n", 501),
    ("GET /healthz HTTP/3.0\r\nHost: h\r\n\r\n", 505),
    ("\x16\x03\x01\x02", 400),
    ("GET /nowhere HTTP/1.1\r\nHost: h\r\n\r\n", 404),
    ("DELETE /api/projects HTTP/1.1\r\nHost: h\r\n\r\n", 405),
    ("GET /api/sse/projects/a%20b HTTP/1.1\r\nHost: h\r\n\r\n", 400),
];

/// How many of [`BAD`], from the end, leave the connection as it was.
const BAD_AND_WELL_FRAMED: usize = 3;

/// Calls whose bodies are no good, with the status.
const BAD_BODIES: [(&str, &str, u16); 7] = [
    ("/api/projects/p1/events", "{", 400),
    ("/api/projects/p1/events", "\"text\"", 422),
    ("/api/projects/p1/events", r#"{"type":"A","payload":{}}"#, 422),
    ("/api/projects/p1/events", r#"[{"type":"a","payload":{}},{"type":"b","payload":[]}]"#, 422),
    ("/api/projects/p1/workflows", "[]", 400),
    ("/api/projects/p1/workflows", r#"{"name":"n","steps":[]}"#, 422),
    ("/api/workflow/check", r#"{"name":"n","steps":[{"id":"a","tool":"none"}]}"#, 422),
];

impl<M: Medium> World<M> {
    /// A random request of a client's.
    pub(super) fn ask(&mut self, index: usize) {
        match self.rng.below(100) {
            0..8 => self.ask_bad(index),
            8..12 => self.ask_bad_body(index),
            12..36 => self.ask_stream(index),
            36..58 => self.ask_publish(index),
            58..68 => self.ask_submit(index),
            68..70 => self.ask_rerun(index),
            70..74 => self.ask_cancel(index),
            74..86 => self.ask_read(index),
            86..92 if self.laws.is_jwt => self.ask_ticket(index),
            92..95 => self.ask_large(index),
            _ => self.ask_plain(index),
        }
    }

    pub(super) fn any_project(&mut self) -> ProjectId {
        // One that is busy, so that its backlog and history run over, and some that are not.
        let n = if self.rng.one_in(2) { 0 } else { self.rng.below(PROJECTS) };
        ProjectId::parse(&format!("p{n}")).expect("an id")
    }

    fn any_run(&mut self, project: &ProjectId) -> Option<RunId> {
        let runs: Vec<RunId> = self.model.project(project)?.runs.keys().cloned().collect();
        (!runs.is_empty()).then(|| runs[self.rng.below(runs.len())].clone())
    }

    /// A run that goes on, or another where none does.
    fn any_open_run(&mut self, project: &ProjectId) -> Option<RunId> {
        let runs = self.model.project(project)?.runs.iter().filter(|(_, run)| run.last_seq().is_none());
        let open: Vec<RunId> = runs.map(|(id, _)| id.clone()).collect();
        if open.is_empty() { self.any_run(project) } else { Some(open[self.rng.below(open.len())].clone()) }
    }

    fn any_token(&mut self) -> Option<usize> {
        self.laws.is_jwt.then(|| if self.rng.one_in(2) { 0 } else { self.rng.below(self.tokens.all.len()) })
    }

    pub(super) fn asked(&self, what: What, who: Option<usize>, needs: Option<(Scope, &ProjectId)>) -> Asked {
        let may = needs.is_none_or(|(scope, project)| self.tokens.may(who, scope, project));
        let is_late = self.tokens.expires_at(who).is_some_and(|end| end <= self.now.wall);
        Asked {
            what,
            end: 0,
            is_head: false,
            is_of_1_0: false,
            expects_continue: false,
            who,
            may,
            is_late,
            at: self.now.mono,
        }
    }

    pub(super) fn put(&mut self, index: usize, mut draft: Draft, mut asked: Asked) {
        if let Some(who) = asked.who.filter(|_| !draft.target.contains("ticket=")) {
            draft.headers.push(("Authorization", format!("Bearer {}", self.tokens.all[who].text)));
        }
        if self.clients[index].is_proxy {
            draft.headers.push(("X-Forwarded-For", format!("203.0.113.{}", self.rng.below(3))));
        }
        if self.rng.one_in(20) {
            draft.headers.push(("Origin", "https://listed.example".to_owned()));
        }
        asked.is_head = draft.method == "HEAD";
        asked.is_of_1_0 = self.rng.one_in(10);
        let version = if asked.is_of_1_0 { "HTTP/1.0" } else { "HTTP/1.1" };
        let mut text = format!("{} {} {version}\r\nHost: h\r\n", draft.method, draft.target);
        for (name, value) in draft.headers {
            text += &format!("{name}: {value}\r\n");
        }
        match draft.body {
            None => text += "\r\n",
            Some(body) if version == "HTTP/1.1" && self.rng.one_in(4) => {
                text += "Transfer-Encoding: chunked\r\n\r\n";
                for chunk in body.as_bytes().chunks(100 + self.rng.below(700)) {
                    text += &format!("{:x}\r\n{}\r\n", chunk.len(), str::from_utf8(chunk).expect("ASCII"));
                }
                text += "0\r\n\r\n";
            }
            Some(body) => {
                asked.expects_continue = version == "HTTP/1.1" && self.rng.one_in(5);
                text += if asked.expects_continue { "Expect: 100-continue\r\n" } else { "" };
                text += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
            }
        }
        let line = text.lines().next().unwrap_or_default().to_owned();
        self.note(|| format!("client {index} asks {line}"));
        self.clients[index].ask(text.as_bytes(), asked);
    }

    fn ask_bad(&mut self, index: usize) {
        let (bytes, status) = match self.rng.below(BAD.len() + 2) {
            0 => (format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(1500)), 414),
            1 => (format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(3000)), 431),
            n => (BAD[n - 2].0.to_owned(), BAD[n - 2].1),
        };
        let breaks = !BAD[BAD.len() - BAD_AND_WELL_FRAMED..].iter().any(|(text, _)| *text == bytes);
        let asked = self.asked(What::Status(status), None, None);
        self.note(|| format!("client {index} asks what is {status}"));
        self.clients[index].ask(bytes.as_bytes(), asked);
        // Nothing that comes behind it would be heard.
        self.clients[index].is_stuck |= breaks;
    }

    fn ask_bad_body(&mut self, index: usize) {
        let (target, body, status) = BAD_BODIES[self.rng.below(BAD_BODIES.len())];
        let who = self.laws.is_jwt.then_some(0);
        let (headers, status) = match self.rng.one_in(6) {
            true => (vec![("Content-Type", "text/plain".to_owned())], 415),
            false => (Vec::new(), status),
        };
        let asked = self.asked(What::Status(status), who, None);
        let draft = Draft { method: "POST", target: target.to_owned(), headers, body: Some(body.to_owned()) };
        self.put(index, draft, asked);
    }

    /// A stream: of everything or of one run; fresh, or from where the client says it was.
    pub(super) fn ask_stream(&mut self, index: usize) {
        if self.rng.one_in(4) {
            return self.ask_several(index);
        }
        let ticket = self.any_ticket();
        let project = match ticket {
            Some(ticket) if !self.rng.one_in(5) => self.tokens.tickets[ticket].project.clone(),
            _ => self.any_project(),
        };
        let is_retold = self.rng.one_in(3);
        let run = match is_retold {
            true => self.any_open_run(&project),
            false if self.rng.one_in(4) => self.any_run(&project),
            false => None,
        };
        let words = Format::WORDS;
        let format = run.as_ref().filter(|_| is_retold).map(|_| words[self.rng.below(words.len())]);
        let (id, shown) = match &run {
            Some(run) if is_retold && self.rng.one_in(2) => self.any_position_of(&project, run),
            _ => self.any_position(&project),
        };
        let is_in_query = id.is_some() && self.rng.one_in(4);
        let end = run.as_ref().and_then(|run| self.model.run(&project, run)).and_then(|run| run.last_seq());
        let has_seen_the_end =
            self.laws.keeps_runs() && matches!((shown, end), (Some(Shown::Seq(seq)), Some(end)) if seq >= end);
        let (snapshots, heartbeat_as_message) = (!self.rng.one_in(4), self.rng.one_in(4));
        let heartbeat_as_message = heartbeat_as_message && format.is_none();
        let accepts_events = !self.rng.one_in(3);
        let is_event_source = accepts_events && format.is_none();
        // Without snapshots it may begin at what the loop knows of: what the log has besides is on its way there.
        let known = self.server.newest_broadcast(&project).filter(|_| !snapshots && format.is_none());
        let newest = known.unwrap_or(self.model.newest(&project));
        let mut query: Vec<String> = Vec::new();
        query.extend(run.as_ref().map(|run| format!("runId={run}")));
        query.extend(format.map(|(word, _)| format!("format={word}")));
        query.extend((!snapshots).then(|| "snapshot=0".to_owned()));
        query.extend(heartbeat_as_message.then(|| "heartbeat=message".to_owned()));
        query.extend(id.as_ref().filter(|_| is_in_query).map(|id| format!("lastEventId={id}")));
        query.extend(ticket.map(|ticket| format!("ticket={}", self.tokens.tickets[ticket].text)));
        let mut headers = Vec::new();
        headers.extend(accepts_events.then(|| ("Accept", "text/event-stream".to_owned())));
        headers.extend(id.filter(|_| !is_in_query).map(|id| ("Last-Event-ID", id)));
        let shows_id = headers.iter().any(|(name, id)| {
            let signed = self.tokens.signer.read(id, &project);
            *name == "Last-Event-ID" && signed.is_ok()
        });
        let ask_for = project.clone();
        let format = format.map(|(_, format)| format);
        let wanted = Wanted {
            project,
            run,
            format,
            shown,
            snapshots,
            heartbeat_as_message,
            is_event_source,
            newest,
            has_seen_the_end,
            beside: None,
        };
        let is_head = self.rng.one_in(12);
        let who = match ticket {
            Some(ticket) => Some(self.tokens.tickets[ticket].token),
            None => self.any_token(),
        };
        let used = ticket.map(|ticket| self.use_ticket(ticket, shows_id, is_head));
        let what = What::Stream { wanted: Box::new(wanted), ticket: used };
        let mut asked = self.asked(what, who, Some((Scope::Subscribe, &ask_for)));
        asked.may &= ticket.is_none_or(|ticket| self.tokens.tickets[ticket].project == ask_for);
        let target = format!("/api/sse/projects/{ask_for}?{}", query.join("&"));
        let method = if is_head { "HEAD" } else { "GET" };
        self.put(index, Draft { method, target, headers, body: None }, asked);
    }

    /// A stream that was lost, as an `EventSource` asks for it again: at the same address, behind what it was sent.
    pub(super) fn ask_again(&mut self, index: usize, lost: Lost) {
        if lost.wanted.beside.is_some() {
            return self.ask_for_several_again(index, lost);
        }
        let Lost { wanted, seq, who, ticket, .. } = lost;
        let project = wanted.project.clone();
        let end = wanted.run.as_ref().and_then(|run| self.model.run(&project, run)).and_then(|run| run.last_seq());
        let newest = self.model.newest(&project);
        let wanted = Wanted {
            shown: Some(Shown::Seq(seq)),
            is_event_source: wanted.format.is_none(),
            newest,
            has_seen_the_end: end.is_some_and(|end| seq >= end),
            ..wanted
        };
        let mut query: Vec<String> = Vec::new();
        query.extend(wanted.run.as_ref().map(|run| format!("runId={run}")));
        query.extend(wanted.format.map(|format| format!("format={}", format.word())));
        query.extend((!wanted.snapshots).then(|| "snapshot=0".to_owned()));
        query.extend(wanted.heartbeat_as_message.then(|| "heartbeat=message".to_owned()));
        query.extend(ticket.map(|ticket| format!("ticket={}", self.tokens.tickets[ticket].text)));
        let headers = vec![("Accept", "text/event-stream".to_owned()), ("Last-Event-ID", self.model.id(&project, seq))];
        let used = ticket.map(|ticket| self.use_ticket(ticket, true, false));
        let what = What::Stream { wanted: Box::new(wanted), ticket: used };
        let mut asked = self.asked(what, who, Some((Scope::Subscribe, &project)));
        asked.may &= ticket.is_none_or(|ticket| self.tokens.tickets[ticket].project == project);
        let target = format!("/api/sse/projects/{project}?{}", query.join("&"));
        self.put(index, Draft { method: "GET", target, headers, body: None }, asked);
    }

    /// What a server has to refuse that knows that its store takes nothing.
    pub(super) fn ask_for_refusals(&mut self, index: usize) {
        let asked = self.asked(What::Status(503), None, None);
        let draft = Draft { method: "GET", target: "/readyz".to_owned(), headers: Vec::new(), body: None };
        self.put(index, draft, asked);
        let who = self.laws.is_jwt.then_some(0);
        let asked = self.asked(What::Status(503), who, None);
        let body = Some(r#"{"type":"refused","payload":{}}"#.to_owned());
        let target = "/api/projects/p0/events".to_owned();
        self.put(index, Draft { method: "POST", target, headers: Vec::new(), body }, asked);
    }

    fn any_ticket(&mut self) -> Option<usize> {
        let count = self.tokens.tickets.len();
        (count > 0 && self.rng.one_in(2)).then(|| count - 1 - self.rng.below(count.min(3)))
    }

    fn use_ticket(&mut self, ticket: usize, shows_id: bool, is_head: bool) -> TicketUse {
        let held = &mut self.tokens.tickets[ticket];
        let used = TicketUse { ticket, must_fail: held.is_spent && !shows_id, must_pass: held.is_spent && shows_id };
        held.uses += u32::from(!is_head);
        used
    }

    /// One event, or an array of them.
    pub(super) fn ask_publish(&mut self, index: usize) {
        let project = self.any_project();
        let is_array = self.rng.one_in(3);
        let count = if is_array { self.rng.below(8) } else { 1 };
        let mut events = Vec::new();
        let (mut bodies, mut room) = (Vec::new(), BODY_BYTES - 200);
        for _ in 0..count {
            let size = if self.rng.one_in(self.laws.large_in) { self.rng.below(3000) } else { self.rng.below(60) };
            let payload = format!(r#"{{"n":{},"text":"{}"}}"#, self.rng.below(1_000_000), "t".repeat(size));
            if payload.len() + 60 > room {
                break;
            }
            room -= payload.len() + 60;
            let kind = ["note", "chat.message", "heartbeat", "x-1_y"][self.rng.below(4)].to_owned();
            bodies.push(format!(r#"{{"type":"{kind}", "payload":{payload}}}"#));
            events.push((kind, payload));
        }
        let body = if is_array { format!("[{}]", bodies.join(",")) } else { bodies.concat() };
        let who = self.any_token();
        let target = format!("/api/projects/{project}/events");
        let what = What::Publish { project: project.clone(), events };
        let asked = self.asked(what, who, Some((Scope::Publish, &project)));
        self.put(index, Draft { method: "POST", target, headers: Vec::new(), body: Some(body) }, asked);
    }

    pub(super) fn ask_submit(&mut self, index: usize) {
        let project = self.any_project();
        let (mut headers, mut key) = (Vec::new(), String::new());
        let mut body = self.any_plan();
        if self.rng.one_in(3) {
            // The same few plans under the same few keys, again and again.
            let n = self.rng.below(4);
            key = format!("{project} key{n}");
            body = json!({"name": "again", "steps": [{"id": "a", "tool": "work", "inputs": {"n": n}}]});
            headers.push(("Idempotency-Key", format!("key{n}")));
        } else if self.rng.one_in(4) {
            // One that is let go is not taken on anew under the same id, for a day.
            let n = self.rng.below(4);
            key = format!("{project} run{n}");
            body = json!({"plan": {"name": "named", "steps": [{"id": "a", "tool": "delay", "inputs": {"ms": 5}}]},
                "runId": format!("run{n}")});
        }
        let who = self.any_token();
        let body = body.to_string();
        let target = format!("/api/projects/{project}/workflows");
        let asked = self.asked(What::Submit { key, body: body.clone() }, who, Some((Scope::Run, &project)));
        self.put(index, Draft { method: "POST", target, headers, body: Some(body) }, asked);
    }

    /// Any run again, now and then under one of a few keys.
    fn ask_rerun(&mut self, index: usize) {
        let project = self.any_project();
        let Some(run) = self.any_run(&project) else { return };
        let (mut headers, mut key) = (Vec::new(), String::new());
        if self.rng.one_in(2) {
            let n = self.rng.below(4);
            key = format!("{project} again{n}");
            headers.push(("Idempotency-Key", format!("again{n}")));
        }
        let who = self.any_token();
        let of = run.to_string();
        let asked = self.asked(What::Rerun { key, of }, who, Some((Scope::Run, &project)));
        let target = format!("/api/projects/{project}/workflows/{run}/rerun");
        self.put(index, Draft { method: "POST", target, headers, body: Some(String::new()) }, asked);
    }

    fn any_plan(&mut self) -> Value {
        let rng = &mut self.rng;
        let mut steps = Vec::new();
        for at in 0..1 + rng.below(5) {
            let dependencies: Vec<_> = (0..at).filter(|_| rng.one_in(3)).map(|step| format!("s{step}")).collect();
            let (tool, inputs) = match rng.below(8) {
                0 => ("fail", json!({"message": "no"})),
                1 => ("delay", json!({"ms": 300})),
                // What has a template is for a worker.
                2 => ("delay", json!({"ms": "{{ 300 }}"})),
                3 => ("echo", json!({"x": at})),
                _ if dependencies.is_empty() => ("work", json!({"x": at})),
                _ => ("echo", json!({"x": format!("{{{{ steps.{}.output }}}}", dependencies[0])})),
            };
            let mut step =
                json!({"id": format!("s{at}"), "tool": tool, "inputs": inputs, "dependencies": dependencies});
            if rng.one_in(3) {
                step["retryPolicy"] = json!({"maxRetries": 2, "initialDelay": 200});
            }
            if rng.one_in(4) {
                step["timeout"] = json!(50 + rng.below(2000));
            }
            if rng.one_in(6) {
                step["conditional"] = json!(["1 == 1", "1 == 2"][rng.below(2)]);
            }
            step["continueOnFailure"] = json!(rng.one_in(4));
            steps.push(step);
        }
        let on_failure = ["stop", "continue"][rng.below(2)];
        let mut plan = json!({"name": "random", "steps": steps, "onFailure": on_failure});
        if rng.one_in(5) {
            plan["timeout"] = json!(500 + rng.below(5000));
        }
        plan
    }

    pub(super) fn ask_cancel(&mut self, index: usize) {
        let project = self.any_project();
        let Some(run) = self.any_run(&project) else { return };
        let who = self.any_token();
        let asked = self.asked(What::Cancel, who, Some((Scope::Run, &project)));
        let target = format!("/api/projects/{project}/workflows/{run}/cancel");
        self.put(index, Draft { method: "POST", target, headers: Vec::new(), body: Some(String::new()) }, asked);
    }

    fn ask_read(&mut self, index: usize) {
        let project = self.any_project();
        let who = self.any_token();
        let base = format!("/api/projects/{project}/workflows");
        let run = self.any_run(&project);
        let (target, what) = match (self.rng.below(6), run) {
            (0, Some(run)) => (format!("{base}/{run}"), What::Run { project: project.clone(), run }),
            (1, Some(run)) => (format!("{base}/{run}/events?limit=7"), What::Events { project: project.clone(), run }),
            (2, Some(run)) => (format!("{base}/{run}/steps/s0/output"), What::Read),
            (3, _) => {
                let order = ["oldest", "newest"][self.rng.below(2)];
                let target = format!("/api/projects/{project}/events?limit=7&type=!workflow_*&order={order}");
                (target, What::History { project: project.clone() })
            }
            _ => (format!("{base}?limit=3"), What::Read),
        };
        let asked = self.asked(what, who, Some((Scope::Subscribe, &project)));
        let method = if self.rng.one_in(6) { "HEAD" } else { "GET" };
        self.put(index, Draft { method, target, headers: Vec::new(), body: None }, asked);
    }

    fn ask_ticket(&mut self, index: usize) {
        let project = self.any_project();
        let who = self.any_token();
        self.ask_ticket_of(index, project, who);
    }

    /// A ticket for the `n`th project, for whoever may do everything.
    pub(super) fn ask_for_ticket(&mut self, index: usize, n: usize) {
        let project = ProjectId::parse(&format!("p{}", n % PROJECTS)).expect("an id");
        self.ask_ticket_of(index, project, Some(0));
    }

    /// A stream of everything, fresh, by this ticket.
    pub(super) fn watch_with_ticket(&mut self, index: usize, ticket: usize) {
        let project = self.tokens.tickets[ticket].project.clone();
        let newest = self.model.newest(&project);
        let wanted = Wanted {
            project: project.clone(),
            run: None,
            format: None,
            shown: None,
            snapshots: true,
            heartbeat_as_message: false,
            is_event_source: true,
            newest,
            has_seen_the_end: false,
            beside: None,
        };
        let used = self.use_ticket(ticket, false, false);
        let who = Some(self.tokens.tickets[ticket].token);
        let target = format!("/api/sse/projects/{project}?ticket={}", self.tokens.tickets[ticket].text);
        let asked = self.asked(What::Stream { wanted: Box::new(wanted), ticket: Some(used) }, who, None);
        let headers = vec![("Accept", "text/event-stream".to_owned())];
        self.put(index, Draft { method: "GET", target, headers, body: None }, asked);
    }

    fn ask_ticket_of(&mut self, index: usize, project: ProjectId, who: Option<usize>) {
        let asked = self.asked(What::Ticket { project: project.clone() }, who, Some((Scope::Subscribe, &project)));
        let body = Some(json!({"projectId": project.as_str()}).to_string());
        self.put(index, Draft { method: "POST", target: "/api/sse/ticket".into(), headers: Vec::new(), body }, asked);
    }

    /// Answers so large that they wait for a reader.
    fn ask_large(&mut self, index: usize) {
        for n in 0..1 + self.rng.below(4) {
            let asked = self.asked(What::Status(200), None, None);
            let method = if n == 2 { "HEAD" } else { "GET" };
            let draft = Draft { method, target: "/openapi.json".into(), headers: Vec::new(), body: None };
            self.put(index, draft, asked);
        }
    }

    fn ask_plain(&mut self, index: usize) {
        let (method, target, what) = match self.rng.below(5) {
            0 => ("GET", "/readyz", What::Ready),
            1 => ("GET", "/metrics", What::Status(200)),
            2 => ("OPTIONS", "/api/projects", What::Status(204)),
            3 => ("HEAD", "/healthz", What::Status(200)),
            _ => ("GET", "/healthz", What::Status(200)),
        };
        let asked = self.asked(what, None, None);
        self.put(index, Draft { method, target: target.to_owned(), headers: Vec::new(), body: None }, asked);
    }
}
