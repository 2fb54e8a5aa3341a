//! `stepcast token`: what a token says. Signing it is auth's.

use std::time::Duration;

use serde_json::{Value, json};

use crate::config::units::parse_duration;
use crate::model::{ProjectId, Timestamp};

/// The longest `sub`, in bytes: as long as an id.
const SUB_BYTES_MAX: usize = 128;

/// What stands for all projects.
const ALL_PROJECTS: &str = "*";

/// The scopes there are.
const SCOPES: [&str; 4] = ["subscribe", "publish", "run", "admin"];

/// A token to make. Its parts are checked when it is parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest {
    /// The projects it is good for; `*` for all.
    pub projects: Vec<String>,
    /// Who it is for.
    pub sub: String,
    /// How long it is good.
    pub ttl: Duration,
    /// What it allows.
    pub scope: Vec<String>,
}

impl TokenRequest {
    /// The token's claims, issued at `now`. `*` beside other projects stands for them too.
    pub fn claims(&self, now: Timestamp) -> Value {
        let all = self.projects.iter().any(|project| project == ALL_PROJECTS);
        let projects = if all { vec![ALL_PROJECTS.to_owned()] } else { without_repeats(&self.projects) };
        let issued = now.as_secs();
        json!({
            "sub": self.sub,
            "iat": issued,
            "exp": issued.saturating_add(self.ttl.as_secs()),
            "projects": projects,
            "scope": without_repeats(&self.scope).join(" "),
        })
    }
}

fn without_repeats(names: &[String]) -> Vec<String> {
    let is_first = |(at, name): &(usize, &String)| !names[..*at].contains(name);
    names.iter().enumerate().filter(is_first).map(|(_, name)| name.clone()).collect()
}

/// Takes a project id, or `*`.
///
/// # Errors
/// What was expected.
pub fn parse_project(text: &str) -> Result<String, String> {
    if text == ALL_PROJECTS {
        return Ok(text.to_owned());
    }
    ProjectId::parse(text).map(|id| id.to_string()).map_err(|error| format!("{error}; * stands for all"))
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
    known.then_some(scopes).ok_or_else(|| format!("expected some of {}", SCOPES.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(projects: &[&str], scope: &[&str]) -> TokenRequest {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        TokenRequest { projects: owned(projects), sub: "u".into(), ttl: Duration::from_secs(3600), scope: owned(scope) }
    }

    #[test]
    fn claims_are_those_of_the_contract() {
        let now = Timestamp::from_millis(1_700_000_000_999);
        assert_eq!(
            request(&["a", "b", "a"], &["run", "subscribe", "run"]).claims(now),
            json!({"sub": "u", "iat": 1_700_000_000, "exp": 1_700_003_600, "projects": ["a", "b"],
                "scope": "run subscribe"})
        );
        assert_eq!(request(&["a", "*"], &["admin"]).claims(now)["projects"], json!(["*"]));
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
            assert_eq!(parse_scopes(text), Err("expected some of subscribe, publish, run, admin".to_owned()), "{text}");
        }
        assert_eq!(parse_scopes("run, admin"), Ok(vec!["run".to_owned(), "admin".to_owned()]));
    }
}
