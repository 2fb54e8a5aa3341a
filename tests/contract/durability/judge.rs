//! Compares what clients saw, and what they were answered, with what is stored.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use serde_json::Value;

use super::callers::{Cancelled, NOTE, Published, Submitted};
use super::judge_run::RunJudge;
use super::watcher::{Manner, Session};
use super::world::{FAREWELL, World};
use crate::common::client::Request;
use crate::common::server::Server;
use crate::common::stream::Event;
use crate::common::wait_for;

/// Attempts that a node makes in the time that it believes to be alive, at most.
const UNTOLD_MAX: u64 = 4;

/// All messages of a project; the one with `seq` n is the nth.
pub type History = Vec<Event>;

/// Reads a project's history from its first message to its last, which is the farewell.
pub fn history(world: &World, server: &Server, project: &str, first_id: &str) -> History {
    // A node that does not have its engine again yet asks its clients to come back.
    let mut stream = wait_for("a stream from the first message on", || {
        let request = Request::get(&format!("/api/sse/projects/{project}"));
        let mut stream = server.stream_of(request.token(&world.token).header("Last-Event-ID", first_id));
        let first = stream.next().filter(|first| first.message["type"] == "connected")?;
        assert_eq!(first.message["payload"]["resume"], "resumed");
        Some(stream)
    });
    let history = stream.until(|message| message["type"] == FAREWELL);
    for (n, event) in history.iter().enumerate() {
        assert_eq!(event.seq(), n as u64 + 1, "{project}: a gap in the history: {event:?}");
    }
    let ids: HashSet<&str> = history.iter().map(Event::id).collect();
    assert_eq!(ids.len(), history.len(), "{project}: an id twice");
    history
}

/// The calls that commands noted, each as it was made: project, run, step, attempt.
pub struct Ledger(HashMap<(String, String, String), Vec<u64>>);

impl Ledger {
    pub fn read(path: &Path) -> Self {
        // Not there where no command was ever called.
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let mut calls: HashMap<_, Vec<u64>> = HashMap::new();
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [project, run, step, attempt] = words[..] else { panic!("a line of the ledger: {line}") };
            let place = (project.to_owned(), run.to_owned(), step.to_owned());
            calls.entry(place).or_default().push(attempt.parse().expect("a number"));
        }
        Self(calls)
    }

    /// The attempts at a step that were really made.
    pub fn attempts(&self, project: &str, run: &str, step: &str) -> &[u64] {
        self.0.get(&(project.to_owned(), run.to_owned(), step.to_owned())).map_or(&[], Vec::as_slice)
    }
}

/// How many runs there were.
#[derive(Default)]
pub struct Runs {
    pub count: usize,
    /// Steps that a kill interrupted.
    pub interrupted: usize,
}

/// One project of a trial that is over.
pub struct Project<'a> {
    pub name: &'a str,
    pub world: &'a World,
    pub server: &'a Server,
    pub history: &'a History,
    pub kills: u64,
}

