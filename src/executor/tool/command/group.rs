//! A child process and the process group that it leads. When the owner is dropped, the group is killed and the child is
//! reaped. When this process ends, except by SIGKILL, [`kill_commands`] ends all groups.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};

use super::launch;

/// The groups of this process. A group leaves before its leader is reaped: until then its id can't be given to anyone
/// else, so no signal meets a stranger.
static LIVE: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// Is this process about to end? Once it is, nothing is said any more of a child, because it may be we who killed it.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Held for reading by whoever starts a child, until the child is in [`LIVE`].
static STARTING: RwLock<()> = RwLock::new(());

/// How often, and how long, [`kill_commands`] waits for children that are being started: one that hangs in a file system
/// must not hold up the end.
const STARTING_LOOKS: usize = 100;
const STARTING_PAUSE: Duration = Duration::from_millis(1);

/// Ends, with SIGKILL, every process group that a command of this process leads. To be called when the process is about
/// to end at once, and only then: no command starts any more, and what tools came to is not told.
pub(crate) fn kill_commands() {
    ENDING.store(true, Ordering::SeqCst);
    kill_live();
    for _ in 0..STARTING_LOOKS {
        if STARTING.try_write().is_ok() {
            break;
        }
        thread::sleep(STARTING_PAUSE);
    }
    kill_live();
}

fn kill_live() {
    for group in live().iter().copied().filter_map(Pid::from_raw) {
        signal(group, Signal::KILL);
    }
}

fn live() -> MutexGuard<'static, BTreeSet<i32>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the process is about to end, waits for that.
fn stay_silent_at_the_end() {
    while ENDING.load(Ordering::SeqCst) {
        thread::park();
    }
}

fn signal(group: Pid, signal: Signal) {
    // Neither reaches anyone where the group has become another user's or is gone: then there is nobody left to tell. A
    // launcher has no group for a moment, on its way to its session.
    if kill_process_group(group, signal).is_err() {
        let _ = kill_process(group, signal);
    }
}

/// A running child that leads its process group.
///
/// The child is reaped last of all: until then its id, which is the group's, can't be given to anyone else.
pub(super) struct Group {
    child: Child,
    exited: Option<OwnedFd>,
    is_reaped: bool,
}

impl Group {
    /// Starts `command`, which makes its process the leader of its group.
    pub(super) fn start(command: &mut Command) -> io::Result<Self> {
        let starting = STARTING.read().unwrap_or_else(PoisonError::into_inner);
        if ENDING.load(Ordering::SeqCst) {
            drop(starting);
            stay_silent_at_the_end();
        }
        let mut group = Self { child: command.spawn()?, exited: None, is_reaped: false };
        live().insert(group.pid().as_raw_nonzero().get());
        launch::limit_descriptors(group.pid());
        group.exited = Some(pidfd_open(group.pid(), PidfdFlags::empty())?);
        Ok(group)
    }

    /// The child, for its pipes.
    pub(super) fn child_mut(&mut self) -> &mut Child {
        &mut self.child
    }

    /// A descriptor that becomes readable when the child exits.
    pub(super) fn exited(&self) -> BorrowedFd<'_> {
        self.exited.as_ref().expect("opened by `start`").as_fd()
    }

    /// Asks every process of the group to end, those that were stopped too.
    pub(super) fn terminate(&self) {
        signal(self.pid(), Signal::TERM);
        signal(self.pid(), Signal::CONT);
    }

    /// Ends every process of the group.
    pub(super) fn kill(&self) {
        signal(self.pid(), Signal::KILL);
    }

    /// Ends what is left of the group and reaps the child.
    pub(super) fn finish(mut self) -> io::Result<ExitStatus> {
        self.end()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn end(&mut self) -> io::Result<ExitStatus> {
        self.kill();
        live().remove(&self.pid().as_raw_nonzero().get());
        let status = self.child.wait();
        self.is_reaped = true;
        stay_silent_at_the_end();
        status
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.is_reaped {
            let _ = self.end();
        }
    }
}
