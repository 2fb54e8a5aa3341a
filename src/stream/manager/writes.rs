//! The writes: a stream is sent what it lacks, in one go, and remembers how far its socket went along.

use std::io::Write;

use super::{ConnectionManager, GATHER_BYTES_MAX, wrapping_ms};
use crate::model::Now;
use crate::stream::backlog::Cursor;
use crate::stream::control;
use crate::stream::subscriber::{CloseReason, Phase, Wrote, write_once};

impl<S: Write> ConnectionManager<S> {
    /// Writes a stream what it lacks: what is pending, then everything behind its cursor.
    pub(super) fn serve(&mut self, index: u32, now: Now) {
        let Some(stream) = self.streams.get_mut(index as usize) else { return };
        let now_ms = wrapping_ms(now.mono);
        if stream.phase != Phase::Open {
            return self.step_aside(index);
        }
        if stream.write_pending(now_ms, &mut self.stats.bytes) {
            let is_bundled = self.watched.bundle(stream.channel).is_some();
            match &stream.extra {
                None if is_bundled => self.serve_bundled(index, now),
                None => self.serve_backlog(index, now_ms),
                Some(extra) if extra.awaits_page => {}
                Some(extra) => match extra.ending {
                    Some(reason) => stream.phase = Phase::Doomed(reason),
                    None if is_bundled => self.serve_bundled(index, now),
                    None if extra.is_gathered() => self.serve_gathered(index, now),
                    None => self.serve_backlog(index, now_ms),
                },
            }
        }
        self.step_aside(index);
        self.settle(index);
    }

    /// What a write did to a stream may concern others: the owner, the poll, the count of those behind.
    pub(super) fn settle(&mut self, index: u32) {
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

    /// Whether a stream is behind may have changed: its project counts those that are.
    pub(super) fn recount(&mut self, index: u32) {
        let stream = &mut self.streams[index as usize];
        let is_behind = stream.is_behind();
        if is_behind != std::mem::replace(&mut stream.is_counted_behind, is_behind) {
            self.watched.count_behind(stream.channel, is_behind);
        }
    }

    /// Writes everything behind the cursor in one go, or asks the log for it.
    fn serve_backlog(&mut self, index: u32, now_ms: u32) {
        let stream = &mut self.streams[index as usize];
        let backlog = self.watched.backlog(stream.channel);
        let Some(bytes) = backlog.behind(stream.cursor) else { return self.want_page(index) };
        if bytes.is_empty() {
            // Whatever is behind the cursor says nothing in this form.
            stream.cursor = stream.cursor.max(Cursor::after(backlog.newest()));
            return;
        }
        self.stats.writes += 1;
        let before = stream.cursor;
        let wrote = write_once(&mut stream.socket, bytes);
        stream.cursor = match wrote {
            Wrote::All(_) => Cursor::after(backlog.newest()),
            Wrote::Some(n) => backlog.advance(before, n),
            Wrote::Gone => before,
        };
        self.stats.messages += stream.cursor.seq - before.seq;
        stream.note_write(wrote, now_ms, &mut self.stats.bytes);
    }

    /// Writes what is behind the cursor, as the stream is sent it: its own run's alone, or without chunks; or asks the log
    /// for it.
    fn serve_gathered(&mut self, index: u32, now: Now) {
        let stream = &mut self.streams[index as usize];
        let backlog = self.watched.backlog(stream.channel);
        while stream.phase == Phase::Open && stream.cursor.seq < backlog.newest() {
            if !backlog.reaches(stream.cursor.seq) {
                return self.want_page(index);
            }
            self.stats.messages += stream.gather(backlog, GATHER_BYTES_MAX);
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

    /// Ends a stream behind a `stream_closing`, so far as its socket takes one.
    pub(super) fn close(&mut self, index: u32, reason: CloseReason, now: Now) {
        let retry_ms = self.reconnection_ms();
        let stream = &mut self.streams[index as usize];
        if matches!(stream.phase, Phase::Doomed(_)) {
            return;
        }
        let is_between_messages =
            stream.cursor.sent == 0 && stream.extra.as_ref().is_none_or(|extra| !extra.has_pending());
        if stream.phase == Phase::Open && is_between_messages {
            let mut last_words = Vec::new();
            let mut retry_ms = Some(retry_ms);
            for (project, seq) in self.watched.positions_of(stream) {
                control::write_closing(&mut last_words, project, seq, reason.as_str(), retry_ms.take());
            }
            let view = self.watched.view(stream.channel);
            let extra = stream.extra();
            extra.put_last(view.of_events(last_words), reason);
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
