//! Requests whose tokens name an unknown key: they wait until keys have been fetched, and are then handled as if they
//! had just arrived.

use super::Server;
use crate::http::{Problem, Response};
use crate::model::{Now, SlabKey};
use crate::server::exchange::Exchange;
use crate::server::jwks::KeyNews;
use crate::server::socket::Socket;
use crate::server::waiting::{Waiting, What};

impl<S: Socket> Server<S> {
    /// Makes a request wait for keys, or answers `problem` if none are being fetched. Returns `true` if it waits: then
    /// it stays in the input.
    pub(super) fn await_keys(&mut self, exchange: Exchange, problem: Problem, now: Now) -> bool {
        if !self.key_wait.admits(now.mono) {
            self.answer(exchange, Response::from(problem), now);
            return false;
        }
        self.connections.uncount(exchange.index);
        let to = self.connections.wait(Waiting { what: What::Keys, exchange, metered: None });
        self.key_wait.add(to);
        true
    }

    /// Handles the end of a fetch of keys, whether it has succeeded or failed.
    pub(super) fn receive_keys(&mut self, news: KeyNews) {
        self.metrics.key_fetches[usize::from(news.keys.is_err())] += 1;
        self.api.receive_keys(news.keys);
        let waited = self.key_wait.answered(news.answers);
        self.look_again(waited);
    }

    /// Lets requests that have waited too long for keys continue.
    pub(super) fn end_key_wait(&mut self, now: Now) {
        let waited = self.key_wait.take_overdue(now.mono);
        self.look_again(waited);
    }

    fn look_again(&mut self, waited: Vec<SlabKey>) {
        for to in waited {
            if let Some(waiting) = self.connections.take_waiting(to) {
                self.connections.read_later(waiting.exchange.index);
            }
        }
    }
}
