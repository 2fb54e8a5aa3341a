//! The signature of Standard Webhooks 1.0: HMAC-SHA256 over id, time and body, with a secret that sender and receiver
//! share. If there are several secrets, each makes a signature, so that a receiver can change its secret at any time.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac::{Context, HMAC_SHA256, Key};

/// The prefix of a secret in the configuration.
const PREFIX: &str = "whsec_";

/// Bytes that a secret has, at least and at most.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A secret that bodies are signed with.
#[derive(Clone)]
pub(crate) struct SigningSecret(Key);

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(***)")
    }
}

impl SigningSecret {
    /// Reads `whsec_` and the base64 of 24 to 64 bytes. `None` if it is something else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text.strip_prefix(PREFIX)?).ok()?;
        SECRET_BYTES.contains(&bytes.len()).then(|| Self(Key::new(HMAC_SHA256, &bytes)))
    }
}

/// The `webhook-signature` of a body that is sent with this id at this second.
pub(super) fn sign(secrets: &[SigningSecret], id: &str, seconds: u64, body: &[u8]) -> String {
    let signatures = secrets.iter().map(|SigningSecret(key)| {
        let mut context = Context::with_key(key);
        context.update(format!("{id}.{seconds}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    });
    signatures.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_written_as_the_standard_has_it() {
        let of = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        for (bytes, expected) in [(23, false), (24, true), (32, true), (64, true), (65, false)] {
            assert_eq!(SigningSecret::parse(&of(bytes)).is_some(), expected, "{bytes} bytes");
        }
        for bad in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_@@@@", "whpk_AAAA", "whsec_ AAAA"] {
            assert!(SigningSecret::parse(bad).is_none(), "{bad}");
        }
        assert_eq!(format!("{:?}", SigningSecret::parse(&of(24))), "Some(SigningSecret(***))");
    }

    #[test]
    fn the_signature_is_the_one_that_receivers_compute() {
        let secret = |text| SigningSecret::parse(text).expect("a secret");
        let one = secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let signature =
            sign(std::slice::from_ref(&one), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let other = secret("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
        let both = sign(&[one, other], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert!(both.starts_with(&format!("{signature} v1,")) && both.len() == 2 * signature.len() + 1, "{both}");
    }
}
