//! A TLS socket and a client of it, over a wire that takes and gives as little as it likes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, SupportedProtocolVersion};

use super::{Tls, TlsSocket};
use crate::config::TlsConfig;
use crate::executor::testing::Rng;
use crate::server::socket::Socket;

/// Files that go with the test.
struct Directory(std::path::PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("stepcast-tls-{}-{count}", std::process::id()));
        std::fs::create_dir(&path).expect("a directory");
        Self(path)
    }

    fn put(&self, name: &str, content: &str) -> std::path::PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).expect("writes");
        path
    }

    /// Puts a new certificate and its key there; the certificate.
    fn put_certificate(&self) -> rcgen::CertifiedKey<rcgen::KeyPair> {
        let made = rcgen::generate_simple_self_signed(["server.test".to_owned()]).expect("a certificate");
        self.put("cert.pem", &made.cert.pem());
        self.put("key.pem", &made.signing_key.serialize_pem());
        made
    }

    fn config(&self) -> TlsConfig {
        TlsConfig { cert: Some(self.0.join("cert.pem")), key: Some(self.0.join("key.pem")), listen: None }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What lies between the two.
#[derive(Default)]
struct Wire {
    to_server: VecDeque<u8>,
    to_client: VecDeque<u8>,
    /// Bytes that the server may write before the wire is full.
    room: usize,
    /// The most bytes of one read of the server.
    read_max: usize,
    is_closed: bool,
    is_finished: bool,
}

#[derive(Clone)]
struct End(Rc<RefCell<Wire>>);

impl Read for End {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        let n = to.len().min(wire.read_max).min(wire.to_server.len());
        if n == 0 && !wire.is_closed {
            return Err(ErrorKind::WouldBlock.into());
        }
        to.iter_mut().zip(wire.to_server.drain(..n)).for_each(|(to, byte)| *to = byte);
        Ok(n)
    }
}

impl Write for End {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        assert!(!wire.is_finished, "nothing is written behind the end");
        let n = bytes.len().min(wire.room);
        if n == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        wire.room -= n;
        wire.to_client.extend(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket for End {
    fn finish(&mut self) {
        self.0.borrow_mut().is_finished = true;
    }
}

/// A server's socket and its client.
struct Pair {
    wire: Rc<RefCell<Wire>>,
    server: Option<TlsSocket<End>>,
    client: ClientConnection,
    config: Arc<ClientConfig>,
    tls: Tls,
    _files: Directory,
}

const PLENTY: usize = usize::MAX / 2;

impl Pair {
    fn new(version: &'static SupportedProtocolVersion) -> Self {
        let files = Directory::new();
        let made = files.put_certificate();
        let tls = Tls::of(&files.config()).expect("a good pair").expect("it is set");
        let wire = Rc::new(RefCell::new(Wire { room: PLENTY, read_max: PLENTY, ..Wire::default() }));
        let server = tls.over(End(wire.clone()));
        let config = trusting(&made, version);
        let client = ClientConnection::new(config.clone(), name()).expect("a client");
        Self { wire, server, client, config, tls, _files: files }
    }

    fn server(&mut self) -> &mut TlsSocket<End> {
        self.server.as_mut().expect("it is there")
    }

    /// What the client has to say goes to the wire.
    fn client_says(&mut self) {
        let mut bytes = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut bytes).expect("memory");
        }
        self.wire.borrow_mut().to_server.extend(bytes);
    }

    /// The client takes at most `most` bytes off the wire, and reads what is inside.
    fn client_reads(&mut self, most: usize, read: &mut Vec<u8>) {
        let bytes: Vec<u8> = {
            let mut wire = self.wire.borrow_mut();
            let n = most.min(wire.to_client.len());
            wire.to_client.drain(..n).collect()
        };
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            self.client.read_tls(&mut rest).expect("memory");
            self.client.process_new_packets().expect("what the server says is good");
            let mut chunk = [0; 4096];
            while let Ok(n @ 1..) = self.client.reader().read(&mut chunk) {
                read.extend_from_slice(&chunk[..n]);
            }
        }
    }

    /// Both talk until the handshake is over.
    fn shake_hands(mut self) -> Self {
        while self.client.is_handshaking() || self.client.wants_write() {
            self.client_says();
            let got = self.server().read(&mut [0; 64]);
            assert_eq!(got.expect_err("nothing inside").kind(), ErrorKind::WouldBlock);
            self.client_reads(PLENTY, &mut Vec::new());
        }
        self
    }
}

