//! Puts the threads together: loop, log, intake, executor and workers, from one [`Config`].

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use mio::net::TcpListener;
use mio::{Poll, Waker};
use ring::rand::{SecureRandom, SystemRandom};

use super::connection::Timeouts;
use super::core::{Server, ServerSettings};
use super::event_loop::{Control, EventLoop, WAKER, Wish};
use super::handle::Handle;
use super::inbox::{Inbox, InboxSender, inbox};
use super::intake::Intake;
use super::limits::ConnectionLimits;
use crate::api::{Api, ApiSettings, Door};
use crate::auth::{Instance, JwtKey, Origins, ServerKeys, TicketBook, Verifier};
use crate::config::{AuthMode, Config, DataLocation, JwtAlgorithm, ListenAddress};
use crate::executor::template::Engine;
use crate::executor::tool::{Registry, Tool, ToolSettings};
use crate::executor::{Context, Executor, ExecutorHandle, NewRun, Settings};
use crate::http;
use crate::log::{self, Delivery, Journal, LogHandle, MemoryStore, Order, Outcome, ReplyTo, Retention};
use crate::model::{Now, Timestamp};
use crate::stream;

/// Connections beyond the limit that are taken in to be told so.
const RESERVE_CONNECTIONS: usize = 64;

/// Descriptors that are none of the clients': files, pipes of commands, outgoing connections.
const OTHER_DESCRIPTORS: u64 = 256;

/// Bytes that all backlogs together hold at most.
const BACKLOGS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long the messages of a project that nobody watches any more are held encoded, for those who come back.
const LINGER: Duration = Duration::from_secs(30);

/// Projects that may be written to.
const PROJECTS_MAX: usize = 100_000;

/// How long an `Idempotency-Key` is remembered.
const IDEMPOTENCY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long the newest ended run is shown to those who come.
const RECENT: Duration = Duration::from_secs(60);

/// Each listener with what it is for.
type Listeners = Vec<(TcpListener, Door)>;

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

/// Why a server does not start.
#[derive(Debug)]
pub struct StartError(String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

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
        let clock = Clock::default();
        let began = clock.now().wall;
        let keys = ServerKeys::derive(&master_key(config)?);
        let signer = keys.id_signer(Instance::from_random(random_bits()?));
        let tickets = TicketBook::new(keys.ticket_key(), config.auth.ticket_ttl, began, false);
        let api = ApiSettings {
            verifier: verifier(config)?,
            origins: Origins::new(config.cors.allowed_origins.as_slice())
                .map_err(|error| StartError(error.to_string()))?,
            signer: signer.clone(),
            ticket_key: keys.ticket_key(),
            tickets,
            ticket_ttl: config.auth.ticket_ttl,
            serves_metrics: config.metrics.listen.is_none(),
        };
        if let DataLocation::Directory(path) = &config.data {
            ::log::warn!("{} is not used: messages and runs are kept in memory", path.display());
        }
        let poll = Poll::new().map_err(|error| failed("poll", &error))?;
        let waker = Waker::new(poll.registry(), WAKER).map_err(|error| failed("make a waker", &error))?;
        let (listeners, addresses) = bind_all(config)?;

        let (inbox_sender, inbox_receiver) = inbox(move || {
            // Fails only when the poll is gone, and with it whoever would be woken.
            let _ = waker.wake();
        });
        let executor_slot: Arc<OnceLock<ExecutorHandle>> = Arc::default();
        let journal = Journal::new(Box::new(MemoryStore::new()), signer, journal_limits(config));
        let out = distribute(executor_slot.clone(), inbox_sender.clone());
        let (log, log_thread) =
            log::start(journal, move || clock.now(), out).map_err(|error| failed("start the log", &error))?;

        let context = Arc::new(Context {
            registry: self.registry,
            engine: Engine::new(),
            output_bytes_max: size(config.limits.output_bytes),
        });
        let records_log = log.clone();
        let settings = Settings {
            workers: config.executor.workers,
            active_runs_max: config.limits.active_runs,
            grace: config.executor.grace,
        };
        let executor = Executor::start(settings, context.clone(), move |records| {
            if records_log.send(vec![log::Command::Records(records)]).is_err() {
                ::log::error!("the log has ended before the runs");
            }
        });
        let executor = executor.map_err(|error| failed("start the executor", &error))?;
        let executor_handle = executor.handle();
        let _ = executor_slot.set(executor_handle.clone());

        let intake = Intake {
            context: context.clone(),
            steps_max: config.limits.plan_steps,
            log: log.clone(),
            inbox: inbox_sender.clone(),
            random: random_or_abort,
        };
        let (intake, intake_thread) = intake.start().map_err(|error| failed("start the intake", &error))?;

        let is_drained = Arc::new(AtomicBool::new(false));
        let wish = Arc::new(AtomicU8::new(Wish::Serve as u8));
        let control = LoopControl { wish: wish.clone(), is_drained: is_drained.clone(), clock };
        let api = Api::new(api, Box::new(random_or_abort));
        let seed = u64::from_ne_bytes(random_bits()?);
        let server = Server::new(server_settings(config, descriptors())?, api, seed);
        let event_loop = EventLoop::new(poll, listeners, server, inbox_receiver, log.clone(), intake, control);
        let thread = spawn("loop", move || event_loop.run())?;
        let watcher_inbox = inbox_sender.clone();
        let watcher = spawn("executor-end", move || {
            executor.join();
            is_drained.store(true, Ordering::SeqCst);
            watcher_inbox.wake();
        })?;
        let log_watcher = spawn("log-end", move || match log_thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => end_process(&format!("the log has failed: {error}")),
            Err(_) => end_process("the log's thread has panicked"),
        })?;
        let handle = Handle::new(log.clone(), context, config.limits.plan_steps);
        let stopper = Stopper { wish, executor: executor_handle, inbox: inbox_sender };
        Ok(RunningServer { addresses, handle, stopper, log, thread, others: vec![watcher, intake_thread, log_watcher] })
    }
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

