//! HTTP/1.1 over a plain socket: what is sent and what comes back, byte by byte.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use super::DEADLINE;

/// A request to be sent.
#[derive(Clone)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Option<Vec<u8>>,
    host: Option<String>,
}

impl Request {
    pub fn new(method: &str, target: &str) -> Self {
        Self { method: method.to_owned(), target: target.to_owned(), headers: Vec::new(), body: None, host: None }
    }

    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    pub fn post(target: &str, body: &Value) -> Self {
        Self::new("POST", target).header("Content-Type", "application/json").body(body.to_string())
    }

    pub fn header(self, name: &str, value: &str) -> Self {
        self.header_bytes(name, value.as_bytes())
    }

    /// As [`header`](Self::header), with a value that may be no text.
    pub fn header_bytes(mut self, name: &str, value: &[u8]) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn token(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// For this `Host`, and not for the address that it is sent to.
    pub fn host(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    /// Its bytes, with a `Host`, and a `Content-Length` where there is a body.
    pub fn bytes(&self, to: SocketAddr) -> Vec<u8> {
        let host = self.host.clone().unwrap_or_else(|| to.to_string());
        let mut bytes = format!("{} {} HTTP/1.1\r\nHost: {host}\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        if let Some(body) = &self.body {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }

    /// Sends it on a connection of its own, to a server that may be gone, or be killed before it has answered in full.
    pub fn try_send(&self, to: SocketAddr) -> Option<Response> {
        let mut connection = Connection::try_open(to)?;
        connection.write(&self.bytes(to));
        connection.response_if_whole()
    }

    /// Sends it on a connection of its own.
    pub fn send(self, to: SocketAddr) -> Response {
        let mut connection = Connection::open(to);
        connection.write(&self.bytes(to));
        connection.response(self.method == "HEAD").unwrap_or_else(|| panic!("no answer to {}", self.target))
    }
}

/// An answer, read whole.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("UTF-8")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The `code` of a problem; checks that it is one.
    pub fn code(&self) -> String {
        assert_eq!(self.header("Content-Type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{problem}");
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
        problem["code"].as_str().expect("a code").to_owned()
    }
}

/// A connection that may carry several requests.
pub struct Connection {
    socket: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    pub fn open(to: SocketAddr) -> Self {
        Self::over(TcpStream::connect(to).expect("the server listens"))
    }

    /// As [`open`](Self::open), from this address of the machine.
    pub fn open_from(source: Ipv4Addr, to: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((source, 0)).into()).expect("an address of this machine");
        socket.connect(&to.into()).expect("the server listens");
        Self::over(socket.into())
    }

    /// As [`open`](Self::open), by a socket that takes little, so that what is not read soon waits at the server.
    pub fn open_narrow(to: SocketAddr) -> Self {
        Self::try_open_narrow(to).expect("the server listens")
    }

    /// As [`open_narrow`](Self::open_narrow); none where nobody listens.
    pub fn try_open_narrow(to: SocketAddr) -> Option<Self> {
        const RECEIVE_BUFFER_BYTES: usize = 4096;
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).ok()?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES).ok()?;
        socket.connect(&to.into()).ok()?;
        Some(Self::over(socket.into()))
    }

    /// As [`open`](Self::open); none where nobody listens.
    pub fn try_open(to: SocketAddr) -> Option<Self> {
        TcpStream::connect(to).ok().map(Self::over)
    }

    pub fn over(socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(DEADLINE)).expect("not zero");
        Self { socket, read: Vec::new() }
    }

    /// Writes what the other side takes: it may have closed already, and its answer is still to be read.
    pub fn write(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes);
    }

    /// Has anything come by now that was not read?
    pub fn has_news(&self) -> bool {
        self.socket.set_nonblocking(true).expect("a socket");
        let has_come = self.socket.peek(&mut [0]).is_ok();
        self.socket.set_nonblocking(false).expect("a socket");
        has_come || !self.read.is_empty()
    }

    /// The next answer; none where the connection ends before one begins. One without a length goes to the end of the
    /// connection.
    pub fn response(&mut self, is_head: bool) -> Option<Response> {
        let mut response = self.head()?;
        let has_body = !is_head && response.status >= 200 && ![204, 304].contains(&response.status);
        match response.header("Content-Length").map(|length| length.parse().expect("a length")) {
            _ if !has_body => {}
            Some(length) => response.body = self.exactly(length),
            None => response.body = self.rest(),
        }
        Some(response)
    }

    /// The next answer, of a server that may be killed while it answers: none where it is not there in full.
    pub fn response_if_whole(&mut self) -> Option<Response> {
        let mut response = self.head_if_whole()?;
        let length: usize = response.header("Content-Length")?.parse().expect("a length");
        while self.read.len() < length {
            if !self.fill() {
                return None;
            }
        }
        response.body = self.exactly(length);
        Some(response)
    }

    /// The next head.
    pub fn head(&mut self) -> Option<Response> {
        let head = self.head_if_whole();
        assert!(head.is_some() || self.read.is_empty(), "half a head: {:?}", String::from_utf8_lossy(&self.read));
        head
    }

    /// The next head; none where the connection ends before its end.
    pub fn head_if_whole(&mut self) -> Option<Response> {
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            if !self.fill() {
                return None;
            }
        };
        let head = String::from_utf8(self.read.drain(..end + 4).collect()).expect("a head is text");
        let mut lines = head.trim_end().split("\r\n");
        let status_line = lines.next().expect("a line");
        let status = status_line.strip_prefix("HTTP/1.1 ").expect("HTTP/1.1").get(..3).expect("a status");
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("a header line: {line:?}"));
            (name.to_owned(), value.to_owned())
        });
        Some(Response { status: status.parse().expect("a status"), headers: headers.collect(), body: Vec::new() })
    }

    /// Everything until the other side closes.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.read)
    }

    /// The next `length` bytes.
    pub fn exactly(&mut self, length: usize) -> Vec<u8> {
        self.exactly_if_whole(length).unwrap_or_else(|| panic!("the connection ended within {length} bytes"))
    }

    /// The next `length` bytes; none where the connection ended before.
    pub fn exactly_if_whole(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.read.len() < length {
            if !self.fill() {
                return None;
            }
        }
        Some(self.read.drain(..length).collect())
    }

    /// The next line, without its end; none where the connection has ended. What is left unfinished then is dropped.
    pub fn line(&mut self) -> Option<String> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.read[searched..].iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=searched + at).collect();
                return Some(String::from_utf8(line[..line.len() - 1].to_vec()).expect("UTF-8"));
            }
            searched = self.read.len();
            if !self.fill() {
                return None;
            }
        }
    }

    /// Reads once; `false` where the other side has closed.
    fn fill(&mut self) -> bool {
        let mut chunk = [0; 16 * 1024];
        loop {
            match self.socket.read(&mut chunk) {
                Ok(0) => return false,
                Ok(n) => {
                    self.read.extend_from_slice(&chunk[..n]);
                    return true;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return false,
                Err(error) => {
                    panic!("nothing came: {error}; before that: {:?}", String::from_utf8_lossy(&self.read))
                }
            }
        }
    }
}
