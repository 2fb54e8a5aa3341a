//! Puts the threads together: loop, log, intake, executor and workers, from one [`Config`].

use std::num::NonZeroU32;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use mio::{Poll, Waker};

use super::children::{Children, Nursery};
use super::core::{Node, Server};
use super::distribution::distribute;
use super::error::{StartError, failed};
use super::event_loop::{EventLoop, Hands};
use super::handle::Handle;
use super::inbox::{InboxReceiver, InboxSender, inbox};
use super::intake::{Intake, Work};
use super::jwks;
use super::listen::{WAKER, bind_all};
use super::membership::{self, Joined, Membership, OwnHands};
use super::running::{LoopControl, RunningServer, Stopper};
use super::settings::{
    declare_tools, descriptors, hosts, journal_limits, key_source, server_settings, size, verifier, webhooks,
};
use super::storage::{self, Storage};
use super::tls::Tls;
use super::threads::{random_or_abort, spawn, watch_executor, watch_log};
use crate::api::{Api, ApiSettings, read_document};
use crate::auth::{IdSigner, Origins, TicketBook, TicketMemory};
use crate::cluster::{self, Vitals};
use crate::config::Config;
use crate::executor::template::Engine;
use crate::executor::tool::{Registry, Tool};
use crate::executor::{Context, Durations, Executor, PlanLimits, Settings, Unstarted};
use crate::log::{self, Delivery, Journal, LogHandle, Outcome, Store};
use crate::model::Now;
use crate::schedules::{self, Scheduler};
#[cfg(feature = "http-tool")]
use crate::webhooks::Courier;
use crate::webhooks::{Bell, Board, CourierHandle, Rung, check_all};
use crate::{clock, random};

/// How much longer than the grace of steps an end may take: commands that ignore it are killed 5 s later, and the store may
/// be slow.
const DRAIN_SLACK: Duration = Duration::from_secs(10);

/// How often a node looks whether webhooks are to be told of what has happened on others.
const WEBHOOKS_LOOK: Duration = Duration::from_secs(2);

/// Builds a server out of a [`Config`] and the tools of the program that embeds it.
///
/// ```
/// use serde_json::json;
/// use stepcast::config::{AuthMode, Config, DataLocation, ListenAddress};
/// use stepcast::ProjectId;
/// use stepcast::server::Builder;
/// use stepcast::tool::{Call, Outcome, Tool, ToolError};
///
/// struct Greet;
///
/// impl Tool for Greet {
///     fn call(&self, call: &Call<'_>) -> Result<Outcome, ToolError> {
///         Ok(Outcome::Output(json!({"greeting": format!("hello from {}", call.step)})))
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut config = Config::default();
/// config.listen = ListenAddress::parse("127.0.0.1:0").expect("an address");
/// config.data = DataLocation::Memory;
/// config.auth.mode = AuthMode::None;
///
/// let server = Builder::new(config).tool("greet", Greet).start()?;
/// let handle = server.handle();
/// let project: ProjectId = "demo".parse()?;
/// handle.broadcast(&project, &json!({"type": "note", "payload": {"text": "about to start"}}))?;
/// let run = handle.submit(&project, &json!({"name": "hello", "steps": [{"id": "a", "tool": "greet"}]}))?;
/// println!("watch http://{}/api/sse/projects/{project}?runId={run}", server.addresses()[0]);
/// server.stop()?;
/// # Ok(())
/// # }
/// ```
pub struct Builder {
    config: Config,
    registry: Registry,
}

impl Builder {
    /// A server that goes by `config`, with the built-in tools and those that it declares.
    pub fn new(config: Config) -> Self {
        Self { config, registry: Registry::with_builtins() }
    }

    /// Adds a tool of the embedding program.
    #[must_use]
    pub fn tool(mut self, name: &str, tool: impl Tool + 'static) -> Self {
        self.registry.insert(name, tool);
        self
    }

