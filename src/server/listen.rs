//! Sockets that listen.

use std::io;
use std::net::SocketAddr;

use mio::net::TcpListener;

use super::error::{StartError, failed};
use crate::api::Door;
use crate::config::{Config, ListenAddress};

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
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        if address.is_ipv6() {
            socket.set_only_v6(address.ip().is_loopback())?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(WAITING_MAX)?;
        Ok(TcpListener::from_std(socket.into()))
    };
    bound().map_err(|error: io::Error| failed(&format!("listen on {address}"), &error))
}
