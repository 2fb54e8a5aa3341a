//! A server that runs, and how it is told to end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::event_loop::{Control, Wish};
use super::handle::Handle;
use super::inbox::InboxSender;
use super::membership::Membership;
use crate::clock;
use crate::executor::ExecutorHandle;
use crate::log::LogHandle;
use crate::model::Now;
use crate::schedules::SchedulerHandle;
use crate::webhooks::CourierHandle;

/// A server that runs.
pub struct RunningServer {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) handle: Handle,
    pub(super) stopper: Stopper,
    pub(super) log: LogHandle,
    pub(super) thread: JoinHandle<io::Result<()>>,
    /// What tells webhooks, where there are any.
    pub(super) courier: Option<(CourierHandle, JoinHandle<()>)>,
    /// What keeps it among other nodes, where there may be any.
    pub(super) membership: Option<Membership>,
    pub(super) others: Vec<JoinHandle<()>>,
}

/// Ends a server from another thread.
#[derive(Clone)]
pub struct Stopper {
    pub(super) wish: Arc<AtomicU8>,
    pub(super) executor: ExecutorHandle,
    pub(super) courier: Option<CourierHandle>,
    pub(super) scheduler: SchedulerHandle,
    pub(super) inbox: InboxSender,
}

impl RunningServer {
    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// To broadcast and to submit plans from inside the program.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// To end it from another thread.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Ends it gracefully, and waits until it has ended.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn stop(self) -> io::Result<()> {
        self.stopper.stop();
        self.wait()
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// What made the loop end before it was told to.
    pub fn wait(self) -> io::Result<()> {
        let result = self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the event loop thread panicked")));
        if let Some((handle, thread)) = self.courier {
            handle.close();
            // While the log is there to be told what became of what was sent.
            if result.is_ok() {
                drop(thread.join());
            }
        }
        self.stopper.scheduler.close();
        self.log.close();
        if result.is_ok() {
            self.others.into_iter().for_each(|thread| drop(thread.join()));
        }
        if let Some(membership) = self.membership {
            membership.end(result.is_ok());
        }
        result
    }
}

impl Stopper {
    /// Takes no new work, gives active steps their grace, ends the streams, and stops. A second time: stops at once.
    pub fn stop(&self) {
        let (first, second) = (Wish::Drain as u8, Wish::Stop as u8);
        if self.wish.compare_exchange(Wish::Serve as u8, first, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            self.wish.store(second, Ordering::SeqCst);
            self.courier.iter().for_each(CourierHandle::hurry);
        }
        self.scheduler.close();
        self.executor.shutdown();
        self.inbox.wake();
    }
}

/// What tells the loop how far along the end is.
pub(super) struct LoopControl {
    pub(super) wish: Arc<AtomicU8>,
    pub(super) drain_max: Duration,
}

impl Control for LoopControl {
    fn wish(&self) -> Wish {
        match self.wish.load(Ordering::SeqCst) {
            0 => Wish::Serve,
            1 => Wish::Drain,
            _ => Wish::Stop,
        }
    }

    fn drain_max(&self) -> Duration {
        self.drain_max
    }

    fn now(&self) -> Now {
        clock::now()
    }
}
