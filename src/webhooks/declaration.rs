//! A webhook as the configuration declares it.

use std::time::Duration;

use super::WEBHOOKS_MAX;
use super::schedule::{DELAY_MAX, DELAYS_MAX, STANDARD_DELAYS};
use crate::model::{Notable, ProjectId, Secret};

/// How long an attempt may take where nothing says so: Standard Webhooks recommends 15 to 30 seconds.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The longest that one may be given.
const TIMEOUT_MAX: Duration = Duration::from_secs(5 * 60);

/// The longest name, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// Secrets that a webhook may have.
const SECRETS_MAX: usize = 8;

/// `[[webhooks]]`: something to be told elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookDeclaration {
    /// Its name in logs, metrics and the outbox.
    pub name: String,
    /// Where events are sent. Its path may be a secret, so nothing shows more of it than its server.
    pub url: Secret,
    /// The events it is sent.
    pub events: Vec<Notable>,
    /// The projects; none means all.
    pub projects: Option<Vec<ProjectId>>,
    /// The secrets that events are signed with, each `whsec_` and base64.
    pub secrets: Vec<Secret>,
    /// Further headers.
    pub headers: Vec<(String, Secret)>,
    /// How long an attempt may take.
    pub timeout: Duration,
    /// The delays between attempts; as many as attempts after the first.
    pub retry: Vec<Duration>,
    /// Servers that `url` may lead to though their addresses are not public, or without TLS.
    pub allow_hosts: Vec<String>,
}

impl WebhookDeclaration {
    /// A webhook for the ends of all runs of all projects, with the retries that Standard Webhooks recommends.
    pub fn new(name: impl Into<String>, url: Secret, secret: Secret) -> Self {
        Self {
            name: name.into(),
            url,
            events: Notable::ENDS.to_vec(),
            projects: None,
            secrets: vec![secret],
            headers: Vec::new(),
            timeout: TIMEOUT,
            retry: STANDARD_DELAYS.to_vec(),
            allow_hosts: Vec::new(),
        }
    }

    /// Can it be sent to?
    ///
    /// # Errors
    /// One sentence that begins with the field, as `url: ` or `headers.X-Key: `, and repeats none of its secrets.
    pub fn check(&self) -> Result<(), String> {
        let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        if !(1..=NAME_BYTES_MAX).contains(&self.name.len()) || !self.name.bytes().all(is_name) {
            return Err(format!("name: expected 1 to {NAME_BYTES_MAX} characters out of A-Z a-z 0-9 _ . -"));
        }
        if self.events.is_empty() {
            return Err(format!("events: expected one or more of {}", words()));
        }
        if self.projects.as_ref().is_some_and(Vec::is_empty) {
            return Err("projects: expected project ids, or \"*\"".to_owned());
        }
        if !(1..=SECRETS_MAX).contains(&self.secrets.len()) {
            return Err(format!("secret: expected 1 to {SECRETS_MAX} secrets"));
        }
        if self.timeout.is_zero() || self.timeout > TIMEOUT_MAX {
            return Err("timeout: expected a duration greater than zero, at most 5m".to_owned());
        }
        if self.retry.len() > DELAYS_MAX || self.retry.iter().any(|delay| *delay > DELAY_MAX) {
            return Err(format!("retry: expected at most {DELAYS_MAX} durations, each at most 1d"));
        }
        self.check_request()
    }

    #[cfg(feature = "http-tool")]
    fn check_request(&self) -> Result<(), String> {
        super::request::Target::compile(self).map(drop)
    }

    #[cfg(not(feature = "http-tool"))]
    fn check_request(&self) -> Result<(), String> {
        Err("url: webhooks are not supported: this program was built without the feature http-tool".to_owned())
    }
}

/// Can events be sent to all of these?
///
/// # Errors
/// What is wrong with one of them, or with all together.
pub(crate) fn check_all(declarations: &[WebhookDeclaration]) -> Result<(), String> {
    if declarations.len() > WEBHOOKS_MAX {
        return Err(format!("webhooks: expected at most {WEBHOOKS_MAX}, found {}", declarations.len()));
    }
    for (place, it) in declarations.iter().enumerate() {
        it.check().map_err(|problem| format!("webhook {}: {problem}", it.name))?;
        if declarations[..place].iter().any(|other| other.name == it.name) {
            return Err(format!("webhook {}: name: another webhook already has this name", it.name));
        }
    }
    Ok(())
}

/// The names of events, for errors.
pub(crate) fn words() -> String {
    Notable::ALL.map(Notable::as_str).join(", ")
}

#[cfg(all(test, feature = "http-tool"))]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn said(change: impl FnOnce(&mut WebhookDeclaration)) -> String {
        let mut it = WebhookDeclaration::new("w", Secret::new("https://a.example/hook?k=hunter2"), Secret::new(SECRET));
        change(&mut it);
        it.check().map_or_else(|said| said, |()| "fine".to_owned())
    }

    #[test]
    fn a_mistake_is_named_by_its_field_and_shows_no_secret() {
        type Change = fn(&mut WebhookDeclaration);
        let table: [(&str, Change); 20] = [
            ("fine", |_| {}),
            ("fine", |it| it.url = Secret::new("http://127.0.0.1:9/x")),
            ("fine", |it| it.url = Secret::new("http://localhost/x")),
            ("fine", |it| {
                it.url = Secret::new("http://in.example:8080/x");
                it.allow_hosts = vec!["in.example:8080".to_owned()];
            }),
            ("fine", |it| {
                it.url = Secret::new("https://10.0.0.1/x");
                it.allow_hosts = vec!["10.0.0.1".to_owned()];
            }),
            ("name: ", |it| it.name = "a b".to_owned()),
            ("url: ", |it| it.url = Secret::new("hunter2")),
            ("url: ", |it| it.url = Secret::new("http://a.example/hunter2")),
            ("url: ", |it| it.url = Secret::new("https://10.0.0.1/hunter2")),
            ("url: ", |it| it.url = Secret::new("https://[fd00::1]/hunter2")),
            ("url: ", |it| it.url = Secret::new("https://user:hunter2@a.example/")),
            ("events: ", |it| it.events.clear()),
            ("projects: ", |it| it.projects = Some(Vec::new())),
            ("secret: ", |it| it.secrets.clear()),
            ("secret: ", |it| it.secrets = vec![Secret::new(SECRET), Secret::new("hunter2")]),
            ("headers.a b: ", |it| it.headers = vec![("a b".to_owned(), Secret::new("x"))]),
            ("headers.Webhook-Id: ", |it| it.headers = vec![("Webhook-Id".to_owned(), Secret::new("x"))]),
            ("headers.X-Key: ", |it| it.headers = vec![("X-Key".to_owned(), Secret::new("hunter2\n"))]),
            ("timeout: ", |it| it.timeout = Duration::ZERO),
            ("retry: ", |it| it.retry = vec![Duration::from_secs(1); 33]),
        ];
        for (number, (expected, change)) in table.into_iter().enumerate() {
            let said = said(change);
            assert!(said.starts_with(expected) && !said.contains("hunter2"), "{number}: {said}");
        }
        let it = WebhookDeclaration::new("w", Secret::new("https://a.example/hunter2"), Secret::new(SECRET));
        assert_eq!(check_all(std::slice::from_ref(&it)), Ok(()));
        assert!(
            check_all(&[it.clone(), it.clone()])
                .is_err_and(|said| said.contains("another webhook already has this name"))
        );
        assert!(!format!("{it:?}").contains("hunter2") && !format!("{it:?}").contains("MfKQ"), "{it:?}");
    }
}
