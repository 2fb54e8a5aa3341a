//! The address for which a connection counts.

use std::net::{IpAddr, Ipv6Addr};

use crate::config::Cidr;

/// The address for which a peer counts: an IPv6 address counts by its /64, which is what one customer has.
pub(super) fn counted_address(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.into(),
            None => Ipv6Addr::from(u128::from(v6) >> 64 << 64).into(),
        },
    }
}

/// The address that a trusted proxy forwards: the last one of `X-Forwarded-For` that is not itself trusted.
pub(in crate::server) fn forwarded_address<'v>(
    values: impl Iterator<Item = &'v [u8]>,
    trusted: &[Cidr],
) -> Option<IpAddr> {
    // Split before decoding: the client's part, which comes before the proxy's, may not be text.
    let hops = values.flat_map(|value| value.split(|&b| b == b',')).map(parse_hop);
    let is_trusted = |address| trusted.iter().any(|cidr| cidr.contains(address));
    hops.filter(|hop| !hop.is_some_and(is_trusted)).last().flatten()
}

/// Parses an address, perhaps with a port; an IPv6 address may be in brackets.
fn parse_hop(hop: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(hop).ok()?.trim();
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if let Ok(socket) = text.parse::<std::net::SocketAddr>() {
        return Some(socket.ip());
    }
    text.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forwarded_address_is_the_last_that_is_not_trusted() {
        let trusted = [Cidr::parse("127.0.0.0/8").expect("a range"), Cidr::parse("10.0.0.0/8").expect("a range")];
        for (header, expected) in [
            ("203.0.113.9", Some("203.0.113.9")),
            ("198.51.100.1, 203.0.113.9, 10.1.1.1", Some("203.0.113.9")),
            ("203.0.113.9:4711", Some("203.0.113.9")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("10.0.0.1", None),
            ("unknown", None),
            ("", None),
        ] {
            let forwarded = forwarded_address([header.as_bytes()].into_iter(), &trusted);
            assert_eq!(forwarded, expected.map(|text| text.parse().expect("an address")), "{header}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_hide_no_forwarded_address() {
        let trusted = [Cidr::parse("10.0.0.0/8").expect("a range")];
        let forwarded = forwarded_address([&b"\xff, 203.0.113.9, 10.0.0.1"[..]].into_iter(), &trusted);
        assert_eq!(forwarded, "203.0.113.9".parse().ok());
        assert_eq!(forwarded_address([&b"203.0.113.9, \xff"[..]].into_iter(), &trusted), None);
    }

    #[test]
    fn an_ipv6_address_counts_by_its_network() {
        let counted = |text: &str| counted_address(text.parse().expect("an address")).to_string();
        assert_eq!(counted("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(counted("::ffff:192.0.2.1"), "192.0.2.1");
    }
}
