//! What a subscriber reads and writes: a socket as it is, or TLS over one.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::failure::Outcome;

/// The name that a certificate is made for.
pub const NAME: &str = "localhost";

/// See the top of this file.
#[derive(Debug)]
pub enum Wire {
    /// As it is.
    Plain(TcpStream),
    /// With TLS.
    Tls(Box<Tls>),
}

/// TLS over a socket.
#[derive(Debug)]
pub struct Tls {
    socket: TcpStream,
    session: ClientConnection,
}

/// What trusts `certificate` alone.
///
/// # Errors
/// Where it is none.
pub fn trusting(certificate: &CertificateDer<'static>) -> Outcome<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

impl Wire {
    /// Over `socket`, with TLS where that is given.
    ///
    /// # Errors
    /// Where TLS can't be begun.
    pub fn over(socket: TcpStream, tls: Option<&Arc<ClientConfig>>) -> Outcome<Self> {
        let Some(config) = tls else { return Ok(Self::Plain(socket)) };
        let session = ClientConnection::new(config.clone(), NAME.try_into()?)?;
        Ok(Self::Tls(Box::new(Tls { socket, session })))
    }
}

impl Tls {
    fn write_out(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock || error.kind() == ErrorKind::NotConnected => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Read for Wire {
    /// A read that gives less than there is room for has taken all there was.
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let tls = match self {
            Self::Plain(socket) => return socket.read(to),
            Self::Tls(tls) => tls,
        };
        let mut given = 0;
        while given < to.len() {
            match tls.session.reader().read(&mut to[given..]) {
                Ok(0) => return Ok(given),
                Ok(n) => {
                    given += n;
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            match tls.session.read_tls(&mut tls.socket) {
                Ok(0) => return Ok(given),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && given > 0 => return Ok(given),
                Err(error) => return Err(error),
            }
            tls.session.process_new_packets().map_err(io::Error::other)?;
            tls.write_out()?;
        }
        Ok(given)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(tls) => {
                let n = tls.session.writer().write(bytes)?;
                tls.write_out()?;
                Ok(n)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
