//! The schedule of a stored plan, as its author wrote it. Patterns and time zones are interpreted elsewhere.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::fields::{Fields, Location};
use super::{Issue, Issues};

/// The maximum length of a pattern, in characters.
const CRON_CHARS_MAX: usize = 256;

/// The maximum length of a time zone's name, in characters.
const ZONE_CHARS_MAX: usize = 64;

/// What happens if the schedule fires while the run of an earlier firing is active.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overlap {
    /// The firing is skipped.
    #[default]
    Skip,
    /// Its run starts when the active one has ended.
    Queue,
    /// The active run is cancelled, and the new one starts when it has ended.
    Cancel,
}

/// When a stored plan runs automatically.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleSpec {
    /// The pattern: five fields, or six that begin with seconds.
    pub cron: String,
    /// The time zone of the pattern, by its name in the IANA database.
    pub time_zone: String,
    /// What happens if runs would overlap.
    pub overlap: Overlap,
    /// False while the schedule is paused.
    pub enabled: bool,
}

impl ScheduleSpec {
    /// Reads a schedule. The inputs for its runs are checked, and stay in the document.
    ///
    /// # Errors
    /// All issues; their paths begin with `schedule`.
    pub fn read(value: &Value) -> Result<Self, Vec<Issue>> {
        let mut issues = Issues::new();
        let nothing = Map::new();
        let object = value.as_object().unwrap_or(&nothing);
        if !value.is_object() {
            issues.report(None, None, format_args!("schedule"), format_args!("must be an object"));
        }
        let location = Location { inside: Some("schedule"), ..Location::default() };
        let mut fields = Fields::new(object, location, &mut issues);
        let cron = if value.is_object() { fields.required_text("cron", CRON_CHARS_MAX) } else { None };
        let time_zone = fields.text("timeZone", ZONE_CHARS_MAX).unwrap_or("UTC");
        let words = [("skip", Overlap::Skip), ("queue", Overlap::Queue), ("cancel", Overlap::Cancel)];
        let overlap = fields.word("overlap", &words).unwrap_or_default();
        let enabled = fields.flag("enabled").unwrap_or(true);
        fields.object("inputs");
        if !issues.is_empty() {
            return Err(issues.into_vec());
        }
        let cron = cron.unwrap_or_default().trim().to_owned();
        Ok(Self { cron, time_zone: time_zone.to_owned(), overlap, enabled })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schedule_is_read_with_its_defaults() {
        let spec = ScheduleSpec::read(&json!({"cron": " 0 3 * * * ", "inputs": {"a": 1}, "note": 1}));
        let expected = ScheduleSpec {
            cron: "0 3 * * *".to_owned(),
            time_zone: "UTC".to_owned(),
            overlap: Overlap::Skip,
            enabled: true,
        };
        assert_eq!(spec, Ok(expected));
    }

    #[test]
    fn everything_that_is_wrong_with_a_schedule_is_found_at_once() {
        let said = |value: Value| {
            let issues = ScheduleSpec::read(&value).expect_err("issues");
            issues.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(said(json!(7)), ["schedule: must be an object"]);
        let wrong = json!({"timeZone": 1, "overlap": "both", "enabled": "yes", "inputs": []});
        let expected = [
            "schedule.cron: is required and must be a string",
            "schedule.timeZone: must be a string, not a number",
            "schedule.overlap: must be \"skip\" or \"queue\" or \"cancel\", not \"both\"",
            "schedule.enabled: must be true or false, not \"yes\"",
            "schedule.inputs: must be an object, not an array",
        ];
        assert_eq!(said(wrong), expected);
    }
}
