//! Connections that are passed to another process: their descriptors, and input that was read but not answered.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use mio::net::TcpStream;

use crate::api::Door;

/// A connection of which every request that was taken is answered.
#[derive(Debug)]
pub(crate) struct PassedConnection {
    socket: OwnedFd,
    door: Door,
    input: Vec<u8>,
}

impl PassedConnection {
    /// One that came in by `door`, of whose next request `input` has been read.
    pub(crate) fn new(socket: OwnedFd, door: Door, input: Vec<u8>) -> Self {
        Self { socket, door, input }
    }

    pub(crate) fn door(&self) -> Door {
        self.door
    }

    /// What was read of it and not answered.
    pub(crate) fn input(&self) -> &[u8] {
        &self.input
    }

    /// More of what was read of it.
    pub(crate) fn extend(&mut self, input: &[u8]) {
        self.input.extend_from_slice(input);
    }

    /// The socket, where its client is, and what was read of it.
    pub(super) fn into_parts(self) -> (TcpStream, IpAddr, Vec<u8>) {
        let socket = TcpStream::from_std(self.socket.into());
        // Whoever comes by a Unix socket has no such address, and is on this machine.
        let peer = socket.peer_addr().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip());
        (socket, peer, self.input)
    }
}

impl AsFd for PassedConnection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
