//! Creates the threads from one [`Config`]: loop, log, intake, executor and workers.

mod backbone;
mod bells;
mod beside;
mod front;
#[cfg(test)]
mod tests;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use self::backbone::Backbone;
use self::bells::bells;
use self::beside::Beside;
use self::front::{Front, api};
use super::error::StartError;
use super::event_loop::Hands;
use super::handle::Handle;
use super::jwks;
use super::listen::{bind_all, speaks_tls};
use super::listener::Listener;
use super::membership::Joined;
use super::passed::PassedConnection;
use super::running::{Address, LoopControl, RunningServer, Stopper};
use super::settings::{
    declare_tools, descriptors, journal_limits, key_source, size, verifier, warn_of_settings, webhooks,
};
use super::storage::{self, Storage};
use super::tls::Tls;
use crate::api::{Api, Door, read_document};
use crate::auth::{IdSigner, Origins};
use crate::clock;
use crate::cluster;
use crate::config::Config;
use crate::executor::template::Engine;
use crate::executor::tool::{Registry, Tool};
use crate::executor::{Context, Durations, PlanLimits};
use crate::log::{Delivery, Journal, Outcome, Store};
use crate::model::Now;
use crate::webhooks::check_all;

/// How much longer than the grace period of steps a stop may take: commands that ignore it are killed 5 s later, and the
/// store may be slow.
const DRAIN_SLACK: Duration = Duration::from_secs(10);

/// Builds a server from a [`Config`] and the tools of the program that embeds it.
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
    /// Listeners that were bound elsewhere.
    given: Vec<Listener>,
    /// All listeners to serve at, if they are bound already.
    bound: Option<Vec<Listener>>,
    /// Connections that another process has passed on.
    passed: Vec<PassedConnection>,
}

impl Builder {
    /// Starts with `config`, the built-in tools and the tools that `config` declares.
    pub fn new(config: Config) -> Self {
        Self { config, registry: Registry::with_builtins(), given: Vec::new(), bound: None, passed: Vec::new() }
    }

    /// Adds a tool of the embedding program.
    #[must_use]
    pub fn tool(mut self, name: &str, tool: impl Tool + 'static) -> Self {
        self.registry.insert(name, tool);
        self
    }

    /// Serves at these sockets in place of `listen`, or of `metrics.listen` where they are [for
    /// metrics](Listener::for_metrics), or of `tls.listen` where they are [for TLS](Listener::for_tls).
    #[must_use]
    pub fn listeners(mut self, given: Vec<Listener>) -> Self {
        self.given = given;
        self
    }

    /// Takes over connections that another process has passed on.
    pub(crate) fn connections(mut self, passed: Vec<PassedConnection>) -> Self {
        self.passed = passed;
        self
    }

