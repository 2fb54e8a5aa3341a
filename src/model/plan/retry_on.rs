//! Which failures are retried: by the exit code of a command, by the status of an HTTP response, or by kind.

use std::ops::RangeInclusive;

use serde_json::Value;

use super::fields::{Fields, Location, kind};

/// The maximum number of entries in a list of codes.
const ENTRIES_MAX: usize = 100;

/// The kind of a failure, if the tool knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// A command ended with this exit status.
    ExitCode(i32),
    /// A command was ended by a signal.
    Signal,
    /// A server responded with this status.
    Status(u16),
    /// A server did not respond, or its response was incomplete.
    Connection,
}

/// `retryPolicy.retryOn`: only matching failures are retried. Timeouts are always retried.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RetryOn {
    exit_codes: Vec<RangeInclusive<u64>>,
    statuses: Vec<RangeInclusive<u64>>,
    on_signal: bool,
    on_connection: bool,
}

impl RetryOn {
    /// Whether this failure is retried. A failure of unknown kind is not.
    pub fn matches(&self, failure: Option<Failure>) -> bool {
        let among = |ranges: &[RangeInclusive<u64>], code: u64| ranges.iter().any(|range| range.contains(&code));
        match failure {
            Some(Failure::ExitCode(code)) => u64::try_from(code).is_ok_and(|code| among(&self.exit_codes, code)),
            Some(Failure::Status(status)) => among(&self.statuses, status.into()),
            Some(Failure::Signal) => self.on_signal,
            Some(Failure::Connection) => self.on_connection,
            None => false,
        }
    }

    /// Reads the object in the field `retryOn`.
    pub(super) fn read(policy: &mut Fields<'_, '_>) -> Option<Self> {
        let object = policy.object("retryOn")?;
        let location = Location { inside: Some("retryPolicy.retryOn"), ..policy.location };
        let mut fields = Fields::new(object, location, policy.issues);
        let exit_codes = codes(&mut fields, "exitCodes", 1..=255);
        let statuses = codes(&mut fields, "statuses", 100..=599);
        let errors = fields.array("errors").map_or(&[][..], Vec::as_slice);
        for (at, error) in errors.iter().enumerate() {
            if !matches!(error.as_str(), Some("signal" | "connection")) {
                fields.report(&format!("errors[{at}]"), format_args!("must be \"signal\" or \"connection\""));
            }
        }
        let is_named = |word: &str| errors.iter().any(|error| error.as_str() == Some(word));
        Some(Self { exit_codes, statuses, on_signal: is_named("signal"), on_connection: is_named("connection") })
    }
}

/// A list of codes and ranges of codes: `7`, `"2-5"`, and, of statuses, `"5xx"`.
fn codes(fields: &mut Fields<'_, '_>, field: &str, within: RangeInclusive<u64>) -> Vec<RangeInclusive<u64>> {
    let entries = fields.array(field).map_or(&[][..], Vec::as_slice);
    if entries.len() > ENTRIES_MAX {
        fields.report(field, format_args!("must have at most {ENTRIES_MAX} entries"));
        return Vec::new();
    }
    let mut ranges = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        match range(entry)
            .filter(|range| !range.is_empty() && within.contains(range.start()) && within.contains(range.end()))
        {
            Some(range) => ranges.push(range),
            None => {
                let (from, to) = (within.start(), within.end());
                let hundreds = if *to > 255 { " or \"5xx\"" } else { "" };
                let shown =
                    if entry.is_array() || entry.is_object() { kind(entry).to_owned() } else { entry.to_string() };
                let message = format_args!(
                    "must be an integer from {from} to {to}, a range such as \"{from}-{to}\"{hundreds}, not {shown}"
                );
                fields.report(&format!("{field}[{at}]"), message);
            }
        }
    }
    ranges
}

fn range(entry: &Value) -> Option<RangeInclusive<u64>> {
    if let Some(code) = entry.as_u64() {
        return Some(code..=code);
    }
    let text = entry.as_str()?;
    if let Some(hundreds) = text.strip_suffix("xx") {
        let hundreds: u64 = hundreds.parse().ok().filter(|hundreds| (1..=5).contains(hundreds))?;
        return Some(hundreds * 100..=hundreds * 100 + 99);
    }
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    Some(from.trim().parse().ok()?..=to.trim().parse().ok()?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Draft;

    fn read(retry_on: Value) -> Result<RetryOn, Vec<String>> {
        let step = json!({"id": "a", "tool": "t", "retryPolicy": {"maxRetries": 1, "retryOn": retry_on}});
        match Draft::read(&json!({"name": "p", "steps": [step]}), 10).finish() {
            Ok(plan) => Ok(plan.steps[0].retry_on.as_deref().expect("there").clone()),
            Err(issues) => Err(issues.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn codes_and_ranges_of_them_match_and_nothing_else_does() {
        let retry_on =
            read(json!({"exitCodes": [1, "3-5"], "statuses": [429, "5xx", "400-402"], "errors": ["signal"]}));
        let retry_on = retry_on.expect("good");
        for (failure, is_matched) in [
            (Failure::ExitCode(1), true),
            (Failure::ExitCode(2), false),
            (Failure::ExitCode(5), true),
            (Failure::ExitCode(-1), false),
            (Failure::Status(429), true),
            (Failure::Status(503), true),
            (Failure::Status(401), true),
            (Failure::Status(404), false),
            (Failure::Signal, true),
            (Failure::Connection, false),
        ] {
            assert_eq!(retry_on.matches(Some(failure)), is_matched, "{failure:?}");
        }
        assert!(!retry_on.matches(None));
        assert!(!read(json!({})).expect("good").matches(Some(Failure::ExitCode(1))));
    }

    #[test]
    fn what_is_no_code_is_named_with_its_place() {
        let issues = read(json!({"exitCodes": [0, "5-2", "5xx"], "statuses": ["7xx", {}], "errors": ["oops"]}));
        assert_eq!(
            issues.expect_err("bad"),
            [
                "steps[0].retryPolicy.retryOn.exitCodes[0]: must be an integer from 1 to 255, a range such as \"1-255\", not 0",
                "steps[0].retryPolicy.retryOn.exitCodes[1]: must be an integer from 1 to 255, a range such as \"1-255\", not \"5-2\"",
                "steps[0].retryPolicy.retryOn.exitCodes[2]: must be an integer from 1 to 255, a range such as \"1-255\", not \"5xx\"",
                "steps[0].retryPolicy.retryOn.statuses[0]: must be an integer from 100 to 599, a range such as \"100-599\" or \"5xx\", not \"7xx\"",
                "steps[0].retryPolicy.retryOn.statuses[1]: must be an integer from 100 to 599, a range such as \"100-599\" or \"5xx\", not an object",
                "steps[0].retryPolicy.retryOn.errors[0]: must be \"signal\" or \"connection\"",
            ]
        );
    }
}
