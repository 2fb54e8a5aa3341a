//! Notifications to a service manager: datagrams to the socket that `NOTIFY_SOCKET` names.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use super::watchdog;
use crate::clock;

/// How long to wait for a manager that does not read.
const PATIENCE: Duration = Duration::from_secs(1);

/// Tells the service manager, if there is one, the state of this process. Clones share one socket.
#[derive(Clone)]
pub(in crate::cli) struct Notifier {
    manager: Option<Arc<Manager>>,
    watchdog: Option<Duration>,
}

struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Notifier {
    /// Returns a notifier for the manager that the environment names.
    pub(in crate::cli) fn from_environment() -> Self {
        let name = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty());
        let manager = name.and_then(|name| match Manager::at(&name) {
            Ok(manager) => Some(Arc::new(manager)),
            Err(error) => {
                log::warn!("NOTIFY_SOCKET: cannot use {}: {error}", name.display());
                None
            }
        });
        let variable = |name| std::env::var(name).ok();
        let watchdog = watchdog::interval(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"), std::process::id());
        Self { manager, watchdog }
    }

    /// Reports that the server is running.
    pub(in crate::cli) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// Reports that another process is about to take over.
    pub(in crate::cli) fn reloading(&self) {
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}\nSTATUS=upgrading", clock::since_boot().as_micros()));
    }

    /// Reports that this process is ending.
    pub(in crate::cli) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping");
    }

    /// Reports that the process `pid` is the service from now on.
    pub(in crate::cli) fn main_pid(&self, pid: u32) {
        self.tell(&format!("MAINPID={pid}"));
    }

    /// Reports why the server can't run just now.
    pub(in crate::cli) fn trouble(&self, why: &str) {
        self.tell(&format!("STATUS={why}"));
    }

    /// Returns whether there is a manager.
    pub(in crate::cli) fn has_manager(&self) -> bool {
        self.manager.is_some()
    }

    /// Reports that this process is alive.
    pub(super) fn beat(&self) {
        self.tell("WATCHDOG=1");
    }

    /// Sends keep-alive messages from now on while `turns` changes, if the manager expects them.
    ///
    /// # Errors
    /// If the system can't start a thread.
    pub(in crate::cli) fn beat_with(&self, turns: impl Fn() -> u64 + Send + 'static) -> io::Result<()> {
        match (&self.manager, self.watchdog) {
            (Some(_), Some(interval)) => watchdog::start(self.clone(), turns, interval),
            _ => Ok(()),
        }
    }

    fn tell(&self, what: &str) {
        let Some(manager) = &self.manager else { return };
        if let Err(error) = manager.socket.send_to_addr(what.as_bytes(), &manager.address) {
            log::debug!("cannot send {what:?} to the service manager: {error}");
        }
    }
}

impl Manager {
    fn at(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes().split_first() {
            Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
            Some((b'/', _)) => SocketAddr::from_pathname(name)?,
            _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "expected a path or an abstract socket name")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { socket, address })
    }
}

#[cfg(test)]
impl Notifier {
    /// A notifier, and the socket that receives its messages.
    pub(super) fn to_test(name: &str, watchdog: Duration) -> (Self, UnixDatagram) {
        let name = format!("stepcast-{name}-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let heard = UnixDatagram::bind_addr(&address).expect("nobody else has it");
        let manager = Manager::at(OsStr::new(&format!("@{name}"))).expect("a socket");
        (Self { manager: Some(Arc::new(manager)), watchdog: Some(watchdog) }, heard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_is_told_by_an_abstract_name_too() {
        let (notifier, heard) = Notifier::to_test("notify", Duration::ZERO);
        notifier.ready("well");
        let mut text = [0; 64];
        let bytes = heard.recv(&mut text).expect("a datagram");
        assert_eq!(&text[..bytes], b"READY=1\nSTATUS=well");
        assert!(Manager::at(OsStr::new("vsock:2:1")).is_err());
    }
}
