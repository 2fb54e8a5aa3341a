//! The only way into the loop for other threads: a bounded channel, with one wake-up per batch rather than per message.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::jwks::KeyNews;
use crate::http::Response;
use crate::log::Delivery;
use crate::model::SlabKey;

/// The most batches that may wait for the loop. If there is no room, the log waits, and so does everything that waits
/// for the log. The loop never waits for the log.
const WAITING_MAX: usize = 4096;

/// Messages of other threads to the loop.
#[derive(Debug)]
pub enum Inbox {
    /// Output of the log.
    Log(Vec<Delivery>),
    /// The answer of the intake to a plan that it does not pass on.
    Answer(SlabKey, Box<Response>),
    /// A result of fetching an identity provider's keys.
    Keys(KeyNews),
    /// The last run has stopped, and all output of the runs has arrived.
    Drained,
}

/// Sends to the loop and wakes it.
#[derive(Clone)]
pub struct InboxSender {
    batches: Sender<Inbox>,
    is_woken: Arc<AtomicBool>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

/// The receiving end, for the loop.
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
    /// Sends, and waits for room. Messages to a loop that has ended are dropped.
    pub fn send(&self, batch: Inbox) {
        if self.batches.send(batch).is_ok() {
            self.wake();
        }
    }

    /// Wakes the loop, unless it was woken since it last looked.
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

    /// The number of waiting batches.
    pub fn waiting(&self) -> usize {
        self.batches.len()
    }
}
