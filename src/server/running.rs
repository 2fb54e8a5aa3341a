//! A running server, and how to stop it.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use super::event_loop::{Control, Ended, Wish};
use super::handle::Handle;
use super::inbox::InboxSender;
use super::listener::Listener;
use super::membership::Membership;
use super::passed::PassedConnection;
use super::tls::Tls;
use crate::clock;
use crate::executor::ExecutorHandle;
use crate::log::LogHandle;
use crate::model::Now;
use crate::schedules::SchedulerHandle;
use crate::webhooks::CourierHandle;

/// The address of a listener, and whether it uses TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) socket: SocketAddr,
    pub(super) is_tls: bool,
}

/// A running server.
pub struct RunningServer {
    pub(super) addresses: Vec<Address>,
    pub(super) tls: Option<Tls>,
    /// The loop has the same sockets. These keep connections waiting for the process that takes over.
    pub(super) listeners: Arc<Vec<Listener>>,
    pub(super) handle: Handle,
    pub(super) stopper: Stopper,
    pub(super) log: LogHandle,
    pub(super) turns: Arc<AtomicU64>,
    pub(super) thread: JoinHandle<io::Result<Ended>>,
    /// The courier of webhooks, if any are declared.
    pub(super) courier: Option<(CourierHandle, JoinHandle<()>)>,
    /// The threads that make it a member of a cluster, if it shares its store.
    pub(super) membership: Option<Membership>,
    pub(super) others: Vec<JoinHandle<()>>,
}

/// Stops a server from another thread.
#[derive(Clone)]
pub struct Stopper {
    pub(super) wish: Arc<AtomicU8>,
    pub(super) executor: ExecutorHandle,
    pub(super) courier: Option<CourierHandle>,
    pub(super) scheduler: SchedulerHandle,
    pub(super) inbox: InboxSender,
}

impl RunningServer {
    /// The addresses of the server. If TLS has an address of its own, it comes last.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.iter().map(|address| address.socket).collect()
    }

    /// The same addresses as urls: `http://127.0.0.1:8080`.
    pub fn urls(&self) -> Vec<String> {
        let scheme = |address: &Address| if address.is_tls { "https" } else { "http" };
        self.addresses.iter().map(|address| format!("{}://{}", scheme(address), address.socket)).collect()
    }

    /// A handle to reload the certificate and key, if the server uses TLS.
    pub fn tls(&self) -> Option<Tls> {
        self.tls.clone()
    }

    /// The listening sockets, as long as the server listens.
    pub fn listeners(&self) -> Weak<Vec<Listener>> {
        Arc::downgrade(&self.listeners)
    }

    /// A handle to check from another thread that the event loop is alive.
    pub fn loop_watch(&self) -> LoopWatch {
        LoopWatch { turns: Arc::clone(&self.turns), inbox: self.stopper.inbox.clone() }
    }

    /// A handle to broadcast messages and submit plans from inside the program.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// A handle to stop the server from another thread.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Stops the server gracefully, and waits until it has stopped.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn stop(self) -> io::Result<()> {
        self.stopper.stop();
        self.wait()
    }

    /// Waits until the server has stopped.
    ///
    /// # Errors
    /// The error that ended the event loop before it was told to stop.
    pub fn wait(self) -> io::Result<()> {
        self.release().map(drop)
    }

    /// Waits until the server has ended and its store is closed. Returns what it leaves to another process, if it was
    /// told to [hand over](Stopper::hand_over) and not to stop meanwhile.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub(crate) fn release(self) -> io::Result<Option<Legacy>> {
        let result = self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the event loop thread panicked")));
        let result = result.map(|ended| match ended {
            Ended::Stopped => None,
            Ended::HandedOver(connections) => Some(Legacy { listeners: Arc::clone(&self.listeners), connections }),
        });
        // If no process takes over, clients must not wait in the queue.
        drop(self.listeners);
        if let Some((handle, thread)) = self.courier {
            handle.close();
            // The log must still be running to store the results of what was sent.
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
    /// Takes no new work, gives active steps their grace period, ends the streams, and stops. The second call stops at
    /// once.
    pub fn stop(&self) {
        let became = |from: Wish, to: Wish| {
            self.wish.compare_exchange(from as u8, to as u8, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        };
        if became(Wish::HandOver, Wish::Drain) {
            // The executor is stopping already, and a second call would stop it at once.
            return self.end_rest();
        }
        if !became(Wish::Serve, Wish::Drain) {
            self.wish.store(Wish::Stop as u8, Ordering::SeqCst);
            self.courier.iter().for_each(CourierHandle::hurry);
        }
        self.executor.shutdown();
        self.end_rest();
    }

    fn end_rest(&self) {
        self.scheduler.close();
        self.inbox.wake();
    }

    /// Gives active steps their grace period while everything else continues. Then ends the streams and stops, so that
    /// another process can take over. Does nothing if the server is already stopping.
    pub(crate) fn hand_over(&self) {
        let (from, to) = (Wish::Serve as u8, Wish::HandOver as u8);
        if self.wish.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            self.courier.iter().for_each(CourierHandle::close);
            self.executor.shutdown();
            self.inbox.wake();
        }
    }

    /// Whether it was told to [stop](Self::stop).
    pub(crate) fn is_told_to_stop(&self) -> bool {
        matches!(self.wish(), Wish::Drain | Wish::Stop)
    }

    /// Whether it was told so twice.
    pub(crate) fn is_told_to_hurry(&self) -> bool {
        self.wish() == Wish::Stop
    }

    fn wish(&self) -> Wish {
        Wish::of(self.wish.load(Ordering::SeqCst))
    }
}

/// What a server leaves to the process that takes over from it.
#[derive(Debug)]
pub(crate) struct Legacy {
    pub(crate) listeners: Arc<Vec<Listener>>,
    pub(crate) connections: Vec<PassedConnection>,
}

/// Shows whether a server's loop is alive.
#[derive(Clone)]
pub struct LoopWatch {
    turns: Arc<AtomicU64>,
    inbox: InboxSender,
}

impl LoopWatch {
    /// The number of turns so far. Also wakes the loop for another turn, because an idle loop would make none.
    pub fn turns(&self) -> u64 {
        let turns = self.turns.load(Ordering::Relaxed);
        self.inbox.wake();
        turns
    }
}

/// The loop's view of how far stopping has come.
pub(super) struct LoopControl {
    pub(super) wish: Arc<AtomicU8>,
    pub(super) drain_max: Duration,
    pub(super) turns: Arc<AtomicU64>,
    pub(super) courier: Option<CourierHandle>,
}

impl Wish {
    fn of(number: u8) -> Self {
        [Self::Serve, Self::Drain, Self::HandOver].into_iter().find(|it| *it as u8 == number).unwrap_or(Self::Stop)
    }
}

impl Control for LoopControl {
    fn wish(&self) -> Wish {
        Wish::of(self.wish.load(Ordering::SeqCst))
    }

    fn drain_max(&self) -> Duration {
        self.drain_max
    }

    fn are_webhooks_told(&self) -> bool {
        self.courier.as_ref().is_none_or(CourierHandle::has_ended)
    }

    fn now(&self) -> Now {
        clock::now()
    }

    fn note_turn(&self) {
        // Only the loop writes it.
        self.turns.store(self.turns.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }
}
