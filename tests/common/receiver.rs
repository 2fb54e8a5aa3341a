//! A receiver of webhooks that the test plays: it answers as it is told to, and checks every signature.

use std::collections::HashMap;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde_json::Value;

use super::DEADLINE;
use super::client::Connection;
use super::token::unix_now;

/// What the webhooks of the tests are signed with.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Seconds that a timestamp may be off.
const TOLERANCE: u64 = 60;

/// What a receiver does with a request.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// This status.
    Status(u16),
    /// This status and header.
    With(u16, &'static str),
    /// None: it holds the connection until the client gives up.
    Hold,
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Got {
    pub path: String,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Got {
    pub fn event(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    pub fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }

    /// The run that it tells of.
    pub fn run(&self) -> String {
        self.event()["data"]["runId"].as_str().expect("a run").to_owned()
    }

    /// Is one of its signatures that of this secret?
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").expect("a secret")).expect("base64");
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let head = format!("{}.{}.", self.id(), self.headers["webhook-timestamp"]);
        let expected = STANDARD.encode(hmac::sign(&key, &[head.as_bytes(), &self.body].concat()));
        self.headers["webhook-signature"].split(' ').any(|signature| signature == format!("v1,{expected}"))
    }

    fn check(&self) {
        let at: u64 = self.headers["webhook-timestamp"].parse().expect("seconds");
        assert!(at.abs_diff(unix_now()) < TOLERANCE, "{self:?}");
        assert_eq!(self.headers["content-type"], "application/cloudevents+json");
        assert_eq!(self.event()["specversion"], "1.0");
    }
}

type Answers = Arc<Mutex<dyn FnMut(&Got) -> Answer + Send>>;

pub struct Receiver {
    address: SocketAddr,
    got: mpsc::Receiver<Got>,
    answers: Arc<Mutex<Answers>>,
}

impl Receiver {
    /// One that answers in this way.
    pub fn start(answer: impl FnMut(&Got) -> Answer + Send + 'static) -> Self {
        Self::over(TcpListener::bind("127.0.0.1:0").expect("a port"), answer)
    }

    pub fn over(listener: TcpListener, answer: impl FnMut(&Got) -> Answer + Send + 'static) -> Self {
        let (tell, got) = mpsc::channel();
        let address = listener.local_addr().expect("bound");
        let answer: Answers = Arc::new(Mutex::new(answer));
        let answers = Arc::new(Mutex::new(answer));
        let current = answers.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let (tell, current) = (tell.clone(), current.clone());
                std::thread::spawn(move || serve(socket.expect("a client"), &tell, &current));
            }
        });
        Self { address, got, answers }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// From now on it answers in this way.
    pub fn answer(&self, answer: impl FnMut(&Got) -> Answer + Send + 'static) {
        *self.answers.lock().expect("nobody panics here") = Arc::new(Mutex::new(answer));
    }

    /// The next request.
    pub fn next(&self) -> Got {
        let got = self.got.recv_timeout(DEADLINE).expect("a request comes");
        got.check();
        got
    }

    /// Requests that have come and were not asked for.
    pub fn rest(&self) -> Vec<Got> {
        self.got.try_iter().collect()
    }
}

fn serve(socket: TcpStream, tell: &mpsc::Sender<Got>, answers: &Mutex<Answers>) {
    let mut writer = socket.try_clone().expect("a second handle");
    let mut connection = Connection::over(socket);
    let Some(first) = connection.line() else { return };
    let path = first.split(' ').nth(1).expect("a target").to_owned();
    assert!(first.starts_with("POST "), "{first}");
    let mut headers = HashMap::new();
    while let Some(line) = connection.line().filter(|line| !line.trim_end().is_empty()) {
        let (name, value) = line.trim_end().split_once(": ").expect("a header");
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = headers["content-length"].parse().expect("a length");
    let got = Got { path, headers, body: connection.exactly(length) };
    let answer = answers.lock().expect("nobody panics here").clone();
    let answer = (answer.lock().expect("nobody panics here"))(&got);
    let (status, header) = match answer {
        Answer::Hold => {
            let _ = tell.send(got);
            connection.rest();
            return;
        }
        Answer::Status(status) => (status, ""),
        Answer::With(status, header) => (status, header),
    };
    let more = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
    let _ = write!(writer, "HTTP/1.1 {status} X\r\n{more}Content-Length: 0\r\nConnection: close\r\n\r\n");
    let _ = tell.send(got);
}
