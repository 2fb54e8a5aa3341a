//! The process that this process was started to replace.

use std::io::{self, stdin};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt::{socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};
use rustix::process::{Resource, Rlimit, getppid, getrlimit, setrlimit};

use super::VARIABLE;
use super::line::{Letter, Line, Message};
use crate::cli::error::CommandError;
use crate::server::{Listener, PassedConnection};

/// How long the old process may take to accept a message.
const SEND_PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait for the end of the old process. After that the new one counts as the service anyway.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// The old process.
#[derive(Debug)]
pub(in crate::cli) struct Predecessor {
    line: Line,
    pid: u32,
}

/// Restores the descriptor limit that the old process was started with, because the old process has raised its own and
/// programs that tools start inherit it. Does nothing if this process replaces none.
pub(in crate::cli) fn restore_limit() {
    let Some((_, descriptors)) = asked() else { return };
    let limit = Rlimit { current: descriptors, ..getrlimit(Resource::Nofile) };
    // Fails only if the limit is above what is granted, and then the old process did not have it either.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// The old process's id and descriptor limit, if this process was started to replace it.
fn asked() -> Option<(u32, Option<u64>)> {
    let text = std::env::var(VARIABLE).ok()?;
    let (pid, descriptors) = text.split_once(':')?;
    let pid: u32 = pid.parse().ok()?;
    // Programs started by such a process inherit the variable, but it is not meant for them.
    let is_child = getppid().is_some_and(|parent| parent.as_raw_nonzero().get().unsigned_abs() == pid);
    (is_child || has_line()).then(|| (pid, descriptors.parse().ok()))
}

/// Whether stdin is the socket of an old process. If that process has ended by now, it is no longer the parent. This
/// process must then end too, and not serve next to a newly started one.
fn has_line() -> bool {
    let is_unix = socket_domain(stdin()).is_ok_and(|domain| domain == AddressFamily::UNIX);
    is_unix && socket_type(stdin()).is_ok_and(|kind| kind == SocketType::SEQPACKET)
}

impl Predecessor {
    /// Returns the process that this one was started to replace, if any.
    ///
    /// # Errors
    /// If stdin is not a socket to that process.
    pub(in crate::cli) fn here() -> Result<Option<Self>, CommandError> {
        let Some((pid, _)) = asked() else { return Ok(None) };
        let take_line = || -> io::Result<Line> {
            let line = stdin().as_fd().try_clone_to_owned()?;
            rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
            Line::at(line, SEND_PATIENCE)
        };
        let line = take_line().map_err(|error| CommandError::io("connect to the process to replace", &error))?;
        Ok(Some(Self { line, pid }))
    }

    pub(in crate::cli) fn pid(&self) -> u32 {
        self.pid
    }

    /// Receives the listening sockets of the old process.
    ///
    /// # Errors
    /// If the old process is gone.
    pub(in crate::cli) fn listeners(&self) -> Result<Vec<Listener>, CommandError> {
        let mut listeners = Vec::new();
        loop {
            match self.next()? {
                Message::Listener(listener) => listeners.push(listener),
                Message::AllListeners => return Ok(listeners),
                _ => return Err(self.astray()),
            }
        }
    }

    /// Says that this process is ready, and waits until the old one has closed the store. Returns the connections that
    /// the old one passes on.
    ///
    /// # Errors
    /// If the old process is gone, or continues to serve.
    pub(in crate::cli) fn take_over(&self) -> Result<Vec<PassedConnection>, CommandError> {
        self.say(&Message::Ready)?;
        let mut connections: Vec<PassedConnection> = Vec::new();
        loop {
            match (self.next()?, connections.last_mut()) {
                (Message::Connection(connection), _) => connections.push(connection),
                (Message::Input(input), Some(connection)) => connection.extend(&input),
                (Message::TakeOver, _) => return Ok(connections),
                _ => return Err(self.astray()),
            }
        }
    }

    /// Says that this process serves, and waits until the old one has ended and so has sent all its notifications.
    pub(in crate::cli) fn relieve(self) {
        // A process that is gone needs no message.
        if self.say(&Message::Serving).is_ok() {
            let _ = self.line.receive(Some(END_PATIENCE));
        }
    }

    fn say(&self, message: &Message) -> Result<(), CommandError> {
        self.line
            .send(&Letter::saying(message))
            .map_err(|error| CommandError::io("answer the process to replace", &error))
    }

    fn next(&self) -> Result<Message, CommandError> {
        let said =
            self.line.receive(None).map_err(|error| CommandError::io("read from the process to replace", &error))?;
        said.ok_or_else(|| CommandError::new(format!("cannot replace process {}: it closed the connection", self.pid)))
    }

    fn astray(&self) -> CommandError {
        CommandError::new(format!("cannot replace process {}: it sent an unexpected message", self.pid))
    }
}