fn name() -> ServerName<'static> {
    ServerName::try_from("server.test").expect("a name")
}

fn trusting(
    made: &rcgen::CertifiedKey<rcgen::KeyPair>,
    version: &'static SupportedProtocolVersion,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).expect("a version");
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

fn counted<'a>(words: impl Iterator<Item = (&'a str, u64)>) -> Vec<&'a str> {
    words.filter(|(_, count)| *count > 0).map(|(word, _)| word).collect()
}

#[test]
fn a_socket_that_may_speak_tls_takes_twelve_bytes() {
    use crate::server::socket::Elsewhere;
    #[expect(dead_code, reason = "only its size matters")]
    enum Either {
        Plain(std::os::fd::OwnedFd),
        Tls(Elsewhere<TlsSocket<End>>),
    }
    assert_eq!(size_of::<Either>(), 12);
}

#[test]
fn a_handshake_costs_more_than_its_bytes_and_what_is_inside_does_not() {
    let mut pair = Pair::new(&TLS13);
    assert_eq!(pair.server().take_toll(), 0);
    pair.client_says();
    let _ = pair.server().read(&mut [0; 64]);
    assert!(pair.server().take_toll() > 0);
    assert_eq!(pair.server().take_toll(), 0, "it is told once");
    pair = pair.shake_hands();
    pair.server().take_toll();
    pair.client.writer().write_all(b"ask").expect("memory");
    pair.client_says();
    assert_eq!(pair.server().read(&mut [0; 64]).expect("a request"), 3);
    assert_eq!(pair.server().take_toll(), 0);
}

