//! Everything that is watched: projects, the channels that draw on them, and which is which.
//!
//! It knows the streams of a channel by their keys alone. Whatever is broadcast to a project is told here, once, in the
//! form of each of its channels.

mod bundles;

pub(super) use self::bundles::Next;
use std::collections::HashMap;
use std::hash::RandomState;
use std::time::Duration;

use slab::Slab;

use super::backlog::Backlog;
use super::bundle::Bundle;
use super::channel::{Channel, Moved, Source};
use super::project::Project;
use crate::auth::ProjectTag;
use crate::log::{Frames, View};
use crate::model::ProjectId;

/// See the top of this file.
#[derive(Default)]
pub(super) struct Watched {
    projects: Slab<Project>,
    by_id: HashMap<ProjectId, u32>,
    channels: Slab<Channel>,
    /// The channels of several projects, by a hash of which those are. Where two have the same one, the newer is not known.
    bundles: HashMap<u64, u32>,
    hasher: RandomState,
    /// How many channels have a backlog of their own.
    own_backlogs: usize,
}

impl Watched {
    /// Starts to hold a project, which is not open, by its newest messages.
    pub(super) fn open(&mut self, id: &ProjectId, tag: ProjectTag, newest: Frames, bytes_max: usize, now: Duration) {
        let mut project = Project::new(id.clone(), tag, newest, now);
        project.backlog.trim(bytes_max);
        let index = self.projects.insert(project) as u32;
        self.by_id.insert(id.clone(), index);
    }

    /// Is nothing held?
    pub(super) fn is_empty(&self) -> bool {
        self.projects.is_empty()
    }

    pub(super) fn project(&self, id: &ProjectId) -> Option<&Project> {
        self.by_id.get(id).map(|&index| &self.projects[index as usize])
    }

    /// The keys of all streams that watch a project.
    pub(super) fn streams_of(&self, project: &Project) -> impl Iterator<Item = u32> {
        let channels = project.channels.values().chain(project.bundles());
        channels.flat_map(|&channel| self.channels[channel as usize].streams()).copied()
    }

    /// Until then it is believed whether those who watch a project are too slow for what is published.
    pub(super) fn note_congestion(&mut self, project: &ProjectId, until: Duration, is_congested: bool) {
        if let Some(&index) = self.by_id.get(project) {
            self.projects[index as usize].congestion = Some((until, is_congested));
        }
    }

    /// The project that a channel draws on, the first where it draws on several.
    pub(super) fn project_of(&self, channel: u32) -> &Project {
        self.projects_of(channel).next().expect("a channel draws on at least one project")
    }

    /// The projects that a channel draws on.
    pub(super) fn projects_of(&self, channel: u32) -> impl Iterator<Item = &Project> {
        self.channels[channel as usize].source.projects().iter().map(|&project| &self.projects[project as usize])
    }

    /// A channel, while anyone watches it.
    pub(super) fn channel(&self, index: u32) -> Option<&Channel> {
        self.channels.get(index as usize)
    }

    pub(super) fn channel_mut(&mut self, index: u32) -> Option<&mut Channel> {
        self.channels.get_mut(index as usize)
    }

    /// How the streams of a channel are shown messages.
    pub(super) fn view(&self, channel: u32) -> View {
        self.channels[channel as usize].source.view()
    }

    /// What the streams of a channel are written from.
    pub(super) fn backlog(&self, channel: u32) -> &Backlog {
        let source = &self.channels[channel as usize].source;
        source.own_backlog().unwrap_or(&self.project_of(channel).backlog)
    }

    /// The newest message of a channel, or how often there was any where it is of several projects, while anyone watches it.
    pub(super) fn newest(&self, channel: u32) -> Option<u64> {
        self.channel(channel).map(|watched| match watched.source.bundle() {
            Some(bundle) => bundle.news(),
            None => self.backlog(channel).newest(),
        })
    }

    /// A stream begins to watch an open project in this view: its channel, and its place there.
    pub(super) fn join(&mut self, project: &ProjectId, view: View, key: u32) -> Option<(u32, u32)> {
        let index = *self.by_id.get(project)?;
        let channel = match self.projects[index as usize].channels.get(&view) {
            Some(&channel) => channel,
            None => self.open_channel(index, view),
        };
        self.projects[index as usize].arrive();
        Some((channel, self.channels[channel as usize].insert(key)))
    }

    fn open_channel(&mut self, project: u32, view: View) -> u32 {
        let next = self.projects[project as usize].backlog.newest() + 1;
        let source = match view {
            View::Events => Source::Events { project },
            View::Text => Source::Lines { project, backlog: Backlog::new(Frames::starting_at(next)) },
        };
        self.own_backlogs += usize::from(source.own_backlog().is_some());
        let channel = self.channels.insert(Channel::new(source)) as u32;
        self.projects[project as usize].channels.insert(view, channel);
        channel
    }

    /// A stream stops to watch. The one that moved to its place, if one did; a channel that nobody watches is gone.
    pub(super) fn leave(&mut self, channel: u32, place: u32, now: Duration) -> Option<Moved> {
        let from = &mut self.channels[channel as usize];
        let moved = from.remove(place);
        for &project in from.source.projects() {
            self.projects[project as usize].leave(now);
        }
        if from.streams().is_empty() {
            let gone = self.channels.remove(channel as usize);
            self.close_channel(channel, &gone.source);
        }
        moved
    }

