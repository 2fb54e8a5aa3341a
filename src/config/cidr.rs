//! Ranges of IP addresses: `10.0.0.0/8`, `::1`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A range of IP addresses. An IPv4 address that comes mapped into IPv6 (`::ffff:10.0.0.1`, as a socket for both
/// families shows it) counts as IPv4, in the range as in what is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    /// The first address; the bits beyond the prefix are zero.
    network: IpAddr,
    /// Bits that an address must share with it.
    prefix: u8,
}

impl Cidr {
    /// Reads `10.0.0.0/8` or `fd00::/8`; a bare address is a range of one. Bits beyond the prefix are dropped.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(parse_prefix(prefix)?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(bits_max);
        (prefix <= bits_max).then(|| Self::new(address, prefix))
    }

    /// Does the range hold `address`?
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.network.is_ipv4() && masked(address, self.prefix) == self.network
    }

    /// The range of the first `prefix` bits of `address`; at most as many as an address has.
    pub(super) fn new(address: IpAddr, prefix: u8) -> Self {
        const MAPPED_BITS: u8 = 96;
        match (address, address.to_canonical()) {
            (IpAddr::V6(_), v4 @ IpAddr::V4(_)) if prefix >= MAPPED_BITS => {
                let prefix = prefix - MAPPED_BITS;
                Self { network: masked(v4, prefix), prefix }
            }
            _ => Self { network: masked(address, prefix), prefix },
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

/// Digits alone: `parse` would let a `+` through.
fn parse_prefix(text: &str) -> Option<u8> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// `address` with the bits beyond `prefix` zeroed.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & !u32::MAX.checked_shr(prefix).unwrap_or(0)).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::MAX.checked_shr(prefix).unwrap_or(0)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_what_shares_its_prefix() {
        let table = [
            ("127.0.0.0/8", "127.255.0.1", true),
            ("127.0.0.0/8", "128.0.0.1", false),
            ("127.0.0.0/8", "::ffff:127.0.0.1", true),
            ("127.0.0.0/8", "::1", false),
            ("::1", "::1", true),
            ("::1", "::2", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.4", false),
            ("10.1.2.3/8", "10.9.9.9", true),
            ("10.0.0.0/9", "10.128.0.0", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fe00::1", false),
            ("::ffff:10.0.0.0/104", "10.2.3.4", true),
            ("::ffff:10.0.0.0/104", "11.2.3.4", false),
        ];
        for (range, address, held) in table {
            let cidr = Cidr::parse(range).expect(range);
            assert_eq!(cidr.contains(address.parse().expect(address)), held, "{range} {address}");
            assert_eq!(Cidr::parse(&cidr.to_string()), Some(cidr), "{range} reads back");
        }
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in
            ["", "/", "10.0.0.0/", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/+8", "10.0.0.0/-1", "local", "*"]
        {
            assert_eq!(Cidr::parse(text), None, "{text}");
        }
    }
}
