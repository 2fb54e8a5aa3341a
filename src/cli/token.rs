//! `stepcast token`: checks the parts of a token. `auth` signs it.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::CommandError;

use crate::auth::{ClaimRules, KeyError, Projects, Rights, Scopes, SigningKey};
use crate::config::units::parse_duration;
use crate::model::{ProjectId, Timestamp};

/// The longest `sub`, in bytes: as long as an id.
const SUB_BYTES_MAX: usize = 128;

/// How much of a private key's file is read: an RSA key of 8192 bits is some 6 KiB.
const KEY_BYTES_MAX: u64 = 64 * 1024;

/// What stands for all projects.
const ALL_PROJECTS: &str = "*";

/// The scopes there are.
const SCOPES: [&str; 5] = ["subscribe", "publish", "run", "approve", "admin"];

/// A token to make. Its parts are checked when it is parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest {
    /// The projects it gives access to; `*` for all.
    pub projects: Vec<String>,
    /// Its subject.
    pub sub: String,
    /// How long it is valid.
    pub ttl: Duration,
    /// The scopes that it grants.
    pub scope: Vec<String>,
    /// The file with a private key that signs it instead of the secret.
    pub key: Option<PathBuf>,
    /// The key ID to write into its header.
    pub kid: Option<String>,
}

impl TokenRequest {
    /// Makes a token that is valid from `now` on, satisfies `rules`, and is signed with `key`. `*` includes all other
    /// projects.
    ///
    /// # Errors
    /// If signing fails.
    pub fn sign(&self, now: Timestamp, rules: &ClaimRules, key: &SigningKey) -> Result<String, KeyError> {
        let expires_at = now.plus_millis(u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX));
        let is_for_all = self.projects.iter().any(|project| project == ALL_PROJECTS);
        let projects = match is_for_all {
            true => Projects::All,
            false => Projects::only(self.projects.iter().filter_map(|id| ProjectId::parse(id).ok())),
        };
        let rights = Rights { scopes: Scopes::parse(&self.scope.join(" ")), projects };
        key.sign(&self.sub, expires_at, &rights, rules)
    }
}

/// The private key in a file.
///
/// # Errors
/// A sentence with the file's name.
pub(super) fn private_key(path: &Path, kid: Option<&str>) -> Result<SigningKey, CommandError> {
    let mut pem = String::new();
    let read = File::open(path).and_then(|file| file.take(KEY_BYTES_MAX).read_to_string(&mut pem));
    read.map_err(|error| CommandError::io(&format!("read {}", path.display()), &error))?;
    let key = SigningKey::from_pem(&pem, kid.map(str::to_owned));
    key.map_err(|error| CommandError::new(format!("{}: {error}", path.display())))
}

/// Takes a project id, or `*`.
///
/// # Errors
/// What was expected.
pub fn parse_project(text: &str) -> Result<String, String> {
    if text == ALL_PROJECTS {
        return Ok(text.to_owned());
    }
    ProjectId::parse(text).map(|id| id.to_string()).map_err(|error| format!("{error}; use * for all projects"))
}

/// Takes what names the token's bearer.
///
/// # Errors
/// What was expected.
pub fn parse_sub(text: &str) -> Result<String, String> {
    let fits = (1..=SUB_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
    if fits {
        Ok(text.to_owned())
    } else {
        Err(format!("expected 1 to {SUB_BYTES_MAX} bytes without control characters"))
    }
}

/// Takes how long a token is good; claims count whole seconds.
///
/// # Errors
/// What was expected.
pub fn parse_ttl(text: &str) -> Result<Duration, String> {
    let ttl = parse_duration(text).filter(|ttl| ttl.as_secs() > 0 && ttl.subsec_nanos() == 0);
    ttl.ok_or_else(|| "expected a duration of whole seconds such as 15s, 5m, 1h or 7d".to_owned())
}

/// Takes scopes, with spaces or commas between them.
///
/// # Errors
/// What was expected.
pub fn parse_scopes(text: &str) -> Result<Vec<String>, String> {
    let scopes: Vec<_> = text.split([' ', ',']).filter(|scope| !scope.is_empty()).map(str::to_owned).collect();
    let known = !scopes.is_empty() && scopes.iter().all(|scope| SCOPES.contains(&scope.as_str()));
    known.then_some(scopes).ok_or_else(|| format!("expected one or more of {}", SCOPES.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{JwtKey, Scope, Verifier};

    fn request(projects: &[&str], scope: &[&str]) -> TokenRequest {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        TokenRequest {
            projects: owned(projects),
            sub: "u".into(),
            ttl: Duration::from_secs(3600),
            scope: owned(scope),
            key: None,
            kid: None,
        }
    }

    #[test]
    fn a_token_opens_what_it_was_made_for() {
        let now = Timestamp::from_millis(1_700_000_000_999);
        let secret = b"0123456789abcdef0123456789abcdef";
        let key = SigningKey::hs256(secret).expect("long enough");
        let verifier = Verifier::new(&JwtKey::Hs256 { secret: secret.to_vec() }, Duration::ZERO).expect("a key");
        let id = |text: &str| ProjectId::parse(text).expect("an id");
        let token =
            request(&["a", "b", "a"], &["run", "subscribe"]).sign(now, &ClaimRules::default(), &key).expect("a token");
        let principal = verifier.verify(&token, now).expect("is good");
        assert!(
            principal.require_in(Scope::Run, &id("b")).is_ok()
                && principal.require_in(Scope::Publish, &id("b")).is_err()
        );
        assert!(!principal.sees(&id("c")) && principal.sub() == "u");
        assert!(verifier.verify(&token, now.plus_millis(3_601_000)).is_err(), "it ends");
        let token = request(&["a", "*"], &["admin"]).sign(now, &ClaimRules::default(), &key).expect("a token");
        assert!(verifier.verify(&token, now).expect("is good").require_in(Scope::Publish, &id("c")).is_ok());
    }

    #[test]
    fn parts_are_checked() {
        for (text, good) in [("p", true), ("a.b:c-d_1", true), ("*", true), ("", false), ("a b", false), ("a*", false)]
        {
            assert_eq!(parse_project(text).is_ok(), good, "project {text}");
        }
        for (text, good) in
            [("u", true), ("Ann Lee <a@b>", true), ("", false), ("a\nb", false), (&"x".repeat(129), false)]
        {
            assert_eq!(parse_sub(text).is_ok(), good, "sub {text}");
        }
        for (text, good) in [("1h", true), ("1s", true), ("7d", true), ("0s", false), ("1500ms", false), ("1", false)] {
            assert_eq!(parse_ttl(text).is_ok(), good, "ttl {text}");
        }
        for text in ["", " ", "write", "run write", "RUN"] {
            assert_eq!(
                parse_scopes(text),
                Err("expected one or more of subscribe, publish, run, approve, admin".to_owned()),
                "{text}"
            );
        }
        assert_eq!(parse_scopes("run, admin"), Ok(vec!["run".to_owned(), "admin".to_owned()]));
    }
}
