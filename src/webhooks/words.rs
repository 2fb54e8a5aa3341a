//! Messages to the courier: something is due, an attempt has ended, the server is stopping.

use std::sync::{Arc, Weak};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::WEBHOOKS_MAX;
use super::post::{ON_THEIR_WAY_MAX, Sent};
use crate::log::DueId;

/// Words that wait for the courier: every attempt has one, and there is room for those that end it.
const WORDS_MAX: usize = WEBHOOKS_MAX * ON_THEIR_WAY_MAX + 16;

/// Says that there is something to tell. Never waits.
#[derive(Clone)]
pub(crate) struct Bell(Sender<()>);

/// What a bell rings.
pub(crate) struct Rung(pub(super) Receiver<()>);

/// The way to the courier's thread.
#[derive(Clone)]
pub(crate) struct CourierHandle {
    words: Sender<Word>,
    /// The courier's, as long as it works.
    life: Weak<()>,
}

pub(super) enum Word {
    /// An attempt of the webhook in this place has ended.
    Ended(usize, DueId, Sent),
    /// Finish what is on its way within the grace, and end.
    Close,
    /// End without grace.
    Hurry,
}

/// The receiving end of the courier, with the sender for its attempts. Dropped when the courier ends.
pub(super) struct Ears {
    pub(super) words: Receiver<Word>,
    pub(super) way_back: Sender<Word>,
    _life: Arc<()>,
}

/// Both ends.
pub(super) fn words() -> (Ears, CourierHandle) {
    let (sender, receiver) = bounded(WORDS_MAX);
    let life = Arc::new(());
    let handle = CourierHandle { words: sender.clone(), life: Arc::downgrade(&life) };
    (Ears { words: receiver, way_back: sender, _life: life }, handle)
}

impl Bell {
    /// A bell, and what it rings.
    pub(crate) fn new() -> (Self, Rung) {
        let (bell, rung) = bounded(1);
        (Self(bell), Rung(rung))
    }

    /// There is something due.
    pub(crate) fn ring(&self) {
        // If it is full, it has already rung.
        let _ = self.0.try_send(());
    }
}

impl CourierHandle {
    /// Gives what is on its way its grace; what waits stays for the next start.
    pub(crate) fn close(&self) {
        // Fails where it has ended already.
        let _ = self.words.try_send(Word::Close);
    }

    /// Ends what is on its way, too.
    pub(crate) fn hurry(&self) {
        let _ = self.words.try_send(Word::Hurry);
    }

    /// Nothing is on its way any more, and nothing will be.
    pub(crate) fn has_ended(&self) -> bool {
        self.life.strong_count() == 0
    }
}
