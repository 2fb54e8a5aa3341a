//! The process that is to take over from this process.

use std::io;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::VARIABLE;
use super::line::{Line, Message};
use crate::clock;
use crate::executor::tool::descriptors_at_start;
use crate::server::{Listener, PassedConnection};

/// How long it may take to get ready.
const READY_PATIENCE: Duration = Duration::from_secs(30);

/// How long it may take from the moment when the store is free until it serves.
const SERVE_PATIENCE: Duration = Duration::from_secs(60);

/// How often whoever waits for it looks at something else.
const GLANCE: Duration = Duration::from_millis(100);

/// Variables that a service manager meant for the process that it started, and not for this one.
const OF_THE_FIRST: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// See the top of this file. It is killed where it is dropped before it serves.
#[derive(Debug)]
pub(super) struct Successor {
    child: Child,
    line: Line,
    has_taken_over: bool,
}

impl Successor {
    /// Starts this program anew, from the path and with the arguments that it was started with itself, and waits until it
    /// is ready to take over.
    ///
    /// # Errors
    /// Why it is not, in a sentence.
    pub(super) fn start(listeners: &[Listener]) -> Result<Self, String> {
        let mut successor = Self::spawn().map_err(|error| format!("cannot start the program: {error}"))?;
        let told = listeners.iter().try_for_each(|listener| successor.line.send_listener(listener));
        // Where it takes nothing it has ended, and why is told below.
        let _ = told.and_then(|()| successor.line.say(&Message::AllListeners));
        match successor.line.receive(Some(READY_PATIENCE)) {
            Ok(Some(Message::Ready)) => Ok(successor),
            Ok(Some(_)) => Err("the new process sent an unexpected message".to_owned()),
            Ok(None) => Err(successor.explain_end("before it was ready")),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(format!("the new process was not ready within {} s", READY_PATIENCE.as_secs()))
            }
            Err(error) => Err(format!("cannot read from the new process: {error}")),
        }
    }

    fn spawn() -> io::Result<Self> {
        let mut arguments = std::env::args_os();
        let program = arguments.next().ok_or_else(|| io::Error::other("cannot determine the path of the program"))?;
        let (line, theirs) = Line::pair()?;
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

    /// Hands over, now that the store is closed, and waits until it serves. Meanwhile it asks again and again whether it
    /// `is_over`: then the new process is told to end.
    ///
    /// # Errors
    /// Why it does not serve, in a sentence; it has ended by then.
    pub(super) fn take_over(
        &mut self,
        connections: &[PassedConnection],
        mut is_over: impl FnMut() -> bool,
    ) -> Result<(), String> {
        let told = connections.iter().try_for_each(|connection| self.line.send_connection(connection));
        // Where it takes nothing it has ended, and why is told below.
        let _ = told.and_then(|()| self.line.say(&Message::TakeOver));
        let began = clock::mono();
        while clock::mono() - began < SERVE_PATIENCE {
            match self.line.receive(Some(GLANCE)) {
                Ok(Some(Message::Serving)) => {
                    self.has_taken_over = true;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && is_over() => {
                    self.end_gracefully();
                    return Err("the new process was told to end before it served".to_owned());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(_) | Err(_) => return Err(self.explain_end("before it started serving")),
            }
        }
        Err(format!("the new process did not start serving within {} s", SERVE_PATIENCE.as_secs()))
    }

    /// Ends it as this process was told to end.
    fn end_gracefully(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
        self.has_taken_over = true;
    }

    fn explain_end(&mut self, when: &str) -> String {
        let status = self.end();
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        format!("the new process ended {when} ({status}); see its messages above")
    }

    fn end(&mut self) -> io::Result<ExitStatus> {
        /// It has closed its line, which it does by ending.
        const END_PATIENCE: Duration = Duration::from_secs(1);
        let began = clock::mono();
        while clock::mono() - began < END_PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.child.kill()?;
        self.child.wait()
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if !self.has_taken_over {
            // Fails where it has ended by itself.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
