//! The names by which repeated calls are recognised.

use crate::model::{ProjectId, RunId};

/// By what a call is known when it comes again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The project whose call it is.
    pub project: ProjectId,
    /// `Idempotency-Key`, if the call had one.
    pub key: Option<String>,
    /// The run's id, if the caller chose it.
    pub run: Option<RunId>,
    /// Tells one call's body from another's.
    pub fingerprint: Fingerprint,
}

/// Tells one call's body from another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    /// The digest of its JSON value.
    pub value: [u8; 32],
    /// The digest of its bytes, which earlier versions stored.
    pub bytes: [u8; 32],
}

impl Fingerprint {
    /// Is it the one that was kept?
    pub(in crate::log) fn is(&self, kept: &[u8; 32]) -> bool {
        self.value == *kept || self.bytes == *kept
    }
}

impl Claim {
    /// Does the call have a name at all?
    pub fn is_named(&self) -> bool {
        self.key.is_some() || self.run.is_some()
    }

    /// The names that it binds, as they are kept: keys and ids of runs are two kinds.
    pub fn names(&self) -> impl Iterator<Item = String> {
        let key = self.key.iter().map(|key| format!("k{key}"));
        key.chain(self.run.iter().map(|run| format!("r{run}")))
    }
}
