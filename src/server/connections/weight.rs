//! What connections hold of requests and answers, all together, and who is let go where that is too much.
//!
//! Each may hold a request of `limits.body_bytes` and an answer of any size, so that a few thousand of them could hold
//! more than the machine has. What is small is not counted: it is bounded by the number of connections.

use super::Connections;
use super::connection::State;
use crate::http::Problem;
use crate::server::socket::Socket;

impl<S: Socket> Connections<S> {
    /// What they hold in all, but for what each of them may keep.
    pub(in crate::server) fn held(&self) -> usize {
        self.weight
    }

    /// Takes note of what a connection holds now.
    pub(super) fn weigh(&mut self, index: usize) {
        let Some(connection) = self.slab.get_mut(index) else { return };
        let before = connection.weight;
        connection.weigh();
        self.weight = self.weight - before + connection.weight;
    }

    /// Do they hold more than they may?
    pub(super) fn holds_too_much(&self) -> bool {
        self.weight > self.buffer_bytes_max
    }

    /// Where they hold too much, those that hold most, until a quarter of the room would be free without them: so the next
    /// ones do not lead here at once. Each is to be ended, and [let go of](Self::lighten).
    pub(in crate::server) fn overweight(&self) -> Vec<usize> {
        if !self.holds_too_much() {
            return Vec::new();
        }
        let weights = self.slab.iter().map(|(index, connection)| (connection.weight, index));
        let mut heavy: Vec<(usize, usize)> = weights.filter(|(weight, _)| *weight > 0).collect();
        heavy.sort_unstable_by(|one, other| other.cmp(one));
        let (mut left, enough) = (self.weight, self.buffer_bytes_max - self.buffer_bytes_max / 4);
        let is_too_much = |(weight, _): &(usize, usize)| {
            let is_too_much = left > enough;
            left -= weight;
            is_too_much
        };
        heavy.into_iter().take_while(is_too_much).map(|(_, index)| index).collect()
    }

    /// Would it take a refusal? It reads a request that has not come whole, and is owed nothing. Whoever does not take its
    /// answers would not take that one either.
    pub(in crate::server) fn takes_refusal(&self, index: usize) -> bool {
        let connection = &self.slab[index];
        matches!(connection.state, State::Reading) && !connection.has_output()
    }

    /// Why a request is refused that there is no memory for.
    pub(in crate::server) fn refusal_of_weight(&self) -> Problem {
        let room = self.buffer_bytes_max;
        let detail = format!("requests and answers take too much memory (limit {room} bytes, limits.buffer_bytes)");
        Problem::unavailable("buffers_full", detail, 1)
    }

    /// Takes what it holds from whoever has ended.
    pub(in crate::server) fn lighten(&mut self, index: usize) {
        self.slab[index].drop_buffers_of_the_doomed();
        self.weigh(index);
    }
}
