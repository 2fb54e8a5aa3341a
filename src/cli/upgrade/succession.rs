//! The handover in the old process: what SIGUSR2 starts, and how it continues once the server has ended.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;

use signal_hook::consts::SIGUSR2;
use signal_hook::iterator::Signals;

use super::successor::Successor;
use crate::cli::service::Notifier;
use crate::server::{Legacy, Listener, PassedConnection, RunningServer, Stopper};

/// What all others of a container end with.
const FIRST_PROCESS: u32 = 1;

/// See the top of this file. Clones are of the same.
#[derive(Clone)]
pub(in crate::cli) struct Succession {
    state: Arc<Mutex<State>>,
    notifier: Notifier,
}

#[derive(Default)]
struct State {
    server: Option<Serving>,
    /// It is ready, and waits for the server's end.
    successor: Option<Successor>,
}

/// What has to be known of the server that serves.
#[derive(Clone)]
struct Serving {
    stopper: Stopper,
    listeners: Weak<Vec<Listener>>,
    status: String,
}

/// What has become of a server that was to be replaced.
pub(in crate::cli) enum HandedOver {
    /// Another process serves, or both were told to end.
    Over,
    /// This process has to go on, with what it had.
    GoOn(Vec<Listener>, Vec<PassedConnection>),
}

impl Succession {
    /// From now on SIGUSR2 begins an upgrade of the server that serves then, if any does.
    ///
    /// # Errors
    /// Where the system grants no thread, or the signal can't be caught.
    pub(in crate::cli) fn on_signal(notifier: Notifier) -> io::Result<Self> {
        let succession = Self { state: Arc::default(), notifier };
        let mut signals = Signals::new([SIGUSR2])?;
        let it = succession.clone();
        let listen = move || signals.forever().for_each(|_| it.begin());
        thread::Builder::new().name("upgrade".into()).spawn(listen)?;
        Ok(succession)
    }

    /// This server serves from now on; `status` is what is said of it.
    pub(in crate::cli) fn serves(&self, server: &RunningServer, status: String) {
        let (stopper, listeners) = (server.stopper(), server.listeners());
        self.notifier.ready(&status);
        self.state().server = Some(Serving { stopper, listeners, status });
    }

    /// Starts a successor, and once it is ready has the server end for it.
    fn begin(&self) {
        let Some(Serving { stopper, listeners, status }) = self.state().server.clone() else {
            return log::warn!("SIGUSR2 ignored: no server is running that could be upgraded");
        };
        let is_under_way = self.state().successor.is_some() || stopper.is_told_to_stop();
        let Some(listeners) = listeners.upgrade().filter(|_| !is_under_way) else {
            return log::warn!("SIGUSR2 ignored: the server is already stopping or being upgraded");
        };
        if std::process::id() == FIRST_PROCESS {
            return log::error!("upgrade refused: this is the first process of a container, which would end with it");
        }
        log::info!("SIGUSR2: starting a new process to take over");
        self.notifier.reloading();
        match Successor::start(&listeners) {
            Ok(_) if stopper.is_told_to_stop() => {}
            Ok(successor) => {
                log::info!("process {} is ready to take over", successor.pid());
                self.state().successor = Some(successor);
                stopper.hand_over();
            }
            Err(why) => {
                log::error!("upgrade failed: {why}; this process continues");
                self.notifier.ready(&status);
            }
        }
    }

    /// The server has ended and its store is closed: whoever is ready takes over.
    pub(in crate::cli) fn hand_over(&self, legacy: Legacy) -> HandedOver {
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
            Ok(()) => HandedOver::Over,
            Err(why) if serving.is_some_and(|serving| serving.stopper.is_told_to_stop()) => {
                log::info!("no upgrade: {why}; this process ends too, as it was told to");
                HandedOver::Over
            }
            Err(why) => {
                log::error!("upgrade failed: {why}; this process continues");
                let listeners = listeners.iter().map(Listener::try_clone).collect::<io::Result<Vec<_>>>();
                HandedOver::GoOn(listeners.unwrap_or_default(), connections)
            }
        }
    }

    fn await_taken_over(
        &self,
        stopper: &Stopper,
        mut successor: Successor,
        connections: &[PassedConnection],
    ) -> Result<(), String> {
        let glance = || {
            // Nothing goes round any more that could.
            self.notifier.beat();
            stopper.is_told_to_stop()
        };
        successor.take_over(connections, glance)?;
        self.notifier.main_pid(successor.pid());
        log::info!("process {} has taken over", successor.pid());
        Ok(())
    }

    /// The server was told to end: nobody takes over any more.
    pub(in crate::cli) fn end(&self) {
        let successor = {
            let mut state = self.state();
            state.server = None;
            state.successor.take()
        };
        drop(successor);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