/// Adds the tools that `config` declares.
///
/// # Errors
/// What of a declaration is no good.
pub fn declare_tools(config: &Config, registry: &mut Registry) -> Result<(), StartError> {
    for declaration in &config.tools {
        let settings = ToolSettings { output_bytes: size(config.limits.step_output_bytes), ..ToolSettings::default() };
        registry.declare_with(declaration.clone(), settings).map_err(StartError)?;
    }
    Ok(())
}

fn verifier(config: &Config) -> Result<Option<Verifier>, StartError> {
    if config.auth.mode == AuthMode::None {
        return Ok(None);
    }
    let public_key = || {
        let path = config.auth.jwt_public_key.as_ref();
        let path = path.ok_or_else(|| StartError("auth.jwt_public_key is missing".into()))?;
        std::fs::read_to_string(path).map_err(|error| failed(&format!("read {}", path.display()), &error))
    };
    let key = match config.auth.jwt_algorithm {
        JwtAlgorithm::Hs256 => {
            let secret = config.auth.jwt_secret.as_ref();
            let secret = secret.ok_or_else(|| StartError("auth.jwt_secret is missing".into()))?;
            JwtKey::Hs256 { secret: secret.expose().as_bytes().to_vec() }
        }
        JwtAlgorithm::Rs256 => JwtKey::Rs256 { public_key: public_key()? },
        JwtAlgorithm::Es256 => JwtKey::Es256 { public_key: public_key()? },
        JwtAlgorithm::EdDsa => JwtKey::EdDsa { public_key: public_key()? },
    };
    Verifier::new(&key, config.auth.leeway).map(Some).map_err(|error| StartError(error.to_string()))
}

/// What the server's own keys are derived from: the secret that a restart knows again, or else random bits.
fn master_key(config: &Config) -> Result<Vec<u8>, StartError> {
    match (&config.auth.jwt_secret, config.auth.mode) {
        (Some(secret), AuthMode::Jwt) => Ok(secret.expose().as_bytes().to_vec()),
        _ => Ok(random_bits::<32>()?.to_vec()),
    }
}

