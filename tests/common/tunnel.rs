//! What brings clients that speak plain HTTP to a server that speaks TLS: each of their connections becomes one of TLS.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use super::DEADLINE;

/// The name that certificates are made for.
pub const NAME: &str = "localhost";

/// A certificate of its own, and its key.
pub fn certificate() -> rcgen::CertifiedKey<rcgen::KeyPair> {
    rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("a certificate")
}

/// A client that trusts these alone, and speaks these versions of TLS.
pub fn trusting(
    certificates: &[CertificateDer<'static>],
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    certificates.iter().for_each(|it| roots.add(it.clone()).expect("a certificate"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).expect("versions");
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

/// Connects, and shakes hands.
pub fn connect(to: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut socket = TcpStream::connect(to)?;
    socket.set_read_timeout(Some(DEADLINE))?;
    let name = ServerName::try_from(NAME).expect("a name");
    let mut session = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
    while session.is_handshaking() {
        session.complete_io(&mut socket)?;
    }
    Ok(StreamOwned::new(session, socket))
}

/// See the top of this file.
pub struct Tunnel {
    address: SocketAddr,
}

impl Tunnel {
    /// One to the server at `to`.
    pub fn new(to: SocketAddr, config: ClientConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let config = Arc::new(config);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let config = config.clone();
                std::thread::spawn(move || {
                    if let Ok(server) = connect(to, &config) {
                        forward(client, server);
                    }
                });
            }
        });
        Self { address }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Until both sides have ended. That the client leaves, the server is told by the end of the connection alone.
fn forward(mut client: TcpStream, server: StreamOwned<ClientConnection, TcpStream>) {
    let (session, mut server) = (Mutex::new(server.conn), server.sock);
    let (mut from_client, mut to_server) =
        (client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut chunk = [0; 16 * 1024];
            while let Ok(n @ 1..) = from_client.read(&mut chunk) {
                let mut session = session.lock().expect("nobody panics here");
                session.writer().write_all(&chunk[..n]).expect("memory");
                while session.wants_write() && session.write_tls(&mut to_server).is_ok() {}
            }
            let _ = to_server.shutdown(Shutdown::Write);
        });
        let mut chunk = [0; 64 * 1024];
        while let Ok(n @ 1..) = server.read(&mut chunk) {
            if client.write_all(&decrypted(&mut session.lock().expect("nobody panics here"), &chunk[..n])).is_err() {
                break;
            }
        }
        let _ = client.shutdown(Shutdown::Both);
    });
}

fn decrypted(session: &mut ClientConnection, mut bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    while !bytes.is_empty() {
        session.read_tls(&mut bytes).expect("memory");
        session.process_new_packets().expect("what the server says is good");
        let mut chunk = [0; 16 * 1024];
        while let Ok(n @ 1..) = session.reader().read(&mut chunk) {
            plain.extend_from_slice(&chunk[..n]);
        }
    }
    plain
}
