//! A followed project: its backlog, the channels that read from it, and counts over all of their streams.

use std::collections::BTreeMap;
use std::time::Duration;

use super::backlog::Backlog;
use crate::auth::ProjectTag;
use crate::log::{Frames, RunNumber, View};
use crate::model::ProjectId;

/// A project that someone watches, or watched a moment ago.
pub(super) struct Project {
    pub(super) id: ProjectId,
    pub(super) backlog: Backlog,
    /// The channels of all of its messages.
    pub(super) whole: BTreeMap<View, u32>,
    /// The channels of one run each: few of a run, each in another format.
    pub(super) runs: BTreeMap<RunNumber, Vec<(View, u32)>>,
    /// The channels that draw on it and on others.
    bundles: Vec<u32>,
    /// Its tag in ids of positions.
    pub(super) tag: ProjectTag,
    /// The streams of all of them.
    pub(super) watchers: usize,
    /// The number of streams that are behind.
    pub(super) behind: usize,
    /// Whether they are too slow for what is published, and how long that may be believed.
    pub(super) congestion: Option<(Duration, bool)>,
    /// Since when nobody watches.
    pub(super) idle_since: Option<Duration>,
}

impl Project {
    pub(super) fn new(id: ProjectId, tag: ProjectTag, frames: Frames, now: Duration) -> Self {
        Self {
            id,
            backlog: Backlog::new(frames),
            whole: BTreeMap::new(),
            runs: BTreeMap::new(),
            bundles: Vec::new(),
            tag,
            watchers: 0,
            behind: 0,
            congestion: None,
            idle_since: Some(now),
        }
    }

    /// The channels that draw on it.
    pub(super) fn channels(&self) -> impl Iterator<Item = u32> {
        let of_runs = self.runs.values().flatten().map(|(_, channel)| channel);
        self.whole.values().chain(of_runs).copied()
    }

    /// The channel of this run alone, or of all messages, that shows them so.
    pub(super) fn channel(&self, run: Option<RunNumber>, view: View) -> Option<u32> {
        match run {
            None => self.whole.get(&view).copied(),
            Some(run) => self.runs.get(&run)?.iter().find(|(of, _)| *of == view).map(|(_, channel)| *channel),
        }
    }

    /// Another channel draws on it.
    pub(super) fn add_channel(&mut self, run: Option<RunNumber>, view: View, channel: u32) {
        match run {
            Some(run) => self.runs.entry(run).or_default().push((view, channel)),
            None => {
                self.whole.insert(view, channel);
            }
        }
    }

    /// A channel is gone.
    pub(super) fn remove_channel(&mut self, run: Option<RunNumber>, view: View) {
        let Some(run) = run else {
            self.whole.remove(&view);
            return;
        };
        if let Some(of_run) = self.runs.get_mut(&run) {
            of_run.retain(|(of, _)| *of != view);
            if of_run.is_empty() {
                self.runs.remove(&run);
            }
        }
    }

    /// The channels that draw on it and on others.
    pub(super) fn bundles(&self) -> &[u32] {
        &self.bundles
    }

    /// A channel draws on it and on others. There may be many thousands: room for an eighth more is made at a time.
    pub(super) fn add_bundle(&mut self, channel: u32) {
        if self.bundles.len() == self.bundles.capacity() {
            self.bundles.reserve_exact(self.bundles.len() / 8 + 1);
        }
        self.bundles.push(channel);
    }

    /// A channel that drew on it and on others is gone. Looks through all of them: a place for each in each of its projects
    /// would cost more memory than this costs time.
    pub(super) fn remove_bundle(&mut self, channel: u32) {
        if let Some(place) = self.bundles.iter().position(|&bundle| bundle == channel) {
            self.bundles.swap_remove(place);
        }
        if self.bundles.len() < self.bundles.capacity() / 4 {
            self.bundles.shrink_to(2 * self.bundles.len());
        }
    }

    /// Another stream watches.
    pub(super) fn arrive(&mut self) {
        self.watchers += 1;
        self.idle_since = None;
    }

    /// A stream that watched is gone.
    pub(super) fn leave(&mut self, now: Duration) {
        self.watchers -= 1;
        if self.watchers == 0 {
            self.idle_since = Some(now);
        }
    }

    /// Has nobody watched it for so long?
    pub(super) fn is_abandoned(&self, linger: Duration, now: Duration) -> bool {
        self.idle_since.is_some_and(|since| now.saturating_sub(since) >= linger)
    }
}