    /// Binds, opens the store, starts all threads, and goes on with the runs that were left active.
    ///
    /// A program whose tools are commands begins its `main` with
    /// [`launch_if_asked`](crate::tool::launch_if_asked).
    ///
    /// Where a thread panics later on, outside of a tool, the whole process ends at once (it aborts, and says why in its
    /// log): the rest would be half a server, and the next start goes on from the store.
    ///
    /// # Errors
    /// What of the configuration can't be carried out, what is the matter with the data, or what the system refuses.
    pub fn start(mut self) -> Result<RunningServer, StartError> {
        let config = &self.config;
        declare_tools(config, &mut self.registry)?;
        check_all(&config.webhooks).map_err(StartError)?;
        let key_source = key_source(config)?;
        let tls = Tls::of(&config.tls)?;
        let context = Arc::new(context(config, self.registry));
        let joined_at = clock::mono();
        let mut storage = storage::open(config, clock::wall())?;
        let signer = storage.keys.id_signer(storage.instance);
        let api = Api::new(api_settings(config, &storage, &signer)?, Box::new(random_or_abort));
        let shared = storage.shared.take();
        let mut server = Server::new(server_settings(config, descriptors()), api, u64::from_ne_bytes(random::bits()?));
        let poll = Poll::new().map_err(|error| failed("poll", &error))?;
        let (inbox, inbox_receiver) = waking_inbox(&poll)?;
        let (listeners, addresses) = bind_all(config)?;
        let (journal, left) = open_journal(config, storage.store, signer, &context, clock::now())?;

        server.count_watchers(journal.watchers());
        let (standings, waiting_wishes) = (journal.standings(), journal.waiting_wishes());
        let board = Arc::new(Board::of(&config.webhooks));
        server.show_webhooks(board.clone());
        let firings = Arc::<schedules::Board>::default();
        server.show_firings(firings.clone());
        if let Some(tls) = &tls {
            server.show_tls(tls.counts());
        }
        server.show_usage_faults(context.registry.usage_faults());
        let vitals = Arc::new(Vitals::new(joined_at));
        if let Some(shared) = &shared {
            server.show_node(Node { vitals: Arc::clone(&vitals), counts: Arc::clone(&shared.counts) });
        }

        let keys = key_source.map(|source| jwks::start(source, inbox.clone())).transpose()?;
        let executor = Unstarted::new();
        let executor_handle = executor.handle();
        let wishes = executor.children();
        let (bell, rung) = Bell::new();
        let (schedule_bell, schedules_rung) = bounded(1);
        let ring_schedules = move || {
            // Where it is full it has rung, and nobody has come to it so far.
            let _ = schedule_bell.try_send(());
        };
        let (wake, woken) = cluster::Bell::new();
        let ring_others = wake.clone();
        let is_shared = shared.is_some();
        let wake_others = move |moved, has_wishes| {
            if is_shared {
                ring_others.ring(moved, has_wishes);
            }
        };
        let mut out =
            distribute(executor_handle.clone(), inbox.clone(), move || bell.ring(), ring_schedules, wake_others);
        let log = log::start(journal, clock::now, out.clone());
        let (log, log_threads) = log.map_err(|error| failed("start the log", &error))?;
        let executor = start_executor(executor, config, &context, &log)?;
        let hands = OwnHands { log: log.clone(), executor: executor_handle.clone(), standings, wishes: waiting_wishes };
        let joined = |shared| Joined {
            shared,
            pace: membership::pace(&config.cluster),
            at: joined_at,
            wakes: (wake, woken),
            vitals,
        };
        let membership = shared.map(|shared| Membership::start(joined(shared), hands)).transpose()?;
        let (intake, intake_thread) = start_intake(config, &context, &log, &inbox)?;
        out(left);
        let courier = start_courier(config, &log, board, rung, is_shared.then_some(WEBHOOKS_LOOK))?;
        let steps_max = config.limits.plan_steps;
        let nursery = Nursery::new(context.clone(), steps_max);
        let children = Children { wishes, log: log.clone(), executor: executor_handle.clone(), nursery };
        let children = spawn("children", move || children.run())?;
        let scheduler = Scheduler::new(log.clone(), context.clone(), steps_max, firings, schedules_rung, is_shared);
        let (scheduler, scheduler_handle) = scheduler;
        let scheduler = spawn("schedules", move || scheduler.run())?;

        let wish = Arc::default();
        let control = LoopControl { wish: Arc::clone(&wish), drain_max: config.executor.grace + DRAIN_SLACK };
        let hands = Hands { log: log.clone(), intake, executor: executor_handle.clone(), keys };
        let event_loop = EventLoop::new(poll, (listeners, tls.clone()), server, inbox_receiver, hands, control);
        let thread = spawn("loop", move || event_loop.run())?;
        let drained = watch_executor(executor, log.clone(), inbox.clone())?;
        let mut others = vec![drained, intake_thread, scheduler, children];
        for thread in log_threads {
            others.push(watch_log(thread)?);
        }
        let handle = Handle::new(log.clone(), context, steps_max);
        let courier_handle = courier.as_ref().map(|(handle, _)| handle.clone());
        let stopper =
            Stopper { wish, executor: executor_handle, courier: courier_handle, scheduler: scheduler_handle, inbox };
        Ok(RunningServer { addresses, tls, handle, stopper, log, thread, courier, membership, others })
    }
}

fn context(config: &Config, registry: Registry) -> Context {
    Context {
        registry,
        engine: Engine::new(),
        output_bytes_max: size(config.limits.output_bytes),
        step_output_bytes_max: size(config.limits.step_output_bytes),
        durations: Durations::default(),
        interruptions_max: NonZeroU32::new(config.executor.interruptions),
        plan_limits: PlanLimits { steps: config.limits.plan_steps, bytes: size(config.limits.body_bytes) },
    }
}

