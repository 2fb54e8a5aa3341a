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

/// A socket as the server needs it: the loop's, or a test's fake.
pub trait Socket: Read + Write {
    /// Says that nothing more will be written. A socket that is gone already may ignore it.
    fn finish(&mut self);

    /// Bytes that it holds of what was read or written.
    fn held(&self) -> usize {
        0
    }

    /// What reading has cost since this was asked last, beyond what was read, as if it were so many bytes.
    fn take_toll(&mut self) -> usize {
        0
    }
}

/// A client's socket.
pub(super) enum ClientSocket {
    /// As it is.
    Plain(TcpSocket),
    /// With TLS, which weighs too much to be in the same place.
    #[cfg(feature = "tls")]
    Tls(Elsewhere<TlsSocket<TcpSocket>>),
}

/// A box that lies on any multiple of four bytes: so a plain socket beside it takes twelve, and not sixteen. There may be
/// many thousands.
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
    /// One that speaks TLS where that is given. Nothing, where there can be none.
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

    /// What another process can go on with: nothing where TLS is spoken.
    pub(super) fn into_plain(self) -> Option<TcpStream> {
        match self {
            Self::Plain(socket) => Some(socket.0),
            #[cfg(feature = "tls")]
            Self::Tls(_) => None,
        }
    }

    /// What the poll watches.
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

/// A TCP socket that is read and written by the bare system calls: the C library's are cancellation points, for which a
/// program of several threads pays with two atomic exchanges a call, some 2 % of what a delivery costs.
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
        // Fails where the other side is gone already, and then there is nobody to tell.
        let _ = self.0.shutdown(Shutdown::Write);
    }
}
