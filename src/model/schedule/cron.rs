//! The times of a cron pattern in a time zone.
//!
//! A pattern names times of a zone's clock. When that clock is set back or forward, the author meant one of two things:
//!
//! - A pattern without `*` or `/` in its seconds, minutes and hours names fixed times of day. Each fires once: a
//!   skipped time fires right after the gap, a repeated time fires the first time.
//! - Any other pattern names an interval. It fires at every matching time that the clock shows, both times if a time is
//!   repeated, and not at all if it is skipped.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Zoned};

use super::firing::{DUE_COUNTED_MAX, Due};
use crate::model::Timestamp;

/// The first period to search for the newest due time. Each further one is eight times as long.
const LOOK_BACK_MS: u64 = 60_000;

/// A pattern in a time zone.
#[derive(Debug, Clone)]
pub struct Schedule {
    cron: Cron,
    zone: TimeZone,
    /// Whether the pattern names an interval, and not fixed times of day.
    is_interval: bool,
}

/// Why a schedule is invalid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleError {
    /// The field of the schedule that is wrong.
    pub field: &'static str,
    /// The problem.
    pub message: String,
}

impl Schedule {
    /// Reads a pattern and finds its zone, in the system's own database.
    ///
    /// # Errors
    /// If the pattern is invalid, or there is no such zone.
    pub fn parse(pattern: &str, zone: &str) -> Result<Self, ScheduleError> {
        let wrong = |message: String| ScheduleError { field: "cron", message };
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let cron = parser.parse(pattern).map_err(|error| wrong(explain(pattern, &error.to_string())))?;
        let zone = find_zone(zone).map_err(|message| ScheduleError { field: "timeZone", message })?;
        let times_of_day = cron.pattern.to_string();
        let is_interval = names_interval(&times_of_day);
        let schedule = Self { cron, zone, is_interval };
        if schedule.next(Timestamp::from_millis(0)).is_none() {
            return Err(wrong("names a date that never occurs".to_owned()));
        }
        Ok(schedule)
    }

    /// The first time after `after`.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let after = self.zoned(after)?;
        let next = match self.is_interval {
            true => self.cron.find_next_occurrence(&after, false).ok()?,
            false => self.next_fixed(&after)?,
        };
        u64::try_from(next.timestamp().as_millisecond()).ok().map(Timestamp::from_millis)
    }

    /// The times after `after`, up to and including `until`.
    pub(super) fn due(&self, after: Timestamp, until: Timestamp) -> Option<Due> {
        let first = self.next(after).filter(|first| *first <= until)?;
        let mut due = Due { newest: first, count: 1 };
        while due.count < DUE_COUNTED_MAX {
            match self.next(due.newest).filter(|next| *next <= until) {
                Some(next) => due = Due { newest: next, count: due.count + 1 },
                None => return Some(due),
            }
        }
        Some(Due { newest: self.newest(due.newest, until), ..due })
    }

    /// The newest time up to `until`, if there are too many times to visit all; `known` is one of them.
    fn newest(&self, known: Timestamp, until: Timestamp) -> Timestamp {
        let mut back = LOOK_BACK_MS;
        loop {
            let from = Timestamp::from_millis(until.as_millis().saturating_sub(back)).max(known);
            let mut newest = from;
            while let Some(next) = self.next(newest).filter(|next| *next <= until) {
                newest = next;
            }
            if newest > from || from == known {
                return newest;
            }
            back = back.saturating_mul(8);
        }
    }

    /// Goes through the times of the clock as if it was never set, and finds the moment at which each one comes.
    fn next_fixed(&self, after: &Zoned) -> Option<Zoned> {
        let mut clock: DateTime = after.datetime();
        loop {
            clock = self.cron.find_next_occurrence(&clock, false).ok()?;
            let ambiguous = self.zone.to_ambiguous_zoned(clock);
            let comes = match ambiguous.offset() {
                AmbiguousOffset::Gap { before, .. } => {
                    // By the offset before the gap, a time inside it lies at its start or later. So the gap is searched
                    // backwards from there.
                    let behind = before.to_timestamp(clock).ok()?.checked_add(SignedDuration::from_secs(1)).ok()?;
                    let gap = self.zone.preceding(behind).next()?;
                    gap.timestamp().to_zoned(self.zone.clone())
                }
                _ => ambiguous.earlier().ok()?,
            };
            if comes > *after {
                return Some(comes);
            }
        }
    }

    fn zoned(&self, at: Timestamp) -> Option<Zoned> {
        let at = jiff::Timestamp::from_millisecond(i64::try_from(at.as_millis()).ok()?).ok()?;
        Some(at.to_zoned(self.zone.clone()))
    }
}

/// Whether a field for seconds, minutes or hours has more than numbers. These are all fields but the last three.
fn names_interval(pattern: &str) -> bool {
    let fields: Vec<&str> = pattern.split_whitespace().collect();
    let of_day = fields.len().saturating_sub(3);
    fields[..of_day].iter().any(|field| field.contains(['*', '/', '?'])) || fields.len() < 5
}

