//! The HTTP/1.1 client of the doctor: each call uses a connection of its own and is sent and read exactly as it is on
//! the wire, because the doctor looks for what a proxy changes.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::tls;
use crate::cli::follow::{ServerUrl, connect};

/// The largest head of a response, in bytes.
const HEAD_BYTES_MAX: u64 = 64 * 1024;

/// The most bytes that are read of a response's body.
const BODY_BYTES_MAX: u64 = 64 * 1024;

/// A socket, or TLS over one.
pub(super) trait Wire: Read + Write {}

impl<T: Read + Write> Wire for T {}

/// The server to call, and how.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) server: ServerUrl,
    /// Headers of every call.
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) trust: tls::Trust,
    /// How long a response may take.
    pub(super) patience: Duration,
}

/// The head of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// `HTTP/1.1`
    pub(super) version: String,
    pub(super) status: u16,
    headers: Vec<(String, String)>,
}

/// A complete response.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) head: Head,
    pub(super) body: Vec<u8>,
}

/// A response whose body arrives piece by piece. Dropping it closes the connection.
pub(super) struct Incoming {
    pub(super) head: Head,
    body: BufReader<Body>,
}

/// A socket whose reads end at a deadline.
struct Timed {
    wire: Box<dyn Wire>,
    socket: TcpStream,
    deadline: Instant,
}

/// Decodes the framing of a body.
struct Body {
    wire: BufReader<Timed>,
    framing: Framing,
}

/// How the end of a body is found.
#[derive(Debug, PartialEq, Eq)]
enum Framing {
    /// Chunked; the bytes left of this chunk.
    Chunks {
        left: u64,
        is_first: bool,
    },
    Length(u64),
    /// By the end of the connection.
    Close,
    Ended,
}

impl Caller {
    /// Sends a call and reads the complete response.
    pub(super) fn ask(&self, method: &str, path: &str, more: &[(&str, &str)], body: &[u8]) -> io::Result<Answer> {
        let mut incoming = self.open(method, path, more, body)?;
        let mut read = Vec::new();
        incoming.body.by_ref().take(BODY_BYTES_MAX).read_to_end(&mut read)?;
        Ok(Answer { head: incoming.head, body: read })
    }

    /// Sends a call and reads the head of the response.
    pub(super) fn open(&self, method: &str, path: &str, more: &[(&str, &str)], body: &[u8]) -> io::Result<Incoming> {
        let socket = connect(&self.server.host_and_port())?;
        socket.set_write_timeout(Some(self.patience))?;
        // A TLS handshake reads, too.
        socket.set_read_timeout(Some(self.patience))?;
        let wire: Box<dyn Wire> = match self.server.is_secure {
            true => self.trust.wrap(&self.server, socket.try_clone()?)?,
            false => Box::new(socket.try_clone()?),
        };
        let mut timed = Timed { wire, socket, deadline: Instant::now() + self.patience };
        // A proxy that refuses the rest of a body says why before it closes.
        let sent = timed.wire.write_all(&self.request(method, path, more, body)).and_then(|()| timed.wire.flush());
        if let Err(error) = sent.as_ref()
            && is_late(error)
        {
            return Err(ErrorKind::TimedOut.into());
        }
        // A large body may take longer to send than a response may take to arrive.
        timed.deadline = Instant::now() + self.patience;
        let mut wire = BufReader::new(timed);
        let head = match (read_head(&mut wire), sent) {
            (Ok(head), _) => head,
            (Err(_), Err(error)) | (Err(error), Ok(())) => return Err(error),
        };
        let framing = head.framing(method);
        Ok(Incoming { head, body: BufReader::new(Body { wire, framing }) })
    }

