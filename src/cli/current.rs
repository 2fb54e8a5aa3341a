//! The running server of this process, for signal handlers and the service manager's watchdog. After a failed upgrade
//! it is another server than before; in between there is none.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock;
use crate::server::{LoopWatch, RunningServer, Stopper, Tls};

/// How long this process may be without a server and still count as alive: long enough for a new process to fail and
/// for the store to be opened again.
const GAP_MAX: Duration = Duration::from_secs(150);

/// The running server, shared by all clones.
#[derive(Clone, Default)]
pub(super) struct Current(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    is_told: Condvar,
}

#[derive(Default)]
struct State {
    /// If no server runs, the stopper of the last one.
    stopper: Option<Stopper>,
    tls: Option<Tls>,
    life: Life,
    /// The number of times that this process was told to stop.
    stops: u32,
}

/// What shows that this process is alive.
#[derive(Default)]
enum Life {
    /// No server has started yet.
    #[default]
    Unborn,
    /// A server runs: the turns of its loop.
    Serves(LoopWatch),
    /// No server has run since then.
    Gap { since: Duration, looks: u64 },
}

impl Current {
    /// Sets the server that serves from now on. If this process was told to stop before, the server is told now.
    pub(super) fn set(&self, server: &RunningServer) {
        let mut state = self.state();
        let stopper = server.stopper();
        (0..state.stops).for_each(|_| stopper.stop());
        (state.stopper, state.tls) = (Some(stopper), server.tls());
        state.life = Life::Serves(server.loop_watch());
    }

    /// Notes that the server has ended. Another one may follow.
    pub(super) fn leave(&self) {
        self.state().life = Life::Gap { since: clock::mono(), looks: 0 };
    }

    /// Stops the server; the second time at once.
    pub(super) fn stop(&self) {
        let mut state = self.state();
        state.stops = state.stops.saturating_add(1);
        state.stopper.iter().for_each(Stopper::stop);
        self.0.is_told.notify_all();
    }

    pub(super) fn is_told_to_stop(&self) -> bool {
        self.state().stops > 0
    }

    /// Waits for `time`, or until this process is told to stop. Returns whether it was told to.
    pub(super) fn is_told_to_stop_within(&self, time: Duration) -> bool {
        let waited = self.0.is_told.wait_timeout_while(self.state(), time, |state| state.stops == 0);
        waited.unwrap_or_else(PoisonError::into_inner).0.stops > 0
    }

    /// Makes the server read its certificate and key again.
    pub(super) fn reload(&self) {
        let Some(tls) = self.state().tls.clone() else { return };
        match tls.reload() {
            Ok(()) => log::info!("reloaded the TLS certificate and key"),
            Err(error) => {
                log::error!("cannot reload the TLS certificate and key, the previous ones stay in use: {error}")
            }
        }
    }

    /// A number that changes as long as this process is alive.
    pub(super) fn turns(&self) -> u64 {
        match &mut self.state().life {
            Life::Unborn => 0,
            Life::Serves(turns) => turns.turns(),
            Life::Gap { since, .. } if clock::mono() >= *since + GAP_MAX => 0,
            Life::Gap { looks, .. } => {
                *looks += 1;
                *looks
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AuthMode, Config, DataLocation, ListenAddress};
    use crate::server::Builder;

    fn server() -> RunningServer {
        let mut config = Config { data: DataLocation::Memory, ..Config::default() };
        config.listen = ListenAddress::parse("127.0.0.1:0").expect("an address");
        config.auth.mode = AuthMode::None;
        Builder::new(config).start().expect("a server")
    }

    #[test]
    fn between_two_servers_beats_go_on_and_who_stops_then_has_stopped_the_next() {
        let current = Current::default();
        assert_eq!(current.turns(), 0);
        let first = server();
        current.set(&first);
        first.stop().expect("it ends");
        current.leave();
        assert_ne!(current.turns(), current.turns());
        assert!(!current.is_told_to_stop() && !current.is_told_to_stop_within(Duration::ZERO));
        current.stop();
        assert!(current.is_told_to_stop_within(Duration::from_secs(3600)));
        let second = server();
        current.set(&second);
        assert!(second.stopper().is_told_to_stop() && !second.stopper().is_told_to_hurry());
        second.wait().expect("it ends");
    }
}
