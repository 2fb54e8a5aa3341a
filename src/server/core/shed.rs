//! What connections hold of requests and answers, all together, and who is let go where that is too much.
//!
//! Each may hold a request of `limits.body_bytes` and an answer of any size, so that a few thousand of them could hold
//! more than the machine has. What is small is not counted: it is bounded by the number of connections.

use super::Server;
use crate::http::Problem;
use crate::model::Now;
use crate::server::connection::State;
use crate::server::refused::Limit;
use crate::server::socket::Socket;

impl<S: Socket> Server<S> {
    /// Takes note of what a connection holds now.
    pub(super) fn weigh(&mut self, index: usize) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        let before = connection.weight;
        connection.weigh();
        self.held = self.held - before + connection.weight;
    }

    /// Do connections hold more than they may, all together?
    pub(super) fn holds_too_much(&self) -> bool {
        self.held > self.settings.limits.buffer_bytes
    }

    /// Lets those go that hold most, until a quarter of the room is free again: so the next ones do not lead here at once.
    pub(super) fn shed(&mut self, now: Now) {
        if !self.holds_too_much() {
            return;
        }
        let weights = self.connections.iter().map(|(index, connection)| (connection.weight, index));
        let mut heavy: Vec<(usize, usize)> = weights.filter(|(weight, _)| *weight > 0).collect();
        heavy.sort_unstable_by(|one, other| other.cmp(one));
        let room = self.settings.limits.buffer_bytes;
        for (_, index) in heavy {
            if self.held <= room - room / 4 {
                return;
            }
            self.metrics.refused.count(Limit::BufferBytes);
            self.let_go(index, now);
        }
    }

    /// A request that has not come whole is refused; whoever does not take its answers would not take that one either.
    fn let_go(&mut self, index: usize, now: Now) {
        let connection = &self.connections[index];
        if matches!(connection.state, State::Reading) && !connection.has_output() {
            let room = self.settings.limits.buffer_bytes;
            let problem = Problem::unavailable(
                "buffers_full",
                format!("requests and answers take too much memory (limit {room} bytes, limits.buffer_bytes)"),
                1,
            );
            self.reject(index, problem, &[], now);
            self.flush_connection(index, now);
        } else {
            self.doom(index);
        }
        self.connections[index].drop_buffers_of_the_doomed();
        self.weigh(index);
    }
}
