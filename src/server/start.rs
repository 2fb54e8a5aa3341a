//! Puts the threads together: loop, log, intake, executor and workers, from one [`Config`].

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use mio::{Poll, Waker};

use super::core::Server;
use super::error::{StartError, failed, random_bits};
use super::event_loop::{Control, EventLoop, Hands, Wish};
use super::handle::Handle;
use super::inbox::{Inbox, InboxSender, inbox};
use super::intake::Intake;
use super::listen::{WAKER, bind_all};
use super::settings::{declare_tools, descriptors, hosts, journal_limits, server_settings, size, verifier};
use super::storage::{self, Storage};
use crate::api::{Api, ApiSettings, read_document};
use crate::auth::{IdSigner, Origins, TicketBook};
use crate::config::Config;
use crate::executor::template::Engine;
use crate::executor::tool::{Registry, Tool, kill_commands};
use crate::executor::{Context, Executor, ExecutorHandle, NewRun, ResumedRun, Settings};
use crate::log::{self, Command, Delivery, Journal, LogHandle, Order, Outcome, ReplyTo};
use crate::model::{Now, Timestamp};

/// How much longer than the grace of steps an end may take: commands that ignore it are killed 5 s later, and the store may
/// be slow.
const DRAIN_SLACK: Duration = Duration::from_secs(10);

/// Builds a server out of a [`Config`] and the tools of the program that embeds it.
///
/// ```
/// use serde_json::json;
/// use stepcast::config::{AuthMode, Config, DataLocation, ListenAddress};
/// use stepcast::executor::tool::{Call, Outcome, Tool, ToolError};
/// use stepcast::model::ProjectId;
/// use stepcast::server::Builder;
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

/// A server that runs.
pub struct RunningServer {
    addresses: Vec<SocketAddr>,
    handle: Handle,
    stopper: Stopper,
    log: LogHandle,
    thread: JoinHandle<io::Result<()>>,
    others: Vec<JoinHandle<()>>,
}

/// Ends a server from another thread.
#[derive(Clone)]
pub struct Stopper {
    wish: Arc<AtomicU8>,
    executor: ExecutorHandle,
    inbox: InboxSender,
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
    /// [`launch_if_asked`](crate::executor::tool::launch_if_asked).
    ///
    /// Where a thread panics later on, outside of a tool, the whole process ends at once (it aborts, and says why in its
    /// log): the rest would be half a server, and the next start goes on from the store.
    ///
    /// # Errors
    /// What of the configuration can't be carried out, what is the matter with the data, or what the system refuses.
    pub fn start(mut self) -> Result<RunningServer, StartError> {
        let config = &self.config;
        declare_tools(config, &mut self.registry)?;
        let context = Arc::new(Context {
            registry: self.registry,
            engine: Engine::new(),
            output_bytes_max: size(config.limits.output_bytes),
            step_output_bytes_max: size(config.limits.step_output_bytes),
            interruptions_max: NonZeroU32::new(config.executor.interruptions),
        });
        let clock = Clock::default();
        let storage = storage::open(config, clock.now().wall)?;
        let signer = storage.keys.id_signer(storage.instance);
        let api = Api::new(api_settings(config, &storage, &signer, clock)?, Box::new(random_or_abort));
        let mut server = Server::new(server_settings(config, descriptors()), api, u64::from_ne_bytes(random_bits()?));
        let poll = Poll::new().map_err(|error| failed("poll", &error))?;
        let waker = Waker::new(poll.registry(), WAKER).map_err(|error| failed("make a waker", &error))?;
        let (listeners, addresses) = bind_all(config)?;
        let (inbox, inbox_receiver) = inbox(move || {
            // Fails only when the poll is gone, and with it whoever would be woken.
            let _ = waker.wake();
        });

        let executor_slot = Arc::default();
        let plans = context.clone();
        let read_plan = Box::new(move |document: &[u8]| read_document(document, &plans));
        let journal = Journal::open(storage.store, signer, journal_limits(config), read_plan, clock.now());
        let (journal, mut left) = journal.map_err(|error| StartError(error.to_string()))?;
        left.deliveries.push(Delivery::Worked(journal.held()));
        server.count_watchers(journal.watchers());
        let mut out = distribute(Arc::clone(&executor_slot), inbox.clone());
        let log = log::start(journal, move || clock.now(), out.clone());
        let (log, log_threads) = log.map_err(|error| failed("start the log", &error))?;
        let executor = start_executor(config, &context, &log)?;
        let executor_handle = executor.handle();
        // Set once, before anything can be ordered.
        let _ = executor_slot.set(executor_handle.clone());
        let steps_max = config.limits.plan_steps;
        let intake = Intake {
            context: context.clone(),
            steps_max,
            log: log.clone(),
            inbox: inbox.clone(),
            random: random_or_abort,
        };
        let (intake, take_in) = intake.into_work();
        let intake_thread = spawn("intake", take_in)?;

        if !left.orders.is_empty() {
            ::log::info!("runs that were left active and go on: {}", left.orders.len());
        }
        out(left);
        let control = LoopControl { wish: Arc::default(), drain_max: config.executor.grace + DRAIN_SLACK, clock };
        let wish = control.wish.clone();
        let hands = Hands { log: log.clone(), intake, executor: executor_handle.clone() };
        let event_loop = EventLoop::new(poll, listeners, server, inbox_receiver, hands, control);
        let thread = spawn("loop", move || event_loop.run())?;
        let drained = watch_executor(executor, log.clone(), inbox.clone())?;
        let mut others = vec![drained, intake_thread];
        for thread in log_threads {
            others.push(watch_log(thread)?);
        }
        let handle = Handle::new(log.clone(), context, steps_max);
        let stopper = Stopper { wish, executor: executor_handle, inbox };
        Ok(RunningServer { addresses, handle, stopper, log, thread, others })
    }
}

