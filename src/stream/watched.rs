//! Everything that streams follow: projects, the channels that read from them, and how they are found.
//!
//! It knows the streams of a channel only by their keys. Whatever is broadcast to a project is passed here once, in the
//! form of each of its channels.

mod bundles;

pub(super) use self::bundles::Next;
use std::collections::HashMap;
use std::hash::RandomState;
use std::time::Duration;

use slab::Slab;

use super::backlog::{Backlog, Cursor};
use super::bundle::Bundle;
use super::channel::{Channel, Moved, Source};
use super::project::Project;
use super::retold::Retold;
use super::with_items;
use crate::auth::ProjectTag;
use crate::formats::Format;
use crate::log::{Frames, Row, RunNumber, View};
use crate::model::{ProjectId, SlabKey};

/// See the top of this file.
#[derive(Default)]
pub(super) struct Watched {
    projects: Slab<Project>,
    by_id: HashMap<ProjectId, u32>,
    channels: Slab<Channel>,
    /// The channels of several projects, by a hash of their projects. If two have the same hash, only the older is
    /// found.
    bundles: HashMap<u64, u32>,
    hasher: RandomState,
    /// How many channels have a backlog of their own.
    own_backlogs: usize,
    generation: u32,
    /// Channels that may have to ask for something. Some may be gone.
    lacking: Vec<u32>,
    /// Projects whose last stream that shows items has ended.
    without_items: Vec<ProjectId>,
}

/// What a stream watches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) project: &'a ProjectId,
    pub(super) view: View,
    /// The run that the channel is to tell alone. Formats have such channels; other streams of one run pick its messages.
    pub(super) run: Option<RunNumber>,
    /// Where the stream begins.
    pub(super) after: u64,
}

