//! The webhooks that the file declares: `[[webhooks]]` into [`WebhookDeclaration`].
//!
//! No error here repeats a value, because URLs, headers and secrets are secret and other values may contain some.

use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::{Report, kind_of, strings};
use super::units::parse_duration;
use super::{Notable, Secret};
use crate::model::ProjectId;
use crate::webhooks::{WEBHOOKS_MAX, WebhookDeclaration, words};

/// What stands for all projects.
const ANY_PROJECT: &str = "*";

const KEYS: [&str; 9] = ["name", "url", "events", "projects", "secret", "headers", "timeout", "retry", "allow_hosts"];

/// Reads the list of webhooks. One with a mistake is left out and its mistakes are reported.
pub(super) fn read(value: &Spanned<DeValue<'_>>, report: &mut Report<'_>) -> Vec<WebhookDeclaration> {
    let at = value.span().start;
    let DeValue::Array(items) = value.get_ref() else {
        let found = kind_of(value.get_ref());
        report.issue(at, &format!("webhooks: expected a list of tables (write [[webhooks]]), found {found}"));
        return Vec::new();
    };
    if items.len() > WEBHOOKS_MAX {
        report.issue(at, &format!("webhooks: expected at most {WEBHOOKS_MAX}, found {}", items.len()));
    }
    let mut webhooks: Vec<WebhookDeclaration> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let at = item.span().start;
        let DeValue::Table(table) = item.get_ref() else {
            report.issue(at, &format!("webhooks[{index}]: expected a table, found {}", kind_of(item.get_ref())));
            continue;
        };
        let Some(webhook) = Fields { index, at, table, report }.declaration() else { continue };
        if webhooks.iter().any(|other| other.name == webhook.name) {
            report.issue(at, &format!("webhooks[{index}].name: another webhook already has this name"));
        } else {
            webhooks.push(webhook);
        }
    }
    webhooks
}

/// One webhook's table, and where its mistakes go. Each reader reports what it can't take and then answers nothing.
struct Fields<'a, 'r, 'i> {
    index: usize,
    /// Where the table begins.
    at: usize,
    table: &'a DeTable<'i>,
    report: &'a mut Report<'r>,
}

impl Fields<'_, '_, '_> {
    fn declaration(mut self) -> Option<WebhookDeclaration> {
        let issues_before = self.report.count();
        self.refuse_unknown();
        let name = self.required("name", "a name");
        let url = self.required("url", "a URL that begins with https://");
        let mut webhook = WebhookDeclaration::new(name, Secret::new(url), Secret::new(""));
        webhook.secrets = self.secrets();
        webhook.headers = self.headers();
        webhook.projects = self.projects();
        webhook.allow_hosts = self.list("allow_hosts", "a list of host names").unwrap_or_default();
        webhook.events = self.events().unwrap_or(webhook.events);
        webhook.timeout = self.duration("timeout").unwrap_or(webhook.timeout);
        webhook.retry = self.retry().unwrap_or(webhook.retry);
        if self.report.count() == issues_before
            && let Err(problem) = webhook.check()
        {
            let key = problem.split([':', '.', '[']).next().unwrap_or_default().to_owned();
            self.issue_at(&key, &problem);
        }
        (self.report.count() == issues_before).then_some(webhook)
    }

    fn events(&mut self) -> Option<Vec<Notable>> {
        let expected = format!("a list of these: {}", words());
        let events = self.list("events", &expected)?;
        let events = events.iter().map(|event| Notable::parse(event)).collect::<Option<_>>();
        events.or_else(|| self.reject("events", &format!("expected {expected}")))
    }

    fn projects(&mut self) -> Option<Vec<ProjectId>> {
        const EXPECTED: &str = "a list of project ids, or [\"*\"]";
        let projects = self.list("projects", EXPECTED)?;
        if projects == [ANY_PROJECT] {
            return None;
        }
        let projects = projects.iter().map(|project| ProjectId::parse(project).ok()).collect::<Option<_>>();
        projects.or_else(|| self.reject("projects", &format!("expected {EXPECTED}")))
    }

    /// One, or a list of them.
    fn secrets(&mut self) -> Vec<Secret> {
        const EXPECTED: &str = "a secret that begins with whsec_, or a list of such secrets";
        let Some(value) = self.table.get("secret") else {
            return self.missing("secret", EXPECTED).unwrap_or_default();
        };
        if let Some(secret) = value.get_ref().as_str() {
            return vec![Secret::new(secret)];
        }
        let secrets = self.list("secret", EXPECTED).unwrap_or_default();
        secrets.into_iter().map(Secret::new).collect()
    }

    fn headers(&mut self) -> Vec<(String, Secret)> {
        let Some(value) = self.table.get("headers") else { return Vec::new() };
        let pairs = value.get_ref().as_table().and_then(|table| {
            let pair = |(name, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
                Some((AsRef::<str>::as_ref(name.get_ref()).to_owned(), Secret::new(value.get_ref().as_str()?)))
            };
            table.iter().map(pair).collect::<Option<Vec<_>>>()
        });
        pairs.or_else(|| self.reject("headers", "expected a table of strings")).unwrap_or_default()
    }

    fn retry(&mut self) -> Option<Vec<Duration>> {
        const EXPECTED: &str = "a list of durations such as 5s, 5m or 2h";
        let delays = self.list("retry", EXPECTED)?;
        let delays = delays.iter().map(|delay| parse_duration(delay)).collect::<Option<_>>();
        delays.or_else(|| self.reject("retry", &format!("expected {EXPECTED}")))
    }

    fn duration(&mut self, key: &str) -> Option<Duration> {
        let value = self.table.get(key)?.get_ref().as_str().and_then(parse_duration);
        value.or_else(|| self.reject(key, "expected a duration such as 20s"))
    }

    fn required(&mut self, key: &str, expected: &str) -> String {
        let Some(value) = self.table.get(key) else { return self.missing(key, expected).unwrap_or_default() };
        let text = value.get_ref().as_str().map(str::to_owned);
        text.or_else(|| self.reject(key, "expected a string")).unwrap_or_default()
    }

    fn list(&mut self, key: &str, expected: &str) -> Option<Vec<String>> {
        let items = self.table.get(key)?.get_ref().as_array().and_then(strings);
        let items = items.map(|items| items.into_iter().map(str::to_owned).collect());
        items.or_else(|| self.reject(key, &format!("expected {expected}")))
    }

    fn refuse_unknown(&mut self) {
        let known: Vec<String> = KEYS.iter().map(|key| format!("webhooks[{}].{key}", self.index)).collect();
        for key in self.table.keys() {
            let path = format!("webhooks[{}].{}", self.index, key.get_ref());
            if !known.contains(&path) {
                self.report.unknown_key(key.span().start, &path, known.iter().map(String::as_str));
            }
        }
    }

    fn missing<T>(&mut self, key: &str, expected: &str) -> Option<T> {
        self.reject(key, &format!("missing; expected {expected}"))
    }

    fn reject<T>(&mut self, key: &str, what: &str) -> Option<T> {
        self.issue_at(key, &format!("{key}: {what}"));
        None
    }

    /// A problem of the field `key`, with which it begins.
    fn issue_at(&mut self, key: &str, problem: &str) {
        let at = self.table.get(key).map_or(self.at, |value| value.span().start);
        self.report.issue(at, &format!("webhooks[{}].{problem}", self.index));
    }
}
