//! Truncated HMAC-SHA256 tags, and their comparison in constant time.

use std::hint::black_box;

use ring::hmac::{Context, Key};

/// The first `N` bytes of the HMAC-SHA256 of `parts`, one after the other.
pub(super) fn tag<const N: usize>(key: &Key, parts: &[&[u8]]) -> [u8; N] {
    const { assert!(N >= 12 && N <= 32, "no less than 96 bits, no more than SHA-256 has") };
    let mut context = Context::with_key(key);
    for part in parts {
        context.update(part);
    }
    let mut short = [0; N];
    short.copy_from_slice(&context.sign().as_ref()[..N]);
    short
}

/// Are the tags the same? Takes the same time wherever they differ, so that a tag can't be guessed byte by byte.
///
/// `ring` compares only whole tags, and its function for slices is deprecated.
pub(super) fn same<const N: usize>(a: &[u8; N], b: &[u8; N]) -> bool {
    black_box(a.iter().zip(b).fold(0, |differing, (a, b)| black_box(differing | (a ^ b)))) == 0
}

#[cfg(test)]
mod tests {
    use ring::hmac::HMAC_SHA256;

    use super::*;

    #[test]
    fn a_tag_is_the_head_of_the_hmac_of_all_parts() {
        let key = Key::new(HMAC_SHA256, b"key");
        let whole = ring::hmac::sign(&key, b"one two");
        assert_eq!(tag::<16>(&key, &[b"one", b" two"]), whole.as_ref()[..16]);
    }

    #[test]
    fn tags_are_the_same_only_in_every_bit() {
        let tag = [7; 12];
        assert!(same(&tag, &tag));
        for bit in 0..96 {
            let mut other = tag;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!same(&tag, &other), "bit {bit}");
        }
    }
}
