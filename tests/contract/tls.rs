//! TLS: the same server for clients that use https.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use rcgen::{CertifiedKey, KeyPair};
use rustix::process::Signal;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ProtocolVersion};
use serde_json::{Value, json};

use crate::common::client::{Connection, Request};
use crate::common::server::{Server, Setup, TempDirectory, run};
use crate::common::stream::Sse;
use crate::common::tunnel::{Tunnel, certificate, connect, trusting};
use crate::common::{DEADLINE, wait_for};

const STREAM: &str = "/api/sse/projects/p";

/// The log line that says where TLS is spoken.
const LISTENING: &str = "listening on https://";

/// Certificate and key of a server.
struct Files {
    directory: TempDirectory,
    made: CertifiedKey<KeyPair>,
}

impl Files {
    fn new() -> Self {
        let mut files = Self { directory: TempDirectory::new(), made: certificate() };
        files.renew();
        files
    }

    /// Others take their place.
    fn renew(&mut self) {
        self.made = certificate();
        self.put("cert.pem", &self.made.cert.pem());
        self.put("key.pem", &self.made.signing_key.serialize_pem());
    }

    fn put(&self, name: &str, content: &str) {
        std::fs::write(self.directory.join(name), content).expect("writes");
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// A server that speaks TLS besides.
    fn setup(&self) -> Setup {
        let (cert, key) = (self.path("cert.pem"), self.path("key.pem"));
        Setup::default().flags(&["--tls-cert", &cert, "--tls-key", &key, "--tls-listen", "127.0.0.1:0"])
    }

    /// A client that trusts this server.
    fn client(&self) -> ClientConfig {
        trusting(&[self.made.cert.der().clone()], &[&TLS12, &TLS13])
    }
}

/// Where a server speaks TLS.
fn secure(server: &Server) -> SocketAddr {
    let address = || server.log().iter().find_map(|line| line.split_once(LISTENING)?.1.trim().parse().ok());
    wait_for("the server to listen", address)
}

fn publish(server: &Server, n: u64) -> String {
    let answer = server.post("/api/projects/p/events", &json!({"type": "note", "payload": {"n": n}}));
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.json()["ids"][0].as_str().expect("an id").to_owned()
}

fn numbers(stream: &mut Sse, count: usize) -> Vec<Value> {
    stream.take(count).into_iter().map(|event| event.message["payload"]["n"].clone()).collect()
}

fn failures(server: &Server, reason: &str) -> f64 {
    server.metric(&format!("stepcast_tls_handshake_failures_total{{reason=\"{reason}\"}}"))
}

#[test]
fn a_stream_over_tls_is_as_any_other_and_is_resumed() {
    let files = Files::new();
    let server = files.setup().start();
    let tunnel = Tunnel::new(secure(&server), files.client());
    let mut stream = Sse::open(tunnel.address(), Request::get(STREAM));
    assert_eq!(stream.next().expect("a message").kind(), "connected");
    let first = publish(&server, 1);
    let answer = Request::post("/api/projects/p/events", &json!({"type": "note", "payload": {"n": 2}}));
    assert_eq!(answer.send(tunnel.address()).status, 202);
    assert_eq!(numbers(&mut stream, 2), [1, 2]);
    drop(stream);
    let again = Request::get(STREAM).header("Last-Event-ID", &first);
    let mut stream = Sse::open(tunnel.address(), again);
    assert_eq!(stream.next().expect("a message").message["payload"]["resume"], "resumed");
    assert_eq!(numbers(&mut stream, 1), [2]);
    // The tunnel leaves without a word of TLS.
    drop(stream);
    let has_none = || server.get("/api/projects/p/subscribers").json() == json!({"count": 0});
    wait_for("the streams to end", || has_none().then_some(()));
}

#[test]
fn tls_1_2_and_1_3_are_spoken_and_http_1_1_inside() {
    let files = Files::new();
    let server = files.setup().start();
    for (version, expected, word) in
        [(&TLS12, ProtocolVersion::TLSv1_2, "1.2"), (&TLS13, ProtocolVersion::TLSv1_3, "1.3")]
    {
        let config = Arc::new(trusting(&[files.made.cert.der().clone()], &[version]));
        let client = connect(secure(&server), &config).expect("a handshake");
        assert_eq!(client.conn.protocol_version(), Some(expected));
        assert_eq!(client.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        let count = format!("stepcast_tls_handshakes_total{{version=\"{word}\"}}");
        assert_eq!(server.metric(&count), 1.0);
    }
    let mut alone = files.client();
    alone.alpn_protocols = vec![b"h2".to_vec()];
    let refused = connect(secure(&server), &Arc::new(alone)).expect_err("HTTP/2 is not spoken");
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
    assert_eq!(failures(&server, "protocol"), 1.0);
}

#[test]
fn who_comes_back_need_not_be_shown_the_certificate() {
    let files = Files::new();
    let server = files.setup().start();
    let config = Arc::new(files.client());
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let mut client = connect(secure(&server), &config).expect("a handshake");
        kinds.push(client.conn.handshake_kind());
        // The ticket comes before the answer.
        client.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is read");
        client.read_exact(&mut [0; 12]).expect("an answer");
    }
    assert_eq!(kinds, [Some(rustls::HandshakeKind::Full), Some(rustls::HandshakeKind::Resumed)]);
}

#[test]
fn who_speaks_plain_http_is_told_to_come_by_https() {
    let files = Files::new();
    let server = files.setup().start();
    let mut connection = Connection::open(secure(&server));
    connection.write(&Request::get("/healthz").bytes(secure(&server)));
    let answer = connection.response(false).expect("an answer");
    assert_eq!((answer.status, answer.code().as_str()), (400, "https_expected"));
    assert_eq!(connection.rest(), b"");
    assert_eq!(failures(&server, "plain_http"), 1.0);
}

#[test]
fn a_hangup_has_the_certificate_read_anew_while_streams_go_on() {
    let mut files = Files::new();
    let mut server = files.setup().start();
    let tunnel = Tunnel::new(secure(&server), files.client());
    let mut stream = Sse::open(tunnel.address(), Request::get(STREAM));
    stream.next();
    let old = Arc::new(files.client());

    files.renew();
    let shown = |server: &Server, files: &Files| {
        let config = Arc::new(files.client());
        connect(secure(server), &config).expect("a handshake").conn.peer_certificates().map(<[_]>::to_vec)
    };
    server.signal(Signal::HUP);
    wait_for("the new certificate", || {
        (server.metric("stepcast_tls_reloads_total{outcome=\"loaded\"}") == 1.0).then_some(())
    });
    assert_eq!(shown(&server, &files), Some(vec![files.made.cert.der().clone()]));
    assert!(connect(secure(&server), &old).is_err(), "the old one is not shown any more");
    publish(&server, 1);
    assert_eq!(numbers(&mut stream, 1), [1], "what is open goes on");

    files.put("cert.pem", "nonsense");
    server.signal(Signal::HUP);
    let error = "tls.cert: ".to_owned() + &files.path("cert.pem") + ": contains no certificate";
    wait_for("the error", || server.log().iter().any(|line| line.contains(&error)).then_some(()));
    assert_eq!(server.metric("stepcast_tls_reloads_total{outcome=\"failed\"}"), 1.0);
    assert_eq!(shown(&server, &files), Some(vec![files.made.cert.der().clone()]));
    server.signal(Signal::TERM);
    assert_eq!(stream.rest().last().map(|event| event.kind().to_owned()).as_deref(), Some("stream_closing"));
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn a_handshake_that_does_not_end_is_cut() {
    let files = Files::new();
    let server = files.setup().flags(&["--limits-header-timeout", "300ms"]).start();
    let mut slow = TcpStream::connect(secure(&server)).expect("it listens");
    slow.set_read_timeout(Some(DEADLINE)).expect("not zero");
    slow.write_all(b"\x16\x03\x01\x01\x00\x01\x00\x00\xfc\x03\x03").expect("it is read");
    assert!(matches!(slow.read(&mut [0; 8]), Ok(0)), "it is closed without a word");
    assert_eq!(failures(&server, "cut"), 1.0);
}

#[test]
fn a_large_output_comes_as_it_is() {
    const BYTES: usize = 50_000_000;
    let config = "[tools.print]\nkind = \"command\"\n\
                  argv = [\"sh\", \"-c\", \"seq 100000000 | head -c 50000000\"]\n";
    let files = Files::new();
    let server = files.setup().config(config).start();
    let run = server.submit("p", &json!({"name": "n", "steps": [{"id": "a", "tool": "print"}]}));
    server.messages("p", &run);
    let path = format!("/api/projects/p/workflows/{run}/steps/a/output");
    let tunnel = Tunnel::new(secure(&server), files.client());
    let (plain, inside) = (server.get(&path).body, Request::get(&path).send(tunnel.address()).body);
    // Without the line feed at its end.
    assert_eq!(plain.len(), BYTES - 1);
    assert!(plain == inside);
}

#[test]
fn requests_in_records_of_one_byte_are_answered_one_after_the_other() {
    const REQUESTS: usize = 100;
    let files = Files::new();
    let server = files.setup().start();
    let mut client = connect(secure(&server), &Arc::new(files.client())).expect("a handshake");
    client.conn.set_buffer_limit(None);
    for byte in b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(REQUESTS) {
        // What the client writes between two flushes is a record of its own.
        client.conn.writer().write_all(&[byte]).expect("memory");
    }
    client.flush().expect("it is read");
    let (mut answers, mut byte) = (0, [0]);
    let mut last = Vec::new();
    while answers < REQUESTS {
        client.read_exact(&mut byte).expect("an answer");
        last.push(byte[0]);
        if last.ends_with(b"{\"status\":\"ok\"}") {
            assert!(last.starts_with(b"HTTP/1.1 200 OK\r\n"));
            (answers, last) = (answers + 1, Vec::new());
        }
    }
    // Both say that this is the end.
    client.conn.send_close_notify();
    client.flush().expect("it is read");
    client.sock.shutdown(std::net::Shutdown::Write).expect("it is open");
    assert_eq!(client.read(&mut byte).expect("an end that is said"), 0);
}

#[test]
fn without_an_address_of_its_own_tls_is_spoken_at_listen() {
    let files = Files::new();
    let (cert, key) = (files.path("cert.pem"), files.path("key.pem"));
    let flags = ["--tls-cert", &cert, "--tls-key", &key, "--metrics-listen", "127.0.0.1:0"];
    let server = Setup::default().flags(&flags).start();
    let mut client = connect(server.address, &Arc::new(files.client())).expect("a handshake");
    client.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("it is read");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("an answer, and an end that is said");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[test]
fn a_server_without_a_good_pair_does_not_start() {
    let files = Files::new();
    files.put("key.pem", "nonsense");
    let (status, said) = files.setup().launch().refusal();
    let expected = format!("tls.key: {}: contains no private key", files.path("key.pem"));
    assert!(status == Some(1) && said.contains(&expected), "{status:?} {said}");
    let (status, said) = Setup::default().flags(&["--tls-listen", "127.0.0.1:0"]).launch().refusal();
    assert!(status == Some(1) && said.contains("tls.cert: missing; tls.listen requires it"), "{status:?} {said}");
}

#[test]
fn a_reader_that_does_not_read_is_noticed_behind_tls_too() {
    let files = Files::new();
    let server = files.setup().flags(&["--sse-stall-timeout", "300ms"]).start();
    let mut client = connect(secure(&server), &Arc::new(files.client())).expect("a handshake");
    let request = format!("GET {STREAM} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n");
    client.write_all(request.as_bytes()).expect("it is read");
    client.read_exact(&mut [0; 12]).expect("a stream");
    let note = json!({"type": "note", "payload": {"text": "x".repeat(60_000)}});
    let is_stalled = || {
        assert_eq!(server.post("/api/projects/p/events", &note).status, 202);
        (server.metric("stepcast_streams_closed_total{reason=\"stalled\"}") == 1.0).then_some(())
    };
    wait_for("the stream to be closed", is_stalled);
    let mut rest = Vec::new();
    let end = client.read_to_end(&mut rest);
    // It is cut within a record, or after one if there was room for the end of the session; never as if it were
    // complete.
    let is_cut = |error: std::io::Error| matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset);
    assert!(end.map_or_else(is_cut, |_| true) && !rest.ends_with(b"0\r\n\r\n"), "{} bytes", rest.len());
}

#[test]
fn the_doctor_says_what_is_wrong_with_a_certificate() {
    let files = Files::new();
    let server = files.setup().start();
    let url = format!("https://localhost:{}", secure(&server).port());
    let examined = |url: &str, ca: &str| {
        let flags = if ca.is_empty() { vec![] } else { vec!["--ca", ca] };
        let (status, said, complained) = run(&[&["doctor", url, "--watch", "0s"], &*flags].concat(), &[], "");
        (status, format!("{said}{complained}"))
    };
    let (cert, key) = (files.path("cert.pem"), files.path("key.pem"));
    let plain = format!("https://{}", server.address);
    for (url, ca, status, expected) in [
        (&*url, "", 1, "name the certificate of the authority that signed the server's: --ca FILE"),
        (&url, &cert, 0, "no HTTP/2"),
        (&url, &key, 1, "key.pem: the file has no certificate"),
        (&plain, &cert, 1, "does the server speak TLS at this port? try http://"),
    ] {
        let (exited, said) = examined(url, ca);
        assert!(exited == status && said.contains(expected), "{url} {ca}: {exited} {said}");
    }
}

/// The handshake waited for the answer of a server that took connections and said nothing.
#[test]
fn the_doctor_waited_long_for_a_silent_server() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("https://{}", silent.local_addr().expect("bound"));
    let (status, _, said) = run(&["doctor", &url, "--watch", "0s"], &[], "");
    assert!(status == 1 && said.contains("does not answer within 10s"), "{said}");
}
