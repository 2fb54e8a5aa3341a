//! TLS for the doctor: which certificates it trusts, and whether a browser would get HTTP/2.

#[cfg(feature = "http-tool")]
pub(super) use self::with::Trust;
#[cfg(not(feature = "http-tool"))]
pub(super) use self::without::Trust;

#[cfg(feature = "http-tool")]
mod with {
    use std::fmt;
    use std::io;
    use std::net::TcpStream;
    use std::path::Path;
    use std::sync::Arc;

    use rustls::crypto::ring;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{CertificateError, ClientConfig, ClientConnection, Error, RootCertStore, StreamOwned};

    use crate::cli::doctor::PATIENCE;
    use crate::cli::doctor::wire::Wire;
    use crate::cli::follow::{ServerUrl, connect};

    /// The protocols that browsers offer by ALPN.
    const OF_BROWSERS: [&[u8]; 2] = [b"h2", b"http/1.1"];

    /// The trusted authorities: those of Mozilla's list, and one of the caller's.
    pub(in crate::cli::doctor) struct Trust(RootCertStore);

    impl Trust {
        pub(in crate::cli::doctor) fn new(authority: Option<&Path>) -> Result<Self, String> {
            let mut roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            if let Some(path) = authority {
                let wrong = |why: &dyn fmt::Display| format!("{}: {why}", path.display());
                let usual = roots.len();
                for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))? {
                    let certificate = certificate.map_err(|error| wrong(&error))?;
                    roots.add(certificate).map_err(|error| wrong(&error))?;
                }
                if roots.len() == usual {
                    return Err(wrong(&"the file has no certificate"));
                }
            }
            Ok(Self(roots))
        }

        /// Wraps the socket of a call. The doctor's own calls use HTTP/1.1.
        pub(in crate::cli::doctor) fn wrap(&self, server: &ServerUrl, socket: TcpStream) -> io::Result<Box<dyn Wire>> {
            let connection = self.connection(server, &[b"http/1.1"])?;
            Ok(Box::new(StreamOwned::new(connection, socket)))
        }

        /// Whether a browser would get HTTP/2.
        pub(in crate::cli::doctor) fn has_http2(&self, server: &ServerUrl) -> io::Result<bool> {
            let mut socket = connect(&server.host_and_port())?;
            socket.set_read_timeout(Some(PATIENCE))?;
            let mut connection = self.connection(server, &OF_BROWSERS)?;
            while connection.is_handshaking() {
                connection.complete_io(&mut socket)?;
            }
            Ok(connection.alpn_protocol() == Some(b"h2"))
        }

        /// What to do about a failed handshake, if that is known.
        pub(in crate::cli::doctor) fn advice(error: &io::Error) -> Option<&'static str> {
            match error.get_ref()?.downcast_ref()? {
                Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                    Some("name the certificate of the authority that signed the server's: --ca FILE")
                }
                Error::InvalidCertificate(CertificateError::Other(_)) => Some(
                    "a self-signed certificate must not be one of an authority (openssl req -x509: \
                     -addext basicConstraints=critical,CA:FALSE)",
                ),
                Error::InvalidMessage(_) => Some("does the server speak TLS at this port? try http://"),
                _ => None,
            }
        }

        fn connection(&self, server: &ServerUrl, protocols: &[&[u8]]) -> io::Result<ClientConnection> {
            let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
            let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
            let mut config = builder.with_root_certificates(self.0.clone()).with_no_client_auth();
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            let name = ServerName::try_from(server.host().to_owned()).map_err(io::Error::other)?;
            ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)
        }
    }

    impl fmt::Debug for Trust {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Trust")
        }
    }
}

#[cfg(not(feature = "http-tool"))]
mod without {
    use std::io;
    use std::net::TcpStream;
    use std::path::Path;

    use crate::cli::doctor::wire::Wire;
    use crate::cli::follow::ServerUrl;

    /// Trusts nobody: this program was built without TLS.
    #[derive(Debug)]
    pub(in crate::cli::doctor) struct Trust;

    impl Trust {
        pub(in crate::cli::doctor) fn new(_: Option<&Path>) -> Result<Self, String> {
            Ok(Self)
        }

        pub(in crate::cli::doctor) fn wrap(&self, _: &ServerUrl, _: TcpStream) -> io::Result<Box<dyn Wire>> {
            Err(unsupported())
        }

        pub(in crate::cli::doctor) fn has_http2(&self, _: &ServerUrl) -> io::Result<bool> {
            Err(unsupported())
        }

        pub(in crate::cli::doctor) fn advice(_: &io::Error) -> Option<&'static str> {
            None
        }
    }

    fn unsupported() -> io::Error {
        io::Error::new(
            io::ErrorKind::Unsupported,
            "https is not supported: this program was built without the feature http-tool",
        )
    }
}
