//! Streams of several projects: how they begin, and what they are sent.

use std::io::Write;

use super::{ConnectionManager, wrapping_ms};
use crate::http::Coding;
use crate::log::{Page, StartingPosition};
use crate::model::{Now, SlabKey};
use crate::stream::backlog::Cursor;
use crate::stream::bundle::{Apart, BundleSubscription};
use crate::stream::control;
use crate::stream::subscriber::{Extra, Phase, Transport, Wrote, write_once};
use crate::stream::watched::Next;

impl<S: Write> ConnectionManager<S> {
    /// Begins a stream of several projects, which are open: says where it begins in each, which of them it is not to have any
    /// more, and writes what it lacks. `starts` are in the order of the projects.
    ///
    /// # Errors
    /// The socket comes back where one of the projects is not open.
    pub fn begin_bundle(
        &mut self,
        mut transport: Transport<S>,
        wanted: &BundleSubscription,
        starts: &[StartingPosition],
        now: Now,
    ) -> Result<SlabKey, S> {
        let index = self.streams.vacant_key() as u32;
        let positions = starts.iter().map(|start| (start.project.clone(), start.after));
        let Some((channel, place, apart)) = self.watched.join_bundle(positions, index) else {
            return Err(transport.socket);
        };
        let events = self.first_words(channel, &apart, wanted, starts);
        transport.preface.append(&mut transport.coding.encoded(events));
        let extra = Extra { apart: Some(apart), ..Extra::default() };
        Ok(self.add(transport, wanted.first(), (channel, place), Cursor::default(), extra, now))
    }

    /// What a stream is sent first: the id of all its positions, and then the beginning of each project.
    fn first_words(
        &self,
        channel: u32,
        apart: &Apart,
        wanted: &BundleSubscription,
        starts: &[StartingPosition],
    ) -> Vec<u8> {
        let mut id = Vec::new();
        let tags = self.watched.projects_of(channel).map(|project| project.tag);
        self.signer.write_positions(&mut id, tags.zip(apart.at.iter().copied()));
        let mut first = Some((self.settings.retry_ms, id.as_slice()));
        let mut events = Vec::new();
        for start in starts {
            control::write_connected(&mut events, start, self.settings.heartbeat, first.take());
            control::write_reset(&mut events, start);
        }
        for project in &wanted.forbidden {
            control::write_closing(&mut events, project, 0, "forbidden", None);
        }
        events
    }

    /// Writes a stream of a bundle what it lacks: what the round in progress brings, or, while it is apart, piece by piece.
    pub(super) fn serve_bundled(&mut self, index: u32, now: Now) {
        while self.streams[index as usize].phase == Phase::Open {
            let stream = &mut self.streams[index as usize];
            let Some(at) = stream.apart().map(|apart| &apart.at) else { return self.serve_round(index, now) };
            let Some(bundle) = self.watched.bundle(stream.channel) else { return };
            if self.watched.position(bundle) == *at {
                return self.join_bundle(index);
            }
            match self.watched.next(stream.channel, at, &self.signer) {
                // It is ahead of the others, and joins them when they have had the next round.
                Next::Nothing => return,
                Next::History(part) => {
                    stream.extra().apart.iter_mut().for_each(|apart| apart.part = part);
                    return self.want_page(index);
                }
                Next::Piece(piece) => {
                    self.watched.keep(stream.channel, &piece);
                    self.stats.writes += 1;
                    self.stats.messages += piece.messages();
                    let extra = stream.extra();
                    extra.put_shared(&piece.bytes);
                    extra.apart.iter_mut().for_each(|apart| apart.at.clone_from(&piece.to));
                    if !stream.write_pending(wrapping_ms(now.mono), &mut self.stats.bytes) {
                        return;
                    }
                }
            }
        }
    }

    /// Writes what the round in progress brings to a stream that has joined, unless it has that.
    fn serve_round(&mut self, index: u32, now: Now) {
        let stream = &mut self.streams[index as usize];
        let Some(bundle) = self.watched.bundle(stream.channel) else { return };
        let Some(piece) = bundle.lacked_by(stream.cursor.seq) else { return };
        stream.cursor = Cursor::after(bundle.round());
        self.stats.writes += 1;
        self.stats.messages += piece.messages();
        let now_ms = wrapping_ms(now.mono);
        if stream.extra.as_ref().is_some_and(|extra| extra.coding != Coding::Chunked) {
            stream.extra().put_shared(&piece.bytes);
            stream.write_pending(now_ms, &mut self.stats.bytes);
            return;
        }
        let wrote = write_once(&mut stream.socket, &piece.bytes);
        if let Wrote::Some(sent) = wrote {
            let extra = stream.extra();
            extra.put_shared(&piece.bytes);
            extra.pending_sent = sent;
        }
        stream.note_write(wrote, now_ms, &mut self.stats.bytes);
    }

    /// A stream is where the others of its bundle are.
    fn join_bundle(&mut self, index: u32) {
        let stream = &mut self.streams[index as usize];
        let Some(bundle) = self.watched.bundle_mut(stream.channel) else { return };
        bundle.join();
        stream.cursor = Cursor::after(bundle.round());
        stream.extra().apart = None;
        stream.drop_spent_extra();
    }

    /// A stream that has joined and could not be brought what the others are goes on apart.
    pub(super) fn step_aside(&mut self, index: u32) {
        let stream = &mut self.streams[index as usize];
        if stream.apart().is_some() {
            return;
        }
        let Some(bundle) = self.watched.bundle_mut(stream.channel) else { return };
        if let Some(piece) = bundle.lacked_by(stream.cursor.seq) {
            stream.extra().apart = Some(Apart { at: piece.from.clone(), part: 0 });
            bundle.part();
        }
    }

    /// A channel's round begins. Where it is one of several projects, what it brings is put together.
    pub(super) fn begin_bundle_round(&mut self, channel: u32) {
        if self.watched.begin_round(channel, &self.signer) {
            return;
        }
        // A project's backlog begins after what they have: each is to read on from history.
        let Some(at) = self.watched.bundle(channel).map(|bundle| self.watched.position(bundle)) else { return };
        let Some(streams) = self.watched.channel(channel).map(|channel| channel.streams().to_vec()) else { return };
        let Some(bundle) = self.watched.bundle_mut(channel) else { return };
        for index in streams {
            let stream = &mut self.streams[index as usize];
            if stream.apart().is_none() {
                stream.extra().apart = Some(Apart { at: at.clone(), part: 0 });
                bundle.part();
            }
        }
        bundle.have_nobody_late();
    }

    /// A channel's round is over.
    pub(super) fn end_bundle_round(&mut self, channel: u32) {
        if let Some(bundle) = self.watched.bundle_mut(channel) {
            bundle.end_round();
        }
    }

    /// History that a stream asked for which is apart.
    pub(super) fn page_apart(&mut self, key: SlabKey, page: &Page, now: Now) {
        let stream = &mut self.streams[key.index()];
        let Some(Apart { at, part }) = stream.apart() else { return };
        let piece = self.watched.piece_of(stream.channel, at, *part, page, &self.signer);
        let Some(piece) = piece else { return };
        self.watched.keep(stream.channel, &piece);
        self.stats.messages += piece.messages();
        let extra = stream.extra();
        extra.awaits_page = false;
        extra.reservation.iter_mut().for_each(|reservation| reservation.resize(piece.bytes.len()));
        extra.put_shared(&piece.bytes);
        extra.apart.iter_mut().for_each(|apart| apart.at.clone_from(&piece.to));
        self.serve(key.index() as u32, now);
    }
}
