//! Accounts for the memory of all buffered requests and responses, and decides which connections are closed if it is
//! too much.
//!
//! Each connection may hold a request of `limits.body_bytes` and an answer of any size, so a few thousand of them could
//! exhaust the memory of the machine. Small buffers are not counted: the number of connections limits them. Clients
//! with many connections are closed before those with few: connections from one address count together.

use std::collections::{BinaryHeap, HashMap};
use std::net::IpAddr;

use super::Connections;
use super::connection::State;
use crate::http::Problem;
use crate::server::socket::Socket;
use crate::server::sockets::PollToken;

/// The connections of one address, or one without an address. The order is by the bytes that they hold.
#[derive(Default, PartialEq, Eq, PartialOrd, Ord)]
struct Client {
    weight: usize,
    /// The buffered bytes and index of each connection, the largest last.
    connections: Vec<(usize, usize)>,
}

impl<S: Socket> Connections<S> {
    /// The bytes that all connections buffer, beyond the free allowance of each.
    pub(in crate::server) fn held(&self) -> usize {
        self.weight
    }

    /// Updates the total by what a connection holds now.
    pub(super) fn weigh(&mut self, index: usize) {
        let Some(connection) = self.slab.get_mut(index) else { return };
        let before = connection.weight;
        connection.weigh();
        self.weight = self.weight - before + connection.weight;
    }

    /// Whether all connections together hold too much.
    pub(super) fn holds_too_much(&self) -> bool {
        self.weight > self.buffer_bytes_max
    }

    /// If the connections hold too much, returns those to close until a quarter of the memory would be free, so that
    /// this does not happen again at once. Takes the largest connection of the address that holds most, repeatedly.
    /// `address` returns the address of a connection; one without an address counts by itself. Each connection is to be
    /// ended and [lightened](Self::lighten).
    pub(in crate::server) fn overweight(&self, address: impl Fn(PollToken) -> Option<IpAddr>) -> Vec<usize> {
        if !self.holds_too_much() {
            return Vec::new();
        }
        let mut clients: BinaryHeap<Client> = self.clients(address).into_iter().collect();
        let (mut left, enough) = (self.weight, self.buffer_bytes_max - self.buffer_bytes_max / 4);
        let mut heaviest = Vec::new();
        while left > enough
            && let Some(mut client) = clients.pop()
        {
            let Some((weight, index)) = client.connections.pop() else { continue };
            (left, client.weight) = (left - weight, client.weight - weight);
            heaviest.push(index);
            clients.push(client);
        }
        heaviest
    }

    /// The connections that buffer anything, by client.
    fn clients(&self, address: impl Fn(PollToken) -> Option<IpAddr>) -> Vec<Client> {
        let (mut clients, mut places) = (Vec::<Client>::new(), HashMap::new());
        for (index, connection) in self.slab.iter().filter(|(_, connection)| connection.weight > 0) {
            let next = clients.len();
            let place = address(connection.token()).map_or(next, |address| *places.entry(address).or_insert(next));
            if place == next {
                clients.push(Client::default());
            }
            clients[place].weight += connection.weight;
            clients[place].connections.push((connection.weight, index));
        }
        clients.iter_mut().for_each(|client| client.connections.sort_unstable());
        clients
    }

    /// Whether a refusal may be sent: the connection reads a request that is incomplete, and no output is waiting. A
    /// client that does not take its responses would not take a refusal either.
    pub(in crate::server) fn takes_refusal(&self, index: usize) -> bool {
        let connection = &self.slab[index];
        matches!(connection.state, State::Reading) && !connection.has_output()
    }

    /// The error for a request for which there is no memory.
    pub(in crate::server) fn refusal_of_weight(&self) -> Problem {
        let room = self.buffer_bytes_max;
        let detail =
            format!("buffered requests and responses use too much memory (limit {room} bytes, limits.buffer_bytes)");
        Problem::unavailable("buffers_full", detail, 1)
    }

    /// Frees the buffers of an ended connection.
    pub(in crate::server) fn lighten(&mut self, index: usize) {
        self.slab[index].drop_buffers_of_the_doomed();
        self.weigh(index);
    }
}
