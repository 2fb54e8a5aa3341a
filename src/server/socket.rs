//! The sockets that the server works with, and their implementation for the event loop.

use std::io::{self, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;
use rustix::net::{RecvFlags, SendFlags, recv, send};

/// A socket as the server needs it: the loop's, or a test's fake.
pub trait Socket: Read + Write {
    /// Says that nothing more will be written. A socket that is gone already may ignore it.
    fn finish(&mut self);
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
