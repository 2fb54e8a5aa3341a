//! Tokens as an operator's own backend would sign them.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

/// What the servers of the tests check signatures with.
pub const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Seconds since 1970.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// A token of these claims.
pub fn signed(claims: &Value) -> String {
    signed_as(&json!({"alg": "HS256", "typ": "JWT"}), claims, SECRET)
}

/// A token of this header and these claims, signed with HMAC-SHA256 whatever the header says.
pub fn signed_as(header: &Value, claims: &Value, secret: &str) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let body = format!("{}.{}", part(header), part(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, body.as_bytes()));
    format!("{body}.{signature}")
}

/// The public key that goes with this seed, as an identity provider publishes it; the seed is its name.
pub fn jwk(seed: u8) -> Value {
    let x = URL_SAFE_NO_PAD.encode(pair(seed).public_key());
    json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": seed.to_string(), "x": x})
}

/// A token of these claims, signed with the private key of this seed, which it names.
pub fn named(seed: u8, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let body = format!("{}.{}", part(&json!({"alg": "EdDSA", "kid": seed.to_string()})), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(pair(seed).sign(body.as_bytes()));
    format!("{body}.{signature}")
}

/// A new private key as PEM text, and its public half, named `made`.
pub fn private_key_and_jwk() -> (String, Value) {
    let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("the system gives random numbers");
    let x = Ed25519KeyPair::from_pkcs8(key.as_ref()).expect("it is a key").public_key().as_ref().to_vec();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(key.as_ref()));
    (pem, json!({"kty": "OKP", "crv": "Ed25519", "kid": "made", "x": URL_SAFE_NO_PAD.encode(x)}))
}

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("any seed will do")
}

/// Good claims, for an hour.
pub fn claims(projects: &[&str], scope: &str) -> Value {
    json!({"sub": "tester", "exp": unix_now() + 3600, "projects": projects, "scope": scope})
}

/// A good token, for an hour.
pub fn token(projects: &[&str], scope: &str) -> String {
    signed(&claims(projects, scope))
}
