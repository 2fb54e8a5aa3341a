//! A flag that ends an attempt, and that a thread can wait for.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Says that an attempt should end. Clones share one flag.
#[derive(Debug, Clone, Default)]
pub struct CancelToken(Arc<Flag>);

#[derive(Debug, Default)]
struct Flag {
    cancelled: AtomicBool,
    wake: OnceLock<OwnedFd>,
    killed: AtomicBool,
    kill: OnceLock<OwnedFd>,
}

impl CancelToken {
    /// A token that is not cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the attempt to end.
    pub fn cancel(&self) {
        raise(&self.0.cancelled, &self.0.wake);
    }

    /// Has the attempt end at once, which was asked to and has not.
    pub(crate) fn kill(&self) {
        raise(&self.0.killed, &self.0.kill);
    }

    /// Was it asked to end?
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::SeqCst)
    }

    /// A descriptor that becomes readable once cancelled, to poll beside others. Made at the first call.
    ///
    /// # Errors
    /// If no descriptor is left.
    pub fn wake_fd(&self) -> std::io::Result<BorrowedFd<'_>> {
        descriptor(&self.0.cancelled, &self.0.wake)
    }

    /// The same, which becomes readable once it is to end at once.
    ///
    /// # Errors
    /// If no descriptor is left.
    pub(in crate::executor::tool) fn kill_fd(&self) -> std::io::Result<BorrowedFd<'_>> {
        descriptor(&self.0.killed, &self.0.kill)
    }
}

fn raise(flag: &AtomicBool, wake: &OnceLock<OwnedFd>) {
    flag.store(true, Ordering::SeqCst);
    if let Some(wake) = wake.get() {
        // The counter of an eventfd takes 2^64-2 such writes; one that fails has nobody left to wake.
        let _ = rustix::io::write(wake, &1u64.to_ne_bytes());
    }
}

fn descriptor<'a>(flag: &AtomicBool, wake: &'a OnceLock<OwnedFd>) -> std::io::Result<BorrowedFd<'a>> {
    use rustix::event::{EventfdFlags, eventfd};
    if wake.get().is_none() {
        let made = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let _ = wake.set(made);
    }
    let wake = wake.get().expect("set just above, and never unset");
    if flag.load(Ordering::SeqCst) {
        // Raised before there was a descriptor to say it by.
        let _ = rustix::io::write(wake, &1u64.to_ne_bytes());
    }
    Ok(wake.as_fd())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};

    fn is_readable(token: &CancelToken) -> bool {
        let fd = token.wake_fd().expect("a descriptor");
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        poll(&mut fds, Some(&Default::default())).expect("polls") == 1
    }

    #[test]
    fn a_cancelled_token_is_readable_whenever_it_was_asked_for() {
        let early = CancelToken::new();
        assert!(!is_readable(&early));
        early.clone().cancel();
        assert!(early.is_cancelled() && is_readable(&early));

        let late = CancelToken::new();
        late.cancel();
        assert!(is_readable(&late));
    }
}
