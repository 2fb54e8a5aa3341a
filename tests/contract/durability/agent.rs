//! Agents that steer their runs while the server is killed again and again: they propose a plan, change it twice,
//! decide what it asks, run a step for each item of a list, fail, and retry from the failure. What they were told must
//! hold, and nothing may be done twice that must not be.
//!
//! `examples/agent/agent.mjs` has the same conversation.

use std::path::Path;
use std::sync::Mutex;
use std::thread::Scope;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::agent_judge::AgentJudge;
use super::judge::{self, Ledger, Project};
use super::trial::{Report, first_id, guarded, kill_and_finish, own_address};
use super::watcher::{Manner, Session, Watcher};
use super::world::World;
use crate::common::DEADLINE;
use crate::common::client::{Request, Response};
use crate::common::random::Random;
use crate::common::server::{Setup, TempDirectory};

/// Where the agents work.
const PROJECT: &str = "agents";

/// Agents of a trial.
const AGENTS: u64 = 2;

/// Items that each of them fans out over, twice.
pub const ITEMS: u64 = 50;

/// Runs that an agent makes at most: one that a kill fails beyond its plan goes on once more.
const RUNS_MAX: usize = 8;

/// How long an agent waits before it looks again.
const PAUSE: Duration = Duration::from_millis(20);

/// What an agent was told, which has to hold.
#[derive(Default)]
pub struct Told {
    /// Its first run, and those that went on from it.
    pub runs: Vec<String>,
    /// Changes of its first run's plan: the revision that came of each, and a step that it added.
    pub changes: Vec<(u64, String)>,
    /// What was decided, as it was answered.
    pub decision: Option<Value>,
    /// What it saw completed: run, step or item, and how often its command had been called by then.
    pub completed: Vec<(String, String, usize)>,
}

/// Carries out a trial. Panics where anything is not as it should be.
pub fn carry_out(seed: u64, kills_max: u64) -> Report {
    let mut random = Random::new(seed);
    let directory = TempDirectory::new();
    let ledger = directory.join("ledger");
    let setup = Setup::default().with_tokens().config(&config(&ledger)).data(&directory.join("data"));
    let world = World::new(AGENTS as usize);
    let server = setup.clone().listen(own_address(seed.wrapping_add(1 << 32))).start();
    let setup = setup.listen(server.address);
    world.set_address(Some(server.address));
    let start = first_id(&world, &server, PROJECT);

    let (told, sessions) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let (server, kills) = std::thread::scope(|scope| {
        let watchers = Watchers { scope, world: &world, sessions: &sessions };
        for manner in [Manner::Steady, Manner::Slow, Manner::Rover] {
            watchers.watch(manner, random.fork());
        }
        for number in 0..AGENTS {
            let agent = Agent {
                world: &world,
                watchers,
                ledger: &ledger,
                number,
                random: random.fork(),
                told: Told::default(),
            };
            let (world, told) = (&world, &told);
            scope.spawn(move || {
                let heard = guarded(world, || agent.work());
                world.caller_is_done();
                told.lock().expect("nobody panics while holding it").extend(heard);
            });
        }
        let killed = guarded(&world, || kill_and_finish(&world, server, &setup, &mut random, kills_max, &[PROJECT]));
        killed.inspect(|_| world.finish())
    })
    .unwrap_or_else(|| panic!("{}", world.failure().unwrap_or_default()));
    if let Some(failure) = world.failure() {
        panic!("{failure}; the server: {:#?}", server.log());
    }

    let ledger = Ledger::read(&ledger);
    let history = judge::history(&world, &server, PROJECT, &start);
    let project = Project { name: PROJECT, world: &world, server: &server, history: &history, kills };
    sessions.into_inner().expect("as above").iter().for_each(|session| project.check_seen(session));
    let told = told.into_inner().expect("as above");
    let judge = AgentJudge { project: &project, ledger: &ledger };
    let interrupted = told.iter().map(|told| judge.check(told)).sum();
    let runs = told.iter().map(|told| told.runs.len()).sum();
    Report { kills, messages: history.len(), runs, interrupted }
}

