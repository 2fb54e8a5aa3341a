//! What always holds of the manager, and what tests see of it.

use std::io::Write;

use super::ConnectionManager;
#[cfg(test)]
use crate::model::{ProjectId, SlabKey};

impl<S: Write> ConnectionManager<S> {
    /// Each key in a project's set is a stream of that project at that place, and the other way round. Looked at in
    /// tests and, while the streams are few, in other debug builds.
    pub(in crate::stream) fn check_invariants(&self) {
        /// Streams up to which a debug build looks at all of them each turn.
        const FEW: usize = 256;
        if !cfg!(test) && (!cfg!(debug_assertions) || self.streams.len() > FEW) {
            return;
        }
        let in_sets: usize = self.projects.iter().map(|(_, project)| project.streams.len()).sum();
        assert_eq!(in_sets, self.streams.len(), "every stream is in one set");
        for (index, project) in &self.projects {
            assert_eq!(self.by_id.get(&project.id), Some(&(index as u32)));
            assert_eq!(project.streams.is_empty(), project.idle_since.is_some(), "an empty set is only lingering");
            let behind = |&&key: &&u32| self.streams[key as usize].is_behind();
            assert_eq!(project.streams.iter().filter(behind).count(), project.behind, "those behind are counted");
            for (place, &key) in project.streams.iter().enumerate() {
                let stream = &self.streams[key as usize];
                assert_eq!((stream.project as usize, stream.place as usize), (index, place));
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

    /// Room for streams, and for keys in a project's set.
    pub(in crate::stream) fn capacities(&self, project: &ProjectId) -> (usize, usize) {
        (self.streams.capacity(), self.project(project).map_or(0, |project| project.streams.capacity()))
    }
}
