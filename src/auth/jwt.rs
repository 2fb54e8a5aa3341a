//! JWTs: whether one is genuine, and whom it stands for. Signs HS256, for the command line.
//!
//! `jsonwebtoken` does the form and the signature. Its checks of the claims read the clock, so they are off, and the
//! claims are checked here against the `now` that is passed in.

use std::cell::RefCell;
use std::time::Duration;

use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use serde_json::json;

use super::jwt_key::check_secret;
use super::provider;
use super::token_cache::TokenCache;
use super::{AuthError, JwtKey, KeyError, Principal, Projects, Rights, Scope, Scopes};
use crate::model::{ProjectId, Timestamp};

/// The longest token, in bytes: room for some 40 project ids of full length. A longer one is refused unread.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// The entry of the claim `projects` that stands for every project.
const ALL_PROJECTS: &str = "*";

/// Checks tokens against one key.
///
/// Remembers those that were right, so it is for one thread.
pub struct Verifier {
    key: DecodingKey,
    form: Validation,
    leeway_ms: u64,
    known: RefCell<TokenCache>,
}

impl Verifier {
    /// Verifies with `key`; `exp` and `nbf` are taken `leeway` less strictly.
    ///
    /// # Errors
    /// [`KeyError`]: the secret is too short, or the PEM text holds no key for the algorithm.
    pub fn new(key: &JwtKey, leeway: Duration) -> Result<Self, KeyError> {
        provider::install();
        let (algorithm, key) = key.load()?;
        let leeway_ms = u64::try_from(leeway.as_millis()).unwrap_or(u64::MAX);
        Ok(Self { key, form: form_only(algorithm), leeway_ms, known: RefCell::default() })
    }

    /// Whom `token` stands for.
    ///
    /// # Errors
    /// [`AuthError`] with status 401 says what is wrong with it.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Principal, AuthError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(AuthError::TokenTooLong);
        }
        if let Some(known) = self.known.borrow().find(token) {
            return unexpired(known, now);
        }
        let principal = unexpired(self.read(token, now)?, now)?;
        self.known.borrow_mut().insert(token, principal.clone());
        Ok(principal)
    }

    fn read(&self, token: &str, now: Timestamp) -> Result<Principal, AuthError> {
        let read = decode::<Claims>(token, &self.key, &self.form).map_err(|error| refusal(error, token))?;
        if read.header.crit.is_some() {
            // RFC 7515: who does not know an extension that is marked so must refuse the token. None is known here.
            return Err(AuthError::TokenMalformed);
        }
        let not_before = read.claims.nbf.map(from_seconds).unwrap_or_default();
        if now.plus_millis(self.leeway_ms) < not_before {
            return Err(AuthError::TokenNotYetValid);
        }
        read.claims.into_principal(self.leeway_ms, token_key(token))
    }
}

/// A token for `sub`, signed with HS256. `expires_at` counts in whole seconds.
///
/// # Errors
/// [`KeyError`]: the secret is too short, or signing failed.
pub fn sign_hs256(sub: &str, expires_at: Timestamp, rights: &Rights, secret: &[u8]) -> Result<String, KeyError> {
    provider::install();
    check_secret(secret)?;
    let projects = match &rights.projects {
        Projects::All => vec![ALL_PROJECTS],
        Projects::Only(ids) => ids.iter().map(ProjectId::as_str).collect(),
    };
    let scope = rights.scopes.to_string();
    let claims = json!({ "sub": sub, "exp": expires_at.as_secs(), "projects": projects, "scope": scope });
    encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(secret))
        .map_err(|error| KeyError::CannotSign(error.to_string()))
}

/// The year 10000, in seconds since 1970. No later `exp` is meant: it was written in milliseconds.
const EXP_END: f64 = 253_402_300_800.0;

/// The claims that mean something here. Times are numbers of seconds, with or without a fraction (RFC 7519).
#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: f64,
    nbf: Option<f64>,
    #[serde(default)]
    projects: Vec<String>,
    scope: Option<String>,
}

impl Claims {
    fn into_principal(self, leeway_ms: u64, token_key: u64) -> Result<Principal, AuthError> {
        if self.sub.is_empty() {
            return Err(AuthError::TokenClaims("sub is empty".to_owned()));
        }
        let rights = Rights {
            scopes: self.scope.as_deref().map_or(Scopes::of(&[Scope::Subscribe]), Scopes::parse),
            projects: projects(&self.projects)?,
        };
        if self.exp >= EXP_END {
            let why = format!("exp is {}, which is after the year 9999; expected seconds since 1970", self.exp);
            return Err(AuthError::TokenClaims(why));
        }
        let expires_at = from_seconds(self.exp).plus_millis(leeway_ms);
        Ok(Principal::new(self.sub, Some(expires_at), rights, Some(token_key)))
    }
}

/// Checks that `alg` is the algorithm and that the signature is right, and no claim. An `aud` is not looked at either:
/// the server has no name of its own that a token could be meant for.
fn form_only(algorithm: Algorithm) -> Validation {
    let mut form = Validation::new(algorithm);
    form.required_spec_claims.clear();
    form.validate_exp = false;
    form.validate_nbf = false;
    form.validate_aud = false;
    form
}

fn refusal(error: Error, token: &str) -> AuthError {
    match error.into_kind() {
        ErrorKind::InvalidAlgorithm => AuthError::TokenAlgorithm,
        ErrorKind::InvalidSignature => AuthError::TokenSignature,
        // The claims are read last, so an error in JSON is theirs if the header is readable.
        ErrorKind::Json(why) if decode_header(token).is_ok() => AuthError::TokenClaims(why.to_string()),
        // A header that is JSON and yet no header: `none` is no algorithm that could be named, nor is a missing one.
        ErrorKind::Json(why) if why.is_data() => AuthError::TokenAlgorithm,
        _ => AuthError::TokenMalformed,
    }
}

fn unexpired(principal: Principal, now: Timestamp) -> Result<Principal, AuthError> {
    if principal.is_expired(now) { Err(AuthError::TokenExpired) } else { Ok(principal) }
}

fn projects(claim: &[String]) -> Result<Projects, AuthError> {
    if claim.iter().any(|entry| entry == ALL_PROJECTS) {
        return Ok(Projects::All);
    }
    let ids = claim.iter().map(|entry| ProjectId::parse(entry)).collect::<Result<_, _>>();
    ids.map(Projects::Only).map_err(|error| AuthError::TokenClaims(format!("projects: {error}")))
}

/// A moment that a claim names; one before the epoch is the epoch, one beyond counting the last that can be counted.
fn from_seconds(seconds: f64) -> Timestamp {
    Timestamp::from_millis((seconds * 1000.0) as u64)
}

fn token_key(token: &str) -> u64 {
    let hash = digest(&SHA256, token.as_bytes());
    hash.as_ref().iter().take(8).fold(0, |key, byte| key << 8 | u64::from(*byte))
}

#[cfg(test)]
#[path = "jwt_tests.rs"]
mod tests;
