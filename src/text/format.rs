//! Formats durations, times and counts for people. Pure.

use crate::model::{Grouped, Progress, StepId, Usage};

/// The longest error on one line, in characters.
pub const ERROR_CHARS_MAX: usize = 500;

/// The most names in a list; the rest is counted.
const NAMES_MAX: usize = 10;

/// Writes a duration as exactly as it matters: `420ms`, `1.2s`, `3m 05s`, `2h 07m`.
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms}ms"),
        1..60 => format!("{seconds}.{}s", ms % 1000 / 100),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// Writes the time since a run's start: `[    1.234s]`, as wide for all runs under three hours.
pub fn clock(ms: u64) -> String {
    format!("[{:>5}.{:03}s]", ms / 1000, ms % 1000)
}

/// Writes how far a run is: `3/6, 50%`.
pub fn share(progress: &Progress) -> String {
    format!("{}/{}, {}%", progress.ended(), progress.total, progress.percent)
}

/// Writes what steps came to: `3 completed, 1 failed, 0 skipped`, and how many were cancelled where some were.
pub fn step_counts(completed: usize, failed: usize, skipped: usize, cancelled: usize) -> String {
    let cancelled = if cancelled > 0 { format!(", {cancelled} cancelled") } else { String::new() };
    format!("{completed} completed, {failed} failed, {skipped} skipped{cancelled}")
}

/// Writes a number with its noun: `1 step`, `2 steps`.
pub fn count(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// Writes what a run has used: `12,345 tokens (12,000 in, 9,000 of them cached, 345 out), cost 0.0125`.
pub fn usage_text(usage: &Usage) -> String {
    let cached = usage.cached_tokens.filter(|cached| *cached > 0);
    let cached = cached.map(|cached| format!(", {} of them cached", Grouped(cached))).unwrap_or_default();
    let cost = usage.cost.map(|cost| format!(", cost {cost}")).unwrap_or_default();
    let [total, read, written] = [usage.total_tokens, usage.input_tokens, usage.output_tokens].map(Grouped);
    format!("{total} tokens ({read} in{cached}, {written} out){cost}")
}

/// Writes ids between `separator`, the first few and how many more there are.
pub fn names(ids: &[StepId], separator: &str) -> String {
    let mut shown: Vec<_> = ids.iter().take(NAMES_MAX).map(StepId::to_string).collect();
    if ids.len() > NAMES_MAX {
        shown.push(format!("{} more", ids.len() - NAMES_MAX));
    }
    shown.join(separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_as_exact_as_it_matters() {
        let table = [
            (0, "0ms"),
            (999, "999ms"),
            (1000, "1.0s"),
            (1999, "1.9s"),
            (59_999, "59.9s"),
            (60_000, "1m 00s"),
            (185_400, "3m 05s"),
            (3_599_999, "59m 59s"),
            (3_600_000, "1h 00m"),
            (7_620_000, "2h 07m"),
            (360_000_000, "100h 00m"),
            (u64::MAX, "5124095576030h 25m"),
        ];
        for (ms, expected) in table {
            assert_eq!(duration(ms), expected, "{ms}");
        }
    }

    #[test]
    fn clocks_line_up() {
        let table = [
            (0, "[    0.000s]"),
            (1_234, "[    1.234s]"),
            (10_000_007, "[10000.007s]"),
            (1_000_000_000, "[1000000.000s]"),
        ];
        for (ms, expected) in table {
            assert_eq!(clock(ms), expected);
        }
    }

    #[test]
    fn counts_names_and_shares() {
        assert_eq!([count(0, "step"), count(1, "step"), count(2, "step")], ["0 steps", "1 step", "2 steps"]);
        let ids: Vec<_> = (0..12).map(|n| StepId::parse(&format!("s{n}")).expect("an id")).collect();
        assert_eq!(names(&ids[..2], " > "), "s0 > s1");
        assert_eq!(names(&ids, ", "), "s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, 2 more");
        assert_eq!(step_counts(3, 1, 0, 0), "3 completed, 1 failed, 0 skipped");
        assert_eq!(step_counts(0, 0, 2, 1), "0 completed, 0 failed, 2 skipped, 1 cancelled");
        let progress = Progress { completed: 1, failed: 1, skipped: 1, cancelled: 1, total: 8, percent: 50 };
        assert_eq!(share(&progress), "4/8, 50%");
    }
}
