//! The requests of clients as bytes, valid and invalid ones, each with the expected response.

use super::client::{Asked, What};
use super::laws::BODY_BYTES;
use super::medium::Medium;
use super::world::World;
use crate::auth::Scope;
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
            12..34 => self.ask_stream(index),
            34..50 => self.ask_publish(index),
            50..60 => self.ask_submit(index),
            60..71 => self.ask_steering(index),
            71..72 => self.ask_rerun(index),
            72..74 => self.ask_cancel(index),
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

    pub(super) fn any_run(&mut self, project: &ProjectId) -> Option<RunId> {
        let runs: Vec<RunId> = self.model.project(project)?.runs.keys().cloned().collect();
        (!runs.is_empty()).then(|| runs[self.rng.below(runs.len())].clone())
    }

    /// A run that goes on, or another where none does.
    pub(super) fn any_open_run(&mut self, project: &ProjectId) -> Option<RunId> {
        let runs = self.model.project(project)?.runs.iter().filter(|(_, run)| run.last_seq().is_none());
        let open: Vec<RunId> = runs.map(|(id, _)| id.clone()).collect();
        if open.is_empty() { self.any_run(project) } else { Some(open[self.rng.below(open.len())].clone()) }
    }

    pub(super) fn any_token(&mut self) -> Option<usize> {
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
        // Nothing that comes after it would be heard.
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
        let step = format!("s{}", self.rng.below(4));
        let (target, what) = match (self.rng.below(8), run) {
            (0, Some(run)) => (format!("{base}/{run}"), What::Run { project: project.clone(), run }),
            (1, Some(run)) => (format!("{base}/{run}/events?limit=7"), What::Events { project: project.clone(), run }),
            (2, Some(run)) => (format!("{base}/{run}/steps/{step}/output"), What::Read),
            (4, Some(run)) => (format!("{base}/{run}/steps/{step}/items?limit=3"), What::Read),
            (5, Some(run)) => (format!("{base}/{run}/plan"), What::Read),
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
