//! The parts of a message that a client of the AI SDK already has when it continues the message.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// The overhead of a noted call.
const CALL_HAD_BYTES: usize = 64;

/// What the client of an AI SDK has of a run's message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Had {
    /// The texts that it has whole, each by its hash. Clients know no ids of texts.
    texts: Vec<u64>,
    /// How much it has of calls, by their ids.
    calls: BTreeMap<String, CallHad>,
}

/// How much a client has of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallHad {
    /// That there is one.
    Call,
    /// That it asks for a decision, too.
    Question,
    /// All of it.
    Result,
}

impl Had {
    /// It has this text, whole.
    pub fn note_text(&mut self, text: &str) {
        self.texts.push(hash(text));
    }

    /// It has so much of the call of this id.
    pub fn note_call(&mut self, id: String, how_much: CallHad) {
        self.calls.insert(id, how_much);
    }

    /// About how many bytes it takes.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.texts) + self.calls.keys().map(|id| id.len() + CALL_HAD_BYTES).sum::<usize>()
    }

    /// How much it has of a call.
    pub(super) fn call(&self, id: &str) -> Option<CallHad> {
        self.calls.get(id).copied()
    }

    /// The texts that it has, each as often as it has it.
    pub(super) fn texts(&self) -> Vec<u64> {
        self.texts.clone()
    }
}

/// Is this text one of `texts`? If so, once less from now on.
pub(super) fn take_text(texts: &mut Vec<u64>, text: &str) -> bool {
    let known = (!texts.is_empty()).then(|| hash(text));
    match texts.iter().position(|&one| Some(one) == known) {
        Some(at) => {
            texts.swap_remove(at);
            true
        }
        None => false,
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
