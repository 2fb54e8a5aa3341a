//! Invariants of the manager, and what tests can see of it.

use std::io::Write;

use super::ConnectionManager;
#[cfg(test)]
use crate::model::{ProjectId, SlabKey};

impl<S: Write> ConnectionManager<S> {
    /// Each key in a channel's set is a stream of that channel at that place, and the other way round. Looked at in
    /// tests and, while the streams are few, in other debug builds.
    pub(in crate::stream) fn check_invariants(&self) {
        /// Streams up to which a debug build looks at all of them each turn.
        const FEW: usize = 256;
        if !cfg!(test) && (!cfg!(debug_assertions) || self.streams.len() > FEW) {
            return;
        }
        let in_sets: usize = self.watched.channels().map(|(_, channel)| channel.streams().len()).sum();
        assert_eq!(in_sets, self.streams.len(), "every stream is in one set");
        self.watched.check_invariants(|key| self.streams[key as usize].is_behind());
        for (index, channel) in self.watched.channels() {
            for (place, &key) in channel.streams().iter().enumerate() {
                let stream = &self.streams[key as usize];
                assert_eq!((stream.channel, stream.place as usize), (index, place));
            }
        }
    }
}

#[cfg(test)]
impl<S: Write> ConnectionManager<S> {
    /// Does the stream hold nothing beyond its slab entry?
    pub(in crate::stream) fn is_bare(&self, key: SlabKey) -> bool {
        self.is_current(key) && self.streams[key.index()].extra.is_none()
    }

    /// Streams that wait for a page, pages on their way, bytes of pages held.
    pub(in crate::stream) fn pages(&self) -> (usize, usize, usize) {
        self.paging.counts()
    }

    /// Room for streams, and for keys in the sets of a project's channels.
    pub(in crate::stream) fn capacities(&self, project: &ProjectId) -> (usize, usize) {
        (self.streams.capacity(), self.watched.capacity(project))
    }
}
