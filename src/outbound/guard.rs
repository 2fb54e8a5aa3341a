//! Which addresses a request may go to: a name can resolve to any address, including one in a network that only this
//! machine can reach.
//!
//! The check is made where the name is resolved, and exactly the addresses that pass are connected to, so a second
//! lookup cannot return others.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// How far a request may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// To addresses that everyone has.
    Public,
    /// To this machine.
    Loopback,
    /// To any address.
    Any,
}

impl Reach {
    /// May a request go to this address?
    pub(crate) fn includes(self, address: IpAddr) -> bool {
        match self {
            Self::Public => is_public(address),
            Self::Loopback => address.to_canonical().is_loopback(),
            Self::Any => true,
        }
    }
}

/// Looks names up, and leaves out what is out of reach.
#[derive(Debug)]
pub(super) struct Guard {
    reach: Reach,
    inner: DefaultResolver,
}

impl Guard {
    pub(super) fn new(reach: Reach) -> Self {
        Self { reach, inner: DefaultResolver::default() }
    }
}

impl Resolver for Guard {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let found = self.inner.resolve(uri, config, timeout)?;
        let mut within = self.empty();
        for address in found.iter().filter(|address| self.reach.includes(address.ip())) {
            within.push(*address);
        }
        if within.is_empty() {
            let host = uri.host().unwrap_or_default();
            let why = format!("{host} has no public address and is not listed in allow_hosts");
            return Err(Error::Io(io::Error::other(why)));
        }
        Ok(within)
    }
}

/// Is it an address that anyone on the internet may have, by the registries of special ones (RFC 6890 and what came after)?
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !matches!(
        address.octets(),
        [0 | 10 | 127 | 224..=255, ..]
            | [100, 64..=127, ..]
            | [169, 254, ..]
            | [172, 16..=31, ..]
            | [192, 0, 0 | 2, _]
            | [192, 88, 99, _]
            | [192, 168, ..]
            | [198, 18 | 19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
    )
}

/// Addresses in 2000::/3, except ranges for protocols, for documentation and for embedded IPv4 addresses.
fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..=0xfff, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_a_network_of_ones_own_is_not_public() {
        for (address, expected) in [
            ("93.184.215.14", true),
            ("8.8.8.8", true),
            ("172.15.0.1", true),
            ("172.32.0.1", true),
            ("100.63.0.1", true),
            ("192.0.1.1", true),
            ("2606:2800:21f:cb07::1", true),
            ("2001:4860:4860::8888", true),
            ("0.0.0.0", false),
            ("10.1.2.3", false),
            ("100.64.0.1", false),
            ("127.0.0.1", false),
            ("169.254.169.254", false),
            ("172.16.0.1", false),
            ("172.31.255.255", false),
            ("192.0.0.8", false),
            ("192.0.2.1", false),
            ("192.88.99.1", false),
            ("192.168.1.1", false),
            ("198.18.0.1", false),
            ("198.51.100.1", false),
            ("203.0.113.1", false),
            ("224.0.0.1", false),
            ("240.0.0.1", false),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", false),
            ("::ffff:10.0.0.1", false),
            ("::ffff:8.8.8.8", true),
            ("64:ff9b::a00:1", false),
            ("100::1", false),
            ("2001::1", false),
            ("2001:db8::1", false),
            ("2002:a00:1::1", false),
            ("3fff::1", false),
            ("5f00::1", false),
            ("fc00::1", false),
            ("fd12:3456::1", false),
            ("fe80::1", false),
            ("fec0::1", false),
            ("ff02::1", false),
        ] {
            let address: IpAddr = address.parse().expect(address);
            assert_eq!(Reach::Public.includes(address), expected, "{address}");
        }
    }

    #[test]
    fn this_machine_is_reached_by_whoever_names_it_alone() {
        for (address, expected) in [("127.0.0.1", true), ("127.8.8.8", true), ("::1", true), ("10.0.0.1", false)] {
            let address: IpAddr = address.parse().expect(address);
            assert_eq!(
                (Reach::Loopback.includes(address), Reach::Any.includes(address)),
                (expected, true),
                "{address}"
            );
        }
    }
}