#[test]
fn both_versions_are_spoken_and_what_is_inside_is_told() {
    for (version, word) in [(&TLS12, "1.2"), (&TLS13, "1.3")] {
        let mut pair = Pair::new(version).shake_hands();
        assert_eq!(pair.client.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!(pair.client.protocol_version() == Some(ProtocolVersion::TLSv1_3), word == "1.3");
        pair.client.writer().write_all(b"ask").expect("memory");
        pair.client_says();
        let mut read = [0; 64];
        assert_eq!(pair.server().read(&mut read).expect("a request"), 3);
        assert_eq!(pair.server().write(b"answer").expect("it has room"), 6);
        let mut answer = Vec::new();
        pair.client_reads(PLENTY, &mut answer);
        assert_eq!((&read[..3], &answer[..]), (&b"ask"[..], &b"answer"[..]));
        assert_eq!(pair.server().held(), 0, "nothing is held while nothing is on its way");
        assert_eq!(counted(pair.tls.counts().handshakes()), [word]);
        assert_eq!(counted(pair.tls.counts().failures()), [""; 0]);
    }
}

#[test]
fn what_is_said_to_be_written_has_left() {
    let mut pair = Pair::new(&TLS13).shake_hands();
    pair.wire.borrow_mut().room = 30;
    let message = *b"a message";
    assert_eq!(pair.server().write(&message).expect("a part"), 8, "the record has not left whole");
    assert_eq!(pair.server().write(&message[8..]).expect_err("full").kind(), ErrorKind::WouldBlock);
    let held = pair.server().held();
    assert!(held == 9 + 22 - 30, "no more is encrypted meanwhile: {held}");
    pair.wire.borrow_mut().room = PLENTY;
    assert_eq!(pair.server().write(&message[8..]).expect("it has room"), 1);
    pair.server = None;
    let mut read = Vec::new();
    pair.client_reads(PLENTY, &mut read);
    assert_eq!(read, message);
    let end = pair.client.reader().read(&mut [0; 8]);
    assert_eq!(end.expect("the end is said"), 0);
}

#[test]
fn whoever_is_cut_within_a_record_is_not_told_of_an_end() {
    let mut pair = Pair::new(&TLS13).shake_hands();
    pair.wire.borrow_mut().room = 30;
    assert_eq!(pair.server().write(b"a message").expect("a part"), 8);
    pair.server = None;
    pair.wire.borrow_mut().room = PLENTY;
    pair.client_reads(PLENTY, &mut Vec::new());
    assert_eq!(pair.client.reader().read(&mut [0; 8]).expect_err("no end").kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_read_that_gives_less_than_there_is_room_for_has_emptied_the_wire() {
    let mut pair = Pair::new(&TLS13).shake_hands();
    let sent: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
    pair.client.set_buffer_limit(None);
    pair.client.writer().write_all(&sent).expect("memory");
    pair.client_says();
    let (mut read, mut room) = (Vec::new(), vec![0; 50_000]);
    while read.len() < sent.len() {
        match pair.server().read(&mut room) {
            Ok(n) => {
                read.extend_from_slice(&room[..n]);
                assert!(n == room.len() || pair.wire.borrow().to_server.is_empty());
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Interrupted),
        }
    }
    assert!(read == sent);
    assert_eq!(pair.server().read(&mut room).expect_err("no more").kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_client_that_leaves_is_at_its_end_whether_it_says_so_or_not() {
    for says_so in [true, false] {
        let mut pair = Pair::new(&TLS13).shake_hands();
        if says_so {
            pair.client.send_close_notify();
            pair.client_says();
        } else {
            pair.wire.borrow_mut().is_closed = true;
        }
        assert_eq!(pair.server().read(&mut [0; 8]).expect("an end"), 0);
        assert_eq!(pair.server().read(&mut [0; 8]).expect("still"), 0);
        // It may still be read by the other side.
        assert_eq!(pair.server().write(b"late").expect("it has room"), 4);
        pair.server().finish();
        assert!(pair.wire.borrow().is_finished);
    }
}

#[test]
fn who_speaks_plain_http_is_told_what_is_spoken_here() {
    let mut pair = Pair::new(&TLS13);
    pair.wire.borrow_mut().to_server.extend(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(pair.server().read(&mut [0; 8]).expect_err("no TLS").kind(), ErrorKind::InvalidData);
    let told: Vec<u8> = pair.wire.borrow_mut().to_client.drain(..).collect();
    let told = String::from_utf8(told).expect("text");
    let (head, body) = told.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 400 ") && head.ends_with(&format!("Content-Length: {}", body.len())), "{told}");
    assert!(serde_json::from_str::<serde_json::Value>(body).is_ok_and(|body| body["code"] == "https_expected"));
    assert!(pair.wire.borrow().is_finished);
    assert_eq!(counted(pair.tls.counts().failures()), ["plain_http"]);
}

#[test]
fn a_handshake_that_fails_is_counted_once() {
    let mut nonsense = Pair::new(&TLS13);
    nonsense.wire.borrow_mut().to_server.extend(b"\x16\x03\x01\x00\x05nonsense");
    assert_eq!(nonsense.server().read(&mut [0; 8]).expect_err("no TLS").kind(), ErrorKind::InvalidData);
    nonsense.server = None;
    assert_eq!(counted(nonsense.tls.counts().failures()), ["protocol"]);

    for (leaves, word) in [(true, "closed"), (false, "cut")] {
        let mut half = Pair::new(&TLS13);
        half.client_says();
        half.wire.borrow_mut().to_server.truncate(20);
        half.wire.borrow_mut().is_closed = leaves;
        let _ = half.server().read(&mut [0; 8]);
        let _ = half.server().read(&mut [0; 8]);
        half.server = None;
        assert_eq!(counted(half.tls.counts().failures()), [word]);
    }
}

#[test]
fn who_speaks_http_2_alone_is_told_by_an_alert() {
    let mut pair = Pair::new(&TLS13);
    let mut config = ClientConfig::clone(&pair.config);
    config.alpn_protocols = vec![b"h2".to_vec()];
    pair.client = ClientConnection::new(Arc::new(config), name()).expect("a client");
    pair.client_says();
    assert_eq!(pair.server().read(&mut [0; 8]).expect_err("no protocol").kind(), ErrorKind::InvalidData);
    let told: Vec<u8> = pair.wire.borrow_mut().to_client.drain(..).collect();
    pair.client.read_tls(&mut &told[..]).expect("memory");
    let alert = pair.client.process_new_packets().expect_err("an alert");
    assert_eq!(alert, rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol));
    pair.server = None;
    assert_eq!(counted(pair.tls.counts().failures()), ["protocol"]);
}

#[test]
fn files_that_are_no_pair_are_named_with_what_is_wrong_and_change_nothing() {
    let files = Directory::new();
    let first = files.put_certificate();
    let tls = Tls::of(&files.config()).expect("a good pair").expect("it is set");
    let other = rcgen::KeyPair::generate().expect("a key");
    let name = |file: &str| files.0.join(file).display().to_string();
    let (cert, key) = (name("cert.pem"), name("key.pem"));
    let (good_cert, good_key) = (first.cert.pem(), first.signing_key.serialize_pem());
    for (file, content, expected) in [
        ("cert.pem", "", format!("tls.cert: {cert}: contains no certificate; expected PEM (BEGIN CERTIFICATE)")),
        ("cert.pem", &good_key, format!("tls.cert: {cert}: contains no certificate; expected PEM (BEGIN CERTIFICATE)")),
        (
            "key.pem",
            &good_cert,
            format!("tls.key: {key}: contains no private key; expected PEM (BEGIN PRIVATE KEY), not encrypted"),
        ),
        (
            "key.pem",
            "-----BEGIN PRIVATE KEY-----\nAAAA",
            format!(
                "tls.key: {key}: is not valid PEM: a section does not end, or contains something other than base64"
            ),
        ),
        (
            "key.pem",
            &other.serialize_pem(),
            format!("tls.key: {key}: is not the key of the first certificate in {cert}"),
        ),
    ] {
        files.put("cert.pem", &good_cert);
        files.put("key.pem", &good_key);
        assert!(tls.reload().is_ok());
        files.put(file, content);
        assert_eq!(tls.reload().expect_err(&expected).to_string(), expected);
    }
    std::fs::remove_file(files.0.join("key.pem")).expect("it is there");
    let gone = tls.reload().expect_err("it is gone").to_string();
    assert!(gone.starts_with(&format!("tls.key: {key}: cannot be read: No such file")), "{gone}");
    assert_eq!(tls.counts().reloads().collect::<Vec<_>>(), [("failed", 6), ("loaded", 5)]);
}

/// A server that says `to_client`, a client that says `to_server`, over a wire that is as short as it likes.
fn play(seed: u64) {
    let mut rng = Rng::new(seed);
    let version = if rng.below(2) == 0 { &TLS12 } else { &TLS13 };
    let mut pair = Pair::new(version);
    pair.client.set_buffer_limit(None);
    let mut bytes = |most: usize| -> Vec<u8> { (0..rng.below(most)).map(|n| (n * 31) as u8).collect() };
    let (to_client, to_server) = (bytes(120_000), bytes(120_000));
    let (mut written, mut said, mut heard, mut read) = (0, 0, Vec::new(), Vec::new());
    let mut turns = 0;
    while heard.len() < to_server.len() || read.len() < to_client.len() {
        turns += 1;
        assert!(turns < 1_000_000, "seed {seed} gets nowhere: {} {} {}", heard.len(), read.len(), written);
        {
            let mut wire = pair.wire.borrow_mut();
            let (is_long, is_wide) = (rng.one_in(4), rng.one_in(4));
            wire.read_max = 1 + rng.below(if is_long { 40_000 } else { 500 });
            wire.room = if rng.one_in(3) { 0 } else { rng.below(if is_wide { 40_000 } else { 800 }) };
        }
        match rng.below(4) {
            0 => {
                let end = to_server.len().min(said + rng.below(30_000));
                pair.client.writer().write_all(&to_server[said..end]).expect("memory");
                said = end;
                pair.client_says();
            }
            1 => {
                let most = 1 + rng.below(50_000);
                pair.client_reads(most, &mut read);
                pair.client_says();
            }
            2 => {
                let mut room = vec![0; 1 + rng.below(20_000)];
                match pair.server().read(&mut room) {
                    Ok(n) => heard.extend_from_slice(&room[..n]),
                    Err(error) => assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)),
                }
                let _ = pair.server().flush();
            }
            _ if written < to_client.len() => {
                // A message has two bytes or more.
                let end = to_client.len().min(written + 2 + rng.below(40_000));
                let was_held = pair.server().held();
                match pair.server().write(&to_client[written..end]) {
                    Ok(n) => {
                        assert!(n > 0 && n <= end - written);
                        written += n;
                        let waits = !pair.server().outgoing.is_empty();
                        assert!(!waits || written < end, "seed {seed}: all is written, and has not left");
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "seed {seed}, {was_held} held"),
                }
            }
            _ => {}
        }
        assert!(pair.server().held() < 64 * 1024, "seed {seed}: {} bytes are held", pair.server().held());
    }
    assert!(heard == to_server && read == to_client, "seed {seed}");
}

#[test]
fn whatever_the_wire_takes_and_gives_each_side_reads_what_the_other_has_written() {
    (0..64).for_each(play);
}
