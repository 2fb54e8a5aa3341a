//! Selects the key for a token. Every key is for one algorithm. The token's own `alg` can only lead to a refusal, never
//! to another algorithm.

use std::slice;

use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};

use super::jwks::PublishedKey;
use super::{AuthError, JwtKey, KeyError, KeySet};

/// The algorithms of keys that are published.
const PUBLISHED: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

/// The keys that tokens are verified with.
pub(super) struct TrustedKeys {
    keys: Vec<TrustedKey>,
    /// Of an identity provider: a token names the one it was signed with.
    are_published: bool,
    /// The set that they come from, where they are published.
    set: Option<KeySet>,
}

/// A key, and the one algorithm that it is for.
pub(super) struct TrustedKey {
    kid: Option<String>,
    algorithm: Algorithm,
    pub(super) key: DecodingKey,
    /// Checks the algorithm and the signature, and no claim.
    pub(super) form: Validation,
}

impl TrustedKeys {
    /// Keys that the operator gave, each of which any token may be signed with.
    ///
    /// # Errors
    /// The first that is no good.
    pub(super) fn configured(keys: &[JwtKey]) -> Result<Self, KeyError> {
        let load = |key: &JwtKey| key.load().map(|(algorithm, key)| TrustedKey::new(None, algorithm, key));
        Ok(Self { keys: keys.iter().map(load).collect::<Result<_, _>>()?, are_published: false, set: None })
    }

    /// Keys that an identity provider publishes.
    pub(super) fn published(set: KeySet) -> Self {
        let load =
            |key: &PublishedKey| TrustedKey::new(key.kid.clone(), key.public.algorithm(), key.public.decoding_key());
        Self { keys: set.keys.iter().map(load).collect(), are_published: true, set: Some(set) }
    }

    /// Do these come from just this set?
    pub(super) fn are(&self, set: &KeySet) -> bool {
        self.set.as_ref() == Some(set)
    }

    /// The keys that a token of this header may be signed with.
    ///
    /// # Errors
    /// If there is none: [`AuthError::TokenKeyUnknown`] where it may be one that was published since.
    pub(super) fn named_by(&self, header: &Header) -> Result<&[TrustedKey], AuthError> {
        let is_fit = |key: &&TrustedKey| key.algorithm == header.alg;
        if !self.are_published {
            return if self.keys.iter().all(|key| is_fit(&key)) {
                Ok(&self.keys)
            } else {
                Err(AuthError::TokenAlgorithm)
            };
        }
        if !PUBLISHED.contains(&header.alg) {
            return Err(AuthError::TokenAlgorithm);
        }
        let Some(kid) = &header.kid else { return self.only_one(header.alg) };
        let mut named = self.keys.iter().filter(|key| key.kid.as_ref() == Some(kid)).peekable();
        if named.peek().is_none() {
            return Err(AuthError::TokenKeyUnknown);
        }
        named.find(is_fit).map(slice::from_ref).ok_or(AuthError::TokenAlgorithm)
    }

    /// The key of a token that names none: clear only where there is one of its algorithm.
    fn only_one(&self, algorithm: Algorithm) -> Result<&[TrustedKey], AuthError> {
        let mut fit = self.keys.iter().filter(|key| key.algorithm == algorithm);
        match (fit.next(), fit.next()) {
            (Some(only), None) => Ok(slice::from_ref(only)),
            (None, _) => Err(AuthError::TokenAlgorithm),
            (Some(_), Some(_)) => Err(AuthError::TokenKeyUnnamed),
        }
    }
}

impl TrustedKey {
    fn new(kid: Option<String>, algorithm: Algorithm, key: DecodingKey) -> Self {
        Self { kid, algorithm, key, form: form_only(algorithm) }
    }
}

/// Checks that `alg` is the algorithm and that the signature is right, and no claim: those are checked against the `now`
/// that is passed in, and against what the operator expects.
fn form_only(algorithm: Algorithm) -> Validation {
    let mut form = Validation::new(algorithm);
    form.required_spec_claims.clear();
    form.validate_exp = false;
    form.validate_nbf = false;
    form.validate_aud = false;
    form
}

#[cfg(test)]
#[path = "trusted_tests.rs"]
mod tests;
