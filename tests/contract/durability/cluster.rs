//! A trial of several nodes over one database. Clients reconnect to any node, while nodes are killed and frozen, their
//! connections cut and stalled, and the engine restarted. Then everything is left to finish, and judged.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::judge::{self, History, Ledger, Project};
use super::trial::{Clients, Kept, LOOK_AGAIN, PROJECTS, Report, finish, first_id, guarded, of, own_address};
use super::world::World;
use super::{number, plans};
use crate::common::DEADLINE;
use crate::common::postgres::{Disk, Ending, Postgres};
use crate::common::proxy::Proxy;
use crate::common::random::Random;
use crate::common::server::{Server, Setup, TempDirectory};

const NODES_DEFAULT: u64 = 3;

/// How long a silent node is believed alive, and how long a freeze or a stall is longer than that at most.
const NODE_TTL: Duration = Duration::from_secs(4);
const OVERTIME: Duration = Duration::from_secs(3);

/// How long the engine is away at most.
const ENGINE_AWAY_MS_MAX: u64 = 1500;

/// Carries out a trial with so many faults. Panics where anything is not as it should be.
pub fn carry_out(seed: u64, faults: u64) -> Report {
    let mut random = Random::new(seed);
    let Some(engine) = Postgres::start_with(Disk::Synced, &[]) else { return Report::default() };
    let directory = TempDirectory::new();
    let count = usize::try_from(number("STEPCAST_NODES").unwrap_or(NODES_DEFAULT)).expect("few");
    let world = World::of_nodes(2 * PROJECTS.len(), count);
    let mut nodes = Nodes::start(&world, &engine, &directory, seed, count);
    let starts = PROJECTS.map(|project| first_id(&world, nodes.any(), project));

    let kept = Mutex::new(Kept::default());
    std::thread::scope(|scope| {
        let clients = Clients { scope, world: &world, kept: &kept };
        for project in PROJECTS {
            clients.spawn(project, &mut random);
        }
        let done = guarded(&world, || {
            (0..faults).for_each(|_| nodes.fail(&mut random));
            finish(&world, &PROJECTS, |what, condition| nodes.wait_until(what, condition));
        });
        // Whoever still reads is cut off.
        done.map_or_else(|| nodes.kill_all(), |()| world.finish());
    });
    if let Some(failure) = world.failure() {
        nodes.leave();
        panic!("{failure}");
    }

    let kept = kept.into_inner().expect("nobody panics while holding it");
    let ledger = Ledger::read(&directory.join("ledger"));
    let mut report = Report { kills: nodes.faults, ..Report::default() };
    let judged = guarded(&world, || {
        for (project, start) in PROJECTS.into_iter().zip(&starts) {
            let history = nodes.agree_on(project, start);
            let kills = nodes.interruptions;
            let judged = Project { name: project, world: &world, server: nodes.any(), history: &history, kills };
            judged.check_sessions(kept.sessions.iter().filter(|session| session.project == project));
            judged.check_published(of(&kept.published, project));
            let runs = judged.check_runs(of(&kept.submitted, project), &ledger);
            report.messages += history.len();
            report.runs += runs.count;
            report.interrupted += runs.interrupted;
        }
    });
    if judged.is_none() {
        nodes.leave();
        panic!("{}", world.failure().unwrap_or_default());
    }
    report
}

/// A node, behind a proxy of its own to the engine. None while it is down.
struct Node {
    setup: Setup,
    server: Option<Server>,
    proxy: Proxy,
}

struct Nodes<'t> {
    world: &'t World,
    engine: &'t Postgres,
    directory: &'t TempDirectory,
    nodes: Vec<Node>,
    /// Logs of those that were killed.
    log: String,
    faults: u64,
    /// How often a fault may have interrupted a step, at most.
    interruptions: u64,
}

/// What befalls them.
#[derive(Debug)]
enum Fault {
    Kill,
    Freeze,
    Cut,
    Stall,
    Engine,
}

impl<'t> Nodes<'t> {
    fn start(world: &'t World, engine: &'t Postgres, directory: &'t TempDirectory, seed: u64, count: usize) -> Self {
        let name = engine.database().rsplit_once('/').expect("a path").1.to_owned();
        let ttl = format!("{}ms", NODE_TTL.as_millis());
        let setup = Setup::default().with_tokens().config(&plans::config(&directory.join("ledger")));
        let setup = setup.flags(&["--cluster-node-ttl", &ttl]);
        let node = |n: usize| {
            let proxy = Proxy::new(engine.address());
            let setup = setup.clone().data_url(&Postgres::url_at(proxy.address(), &name));
            let server = setup.clone().listen(own_address(seed ^ (n as u64 + 1).rotate_right(8))).start();
            world.set_node(n, Some(server.address));
            Node { setup: setup.listen(server.address), server: Some(server), proxy }
        };
        let nodes = (0..count).map(node).collect();
        Self { world, engine, directory, nodes, log: String::new(), faults: 0, interruptions: 0 }
    }

