//! Where the server is and how it is reached: over loopback, and nowhere else. A load generator that can be pointed at
//! somebody else's machine is a weapon.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, ipproto, socket_with, sockopt};

use crate::failure::{Failure, Outcome, failure};
use crate::http::read_head;

/// Source addresses that connections are spread over: each has its own ephemeral ports, and its own share of the
/// server's limits per address.
const SOURCES: usize = 250;

/// A source address of its own, beside those.
const LONER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 252);

/// How long a single call may take to be answered.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A server on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target(SocketAddr);

impl Target {
    /// The server at this address.
    ///
    /// # Errors
    /// Where it is not loopback.
    pub fn new(address: SocketAddr) -> Outcome<Self> {
        if address.ip().is_loopback() {
            Ok(Self(address))
        } else {
            failure(format!("{address} is not a loopback address; only servers on this machine may be load-tested"))
        }
    }

    /// Reads `http://127.0.0.1:8080`. Names are not resolved: nobody knows what they lead to.
    ///
    /// # Errors
    /// Where it is something else.
    pub fn parse(url: &str) -> Outcome<Self> {
        let address =
            url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/').replace("localhost:", "127.0.0.1:"));
        match address.and_then(|address| address.parse().ok()) {
            Some(address) => Self::new(address),
            None => failure(format!("{url}: expected an address such as http://127.0.0.1:8080")),
        }
    }

    /// Its address and port.
    pub fn address(self) -> SocketAddr {
        self.0
    }

    /// A socket on its way to the server, from the source address that the connection of this number has.
    ///
    /// # Errors
    /// Where the system gives none.
    pub fn connect(self, number: usize, receive_bytes: Option<usize>) -> Outcome<mio::net::TcpStream> {
        self.connect_from(source(number), receive_bytes)
    }

    /// The same from [the one address](LONER) that no connection with a number has.
    ///
    /// # Errors
    /// Where the system gives none.
    pub fn connect_alone(self, receive_bytes: Option<usize>) -> Outcome<mio::net::TcpStream> {
        self.connect_from(LONER, receive_bytes)
    }

    fn connect_from(self, source: Ipv4Addr, receive_bytes: Option<usize>) -> Outcome<mio::net::TcpStream> {
        let family = if self.0.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        if self.0.is_ipv4() {
            bind(&socket, &SocketAddr::from((source, 0)))?;
        }
        if let Some(bytes) = receive_bytes {
            sockopt::set_socket_recv_buffer_size(&socket, bytes)?;
        }
        sockopt::set_tcp_nodelay(&socket, true)?;
        match connect(&socket, &self.0) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(mio::net::TcpStream::from_std(socket.into())),
            Err(error) => Err(error.into()),
        }
    }

    /// The body of one answer to `GET path`, on a connection of its own.
    ///
    /// # Errors
    /// Where there is no answer, or not 200.
    pub fn get(self, path: &str) -> Outcome<String> {
        match self.call("GET", path, None, "")? {
            Answer { status: 200, body, .. } => Ok(body),
            answer => failure(format!("GET {path}: {}", answer.status)),
        }
    }

    /// One call on a connection of its own.
    ///
    /// # Errors
    /// Where there is no answer.
    pub fn call(self, method: &str, path: &str, token: Option<&str>, body: &str) -> Outcome<Answer> {
        use std::io::{Read, Write};
        let mut socket = std::net::TcpStream::connect_timeout(&self.0, CALL_TIMEOUT)?;
        socket.set_read_timeout(Some(CALL_TIMEOUT))?;
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{token}", self.0);
        write!(socket, "{head}Content-Length: {length}\r\n\r\n{body}")?;
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer)?;
        let Some(head) = read_head(&answer).map_err(Failure)? else {
            return failure(format!("{method} {path}: no answer"));
        };
        let body = String::from_utf8_lossy(&answer[head.bytes..]).into_owned();
        Ok(Answer { status: head.status, retry_after: head.retry_after, body })
    }

    /// The value of a metric, by its whole name with labels; none where the server has no such metric.
    pub fn metric(self, name: &str) -> Option<f64> {
        let page = self.get("/metrics").ok()?;
        page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
    }
}

/// What one call was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u32>,
    /// All behind its head.
    pub body: String,
}

fn source(number: usize) -> Ipv4Addr {
    let last = 2 + number % SOURCES;
    Ipv4Addr::new(127, 0, 0, u8::try_from(last).unwrap_or(u8::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_put_under_load() {
        for (url, is_taken) in [
            ("http://127.0.0.1:8080", true),
            ("http://127.3.2.1:1/", true),
            ("http://localhost:80", true),
            ("http://[::1]:8080", true),
            ("http://192.168.0.1:8080", false),
            ("http://example.com:80", false),
            ("http://0.0.0.0:80", false),
            ("https://127.0.0.1:8080", false),
            ("127.0.0.1:8080", false),
        ] {
            assert_eq!(Target::parse(url).is_ok(), is_taken, "{url}");
        }
    }

    #[test]
    fn sources_are_loopback_and_go_round() {
        assert_eq!(source(0), Ipv4Addr::new(127, 0, 0, 2));
        assert_eq!(source(SOURCES - 1), Ipv4Addr::new(127, 0, 0, 251));
        assert_eq!(source(SOURCES), source(0));
        assert!((0..SOURCES).all(|number| source(number) != LONER));
    }
}
