//! Writes to clients in bounded pieces: small responses at once, large bodies in turn with those of others.

use super::connection::State;
use super::deadlines::{LINGER, Overdue};
use super::sending::Flushed;
use super::{Connections, Exchange, WORK_PER_TURN};
use crate::api::Shown;
use crate::http::Response;
use crate::log::Answer;
use crate::model::{Now, SlabKey};
use crate::server::socket::Socket;

/// The most bytes of a large response that are written to one socket before the others, about 20 us of sending. With
/// fewer a download would be slower than its network; a socket's buffer takes about 2.5 MiB at once.
const BODY_BYTES_A_FLUSH_MAX: usize = 64 * 1024;

impl<S: Socket> Connections<S> {
    /// The bytes of responses that wait to be written to a connection.
    pub(in crate::server) fn output_bytes(&self, index: usize) -> usize {
        self.slab.get(index).map_or(0, |connection| connection.output_bytes())
    }

    /// Queues a response.
    pub(in crate::server) fn answer(&mut self, exchange: &Exchange, shown: Shown, date: &str) {
        self.slab[exchange.index].answer(shown, exchange.framing, date);
    }

    /// Queues a response that is already framed, and closes after it.
    pub(in crate::server) fn answer_framed(&mut self, exchange: &Exchange, answer: &[u8]) {
        let connection = &mut self.slab[exchange.index];
        connection.write_raw(answer);
        connection.state = State::Closing;
    }

    /// Queues the response to an invalid request, and closes.
    pub(in crate::server) fn reject(&mut self, index: usize, response: Response, date: &str) {
        self.slab[index].reject(response, date);
    }

    /// Writes the output of a connection as far as possible, and arranges what comes next.
    pub(in crate::server) fn flush(&mut self, index: usize, now: Now) {
        self.write(index, now);
        self.fetch_next(index);
        self.weigh(index);
    }

    fn write(&mut self, index: usize, now: Now) {
        let Some(connection) = self.slab.get_mut(index) else { return };
        if let State::Doomed = connection.state {
            return;
        }
        let (could_read, waiting) = (connection.wants_request(), connection.output_bytes());
        let was_blocked = matches!(connection.deadline, Some((_, Overdue::Output)));
        let room = match self.contents.has_any(now.mono) {
            true => WORK_PER_TURN.saturating_sub(self.work).min(BODY_BYTES_A_FLUSH_MAX),
            false => 0,
        };
        let (flushed, body_bytes) = connection.flush(room);
        self.work += body_bytes;
        self.contents.spend(body_bytes, now.mono);
        let has_taken = body_bytes > 0 || connection.output_bytes() < waiting;
        match flushed {
            Flushed::Gone => return self.doom(index),
            Flushed::Full => {
                if !std::mem::replace(&mut connection.is_watched_for_room, true) {
                    self.blocked.push(connection.token());
                }
                // Only output that the client takes extends its time, not output that is added.
                if !was_blocked || has_taken {
                    connection.deadline = Some((now.mono + self.timeouts.output, Overdue::Output));
                }
                return;
            }
            // Nothing was written, because others had this turn. So whether there is room is unknown.
            Flushed::More if !has_taken => return self.write_later(index),
            Flushed::More | Flushed::Awaits | Flushed::All => {}
        }
        if was_blocked {
            connection.deadline = None;
        }
        match flushed {
            Flushed::More => self.write_later(index),
            Flushed::Awaits => {}
            _ => self.has_written_all(index, was_blocked || !could_read, now),
        }
    }

    /// `was_held_up`: requests, and the deadline of the next one, were put off until here, and so was reading.
    fn has_written_all(&mut self, index: usize, was_held_up: bool, now: Now) {
        let connection = &mut self.slab[index];
        match connection.state {
            State::Closing if connection.is_half_closed => self.doom(index),
            State::Closing if connection.deadline.is_none() => {
                connection.socket.finish();
                connection.deadline = Some((now.mono + LINGER, Overdue::Leave));
                self.read_rest(index);
            }
            State::Reading if was_held_up => self.read_later(index),
            _ => {}
        }
    }

    /// Asks the log for the next piece of a body, if it is time for that.
    fn fetch_next(&mut self, index: usize) {
        let Some(connection) = self.slab.get_mut(index) else { return };
        if let State::Sending(sending) = &mut connection.state
            && let Some(rest) = sending.next_to_fetch()
        {
            self.fetches.push((SlabKey::new(index as u32, connection.generation), rest));
        }
    }

    /// The socket has room again: writes small output at once, and a body in turn with others.
    pub(in crate::server) fn writable(&mut self, index: usize, now: Now) {
        match self.slab.get(index).map(|connection| &connection.state) {
            Some(State::Sending(_)) => self.write_later(index),
            _ => self.flush(index, now),
        }
    }

    /// Queues a connection to be written at the end of the turn, whatever the poll reports. Repeated calls have no
    /// effect.
    fn write_later(&mut self, index: usize) {
        if let Some(connection) = self.slab.get_mut(index)
            && let State::Sending(sending) = &mut connection.state
            && !std::mem::replace(&mut sending.is_queued, true)
        {
            self.unwritten.push_back(index);
        }
    }

    /// Writes a piece of each body, as far as one turn has time for. The rest comes first in the next turn.
    pub(in crate::server) fn write_bodies(&mut self, now: Now) {
        for _ in 0..self.unwritten.len() {
            if self.work >= WORK_PER_TURN || !self.contents.has_any(now.mono) {
                return;
            }
            let Some(index) = self.unwritten.pop_front() else { return };
            if let Some(connection) = self.slab.get_mut(index)
                && let State::Sending(sending) = &mut connection.state
                && std::mem::take(&mut sending.is_queued)
            {
                self.flush(index, now);
            }
        }
    }

    /// Whether the connection waits for more of a body by this answer.
    pub(in crate::server) fn is_sending(&mut self, to: SlabKey) -> bool {
        self.asking(to).is_some_and(|connection| matches!(connection.state, State::Sending(_)))
    }

    /// Adds the next piece of a body. If it can't be read, the connection is closed: the length was promised, so only
    /// that can tell the client.
    pub(in crate::server) fn go_on(&mut self, to: SlabKey, answer: Answer) {
        let index = to.index();
        let State::Sending(sending) = &mut self.slab[index].state else { return };
        let goes_on = match answer {
            Answer::OutputRest { bytes, rest } => sending.go_on(bytes, rest),
            answer => {
                log::warn!("closing a connection because the rest of a step's output cannot be read: {answer:?}");
                false
            }
        };
        match goes_on {
            true => self.write_later(index),
            false => self.doom(index),
        }
    }
}
