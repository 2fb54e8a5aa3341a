//! The world: one server, one log, one executor, and what lies between them, on a virtual clock. Nothing happens in it
//! but what a test does; everything that happens is looked at.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::client::{Client, Lost, Mode};
use super::laws::Laws;
use super::medium::Medium;
use super::model::{Model, Seen, look_through, new_run, resumed_run};
use super::readers::Posed;
use super::shop::{Shop, Work};
use super::socket::{Ether, FakeSocket, connect};
use super::tokens::Tokens;
use crate::api::{Door, PlanRequest, Prepared, prepare, read_document};
use crate::executor::Context;
use crate::executor::scheduler::{Durability, Job};
use crate::executor::template::Engine;
use crate::executor::testing::{INTERRUPTIONS_MAX, Rng};
use crate::executor::tool::Registry;
use crate::http::Response;
use crate::log::beside::Beside;
use crate::log::faulty::Disk;
use crate::log::{Command, Delivery, Journal, Order, Outcome, Query, ReplyTo, Store, WebhookFilter, Webhooks};
use crate::model::{Notable, Now, RunId, SlabKey, StepStatus, Timestamp};
use crate::server::{Inbox, Server};

/// Batches that wait for the log here; the real bound is larger and met less often.
const LOG_WAITING_MAX: usize = 3;

/// Plans that wait to be checked.
const INTAKE_WAITING_MAX: usize = 2;

/// Steps of a plan.
const PLAN_STEPS_MAX: usize = 8;

/// Lines of the trace that are shown when a seed fails.
const TRACE_LINES_MAX: usize = 60;

