//! Sockets that listen.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpListener;
use socket2::{Socket, TcpKeepalive};

use super::error::{StartError, failed};
use crate::api::Door;
use crate::config::{Config, ListenAddress};

/// The kernel's buffer for what a socket has not taken. Modest, so that a slow reader's backlog is ours to bound.
const SEND_BUFFER_BYTES: usize = 128 * 1024;

/// How long a peer may leave what was sent unacknowledged before its connection counts as broken.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection without traffic is probed after this long.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A probe that was not answered is followed by the next one after this long, and by that the peer counts as gone: the
/// user timeout has passed then.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Each listener with what it is for.
pub(super) type Listeners = Vec<(TcpListener, Door)>;

/// The listeners, and the addresses of those for everything.
pub(super) fn bind_all(config: &Config) -> Result<(Listeners, Vec<SocketAddr>), StartError> {
    let mut listeners = Listeners::new();
    let mut addresses = Vec::new();
    for address in resolve(&config.listen)? {
        let listener = bind(address)?;
        addresses.push(listener.local_addr().map_err(|error| failed("listen", &error))?);
        listeners.push((listener, Door::Main));
    }
    if let Some(listen) = &config.metrics.listen {
        for address in resolve(listen)? {
            listeners.push((bind(address)?, Door::Metrics));
        }
    }
    Ok((listeners, addresses))
}

fn resolve(listen: &ListenAddress) -> Result<Vec<SocketAddr>, StartError> {
    listen.resolve().map_err(|error| failed(&format!("resolve {listen}"), &error))
}

fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    /// Connections that may wait to be accepted: a reconnect of ten thousand watchers must fit.
    const WAITING_MAX: i32 = 16 * 1024;
    let bound = || {
        let domain = socket2::Domain::for_address(address);
        let socket = Socket::new(domain, socket2::Type::STREAM, None)?;
        if address.is_ipv6() {
            socket.set_only_v6(address.ip().is_loopback())?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        // Before anyone can connect.
        prepare(&socket);
        socket.bind(&address.into())?;
        socket.listen(WAITING_MAX)?;
        Ok(TcpListener::from_std(socket.into()))
    };
    bound().map_err(|error: io::Error| failed(&format!("listen on {address}"), &error))
}

/// Sets what the connections of a listener are to be like: they inherit it, which saves five system calls for each.
fn prepare(listener: &Socket) {
    // Each of these makes a connection better, and none is needed for it to work.
    let _ = listener.set_tcp_nodelay(true);
    let _ = listener.set_send_buffer_size(SEND_BUFFER_BYTES);
    let _ = listener.set_tcp_user_timeout(Some(USER_TIMEOUT));
    let _ = listener.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE_INTERVAL));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_inherit_what_their_listener_was_set_to() {
        let listener = bind("127.0.0.1:0".parse().expect("an address")).expect("a listener");
        let address = listener.local_addr().expect("an address");
        socket2::SockRef::from(&listener).set_nonblocking(false).expect("a listener that waits");
        let _client = std::net::TcpStream::connect(address).expect("a connection");
        let (socket, _) = listener.accept().expect("a connection");
        let reference = socket2::SockRef::from(&socket);
        assert!(reference.tcp_nodelay().expect("an option") && reference.keepalive().expect("an option"));
        assert_eq!(reference.tcp_keepalive_time().expect("an option"), KEEPALIVE);
        assert_eq!(reference.tcp_keepalive_interval().expect("an option"), KEEPALIVE_INTERVAL);
        assert_eq!(reference.tcp_user_timeout().expect("an option"), Some(USER_TIMEOUT));
        // Linux gives twice what was asked for, for its own needs.
        assert_eq!(reference.send_buffer_size().expect("an option"), 2 * SEND_BUFFER_BYTES);
    }
}
