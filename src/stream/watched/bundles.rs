//! Bundles: which streams share one, and what is sent to them from several projects.

use std::hash::BuildHasher;
use std::sync::Arc;

use super::Watched;
use crate::auth::IdSigner;
use crate::http::{Chunks, sse};
use crate::log::Page;
use crate::model::ProjectId;
use crate::stream::bundle::{Apart, Bundle, Piece};
use crate::stream::channel::{Channel, Source};
use crate::stream::subscriber::Stream;
use crate::stream::with_items;

/// Bytes of a piece, about: a stream whose socket is full holds one.
const PIECE_BYTES_MAX: usize = 16 * 1024;

/// What comes next for a stream that has not joined.
pub(in crate::stream) enum Next {
    /// This.
    Piece(Arc<Piece>),
    /// The history of this part.
    History(u8),
    /// Nothing now.
    Nothing,
}

impl Watched {
    /// A stream begins to watch these projects, which are open, from these positions on: its channel, its place there, and
    /// where it is. None if one of them is not open.
    pub(in crate::stream) fn join_bundle(
        &mut self,
        starts: impl Iterator<Item = (ProjectId, u64)>,
        key: u32,
    ) -> Option<(u32, u32, Apart)> {
        let places = starts.map(|(project, after)| self.by_id.get(&project).map(|&place| (place, after)));
        let mut places = places.collect::<Option<Vec<_>>>()?;
        places.sort_unstable();
        places.dedup_by_key(|(place, _)| *place);
        let (parts, at): (Vec<_>, Vec<_>) = places.into_iter().unzip();
        let channel = self.bundle_of(parts);
        for project in self.channels[channel as usize].source.projects() {
            self.projects[*project as usize].arrive();
        }
        let place = self.channels[channel as usize].insert(key);
        Some((channel, place, Apart { at: at.into(), part: 0 }))
    }

    /// The channel of these projects.
    fn bundle_of(&mut self, parts: Vec<u32>) -> u32 {
        let hash = self.hasher.hash_one(&parts);
        let known = self.bundles.get(&hash).copied();
        match known.filter(|&channel| self.channels[channel as usize].source.projects() == parts) {
            Some(channel) => channel,
            None => {
                let channel = self.add_channel(Source::Several(Bundle::new(parts.into())));
                let parts = self.channels[channel as usize].source.projects();
                parts.iter().for_each(|&part| self.projects[part as usize].add_bundle(channel));
                self.bundles.entry(hash).or_insert(channel);
                channel
            }
        }
    }

    /// A channel of several projects is gone.
    pub(super) fn close_bundle(&mut self, channel: u32, parts: &[u32]) {
        parts.iter().for_each(|&part| self.projects[part as usize].remove_bundle(channel));
        let hash = self.hasher.hash_one(parts);
        if self.bundles.get(&hash) == Some(&channel) {
            self.bundles.remove(&hash);
        }
        if self.bundles.len() < self.bundles.capacity() / 8 {
            self.bundles.shrink_to_fit();
        }
    }

    pub(in crate::stream) fn bundle(&self, channel: u32) -> Option<&Bundle> {
        self.channels[channel as usize].source.bundle()
    }

    pub(in crate::stream) fn bundle_mut(&mut self, channel: u32) -> Option<&mut Bundle> {
        match &mut self.channels.get_mut(channel as usize)?.source {
            Source::Events { .. } | Source::Lines { .. } | Source::Items { .. } | Source::Retold(_) => None,
            Source::Several(bundle) => Some(bundle),
        }
    }

    /// The positions of streams that have every round of a bundle, one for each part.
    pub(in crate::stream) fn position(&self, bundle: &Bundle) -> Box<[u64]> {
        bundle.position(|project| self.projects[project as usize].backlog.newest())
    }

    /// The projects of a stream, and where it is in each.
    pub(in crate::stream) fn positions_of<S>(&self, stream: &Stream<S>) -> impl Iterator<Item = (&ProjectId, u64)> {
        let at = match (self.bundle(stream.channel), stream.apart()) {
            (None, _) if self.has_items(stream.channel) => Box::from([with_items::seq_at(stream.cursor.seq)]),
            (None, _) => Box::from([stream.cursor.seq]),
            (Some(_), Some(apart)) => apart.at.clone(),
            (Some(bundle), None) => match bundle.lacked_by(stream.cursor.seq) {
                Some(piece) => piece.from.clone(),
                None => self.position(bundle),
            },
        };
        self.projects_of(stream.channel).map(|project| &project.id).zip(at)
    }

