//! A listening socket: bound here, handed over by a service manager, or inherited from the process that this one
//! replaces.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;

use rustix::net::AddressFamily;
use rustix::net::sockopt::{socket_acceptconn, socket_domain};

use crate::api::Door;

/// A listening socket, and what it serves.
#[derive(Debug)]
pub struct Listener {
    socket: ListeningSocket,
    key: ListenKey,
    origin: Origin,
}

/// The setting that a listener stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ListenKey {
    /// `listen`
    Main,
    /// `tls.listen`
    Tls,
    /// `metrics.listen`
    Metrics,
}

#[derive(Debug)]
pub(super) enum ListeningSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Who has bound a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// This program or its predecessor, according to the configuration.
    Configured,
    /// Someone else. The socket is used whatever the configuration says.
    Given,
}

impl From<TcpListener> for Listener {
    fn from(socket: TcpListener) -> Self {
        Self { socket: ListeningSocket::Tcp(socket), key: ListenKey::Main, origin: Origin::Given }
    }
}

impl From<UnixListener> for Listener {
    fn from(socket: UnixListener) -> Self {
        Self { socket: ListeningSocket::Unix(socket), key: ListenKey::Main, origin: Origin::Given }
    }
}

impl Listener {
    /// Makes it a listener only for metrics and health checks, in place of `metrics.listen`.
    #[must_use]
    pub fn for_metrics(self) -> Self {
        Self { key: ListenKey::Metrics, ..self }
    }

    /// Makes it a listener for TLS, in place of `tls.listen`.
    #[must_use]
    pub fn for_tls(self) -> Self {
        Self { key: ListenKey::Tls, ..self }
    }

    /// Its address, if it is a TCP socket.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.socket {
            ListeningSocket::Tcp(socket) => socket.local_addr().ok(),
            ListeningSocket::Unix(_) => None,
        }
    }

    /// Another descriptor of the same socket.
    ///
    /// # Errors
    /// If the process may open no more descriptors.
    pub fn try_clone(&self) -> io::Result<Self> {
        let socket = match &self.socket {
            ListeningSocket::Tcp(socket) => ListeningSocket::Tcp(socket.try_clone()?),
            ListeningSocket::Unix(socket) => ListeningSocket::Unix(socket.try_clone()?),
        };
        Ok(Self { socket, ..*self })
    }

    /// Makes a listener of a descriptor that another process has sent.
    ///
    /// # Errors
    /// If it is not a TCP or Unix socket, or does not listen.
    pub(crate) fn received(socket: OwnedFd, key: ListenKey, origin: Origin) -> io::Result<Self> {
        if !socket_acceptconn(&socket)? {
            return Err(io::Error::other("the socket is not listening"));
        }
        let socket = match socket_domain(&socket)? {
            AddressFamily::INET | AddressFamily::INET6 => ListeningSocket::Tcp(socket.into()),
            AddressFamily::UNIX => ListeningSocket::Unix(socket.into()),
            other => {
                return Err(io::Error::other(format!(
                    "the socket has the unsupported address family {}",
                    other.as_raw()
                )));
            }
        };
        Ok(Self { socket, key, origin })
    }

    /// A listener that was bound according to the configuration.
    pub(super) fn configured(socket: TcpListener, key: ListenKey) -> Self {
        Self { socket: ListeningSocket::Tcp(socket), key, origin: Origin::Configured }
    }

    pub(crate) fn key(&self) -> ListenKey {
        self.key
    }

    /// What its connections are for.
    pub(super) fn door(&self) -> Door {
        if self.key == ListenKey::Metrics { Door::Metrics } else { Door::Main }
    }

    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }

    pub(super) fn socket(&self) -> &ListeningSocket {
        &self.socket
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            ListeningSocket::Tcp(socket) => socket.as_fd(),
            ListeningSocket::Unix(socket) => socket.as_fd(),
        }
    }
}

/// `127.0.0.1:8080`, `unix:/run/stepcast.sock`
impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.socket {
            ListeningSocket::Tcp(socket) => match socket.local_addr() {
                Ok(address) => write!(f, "{address}"),
                Err(error) => write!(f, "({error})"),
            },
            ListeningSocket::Unix(socket) => {
                let address = socket.local_addr().ok();
                let path = address.as_ref().and_then(|address| address.as_pathname());
                match path {
                    Some(path) => write!(f, "unix:{}", path.display()),
                    None => f.write_str("unix:(no path)"),
                }
            }
        }
    }
}
