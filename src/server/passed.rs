//! Connections that are passed to another process: their descriptors, and input that was read but not answered.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use mio::net::TcpStream;
use rustix::net::AddressFamily;
use rustix::net::sockopt::socket_domain;

use crate::api::Door;

/// A connection all of whose requests have been answered.
#[derive(Debug)]
pub(crate) struct PassedConnection {
    socket: OwnedFd,
    door: Door,
    input: Vec<u8>,
}

impl PassedConnection {
    /// Creates one that came in by `door`. `input` was read of its next request.
    pub(crate) fn new(socket: OwnedFd, door: Door, input: Vec<u8>) -> Self {
        Self { socket, door, input }
    }

    pub(crate) fn door(&self) -> Door {
        self.door
    }

    /// The input that was read and not answered.
    pub(crate) fn input(&self) -> &[u8] {
        &self.input
    }

    /// Adds input that was read.
    pub(crate) fn extend(&mut self, input: &[u8]) {
        self.input.extend_from_slice(input);
    }

    /// The socket, the address of its client, and the input that was read. `None` if the client is gone.
    pub(super) fn into_parts(self) -> Option<(TcpStream, IpAddr, Vec<u8>)> {
        let is_unix = socket_domain(&self.socket).is_ok_and(|domain| domain == AddressFamily::UNIX);
        let socket = TcpStream::from_std(self.socket.into());
        let peer = match is_unix {
            // A client of a Unix socket has no IP address, and is on this machine.
            true => IpAddr::V4(Ipv4Addr::LOCALHOST),
            false => socket.peer_addr().ok()?.ip(),
        };
        Some((socket, peer, self.input))
    }
}

impl AsFd for PassedConnection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_client_that_was_gone_counted_as_one_on_this_machine() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let never_connected = rustix::net::socket(AddressFamily::INET, rustix::net::SocketType::STREAM, None);
        let passed = |socket: OwnedFd| PassedConnection::new(socket, Door::Main, Vec::new()).into_parts();
        assert!(passed(never_connected.expect("a socket")).is_none());
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        assert!(passed(client.into()).is_some_and(|(_, peer, _)| peer.is_loopback()));
        let (unix, _other) = UnixStream::pair().expect("sockets");
        assert!(passed(unix.into()).is_some_and(|(_, peer, _)| peer.is_loopback()));
    }
}