impl Project<'_> {
    /// What each client saw is a part of the history, and snapshots tell what the messages before them tell.
    pub fn check_sessions<'s>(&self, sessions: impl Iterator<Item = &'s Session>) {
        for session in sessions {
            self.check_seen(session);
            self.check_unnumbered(session);
        }
    }

    /// What a client saw is a part of the history, whole, in order, byte for byte.
    pub fn check_seen(&self, session: &Session) {
        let context = || format!("{} {:?} showing {:?}", self.name, session.manner, session.shown);
        let connected = &session.connected;
        let resume = if session.shown.is_some() { "resumed" } else { "fresh" };
        assert_eq!(connected.message["payload"]["resume"], resume, "{}", context());
        if let Some((id, seq)) = &session.shown {
            assert_eq!((connected.id(), connected.seq()), (id.as_str(), *seq), "{}", context());
        } else if !self.world.has_nodes() && !matches!(session.manner, Manner::OneRun(_)) {
            // Another node shows what this one has written a moment later, and then it comes.
            assert!(connected.seq() >= session.newest_before, "{}: {connected:?} goes back", context());
        }
        let expected = self.expected(session);
        let seen: Vec<&str> = session.messages().map(|event| event.raw.as_str()).collect();
        let expected: Vec<&str> = expected.take(seen.len()).map(|event| event.raw.as_str()).collect();
        let differs = seen.iter().zip(&expected).find(|(seen, expected)| seen != expected);
        assert_eq!(differs, None, "{}: seen, and in the history", context());
        assert_eq!(seen.len(), expected.len(), "{}: more than the history has", context());
    }

    /// What a client must see after it has connected.
    fn expected(&self, session: &Session) -> impl Iterator<Item = &Event> {
        let behind = match (&session.manner, &session.shown) {
            (Manner::OneRun(_), None) => 0,
            _ => session.connected.seq(),
        };
        let is_wanted = move |event: &&Event| match &session.manner {
            Manner::OneRun(run) => event.message["payload"]["runId"] == run.as_str(),
            _ => true,
        };
        self.history.iter().skip(behind as usize).filter(is_wanted)
    }

    /// Snapshots come before the first message, and tell what the messages up to there tell.
    fn check_unnumbered(&self, session: &Session) {
        for event in session.events.iter().filter(|event| event.id.is_none()) {
            assert_eq!(event.kind(), "workflow_snapshot", "{} {:?}", self.name, session.manner);
            assert!(session.shown.is_none(), "a snapshot for one who was resumed: {event:?}");
            let state = &event.message["payload"];
            let run = state["runId"].as_str().expect("a run id");
            assert_eq!(event.seq(), session.connected.seq(), "{event:?}");
            let messages = self.of_run(run).into_iter().take_while(|message| message.seq() <= event.seq());
            RunJudge::fold(run, messages).check_state(state);
        }
    }

    pub fn of_run(&self, run: &str) -> Vec<&Event> {
        self.history.iter().filter(|event| event.message["payload"]["runId"] == run).collect()
    }

    /// What was acknowledged is there once, where the answer said; what was not is there at most once.
    pub fn check_published(&self, calls: &[Published]) {
        let mut found: BTreeMap<u64, Vec<&Event>> = BTreeMap::new();
        for event in self.history.iter().filter(|event| event.kind() == NOTE) {
            let call = event.message["payload"]["call"].as_u64().expect("a number");
            found.entry(call).or_default().push(event);
        }
        for Published { call, count, ids } in calls {
            let events = found.remove(call).unwrap_or_default();
            let context = || format!("{} call {call}, answered {ids:?}: {events:#?}", self.name);
            if ids.is_none() && events.is_empty() {
                continue;
            }
            let order: Vec<u64> = events.iter().filter_map(|event| event.message["payload"]["n"].as_u64()).collect();
            assert_eq!(order, (0..*count).collect::<Vec<_>>(), "all or nothing, once, in order: {}", context());
            assert!(events.windows(2).all(|pair| pair[1].seq() == pair[0].seq() + 1), "together: {}", context());
            if let Some(ids) = ids {
                assert!(events.iter().map(|event| event.id()).eq(ids), "{}", context());
            }
        }
        assert!(found.is_empty(), "nobody published {found:#?}");
    }

    /// Each plan that was taken on was run once, and well.
    pub fn check_runs(&self, submitted: &[Submitted], ledger: &Ledger) -> Runs {
        let listed = self.listed();
        let mut runs = Runs { count: listed.len(), interrupted: 0 };
        for new in submitted {
            let ids: Vec<&String> = listed.iter().filter(|(_, name)| **name == new.name).map(|(run, _)| run).collect();
            let context = || format!("{} {:?}: {ids:?}", self.name, new.answer);
            assert!(ids.len() <= 1, "run twice: {}", context());
            assert!(ids.len() == 1 || new.answer.is_none(), "lost: {}", context());
            let Some(&run) = ids.first() else { continue };
            assert!(new.run().is_none_or(|answered| answered == run), "{}", context());
            runs.interrupted += self.check_run(run, new, ledger);
        }
        let speaking: HashSet<&str> =
            self.history.iter().filter_map(|event| event.message["payload"]["runId"].as_str()).collect();
        assert_eq!(speaking, listed.keys().map(String::as_str).collect(), "{}: those that are listed speak", self.name);
        runs
    }

    fn check_run(&self, run: &str, new: &Submitted, ledger: &Ledger) -> usize {
        let messages = self.of_run(run);
        let judge = RunJudge::fold(run, messages.iter().copied());
        judge.check_end(&new.plan);
        // A node whose engine does not answer works on for as long as it may believe to be alive, and is not believed then.
        let untold = if self.world.has_nodes() { UNTOLD_MAX } else { 1 };
        judge.check_ledger(&new.plan, untold, |step| ledger.attempts(self.name, run, step));
        let status = judge.status();
        assert!(!new.is_endless || status == "cancelled", "{run} was cancelled: {status}");
        if new.cancelled == Cancelled::Never {
            assert_ne!(status, "cancelled", "{run} was never cancelled");
        }
        let path = format!("/api/projects/{}/workflows/{run}", self.name);
        let state = self.get(&path);
        judge.check_state(&state);
        let last = messages.last().expect("a last message");
        assert_eq!(state["lastEventId"], last.id(), "{run}");
        let events = self.paged(&format!("{path}/events?limit=7"), "after", "events");
        let listed = events.iter().map(|event| (event["id"].as_str().expect("an id"), without_id(event)));
        let expected = messages.iter().map(|event| (event.id(), event.message.clone()));
        assert!(listed.eq(expected), "{run}: {events:#?}");
        assert!(judge.interrupted() as u64 <= self.kills * state["steps"].as_array().map_or(0, Vec::len) as u64);
        judge.interrupted()
    }

    /// All runs that the server lists: id and plan.
    fn listed(&self) -> HashMap<String, String> {
        let rows = self.paged(&format!("/api/projects/{}/workflows?limit=5", self.name), "before", "workflows");
        let count = rows.len();
        let text = |row: &Value, key: &str| row[key].as_str().expect("text").to_owned();
        let listed: HashMap<_, _> = rows.iter().map(|row| (text(row, "runId"), text(row, "planName"))).collect();
        assert_eq!(listed.len(), count, "a run listed twice");
        listed
    }

    pub fn paged(&self, path: &str, parameter: &str, key: &str) -> Vec<Value> {
        let mut page = self.get(path);
        let mut rows = Vec::new();
        loop {
            rows.extend(page[key].as_array().expect("a list").iter().cloned());
            let Some(next) = page["next"].as_str() else { return rows };
            page = self.get(&format!("{path}&{parameter}={next}"));
        }
    }

    pub fn get(&self, path: &str) -> Value {
        // A node of several finds out with a first call that its connections are gone.
        let answer = wait_for("an answer", || {
            let answer = self.server.call(Request::get(path).token(&self.world.token));
            (!self.world.is_refusal(answer.status)).then_some(answer)
        });
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }
}

fn without_id(event: &Value) -> Value {
    let mut message = event.clone();
    message.as_object_mut().expect("an object").shift_remove("id");
    message
}
