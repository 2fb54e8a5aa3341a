//! The only way into the loop for other threads: a bounded channel, with one wake-up per batch rather than per message.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::jwks::KeyNews;
use crate::http::Response;
use crate::log::Delivery;
use crate::model::SlabKey;

/// Batches that may wait for the loop. The log waits where there is no room, and so does everything behind it; the loop
/// never waits for the log.
const WAITING_MAX: usize = 4096;

/// What other threads tell the loop.
#[derive(Debug)]
pub enum Inbox {
    /// From the log.
    Log(Vec<Delivery>),
    /// From the intake: the answer to a plan that does not go further.
    Answer(SlabKey, Box<Response>),
    /// News of an identity provider's keys.
    Keys(KeyNews),
    /// The last run has stopped, and everything that runs said has come.
    Drained,
}

/// Sends to the loop, and wakes it.
#[derive(Clone)]
pub struct InboxSender {
    batches: Sender<Inbox>,
    is_woken: Arc<AtomicBool>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

/// The loop's end.
pub struct InboxReceiver {
    batches: Receiver<Inbox>,
    is_woken: Arc<AtomicBool>,
}

/// A channel whose sender calls `wake` when the receiver may be asleep.
pub fn inbox(wake: impl Fn() + Send + Sync + 'static) -> (InboxSender, InboxReceiver) {
    let (sender, receiver) = bounded(WAITING_MAX);
    let is_woken = Arc::new(AtomicBool::new(false));
    let sender = InboxSender { batches: sender, is_woken: is_woken.clone(), wake: Arc::new(wake) };
    (sender, InboxReceiver { batches: receiver, is_woken })
}

impl InboxSender {
    /// Sends, waiting for room. What is sent to a loop that has ended is dropped.
    pub fn send(&self, batch: Inbox) {
        if self.batches.send(batch).is_ok() {
            self.wake();
        }
    }

    /// Wakes the loop, if it was not woken since it last looked.
    pub fn wake(&self) {
        if !self.is_woken.swap(true, Ordering::SeqCst) {
            (self.wake)();
        }
    }
}

impl InboxReceiver {
    /// Begins a turn. Called before [`try_recv`](Self::try_recv): whatever is sent from now on wakes the loop again.
    pub fn begin(&self) {
        self.is_woken.store(false, Ordering::SeqCst);
    }

    /// The next batch.
    pub fn try_recv(&self) -> Option<Inbox> {
        self.batches.try_recv().ok()
    }

    /// Batches that wait.
    pub fn waiting(&self) -> usize {
        self.batches.len()
    }
}
