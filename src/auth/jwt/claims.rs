//! Reads the claims of a token whose signature is valid: the subject, the expiry, and the claims that hold its rights.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::auth::{AuthError, Principal, Projects, Rights, Scope, Scopes};
use crate::model::{ProjectId, Timestamp};

/// The entry of the projects that stands for every one.
const ALL_PROJECTS: &str = "*";

/// The year 10000, in seconds since 1970. No later `exp` is meant: it was written in milliseconds.
const EXP_END: f64 = 253_402_300_800.0;

/// What the operator expects of claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRules {
    /// The accepted issuers; if empty, any.
    pub issuers: Vec<String>,
    /// Whom a token may be meant for; where this is empty, anyone.
    pub audiences: Vec<String>,
    /// Where the projects stand.
    pub projects: ClaimPath,
    /// Where the scopes stand.
    pub scope: ClaimPath,
    /// How much less strictly `exp` and `nbf` are taken.
    pub leeway_ms: u64,
}

/// Where a claim stands: a JSON pointer where it begins with `/`; else the name of a claim, whatever characters are in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimPath(String);

impl Default for ClaimRules {
    /// Any issuer and audience, and the claims `projects` and `scope`.
    fn default() -> Self {
        let [projects, scope] = ["projects", "scope"].map(ClaimPath::new);
        Self { issuers: Vec::new(), audiences: Vec::new(), projects, scope, leeway_ms: 0 }
    }
}

impl ClaimPath {
    /// The place that `text` names.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// What stands there; null is nothing.
    fn find<'v>(&self, claims: &'v Value) -> Option<&'v Value> {
        let found = if self.0.starts_with('/') { claims.pointer(&self.0) } else { claims.get(&self.0) };
        found.filter(|value| !value.is_null())
    }

    /// Puts `value` there.
    fn put(&self, claims: &mut Map<String, Value>, value: Value) {
        let Some(pointer) = self.0.strip_prefix('/') else {
            claims.insert(self.0.clone(), value);
            return;
        };
        let names: Vec<String> = pointer.split('/').map(|name| name.replace("~1", "/").replace("~0", "~")).collect();
        let (last, parents) = names.split_last().expect("what is split has a last part");
        let inner = parents.iter().fold(claims, |members, name| {
            let next = members.entry(name.clone()).or_insert_with(|| json!({}));
            if !next.is_object() {
                *next = json!({});
            }
            next.as_object_mut().expect("it was just made one")
        });
        inner.insert(last.clone(), value);
    }
}

/// The claims that have one meaning everywhere. Times are numbers of seconds, with or without a fraction (RFC 7519).
#[derive(Deserialize)]
struct Registered {
    sub: String,
    exp: f64,
    nbf: Option<f64>,
    iss: Option<Value>,
    aud: Option<Value>,
}

impl ClaimRules {
    /// Whom `claims` stand for, in a token that is counted as `token_key`. Whether they have ended is for the caller to see.
    ///
    /// # Errors
    /// What is wrong with them, or that it is too early.
    pub(super) fn read(&self, claims: &RawValue, now: Timestamp, token_key: u64) -> Result<Principal, AuthError> {
        let registered: Registered = parsed(claims)?;
        self.check_origin(&registered)?;
        let not_before = registered.nbf.map(from_seconds).unwrap_or_default();
        if now.plus_millis(self.leeway_ms) < not_before {
            return Err(AuthError::TokenNotYetValid);
        }
        let all: Value = parsed(claims)?;
        if !all.is_object() {
            // A list could be read as the struct above too, which nobody means.
            return Err(AuthError::TokenClaims("expected an object".to_owned()));
        }
        let rights = self.rights(&all)?;
        let Registered { sub, exp, .. } = registered;
        if sub.is_empty() {
            return Err(AuthError::TokenClaims("sub is empty".to_owned()));
        }
        if exp >= EXP_END {
            let why = format!("exp is {exp}, which is after the year 9999; expected seconds since 1970-01-01");
            return Err(AuthError::TokenClaims(why));
        }
        let expires_at = from_seconds(exp).plus_millis(self.leeway_ms);
        Ok(Principal::new(sub, Some(expires_at), rights, Some(token_key)))
    }

    /// The claims of a token that these rules take.
    pub(super) fn write(&self, sub: &str, expires_at: Timestamp, rights: &Rights) -> Value {
        let mut claims = Map::new();
        let projects = match &rights.projects {
            Projects::All => vec![ALL_PROJECTS],
            Projects::Only(ids) => ids.iter().map(ProjectId::as_str).collect(),
        };
        self.projects.put(&mut claims, json!(projects));
        self.scope.put(&mut claims, json!(rights.scopes.to_string()));
        let (issuer, audience) = (self.issuers.first(), self.audiences.first());
        claims.extend(issuer.map(|issuer| ("iss".to_owned(), json!(issuer))));
        claims.extend(audience.map(|audience| ("aud".to_owned(), json!(audience))));
        claims.extend([("sub".to_owned(), json!(sub)), ("exp".to_owned(), json!(expires_at.as_secs()))]);
        Value::Object(claims)
    }

