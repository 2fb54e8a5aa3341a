//! History for streams that have fallen behind the backlog: requested in turn, a few pages at a time, and handed out.

use std::io::Write;

use super::{ConnectionManager, Effect};
use crate::http::Coding;
use crate::log::{Page, StartingPosition, View};
use crate::model::{Now, SlabKey};
use crate::stream::control;
use crate::stream::subscriber::{CloseReason, KnownItems, Pending, Phase};

impl<S: Write> ConnectionManager<S> {
    /// History that a stream asked for by [`Effect::ReadPage`].
    pub fn page(&mut self, key: SlabKey, page: Page, now: Now) {
        self.paging.answered();
        if !self.is_current(key) {
            return;
        }
        if self.streams[key.index()].apart().is_some() {
            return self.page_apart(key, &page, now);
        }
        let stream = &mut self.streams[key.index()];
        let sent = stream.cursor.sent as usize;
        if stream.known_items() == KnownItems::Asked {
            stream.extra().items = KnownItems::All;
        } else {
            stream.cursor = self.watched.cursor_from(stream.channel, page.up_to);
            if self.watched.has_items(stream.channel) {
                stream.extra().items = KnownItems::Lacking;
            }
        }
        self.stats.messages += page.messages as u64;
        let extra = stream.extra();
        extra.awaits_page = false;
        if let Some(reservation) = &mut extra.reservation {
            reservation.resize(page.bytes.len());
        }
        match extra.coding {
            _ if page.has_last => extra.put_last(page.bytes.to_vec(), CloseReason::RunOver),
            Coding::Chunked => extra.pending = Pending::Page(page.bytes),
            Coding::UntilClose => extra.put(page.bytes.to_vec()),
        }
        // It may already have a part of the first message, by the same bytes from the backlog.
        extra.pending_sent = sent.min(extra.pending.len());
        self.serve(key.index() as u32, now);
    }

    /// History that a stream asked for is gone: it is sent a reset, and begins again at `start`.
    pub fn skip(&mut self, key: SlabKey, start: &StartingPosition, now: Now) {
        self.paging.answered();
        if !self.is_current(key) {
            return;
        }
        let stream = &mut self.streams[key.index()];
        let view = self.watched.view(stream.channel);
        if stream.cursor.sent > 0 {
            // Half a message is out and its other half is gone: only a new connection can mend that.
            return self.doom(key.index() as u32, CloseReason::Stalled);
        }
        if view.format().is_some() {
            stream.extra().awaits_page = false;
            return self.close(key.index() as u32, CloseReason::Expired, now);
        }
        match stream.extra().apart.as_mut() {
            Some(apart) => apart.at[usize::from(apart.part)] = start.after,
            None => stream.cursor = self.watched.cursor_from(stream.channel, start.after),
        }
        let mut told = Vec::new();
        control::write_reset(&mut told, start);
        let extra = stream.extra();
        extra.awaits_page = false;
        extra.put(view.of_events(told));
        self.serve(key.index() as u32, now);
    }

    /// History that a stream asked for can't be read: only a new connection can go on, at another time.
    pub fn page_refused(&mut self, key: SlabKey, now: Now) {
        self.paging.answered();
        if self.is_current(key) && self.watched.is_retold(self.streams[key.index()].channel) {
            return self.close(key.index() as u32, CloseReason::Stalled, now);
        }
        self.remove_sse(key, CloseReason::Stalled);
    }

    /// Does any stream wait for its turn to be read on for?
    pub fn waits_for_pages(&self) -> bool {
        self.paging.is_waited_for()
    }

    /// Takes the effects. Pages are requested until `pages_in_flight_max` are under way.
    pub fn take_effects(&mut self, pages_in_flight_max: usize) -> Vec<Effect> {
        while let Some(key) = self.paging.next(pages_in_flight_max) {
            self.ask_page(key);
        }
        self.ask_rows();
        // This comes before requests for items, which subscribe to them again.
        let ignored = self.watched.take_without_items().into_iter().map(Effect::IgnoreItems);
        self.effects.splice(0..0, ignored);
        std::mem::take(&mut self.effects)
    }

    /// A stream gets in line for a page.
    pub(super) fn want_page(&mut self, index: u32) {
        let stream = &mut self.streams[index as usize];
        stream.extra().awaits_page = true;
        self.paging.wait(SlabKey::new(index, stream.generation));
    }

    /// A stream gets in line to be shown how items are, if it has everything else.
    pub(super) fn want_items(&mut self, index: u32) {
        let stream = &self.streams[index as usize];
        let Some(extra) = &stream.extra else { return };
        let is_ready = !extra.awaits_page && !extra.has_pending() && extra.ending.is_none();
        let newest = self.watched.backlog(stream.channel).newest();
        if extra.items == KnownItems::Lacking && is_ready && stream.phase == Phase::Open && stream.cursor.seq >= newest
        {
            self.want_page(index);
        }
    }

    /// It is a stream's turn to be read on for, if it is still there.
    fn ask_page(&mut self, key: SlabKey) {
        if !self.is_current(key) {
            return;
        }
        let stream = &mut self.streams[key.index()];
        if matches!(stream.phase, Phase::Doomed(_)) {
            return;
        }
        let reservation = self.paging.ask();
        self.stats.pages += 1;
        let backlog = self.watched.backlog(stream.channel);
        if stream.known_items() == KnownItems::Lacking && backlog.reaches(stream.cursor.seq) {
            let (project, after) = self.watched.positions_of(stream).next().expect("a stream has a project");
            let (project, only_run) = (project.clone(), stream.only_run());
            self.effects.push(Effect::ReadItems { stream: key, project, only_run, after });
            let extra = stream.extra();
            (extra.items, extra.reservation) = (KnownItems::Asked, Some(reservation));
            return;
        }
        let part = stream.apart().map_or(0, |apart| usize::from(apart.part));
        let (project, after) = self.watched.positions_of(stream).nth(part).expect("a part of the stream");
        self.effects.push(Effect::ReadPage {
            stream: key,
            project: project.clone(),
            after,
            only_run: self.watched.run_of(stream.channel).or(stream.only_run()),
            // Updates about items are not part of history.
            view: match self.watched.view(stream.channel) {
                View::Items => View::Events,
                view => view,
            },
            bytes_max: reservation.bytes(),
        });
        stream.extra().reservation = Some(reservation);
    }
}
