//! The sockets that the server works with, and their implementation for the event loop.

use std::io::{self, Read, Write};
use std::net::Shutdown;
#[cfg(feature = "tls")]
use std::ops::{Deref, DerefMut};

use mio::net::TcpStream;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::tls::Tls;
#[cfg(feature = "tls")]
use super::tls::TlsSocket;

/// A socket of the server: that of the loop, or a fake one in a test.
pub trait Socket: Read + Write {
    /// Notes that nothing more will be written. A socket that is already gone may ignore it.
    fn finish(&mut self);

    /// The bytes that it holds in buffers.
    fn held(&self) -> usize {
        0
    }

    /// The cost of reading since the last call, beyond the bytes read, in bytes.
    fn take_toll(&mut self) -> usize {
        0
    }
}

/// A client's socket.
pub(super) enum ClientSocket {
    /// A plain socket.
    Plain(TcpSocket),
    /// A TLS socket, boxed because it is much larger.
    #[cfg(feature = "tls")]
    Tls(Elsewhere<TlsSocket<TcpSocket>>),
}

/// A box that may lie on any multiple of four bytes: so the enum takes 12 bytes instead of 16. There may be many
/// thousands.
#[cfg(feature = "tls")]
#[repr(Rust, packed(4))]
pub(super) struct Elsewhere<T>(Box<T>);

#[cfg(feature = "tls")]
#[expect(clippy::explicit_auto_deref, reason = "a reference to the box itself can't be had")]
impl<T> Deref for Elsewhere<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &*self.0
    }
}

#[cfg(feature = "tls")]
#[expect(clippy::explicit_auto_deref, reason = "a reference to the box itself can't be had")]
impl<T> DerefMut for Elsewhere<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut *self.0
    }
}

impl ClientSocket {
    /// Creates a socket, which speaks TLS if `tls` is given. `None` if there can be no TLS session.
    pub(super) fn of(socket: TcpStream, tls: Option<&Tls>) -> Option<Self> {
        let socket = TcpSocket(socket);
        match tls {
            None => Some(Self::Plain(socket)),
            #[cfg(feature = "tls")]
            Some(tls) => tls.over(socket).map(|socket| Self::Tls(Elsewhere(Box::new(socket)))),
            #[cfg(not(feature = "tls"))]
            Some(tls) => match *tls {},
        }
    }

    /// The plain socket, which another process can continue. `None` for TLS.
    pub(super) fn into_plain(self) -> Option<TcpStream> {
        match self {
            Self::Plain(socket) => Some(socket.0),
            #[cfg(feature = "tls")]
            Self::Tls(_) => None,
        }
    }

    /// The socket to be polled.
    pub(super) fn watched(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(socket) => &mut socket.0,
            #[cfg(feature = "tls")]
            Self::Tls(socket) => &mut socket.below().0,
        }
    }
}

/// Does `$what` with the socket, whichever it is.
macro_rules! whichever {
    ($of:expr, $socket:ident => $what:expr) => {
        match $of {
            ClientSocket::Plain($socket) => $what,
            #[cfg(feature = "tls")]
            ClientSocket::Tls($socket) => $what,
        }
    };
}

impl Read for ClientSocket {
    #[inline]
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        whichever!(self, socket => socket.read(to))
    }
}

impl Write for ClientSocket {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        whichever!(self, socket => socket.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        whichever!(self, socket => socket.flush())
    }
}

impl Socket for ClientSocket {
    fn finish(&mut self) {
        whichever!(self, socket => socket.finish());
    }

    fn held(&self) -> usize {
        whichever!(self, socket => socket.held())
    }

    fn take_toll(&mut self) -> usize {
        whichever!(self, socket => socket.take_toll())
    }
}

/// A TCP socket that uses system calls directly. The C library's functions are cancellation points, for which a program
/// with several threads pays two atomic exchanges per call, about 2 % of the cost of a delivery.
#[derive(Debug)]
pub(super) struct TcpSocket(pub(super) TcpStream);

impl Read for TcpSocket {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let (_, n) = recv(&self.0, to, RecvFlags::empty())?;
        Ok(n)
    }
}

impl Write for TcpSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(&self.0, bytes, SendFlags::NOSIGNAL)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket for TcpSocket {
    fn finish(&mut self) {
        // Fails if the other side is already gone, and then nobody has to be told.
        let _ = self.0.shutdown(Shutdown::Write);
    }
}
