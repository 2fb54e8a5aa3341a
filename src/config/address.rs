//! The address to listen on: `127.0.0.1:8080`, `[::]:8080`, `localhost:0`, `stepcast.internal:8080`.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

/// The longest host name that DNS knows, in bytes.
const HOST_BYTES_MAX: usize = 253;

/// A host and a port. Port 0 asks the system for a free one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddress {
    host: Host,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Ip(IpAddr),
    /// `localhost` never asks a resolver (RFC 6761), so that it can't be anything but loopback.
    Localhost,
    Name(String),
}

impl ListenAddress {
    /// The address `ip:port`.
    pub const fn new(ip: IpAddr, port: u16) -> Self {
        Self { host: Host::Ip(ip), port }
    }

    /// Reads `host:port`; an IPv6 address stands in brackets.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Some(Self::new(address.ip(), address.port()));
        }
        let (host, port) = text.rsplit_once(':')?;
        let port = port.bytes().all(|b| b.is_ascii_digit()).then(|| port.parse().ok())??;
        let host = if host.eq_ignore_ascii_case("localhost") {
            Host::Localhost
        } else if is_host_name(host) {
            Host::Name(host.to_owned())
        } else {
            return None;
        };
        Some(Self { host, port })
    }

    /// Can only this machine reach it? A name other than `localhost` counts as reachable.
    pub(crate) fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Ip(ip) => ip.to_canonical().is_loopback(),
            Host::Localhost => true,
            Host::Name(_) => false,
        }
    }

    /// The name that it was given, where that is no address.
    pub(crate) fn name(&self) -> Option<&str> {
        match &self.host {
            Host::Ip(_) => None,
            Host::Localhost => Some("localhost"),
            Host::Name(name) => Some(name),
        }
    }

    /// The addresses to listen at, best first. Blocks where a name has to be looked up.
    ///
    /// # Errors
    /// If the name is not found.
    pub(crate) fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        match &self.host {
            Host::Ip(ip) => Ok(vec![SocketAddr::new(*ip, self.port)]),
            Host::Localhost => {
                let both: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
                Ok(both.map(|ip| SocketAddr::new(ip, self.port)).to_vec())
            }
            Host::Name(name) => Ok((name.as_str(), self.port).to_socket_addrs()?.collect()),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Localhost => write!(f, "localhost:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// Labels of letters, digits, `-` and `_`, with single dots between them. The last one is not all digits, or it would
/// be an IPv4 address gone wrong.
pub(super) fn is_host_name(text: &str) -> bool {
    let is_label =
        |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    let is_number = |label: &str| label.bytes().all(|b| b.is_ascii_digit());
    text.len() <= HOST_BYTES_MAX && text.split('.').all(is_label) && !text.rsplit('.').next().is_some_and(is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_and_know_whether_they_are_loopback() {
        let table = [
            ("127.0.0.1:8080", true),
            ("127.9.9.9:0", true),
            ("[::1]:8080", true),
            ("[::ffff:127.0.0.1]:80", true),
            ("localhost:8080", true),
            ("0.0.0.0:8080", false),
            ("[::]:8080", false),
            ("192.0.2.1:65535", false),
            ("localhost.example:80", false),
            ("a-b_c.internal:80", false),
        ];
        for (text, loopback) in table {
            let address = ListenAddress::parse(text).expect(text);
            assert_eq!((address.to_string().as_str(), address.is_loopback()), (text, loopback));
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let bad =
            ["", ":80", "8080", "host", "host:", "host:65536", "host:+1", "::1:80", "1.2.3:80", "a..b:80", "a b:80"];
        for text in bad {
            assert_eq!(ListenAddress::parse(text), None, "{text}");
        }
        assert_eq!(ListenAddress::parse(&format!("{}:80", "x".repeat(254))), None);
    }

    #[test]
    fn localhost_is_both_loopback_addresses_and_asks_nobody() {
        let address = ListenAddress::parse("LOCALHOST:7").expect("an address");
        let expected: Vec<SocketAddr> = vec!["127.0.0.1:7".parse().expect("v4"), "[::1]:7".parse().expect("v6")];
        assert_eq!(address.resolve().expect("resolves"), expected);
    }
}
