//! Properties of forwarded addresses, for the fuzzer and the tests of its corpus.

use super::admission::{Cidr, forwarded_address};

/// Values of `X-Forwarded-For`, one per line, as a trusted proxy passes them on.
pub fn forwarded(bytes: &[u8]) {
    let trusted =
        [Cidr::parse("127.0.0.0/8"), Cidr::parse("::1"), Cidr::parse("10.0.0.0/8")].map(|c| c.expect("a range"));
    let values: Vec<&[u8]> = bytes.split(|b| *b == b'\n').collect();
    if let Some(address) = forwarded_address(values.iter().copied(), &trusted) {
        assert!(!trusted.iter().any(|range| range.contains(address)), "{address} is a proxy");
    }
    // Only what the proxy itself has added counts, whatever a client has sent before it: in the same line or in
    // another, through a further proxy or not.
    for added in [", 203.0.113.9", "\n203.0.113.9", ",203.0.113.9,10.1.1.1", ", 203.0.113.9\n[::1]:80"] {
        let passed_on = [bytes, added.as_bytes()].concat();
        let found = forwarded_address(passed_on.split(|b| *b == b'\n'), &trusted);
        assert_eq!(found, "203.0.113.9".parse().ok(), "{added:?} is not believed");
    }
}
