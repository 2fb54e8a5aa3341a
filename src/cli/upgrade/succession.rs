//! The handover in the old process: what SIGUSR2 starts, and what happens once the server has ended.

use std::env;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::{process, thread};

use signal_hook::consts::SIGUSR2;
use signal_hook::iterator::Signals;

use super::successor::Successor;
use crate::cli::error::CommandError;
use crate::cli::service::Notifier;
use crate::server::{Legacy, Listener, PassedConnection, RunningServer, Stopper};

/// The process whose end ends all others of its container.
const FIRST_PROCESS: u32 = 1;

/// The variable in which systemd passes a process that it has started that process's own id.
const STARTED_BY_SYSTEMD: &str = "SYSTEMD_EXEC_PID";

/// The state of the handover, shared by all clones.
#[derive(Clone)]
pub(in crate::cli) struct Succession {
    state: Arc<Mutex<State>>,
    /// Held while a new process is being started, so that this process does not end and leave it behind.
    starting: Arc<Mutex<()>>,
    notifier: Notifier,
}

#[derive(Default)]
struct State {
    server: Option<Serving>,
    /// A new process that is ready and waits for the server to end.
    successor: Option<Successor>,
}

/// What an upgrade needs to know of the running server.
#[derive(Clone)]
struct Serving {
    stopper: Stopper,
    listeners: Weak<Vec<Listener>>,
    status: String,
}

/// The result of a handover.
pub(in crate::cli) enum HandedOver {
    /// Another process serves, or both were told to end.
    Over,
    /// This process must continue, with its sockets and connections.
    GoOn(Vec<Listener>, Vec<PassedConnection>),
}

impl Succession {
    /// From now on, SIGUSR2 starts an upgrade of the running server, if there is one.
    ///
    /// # Errors
    /// If no thread can be started, or the signal can't be caught.
    pub(in crate::cli) fn on_signal(notifier: Notifier) -> io::Result<Self> {
        let succession = Self { state: Arc::default(), starting: Arc::default(), notifier };
        let mut signals = Signals::new([SIGUSR2])?;
        let it = succession.clone();
        let listen = move || signals.forever().for_each(|_| it.begin());
        thread::Builder::new().name("upgrade".into()).spawn(listen)?;
        Ok(succession)
    }

    /// Sets the server that runs from now on. `status` describes it to the service manager.
    pub(in crate::cli) fn serves(&self, server: &RunningServer, status: String) {
        let (stopper, listeners) = (server.stopper(), server.listeners());
        self.notifier.ready(&status);
        self.state().server = Some(Serving { stopper, listeners, status });
    }

    /// Starts a successor. Once that is ready, makes the server end and hand over.
    fn begin(&self) {
        let _starting = lock(&self.starting);
        let Some(Serving { stopper, listeners, status }) = self.state().server.clone() else {
            return log::warn!("SIGUSR2 ignored: no server is running that could be upgraded");
        };
        let is_under_way = self.state().successor.is_some() || stopper.is_told_to_stop();
        let Some(listeners) = listeners.upgrade().filter(|_| !is_under_way) else {
            return log::warn!("SIGUSR2 ignored: the server is already stopping or being upgraded");
        };
        if let Some(why) = self.why_bound_to_this_process() {
            return log::error!("upgrade refused: {why}");
        }
        log::info!("SIGUSR2: starting a new process to take over");
        self.notifier.reloading();
        match Successor::start(&listeners, &stopper) {
            Ok(successor) => {
                log::info!("process {} is ready to take over", successor.pid());
                self.state().successor = Some(successor);
                stopper.hand_over();
            }
            Err(why) if stopper.is_told_to_stop() => log::info!("no upgrade: {why}"),
            Err(why) => {
                log::error!("upgrade failed: {why}; this process continues");
                self.notifier.ready(&status);
            }
        }
    }

    /// Why the service would end together with this process, if it would.
    fn why_bound_to_this_process(&self) -> Option<&'static str> {
        let id = process::id();
        if id == FIRST_PROCESS {
            return Some("this is the first process of a container, which would end with it");
        }
        let is_started_by_systemd = env::var(STARTED_BY_SYSTEMD).is_ok_and(|it| it.parse() == Ok(id));
        (is_started_by_systemd && !self.notifier.has_manager())
            .then_some("systemd would end the service with this process: its unit needs Type=notify")
    }

    /// Lets the successor take over, after the server has ended and its store is closed.
    ///
    /// # Errors
    /// If no process takes over and the listening sockets are lost.
    pub(in crate::cli) fn hand_over(&self, legacy: Legacy) -> Result<HandedOver, CommandError> {
        let (serving, successor) = {
            let mut state = self.state();
            (state.server.take(), state.successor.take())
        };
        let Legacy { listeners, connections } = legacy;
        let taken_over = match (&serving, successor) {
            (Some(serving), Some(successor)) => self.await_taken_over(&serving.stopper, successor, &connections),
            _ => Err("there is no process to take over".to_owned()),
        };
        match taken_over {
            Ok(()) => Ok(HandedOver::Over),
            Err(why) if serving.is_some_and(|serving| serving.stopper.is_told_to_stop()) => {
                log::info!("no upgrade: {why}; this process ends too, as it was told to");
                Ok(HandedOver::Over)
            }
            Err(why) => {
                log::error!("upgrade failed: {why}; this process continues");
                // If others still hold the sockets, it is only for a moment.
                let listeners =
                    Arc::try_unwrap(listeners).or_else(|shared| shared.iter().map(Listener::try_clone).collect());
                let listeners = listeners.map_err(|error| CommandError::io("go on listening", &error))?;
                Ok(HandedOver::GoOn(listeners, connections))
            }
        }
    }

    fn await_taken_over(
        &self,
        stopper: &Stopper,
        mut successor: Successor,
        connections: &[PassedConnection],
    ) -> Result<(), String> {
        successor.take_over(connections, stopper)?;
        self.notifier.main_pid(successor.pid());
        log::info!("process {} has taken over", successor.pid());
        Ok(())
    }

    /// Ends a waiting successor: the server was told to end, so no process takes over any more.
    pub(in crate::cli) fn end(&self) {
        let _starting = lock(&self.starting);
        let successor = {
            let mut state = self.state();
            state.server = None;
            state.successor.take()
        };
        drop(successor);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
