//! Tokens as an operator's own backend would sign them.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
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

/// Good claims, for an hour.
pub fn claims(projects: &[&str], scope: &str) -> Value {
    json!({"sub": "tester", "exp": unix_now() + 3600, "projects": projects, "scope": scope})
}

/// A good token, for an hour.
pub fn token(projects: &[&str], scope: &str) -> String {
    signed(&claims(projects, scope))
}
