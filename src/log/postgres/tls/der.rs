//! Parts of a certificate that are needed here and that no library provides: its key, whatever its version, and its
//! signature algorithm. X.509 consists of nested elements, each with a tag, a length and content.

use ring::digest::{Algorithm, SHA256, SHA384, SHA512};

const SEQUENCE: u8 = 0x30;
const OBJECT_ID: u8 = 0x06;
/// The tag of a version, which one of the first version has not.
const VERSION: u8 = 0xa0;

/// In a certificate, before its key: number, algorithm, issuer, validity, subject.
const BEFORE_KEY: usize = 5;

/// The ids of ways to sign, with what they sum up by. For what is weak, and for nothing else, it is another by which the
/// certificate is then known: RFC 5929, 4.1.
const SIGNATURES: [(&[u8], &Algorithm); 9] = [
    // RSA with MD5, SHA-1, SHA-256, SHA-384, SHA-512.
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04], &SHA256),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05], &SHA256),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b], &SHA256),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c], &SHA384),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d], &SHA512),
    // ECDSA with SHA-1, SHA-256, SHA-384, SHA-512.
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01], &SHA256),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02], &SHA256),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03], &SHA384),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04], &SHA512),
];

/// The channel binding: the hash of the server's certificate, by the hash algorithm of its signature. None if the
/// signature has no such algorithm, as Ed25519.
pub(super) fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let inner = Element::sequence(certificate)?.content;
    let algorithm = Element::sequence(Element::sequence(inner)?.behind)?.content;
    let id = Element::read(algorithm).filter(|it| it.tag == OBJECT_ID)?.content;
    let (_, by) = SIGNATURES.iter().find(|(known, _)| *known == id)?;
    Some(ring::digest::digest(by, certificate).as_ref().to_vec())
}

/// The key of a certificate, as its `SubjectPublicKeyInfo`.
pub(super) fn key(certificate: &[u8]) -> Option<&[u8]> {
    let mut rest = Element::sequence(Element::sequence(certificate)?.content)?.content;
    if let Some(version) = Element::read(rest).filter(|it| it.tag == VERSION) {
        rest = version.behind;
    }
    for _ in 0..BEFORE_KEY {
        rest = Element::read(rest)?.behind;
    }
    Element::sequence(rest).map(|key| key.whole)
}

struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    whole: &'a [u8],
    behind: &'a [u8],
}

impl<'a> Element<'a> {
    /// The first of `bytes`.
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (&[tag, short], rest) = bytes.split_first_chunk::<2>()?;
        let (length, rest) = match short {
            0..=0x7f => (usize::from(short), rest),
            // The length has this many bytes; certificates need at most four.
            0x81..=0x84 => {
                let (length, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
                (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, behind) = rest.split_at_checked(length)?;
        let whole = &bytes[..bytes.len() - behind.len()];
        Some(Self { tag, content, whole, behind })
    }

    fn sequence(bytes: &'a [u8]) -> Option<Self> {
        Self::read(bytes).filter(|it| it.tag == SEQUENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate of these parts, signed by the algorithm of this id.
    fn certificate(before: &[u8], id: &[u8]) -> Vec<u8> {
        let element = |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).expect("short")], content].concat();
        let key = element(SEQUENCE, b"key");
        let others =
            [element(2, &[7]), element(SEQUENCE, b""), element(SEQUENCE, b"i"), element(SEQUENCE, b"v")].concat();
        let inner = [before, &others, &element(SEQUENCE, b"s"), &key].concat();
        let algorithm = element(SEQUENCE, &element(OBJECT_ID, id));
        let inner = [&[SEQUENCE, 0x82, 0, u8::try_from(inner.len()).expect("short")], &inner[..]].concat();
        element(SEQUENCE, &[inner, algorithm, element(3, b"sig")].concat())
    }

    #[test]
    fn a_channel_is_bound_by_the_sum_that_the_signature_goes_by_and_by_nothing_where_there_is_none() {
        for (id, by) in SIGNATURES {
            let whole = certificate(&[VERSION, 3, 2, 1, 2], id);
            assert_eq!(end_point(&whole), Some(ring::digest::digest(by, &whole).as_ref().to_vec()));
        }
        let ed25519 = certificate(&[], &[0x2b, 0x65, 0x70]);
        assert_eq!(end_point(&ed25519), None);
    }

    #[test]
    fn the_key_is_found_with_a_version_and_without() {
        for before in [&[][..], &[VERSION, 3, 2, 1, 2]] {
            assert_eq!(key(&certificate(before, SIGNATURES[0].0)), Some(&[SEQUENCE, 3, b'k', b'e', b'y'][..]));
        }
    }

    #[test]
    fn whatever_is_cut_off_is_no_certificate() {
        let whole = certificate(&[], SIGNATURES[0].0);
        for length in 0..whole.len() {
            assert_eq!((end_point(&whole[..length]), key(&whole[..length])), (None, None), "{length}");
        }
        assert_eq!(key(&[SEQUENCE, 0x80, 0, 0]), None, "of no length");
        assert_eq!(key(&[SEQUENCE, 0x85, 0, 0, 0, 0, 0]), None);
    }
}