/// The request of a channel of a run.
#[derive(Debug)]
pub(super) struct Lack {
    pub(super) channel: SlabKey,
    pub(super) project: ProjectId,
    pub(super) run: RunNumber,
    pub(super) format: Format,
    /// Behind this position.
    pub(super) after: u64,
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
        let channels = project.channels().chain(project.bundles().iter().copied());
        channels.flat_map(|channel| self.channels[channel as usize].streams()).copied()
    }

    /// Notes until `until` whether the streams of a project are too slow for its publishers.
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

    /// The backlog from which the streams of a channel are written.
    pub(super) fn backlog(&self, channel: u32) -> &Backlog {
        let source = &self.channels[channel as usize].source;
        source.own_backlog().unwrap_or(&self.project_of(channel).backlog)
    }

    /// The newest message of a channel, or for several projects the count of news, while it has streams.
    pub(super) fn newest(&self, channel: u32) -> Option<u64> {
        self.channel(channel).map(|watched| match watched.source.bundle() {
            Some(bundle) => bundle.news(),
            None => self.backlog(channel).newest(),
        })
    }

    /// Where a stream of a channel is that has all messages up to `seq`.
    pub(super) fn cursor_from(&self, channel: u32, seq: u64) -> Cursor {
        Cursor::after(match &self.channels[channel as usize].source {
            Source::Items { backlog, .. } => with_items::position_from(seq, backlog),
            _ => seq,
        })
    }

    /// Does a channel have updates about items?
    pub(super) fn has_items(&self, channel: u32) -> bool {
        matches!(self.channels[channel as usize].source, Source::Items { .. })
    }

    /// The run that a channel tells alone.
    pub(super) fn run_of(&self, channel: u32) -> Option<RunNumber> {
        self.channels[channel as usize].source.run()
    }

    /// Does a channel tell a run in a format?
    pub(super) fn is_retold(&self, channel: u32) -> bool {
        self.run_of(channel).is_some()
    }

    /// Does a channel hold a message that ends its streams?
    pub(super) fn has_end(&self, channel: u32) -> bool {
        self.channels[channel as usize].source.has_end()
    }

    /// A stream begins to watch an open project: its channel, and its place there.
    pub(super) fn join(&mut self, wanted: Wanted<'_>, key: u32) -> Option<(u32, u32)> {
        let index = *self.by_id.get(wanted.project)?;
        let channel = match self.projects[index as usize].channel(wanted.run, wanted.view) {
            Some(channel) => channel,
            None => self.open_channel(index, wanted)?,
        };
        self.projects[index as usize].arrive();
        Some((channel, self.channels[channel as usize].insert(key)))
    }

    fn open_channel(&mut self, project: u32, wanted: Wanted<'_>) -> Option<u32> {
        let newest = self.projects[project as usize].backlog.newest();
        let source = match wanted.view {
            View::Events => Source::Events { project },
            View::Text => Source::Lines { project, backlog: Box::new(Backlog::after(newest)) },
            View::Items => {
                Source::Items { project, backlog: Box::new(Backlog::after(with_items::position_after(newest))) }
            }
            View::Format(format) => {
                let mut retold = Retold::after(wanted.after, project, wanted.run?, format);
                // Nobody has heard of messages since the log told where the stream begins.
                retold.hear(newest);
                Source::Retold(Box::new(retold))
            }
        };
        self.own_backlogs += usize::from(source.own_backlog().is_some());
        let channel = self.add_channel(source);
        self.projects[project as usize].add_channel(wanted.run, wanted.view, channel);
        self.lacking.push(channel);
        Some(channel)
    }

    fn add_channel(&mut self, source: Source) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        self.channels.insert(Channel::new(source, self.generation)) as u32
    }

    /// What channels of runs lack that has not been asked for. It has been from here on.
    pub(super) fn take_lacks(&mut self) -> Vec<Lack> {
        let lacking = std::mem::take(&mut self.lacking);
        lacking.into_iter().filter_map(|index| self.ask(index)).collect()
    }

    fn ask(&mut self, index: u32) -> Option<Lack> {
        let Channel { source: Source::Retold(retold), generation, .. } = self.channels.get_mut(index as usize)? else {
            return None;
        };
        if !retold.lacks() {
            return None;
        }
        let (run, format, after) = (retold.run, retold.format, retold.ask());
        let project = self.projects[retold.project as usize].id.clone();
        Some(Lack { channel: SlabKey::new(index, *generation), project, run, format, after })
    }

    /// Takes the projects whose last stream that shows items has ended.
    pub(super) fn take_without_items(&mut self) -> Vec<ProjectId> {
        std::mem::take(&mut self.without_items)
    }

    /// All channels are looked at again for what they lack: something that was asked for did not come.
    pub(super) fn look_for_lacks(&mut self) {
        let lacks = |channel: &Channel| matches!(&channel.source, Source::Retold(retold) if retold.lacks());
        let lacking = self.channels.iter().filter(|(_, channel)| lacks(channel)).map(|(index, _)| index as u32);
        self.lacking.extend(lacking);
    }

    /// The answer to a request of a channel has come, possibly empty.
    pub(super) fn answer(&mut self, channel: SlabKey) -> Option<u32> {
        let tenant = self.channels.get_mut(channel.index())?;
        match &mut tenant.source {
            Source::Retold(retold) if tenant.generation == channel.generation() => retold.answered(),
            _ => return None,
        }
        Some(channel.index() as u32)
    }

    /// The channel of this run in this format, while anyone watches it.
    pub(super) fn retold(&self, project: &ProjectId, run: RunNumber, format: Format) -> Option<u32> {
        self.project(project)?.channel(Some(run), View::Format(format))
    }

    /// Appends the next messages to a channel of a run. If a round begins with them, the channel is added to `dirty`.
    pub(super) fn append_row(
        &mut self,
        index: u32,
        row: &Row,
        bytes_max: usize,
        now: Duration,
        dirty: &mut impl Extend<u32>,
    ) {
        let channel = &mut self.channels[index as usize];
        let Source::Retold(retold) = &mut channel.source else { return };
        let is_news = retold.append(row, bytes_max);
        let newest = retold.backlog().newest();
        if is_news && channel.begin_pass(newest, now) {
            dirty.extend([index]);
        }
        self.lacking.push(index);
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
            Source::Events { .. } | Source::Lines { .. } | Source::Items { .. } | Source::Retold(_) => {
                for &project in source.projects() {
                    self.projects[project as usize].remove_channel(source.run(), source.view());
                    if matches!(source, Source::Items { .. }) {
                        self.without_items.push(self.projects[project as usize].id.clone());
                    }
                }
                self.own_backlogs -= usize::from(source.own_backlog().is_some());
            }
            Source::Several(bundle) => self.close_bundle(channel, bundle.parts()),
        }
    }

    /// Counts a stream of this channel that falls behind, or has caught up.
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
        for &index in project.whole.values() {
            let channel = &mut self.channels[index as usize];
            match &mut channel.source {
                Source::Lines { backlog, .. } => backlog.append(&frames.told(backlog.newest() + 1)),
                Source::Items { backlog, .. } => with_items::append(backlog, frames),
                _ if frames.marks.is_empty() => continue,
                _ => {}
            }
            channel.source.trim(bytes_max);
            let newest = channel.source.own_backlog().unwrap_or(&project.backlog).newest();
            if channel.begin_pass(newest, now) {
                dirty.extend([index]);
            }
        }
        if frames.marks.is_empty() {
            return;
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
        if !project.runs.is_empty() {
            self.tell_runs(place, frames);
        }
    }

    /// The channels of runs hear that there is something of theirs; what that is they ask for.
    fn tell_runs(&mut self, project: u32, frames: &Frames) {
        let runs = &self.projects[project as usize].runs;
        for (mark, seq) in frames.marks.iter().zip(frames.first_seq..) {
            for (_, index) in mark.run.and_then(|run| runs.get(&run)).into_iter().flatten() {
                if let Source::Retold(retold) = &mut self.channels[*index as usize].source {
                    let lacks = retold.hear(seq);
                    self.lacking.extend(lacks.then_some(*index));
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
            *self = Self { generation: self.generation, ..Self::default() };
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
                    source => assert_eq!(project.channel(source.run(), source.view()), Some(index)),
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
        let channels = self.project(project).into_iter().flat_map(Project::channels);
        channels.map(|channel| self.channels[channel as usize].capacity()).sum()
    }
}
