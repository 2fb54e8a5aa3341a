//! Verifies JWTs and determines whom they stand for.
//!
//! `jsonwebtoken` parses tokens and verifies signatures. Its own checks of claims read the clock, and accept a token
//! without issuer or audience even if one is expected. They are switched off, and [`ClaimRules`] checks the claims.
//!
//! `trusted` selects the key for a token: the operator's (`key`) or one of an identity provider's set (`jwks`).

mod cache;
mod claims;
mod jwks;
mod key;
mod provider;
mod sign;
mod trusted;

use std::cell::RefCell;
#[cfg(any(test, feature = "fuzzing"))]
use std::time::Duration;

use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{decode, decode_header};
use ring::digest::{SHA256, digest};
use serde_json::value::RawValue;

use self::cache::TokenCache;
use self::trusted::TrustedKeys;
use super::{AuthError, Principal};
pub use claims::{ClaimPath, ClaimRules};
pub use jwks::{JWKS_BYTES_MAX, KeySet, ReadKeySet};
pub use key::{JWT_SECRET_BYTES_MIN, JwtKey, KeyError};
pub use sign::SigningKey;

use crate::model::Timestamp;

/// The longest token, in bytes: room for some 40 project ids of full length. A longer one is refused unread.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Checks tokens.
///
/// Remembers those that were right, as long as its keys stay, so it is for one thread.
pub struct Verifier {
    keys: Keys,
    rules: ClaimRules,
    known: RefCell<TokenCache>,
}

/// What there is to verify with.
enum Keys {
    /// Followed by others of the same provider, where they are published.
    Known(TrustedKeys),
    /// An identity provider's, which have not come; why not. Followed by `Known`.
    Awaited(String),
}

impl Verifier {
    /// Verifies with `key`; `exp` and `nbf` are taken `leeway` less strictly.
    ///
    /// # Errors
    /// [`KeyError`]: the secret is too short, or the PEM text holds no key for the algorithm.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn new(key: &JwtKey, leeway: Duration) -> Result<Self, KeyError> {
        let leeway_ms = u64::try_from(leeway.as_millis()).unwrap_or(u64::MAX);
        Self::with_keys(std::slice::from_ref(key), ClaimRules { leeway_ms, ..ClaimRules::default() })
    }

    /// Verifies with any of `keys`, which are of one algorithm.
    ///
    /// # Errors
    /// As [`KeyError`] says of the first key that is no good.
    pub fn with_keys(keys: &[JwtKey], rules: ClaimRules) -> Result<Self, KeyError> {
        Ok(Self::over(Keys::Known(TrustedKeys::configured(keys)?), rules))
    }

    /// Verifies with the keys of an identity provider, once there [are some](Self::replace_keys).
    pub fn awaiting_keys(rules: ClaimRules) -> Self {
        Self::over(Keys::Awaited("they have not been fetched yet".to_owned()), rules)
    }

    fn over(keys: Keys, rules: ClaimRules) -> Self {
        provider::install();
        Self { keys, rules, known: RefCell::default() }
    }

    /// The provider's keys are these from now on. What others have verified is forgotten.
    pub fn replace_keys(&mut self, set: KeySet) {
        if let Keys::Known(known) = &self.keys
            && known.are(&set)
        {
            return;
        }
        self.keys = Keys::Known(TrustedKeys::published(set));
        self.known.take();
    }

    /// The provider's keys could not be had. Those that were had before are good until others come.
    pub fn note_failure(&mut self, why: String) {
        if let Keys::Awaited(said) = &mut self.keys {
            *said = why;
        }
    }

    /// Why no token can be verified, where that is so.
    pub fn lacks_keys(&self) -> Option<&str> {
        match &self.keys {
            Keys::Known(_) => None,
            Keys::Awaited(why) => Some(why),
        }
    }

    /// Verifies `token`, and returns its principal.
    ///
    /// # Errors
    /// [`AuthError`] with status 401 says what is wrong with it; [`AuthError::KeysUnavailable`] says that this can't be
    /// known just now.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Principal, AuthError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(AuthError::TokenTooLong);
        }
        if let Some(known) = self.known.borrow().find(token) {
            return unexpired(known, now);
        }
        let claims = self.genuine_claims(token)?;
        let principal = unexpired(self.rules.read(&claims, now, token_key(token))?, now)?;
        self.known.borrow_mut().insert(token, principal.clone());
        Ok(principal)
    }

    /// The claims of a token whose signature is right.
    fn genuine_claims(&self, token: &str) -> Result<Box<RawValue>, AuthError> {
        let header = decode_header(token).map_err(bad_header)?;
        if header.crit.is_some() {
            // RFC 7515: who does not know an extension that is marked so must refuse the token. None is known here.
            return Err(AuthError::TokenMalformed);
        }
        let Keys::Known(keys) = &self.keys else { return Err(AuthError::KeysUnavailable) };
        let mut refused = AuthError::TokenSignature;
        for key in keys.named_by(&header)? {
            match decode::<Box<RawValue>>(token, &key.key, &key.form) {
                Ok(read) => return Ok(read.claims),
                Err(error) => refused = refusal(error),
            }
            if refused != AuthError::TokenSignature {
                break;
            }
        }
        Err(refused)
    }
}

/// A token for `sub`, signed with HS256.
///
/// # Errors
/// [`KeyError`]: the secret is too short, or signing failed.
#[cfg(test)]
pub fn sign_hs256(
    sub: &str,
    expires_at: Timestamp,
    rights: &super::Rights,
    rules: &ClaimRules,
    secret: &[u8],
) -> Result<String, KeyError> {
    SigningKey::hs256(secret)?.sign(sub, expires_at, rights, rules)
}

fn bad_header(error: Error) -> AuthError {
    match error.into_kind() {
        // A header that is JSON and yet no header: `none` is no algorithm that could be named, nor is a missing one.
        ErrorKind::Json(why) if why.is_data() => AuthError::TokenAlgorithm,
        _ => AuthError::TokenMalformed,
    }
}

/// Why a token is refused whose header is right.
fn refusal(error: Error) -> AuthError {
    match error.into_kind() {
        ErrorKind::InvalidAlgorithm => AuthError::TokenAlgorithm,
        ErrorKind::InvalidSignature => AuthError::TokenSignature,
        ErrorKind::Json(why) => AuthError::TokenClaims(why.to_string()),
        _ => AuthError::TokenMalformed,
    }
}

fn unexpired(principal: Principal, now: Timestamp) -> Result<Principal, AuthError> {
    if principal.is_expired(now) { Err(AuthError::TokenExpired) } else { Ok(principal) }
}

fn token_key(token: &str) -> u64 {
    let hash = digest(&SHA256, token.as_bytes());
    hash.as_ref().iter().take(8).fold(0, |key, byte| key << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests;
