//! Reads the certificate and key from two PEM files, and makes a TLS configuration of them.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{Error, InconsistentKeys, ServerConfig};

/// The protocols that the server offers by ALPN. HTTP/2 is not among them.
const ALPN: [&[u8]; 2] = [b"http/1.1", b"http/1.0"];

/// Creates the keys that encrypt session tickets. There is one set per process, so that tickets stay valid after a
/// reload.
///
/// # Errors
/// If the system has no randomness.
pub(super) fn new_tickets() -> Result<Arc<dyn ProducesTickets>, String> {
    ring::Ticketer::new().map_err(|error| error.to_string())
}

/// Creates the configuration of new connections from the certificate in `cert` and the key in `key`.
///
/// # Errors
/// The problem, and which of the two files has it.
pub(super) fn read_certificate(
    cert: &Path,
    key: &Path,
    tickets: Arc<dyn ProducesTickets>,
) -> Result<Arc<ServerConfig>, String> {
    let wrong_cert = |why: &str| format!("tls.cert: {}: {why}", cert.display());
    let wrong_key = |why: &str| format!("tls.key: {}: {why}", key.display());
    let certificates = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = certificates.map_err(|error| wrong_cert(&why_unreadable(&error)))?;
    if certificates.is_empty() {
        return Err(wrong_cert("contains no certificate; expected PEM (BEGIN CERTIFICATE)"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| {
        wrong_key(&match error {
            pem::Error::NoItemsFound => {
                "contains no private key; expected PEM (BEGIN PRIVATE KEY), not encrypted".to_owned()
            }
            error => why_unreadable(&error),
        })
    })?;
    let provider = Arc::new(ring::default_provider());
    let signing = provider.key_provider.load_private_key(private);
    let signing = signing.map_err(|error| wrong_key(&format!("cannot be used: {error}")))?;
    let certified = CertifiedKey::new(certificates, signing);
    match certified.keys_match() {
        // For some kinds of keys this can't be checked. With a wrong one, handshakes fail but nothing else breaks.
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(Error::InconsistentKeys(_)) => {
            return Err(wrong_key(&format!("is not the key of the first certificate in {}", cert.display())));
        }
        Err(error) => return Err(wrong_cert(&format!("the first certificate cannot be used: {error}"))),
    }
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?.with_no_client_auth();
    let mut config = config.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    // A client that returns to the same process resumes its session. The client keeps the ticket; the server remembers
    // nothing.
    config.ticketer = tickets;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // One ticket per connection: a browser that opens a second connection meanwhile makes a full handshake.
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

fn why_unreadable(error: &pem::Error) -> String {
    match error {
        pem::Error::Io(error) => format!("cannot be read: {error}"),
        _ => "is not valid PEM: a section does not end, or contains something other than base64".to_owned(),
    }
}
