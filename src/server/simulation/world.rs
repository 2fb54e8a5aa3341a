//! The world: one server, one log, one executor, and what connects them, on a virtual clock. Nothing happens in it
//! unless a test does it, and everything that happens is checked.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::client::{Client, Lost, Mode, Steered};
use super::laws::Laws;
use super::logging::open_journal;
use super::medium::Medium;
use super::model::Model;
use super::readers::Posed;
use super::shop::{Shop, Work};
use super::socket::{Ether, FakeSocket, connect};
use super::tokens::Tokens;
use crate::api::{Door, PlanRequest};
use crate::executor::scheduler::{Durability, Job};
use crate::executor::template::Engine;
use crate::executor::testing::{INTERRUPTIONS_MAX, Rng};
use crate::executor::tool::Registry;
use crate::executor::{ChildWish, Context, Durations, PlanLimits};
use crate::log::beside::Beside;
use crate::log::faulty::Disk;
use crate::log::{Command, Journal};
use crate::model::{Now, SlabKey, StepStatus, Timestamp};
use crate::server::children::Nursery;
use crate::server::{Inbox, Server};

/// Batches that wait for the log here; the real bound is larger and met less often.
pub(super) const LOG_WAITING_MAX: usize = 3;

/// Plans that wait to be checked.
pub(super) const INTAKE_WAITING_MAX: usize = 2;

/// Steps of a plan.
pub(super) const PLAN_STEPS_MAX: usize = 8;

/// Lines of the trace that are shown when a seed fails.
const TRACE_LINES_MAX: usize = 60;

/// See the [module](self).
pub(super) struct World<M: Medium> {
    pub(super) rng: Rng,
    pub(super) now: Now,
    pub(super) laws: Laws,
    pub(super) ether: Rc<Ether>,
    pub(super) server: Server<FakeSocket>,
    pub(super) journal: Journal,
    /// What outlasts the process.
    pub(super) disk: Disk<M::Store>,
    pub(super) medium: M,
    /// Starts of the process so far.
    pub(super) starts: u64,
    pub(super) shop: Shop,
    pub(super) model: Model,
    pub(super) clients: Vec<Client>,
    pub(super) tokens: Tokens,
    pub(super) unsent: Vec<Command>,
    pub(super) log_queue: VecDeque<Vec<Command>>,
    /// Those who read beside the log, where there are any.
    pub(super) beside: Option<Beside>,
    /// What they are to answer.
    pub(super) questions: VecDeque<Posed>,
    /// How often the log has let something out.
    pub(super) outcomes: u64,
    pub(super) inbox: VecDeque<Inbox>,
    pub(super) intake: VecDeque<(SlabKey, PlanRequest)>,
    pub(super) context: Arc<Context>,
    /// What the executor wishes of runs that its steps have begun.
    pub(super) wishes: VecDeque<ChildWish>,
    pub(super) nursery: Nursery,
    /// The server was told that the log is too far behind for it to take work.
    pub(super) is_log_full: bool,
    /// When that was last the case.
    pub(super) overloaded_at: Option<Duration>,
    /// When there were last so many connections of proxies that one more of the same client may be refused.
    pub(super) proxies_crowded_at: Option<Duration>,
    pub(super) is_draining: bool,
    /// When the store last failed, or the server thought that it does.
    pub(super) down_at: Option<Duration>,
    /// Streams that went with a process, and are wanted back.
    pub(super) lost: Vec<Lost>,
    /// The server was told to end its streams.
    pub(super) is_ending: bool,
    /// Bodies of accepted plans, and what they were answered, by project and key.
    pub(super) accepted: BTreeMap<String, (String, Vec<u8>)>,
    /// The log was told that the executor has ended.
    pub(super) executor_has_ended: bool,
    /// The client that is there for runs alone.
    pub(super) agent: Option<usize>,
    /// Wishes for runs so far, the newest of those that have a key, and how often each was said to have been done.
    pub(super) steers: usize,
    pub(super) remembered: VecDeque<Steered>,
    pub(super) steered: BTreeMap<String, usize>,
    /// How often each thing worth meeting was met.
    pub(super) met: BTreeMap<String, u64>,
    trace: VecDeque<String>,
}