    /// Begins a round of a bundle, if there is something for its streams. `false` if that is too far back: then they
    /// must leave the bundle first, because each will be at another position.
    pub(in crate::stream) fn begin_round(&mut self, channel: u32, signer: &IdSigner) -> bool {
        let Self { projects, channels, .. } = self;
        let Some(Channel { source: Source::Several(bundle), .. }) = channels.get(channel as usize) else { return true };
        if !bundle.is_late() {
            return true;
        }
        let at = bundle.position(|project| projects[project as usize].backlog.newest());
        let has_joined = bundle.joined() > 0;
        let next = if has_joined { self.next(channel, &at, signer) } else { Next::Nothing };
        let streams = self.channels[channel as usize].streams().len();
        let Self { projects, channels, .. } = self;
        let Source::Several(bundle) = &mut channels[channel as usize].source else { return true };
        match next {
            Next::Piece(piece) => {
                bundle.begin_round(piece, |project| projects[project as usize].backlog.newest(), streams);
                true
            }
            Next::Nothing => {
                bundle.have_nobody_late();
                true
            }
            Next::History(_) => false,
        }
    }

    /// What comes next for a stream at `at`.
    pub(in crate::stream) fn next(&self, channel: u32, at: &[u64], signer: &IdSigner) -> Next {
        let Some(bundle) = self.bundle(channel) else { return Next::Nothing };
        if let Some(piece) = bundle.kept(at) {
            return Next::Piece(piece);
        }
        let newest = |part: usize| self.projects[bundle.parts()[part] as usize].backlog.newest();
        let lacking = (0..at.len()).filter(|&part| at[part] < newest(part)).count();
        if lacking == 0 {
            return Next::Nothing;
        }
        let mut writing = Writing::from(at);
        let mut far = None;
        // Each part has its share, and another one is the first each time: none is kept waiting by one that never ends.
        let first = (at.iter().sum::<u64>() % at.len() as u64) as usize;
        for part in (first..at.len()).chain(0..first) {
            let backlog = &self.projects[bundle.parts()[part] as usize].backlog;
            let end = writing.bytes.len() + PIECE_BYTES_MAX / lacking;
            while writing.to[part] < backlog.newest() && writing.bytes.len() < end.min(PIECE_BYTES_MAX) {
                let Some(frame) = backlog.frame_after(writing.to[part]) else {
                    far.get_or_insert(part);
                    break;
                };
                let event = Chunks::of(frame.bytes).next().unwrap_or_default();
                writing.add(part, event, bundle.parts(), self, signer);
            }
        }
        match far {
            Some(part) if writing.bytes.is_empty() => Next::History(part as u8),
            _ => Next::Piece(Arc::new(writing.into_piece(at))),
        }
    }

    /// Keeps a piece for others of the channel.
    pub(in crate::stream) fn keep(&mut self, channel: u32, piece: &Arc<Piece>) {
        let streams = self.channels[channel as usize].streams().len();
        if let Some(bundle) = self.bundle_mut(channel) {
            bundle.keep(piece.clone(), streams);
        }
    }

    /// A page of one part's history, as a stream of the bundle that is at `at` is sent it.
    pub(in crate::stream) fn piece_of(
        &self,
        channel: u32,
        at: &[u64],
        part: u8,
        page: &Page,
        signer: &IdSigner,
    ) -> Option<Arc<Piece>> {
        let bundle = self.bundle(channel)?;
        if let Some(piece) = bundle.kept(at) {
            return Some(piece);
        }
        let mut writing = Writing::from(at);
        for event in Chunks::of(&page.bytes) {
            writing.add(usize::from(part), event, bundle.parts(), self, signer);
        }
        let reached = &mut writing.to[usize::from(part)];
        debug_assert_eq!(*reached, page.up_to, "history has no gaps");
        *reached = page.up_to;
        Some(Arc::new(writing.into_piece(at)))
    }
}

/// A piece that is being put together.
struct Writing {
    to: Box<[u64]>,
    bytes: Vec<u8>,
    id: Vec<u8>,
}

impl Writing {
    fn from(at: &[u64]) -> Self {
        Self { to: at.into(), bytes: Vec::new(), id: Vec::new() }
    }

    /// Adds the next event of a part, with the id of where a stream is after it.
    fn add(&mut self, part: usize, event: &[u8], parts: &[u32], watched: &Watched, signer: &IdSigner) {
        self.to[part] += 1;
        self.id.clear();
        let tags = parts.iter().map(|&project| watched.projects[project as usize].tag);
        signer.write_positions(&mut self.id, tags.zip(self.to.iter().copied()));
        sse::write_event(&mut self.bytes, str::from_utf8(&self.id).ok(), None, sse::data(event));
    }

    fn into_piece(self, from: &[u64]) -> Piece {
        Piece { from: from.into(), to: self.to, bytes: self.bytes.into() }
    }
}
