//! Writes: a stream is sent everything that it lacks in one write, and records how much its socket has accepted.

use std::io::Write;

use super::retelling::last_words;
use super::{ConnectionManager, GATHER_BYTES_MAX, wrapping_ms};
use crate::log::View;
use crate::model::Now;
use crate::stream::backlog::Cursor;
use crate::stream::control;
use crate::stream::subscriber::{CloseReason, Phase, Wrote, write_once};

impl<S: Write> ConnectionManager<S> {
    /// Writes a stream what it lacks: what is pending, then everything after its cursor.
    pub(super) fn serve(&mut self, index: u32, now: Now) {
        let Some(stream) = self.streams.get_mut(index as usize) else { return };
        let now_ms = wrapping_ms(now.mono);
        if stream.phase != Phase::Open {
            return self.step_aside(index);
        }
        if stream.write_pending(now_ms, &mut self.stats.bytes) {
            let has_end = self.watched.has_end(stream.channel);
            let is_bundled = self.watched.bundle(stream.channel).is_some();
            let has_items = self.watched.has_items(stream.channel);
            match &stream.extra {
                None if has_end || has_items => self.serve_gathered(index, now),
                None if is_bundled => self.serve_bundled(index, now),
                None => self.serve_backlog(index, now_ms),
                Some(extra) if extra.awaits_page => {}
                Some(extra) => match extra.ending {
                    Some(reason) => stream.phase = Phase::Doomed(reason),
                    None if is_bundled => self.serve_bundled(index, now),
                    None if has_end || has_items || extra.is_gathered() => self.serve_gathered(index, now),
                    None => self.serve_backlog(index, now_ms),
                },
            }
        }
        self.want_items(index);
        self.step_aside(index);
        self.after_write(index);
    }

    /// Reports what a write changed: a stream that ends, one that waits for room, the count of streams that are behind.
    pub(super) fn after_write(&mut self, index: u32) {
        let Some(stream) = self.streams.get_mut(index as usize) else { return };
        match stream.phase {
            Phase::Doomed(_) => self.doomed.push(index),
            Phase::Blocked { .. } if !stream.is_watched_for_room => {
                stream.is_watched_for_room = true;
                self.blocked.push(stream.token);
            }
            Phase::Open | Phase::Blocked { .. } => {}
        }
        self.recount(index);
    }

    /// Updates the count of streams that are behind, after one may have changed.
    pub(super) fn recount(&mut self, index: u32) {
        let stream = &mut self.streams[index as usize];
        let is_behind = stream.is_behind();
        if is_behind != std::mem::replace(&mut stream.is_counted_behind, is_behind) {
            self.watched.count_behind(stream.channel, is_behind);
        }
    }

    /// Writes everything after the cursor at once, or asks the log for it.
    fn serve_backlog(&mut self, index: u32, now_ms: u32) {
        let stream = &mut self.streams[index as usize];
        let backlog = self.watched.backlog(stream.channel);
        let Some(bytes) = backlog.bytes_after(stream.cursor) else { return self.want_page(index) };
        if bytes.is_empty() {
            // What follows the cursor has no bytes in this form.
            stream.cursor = stream.cursor.max(Cursor::after(backlog.newest()));
            return;
        }
        self.stats.writes += 1;
        let wrote = write_once(&mut stream.socket, bytes);
        if let Wrote::All(n) | Wrote::Some(n) = wrote {
            let messages;
            (stream.cursor, messages) = backlog.advance(stream.cursor, n);
            self.stats.messages += messages as u64;
        }
        stream.note_write(wrote, now_ms, &mut self.stats.bytes);
    }

    /// Writes what follows the cursor in the form of this stream: only its own run, or without chunks; or asks the log
    /// for it.
    fn serve_gathered(&mut self, index: u32, now: Now) {
        let stream = &mut self.streams[index as usize];
        let backlog = self.watched.backlog(stream.channel);
        let is_of_run = self.watched.is_retold(stream.channel);
        while stream.phase == Phase::Open && stream.cursor.seq < backlog.newest() {
            if !backlog.reaches(stream.cursor.seq) {
                return self.want_page(index);
            }
            self.stats.messages += stream.gather(backlog, GATHER_BYTES_MAX, is_of_run);
            self.stats.writes += 1;
            let is_written = stream.write_pending(wrapping_ms(now.mono), &mut self.stats.bytes);
            match stream.extra.as_ref().and_then(|extra| extra.ending) {
                Some(reason) if is_written => stream.phase = Phase::Doomed(reason),
                _ => {}
            }
        }
    }

    pub(super) fn doom(&mut self, index: u32, reason: CloseReason) {
        let stream = &mut self.streams[index as usize];
        if !matches!(stream.phase, Phase::Doomed(_)) {
            stream.phase = Phase::Doomed(reason);
            self.doomed.push(index);
            self.recount(index);
        }
    }

    /// Ends a stream with a `stream_closing`, if its socket accepts one.
    pub(super) fn close(&mut self, index: u32, reason: CloseReason, now: Now) {
        let retry_ms = self.reconnection_ms();
        let stream = &mut self.streams[index as usize];
        if matches!(stream.phase, Phase::Doomed(_)) {
            return;
        }
        let is_between_messages =
            stream.cursor.sent == 0 && stream.extra.as_ref().is_none_or(|extra| !extra.has_pending());
        if stream.phase == Phase::Open && is_between_messages {
            let last_words = match self.watched.view(stream.channel) {
                View::Format(format) => last_words(format, reason),
                view => {
                    let (mut closing, mut retry_ms) = (Vec::new(), Some(retry_ms));
                    for (project, seq) in self.watched.positions_of(stream) {
                        control::write_closing(&mut closing, project, seq, reason.as_str(), retry_ms.take());
                    }
                    view.of_events(closing)
                }
            };
            stream.extra().put_last(last_words, reason);
            stream.write_pending(wrapping_ms(now.mono), &mut self.stats.bytes);
        }
        match stream.phase {
            Phase::Doomed(_) => {
                self.doomed.push(index);
                self.recount(index);
            }
            Phase::Open | Phase::Blocked { .. } => self.doom(index, reason),
        }
    }
}