    /// Is it from one of the issuers, for one of the audiences? A claim that is expected must be there.
    fn check_origin(&self, claims: &Registered) -> Result<(), AuthError> {
        let is_one_of = |expected: &[String], value: &Value| expected.iter().any(|text| value == text.as_str());
        let is_issued = claims.iss.as_ref().is_some_and(|iss| is_one_of(&self.issuers, iss));
        if !self.issuers.is_empty() && !is_issued {
            return Err(unexpected("iss", claims.iss.as_ref(), "auth.issuer"));
        }
        let is_meant = match &claims.aud {
            Some(Value::Array(several)) => several.iter().any(|aud| is_one_of(&self.audiences, aud)),
            Some(aud) => is_one_of(&self.audiences, aud),
            None => false,
        };
        if !self.audiences.is_empty() && !is_meant {
            return Err(unexpected("aud", claims.aud.as_ref(), "auth.audience"));
        }
        Ok(())
    }

    fn rights(&self, claims: &Value) -> Result<Rights, AuthError> {
        let projects = self.projects.find(claims).map(|value| words(&self.projects, value)).transpose()?;
        let scopes = self.scope.find(claims).map(|value| words(&self.scope, value)).transpose()?;
        Ok(Rights {
            scopes: scopes.map_or(Scopes::of(&[Scope::Subscribe]), |words| Scopes::parse(&words.join(" "))),
            projects: self.named_projects(&projects.unwrap_or_default())?,
        })
    }

    fn named_projects(&self, words: &[&str]) -> Result<Projects, AuthError> {
        if words.contains(&ALL_PROJECTS) {
            return Ok(Projects::All);
        }
        let ids = words.iter().map(|word| ProjectId::parse(word)).collect::<Result<_, _>>();
        ids.map(Projects::Only).map_err(|error| AuthError::TokenClaims(format!("{}: {error}", self.projects.0)))
    }
}

fn parsed<'c, T: Deserialize<'c>>(claims: &'c RawValue) -> Result<T, AuthError> {
    serde_json::from_str(claims.get()).map_err(|error| AuthError::TokenClaims(error.to_string()))
}

fn unexpected(name: &str, found: Option<&Value>, setting: &str) -> AuthError {
    AuthError::TokenClaims(match found {
        None => format!("{name} is missing; it is required because {setting} is set"),
        Some(_) => format!("{name} is not one of {setting}"),
    })
}

/// A list of texts, or one text of words with spaces between them: providers can't always write both.
fn words<'v>(path: &ClaimPath, value: &'v Value) -> Result<Vec<&'v str>, AuthError> {
    let found = match value {
        Value::String(text) => Some(text.split(' ').filter(|word| !word.is_empty()).collect()),
        Value::Array(items) => items.iter().map(Value::as_str).collect(),
        _ => None,
    };
    let expected = "expected an array of strings or one string of words separated by spaces";
    found.ok_or_else(|| AuthError::TokenClaims(format!("{}: {expected}", path.0)))
}