/// Starts watchers as threads.
#[derive(Clone, Copy)]
struct Watchers<'s, 'e> {
    scope: &'s Scope<'s, 'e>,
    world: &'e World,
    sessions: &'e Mutex<Vec<Session>>,
}

impl Watchers<'_, '_> {
    fn watch(&self, manner: Manner, random: Random) {
        let (world, sessions) = (self.world, self.sessions);
        let number = world.begin_to_watch(format!("{PROJECT} {manner:?}"));
        self.scope.spawn(move || {
            let watcher = Watcher::new(world, PROJECT, manner, random);
            let seen = guarded(world, || watcher.watch()).unwrap_or_default();
            world.end_to_watch(number);
            sessions.lock().expect("nobody panics while holding it").extend(seen);
        });
    }
}

/// Every command notes in `ledger` that it was called. A kill must not make a step fail that may run again.
fn config(ledger: &Path) -> String {
    let words = r#"\"$STEPCAST_PROJECT_ID $STEPCAST_RUN_ID $STEPCAST_STEP_ID${STEPCAST_ITEM:+[$STEPCAST_ITEM]} $STEPCAST_ATTEMPT\""#;
    let note = format!("echo {words} >> '{}'", ledger.display());
    let tool = |name: &str, more: &str, script: &str| {
        format!(
            "[tools.{name}]\nkind = \"command\"\n{more}argv = [\"sh\", \"-c\", \"{note}; {script}\", \"tool\", \"{{{{ inputs.n }}}}\"]\n"
        )
    };
    [
        "[executor]\ninterruptions = 0\n".to_owned(),
        tool("list", "", &format!("seq -s , 0 {} | sed 's/.*/[&]/'", ITEMS - 1)),
        tool("work", "", "sleep 0.01; echo $1"),
        tool("once", "rerun = false\n", "sleep 0.01; echo $1"),
        tool("publish", "", "test $1 = secondary"),
    ]
    .concat()
}

/// The id that an agent gives its first run.
fn first_run(agent: u64) -> String {
    format!("agent-{agent}")
}

/// One step of an agent's plan.
fn step(id: &str, tool: &str, dependencies: &[&str], more: Value) -> Value {
    let mut step = json!({"id": id, "tool": tool, "dependencies": dependencies, "inputs": {"n": 7}});
    for (key, value) in more.as_object().expect("an object") {
        step[key] = value.clone();
    }
    step
}

fn send(dependencies: &[&str]) -> Value {
    let each = json!({"forEach": "{{ steps.collect.output }}", "as": "n", "inputs": {"n": "{{ n }}"}});
    step("send", "work", dependencies, each)
}

fn publish(dependencies: &[&str]) -> Value {
    step("publish", "publish", dependencies, json!({"inputs": {"n": "{{ inputs.site }}"}}))
}

fn plan() -> Value {
    let schema = json!({"type": "object", "required": ["by"], "properties": {"by": {"type": "integer"}}});
    let ask = json!({"inputs": {"message": "May it go on?", "schema": schema}});
    let stamp = json!({"forEach": "{{ steps.collect.output }}", "as": "n", "onItemFailure": "continue",
        "maxConcurrent": 4, "inputs": {"n": "{{ n }}"}});
    json!({"name": "agent", "scheduling": "eager", "inputs": {"site": "primary"}, "steps": [
        step("collect", "list", &[], json!({})),
        step("ask", "approval", &["collect"], ask),
        send(&["collect", "ask"]),
        step("stamp", "once", &["collect", "ask"], stamp),
        publish(&["send", "stamp"]),
    ]})
}

/// Holds a conversation.
struct Agent<'s, 'e> {
    world: &'e World,
    watchers: Watchers<'s, 'e>,
    ledger: &'e Path,
    number: u64,
    random: Random,
    told: Told,
}

impl Agent<'_, '_> {
    /// All of it; what the agent was told.
    fn work(mut self) -> Told {
        self.propose().and_then(|()| self.change_twice()).and_then(|()| self.decide()).and_then(|()| self.go_on());
        // Where the trial has failed there is nobody left to talk to.
        self.told
    }

