//! A trial: a server with clients is killed several times, then left to finish, then judged.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::thread::Scope;
use std::time::{Duration, Instant};

use serde_json::json;

use super::callers::{Published, Submitted, publish, submit};
use super::judge::{self, Ledger, Project};
use super::plans;
use super::watcher::{Manner, Session, Watcher};
use super::world::{FAREWELL, World};
use crate::common::DEADLINE;
use crate::common::client::Request;
use crate::common::random::Random;
use crate::common::server::{Server, Setup, TempDirectory};

pub const PROJECTS: [&str; 2] = ["alpha", "beta"];

/// How often it is looked whether runs have ended.
pub const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// At most so long, nothing at all, lies between the start of a process and its end by a kill in the start.
const START_MICROS_MAX: u64 = 60_000;

/// What a trial came to.
#[derive(Debug, Default)]
pub struct Report {
    pub kills: u64,
    pub messages: usize,
    pub runs: usize,
    pub interrupted: usize,
}

/// What the clients of a trial bring home.
#[derive(Default)]
pub struct Kept {
    pub sessions: Vec<Session>,
    pub published: Vec<(String, Vec<Published>)>,
    pub submitted: Vec<(String, Vec<Submitted>)>,
}

/// Carries out a trial. Panics where anything is not as it should be.
pub fn carry_out(seed: u64, kills_max: u64) -> Report {
    let mut random = Random::new(seed);
    let directory = TempDirectory::new();
    let ledger = directory.join("ledger");
    let setup = Setup::default().with_tokens().config(&plans::config(&ledger)).data(&directory.join("data"));
    let world = World::new(2 * PROJECTS.len());
    let server = setup.clone().listen(own_address(seed)).start();
    let setup = setup.listen(server.address);
    world.set_address(Some(server.address));
    let starts = PROJECTS.map(|project| first_id(&world, &server, project));

    let kept = Mutex::new(Kept::default());
    let (server, kills) = std::thread::scope(|scope| {
        let clients = Clients { scope, world: &world, kept: &kept };
        for project in PROJECTS {
            clients.spawn(project, &mut random);
        }
        let killed = guarded(&world, || kill_and_finish(&world, server, &setup, &mut random, kills_max, &PROJECTS));
        // Whoever still reads is cut off.
        killed.inspect(|_| world.finish())
    })
    .unwrap_or_else(|| panic!("{}", world.failure().unwrap_or_default()));
    if let Some(failure) = world.failure() {
        panic!("{failure}; the server: {:#?}", server.log());
    }

    let kept = kept.into_inner().expect("nobody panics while holding it");
    let ledger = Ledger::read(&ledger);
    let mut report = Report { kills, ..Report::default() };
    for (project, start) in PROJECTS.into_iter().zip(starts) {
        let history = judge::history(&world, &server, project, &start);
        let judged = Project { name: project, world: &world, server: &server, history: &history, kills };
        judged.check_sessions(kept.sessions.iter().filter(|session| session.project == project));
        judged.check_published(of(&kept.published, project));
        let runs = judged.check_runs(of(&kept.submitted, project), &ledger);
        report.messages += history.len();
        report.runs += runs.count;
        report.interrupted += runs.interrupted;
    }
    report
}

/// An address that no other test, and no connection that this machine makes, has: so it is still there after a restart.
pub fn own_address(seed: u64) -> SocketAddr {
    let [low, high, ..] = (u64::from(std::process::id()) ^ seed.rotate_left(7)).to_le_bytes();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 77, high, low.max(2))), 0)
}

pub fn of<'k, T>(kept: &'k [(String, Vec<T>)], project: &str) -> &'k [T] {
    kept.iter().find(|(name, _)| name == project).map_or(&[], |(_, kept)| kept)
}

/// The id before the first message.
pub fn first_id(world: &World, server: &Server, project: &str) -> String {
    let request = Request::get(&format!("/api/sse/projects/{project}")).token(&world.token);
    let connected = server.stream_of(request).next().expect("connected");
    assert_eq!(connected.seq(), 0);
    connected.id().to_owned()
}

/// Runs `act`; where it panics, the trial has failed and everyone is told to go.
pub fn guarded<T>(world: &World, act: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(value) => Some(value),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            world.fail(text.unwrap_or_else(|| "a panic without words".to_owned()));
            None
        }
    }
}

/// Starts clients as threads.
pub struct Clients<'s, 'e> {
    pub scope: &'s Scope<'s, 'e>,
    pub world: &'e World,
    pub kept: &'e Mutex<Kept>,
}

