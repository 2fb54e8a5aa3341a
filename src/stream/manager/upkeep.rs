//! Timed work: heartbeats, expired tokens, stalled streams, projects to forget. No stream has a timer; a sweep over all
//! streams, in slices, checks each.

use std::io::Write;
use std::time::Duration;

use super::{ConnectionManager, Effect, wrapping_ms};
use crate::http::write_chunk;
use crate::log::View;
use crate::model::Now;
use crate::stream::control;
use crate::stream::subscriber::{CloseReason, Moment, Pending, Phase, Wrote, write_once};
use crate::text;

impl<S: Write> ConnectionManager<S> {
    /// Does what is due: heartbeats, expired tokens, stalled streams, projects to drop. Checks at most `streams_max`
    /// streams; `true` if there is more to do.
    pub fn tick(&mut self, streams_max: usize, now: Now) -> bool {
        if !self.sweep.is_on() {
            if now.mono < self.sweep.due() || (self.streams.is_empty() && self.watched.is_empty()) {
                return false;
            }
            self.sweep.begin(now.mono, self.sweep_interval());
            self.let_idle_projects_go(now);
            self.trim_backlogs();
            self.watched.look_for_lacks();
        }
        for index in self.sweep.take(streams_max, self.streams.capacity()) {
            self.look_after(index, now);
        }
        self.sweep.is_on()
    }

    /// When [`tick`](Self::tick) has something to do next.
    pub fn next_deadline(&self) -> Option<Duration> {
        let is_idle = self.streams.is_empty() && self.watched.is_empty();
        (!is_idle).then_some(self.sweep.due())
    }

    fn sweep_interval(&self) -> Duration {
        const LONGEST: Duration = Duration::from_secs(1);
        const SHORTEST: Duration = Duration::from_millis(20);
        let beats = [self.settings.heartbeat, self.settings.stall_timeout, self.settings.linger];
        let quarter = beats.into_iter().filter(|beat| !beat.is_zero()).min().map_or(LONGEST, |beat| beat / 4);
        quarter.clamp(SHORTEST, LONGEST)
    }

    /// One stream's turn in the sweep.
    fn look_after(&mut self, index: usize, now: Now) {
        let Some(stream) = self.streams.get(index) else { return };
        let now_ms = wrapping_ms(now.mono);
        match stream.phase {
            Phase::Doomed(_) => {}
            _ if stream.has_expired(now.wall) => {
                self.close(index as u32, CloseReason::TokenExpired, now);
            }
            Phase::Blocked { since: Moment(since) } => {
                if u128::from(now_ms.wrapping_sub(since)) >= self.settings.stall_timeout.as_millis() {
                    self.close(index as u32, CloseReason::Stalled, now);
                }
            }
            Phase::Open => {
                let silent = u128::from(now_ms.wrapping_sub(stream.wrote_at));
                if !self.settings.heartbeat.is_zero() && silent >= self.settings.heartbeat.as_millis() {
                    self.beat(index as u32, now);
                }
            }
        }
    }

    /// Sends a heartbeat, unless something else is about to be sent.
    fn beat(&mut self, index: u32, now: Now) {
        let stream = &mut self.streams[index as usize];
        let is_message = match &stream.extra {
            Some(extra) if extra.has_pending() || extra.awaits_page => return,
            Some(extra) => extra.heartbeat_as_message,
            None => false,
        };
        if stream.cursor.sent > 0 {
            return;
        }
        let mut frame = Vec::new();
        match self.watched.view(stream.channel) {
            View::Format(_) => return self.beat_with_comment(index, now),
            View::Events | View::Items if !is_message => return self.beat_with_comment(index, now),
            View::Events | View::Items => {
                let first = self.watched.positions_of(stream).next();
                let (project, seq) = first.expect("a channel draws on at least one project");
                control::write_heartbeat(&mut frame, project, seq, now.wall);
            }
            View::Text => write_chunk(&mut frame, text::heartbeat(now.wall).as_bytes()),
        }
        stream.extra().put(frame);
        self.serve(index, now);
    }

    /// A comment needs no memory, unless the socket accepts only a part of it.
    fn beat_with_comment(&mut self, index: u32, now: Now) {
        let stream = &mut self.streams[index as usize];
        let comment = stream.comment();
        let wrote = write_once(&mut stream.socket, comment);
        if let Wrote::Some(n @ 1..) = wrote {
            let extra = stream.extra();
            (extra.pending, extra.pending_sent) = (Pending::Own(comment[n..].to_vec()), 0);
        }
        stream.note_write(wrote, wrapping_ms(now.mono), &mut self.stats.bytes);
        self.after_write(index);
    }

    fn let_idle_projects_go(&mut self, now: Now) {
        let gone = self.watched.let_idle_go(self.settings.linger, now.mono);
        self.effects.extend(gone.into_iter().map(Effect::Unwatch));
    }

    /// Holds those to their share whose share has become smaller since they were last written to.
    fn trim_backlogs(&mut self) {
        let share = self.backlog_share();
        self.watched.trim(share);
    }
}
