//! Tokens of an identity provider, by the key that they name.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

use crate::auth::{AuthError, ClaimRules, JwtKey, KeySet, Verifier};
use crate::model::Timestamp;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// Its private half signed [`RSA_TOKEN`] and is gone.
const RSA_N: &str = "\
oQnfnVP5oeC3IUGfL462Fj3n9yI2_DjMEMNUd6UyMQE_27Oz35u6pn0ILrzMZTgRzaW_XeG2i4z__2WKjgqXIs2PveR-MzWJXCNDV7cO-N90UkzhsJmvjzGq\
z8LXZHn5ZV47jEfBbLOjdqoZVPMJ6unqK88kWm6iFAxu2aMUetIjKaZ9UzsDjyVHsEOCkVtlwWt69TSKdNmcenq5JjYpvzR7DJhrpR3NBVSQxsj0PueE8wLT\
eshPvPFQ0jEP1V72eLMPO60qUh0tIU_sj6UdTs1itQ0TO73G3QCfkBR_dfq-2oCSfW8KLl6em_H68YXmLWBxxMEgJBmgqIPdkkvwQQ";

/// Signed by OpenSSL with RS256, for `ann`; names the key `r1`.
const RSA_TOKEN: &str = "\
eyJhbGciOiJSUzI1NiIsImtpZCI6InIxIiwidHlwIjoiSldUIn0.eyJzdWIiOiJhbm4iLCJleHAiOjQxMDI0NDQ4MDAsInByb2plY3RzIjpbInAiXSwic2Nv\
cGUiOiJzdWJzY3JpYmUgcnVuIn0.DB7ek1HWP9wp7rAEsAWRP0eR2PiAsqQFVKk-KuIGbJ7uD6TVMRC-8oDj7rBsMA_APodPgpGyPD5R_qh0EuPvXXeDx2Fy\
rqEaE-kVcmDSnj-PHn-XPImYkIjwm4MnGhqu7u1tk0nZA2ehBLNDvT3NR04UfH26h-_8e9eQK1zCVbTLe-1Xs_mPWVKL9mbOGKXwWsz_TAP-QtnA4JzzBCJU\
p4KdBkPI4mnE5oMbQh6k4ATgZyyKUno0aVo30yUkRDUb-w0JoRQvEwBejNTuoVu5cHYVeEsX788BLiIuo27MPoTbgzaZKRzRLQoTmoz8NV1_T3MpmK5frmXO\
syYEhhwNIw";

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("any seed will do")
}

fn jwk(seed: u8, kid: Option<&str>) -> Value {
    let x = URL_SAFE_NO_PAD.encode(pair(seed).public_key());
    let mut jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": x});
    if let Some(kid) = kid {
        jwk["kid"] = json!(kid);
    }
    jwk
}

fn rsa_jwk(kid: &str) -> Value {
    json!({"kty": "RSA", "kid": kid, "n": RSA_N, "e": "AQAB", "use": "sig"})
}

fn set(keys: &[Value]) -> KeySet {
    KeySet::read(json!({"keys": keys}).to_string().as_bytes()).expect("a good set").keys
}

fn verifier(keys: &[Value]) -> Verifier {
    let mut verifier = Verifier::awaiting_keys(ClaimRules::default());
    verifier.replace_keys(set(keys));
    verifier
}

fn message(header: &Value) -> String {
    let claims = json!({"sub": "ann", "exp": 4_102_444_800_u64, "projects": ["p"]});
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()))
}

/// A token of this header, signed with Ed25519 whatever the header says.
fn token(seed: u8, header: &Value) -> String {
    let message = message(header);
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(pair(seed).sign(message.as_bytes())))
}

fn named(seed: u8, kid: &str) -> String {
    token(seed, &json!({"alg": "EdDSA", "kid": kid}))
}

