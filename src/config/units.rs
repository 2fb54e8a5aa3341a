//! Durations and sizes as people write them: `500ms`, `15s`, `256KiB`. A value is one number and one unit, so that no
//! text is ambiguous.

use std::time::Duration;

/// The longest duration that can be written: 100 years, far from where adding two of them overflows anything.
pub const DURATION_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Units of time in milliseconds, longest first.
const TIME_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Units of size in bytes, largest first. Powers of 1000 are left out: `MB` means either, depending on who reads it.
const SIZE_UNITS: [(&str, u64); 5] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Reads `500ms`, `15s`, `5m`, `1h`, `7d`. A bare number is refused, for nobody can tell its unit.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let millis = number.checked_mul(factor(&TIME_UNITS, unit)?)?;
    Some(Duration::from_millis(millis)).filter(|duration| *duration <= DURATION_MAX)
}

/// Writes what [`parse_duration`] reads, in the largest unit that keeps it whole.
pub fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 { "0s".to_owned() } else { show(&TIME_UNITS, millis) }
}

/// Reads `256KiB`, `64MiB`, `1GiB`, and plain bytes (`65536`, `65536B`).
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let factor = if unit.is_empty() { 1 } else { factor(&SIZE_UNITS, unit)? };
    number.checked_mul(factor)
}

/// Writes what [`parse_size`] reads, in the largest unit that keeps it whole.
pub fn show_size(bytes: u64) -> String {
    if bytes == 0 { "0B".to_owned() } else { show(&SIZE_UNITS, bytes) }
}

/// The leading digits as a number, and what follows them.
fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit))
}

fn factor(units: &[(&str, u64)], unit: &str) -> Option<u64> {
    units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor)
}

fn show(units: &[(&str, u64)], amount: u64) -> String {
    let fits = units.iter().find(|(_, factor)| amount.is_multiple_of(*factor));
    let (unit, factor) = fits.expect("the last unit of each list is 1, which divides everything");
    format!("{}{unit}", amount / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_one_number_and_one_unit() {
        let good = [
            ("0s", 0, "0s"),
            ("500ms", 500, "500ms"),
            ("1000ms", 1000, "1s"),
            ("15s", 15_000, "15s"),
            ("90s", 90_000, "90s"),
            ("5m", 300_000, "5m"),
            ("1h", 3_600_000, "1h"),
            ("24h", 86_400_000, "1d"),
            ("7d", 604_800_000, "7d"),
            ("36500d", 3_153_600_000_000, "36500d"),
        ];
        for (text, millis, shown) in good {
            let duration = parse_duration(text);
            assert_eq!(duration, Some(Duration::from_millis(millis)), "{text}");
            assert_eq!(duration.map(show_duration).as_deref(), Some(shown), "{text}");
        }
        let bad = [
            "",
            "15",
            "s",
            "-1s",
            "+1s",
            "1.5s",
            "1 s",
            " 1s",
            "1s ",
            "1S",
            "5M",
            "1h30m",
            "5 parsecs",
            "1w",
            "36501d",
            "99999999999999999999s",
            "18446744073709551615d",
            "٣s",
        ];
        for text in bad {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_powers_of_1024_or_plain_bytes() {
        let good = [
            ("0", 0, "0B"),
            ("1", 1, "1B"),
            ("1000B", 1000, "1000B"),
            ("1024", 1024, "1KiB"),
            ("256KiB", 262_144, "256KiB"),
            ("64MiB", 67_108_864, "64MiB"),
            ("1GiB", 1_073_741_824, "1GiB"),
            ("2TiB", 2_199_023_255_552, "2TiB"),
            ("18446744073709551615", u64::MAX, "18446744073709551615B"),
        ];
        for (text, bytes, shown) in good {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
            assert_eq!(show_size(bytes), shown, "{text}");
        }
        for text in ["", "KiB", "-1", "1.5KiB", "1 KiB", "1KB", "1kb", "1kib", "1G", "99999999TiB", "1e3"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }
}