    /// A channel is gone.
    fn close_channel(&mut self, channel: u32, source: &Source) {
        match source {
            Source::Events { project } | Source::Lines { project, .. } => {
                self.projects[*project as usize].channels.remove(&source.view());
                self.own_backlogs -= usize::from(source.own_backlog().is_some());
            }
            Source::Several(bundle) => self.close_bundle(channel, bundle.parts()),
        }
    }

    /// A stream of this channel is behind now, or is not any more.
    pub(super) fn count_behind(&mut self, channel: u32, is_behind: bool) {
        for &project in self.channels[channel as usize].source.projects() {
            let behind = &mut self.projects[project as usize].behind;
            *behind = if is_behind { *behind + 1 } else { *behind - 1 };
        }
    }

    /// An open project's next messages: each of its channels has them from now on. Those whose round begins with them are
    /// added to `dirty`.
    pub(super) fn append(
        &mut self,
        project: &ProjectId,
        frames: &Frames,
        bytes_max: usize,
        now: Duration,
        dirty: &mut impl Extend<u32>,
    ) {
        let Some(&place) = self.by_id.get(project) else { return };
        let project = &mut self.projects[place as usize];
        let newest = project.backlog.newest();
        project.backlog.append(frames);
        project.backlog.trim(bytes_max);
        for &index in project.channels.values() {
            let channel = &mut self.channels[index as usize];
            if let Source::Lines { backlog, .. } = &mut channel.source {
                backlog.append(&frames.told(backlog.newest() + 1));
                backlog.trim(bytes_max);
            }
            if channel.begin_pass(project.backlog.newest(), now) {
                dirty.extend([index]);
            }
        }
        for &index in project.bundles() {
            let channel = &mut self.channels[index as usize];
            if let Source::Several(bundle) = &mut channel.source {
                bundle.note_late(place, newest);
                let news = bundle.news();
                if channel.begin_pass(news, now) {
                    dirty.extend([index]);
                }
            }
        }
    }

    /// Lets those projects go that nobody has watched for so long.
    pub(super) fn let_idle_go(&mut self, linger: Duration, now: Duration) -> Vec<ProjectId> {
        let abandoned = self.projects.iter().filter(|(_, project)| project.is_abandoned(linger, now));
        let abandoned: Vec<usize> = abandoned.map(|(index, _)| index).collect();
        let gone: Vec<ProjectId> = abandoned.into_iter().map(|index| self.projects.remove(index).id).collect();
        gone.iter().for_each(|id| {
            self.by_id.remove(id);
        });
        if self.projects.is_empty() {
            *self = Self::default();
        }
        gone
    }

    /// Holds each backlog to `bytes_max`.
    pub(super) fn trim(&mut self, bytes_max: usize) {
        self.projects.iter_mut().for_each(|(_, project)| project.backlog.trim(bytes_max));
        self.channels.iter_mut().for_each(|(_, channel)| channel.source.trim(bytes_max));
    }

    /// How many backlogs there are.
    pub(super) fn backlogs(&self) -> usize {
        self.projects.len() + self.own_backlogs
    }

    /// Projects that are held, and the bytes that all backlogs hold on to.
    pub(super) fn memory(&self) -> (usize, usize) {
        let projects = self.projects.iter().map(|(_, project)| project.backlog.memory());
        let own = self.channels.iter().filter_map(|(_, channel)| channel.source.own_backlog()).map(Backlog::memory);
        let bundles = self.channels.iter().filter_map(|(_, channel)| channel.source.bundle()).map(Bundle::memory);
        (self.projects.len(), projects.chain(own).chain(bundles).sum())
    }

    /// All channels.
    pub(super) fn channels(&self) -> impl Iterator<Item = (u32, &Channel)> {
        self.channels.iter().map(|(index, channel)| (index as u32, channel))
    }

    /// Every project is known by its id, and every channel to its project; what is counted is so.
    pub(super) fn check_invariants(&self, is_behind: impl Fn(u32) -> bool) {
        for (index, project) in &self.projects {
            assert_eq!(self.by_id.get(&project.id), Some(&(index as u32)));
            assert_eq!(project.watchers == 0, project.idle_since.is_some(), "unwatched is only lingering");
            assert_eq!(self.streams_of(project).count(), project.watchers, "those who watch are counted");
            let behind = self.streams_of(project).filter(|&key| is_behind(key)).count();
            assert_eq!(behind, project.behind, "those behind are counted");
        }
        for (index, channel) in self.channels() {
            for project in self.projects_of(index) {
                match &channel.source {
                    Source::Several(_) => assert!(project.bundles().contains(&index)),
                    source => assert_eq!(project.channels.get(&source.view()), Some(&index)),
                }
            }
            assert!(!channel.streams().is_empty(), "a channel is watched");
        }
        assert_eq!(self.by_id.len(), self.projects.len());
        let own = self.channels().filter(|(_, channel)| channel.source.own_backlog().is_some()).count();
        assert_eq!(own, self.own_backlogs);
    }

    /// Room for keys of streams in a project's channels.
    #[cfg(test)]
    pub(super) fn capacity(&self, project: &ProjectId) -> usize {
        let channels = self.project(project).into_iter().flat_map(|project| project.channels.values());
        channels.map(|&channel| self.channels[channel as usize].capacity()).sum()
    }
}
