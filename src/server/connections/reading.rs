//! Reads from clients in bounded pieces, and turns the bytes into requests, one after the other.

use super::connection::{Got, State};
use super::{Connections, Input, WORK_PER_REQUEST, WORK_PER_TURN};
use crate::http::Verdict;
use crate::model::Now;
use crate::server::socket::Socket;

impl<S: Socket> Connections<S> {
    /// Reads what has arrived. Returns `true` if there is something to decode. `to_the_end`: the peer has closed, which
    /// only a further read shows. All connections read into `scratch` first.
    pub(in crate::server) fn read(&mut self, index: usize, scratch: &mut [u8], to_the_end: bool) -> bool {
        if self.is_deaf {
            return false;
        }
        if self.work >= WORK_PER_TURN || self.holds_too_much() {
            // It is read in the next turn, after the streams, and after the largest connections were closed.
            self.read_later(index);
            return false;
        }
        let Some(connection) = self.slab.get_mut(index) else { return false };
        let (got, bytes) = connection.read(scratch, &self.http, to_the_end);
        self.work += bytes + connection.socket.take_toll();
        match got {
            Got::Gone => {
                self.doom(index);
                return false;
            }
            Got::More if connection.wants_request() || matches!(connection.state, State::Closing) => {
                self.read_later(index);
            }
            Got::More | Got::All => {}
        }
        true
    }

    /// Queues a connection to be read at the end of the turn, whatever the poll reports. Repeated calls have no effect.
    pub(in crate::server) fn read_later(&mut self, index: usize) {
        if let Some(connection) = self.slab.get_mut(index)
            && !std::mem::replace(&mut connection.is_listed, true)
        {
            self.unread.push(index);
        }
    }

    /// Reads what the client has sent while its request waited.
    pub(in crate::server) fn read_rest(&mut self, index: usize) {
        if self.slab.get(index).is_some_and(|connection| connection.has_unread) {
            self.read_later(index);
        }
    }

    /// Connections to read at the end of the turn, so that small requests do not wait for large ones.
    pub(in crate::server) fn take_unread(&mut self) -> Vec<usize> {
        let mut unread = std::mem::take(&mut self.unread);
        unread.sort_by_key(|&index| self.slab.get(index).map_or(0, |connection| connection.weight));
        unread.retain(|&index| match self.slab.get_mut(index) {
            Some(connection) => std::mem::take(&mut connection.is_listed),
            None => false,
        });
        unread
    }

    /// Takes the input, if the request at its front may be decoded. It must be [given back](Self::give_back).
    pub(in crate::server) fn take_input(&mut self, index: usize) -> Option<Input> {
        let connection = self.slab.get_mut(index).filter(|_| !self.is_deaf)?;
        connection.wants_request().then(|| connection.take_input())
    }

    /// Takes the input of a request that is no longer awaited.
    pub(in crate::server) fn give_up_input(&mut self, index: usize) -> Input {
        self.slab[index].take_input()
    }

    /// Gives the input back, without the `consumed` bytes of a request that was served.
    pub(in crate::server) fn give_back(&mut self, index: usize, input: Input, consumed: usize) {
        if let Some(connection) = self.slab.get_mut(index) {
            connection.give_back(input, consumed);
        }
    }

    /// Decodes the request at the front of the input.
    #[inline]
    pub(in crate::server) fn decode<'i>(&mut self, index: usize, input: &'i Input, now: Now) -> Verdict<'i> {
        self.slab[index].decode(input, &self.http, &self.timeouts, now.mono)
    }

    /// The request at the front of the input will be decoded again, and is counted then.
    pub(in crate::server) fn uncount(&mut self, index: usize) {
        let connection = &mut self.slab[index];
        connection.requests = connection.requests.saturating_sub(1);
    }

    /// Charges the work of `requests` requests, before which `waited` bytes of responses were queued.
    pub(in crate::server) fn charge(&mut self, index: usize, requests: usize, waited: usize) {
        self.work += requests * WORK_PER_REQUEST + self.output_bytes(index).saturating_sub(waited);
    }
}