    fn request(&self, method: &str, path: &str, more: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        let mut text = format!("{method} {} HTTP/1.1\r\nHost: {}\r\n", self.server.target(path), self.server.authority);
        let own = self.headers.iter().map(|(name, value)| (*name, value.as_str()));
        for (name, value) in own.chain(more.iter().copied()) {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if method == "POST" {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        [text.as_bytes(), body].concat()
    }
}

impl Head {
    /// The first header of this name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    fn framing(&self, method: &str) -> Framing {
        let length = || self.header("content-length")?.parse().ok();
        if method == "HEAD" || matches!(self.status, 204 | 304) {
            return Framing::Ended;
        }
        match self.header("transfer-encoding") {
            Some(coding) if coding.eq_ignore_ascii_case("chunked") => Framing::Chunks { left: 0, is_first: true },
            _ => length().map_or(Framing::Close, Framing::Length),
        }
    }
}

impl Incoming {
    /// The part of the body that arrived since the last call. Waits for it until `deadline`. `None` at the end.
    ///
    /// # Errors
    /// [`is_late`] if nothing arrived.
    pub(super) fn next(&mut self, deadline: Instant) -> io::Result<Vec<u8>> {
        self.body.get_mut().wire.get_mut().deadline = deadline;
        let piece = self.body.fill_buf()?.to_vec();
        self.body.consume(piece.len());
        Ok(piece)
    }
}

/// Whether it failed because nothing arrived in time.
pub(super) fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

impl Read for Timed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        self.socket.set_read_timeout(Some(left))?;
        self.wire.read(into)
    }
}

impl Read for Body {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if let Framing::Chunks { left: 0, is_first } = self.framing {
            let size = next_chunk(&mut self.wire, is_first)?;
            self.framing = if size == 0 { Framing::Ended } else { Framing::Chunks { left: size, is_first: false } };
        }
        let most = match self.framing {
            Framing::Ended | Framing::Length(0) => return Ok(0),
            Framing::Chunks { left, .. } | Framing::Length(left) => left,
            Framing::Close => u64::MAX,
        };
        let read = self.wire.by_ref().take(most).read(into)?;
        match &mut self.framing {
            Framing::Chunks { .. } | Framing::Length(_) if read == 0 => return Err(ErrorKind::UnexpectedEof.into()),
            Framing::Chunks { left, .. } | Framing::Length(left) => *left -= read as u64,
            Framing::Close | Framing::Ended => {}
        }
        Ok(read)
    }
}

/// The size of the next chunk, after the end of the last one.
fn next_chunk(wire: &mut impl BufRead, is_first: bool) -> io::Result<u64> {
    if !is_first {
        read_line(wire)?;
    }
    let line = read_line(wire)?;
    let size = line.split(';').next().unwrap_or_default().trim();
    u64::from_str_radix(size, 16).map_err(|_| broken("a chunk of the response has no size"))
}

fn read_head(wire: &mut impl BufRead) -> io::Result<Head> {
    let mut wire = wire.take(HEAD_BYTES_MAX);
    loop {
        let first = read_line(&mut wire)?;
        let (version, rest) = first.split_once(' ').unwrap_or((&first, ""));
        let status = rest.get(..3).and_then(|status| status.parse().ok());
        let status =
            status.filter(|_| version.starts_with("HTTP/")).ok_or_else(|| broken("the server does not speak HTTP"))?;
        let mut headers = Vec::new();
        loop {
            let line = read_line(&mut wire)?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        // An interim response may precede the response.
        if !(100..200).contains(&status) {
            return Ok(Head { version: version.to_owned(), status, headers });
        }
    }
}

/// A line without its end.
fn read_line(wire: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    wire.take(HEAD_BYTES_MAX).read_until(b'\n', &mut line)?;
    match line.pop() {
        Some(b'\n') => Ok(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned()),
        _ => Err(ErrorKind::UnexpectedEof.into()),
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_whole() {
        let text =
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\nServer: nginx\r\ntransfer-encoding: chunked\r\n\r\nrest";
        let head = read_head(&mut text.as_bytes()).expect("a head");
        assert_eq!((head.version.as_str(), head.status, head.header("SERVER")), ("HTTP/1.0", 200, Some("nginx")));
        assert_eq!(head.framing("GET"), Framing::Chunks { left: 0, is_first: true });
        for bad in ["", "HTTP/1.1 200 OK\r\nA: b", "SSH-2.0\r\n\r\n", "HTTP/1.1 \u{e9}\u{e9}\r\n\r\n"] {
            assert!(read_head(&mut bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn chunks_are_told_apart_from_what_they_hold() {
        let mut wire = "5;x=y\r\nhello\r\n0\r\n\r\n".as_bytes();
        assert_eq!(next_chunk(&mut wire, true).expect("a size"), 5);
        wire = &wire[5..];
        assert_eq!(next_chunk(&mut wire, false).expect("a size"), 0);
        assert!(next_chunk(&mut "hello\r\n".as_bytes(), true).is_err());
    }
}