/// Why a pattern is invalid, in the library's words. Only the number of fields is checked here: its limits differ from
/// ours.
fn explain(pattern: &str, error: &str) -> String {
    let fields = pattern.split_whitespace().count();
    if !(5..=6).contains(&fields) && !pattern.starts_with('@') {
        return format!("must have 5 fields, or 6 with seconds in front, not {fields}");
    }
    let reason = error.trim_start_matches("Invalid pattern: ").trim_end_matches('.');
    format!("is not a valid cron pattern: {reason}")
}

fn find_zone(name: &str) -> Result<TimeZone, String> {
    if matches!(name, "UTC" | "Etc/UTC" | "Z") {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(name).map_err(|_| match jiff::tz::db().is_definitively_empty() {
        true => format!(
            "unknown time zone {name:?}; this system has no time zone database (on Debian, install tzdata), only UTC"
        ),
        false => format!("unknown time zone {name:?}; it is not in this system's time zone database"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        let ms = text.parse::<jiff::Timestamp>().expect(text).as_millisecond();
        Timestamp::from_millis(u64::try_from(ms).expect("not before 1970"))
    }

    fn schedule(pattern: &str, zone: &str) -> Schedule {
        Schedule::parse(pattern, zone).unwrap_or_else(|error| panic!("{pattern} {zone}: {error:?}"))
    }

    fn times(pattern: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let (schedule, mut after) = (schedule(pattern, zone), at(after));
        let mut next = || {
            after = schedule.next(after).expect("there is always a next one");
            after.to_string().replace(":00.000Z", "Z")
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn the_number_of_fields_is_told_as_it_is_meant() {
        let problem = |pattern: &str| Schedule::parse(pattern, "UTC").expect_err("no pattern").message;
        assert_eq!(problem("0 3 * *"), "must have 5 fields, or 6 with seconds in front, not 4");
        assert_eq!(problem("0 0 3 * * * 2030"), "must have 5 fields, or 6 with seconds in front, not 7");
        let other = problem("0 25 * * *");
        assert!(other.starts_with("is not a valid cron pattern: ") && !other.ends_with('.'), "{other}");
    }

    #[test]
    fn the_times_of_patterns() {
        let table: [(&str, &str, &str, &[&str]); 8] = [
            ("0 3 * * *", "UTC", "2026-03-01T03:00:00Z", &["2026-03-02T03:00Z", "2026-03-03T03:00Z"]),
            ("0 3 * * *", "Europe/Zurich", "2026-01-01T00:00:00Z", &["2026-01-01T02:00Z", "2026-01-02T02:00Z"]),
            ("*/20 * * * *", "UTC", "2026-01-01T00:05:30.5Z", &["2026-01-01T00:20Z", "2026-01-01T00:40Z"]),
            ("30 9 * * mon-fri", "Asia/Tokyo", "2026-01-02T12:00:00Z", &["2026-01-05T00:30Z"]),
            ("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", &["2028-02-29T00:00Z", "2032-02-29T00:00Z"]),
            ("0 12 l * *", "UTC", "2026-02-01T00:00:00Z", &["2026-02-28T12:00Z"]),
            ("@daily", "America/New_York", "2026-07-01T12:00:00Z", &["2026-07-02T04:00Z"]),
            (
                "*/2 * * * * *",
                "UTC",
                "2026-01-01T00:00:00.9Z",
                &["2026-01-01T00:00:02.000Z", "2026-01-01T00:00:04.000Z"],
            ),
        ];
        for (pattern, zone, after, expected) in table {
            assert_eq!(times(pattern, zone, after, expected.len()), expected, "{pattern} {zone}");
        }
    }

    #[test]
    fn where_the_clock_leaps_a_fixed_time_fires_once_right_behind_the_gap() {
        // 2026-03-29, Zurich: 01:59:59+01:00 is followed by 03:00:00+02:00.
        let table: [(&str, &[&str]); 7] = [
            ("0 2 * * *", &["2026-03-29T01:00Z", "2026-03-30T00:00Z"]),
            ("30 2 * * *", &["2026-03-29T01:00Z", "2026-03-30T00:30Z"]),
            ("0,15,30 2 * * *", &["2026-03-29T01:00Z", "2026-03-30T00:00Z", "2026-03-30T00:15Z"]),
            ("0 2,3 * * *", &["2026-03-29T01:00Z", "2026-03-30T00:00Z", "2026-03-30T01:00Z"]),
            ("30 3 * * *", &["2026-03-29T01:30Z", "2026-03-30T01:30Z"]),
            ("*/30 * * * *", &["2026-03-29T00:00Z", "2026-03-29T00:30Z", "2026-03-29T01:00Z", "2026-03-29T01:30Z"]),
            ("0 */2 * * *", &["2026-03-29T02:00Z", "2026-03-29T04:00Z"]),
        ];
        for (pattern, expected) in table {
            let from = "2026-03-28T23:45:00Z";
            assert_eq!(times(pattern, "Europe/Zurich", from, expected.len()), expected, "{pattern}");
        }
    }

    #[test]
    fn where_the_clock_is_set_back_a_fixed_time_fires_once_and_an_interval_goes_on() {
        // 2026-10-25, Zurich: 02:00:00 to 02:59:59 come with +02:00, and again with +01:00.
        let table: [(&str, &[&str]); 5] = [
            ("30 2 * * *", &["2026-10-25T00:30Z", "2026-10-26T01:30Z"]),
            ("15,45 2 * * *", &["2026-10-25T00:15Z", "2026-10-25T00:45Z", "2026-10-26T01:15Z"]),
            ("30 * * * *", &["2026-10-25T00:30Z", "2026-10-25T01:30Z", "2026-10-25T02:30Z"]),
            ("*/30 2 * * *", &["2026-10-25T00:30Z", "2026-10-25T01:00Z", "2026-10-25T01:30Z", "2026-10-26T01:00Z"]),
            ("0 */2 * * *", &["2026-10-25T01:00Z", "2026-10-25T03:00Z", "2026-10-25T05:00Z"]),
        ];
        for (pattern, expected) in table {
            let from = "2026-10-25T00:00:00Z";
            assert_eq!(times(pattern, "Europe/Zurich", from, expected.len()), expected, "{pattern}");
        }
        // Asked for within the second of the two hours.
        assert_eq!(times("30 2 * * *", "Europe/Zurich", "2026-10-25T01:10:00Z", 1), ["2026-10-26T01:30Z"]);
    }

    #[test]
    fn monday_is_1_sunday_0_or_7_and_of_two_restricted_days_either_counts() {
        let table: [(&str, &[&str]); 5] = [
            ("0 0 * * 1", &["2026-03-02T00:00Z", "2026-03-09T00:00Z"]),
            ("0 0 * * MON", &["2026-03-02T00:00Z", "2026-03-09T00:00Z"]),
            ("0 0 * * 0", &["2026-03-08T00:00Z", "2026-03-15T00:00Z"]),
            ("0 0 * * 7", &["2026-03-08T00:00Z", "2026-03-15T00:00Z"]),
            ("0 0 10 * 5", &["2026-03-06T00:00Z", "2026-03-10T00:00Z", "2026-03-13T00:00Z"]),
        ];
        for (pattern, expected) in table {
            assert_eq!(times(pattern, "UTC", "2026-03-01T12:00:00Z", expected.len()), expected, "{pattern}");
        }
    }

    #[test]
    fn a_gap_of_half_an_hour_or_at_midnight_is_one_too() {
        // Lord Howe leaps from 02:00 to 02:30; Santiago from 24:00 to 01:00.
        assert_eq!(times("10 2 * * *", "Australia/Lord_Howe", "2026-10-03T15:00:00Z", 1), ["2026-10-03T15:30Z"]);
        assert_eq!(times("0 0 * * *", "America/Santiago", "2026-09-05T12:00:00Z", 1), ["2026-09-06T04:00Z"]);
    }

    #[test]
    fn what_is_due_is_counted_and_its_newest_is_known_however_much_it_is() {
        let minutes = schedule("* * * * *", "UTC");
        let due = |after, until| minutes.due(at(after), at(until)).map(|due| (due.newest.to_string(), due.count));
        assert_eq!(due("2026-01-01T00:00:00Z", "2026-01-01T00:00:59Z"), None);
        let one = ("2026-01-01T00:01:00.000Z".to_owned(), 1);
        assert_eq!(due("2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"), Some(one));
        let many = ("2026-12-31T23:59:00.000Z".to_owned(), DUE_COUNTED_MAX);
        assert_eq!(due("2026-01-01T00:00:00Z", "2026-12-31T23:59:30Z"), Some(many));
        // Each second of one hour, asked about in another.
        let seconds = schedule("* * 3 * * *", "UTC");
        let due = seconds.due(at("2026-01-01T00:00:00Z"), at("2026-01-02T01:00:00Z")).expect("due");
        assert_eq!(due.newest.to_string(), "2026-01-01T03:59:59.000Z");
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_its_field() {
        let table = [
            ("", "UTC", "cron"),
            ("61 * * * *", "UTC", "cron"),
            ("* * * *", "UTC", "cron"),
            ("every day", "UTC", "cron"),
            ("0 0 30 2 *", "UTC", "cron"),
            ("0 0 0 1 1 * 2020", "UTC", "cron"),
            ("* * * * *", "Europe/Nowhere", "timeZone"),
            ("* * * * *", "../etc/passwd", "timeZone"),
        ];
        for (pattern, zone, field) in table {
            let refused = Schedule::parse(pattern, zone).map(drop).expect_err(pattern);
            assert_eq!(refused.field, field, "{pattern} {zone}: {}", refused.message);
        }
    }
}