/// The listeners, and the addresses of those for everything.
fn bind_all(config: &Config) -> Result<(Listeners, Vec<SocketAddr>), StartError> {
    let mut listeners = Listeners::new();
    let mut addresses = Vec::new();
    for address in resolve(&config.listen)? {
        let listener = bind(address)?;
        addresses.push(listener.local_addr().map_err(|error| failed("listen", &error))?);
        listeners.push((listener, Door::Main));
    }
    if let Some(listen) = &config.metrics.listen {
        for address in resolve(listen)? {
            listeners.push((bind(address)?, Door::Metrics));
        }
    }
    Ok((listeners, addresses))
}

fn resolve(listen: &ListenAddress) -> Result<Vec<SocketAddr>, StartError> {
    listen.resolve().map_err(|error| failed(&format!("resolve {listen}"), &error))
}

fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    /// Connections that may wait to be accepted: a reconnect of ten thousand watchers must fit.
    const WAITING_MAX: i32 = 16 * 1024;
    let bound = || {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        if address.is_ipv6() {
            socket.set_only_v6(address.ip().is_loopback())?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(WAITING_MAX)?;
        Ok(TcpListener::from_std(socket.into()))
    };
    bound().map_err(|error: io::Error| failed(&format!("listen on {address}"), &error))
}

fn server_settings(config: &Config, descriptors: u64) -> Result<ServerSettings, StartError> {
    let limits = &config.limits;
    let spared = OTHER_DESCRIPTORS + RESERVE_CONNECTIONS as u64 + 4 * config.executor.workers as u64;
    let connections = limits.connections.map_or(descriptors.saturating_sub(spared).max(64), u64::from);
    if connections + RESERVE_CONNECTIONS as u64 >= descriptors {
        ::log::warn!("limits.connections is {connections}, but this process may only have {descriptors} descriptors");
    }
    Ok(ServerSettings {
        streams: stream::Settings {
            heartbeat: config.sse.heartbeat,
            stall_timeout: config.sse.stall_timeout,
            retry_ms: u64::try_from(config.sse.retry.as_millis()).unwrap_or(u64::MAX),
            backlog_bytes: size(config.sse.queue_bytes),
            backlogs_bytes: BACKLOGS_BYTES_MAX,
            linger: LINGER,
        },
        http: http::Limits {
            head_bytes: size(limits.header_bytes),
            target_bytes: size(limits.target_bytes),
            body_bytes: size(limits.body_bytes),
        },
        timeouts: Timeouts {
            header: limits.header_timeout,
            body: limits.body_timeout,
            idle: limits.idle_timeout,
            output: config.sse.stall_timeout,
        },
        limits: ConnectionLimits {
            connections: usize::try_from(connections).unwrap_or(usize::MAX),
            reserve: RESERVE_CONNECTIONS,
            per_address: limits.connections_per_address,
            trusted_proxies: limits.trusted_proxies.clone(),
            streams_per_token: limits.streams_per_token,
            publish_rate: limits.publish_rate,
        },
    })
}

fn journal_limits(config: &Config) -> log::Limits {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    log::Limits {
        retention: Retention {
            messages: config.history.messages,
            bytes: config.history.bytes,
            age_ms: millis(config.history.age),
            runs: config.history.runs,
        },
        open_runs: config.limits.active_runs + config.limits.queued_runs,
        projects: PROJECTS_MAX,
        idempotency_ms: millis(IDEMPOTENCY),
        recent_ms: millis(RECENT),
    }
}

/// Raises the process's descriptor limit as far as it goes; what it is then.
fn descriptors() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let limit = if setrlimit(Resource::Nofile, raised).is_ok() { raised } else { limit };
    limit.current.unwrap_or(u64::MAX)
}

fn random_bits<const N: usize>() -> Result<[u8; N], StartError> {
    let mut bits = [0; N];
    match SystemRandom::new().fill(&mut bits) {
        Ok(()) => Ok(bits),
        Err(_) => Err(StartError("the system gives no random numbers".into())),
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

fn failed(what: &str, error: &io::Error) -> StartError {
    StartError(format!("can't {what}: {error}"))
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
