//! The certificates by which a server is trusted.

use std::fmt;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature_with_raw_key};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::super::OpenError;
use super::der;

/// Which certificates are trusted.
#[derive(Debug)]
pub(in crate::log::postgres) enum Trust {
    /// Whoever answers.
    Anyone,
    /// Whoever has a certificate of one of these.
    SignedBy(Roots),
    /// The same, and the certificate must name the host.
    Named(Roots),
}

/// Certificates that are believed.
pub(in crate::log::postgres) struct Roots {
    /// Where they are from.
    shown: String,
    anchors: RootCertStore,
    /// The same, as they are: a server may have one of them itself.
    whole: Vec<CertificateDer<'static>>,
}

impl Roots {
    /// The roots in a PEM file.
    pub(super) fn of_file(file: &str) -> Result<Self, OpenError> {
        let trouble = |why: String| OpenError(format!("data: sslrootcert: {file}: {why}"));
        let text = std::fs::read(file).map_err(|error| trouble(error.to_string()))?;
        let whole: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let whole = whole.map_err(|error| trouble(format!("cannot read certificates: {error}")))?;
        if whole.is_empty() {
            return Err(trouble("the file contains no certificate".to_owned()));
        }
        Ok(Self::of(file.to_owned(), whole))
    }

    /// The roots that the system trusts, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
    pub(super) fn of_system() -> Result<Self, OpenError> {
        let found = rustls_native_certs::load_native_certs();
        if found.certs.is_empty() {
            let why = found.errors.first().map_or_else(String::new, |error| format!(": {error}"));
            return Err(OpenError(format!(
                "data: sslrootcert=system: no certificates are installed on this system{why}"
            )));
        }
        Ok(Self::of("the system".to_owned(), found.certs))
    }

    fn of(shown: String, whole: Vec<CertificateDer<'static>>) -> Self {
        let mut anchors = RootCertStore::empty();
        anchors.add_parsable_certificates(whole.iter().cloned());
        Self { shown, anchors, whole }
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Display for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Goes by a [`Trust`], with the algorithms that are at hand.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) trust: Trust,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn signed(&self, roots: &Roots, chain: Chain<'_>) -> Result<(), Error> {
        if roots.whole.contains(chain.certificate) {
            return Ok(());
        }
        let parsed = ParsedCertificate::try_from(chain.certificate)?;
        let Chain { others, now, .. } = chain;
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots.anchors, others, now, self.algorithms.all)
    }
}

/// What the server presents.
#[derive(Clone, Copy)]
struct Chain<'a> {
    certificate: &'a CertificateDer<'a>,
    others: &'a [CertificateDer<'a>],
    now: UnixTime,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = Chain { certificate, others, now };
        match &self.trust {
            Trust::Anyone => {}
            Trust::SignedBy(roots) => self.signed(roots, chain)?,
            Trust::Named(roots) => {
                self.signed(roots, chain)?;
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    /// Whoever is believed has the key of the certificate that it shows: a password may be bound to that. Its key is all that it takes,
    /// whatever its version: the library reads none of version 1, which many a server has that was made by hand.
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = der::key(certificate).ok_or(CertificateError::BadEncoding)?;
        verify_tls13_signature_with_raw_key(message, &SubjectPublicKeyInfoDer::from(key), signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
