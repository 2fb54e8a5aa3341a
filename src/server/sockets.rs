//! Sockets by their tokens in the poll: which part owns each one, and the permits held while it is open.

use std::net::IpAddr;

use slab::Slab;

use super::admission::{Counted, Permit};

/// The token of a socket in the poll. A socket keeps it when its connection becomes a stream, so that the poll need not
/// change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PollToken(pub usize);

/// The owner of a socket, by its index in the owner's slab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Connection(u32),
    Stream(u32),
}

/// All open sockets.
#[derive(Default)]
pub(super) struct Sockets {
    open: Slab<Open>,
}

struct Open {
    owner: Owner,
    /// Its permit: of an address, or of the reserve.
    counted: Option<Counted>,
    /// Its permit among the streams of its auth token.
    _stream: Option<Permit>,
}

impl Sockets {
    /// The token of the next socket.
    pub(super) fn next_token(&self) -> PollToken {
        PollToken(self.open.vacant_key())
    }

    /// Adds the socket of a connection, which gets the [next](Self::next_token) token.
    pub(super) fn add(&mut self, connection: usize, counted: Option<Counted>) {
        self.open.insert(Open { owner: Owner::Connection(connection as u32), counted, _stream: None });
    }

    pub(super) fn owner(&self, token: PollToken) -> Option<Owner> {
        self.open.get(token.0).map(|open| open.owner)
    }

    /// Replaces the permit of a socket, or removes it.
    pub(super) fn count_for(&mut self, token: PollToken, counted: Option<Counted>) {
        self.open[token.0].counted = counted;
    }

    /// The address for which the socket is counted, if any.
    pub(super) fn address(&self, token: PollToken) -> Option<IpAddr> {
        self.open.get(token.0)?.counted.as_ref()?.address()
    }

    /// Makes the socket that of a stream.
    pub(super) fn hand_to_stream(&mut self, token: PollToken, stream: usize, permit: Option<Permit>) {
        let open = &mut self.open[token.0];
        (open.owner, open._stream) = (Owner::Stream(stream as u32), permit);
    }

    /// Removes a closed socket, and returns its permits.
    pub(super) fn remove(&mut self, token: PollToken) {
        self.open.remove(token.0);
    }

    /// Releases memory if few of many sockets are left.
    pub(super) fn shrink(&mut self) {
        if self.open.len() < self.open.capacity() / 4 {
            self.open.shrink_to_fit();
        }
    }
}
