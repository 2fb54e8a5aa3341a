//! The TLS handshake of the client.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Socket;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;

use super::der;
use super::trust::{Trust, Verifier};

/// The ALPN protocol for a direct TLS connection.
const PROTOCOL: &[u8] = b"postgresql";

/// Makes TLS of sockets.
#[derive(Clone)]
pub(in crate::log::postgres) struct Tls {
    config: Arc<ClientConfig>,
    /// The trusted roots, for errors.
    believed: Arc<str>,
}

/// Why a handshake came to nothing, in a sentence.
#[derive(Debug)]
pub(in crate::log::postgres) struct TlsError(String);

impl Tls {
    /// A connector with this trust. `is_direct`: TLS from the first byte on.
    pub(in crate::log::postgres) fn new(trust: Trust, is_direct: bool) -> Result<Self, TlsError> {
        let believed = match &trust {
            Trust::Anyone => "anyone".to_owned(),
            Trust::SignedBy(roots) | Trust::Named(roots) => roots.to_string(),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Verifier { trust, algorithms: provider.signature_verification_algorithms };
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| TlsError(error.to_string()))?.dangerous();
        let mut config = builder.with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
        // An engine has none.
        config.resumption = Resumption::disabled();
        if is_direct {
            config.alpn_protocols = vec![PROTOCOL.to_vec()];
        }
        Ok(Self { config: Arc::new(config), believed: believed.into() })
    }
}

impl MakeTlsConnect<Socket> for Tls {
    type Stream = Secured;
    type TlsConnect = Handshake;
    type Error = TlsError;

    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, TlsError> {
        Ok(Handshake { tls: self.clone(), host: host.to_owned() })
    }
}

/// The handshake with one server.
pub(in crate::log::postgres) struct Handshake {
    tls: Tls,
    host: String,
}

impl Handshake {
    async fn shake(self, socket: Socket) -> Result<Secured, TlsError> {
        let Self { tls: Tls { config, believed }, host } = self;
        let name =
            ServerName::try_from(host.clone()).map_err(|_| TlsError(format!("{host:?} is not a valid host name")))?;
        let connected = TlsConnector::from(config).connect(name, socket).await;
        connected.map(|stream| Secured(Box::new(stream))).map_err(|error| TlsError(in_words(&error, &host, &believed)))
    }
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Secured;
    type Error = TlsError;
    type Future = Pin<Box<dyn Future<Output = Result<Secured, TlsError>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(self.shake(socket))
    }
}

/// Describes what is wrong with a server's certificate; else the message of the library.
fn in_words(error: &io::Error, host: &str, believed: &str) -> String {
    let why = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    match why {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            format!("the server's certificate is not signed by any authority of {believed} (sslrootcert)")
        }
        Some(rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => {
            format!(
                "the server's certificate is not valid for {host}: its subjectAltName lists other names (sslmode=verify-full)"
            )
        }
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(why))) => {
            format!("the server's certificate was rejected ({why}); add a self-signed certificate to sslrootcert")
        }
        _ => error.to_string(),
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TlsError {}

/// A socket with TLS.
pub(in crate::log::postgres) struct Secured(Box<tokio_rustls::client::TlsStream<Socket>>);

impl TlsStream for Secured {
    /// So that nobody in between can hand a password on.
    fn channel_binding(&self) -> ChannelBinding {
        let (_, session) = self.0.get_ref();
        let certificate = session.peer_certificates().and_then(|chain| chain.first());
        let end_point = certificate.and_then(|certificate| der::end_point(certificate));
        end_point.map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

impl AsyncRead for Secured {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buf)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
