//! TLS for clients: connections to a TLS listener are wrapped into a [`TlsSocket`](socket::TlsSocket), which the server
//! reads and writes like any other socket.
//!
//! The certificate and key are read at the start and at each [`reload`](Tls::reload). A connection keeps those that it
//! began with. Without the feature `tls`, no value of the type [`Tls`] exists.

#[cfg(not(feature = "tls"))]
mod absent;
#[cfg(feature = "tls")]
mod certificate;
mod counts;
#[cfg(feature = "tls")]
mod session;
#[cfg(feature = "tls")]
mod socket;
#[cfg(all(test, feature = "tls"))]
mod tests;

#[cfg(not(feature = "tls"))]
pub use self::absent::Tls;
pub(super) use self::counts::TlsCounts;
#[cfg(feature = "tls")]
pub(super) use self::socket::TlsSocket;
#[cfg(feature = "tls")]
pub use self::with_feature::Tls;

#[cfg(feature = "tls")]
mod with_feature {
    use std::path::PathBuf;
    use std::sync::{Arc, Mutex, PoisonError};

    use rustls::ServerConfig;
    use rustls::server::{ProducesTickets, UnbufferedServerConnection};

    use super::TlsCounts;
    use super::certificate::{new_tickets, read_certificate};
    use super::session::Session;
    use super::socket::{Scratch, TlsSocket};
    use crate::config::TlsConfig;
    use crate::server::error::StartError;
    use crate::server::socket::Socket;

    /// The server's certificate and key, and what all TLS connections share. Clones are of the same one.
    #[derive(Clone)]
    pub struct Tls(Arc<Shared>);

    struct Shared {
        cert: PathBuf,
        key: PathBuf,
        tickets: Arc<dyn ProducesTickets>,
        /// The configuration of new connections.
        config: Mutex<Arc<ServerConfig>>,
        scratch: Arc<Mutex<Scratch>>,
        counts: Arc<TlsCounts>,
    }

    impl Tls {
        /// Reads the certificate and key, if they are configured.
        pub(in crate::server) fn of(config: &TlsConfig) -> Result<Option<Self>, StartError> {
            if let Some(issue) = config.wrong().into_iter().next() {
                return Err(StartError(issue));
            }
            let Some((cert, key)) = config.cert.clone().zip(config.key.clone()) else { return Ok(None) };
            let tickets = new_tickets().map_err(StartError)?;
            let config = read_certificate(&cert, &key, tickets.clone()).map_err(StartError)?;
            let (scratch, counts) = (Arc::default(), Arc::default());
            Ok(Some(Self(Arc::new(Shared { cert, key, tickets, config: Mutex::new(config), scratch, counts }))))
        }

        /// Reads the certificate and key again. New connections use them; open connections keep theirs.
        ///
        /// # Errors
        /// The problem with the files. The previous certificate and key stay in use.
        pub fn reload(&self) -> Result<(), StartError> {
            let config = read_certificate(&self.0.cert, &self.0.key, self.0.tickets.clone()).map_err(StartError);
            self.0.counts.count_reload(config.is_ok());
            *self.0.config.lock().unwrap_or_else(PoisonError::into_inner) = config?;
            Ok(())
        }

        pub(in crate::server) fn counts(&self) -> Arc<TlsCounts> {
            Arc::clone(&self.0.counts)
        }

        /// Returns a socket that speaks TLS over `under`, or `None` if no session can be created.
        pub(in crate::server) fn over<T: Socket>(&self, under: T) -> Option<TlsSocket<T>> {
            let config = Arc::clone(&self.0.config.lock().unwrap_or_else(PoisonError::into_inner));
            let session = UnbufferedServerConnection::new(config).ok()?;
            Some(TlsSocket::new(under, Session::new(session), self.0.scratch.clone(), self.counts()))
        }
    }
}