    fn propose(&mut self) -> Option<()> {
        let run = first_run(self.number);
        let body = json!({"plan": plan(), "runId": run});
        let answer = self.ask(Request::post(&path(""), &body))?;
        assert_eq!(answer.status, 202, "{answer:?}");
        self.follow(run);
        Some(())
    }

    /// Someone watches each run from its first message to its last.
    fn follow(&mut self, run: String) {
        self.watchers.watch(Manner::OneRun(run.clone()), self.random.fork());
        self.told.runs.push(run);
    }

    /// The second change is made because of what the step has found out that the first one added.
    fn change_twice(&mut self) -> Option<()> {
        self.wait_for("collect", "completed")?;
        let check = step("check", "work", &["collect"], json!({}));
        self.change("check", &json!({"add": [check], "replace": [send(&["collect", "check", "ask"])]}))?;
        let state = self.wait_for("check", "completed")?;
        let found = output_of(&state, "check");
        assert_eq!(found, 7);
        let announce = step("announce", "once", &["send"], json!({"continueOnFailure": true, "inputs": {"n": found}}));
        self.change("announce", &json!({"add": [announce], "replace": [publish(&["announce", "stamp"])]}))
    }

    /// Adds `id`. Others change the plan too, so the first attempt may be stale.
    fn change(&mut self, id: &str, what: &Value) -> Option<()> {
        let first = self.revision()?;
        if self.random.one_in(2) {
            let other = format!("{id}-other");
            self.patch(&other, first, &json!({"add": [step(&other, "echo", &["collect"], json!({}))]}))?;
        }
        for expected in first.. {
            if self.patch(id, expected, what)? {
                return Some(());
            }
            assert!(expected < self.revision()?, "nobody else has changed it");
        }
        None
    }

    /// Was the change made? Not where the plan was at another revision.
    fn patch(&mut self, id: &str, expected: u64, what: &Value) -> Option<bool> {
        let mut body = what.clone();
        body["expectedRevision"] = json!(expected);
        let run = &self.told.runs[0];
        let request = Request::new("PATCH", &path(&format!("/{run}/plan")));
        let request = request.header("Content-Type", "application/json").body(body.to_string());
        let answer = self.ask(request.header("Idempotency-Key", &format!("{run}-{id}-{expected}")))?;
        if answer.status == 409 {
            assert_eq!(answer.code(), "stale_revision", "{answer:?}");
            return Some(false);
        }
        assert_eq!(answer.status, 200, "{answer:?}");
        let revision = answer.json()["revision"].as_u64().expect("a revision");
        assert_eq!(revision, expected + 1);
        self.told.changes.push((revision, id.to_owned()));
        Some(true)
    }

    fn revision(&self) -> Option<u64> {
        self.state()?["revision"].as_u64()
    }

    /// Two decide; one of them is too late.
    fn decide(&mut self) -> Option<()> {
        self.wait_for("ask", "waiting")?;
        let run = &self.told.runs[0];
        let how_many = 1 + self.random.between(0, 1);
        let mut accepted = Vec::new();
        for by in 0..how_many {
            let body = json!({"decision": "approve", "payload": {"by": by}});
            let request = Request::post(&path(&format!("/{run}/steps/ask/decision")), &body);
            let answer = self.ask(request.header("Idempotency-Key", &format!("{run}-decision-{by}")))?;
            match answer.status {
                200 | 202 => accepted.push(body),
                409 => assert_eq!(answer.code(), "already_decided", "{answer:?}"),
                _ => panic!("{answer:?}"),
            }
        }
        assert_eq!(accepted.len(), 1, "{run}: one decides");
        self.told.decision = accepted.pop();
        Some(())
    }

