//! What was measured beside a neighbour, turn by turn, and whether it may be so. Pure.

use crate::failure::Outcome;
use crate::options::Options;

/// One turn.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Slice {
    /// Publishes that were answered in a second.
    pub per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub healthz_p99_ms: f64,
}

/// The turns of one neighbour, each with the one before it.
#[derive(Debug)]
pub(super) struct Pairs {
    pub name: &'static str,
    is_judged: bool,
    pairs: Vec<(Slice, Slice)>,
    /// What the neighbour did in each.
    did: Vec<String>,
    /// It was served in some turn.
    is_served: bool,
}

impl Pairs {
    pub(super) fn new(name: &'static str, is_judged: bool) -> Self {
        Self { name, is_judged, pairs: Vec::new(), did: Vec::new(), is_served: false }
    }

    pub(super) fn push(&mut self, before: Slice, with: Slice, (did, is_served): (String, bool)) {
        self.pairs.push((before, with));
        self.did.push(did);
        self.is_served |= is_served;
    }

    /// The medians of the turns without it.
    pub(super) fn before(&self) -> Slice {
        medians(self.pairs.iter().map(|(before, _)| *before))
    }

    /// The medians of the turns with it.
    pub(super) fn with(&self) -> Slice {
        medians(self.pairs.iter().map(|(_, with)| *with))
    }

    /// What the publisher kept of its rate: the median.
    pub(super) fn ratio(&self) -> f64 {
        median(self.each_ratio())
    }

    /// The least and the most that it kept.
    pub(super) fn ratios(&self) -> (f64, f64) {
        (self.each_ratio().fold(f64::INFINITY, f64::min), self.each_ratio().fold(0.0, f64::max))
    }

    fn each_ratio(&self) -> impl Iterator<Item = f64> {
        self.pairs
            .iter()
            .map(|(before, with)| if before.per_second > 0.0 { with.per_second / before.per_second } else { 0.0 })
    }

    /// What the neighbour did in its last turn.
    pub(super) fn did(&self) -> &str {
        self.did.last().map_or("", String::as_str)
    }
}

/// What may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub ratio_min: f64,
    pub p99_times_max: f64,
    pub p99_ms_max: f64,
    pub healthz_ms_max: f64,
    pub late_ms_max: f64,
}

impl Limits {
    /// As they were asked for.
    pub(super) fn new(options: &Options) -> Outcome<Self> {
        Ok(Self {
            ratio_min: options.number("ratio")?,
            p99_times_max: options.number("p99-times")?,
            p99_ms_max: options.number("p99-ms")?,
            healthz_ms_max: options.number("healthz-ms")?,
            late_ms_max: options.number("late-ms")?,
        })
    }

    /// What must not be beside a neighbour. One that was never served would make any server look good.
    pub(super) fn judge(&self, pairs: &Pairs) -> Vec<String> {
        let mut complaints = self.measure(pairs);
        if !pairs.is_served {
            complaints.push(format!("{}: it got no answers", pairs.name));
        }
        if pairs.is_judged { complaints } else { Vec::new() }
    }

    /// What is beyond a bound though nobody was there, or one who asks for little: then so may be what others are beyond.
    pub(super) fn noise(&self, pairs: &Pairs) -> Vec<String> {
        if pairs.is_judged { Vec::new() } else { self.measure(pairs) }
    }

    fn measure(&self, pairs: &Pairs) -> Vec<String> {
        let (name, before, with, ratio) = (pairs.name, pairs.before(), pairs.with(), pairs.ratio());
        let p99_ms_max = self.p99_ms_max.max(self.p99_times_max * before.p99_ms);
        let mut complaints = Vec::new();
        if ratio < self.ratio_min {
            complaints.push(format!("{name}: publishing kept {ratio:.3} of its rate (minimum {})", self.ratio_min));
        }
        if with.p99_ms > p99_ms_max {
            complaints.push(format!("{name}: p99 of publishing is {:.2} ms (maximum {p99_ms_max:.2})", with.p99_ms));
        }
        if with.healthz_p99_ms > self.healthz_ms_max {
            let (with_ms, before_ms, most) = (with.healthz_p99_ms, before.healthz_p99_ms, self.healthz_ms_max);
            complaints
                .push(format!("{name}: p99 of healthz is {with_ms:.2} ms, {before_ms:.2} before (maximum {most})"));
        }
        complaints
    }

    /// What must not be while the store fails, by how late something was each time; none where it was never carried out.
    pub(super) fn judge_late(&self, what: &str, late_ms: &[Option<f64>]) -> Option<String> {
        let most = self.late_ms_max;
        match late(late_ms) {
            Some(ms) if ms <= most => None,
            Some(ms) => Some(format!("a store that fails: {what} was {ms:.0} ms late (maximum {most})")),
            None => Some(format!("a store that fails: {what} was not carried out")),
        }
    }
}

/// The median of how late something was; none where mostly it was not carried out at all.
pub(super) fn late(late_ms: &[Option<f64>]) -> Option<f64> {
    let median = median(late_ms.iter().map(|ms| ms.unwrap_or(f64::INFINITY)));
    median.is_finite().then_some(median)
}

