//! Notifications that are sent together with an append, so that other nodes receive them one hop earlier than from the
//! lease thread.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::notice;
use crate::log::store::NodeId;
use crate::model::ProjectId;

/// The least time between two appends that notify: changes in between are collected, and sent by the thread that wakes
/// other nodes.
const PACE: Duration = Duration::from_millis(10);

/// See the top of this file.
#[derive(Default)]
pub(super) struct Telling(Mutex<Told>);

#[derive(Default)]
struct Told {
    at: Option<Instant>,
    /// Projects whose newest append has notified others.
    projects: HashSet<String>,
}

impl Telling {
    /// The notification of an append to these projects. None if the last one was just now: then it is left to
    /// [`Self::untold`], as is everything earlier until [`Self::has_told`] is called, because the append may take long,
    /// and fail.
    pub(super) fn with_append(&self, projects: &[&str], node: NodeId) -> Option<String> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.projects.retain(|project| !projects.contains(&project.as_str()));
        if projects.is_empty() || told.at.is_some_and(|at| at.elapsed() < PACE) {
            return None;
        }
        told.at = Some(Instant::now());
        Some(notice::of_moved(node, projects.iter().copied(), false))
    }

    /// An append to these projects is done, and what it tells is on its way.
    pub(super) fn has_told(&self, projects: &[&str]) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Other nodes have been woken for earlier notifications by now.
        told.projects.clear();
        told.projects.extend(projects.iter().map(|project| (*project).to_owned()));
    }

    /// The projects among these that have changed without a notification so far.
    pub(super) fn untold<'p>(&self, projects: &'p [ProjectId]) -> Vec<&'p ProjectId> {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        projects.iter().filter(|project| !told.projects.contains(project.as_str())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_append_has_told_of_is_not_told_twice_and_what_came_too_soon_is_told_afterwards() {
        let projects = ["a", "b", "c"].map(|name| ProjectId::parse(name).expect("an id"));
        let names = |told: &Telling| told.untold(&projects).iter().map(|it| it.as_str().to_owned()).collect::<Vec<_>>();
        let (telling, node) = (Telling::default(), NodeId([1; 8]));
        assert!(telling.with_append(&["a", "b"], node).is_some_and(|text| text.ends_with(" a b")));
        telling.has_told(&["a", "b"]);
        assert_eq!(names(&telling), ["c"]);
        // Nothing was waited for.
        while telling.with_append(&["b"], node).is_some() {}
        assert!(names(&telling).contains(&"b".to_owned()));
    }

    #[test]
    fn what_an_append_would_have_told_that_was_lost_was_told_by_nobody() {
        let projects = ["a", "b"].map(|name| ProjectId::parse(name).expect("an id"));
        let telling = Telling::default();
        telling.with_append(&["a"], NodeId([1; 8])).expect("it is the first");
        assert_eq!(telling.untold(&projects).len(), 2);
    }
}