/// A way into the loop that wakes its poll.
fn waking_inbox(poll: &Poll) -> Result<(InboxSender, InboxReceiver), StartError> {
    let waker = Waker::new(poll.registry(), WAKER).map_err(|error| failed("make a waker", &error))?;
    Ok(inbox(move || {
        // Fails only when the poll is gone, and with it whoever would be woken.
        let _ = waker.wake();
    }))
}

/// The log, and what an earlier process has left to do.
fn open_journal(
    config: &Config,
    store: Box<dyn Store>,
    signer: IdSigner,
    context: &Arc<Context>,
    now: Now,
) -> Result<(Journal, Outcome), StartError> {
    let plans = context.clone();
    let read_plan = Box::new(move |document: &[u8]| read_document(document, &plans));
    let journal = Journal::open_telling(webhooks(config), store, signer, journal_limits(config), read_plan, now);
    let (journal, mut left) = journal.map_err(|error| StartError(error.to_string()))?;
    left.deliveries.push(Delivery::Worked(journal.held()));
    if !left.orders.is_empty() {
        ::log::info!("runs that were left active and go on: {}", left.orders.len());
    }
    Ok((journal, left))
}

fn start_intake(
    config: &Config,
    context: &Arc<Context>,
    log: &LogHandle,
    inbox: &InboxSender,
) -> Result<(Sender<Work>, JoinHandle<()>), StartError> {
    let intake = Intake {
        context: context.clone(),
        steps_max: config.limits.plan_steps,
        log: log.clone(),
        inbox: inbox.clone(),
        random: random_or_abort,
    };
    let (intake, take_in) = intake.into_work();
    Ok((intake, spawn("intake", take_in)?))
}

fn api_settings(config: &Config, storage: &Storage, signer: &IdSigner) -> Result<ApiSettings, StartError> {
    let ticket_key = || storage.ticket_key.clone();
    let memory = match (storage.is_durable, &storage.shared) {
        (false, _) => TicketMemory::SinceStart(random::bits()?),
        (true, None) => TicketMemory::All,
        (true, Some(_)) => TicketMemory::Shared,
    };
    let mut tickets = TicketBook::new(ticket_key(), config.auth.ticket_ttl, memory);
    tickets = tickets.remembering(config.limits.tickets);
    storage.tickets.iter().for_each(|note| tickets.apply(note));
    let origins = Origins::new(config.cors.allowed_origins.as_slice());
    Ok(ApiSettings {
        verifier: verifier(config)?,
        hosts: hosts(config),
        origins: origins.map_err(|error| StartError(error.to_string()))?,
        signer: signer.clone(),
        ticket_key: ticket_key(),
        tickets,
        ticket_ttl: config.auth.ticket_ttl,
        serves_metrics: config.metrics.listen.is_none(),
    })
}

/// The thread that tells webhooks what waits for them, where there are any.
#[cfg(feature = "http-tool")]
fn start_courier(
    config: &Config,
    log: &LogHandle,
    board: Arc<Board>,
    rung: Rung,
    looks_each: Option<Duration>,
) -> Result<Option<(CourierHandle, JoinHandle<()>)>, StartError> {
    if config.webhooks.is_empty() {
        return Ok(None);
    }
    let body_bytes_max = size(config.limits.webhook_body_bytes);
    let courier = Courier::new(&config.webhooks, body_bytes_max, log.clone(), board, rung, looks_each);
    let (courier, handle) = courier.map_err(StartError)?;
    Ok(Some((handle, spawn("webhooks", move || courier.run())?)))
}

#[cfg(not(feature = "http-tool"))]
fn start_courier(
    config: &Config,
    _: &LogHandle,
    _: Arc<Board>,
    _: Rung,
    _: Option<Duration>,
) -> Result<Option<(CourierHandle, JoinHandle<()>)>, StartError> {
    match config.webhooks.first() {
        None => Ok(None),
        Some(first) => Err(StartError(format!(
            "webhook {}: this program was built without http-tool, and sends nothing",
            first.name
        ))),
    }
}

fn start_executor(
    executor: Unstarted,
    config: &Config,
    context: &Arc<Context>,
    log: &LogHandle,
) -> Result<Executor, StartError> {
    let settings = Settings {
        workers: config.executor.workers,
        active_runs_max: config.limits.active_runs,
        grace: config.executor.grace,
    };
    let (log, same_way) = (log.clone(), log.clone());
    let send = move |records| log.try_send_records(records);
    let answer = move |number| same_way.try_send(vec![log::Command::Abandoned(number)]).is_ok();
    let executor = executor.start(settings, context.clone(), send, answer);
    executor.map_err(|error| failed("start the executor", &error))
}