fn medians(slices: impl Iterator<Item = Slice> + Clone) -> Slice {
    let of = |part: fn(&Slice) -> f64| median(slices.clone().map(|slice| part(&slice)));
    Slice {
        per_second: of(|slice| slice.per_second),
        p50_ms: of(|slice| slice.p50_ms),
        p99_ms: of(|slice| slice.p99_ms),
        healthz_p99_ms: of(|slice| slice.healthz_p99_ms),
    }
}

/// The lower of the two in the middle where there are two; 0 of nothing.
pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.len().checked_sub(1).map_or(0.0, |last| sorted[last / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { ratio_min: 0.7, p99_times_max: 2.0, p99_ms_max: 2.0, healthz_ms_max: 5.0, late_ms_max: 100.0 };

    fn slice(per_second: f64, p99_ms: f64, healthz_p99_ms: f64) -> Slice {
        Slice { per_second, p50_ms: 0.1, p99_ms, healthz_p99_ms }
    }

    fn pairs(is_judged: bool, turns: &[(Slice, Slice)]) -> Pairs {
        let mut pairs = Pairs::new("someone", is_judged);
        turns.iter().for_each(|(before, with)| pairs.push(*before, *with, (String::new(), true)));
        pairs
    }

    #[test]
    fn each_bound_is_kept_at_it_and_broken_beyond() {
        let before = slice(1000.0, 0.5, 1.0);
        for (before, with, expected) in [
            (before, slice(700.0, 2.0, 5.0), ""),
            (before, slice(699.0, 2.0, 5.0), "kept 0.699 of its rate"),
            (before, slice(700.0, 2.1, 5.0), "p99 of publishing is 2.10 ms (maximum 2.00"),
            (slice(1000.0, 3.0, 1.0), slice(700.0, 6.0, 5.0), ""),
            (slice(1000.0, 3.0, 1.0), slice(700.0, 6.1, 5.0), "p99 of publishing is 6.10 ms (maximum 6.00"),
            (before, slice(700.0, 2.0, 5.1), "p99 of healthz is 5.10 ms, 1.00 before"),
            (slice(0.0, 0.0, 0.0), slice(0.0, 0.0, 0.0), "kept 0.000"),
        ] {
            let complaints = LIMITS.judge(&pairs(true, &[(before, with)]));
            assert_eq!(complaints.len(), usize::from(!expected.is_empty()), "{complaints:?}");
            assert!(complaints.concat().contains(expected), "{complaints:?}");
        }
    }

    #[test]
    fn one_bad_turn_of_three_decides_nothing_and_two_do() {
        let (before, good, bad) = (slice(1000.0, 0.5, 1.0), slice(900.0, 0.6, 1.0), slice(10.0, 90.0, 90.0));
        let turns = [(before, good), (before, bad), (before, good)];
        assert_eq!(LIMITS.judge(&pairs(true, &turns)), Vec::<String>::new());
        assert_eq!(pairs(true, &turns).ratios(), (0.01, 0.9));
        assert_eq!(LIMITS.judge(&pairs(true, &[(before, bad), (before, bad), (before, good)])).len(), 3);
    }

    #[test]
    fn a_slow_minute_slows_both_turns_of_a_pair_and_leaves_the_ratio() {
        let turns =
            [(slice(1000.0, 0.5, 1.0), slice(900.0, 0.5, 1.0)), (slice(100.0, 0.5, 1.0), slice(90.0, 0.5, 1.0))];
        assert!((pairs(true, &turns).ratio() - 0.9).abs() < 1e-9);
    }

    #[test]
    fn what_is_for_comparison_alone_is_not_judged() {
        let noisy = pairs(false, &[(slice(1000.0, 0.5, 1.0), slice(1.0, 99.0, 99.0))]);
        assert_eq!((LIMITS.judge(&noisy).len(), LIMITS.noise(&noisy).len()), (0, 3));
        let judged = pairs(true, &[(slice(1000.0, 0.5, 1.0), slice(1.0, 99.0, 99.0))]);
        assert_eq!((LIMITS.judge(&judged).len(), LIMITS.noise(&judged).len()), (3, 0));
    }

    #[test]
    fn a_neighbour_that_was_never_served_is_no_good_one() {
        let turn = (slice(1000.0, 0.5, 1.0), slice(1000.0, 0.5, 1.0));
        let mut starved = Pairs::new("someone", true);
        starved.push(turn.0, turn.1, (String::new(), false));
        assert!(LIMITS.judge(&starved).concat().contains("it got no answers"));
        starved.push(turn.0, turn.1, (String::new(), true));
        assert_eq!(LIMITS.judge(&starved), Vec::<String>::new());
    }

    #[test]
    fn what_is_never_carried_out_is_later_than_anything() {
        assert_eq!(LIMITS.judge_late("a cancel", &[Some(3.0), Some(100.0), Some(7.0)]), None);
        let late = LIMITS.judge_late("a cancel", &[Some(101.0)]).expect("too late");
        assert!(late.contains("a cancel was 101 ms late"), "{late}");
        for times in [&[None, Some(1.0), None][..], &[None]] {
            let never = LIMITS.judge_late("a cancel", times).expect("never");
            assert!(never.contains("not carried out"), "{never}");
        }
    }
}