impl<M: Medium> World<M> {
    /// A world that goes by `laws`.
    pub(super) fn new(seed: u64, laws: Laws) -> Self {
        let rng = Rng::new(seed);
        let now = Now { mono: Duration::from_secs(5), wall: Timestamp::from_millis(1_700_000_000_000) };
        let ether = Rc::new(Ether::default());
        ether.now.set(now.mono);
        ether.read_bytes_max.set(laws.read_bytes_max);
        let mut registry = Registry::with_builtins();
        registry.insert("work", Work { may_plan: false });
        registry.insert("planner", Work { may_plan: true });
        let context = Context {
            registry,
            engine: Engine::new(),
            output_bytes_max: 512,
            step_output_bytes_max: 1 << 20,
            durations: Durations::default(),
            interruptions_max: NonZeroU32::new(INTERRUPTIONS_MAX),
            plan_limits: PlanLimits::default(),
        };
        let context = Arc::new(context);
        let tokens = Tokens::new(&laws, now.wall);
        let signer = tokens.signer.clone();
        let (medium, store) = M::new(now.wall);
        let disk = Disk::new(store);
        let (mut journal, _) = open_journal(&disk, &tokens, &laws, &context, now);
        let beside = laws.has_readers.then(|| Beside::of(&mut journal, Box::new(disk.reader())));
        let mut server = Server::new(laws.server(), tokens.api(&laws, 0, &[]), seed);
        server.count_watchers(journal.watchers());
        let model = Model::new(signer, laws.floor_is_known.then_some(laws.messages_max as u64), 60_000);
        Self {
            rng,
            now,
            server,
            journal,
            disk,
            medium,
            starts: 0,
            shop: Shop::new(&context),
            nursery: Nursery::new(context.clone(), PLAN_STEPS_MAX),
            model,
            tokens,
            laws,
            ether,
            context,
            clients: Vec::new(),
            unsent: Vec::new(),
            log_queue: VecDeque::new(),
            beside,
            questions: VecDeque::new(),
            outcomes: 0,
            inbox: VecDeque::new(),
            intake: VecDeque::new(),
            wishes: VecDeque::new(),
            is_log_full: false,
            overloaded_at: None,
            proxies_crowded_at: None,
            down_at: None,
            lost: Vec::new(),
            is_draining: false,
            is_ending: false,
            accepted: BTreeMap::new(),
            executor_has_ended: false,
            agent: None,
            steers: 0,
            remembered: VecDeque::new(),
            steered: BTreeMap::new(),
            met: BTreeMap::new(),
            trace: VecDeque::new(),
        }
    }