impl<'s, 'e> Clients<'s, 'e> {
    /// Those of one project.
    pub fn spawn(&self, project: &'static str, random: &mut Random) {
        for manner in [Manner::Steady, Manner::Ticket, Manner::Slow, Manner::Rover] {
            self.watch(project, manner, random.fork());
        }
        let (world, kept) = (self.world, self.kept);
        let mut own = random.fork();
        self.scope.spawn(move || {
            let published = guarded(world, || publish(world, project, &mut own)).unwrap_or_default();
            kept.lock().expect("as above").published.push((project.to_owned(), published));
        });
        let (mut own, followers) = (random.fork(), Mutex::new(random.fork()));
        let clients = Self { ..*self };
        self.scope.spawn(move || {
            let follow = |run: &str| {
                let mut random = followers.lock().expect("one thread").fork();
                if random.one_in(2) {
                    clients.watch(project, Manner::OneRun(run.to_owned()), random);
                }
            };
            let submitted = guarded(world, || submit(world, project, &mut own, follow)).unwrap_or_default();
            kept.lock().expect("as above").submitted.push((project.to_owned(), submitted));
        });
    }

    fn watch(&self, project: &'static str, manner: Manner, random: Random) {
        let (world, kept) = (self.world, self.kept);
        let number = world.begin_to_watch(format!("{project} {manner:?}"));
        self.scope.spawn(move || {
            let watcher = Watcher::new(world, project, manner, random);
            let sessions = guarded(world, || watcher.watch()).unwrap_or_default();
            world.end_to_watch(number);
            kept.lock().expect("as above").sessions.extend(sessions);
        });
    }
}

/// Kills the server a few times, lets it finish, and says farewell to all watchers of `projects`; the last server.
pub fn kill_and_finish(
    world: &World,
    mut server: Server,
    setup: &Setup,
    random: &mut Random,
    kills_max: u64,
    projects: &[&str],
) -> (Server, u64) {
    let mut kills = 0;
    for _ in 0..kills_max {
        let goal = world.observed() + random.between(1, 400);
        wait_until(world, &mut server, "a moment to kill", || world.observed() >= goal || world.is_quiet());
        world.set_address(None);
        server.kill();
        kills += 1;
        while random.one_in(4) {
            // A fault at a random moment of the start; nothing waits for this time.
            let starting = setup.clone().launch();
            std::thread::sleep(Duration::from_micros(random.between(0, START_MICROS_MAX)));
            drop(starting);
            kills += 1;
        }
        server = setup.clone().start();
        world.set_address(Some(server.address));
    }
    finish(world, projects, |what, condition| wait_until(world, &mut server, what, condition));
    (server, kills)
}

/// Waits, each time by `wait`, until all is over, and says farewell to all watchers of `projects`.
pub fn finish(world: &World, projects: &[&str], mut wait: impl FnMut(&str, &dyn Fn() -> bool)) {
    wait("callers", &|| world.is_quiet());
    wait("the end of runs", &|| projects.iter().all(|project| !has_open_runs(world, project)));
    world.finish();
    for project in projects {
        let farewell = json!({"type": FAREWELL, "payload": {}});
        let answer = world.call_until_answered(&Request::post(&format!("/api/projects/{project}/events"), &farewell));
        assert_eq!(answer.map(|answer| answer.status), Some(202));
    }
    wait("watchers", &|| world.watching().is_empty());
}

fn wait_until(world: &World, server: &mut Server, what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(!server.has_ended(), "the server has ended by itself: {:#?}", server.log());
        assert!(world.failure().is_none(), "{:?}", world.failure());
        if began.elapsed() > DEADLINE {
            panic!("waited in vain for {what}; {:?} still watch; the server: {:#?}", world.watching(), server.log());
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn has_open_runs(world: &World, project: &str) -> bool {
    ["queued", "running"].iter().any(|status| {
        let path = format!("/api/projects/{project}/workflows?status={status}");
        let answer = world.call_until_answered(&Request::get(&path)).expect("it is not killed any more");
        answer.json()["workflows"].as_array().is_none_or(|runs| !runs.is_empty())
    })
}

impl Report {
    pub fn add(&mut self, other: &Self) {
        self.kills += other.kills;
        self.messages += other.messages;
        self.runs += other.runs;
        self.interrupted += other.interrupted;
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kills, messages, runs, interrupted } = self;
        write!(f, "{kills} kills, {messages} messages, {runs} runs, {interrupted} steps interrupted; nothing lost")
    }
}
