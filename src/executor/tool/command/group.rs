//! A child and the process group that it leads. Whatever happens to its owner, the group is killed and the child reaped.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, ExitStatus};

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// A running child that leads its process group.
///
/// The child is reaped last of all: until then its id, which is the group's, can't be given to anyone else, so no signal
/// meets a stranger.
pub(super) struct Group {
    child: Child,
    exited: Option<OwnedFd>,
    is_reaped: bool,
}

impl Group {
    /// Takes over `child`, which must have been started as the leader of its group.
    pub(super) fn new(child: Child) -> io::Result<Self> {
        let mut group = Self { child, exited: None, is_reaped: false };
        group.exited = Some(pidfd_open(Pid::from_child(&group.child), PidfdFlags::empty())?);
        Ok(group)
    }

    /// The child, for its pipes.
    pub(super) fn child_mut(&mut self) -> &mut Child {
        &mut self.child
    }

    /// A descriptor that becomes readable when the child exits.
    pub(super) fn exited(&self) -> BorrowedFd<'_> {
        self.exited.as_ref().expect("opened by `new`").as_fd()
    }

    /// Asks every process of the group to end.
    pub(super) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends every process of the group.
    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Ends what is left of the group and reaps the child.
    pub(super) fn finish(mut self) -> io::Result<ExitStatus> {
        self.end()
    }

    fn end(&mut self) -> io::Result<ExitStatus> {
        self.kill();
        let status = self.child.wait();
        self.is_reaped = true;
        status
    }

    fn signal(&self, signal: Signal) {
        // Fails where the group has become another user's or is gone: then there is nobody left to tell.
        let _ = kill_process_group(Pid::from_child(&self.child), signal);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.is_reaped {
            let _ = self.end();
        }
    }
}