    /// Remembers what is done, for whoever reads a failure.
    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if self.trace.len() == TRACE_LINES_MAX {
            self.trace.pop_front();
        }
        let line = format!("{:?} {}", self.now.mono, line());
        self.trace.push_back(line);
    }

    /// Counts something worth meeting.
    pub(super) fn meet(&mut self, what: impl Into<String>) {
        *self.met.entry(what.into()).or_default() += 1;
    }

    /// The clock goes on.
    pub(super) fn pass(&mut self, by: Duration) {
        self.now = self.now.plus(by);
        self.ether.now.set(self.now.mono);
    }

    /// While no process runs, the wall clock is set by seconds or minutes, either way.
    pub(super) fn set_wall_clock(&mut self) {
        let by = [2_000, 100_000, 600_000][self.rng.below(3)];
        let is_forward = self.rng.one_in(2);
        let before = self.now.wall.as_millis();
        self.now.wall = Timestamp::from_millis(if is_forward { before + by } else { before.saturating_sub(by) });
        self.model.note_set_clock();
        self.meet(if is_forward { "clock set forward" } else { "clock set back" });
    }

    /// A client connects; its index.
    pub(super) fn connect(&mut self, address: IpAddr, window: usize) -> usize {
        let index = self.clients.len();
        let alive = self.clients.iter().filter(|client| client.is_alive() && !client.is_refused).count();
        let refused = self.clients.iter().filter(|client| client.is_alive() && client.is_refused).count();
        let counted = |client: &&Client| client.is_alive() && client.is_counted && client.address == address;
        let of_address = self.clients.iter().filter(counted).count();
        let (socket, wire) = connect(index, window, &self.ether);
        let accepted = self.server.accept(socket, address, Door::Main, self.now);
        let mut client = Client::new(wire, accepted.as_ref().copied().unwrap_or(crate::server::PollToken(0)), address);
        client.is_proxy = address.is_loopback();
        let is_full = alive >= self.laws.connections;
        client.is_counted = !client.is_proxy && !is_full && of_address < self.laws.per_address as usize;
        client.is_refused = is_full || (!client.is_proxy && !client.is_counted);
        if accepted.is_err() {
            assert!(client.is_refused && refused >= self.laws.reserve, "turned away though there is room");
            client.mode = Mode::Over;
            self.meet("dropped unheard");
        }
        drop(accepted);
        self.clients.push(client);
        index
    }

    /// The executor takes a turn, whether or not the log has room for what comes of it, or takes anything.
    pub(super) fn execute(&mut self) {
        let Self { model, shop, log_queue, .. } = self;
        let begins = |Job { launch, durability, .. }: &Job| {
            let run = model.run(&launch.project, &launch.run).expect("it was taken on");
            let id = &launch.plan.steps[launch.step].id;
            let (status, attempt) = run.unit(id, launch.unit.item);
            let is_kept = launch.attempt == attempt && status == StepStatus::Running;
            assert!(is_kept || *durability == Durability::Later, "nobody would know that {id} of {} runs", launch.run);
            assert!(is_kept || launch.attempt > attempt, "{id} of {} runs again", launch.run);
            assert!(!status.is_ended(), "{id} of {} runs again", launch.run);
        };
        shop.turn(self.now, begins, |records| {
            if log_queue.len() >= LOG_WAITING_MAX {
                return Err(records);
            }
            log_queue.push_back(vec![Command::Records(records)]);
            Ok(())
        });
        if self.shop.has_ended() && !self.executor_has_ended {
            self.executor_has_ended = true;
            self.log_queue.push_back(vec![Command::ExecutorEnded]);
        }
        let wishes = self.shop.take_wishes();
        self.wishes.extend(wishes);
        let news: Vec<&str> = self.shop.take_news().collect();
        news.into_iter().for_each(|word| self.meet(word));
    }

    /// Everything that can happen without the clock, a client or a worker happens.
    pub(super) fn run_until_idle(&mut self) {
        for _ in 0..10_000 {
            let is_busy = self.turn(usize::MAX);
            self.intake();
            self.execute();
            self.hear_wishes(usize::MAX);
            self.log(usize::MAX);
            self.read_beside(usize::MAX);
            let waits = !self.questions.is_empty()
                || !self.log_queue.is_empty()
                || !self.inbox.is_empty()
                || !self.wishes.is_empty()
                || !self.intake.is_empty();
            let is_ready = (0..self.clients.len()).any(|client| self.is_ready(client));
            let has_news = self.shop.has_news(self.now);
            if !is_busy && !waits && !is_ready && self.unsent.is_empty() && !has_news {
                let Some(at) = self.server.next_release() else { return self.check_overdue() };
                self.meet("held back");
                self.pass(at.saturating_sub(self.now.mono));
            }
        }
        panic!("it never comes to rest");
    }

    pub(super) fn look_at_everything(&mut self) {
        for client in 0..self.clients.len() {
            self.listen(client);
        }
        self.check_counts();
    }
}

impl<M: Medium> Drop for World<M> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.trace.iter().for_each(|line| eprintln!("{line}"));
        }
    }
}