/// A moment that a claim names; one before the epoch is the epoch, one beyond counting the last that can be counted.
fn from_seconds(seconds: f64) -> Timestamp {
    Timestamp::from_millis((seconds * 1000.0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn read(rules: &ClaimRules, claims: &Value) -> Result<Principal, String> {
        let mut whole = json!({"sub": "ann", "exp": 4_102_444_800_u64});
        whole.as_object_mut().expect("an object").extend(claims.as_object().expect("an object").clone());
        let raw = RawValue::from_string(whole.to_string()).expect("JSON");
        rules.read(&raw, NOW, 1).map_err(|error| error.to_string())
    }

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn an_issuer_and_an_audience_that_are_expected_must_be_there_and_match() {
        let rules = ClaimRules { issuers: texts(&["https://a/", "b"]), audiences: texts(&["api", "x"]), ..rules() };
        for (claims, wrong) in [
            (json!({"iss": "https://a/", "aud": "api"}), ""),
            (json!({"iss": "b", "aud": ["other", "x"]}), ""),
            (json!({"aud": "api"}), "iss is missing; it is required because auth.issuer is set"),
            (json!({"iss": null, "aud": "api"}), "iss is missing; it is required because auth.issuer is set"),
            (json!({"iss": "https://a", "aud": "api"}), "iss is not one of auth.issuer"),
            (json!({"iss": ["b"], "aud": "api"}), "iss is not one of auth.issuer"),
            (json!({"iss": "b"}), "aud is missing; it is required because auth.audience is set"),
            (json!({"iss": "b", "aud": []}), "aud is not one of auth.audience"),
            (json!({"iss": "b", "aud": "api "}), "aud is not one of auth.audience"),
            (json!({"iss": "b", "aud": ["API"]}), "aud is not one of auth.audience"),
            (json!({"iss": "b", "aud": [["api"]]}), "aud is not one of auth.audience"),
            (json!({"iss": "b", "aud": {"api": true}}), "aud is not one of auth.audience"),
            (json!({"iss": "b", "aud": 1}), "aud is not one of auth.audience"),
        ] {
            let found = read(&rules, &claims).err().unwrap_or_default();
            assert!(found.ends_with(wrong) && found.is_empty() == wrong.is_empty(), "{claims}: {found}");
        }
        for claims in [json!({}), json!({"iss": 1, "aud": [2]})] {
            assert!(read(&ClaimRules::default(), &claims).is_ok(), "nothing is expected of {claims}");
        }
    }

    fn rules() -> ClaimRules {
        ClaimRules::default()
    }

    #[test]
    fn rights_are_found_where_the_operator_says_in_either_form() {
        for (projects, scope, claims, expected) in [
            ("projects", "scope", json!({"projects": ["p", "q"], "scope": "run"}), Ok(("run", true))),
            ("projects", "scope", json!({"projects": "q p", "scope": ["run", "publish"]}), Ok(("publish run", true))),
            ("projects", "scope", json!({"projects": null, "scope": null}), Ok(("subscribe", false))),
            ("https://x.example/p", "permissions", json!({"https://x.example/p": ["*"]}), Ok(("subscribe", true))),
            ("custom:projects", "scp", json!({"custom:projects": "p", "scp": ["email"]}), Ok(("", true))),
            (
                "/meta/stepcast/projects",
                "/realm_access/roles",
                json!({"meta": {"stepcast": {"projects": ["p"]}}, "realm_access": {"roles": ["admin"]}}),
                Ok(("admin", true)),
            ),
            ("/a~1b", "scope", json!({"a/b": ["p"]}), Ok(("subscribe", true))),
            ("a.b", "scope", json!({"a": {"b": ["p"]}}), Ok(("subscribe", false))),
            ("elsewhere", "scope", json!({"projects": ["p"]}), Ok(("subscribe", false))),
            ("projects", "scope", json!({"projects": [1]}), Err("projects: expected an array of strings")),
            ("projects", "scope", json!({"projects": {"p": 1}}), Err("projects: expected an array of strings")),
            ("/a/b", "scope", json!({"a": {"b": true}}), Err("/a/b: expected an array of strings")),
            ("projects", "scope", json!({"scope": true}), Err("scope: expected an array of strings")),
        ] {
            let rules = ClaimRules { projects: ClaimPath::new(projects), scope: ClaimPath::new(scope), ..rules() };
            match (read(&rules, &claims), expected) {
                (Ok(ann), Ok((scopes, sees_p))) => {
                    for scope in [Scope::Subscribe, Scope::Publish, Scope::Run, Scope::Admin] {
                        assert_eq!(ann.has_scope(scope), Scopes::parse(scopes).has(scope), "{claims}: {scope}");
                    }
                    assert_eq!(ann.sees(&ProjectId::parse("p").expect("an id")), sees_p, "{claims}");
                }
                (Err(why), Err(part)) => assert!(why.contains(part), "{claims}: {why}"),
                (found, expected) => panic!("{claims}: {found:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn what_is_written_by_rules_is_read_by_them() {
        let project = ProjectId::parse("p").expect("an id");
        let rights = Rights { scopes: Scopes::of(&[Scope::Run]), projects: Projects::only([project.clone()]) };
        for (projects, scope) in
            [("projects", "scope"), ("/a/projects", "/a/scope"), ("x:p", "/x~1y/z"), ("/a", "/a/b")]
        {
            let (projects, scope) = (ClaimPath::new(projects), ClaimPath::new(scope));
            let is_overlaid = projects.0 == "/a";
            let rules =
                ClaimRules { issuers: texts(&["i", "j"]), audiences: texts(&["a"]), projects, scope, leeway_ms: 0 };
            let written = rules.write("ann", NOW.plus_millis(1000), &rights);
            assert_eq!((&written["iss"], &written["aud"]), (&json!("i"), &json!("a")));
            let read = rules.read(&RawValue::from_string(written.to_string()).expect("JSON"), NOW, 1);
            if is_overlaid {
                assert!(read.is_err(), "one place inside another holds no list: {written}");
                continue;
            }
            let ann = read.expect("is good");
            assert!(ann.require_in(Scope::Run, &project).is_ok() && !ann.has_scope(Scope::Subscribe), "{written}");
        }
    }
}