    /// Follows the runs to their ends, and goes on from each that has failed.
    fn go_on(&mut self) -> Option<()> {
        for n in 1..=RUNS_MAX {
            let state = self.wait_for_end()?;
            if state["status"] == "completed" {
                assert!(n > 1, "the first run publishes where it can't");
                return Some(());
            }
            let run = self.told.runs.last().expect("a run").clone();
            let mut body = json!({"inputs": {"site": "secondary"}});
            if find(&state, "announce")["status"] == "failed" {
                body["plan"] = self.plan_without_repeats(&run)?;
            }
            let request = Request::post(&path(&format!("/{run}/retry")), &body);
            let answer = self.ask(request.header("Idempotency-Key", &format!("{run}-retry")))?;
            assert_eq!(answer.status, 202, "{answer:?}");
            self.follow(answer.json()["runId"].as_str().expect("a run id").to_owned());
        }
        panic!("{:?} never come to an end", self.told.runs)
    }

    /// A kill interrupted what must not run twice: nobody knows whether it was done, so it is not done again.
    fn plan_without_repeats(&self, run: &str) -> Option<Value> {
        let answer = self.ask(Request::get(&path(&format!("/{run}/plan"))))?;
        let mut plan = answer.json()["plan"].clone();
        let steps = plan["steps"].as_array_mut().expect("steps");
        let announce = steps.iter_mut().find(|step| step["id"] == "announce").expect("it was added");
        announce["tool"] = json!("echo");
        Some(plan)
    }

    fn wait_for(&self, step: &str, status: &str) -> Option<Value> {
        self.wait(&format!("{step} is {status}"), |state| find(state, step)["status"] == status)
    }

    /// Notes meanwhile what is done.
    fn wait_for_end(&mut self) -> Option<Value> {
        let mut seen = Vec::new();
        let state = self.wait("the end", |state| {
            seen.extend(self.completed(state));
            state["status"] != "running" && state["status"] != "queued"
        });
        self.told.completed.append(&mut seen);
        state
    }

    /// Steps and items that have completed. Whatever is called for one of them from now on is called once too often.
    fn completed(&self, state: &Value) -> Vec<(String, String, usize)> {
        let run = self.told.runs.last().expect("a run");
        let read = |step: &str| self.ask(Request::get(&path(&format!("/{run}/steps/{step}/items?limit=1000"))));
        let items = ["send", "stamp"].into_iter().filter_map(read);
        let items = items.flat_map(|answer| answer.json()["items"].as_array().cloned().unwrap_or_default());
        let steps = state["steps"].as_array().cloned().unwrap_or_default();
        let done: Vec<Value> = steps.into_iter().chain(items).filter(|one| one["status"] == "completed").collect();
        let ledger = Ledger::read(self.ledger);
        let noted = done.iter().map(|one| {
            let id = one["id"].as_str().expect("an id").to_owned();
            let calls = ledger.attempts(PROJECT, run, &id).len();
            (run.clone(), id, calls)
        });
        noted.collect()
    }

    fn wait(&self, what: &str, mut is_so: impl FnMut(&Value) -> bool) -> Option<Value> {
        let began = Instant::now();
        loop {
            let state = self.state()?;
            if is_so(&state) {
                return Some(state);
            }
            assert!(began.elapsed() < DEADLINE, "waited in vain until {what}: {state:#}");
            self.world.pace(10, PAUSE);
        }
    }

    /// The newest run.
    fn state(&self) -> Option<Value> {
        let run = self.told.runs.last().expect("a run");
        let answer = self.ask(Request::get(&path(&format!("/{run}"))))?;
        assert_eq!(answer.status, 200, "{answer:?}");
        Some(answer.json())
    }

    fn ask(&self, request: Request) -> Option<Response> {
        self.world.call_until_answered(&request)
    }
}

fn path(rest: &str) -> String {
    format!("/api/projects/{PROJECT}/workflows{rest}")
}

/// A step of a run's state; null where there is none.
pub fn find<'s>(state: &'s Value, id: &str) -> &'s Value {
    state["steps"].as_array().and_then(|steps| steps.iter().find(|step| step["id"] == id)).unwrap_or(&Value::Null)
}

fn output_of(state: &Value, id: &str) -> Value {
    find(state, id)["output"].clone()
}
