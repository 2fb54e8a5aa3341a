//! Puts the threads together: loop, log, intake, executor and workers, from one [`Config`].

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Instant, SystemTime};

use mio::{Poll, Waker};

use super::core::Server;
use super::error::{StartError, failed, random_bits};
use super::event_loop::{Control, EventLoop, WAKER, Wish};
use super::handle::Handle;
use super::inbox::{Inbox, InboxSender, inbox};
use super::intake::Intake;
use super::listen::bind_all;
use super::settings::{declare_tools, descriptors, journal_limits, master_key, server_settings, size, verifier};
use crate::api::{Api, ApiSettings};
use crate::auth::{IdSigner, Instance, Origins, ServerKeys, TicketBook};
use crate::config::{Config, DataLocation};
use crate::executor::template::Engine;
use crate::executor::tool::{Registry, Tool};
use crate::executor::{Context, Executor, ExecutorHandle, NewRun, Settings};
use crate::log::{self, Delivery, Journal, LogHandle, MemoryStore, Order, Outcome, ReplyTo, StoreError};
use crate::model::{Now, Timestamp};

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

    /// Binds, and starts all threads.
    ///
    /// # Errors
    /// What of the configuration can't be carried out, or what the system refuses.
    pub fn start(mut self) -> Result<RunningServer, StartError> {
        let config = &self.config;
        declare_tools(config, &mut self.registry)?;
        if let DataLocation::Directory(path) = &config.data {
            ::log::warn!("{} is not used: messages and runs are kept in memory", path.display());
        }
        let clock = Clock::default();
        let keys = ServerKeys::derive(&master_key(config)?);
        let signer = keys.id_signer(Instance::from_random(random_bits()?));
        let api = Api::new(api_settings(config, &keys, &signer, clock)?, Box::new(random_or_abort));
        let server = Server::new(server_settings(config, descriptors()), api, u64::from_ne_bytes(random_bits()?));
        let poll = Poll::new().map_err(|error| failed("poll", &error))?;
        let waker = Waker::new(poll.registry(), WAKER).map_err(|error| failed("make a waker", &error))?;
        let (listeners, addresses) = bind_all(config)?;
        let (inbox, inbox_receiver) = inbox(move || {
            // Fails only when the poll is gone, and with it whoever would be woken.
            let _ = waker.wake();
        });

        let executor_slot = Arc::default();
        let journal = Journal::new(Box::new(MemoryStore::new()), signer, journal_limits(config));
        let out = distribute(Arc::clone(&executor_slot), inbox.clone());
        let log = log::start(journal, move || clock.now(), out);
        let (log, log_thread) = log.map_err(|error| failed("start the log", &error))?;
        let context = Arc::new(Context {
            registry: self.registry,
            engine: Engine::new(),
            output_bytes_max: size(config.limits.output_bytes),
        });
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
        let (intake, intake_thread) = intake.start().map_err(|error| failed("start the intake", &error))?;

        let control = LoopControl { wish: Arc::default(), is_drained: Arc::default(), clock };
        let (wish, is_drained) = (control.wish.clone(), control.is_drained.clone());
        let event_loop = EventLoop::new(poll, listeners, server, inbox_receiver, log.clone(), intake, control);
        let thread = spawn("loop", move || event_loop.run())?;
        let others = vec![watch_executor(executor, is_drained, inbox.clone())?, watch_log(log_thread)?, intake_thread];
        let handle = Handle::new(log.clone(), context, steps_max);
        let stopper = Stopper { wish, executor: executor_handle, inbox };
        Ok(RunningServer { addresses, handle, stopper, log, thread, others })
    }
}

fn api_settings(
    config: &Config,
    keys: &ServerKeys,
    signer: &IdSigner,
    clock: Clock,
) -> Result<ApiSettings, StartError> {
    let origins = Origins::new(config.cors.allowed_origins.as_slice());
    Ok(ApiSettings {
        verifier: verifier(config)?,
        origins: origins.map_err(|error| StartError(error.to_string()))?,
        signer: signer.clone(),
        ticket_key: keys.ticket_key(),
        tickets: TicketBook::new(keys.ticket_key(), config.auth.ticket_ttl, clock.now().wall, false),
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
    let executor = Executor::start(settings, context.clone(), move |records, _| {
        if log.send(vec![log::Command::Records(records)]).is_err() {
            ::log::error!("the log has ended before the runs");
        }
    });
    executor.map_err(|error| failed("start the executor", &error))
}

/// Tells the loop when the last step has ended.
fn watch_executor(
    executor: Executor,
    is_drained: Arc<AtomicBool>,
    inbox: InboxSender,
) -> Result<JoinHandle<()>, StartError> {
    spawn("executor-end", move || {
        executor.join();
        is_drained.store(true, Ordering::SeqCst);
        inbox.wake();
    })
}

/// Without its log the server is none: if that ends before it was told to, so does the process.
fn watch_log(log: JoinHandle<Result<(), StoreError>>) -> Result<JoinHandle<()>, StartError> {
    spawn("log-end", move || match log.join() {
        Ok(Ok(())) => {}
        Ok(Err(error)) => end_process(&format!("the log has failed: {error}")),
        Err(_) => end_process("the log's thread has panicked"),
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
    is_drained: Arc<AtomicBool>,
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

    fn is_drained(&self) -> bool {
        self.is_drained.load(Ordering::SeqCst)
    }

    fn now(&self) -> Now {
        self.clock.now()
    }
}

/// Where what leaves the log goes.
fn distribute(executor: Arc<OnceLock<ExecutorHandle>>, inbox: InboxSender) -> impl FnMut(Outcome) + Send + 'static {
    move |outcome| {
        for order in outcome.orders {
            let Some(executor) = executor.get() else { continue };
            match order {
                Order::Start { project, run, plan, created_at } => {
                    let seed = u64::from_ne_bytes(random_or_abort()[..8].try_into().expect("8 of 16 bytes"));
                    executor.start(NewRun { project, run, plan, created_at, seed });
                }
                Order::Cancel { project, run } => executor.cancel(project, run),
            }
        }
        let mut deliveries = Vec::with_capacity(outcome.deliveries.len());
        for delivery in outcome.deliveries {
            match delivery {
                // Whoever has given up waiting is told nothing.
                Delivery::Reply { to: ReplyTo::Caller(caller), answer } => drop(caller.try_send(answer)),
                delivery => deliveries.push(delivery),
            }
        }
        if !deliveries.is_empty() {
            inbox.send(Inbox::Log(deliveries));
        }
    }
}

/// Random bits, from a system that has given some before. Without them no id, ticket or key would be worth anything, so
/// there is nothing to go on with.
fn random_or_abort() -> [u8; 16] {
    random_bits().unwrap_or_else(|error| end_process(&error.0))
}

/// Ends the process rather than leaving half a server.
fn end_process(why: &str) -> ! {
    ::log::error!("{why}; the process ends");
    std::process::abort()
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, StartError> {
    let thread = thread::Builder::new().name(name.into()).spawn(work);
    thread.map_err(|error| failed(&format!("start the thread {name}"), &error))
}
