//! The process that takes over from this process.

use std::io;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::VARIABLE;
use super::line::{Letter, Line, Message};
use crate::clock;
use crate::executor::tool::descriptors_at_start;
use crate::server::{Listener, PassedConnection, Stopper};

/// How long the new process may take to become ready.
const READY_PATIENCE: Duration = Duration::from_secs(30);

/// How long the new process may take to serve after the store was closed.
const SERVE_PATIENCE: Duration = Duration::from_secs(60);

/// How often a wait checks whether this process was told to end.
const GLANCE: Duration = Duration::from_millis(100);

/// How often to check whether the new process has ended.
const END_PACE: Duration = Duration::from_millis(5);

/// Variables that a service manager meant for this process, and not for the new one.
const OF_THE_FIRST: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// The new process. It is killed if it is dropped before it serves.
#[derive(Debug)]
pub(super) struct Successor {
    child: Child,
    line: Line,
    has_taken_over: bool,
}

/// Why a wait for the new process failed.
enum Lapse {
    /// This process was told to end.
    Over,
    /// It took too long.
    Late,
    /// It has ended, or its socket has failed.
    Gone,
}

impl Successor {
    /// Starts this program again, with the path and arguments that this process was started with, and waits until the
    /// new process is ready to take over. Gives up if the server of `stopper` is told to end meanwhile.
    ///
    /// # Errors
    /// The reason, in one sentence.
    pub(super) fn start(listeners: &[Listener], stopper: &Stopper) -> Result<Self, String> {
        let mut successor = Self::spawn().map_err(|error| format!("cannot start the program: {error}"))?;
        let all = listeners.iter().map(Letter::listener).chain([Letter::saying(&Message::AllListeners)]);
        match successor.converse(all, READY_PATIENCE, stopper) {
            Ok(Message::Ready) => Ok(successor),
            Ok(_) => Err("the new process sent an unexpected message".to_owned()),
            Err(Lapse::Over) => Err("this process was told to end".to_owned()),
            Err(Lapse::Late) => Err(format!("the new process was not ready within {} s", READY_PATIENCE.as_secs())),
            Err(Lapse::Gone) => Err(successor.explain_end("before it was ready")),
        }
    }

    fn spawn() -> io::Result<Self> {
        let mut arguments = std::env::args_os();
        let program = arguments.next().ok_or_else(|| io::Error::other("cannot determine the path of the program"))?;
        let (line, theirs) = Line::pair(GLANCE)?;
        let descriptors = descriptors_at_start().map_or_else(String::new, |limit| limit.to_string());
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::from(theirs));
        command.env(VARIABLE, format!("{}:{descriptors}", std::process::id()));
        for name in OF_THE_FIRST {
            command.env_remove(name);
        }
        Ok(Self { child: command.spawn()?, line, has_taken_over: false })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Hands over, now that the store is closed, and waits until the new process serves. If `stopper` is told to end
    /// meanwhile, although its server has ended, the new process is told to end too.
    ///
    /// # Errors
    /// Why it does not serve, in one sentence. It has ended by then, or ends when it is dropped.
    pub(super) fn take_over(&mut self, connections: &[PassedConnection], stopper: &Stopper) -> Result<(), String> {
        let all = connections.iter().flat_map(Letter::of_connection).chain([Letter::saying(&Message::TakeOver)]);
        match self.converse(all, SERVE_PATIENCE, stopper) {
            Ok(Message::Serving) if !stopper.is_told_to_stop() => {
                self.has_taken_over = true;
                Ok(())
            }
            Ok(Message::Serving) | Err(Lapse::Over) => {
                self.end_gracefully(stopper);
                Err("the new process was told to end before it served".to_owned())
            }
            Err(Lapse::Late) => {
                Err(format!("the new process did not start serving within {} s", SERVE_PATIENCE.as_secs()))
            }
            Ok(_) | Err(Lapse::Gone) => Err(self.explain_end("before it started serving")),
        }
    }

    /// Sends `letters` and returns the answer, all within `patience`.
    fn converse<'l>(
        &self,
        mut letters: impl Iterator<Item = Letter<'l>>,
        patience: Duration,
        stopper: &Stopper,
    ) -> Result<Message, Lapse> {
        let until = clock::mono() + patience;
        letters.try_for_each(|letter| wait(until, stopper, || self.line.send(&letter)))?;
        wait(until, stopper, || self.line.receive(Some(GLANCE)))?.ok_or(Lapse::Gone)
    }

    /// Ends the new process gracefully, until this process is told to hurry.
    fn end_gracefully(&mut self, stopper: &Stopper) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        while !stopper.is_told_to_hurry() {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(END_PACE);
        }
    }

    fn explain_end(&mut self, when: &str) -> String {
        let status = self.end();
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        format!("the new process ended {when} ({status}); see its messages above")
    }

    fn end(&mut self) -> io::Result<ExitStatus> {
        /// How long it may take to end after its socket has closed.
        const END_PATIENCE: Duration = Duration::from_secs(1);
        let began = clock::mono();
        while clock::mono() - began < END_PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(END_PACE);
        }
        self.child.kill()?;
        self.child.wait()
    }
}

/// Repeats `attempt` as long as it would block, until `until` or until this process is told to end.
fn wait<T>(until: Duration, stopper: &Stopper, mut attempt: impl FnMut() -> io::Result<T>) -> Result<T, Lapse> {
    loop {
        match attempt() {
            Ok(outcome) => return Ok(outcome),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(Lapse::Gone),
            Err(_) if stopper.is_told_to_stop() => return Err(Lapse::Over),
            Err(_) if clock::mono() >= until => return Err(Lapse::Late),
            Err(_) => {}
        }
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if !self.has_taken_over {
            // Fails if the process has already ended.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
