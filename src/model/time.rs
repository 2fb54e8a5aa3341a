//! Time as a value: the event loop reads the clock once per turn and passes it down.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment of the wall clock, in milliseconds since 1970-01-01T00:00:00Z.
///
/// Shown and serialized as RFC 3339 in UTC with milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The moment `ms` milliseconds after the epoch.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since the epoch, as JWT claims count them.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// The moment `ms` milliseconds later.
    pub const fn plus_millis(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds since `earlier`; 0 if the clock was set back in between.
    pub const fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(ascii(&rfc3339(*self)))
    }
}

/// Every message of a run has at least one time. A formatter would take a tenth of the time of writing the message.
impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(ascii(&rfc3339(*self)))
    }
}

/// `2023-11-14T22:13:20.042Z`. The format ends with the year 9999; later moments are shown as its last one.
fn rfc3339(at: Timestamp) -> [u8; 24] {
    const LAST_MS: u64 = 253_402_300_799_999;
    const DAY_MS: u64 = 86_400_000;
    let ms = at.0.min(LAST_MS);
    let (year, month, day) = date(ms / DAY_MS);
    let (second, ms) = (ms % DAY_MS / 1000, ms % 1000);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    put_digits(&mut text[..4], year);
    put_digits(&mut text[5..7], month);
    put_digits(&mut text[8..10], day);
    put_digits(&mut text[11..13], second / 3600);
    put_digits(&mut text[14..16], second / 60 % 60);
    put_digits(&mut text[17..19], second % 60);
    put_digits(&mut text[20..23], ms);
    text
}

/// The date so many days after 1970-01-01. Counts in years that begin in March, so that a leap day is the last of its
/// year, and from a year that begins a cycle of 400.
fn date(days: u64) -> (u64, u64, u64) {
    const CYCLE_DAYS: u64 = 146_097;
    let days = days + 719_468;
    let (cycle, day) = (days / CYCLE_DAYS, days % CYCLE_DAYS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (400 * cycle + year + later, month, day)
}

fn put_digits(to: &mut [u8], mut number: u64) {
    for digit in to.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn ascii(text: &[u8]) -> &str {
    str::from_utf8(text).unwrap_or_default()
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        humantime::parse_rfc3339(&text).map(Self::from).map_err(serde::de::Error::custom)
    }
}

/// The current time, on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Time since the process started; never goes back. Deadlines and durations use it.
    pub mono: Duration,
    /// The wall clock, for times that people and other machines read.
    pub wall: Timestamp,
}

impl Now {
    /// Both clocks moved forward by `by`, for simulations.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        let ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        Self { mono: self.mono + by, wall: self.wall.plus_millis(ms) }
    }
}

/// A delay as it was reported: when it started, by the wall clock, and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// When it started.
    pub at: Timestamp,
    /// Its length.
    pub lasts: Duration,
}

impl Told {
    /// The rest of the delay. Only the wall clock tells how much has passed, and it may have been set since: a delay
    /// that seems not to have started is left in full, and never longer.
    fn left(self, now: Now) -> Duration {
        self.lasts.saturating_sub(Duration::from_millis(now.wall.millis_since(self.at)))
    }
}

/// A deadline on the monotonic clock of this process.
///
/// A deadline that an earlier process has reported is made only by [`restored`](Self::restored), so that no change of
/// the wall clock makes anyone wait longer than was reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Duration);

impl Deadline {
    /// The deadline of something that starts now.
    pub fn after(lasts: Duration, now: Now) -> Self {
        Self(now.mono.saturating_add(lasts))
    }

    /// The deadline of something that started in an earlier process: at most `told.lasts` from now.
    pub fn restored(told: Told, now: Now) -> Self {
        Self::after(told.left(now), now)
    }

    /// The moment on the monotonic clock.
    pub fn at(self) -> Duration {
        self.0
    }

    /// Whether it has passed.
    pub fn has_passed(self, now: Now) -> bool {
        self.0 <= now.mono
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_restored_waits_no_longer_than_was_told_wherever_the_clock_was_set() {
        let at = |wall| Now { mono: Duration::from_secs(3), wall: Timestamp::from_millis(wall) };
        let told = Told { at: Timestamp::from_millis(10_000), lasts: Duration::from_secs(4) };
        let table = [
            ("at once", 10_000, 4000),
            ("later", 11_500, 2500),
            ("when it is over", 14_000, 0),
            ("long after", 1 << 50, 0),
            ("set back a little", 9_999, 4000),
            ("set back to 1970", 0, 4000),
        ];
        for (name, wall, left) in table {
            let deadline = Deadline::restored(told, at(wall));
            assert_eq!(deadline.at(), Duration::from_secs(3) + Duration::from_millis(left), "{name}");
        }
        let endless = Told { lasts: Duration::MAX, ..told };
        assert!(!Deadline::restored(endless, at(0)).has_passed(at(1 << 50)));
    }

    #[test]
    fn a_timestamp_is_rfc_3339_in_utc_with_milliseconds() {
        let at = Timestamp::from_millis(1_700_000_000_042);
        assert_eq!(at.to_string(), "2023-11-14T22:13:20.042Z");
        assert_eq!(serde_json::from_str::<Timestamp>("\"2023-11-14T22:13:20.042Z\"").expect("parses"), at);
        assert_eq!(Timestamp::from_millis(u64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
        // The step is prime, so that all hours, days and months occur, in every year up to the last.
        for ms in (0..253_402_300_800_000).step_by(9_999_999_967) {
            let text = humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(ms)).to_string();
            assert_eq!(Timestamp::from_millis(ms).to_string(), text);
        }
    }
}