    /// Checks everything that can be checked, and binds the sockets. Another process may still have the data open.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub(crate) fn prepare(mut self) -> Result<Self, StartError> {
        check(&self.config)?;
        // Raises the limit now: another process may pass on connections before the server starts.
        descriptors();
        self.bound = Some(bind_all(&self.config, std::mem::take(&mut self.given))?);
        Ok(self)
    }

    /// Binds the sockets, opens the store, starts all threads, and continues the runs that were active at the last stop.
    ///
    /// A program whose tools are commands must begin its `main` with
    /// [`launch_if_asked`](crate::tool::launch_if_asked).
    ///
    /// If a thread of the server panics later, outside of a tool, the whole process aborts and logs why: the rest would be
    /// half a server, and the next start continues from the store.
    ///
    /// # Errors
    /// If the configuration cannot be applied, the data cannot be opened, or the operating system refuses something.
    pub fn start(self) -> Result<RunningServer, StartError> {
        self.start_over(|config| storage::open(config, clock::wall()))
    }

    /// Like [`start`](Self::start). If the store can't be opened for a reason that may pass, calls `to_do` with the
    /// error and then tries again.
    ///
    /// # Errors
    /// As [`start`](Self::start), and the errors of `to_do`.
    pub(crate) fn start_once_open(
        self,
        mut to_do: impl FnMut(StartError) -> Result<(), StartError>,
    ) -> Result<RunningServer, StartError> {
        self.start_over(|config| {
            loop {
                match storage::open(config, clock::wall()) {
                    Err(error) if storage::check(config).is_ok() => to_do(error)?,
                    opened => return opened,
                }
            }
        })
    }

    fn start_over(
        self,
        open_storage: impl FnOnce(&Config) -> Result<Storage, StartError>,
    ) -> Result<RunningServer, StartError> {
        let config = &self.config;
        warn_of_settings(config);
        let key_source = key_source(config)?;
        let tls = Tls::of(&config.tls)?;
        let context = Arc::new(context(config, self.registry)?);
        let (bells, rung) = bells();
        let Opened { store, signer, api, joined } = open(config, open_storage, (bells.others.clone(), rung.others))?;
        let listeners = self.bound.map_or_else(|| bind_all(config, self.given), Ok)?;
        let mut front = Front::new(config, api, listeners, tls.clone())?;
        let (journal, left) = open_journal(config, store, signer, &context, clock::now())?;

        let boards = front.show(config, &context, &journal, joined.as_ref());
        let keys = key_source.map(|source| jwks::start(source, front.inbox.clone())).transpose()?;
        let (mut backbone, wishes) = Backbone::start(config, &context, journal, bells, &front.inbox, joined.is_some())?;
        let (log, executor) = (backbone.log.clone(), backbone.executor.clone());
        let beside = Beside { config, context: &context, log: &log, is_shared: joined.is_some() };
        let (intake, intake_thread) = beside.start_intake(&front.inbox)?;
        let membership = backbone.go_on(left, joined)?;
        let courier = beside.start_courier(boards.webhooks, rung.webhooks)?;
        let children = beside.start_children(wishes, executor.clone())?;
        let (scheduler_thread, scheduler) = beside.start_scheduler(boards.firings, rung.schedules)?;

        let (inbox, listeners) = (front.inbox.clone(), Arc::clone(&front.listeners));
        let (wish, turns) = (Arc::default(), Arc::default());
        let drain_max = config.executor.grace + DRAIN_SLACK;
        let courier_handle = courier.as_ref().map(|(handle, _)| handle.clone());
        let control = LoopControl {
            wish: Arc::clone(&wish),
            drain_max,
            turns: Arc::clone(&turns),
            courier: courier_handle.clone(),
        };
        let hands = Hands { log: log.clone(), intake, executor: executor.clone(), keys };
        let thread = front.start(hands, control, self.passed)?;
        let mut others = backbone.watch(&inbox)?;
        others.extend([intake_thread, scheduler_thread, children]);
        let handle = Handle::new(log.clone(), context, config.limits.plan_steps);
        let stopper = Stopper { wish, executor, courier: courier_handle, scheduler, inbox };
        let addresses = addresses(config, &listeners);
        Ok(RunningServer {
            addresses,
            tls,
            listeners,
            handle,
            stopper,
            log,
            turns,
            thread,
            courier,
            membership,
            others,
        })
    }
}

/// Makes the checks of a start, except for those of the data, which another process may still have open.
fn check(config: &Config) -> Result<(), StartError> {
    declare_tools(config, &mut Registry::with_builtins())?;
    check_all(&config.webhooks).map_err(StartError)?;
    key_source(config)?;
    verifier(config)?;
    Tls::of(&config.tls)?;
    Origins::new(config.cors.allowed_origins.as_slice()).map_err(|error| StartError(error.to_string()))?;
    storage::check(config)
}

/// The addresses for clients, those without TLS first.
fn addresses(config: &Config, listeners: &[Listener]) -> Vec<Address> {
    let main = listeners.iter().filter(|listener| listener.door() == Door::Main);
    let address =
        |listener: &Listener| Some(Address { socket: listener.address()?, is_tls: speaks_tls(listener, &config.tls) });
    main.filter_map(address).collect()
}

/// Creates the context in which plans are checked and run.
fn context(config: &Config, mut registry: Registry) -> Result<Context, StartError> {
    declare_tools(config, &mut registry)?;
    Ok(Context {
        registry,
        engine: Engine::new(),
        output_bytes_max: size(config.limits.output_bytes),
        step_output_bytes_max: size(config.limits.step_output_bytes),
        durations: Durations::default(),
        interruptions_max: NonZeroU32::new(config.executor.interruptions),
        plan_limits: PlanLimits { steps: config.limits.plan_steps, bytes: size(config.limits.body_bytes) },
    })
}

/// A store whose log was not read yet, and what depends on its other contents.
struct Opened {
    store: Box<dyn Store>,
    signer: IdSigner,
    api: Api,
    /// Set if other nodes share the store.
    joined: Option<Joined>,
}

/// Opens the store and joins the other nodes, before anything that may take long.
fn open(
    config: &Config,
    open_storage: impl FnOnce(&Config) -> Result<Storage, StartError>,
    wakes: (cluster::Bell, cluster::Rung),
) -> Result<Opened, StartError> {
    check_all(&config.webhooks).map_err(StartError)?;
    let began = clock::mono();
    let mut storage = open_storage(config)?;
    let signer = storage.keys.id_signer(storage.instance);
    let api = api(config, &storage, &signer)?;
    let shared = storage.shared.take();
    let joined = shared.map(|shared| Joined::start(shared, &config.cluster, began, wakes)).transpose()?;
    Ok(Opened { store: storage.store, signer, api, joined })
}

/// Opens the log. Also returns what an earlier process has left to do.
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
    left.deliveries.push(Delivery::Worked(journal.work()));
    if !left.orders.is_empty() {
        ::log::info!("continuing the runs that were active when the server stopped: {}", left.orders.len());
    }
    Ok((journal, left))
}
