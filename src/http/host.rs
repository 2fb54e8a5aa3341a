//! Validates a host: `uri-host [ ":" port ]` of RFC 9110, as in `Host` and in an absolute request target.

use std::net::Ipv6Addr;

use memchr::memchr;

/// Is `text` a host with an optional port?
///
/// Stricter than the grammar in three points: the name may not be empty (an `http` URI without a host is invalid, RFC
/// 9110, section 4.2.1), holds no comma (two hosts joined on the way), and what is in brackets is an IPv6 address. The
/// port may be empty, as RFC 3986 has it, and is at most 65535.
pub(super) fn is_host(text: &[u8]) -> bool {
    if let Some(bracketed) = text.strip_prefix(b"[") {
        let Some(end) = memchr(b']', bracketed) else { return false };
        return is_ipv6(&bracketed[..end]) && is_port_part(&bracketed[end + 1..]);
    }
    let (name, port) = text.split_at(memchr(b':', text).unwrap_or(text.len()));
    !name.is_empty() && is_reg_name(name) && is_port_part(port)
}

fn is_ipv6(text: &[u8]) -> bool {
    str::from_utf8(text).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

/// Nothing, or a colon with a port.
fn is_port_part(text: &[u8]) -> bool {
    match text {
        [] | [b':'] => true,
        [b':', digits @ ..] => digits.iter().all(u8::is_ascii_digit) && is_at_most_65535(digits),
        _ => false,
    }
}

fn is_at_most_65535(digits: &[u8]) -> bool {
    str::from_utf8(digits).is_ok_and(|digits| digits.parse::<u16>().is_ok())
}

/// A registered name or an IPv4 address: both are the same characters.
fn is_reg_name(mut text: &[u8]) -> bool {
    loop {
        text = match text {
            [] => return true,
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest,
            [b, rest @ ..] if is_reg_name_byte(*b) => rest,
            _ => return false,
        }
    }
}

/// `unreserved` and `sub-delims` of RFC 3986, without the comma.
fn is_reg_name_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(&b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for good in [
            "a",
            "example.com",
            "example.com:8080",
            "a:",
            "a:0",
            "127.0.0.1:65535",
            "[::1]",
            "[::1]:80",
            "[2001:db8::1]:",
            "[::ffff:1.2.3.4]",
            "xn--bcher-kva.example",
            "a_b",
            "%41.example",
            "A-b.",
            "localhost",
        ] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            ":",
            ":80",
            "a b",
            "a,b",
            "a, b",
            "a/b",
            "a:b",
            "a:80:80",
            "a:-1",
            "a:+1",
            "a:65536",
            "user@a",
            "a?b",
            "a#b",
            "[::1",
            "::1",
            "[::1]x",
            "[]",
            "[1.2.3.4]",
            "[::1%25eth0]",
            "[v1.x]",
            "a%4",
            "a%zz",
            "é",
            "a\tb",
            "a\\b",
            "<a>",
            "\"a\"",
            "http://a",
            "[[::1]]",
            "a]",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }
}