    fn any(&self) -> &Server {
        self.nodes.iter().find_map(|node| node.server.as_ref()).expect("one of them runs")
    }

    /// Waits for a moment, and lets something befall one of them or all.
    fn fail(&mut self, random: &mut Random) {
        let goal = self.world.observed() + random.between(1, 400);
        let world = self.world;
        self.wait_until("a moment", &|| world.observed() >= goal || world.is_quiet());
        let at = random.between(0, self.nodes.len() as u64 - 1) as usize;
        let fault = match random.between(0, 9) {
            0..=3 => Fault::Kill,
            4..=5 => Fault::Freeze,
            6 => Fault::Cut,
            7 => Fault::Stall,
            _ => Fault::Engine,
        };
        self.log += &format!("{fault:?} of node {at}\n");
        self.faults += 1;
        // A long one may cost any node its lease.
        self.interruptions += self.nodes.len() as u64;
        match fault {
            Fault::Kill => self.kill(at, random),
            Fault::Freeze => self.freeze(at, random),
            Fault::Cut => self.nodes[at].proxy.cut(),
            Fault::Stall => self.stall(at, random),
            Fault::Engine => self.restart_engine(random),
        }
    }

    fn kill(&mut self, at: usize, random: &mut Random) {
        self.world.set_node(at, None);
        self.end(at);
        if random.one_in(2) {
            // Meanwhile its runs go on elsewhere, or wait for that.
            self.world.pace(random.between(1, 200), NODE_TTL + OVERTIME);
        }
        let server = self.nodes[at].setup.clone().start();
        self.world.set_node(at, Some(server.address));
        self.nodes[at].server = Some(server);
    }

    fn end(&mut self, at: usize) {
        if let Some(server) = self.nodes[at].server.take() {
            self.log += &format!("node {at}: {:#?}\n", server.log());
            server.kill();
        }
    }

    /// Beyond its time, mostly. Whoever asks it meanwhile waits.
    fn freeze(&self, at: usize, random: &mut Random) {
        let server = self.nodes[at].server.as_ref().expect("it runs");
        server.signal(Signal::STOP);
        wait_at_random(random);
        server.signal(Signal::CONT);
    }

    fn stall(&self, at: usize, random: &mut Random) {
        let proxy = &self.nodes[at].proxy;
        proxy.stall();
        wait_at_random(random);
        proxy.go_on();
        if random.one_in(2) {
            proxy.cut();
        }
    }

    fn restart_engine(&self, random: &mut Random) {
        let ending = *random.pick(&[Ending::Immediate, Ending::Killed, Ending::Fast]).expect("three");
        self.engine.stop(ending);
        std::thread::sleep(Duration::from_millis(random.between(0, ENGINE_AWAY_MS_MAX)));
        self.engine.resume();
    }

    fn wait_until(&mut self, what: &str, condition: &dyn Fn() -> bool) {
        let began = Instant::now();
        while !condition() {
            for (n, node) in self.nodes.iter_mut().enumerate() {
                let has_ended = node.server.as_mut().is_some_and(Server::has_ended);
                assert!(!has_ended, "node {n} has ended by itself");
            }
            assert!(self.world.failure().is_none(), "{:?}", self.world.failure());
            let watching = self.world.watching();
            assert!(began.elapsed() < DEADLINE, "waited in vain for {what}; {watching:?} still watch");
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// A project's history, which all nodes tell alike.
    fn agree_on(&self, project: &str, start: &str) -> History {
        let servers = self.nodes.iter().filter_map(|node| node.server.as_ref());
        let mut told: Vec<History> = servers.map(|server| judge::history(self.world, server, project, start)).collect();
        let first = told.swap_remove(0);
        for other in told {
            assert!(first.iter().map(|event| &event.raw).eq(other.iter().map(|event| &event.raw)), "nodes differ");
        }
        first
    }

    fn kill_all(&mut self) {
        for at in 0..self.nodes.len() {
            self.world.set_node(at, None);
            self.end(at);
        }
    }

    /// Leaves all that may tell why the trial has failed: it panics next.
    fn leave(&mut self) {
        self.kill_all();
        self.engine.leave_in(self.directory.path());
        self.write_log(&self.directory.join("nodes.log"));
    }

    fn write_log(&self, path: &Path) {
        let mut file = File::create(path).expect("the temporary directory can be written to");
        file.write_all(self.log.as_bytes()).expect("as above");
    }
}

/// How long a fault lasts that others have to notice: nothing else waits for this time.
fn wait_at_random(random: &mut Random) {
    let at_least = if random.one_in(4) { Duration::ZERO } else { NODE_TTL };
    let more = Duration::from_millis(random.between(0, OVERTIME.as_millis() as u64));
    std::thread::sleep(at_least + more);
}