fn api_settings(
    config: &Config,
    storage: &Storage,
    signer: &IdSigner,
    clock: Clock,
) -> Result<ApiSettings, StartError> {
    let ticket_key = || storage.ticket_keys.ticket_key();
    let mut tickets = TicketBook::new(ticket_key(), config.auth.ticket_ttl, clock.now().wall, storage.is_durable);
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

fn start_executor(config: &Config, context: &Arc<Context>, log: &LogHandle) -> Result<Executor, StartError> {
    let settings = Settings {
        workers: config.executor.workers,
        active_runs_max: config.limits.active_runs,
        grace: config.executor.grace,
    };
    let log = log.clone();
    let executor = Executor::start(settings, context.clone(), move |records| log.try_send_records(records));
    executor.map_err(|error| failed("start the executor", &error))
}

/// Tells the loop when the last step has ended, behind everything that runs said. What the log had no room for yet waits
/// here for it.
fn watch_executor(executor: Executor, log: LogHandle, inbox: InboxSender) -> Result<JoinHandle<()>, StartError> {
    spawn("executor-end", move || {
        let rest = executor.join().unwrap_or_else(|panicked| end_process(&panicked.to_string()));
        if !rest.is_empty() && log.send(vec![Command::Records(rest)]).is_err() {
            ::log::error!("the log has ended before the runs");
        }
        log.wait_until_kept();
        inbox.send(Inbox::Drained);
    })
}

/// Without its log the server is none: if that ends before it was told to, so does the process.
pub(super) fn watch_log(log: JoinHandle<()>) -> Result<JoinHandle<()>, StartError> {
    spawn("log-end", move || {
        if log.join().is_err() {
            end_process("a thread of the log has panicked");
        }
    })
}

impl RunningServer {
    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// To broadcast and to submit plans from inside the program.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// To end it from another thread.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Ends it gracefully, and waits until it has ended.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn stop(self) -> io::Result<()> {
        self.stopper.stop();
        self.wait()
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// What made the loop end before it was told to.
    pub fn wait(self) -> io::Result<()> {
        let result = self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the loop has panicked")));
        self.log.close();
        if result.is_ok() {
            self.others.into_iter().for_each(|thread| drop(thread.join()));
        }
        result
    }
}

impl Stopper {
    /// Takes no new work, gives active steps their grace, ends the streams, and stops. A second time: stops at once.
    pub fn stop(&self) {
        let (first, second) = (Wish::Drain as u8, Wish::Stop as u8);
        if self.wish.compare_exchange(Wish::Serve as u8, first, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            self.wish.store(second, Ordering::SeqCst);
        }
        self.executor.shutdown();
        self.inbox.wake();
    }
}

/// Reads both clocks.
#[derive(Debug, Clone, Copy)]
struct Clock {
    origin: Instant,
}

impl Default for Clock {
    fn default() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Clock {
    fn now(&self) -> Now {
        Now { mono: self.origin.elapsed(), wall: Timestamp::from(SystemTime::now()) }
    }
}

struct LoopControl {
    wish: Arc<AtomicU8>,
    drain_max: Duration,
    clock: Clock,
}

impl Control for LoopControl {
    fn wish(&self) -> Wish {
        match self.wish.load(Ordering::SeqCst) {
            0 => Wish::Serve,
            1 => Wish::Drain,
            _ => Wish::Stop,
        }
    }

    fn drain_max(&self) -> Duration {
        self.drain_max
    }

    fn now(&self) -> Now {
        self.clock.now()
    }
}

/// Where what leaves the log goes. The loop is told before anyone else who waits, so that whoever has been answered finds
/// that the loop knows.
fn distribute(
    executor: Arc<OnceLock<ExecutorHandle>>,
    inbox: InboxSender,
) -> impl FnMut(Outcome) + Send + Clone + 'static {
    move |outcome| {
        for order in outcome.orders {
            let Some(executor) = executor.get() else { continue };
            carry_out(order, executor);
        }
        let mut deliveries = outcome.deliveries;
        let is_of_others = |delivery: &mut Delivery| matches!(delivery, Delivery::Reply { to: ReplyTo::Caller(_), .. });
        let others: Vec<Delivery> = deliveries.extract_if(.., is_of_others).collect();
        if !deliveries.is_empty() {
            inbox.send(Inbox::Log(deliveries));
        }
        for delivery in others {
            if let Delivery::Reply { to: ReplyTo::Caller(caller), answer } = delivery {
                // Whoever has given up waiting is told nothing.
                let _ = caller.try_send(answer);
            }
        }
    }
}

fn carry_out(order: Order, executor: &ExecutorHandle) {
    let seed = || u64::from_ne_bytes(random_or_abort()[..8].try_into().expect("8 of 16 bytes"));
    match order {
        Order::Start { project, run, plan, created_at } => {
            executor.start(NewRun { project, run, plan, created_at, seed: seed() });
        }
        Order::Resume(resumed) => {
            let log::Resumed { project, plan, state, whole_outputs, cancelled } = *resumed;
            let (run, created_at) = (state.run_id.clone(), state.created_at);
            let new = NewRun { project, run, plan, created_at, seed: seed() };
            executor.resume(ResumedRun { new, state, whole_outputs, cancelled });
        }
        Order::Cancel { project, run } => executor.cancel(project, run),
        Order::Kept(batches) => executor.kept(batches),
        Order::StoreIsDown(is_down) => executor.store_is_down(is_down),
    }
}

/// Random bits, from a system that has given some before. Without them no id, ticket or key would be worth anything, so
/// there is nothing to go on with.
fn random_or_abort() -> [u8; 16] {
    random_bits().unwrap_or_else(|error| end_process(&error.0))
}

/// Ends the process rather than leaving half a server: the one place where that happens. Runs and messages are in the
/// log, for the next start to go on with.
fn end_process(why: &str) -> ! {
    ::log::error!("{why}; the process ends");
    kill_commands();
    std::process::abort()
}

/// Starts a thread without which the server is none: where it panics, the process ends.
pub(super) fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, StartError> {
    let named = name.to_owned();
    let work = move || {
        catch_unwind(AssertUnwindSafe(work))
            .unwrap_or_else(|_| end_process(&format!("the thread {named} has panicked")))
    };
    let thread = thread::Builder::new().name(name.into()).spawn(work);
    thread.map_err(|error| failed(&format!("start the thread {name}"), &error))
}