#[test]
fn a_token_is_verified_with_the_key_that_it_names_and_no_other() {
    let keys = [jwk(1, Some("a")), jwk(2, Some("b")), rsa_jwk("r1")];
    for (token, expected) in [
        (named(1, "a"), None),
        (named(2, "b"), None),
        (RSA_TOKEN.to_owned(), None),
        (named(1, "b"), Some(AuthError::TokenSignature)),
        (named(3, "a"), Some(AuthError::TokenSignature)),
        (named(1, "c"), Some(AuthError::TokenKeyUnknown)),
        (named(1, ""), Some(AuthError::TokenKeyUnknown)),
        (named(1, "r1"), Some(AuthError::TokenAlgorithm)),
        (token(1, &json!({"alg": "RS256", "kid": "a"})), Some(AuthError::TokenAlgorithm)),
        (token(1, &json!({"alg": "ES256", "kid": "a"})), Some(AuthError::TokenAlgorithm)),
        (token(1, &json!({"alg": "none", "kid": "a"})), Some(AuthError::TokenAlgorithm)),
        (token(1, &json!({"alg": "EdDSA"})), Some(AuthError::TokenKeyUnnamed)),
        (token(1, &json!({"alg": "ES256"})), Some(AuthError::TokenAlgorithm)),
        (token(1, &json!({"alg": "EdDSA", "kid": "a", "crit": ["x"]})), Some(AuthError::TokenMalformed)),
        (token(1, &json!({"alg": "EdDSA", "kid": 1})), Some(AuthError::TokenAlgorithm)),
    ] {
        assert_eq!(verifier(&keys).verify(&token, NOW).err(), expected, "{token}");
    }
    let only = verifier(&[jwk(1, None), rsa_jwk("r1")]);
    assert!(only.verify(&token(1, &json!({"alg": "EdDSA"})), NOW).is_ok(), "clear, as there is one for EdDSA");
    assert_eq!(only.verify(&token(2, &json!({"alg": "EdDSA"})), NOW), Err(AuthError::TokenSignature));
    assert_eq!(only.verify(&named(1, "a"), NOW), Err(AuthError::TokenKeyUnknown), "no key has that name");
}

#[test]
fn nothing_that_is_published_is_a_secret() {
    let keys = [jwk(1, Some("a")), rsa_jwk("r1")];
    let public = pair(1).public_key().as_ref().to_vec();
    let modulus = URL_SAFE_NO_PAD.decode(RSA_N).expect("base64");
    let document = json!({"keys": keys}).to_string().into_bytes();
    for (kid, secret) in [("a", &public), ("r1", &modulus), ("r1", &document), ("x", &public)] {
        for alg in ["HS256", "HS384", "HS512"] {
            let message = message(&json!({"alg": alg, "kid": kid}));
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
            let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag));
            assert_eq!(verifier(&keys).verify(&token, NOW), Err(AuthError::TokenAlgorithm), "{alg} {kid}");
        }
    }
}

#[test]
fn a_token_of_a_key_that_is_gone_was_remembered() {
    let mut verifier = verifier(&[jwk(1, Some("a"))]);
    let (old, new) = (named(1, "a"), named(2, "b"));
    assert!(verifier.verify(&old, NOW).is_ok());
    verifier.replace_keys(set(&[jwk(1, Some("a")), jwk(2, Some("b"))]));
    assert!(verifier.verify(&old, NOW).is_ok() && verifier.verify(&new, NOW).is_ok());
    verifier.note_failure("it is down".to_owned());
    assert!(verifier.verify(&old, NOW).is_ok() && verifier.lacks_keys().is_none(), "old keys stay");
    verifier.replace_keys(set(&[jwk(2, Some("b"))]));
    assert_eq!(verifier.verify(&old, NOW), Err(AuthError::TokenKeyUnknown));
    verifier.replace_keys(set(&[jwk(3, Some("b"))]));
    assert_eq!(verifier.verify(&new, NOW), Err(AuthError::TokenSignature), "another key of that name");
}

#[test]
fn without_keys_a_token_is_neither_good_nor_bad_unless_it_is_none() {
    let mut verifier = Verifier::awaiting_keys(ClaimRules::default());
    assert_eq!(verifier.verify(&named(1, "a"), NOW), Err(AuthError::KeysUnavailable));
    assert_eq!(verifier.verify("x.y.z", NOW), Err(AuthError::TokenMalformed));
    verifier.note_failure("it is down".to_owned());
    assert_eq!(verifier.lacks_keys(), Some("it is down"));
    verifier.replace_keys(set(&[jwk(1, Some("a"))]));
    assert!(verifier.verify(&named(1, "a"), NOW).is_ok());
}

#[test]
fn each_of_several_secrets_verifies_and_a_kid_means_nothing_to_them() {
    let secrets = [[1; 32], [2; 32]];
    let keys = secrets.map(|secret| JwtKey::Hs256 { secret: secret.to_vec() });
    let verifier = Verifier::with_keys(&keys, ClaimRules::default()).expect("good secrets");
    for (secret, expected) in [([1; 32], None), ([2; 32], None), ([3; 32], Some(AuthError::TokenSignature))] {
        for header in [json!({"alg": "HS256"}), json!({"alg": "HS256", "kid": "x"})] {
            let message = message(&header);
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), message.as_bytes());
            let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag));
            assert_eq!(verifier.verify(&token, NOW).err(), expected, "{secret:?} {header}");
        }
    }
    let short = [JwtKey::Hs256 { secret: vec![1; 32] }, JwtKey::Hs256 { secret: vec![2; 31] }];
    assert!(Verifier::with_keys(&short, ClaimRules::default()).is_err());
}
