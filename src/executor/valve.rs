//! The valve that the executor shuts while the log is behind: workers whose tools have much output wait at it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::tool::CancelToken;

/// How often a worker looks that can't wait for a cancel, because there was no descriptor to wait for.
const LOOK_AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Open or shut. One thread moves it, any number wait.
#[derive(Debug)]
pub struct Valve {
    /// How often it was moved: open where that is even.
    moves: AtomicU64,
    /// Readable while it is open.
    opens: OwnedFd,
}

impl Valve {
    /// An open one.
    ///
    /// # Errors
    /// If no descriptor is left.
    pub fn new() -> io::Result<Self> {
        let opens = eventfd(1, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { moves: AtomicU64::new(0), opens })
    }

    /// Shuts or opens it.
    pub fn set_shut(&self, is_shut: bool) {
        if self.shut().is_some() == is_shut {
            return;
        }
        // The counter is 0 or 1, so neither can fail: shutting takes the 1, opening puts it back.
        if is_shut {
            let _ = rustix::io::read(&self.opens, &mut [0; 8]);
            self.moves.fetch_add(1, Ordering::SeqCst);
        } else {
            self.moves.fetch_add(1, Ordering::SeqCst);
            let _ = rustix::io::write(&self.opens, &1u64.to_ne_bytes());
        }
    }

    /// How often it was moved.
    pub fn moves(&self) -> u64 {
        self.moves.load(Ordering::SeqCst)
    }

    /// Where it is shut, what becomes readable when it opens.
    pub fn shut(&self) -> Option<BorrowedFd<'_>> {
        (self.moves() % 2 == 1).then(|| self.opens.as_fd())
    }

    /// Waits until it opens, or until `cancel`; or less long.
    pub fn wait(&self, cancel: &CancelToken) {
        let opens = PollFd::new(&self.opens, PollFlags::IN);
        // Interrupted or failed, the caller looks again.
        let _ = match cancel.wake_fd() {
            Ok(cancelled) => poll(&mut [opens, PollFd::from_borrowed_fd(cancelled, PollFlags::IN)], None),
            Err(_) => poll(&mut [opens], Some(&LOOK_AGAIN)),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_readable(valve: &Valve) -> bool {
        let mut fds = [PollFd::new(&valve.opens, PollFlags::IN)];
        poll(&mut fds, Some(&Default::default())).expect("polls") == 1
    }

    #[test]
    fn what_waits_for_it_is_readable_while_it_is_open() {
        let valve = Valve::new().expect("a descriptor");
        for (is_shut, moves) in [(false, 0), (true, 1), (true, 1), (false, 2), (false, 2), (true, 3), (false, 4)] {
            valve.set_shut(is_shut);
            assert_eq!((is_readable(&valve), valve.shut().is_some(), valve.moves()), (!is_shut, is_shut, moves));
        }
    }

    #[test]
    fn a_cancel_ends_the_wait() {
        let (valve, cancel) = (Valve::new().expect("a descriptor"), CancelToken::new());
        valve.set_shut(true);
        cancel.cancel();
        valve.wait(&cancel);
        assert!(valve.shut().is_some(), "it is shut as before");
    }
}