/// See the [module](self).
pub(super) struct World<M: Medium> {
    pub(super) rng: Rng,
    pub(super) now: Now,
    pub(super) laws: Laws,
    pub(super) ether: Rc<Ether>,
    pub(super) server: Server<FakeSocket>,
    journal: Journal,
    /// What outlasts the process.
    pub(super) disk: Disk<M::Store>,
    medium: M,
    /// Starts of the process so far.
    starts: u64,
    pub(super) shop: Shop,
    pub(super) model: Model,
    pub(super) clients: Vec<Client>,
    pub(super) tokens: Tokens,
    unsent: Vec<Command>,
    pub(super) log_queue: VecDeque<Vec<Command>>,
    /// Those who read beside the log, where there are any.
    pub(super) beside: Option<Beside>,
    /// What they are to answer.
    pub(super) questions: VecDeque<Posed>,
    /// How often the log has let something out.
    pub(super) outcomes: u64,
    pub(super) inbox: VecDeque<Inbox>,
    intake: VecDeque<(SlabKey, PlanRequest)>,
    context: Arc<Context>,
    /// The server was told that the log is too far behind for it to take work.
    is_behind: bool,
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
        registry.insert("work", Work);
        let context = Context {
            registry,
            engine: Engine::new(),
            output_bytes_max: 512,
            step_output_bytes_max: 1 << 20,
            interruptions_max: NonZeroU32::new(INTERRUPTIONS_MAX),
        };
        let context = Arc::new(context);
        let tokens = Tokens::new(&laws, now.wall);
        let signer = tokens.signer.clone();
        let (medium, store) = M::new(now.wall);
        let disk = Disk::new(store);
        let (mut journal, _) = open_journal(&disk, &tokens, &laws, &context, now);
        let beside = laws.has_readers.then(|| Beside::of(&mut journal, Box::new(disk.reader())));
        let mut server = Server::new(laws.server(), tokens.api(&laws, now.wall, 0, &[]), seed);
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
            is_behind: false,
            overloaded_at: None,
            proxies_crowded_at: None,
            down_at: None,
            lost: Vec::new(),
            is_draining: false,
            is_ending: false,
            accepted: BTreeMap::new(),
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
    fn set_wall_clock(&mut self) {
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
        let mut client = Client::new(wire, accepted.as_ref().copied().unwrap_or(crate::server::Token(0)), address);
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

    /// A turn of the loop: readiness in any order, some of what other threads said, and the rest of the turn. `true`
    /// where there is more to do at once.
    pub(super) fn turn(&mut self, inbox_max: usize) -> bool {
        self.note_outage();
        self.note_crowds();
        let mut ready: Vec<usize> = (0..self.clients.len()).filter(|&client| self.is_ready(client)).collect();
        while !ready.is_empty() {
            let client = ready.swap_remove(self.rng.below(ready.len()));
            self.tell_readiness(client);
        }
        for _ in 0..inbox_max {
            let Some(batch) = self.inbox.pop_front() else { break };
            self.server.receive(batch, self.now);
            self.note_outage();
        }
        let is_busy = self.server.end_turn(self.now);
        self.watch_blocked();
        self.carry_out_outbox();
        self.note_outage();
        self.look_at_everything();
        is_busy
    }

    /// The server refuses work as long as it has heard of nothing better.
    fn note_outage(&mut self) {
        if self.server.metrics.store_is_down {
            self.down_at = Some(self.now.mono);
        }
    }

    /// What the server refuses in this turn for others than those who ask.
    fn note_crowds(&mut self) {
        if self.is_behind {
            self.overloaded_at = Some(self.now.mono);
        }
        let proxies = self.clients.iter().filter(|client| client.is_alive() && client.is_proxy).count();
        if proxies > self.laws.per_address as usize {
            self.proxies_crowded_at = Some(self.now.mono);
        }
    }

    fn is_ready(&self, client: usize) -> bool {
        let wire = self.clients[client].wire.borrow();
        !wire.is_dropped && (wire.is_readable || wire.is_writable)
    }

    fn tell_readiness(&mut self, client: usize) {
        let (token, wire) = (self.clients[client].token, self.clients[client].wire.clone());
        let (is_readable, is_writable, is_closed) = {
            let mut wire = wire.borrow_mut();
            (std::mem::take(&mut wire.is_readable), std::mem::take(&mut wire.is_writable), wire.has_left())
        };
        if is_readable {
            self.server.readable(token, is_closed, self.now);
        }
        if is_writable {
            self.server.writable(token, self.now);
        }
    }

    fn watch_blocked(&mut self) {
        for token in self.server.take_blocked() {
            if let Some(client) = self.server.socket(token).map(|socket| socket.client) {
                self.clients[client].wire.borrow_mut().watch_for_room();
            }
        }
    }

    fn carry_out_outbox(&mut self) {
        let outbox = self.server.take_outbox();
        for (to, request) in outbox.intake {
            if self.intake.len() < INTAKE_WAITING_MAX {
                self.intake.push_back((to, request));
            } else {
                self.meet("intake full");
                self.server.refuse_plan(to, self.now);
            }
        }
        let mut commands = outbox.log;
        if self.beside.is_some() {
            let questions = Beside::divert(&mut commands);
            self.pose(questions);
        }
        self.unsent.extend(commands);
        if !self.unsent.is_empty() {
            let has_room = self.log_queue.len() < LOG_WAITING_MAX;
            if has_room {
                self.tell_who_is_cancelled();
                self.log_queue.push_back(std::mem::take(&mut self.unsent));
            } else {
                self.meet("log full");
            }
            self.is_behind = !has_room;
            self.server.set_behind(!has_room);
        }
    }

    /// The executor hears of it whatever becomes of the log.
    fn tell_who_is_cancelled(&mut self) {
        for command in &self.unsent {
            if let Command::Cancel { project, run, .. } = command {
                self.shop.cancel(project.clone(), run.clone());
                if self.journal.is_down() {
                    *self.met.entry("cancel in an outage".to_owned()).or_default() += 1;
                }
            }
        }
    }

    /// The log takes up to this many batches as one.
    pub(super) fn log(&mut self, batches_max: usize) {
        let n = batches_max.min(self.log_queue.len());
        let commands: Vec<Command> = self.log_queue.drain(..n).flatten().collect();
        if commands.is_empty() && self.journal.next_deadline() > self.now.mono {
            return;
        }
        let outcome = self.hand_to_log(commands);
        let is_for_loop = |delivery: &Delivery| !matches!(delivery, Delivery::Reply { to: ReplyTo::Caller(_), .. });
        assert!(outcome.deliveries.iter().all(is_for_loop), "nobody else waits");
        if !outcome.deliveries.is_empty() {
            self.outcomes += 1;
            self.inbox.push_back(Inbox::Log(outcome.deliveries));
        }
        self.pose(outcome.questions);
    }

    fn hand_to_log(&mut self, commands: Vec<Command>) -> Outcome {
        let seen = look_through(&commands);
        let (was_down, failed) = (self.journal.is_down(), self.disk.failed());
        let mut outcome = self.journal.handle(commands, self.now);
        if self.journal.is_down() || self.disk.failed() > failed {
            self.down_at = Some(self.now.mono);
        }
        self.tell_model(was_down, seen, &outcome);
        self.carry_out(std::mem::take(&mut outcome.orders));
        outcome
    }

    /// What of a batch was kept is told by what the log says of its store.
    fn tell_model(&mut self, was_down: bool, seen: Vec<Seen>, outcome: &Outcome) {
        let news = outcome.deliveries.iter().filter_map(|delivery| match delivery {
            Delivery::StoreIsDown(is_down) => Some(*is_down),
            _ => None,
        });
        let (is_back, is_kept) = match (was_down, &news.collect::<Vec<_>>()[..]) {
            (false, []) => (false, true),
            (false, [true]) | (true, []) => (false, false),
            (true, [false]) => (true, true),
            (true, [false, true]) => (true, false),
            other => panic!("{other:?}"),
        };
        if is_back {
            self.model.release();
            self.meet("store back");
        }
        if is_kept {
            self.model.apply(seen, &outcome.orders, self.now);
        } else {
            self.model.reload();
            self.model.hold(seen, self.now);
        }
    }

    fn carry_out(&mut self, orders: Vec<Order>) {
        for order in orders {
            let seed = self.rng.next();
            match &order {
                Order::Start { project, run, .. } => {
                    let new = new_run(project.clone(), run.clone(), &order, seed);
                    self.shop.start(new.expect("an order to start"));
                }
                Order::Cancel { project, run } => self.shop.cancel(project.clone(), run.clone()),
                Order::Kept(batches) => self.shop.kept(*batches),
                Order::StoreIsDown(is_down) => self.shop.store_is_down(*is_down),
                Order::Resume(_) => self.shop.resume(resumed_run(order, seed).expect("an order to resume")),
            }
        }
    }

    pub(super) fn is_store_down(&self) -> bool {
        self.journal.is_down()
    }

    /// The process has ended, and another one begins with what the store holds. Everything that was on its way is lost.
    pub(super) fn start_anew(&mut self) {
        self.unsent.clear();
        self.questions.clear();
        self.log_queue.clear();
        self.inbox.clear();
        self.intake.clear();
        self.shop = Shop::new(&self.context);
        self.is_behind = false;
        (self.overloaded_at, self.proxies_crowded_at) = (None, None);
        (self.is_draining, self.is_ending) = (false, false);
        let by = Duration::from_millis(self.rng.below(3000) as u64);
        self.pass(by);
        if self.rng.one_in(3) {
            self.set_wall_clock();
        }
        self.starts += 1;
        let api = self.tokens.api(&self.laws, self.now.wall, self.starts, &self.disk.tickets());
        self.server = Server::new(self.laws.server(), api, self.rng.next());
        if let Some(store) = self.medium.reopen(self.now.wall) {
            self.disk.replace(store);
        }
        let (journal, left) = open_journal(&self.disk, &self.tokens, &self.laws, &self.context, self.now);
        self.server.count_watchers(journal.watchers());
        self.journal = journal;
        self.beside = self.laws.has_readers.then(|| Beside::of(&mut self.journal, Box::new(self.disk.reader())));
        self.model.restart();
        self.disk.look(|store| self.model.check_kept(store));
        self.model.check_resumed(&left.orders);
        assert!(left.deliveries.is_empty(), "every run can go on: {left:?}");
        if !left.orders.is_empty() {
            self.meet("run resumed");
        }
        self.carry_out(left.orders);
    }

    /// The intake looks at one plan, if the log has room for what comes of it.
    pub(super) fn intake(&mut self) {
        if self.log_queue.len() >= LOG_WAITING_MAX {
            return;
        }
        let Some((to, request)) = self.intake.pop_front() else { return };
        let mut bits = [0; 16];
        bits[..8].copy_from_slice(&self.rng.next().to_be_bytes());
        match prepare(request, &self.context, PLAN_STEPS_MAX, RunId::from_random(bits)) {
            Ok(Prepared::Run(submission)) => {
                self.log_queue.push_back(vec![Command::Submit { submission, reply: ReplyTo::Connection(to) }]);
            }
            Ok(Prepared::Recall(claim, otherwise)) => {
                let read = Command::Read { query: Query::Recall { claim, otherwise }, reply: ReplyTo::Connection(to) };
                self.log_queue.push_back(vec![read]);
            }
            Ok(Prepared::Checked(response)) => self.inbox.push_back(Inbox::Answer(to, Box::new(response))),
            Err(problem) => self.inbox.push_back(Inbox::Answer(to, Box::new(Response::from(problem)))),
        }
    }

    /// The executor takes a turn, whether or not the log has room for what comes of it, or takes anything.
    pub(super) fn execute(&mut self) {
        let Self { model, shop, log_queue, .. } = self;
        let begins = |Job { launch, durability, .. }: &Job| {
            let state = model.run(&launch.project, &launch.run).expect("it was taken on").state(u64::MAX);
            let step = &state.steps[launch.step];
            let is_kept = launch.attempt == step.attempt && step.status == StepStatus::Running;
            assert!(is_kept || *durability == Durability::Later, "nobody would know that {step:?} runs");
            assert!(is_kept || launch.attempt > step.attempt, "{step:?} runs again");
            assert!(!step.status.is_ended(), "{step:?} runs again");
        };
        shop.turn(self.now, begins, |records| {
            if log_queue.len() >= LOG_WAITING_MAX {
                return Err(records);
            }
            log_queue.push_back(vec![Command::Records(records)]);
            Ok(())
        });
        let news: Vec<&str> = shop.take_news().collect();
        news.into_iter().for_each(|word| self.meet(word));
    }

    /// Everything that can happen without the clock, a client or a worker happens.
    pub(super) fn settle(&mut self) {
        for _ in 0..10_000 {
            let is_busy = self.turn(usize::MAX);
            self.intake();
            self.execute();
            self.log(usize::MAX);
            self.read_beside(usize::MAX);
            let waits = !self.questions.is_empty()
                || !self.log_queue.is_empty()
                || !self.inbox.is_empty()
                || !self.intake.is_empty();
            let is_ready = (0..self.clients.len()).any(|client| self.is_ready(client));
            let has_news = self.shop.has_news(self.now);
            if !is_busy && !waits && !is_ready && self.unsent.is_empty() && !has_news {
                let Some(at) = self.server.next_release() else { return self.check_settled() };
                self.meet("held back");
                self.pass(at.saturating_sub(self.now.mono));
            }
        }
        panic!("it never comes to rest");
    }

    fn look_at_everything(&mut self) {
        for client in 0..self.clients.len() {
            self.listen(client);
        }
        self.check_counts();
    }
}

/// A journal over what `disk` holds, and what is left to do.
fn open_journal<S: Store + 'static>(
    disk: &Disk<S>,
    tokens: &Tokens,
    laws: &Laws,
    context: &Arc<Context>,
    now: Now,
) -> (Journal, Outcome) {
    let context = context.clone();
    let read_plan = Box::new(move |document: &[u8]| read_document(document, &context));
    let (store, signer) = (Box::new(disk.store()), tokens.signer.clone());
    let opened = Journal::open_telling(webhooks(), store, signer, laws.journal(), read_plan, now);
    opened.expect("nothing fails at a start")
}

/// One that is told of everything.
fn webhooks() -> Webhooks {
    let filter = WebhookFilter { name: "w".into(), events: Notable::ALL.to_vec(), projects: None };
    Webhooks { filters: vec![filter], rows_max: u64::MAX }
}

impl<M: Medium> Drop for World<M> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.trace.iter().for_each(|line| eprintln!("{line}"));
        }
    }
}
