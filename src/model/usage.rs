//! The language model usage of an attempt at a step: tokens and cost.
//!
//! Sums are exact: tokens are integers, and costs are integers in billionths of a unit of money. Counters that would
//! overflow stay at their maximum.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The maximum number of tokens: the largest integer that is exact in JavaScript.
pub const TOKENS_MAX: u64 = (1 << 53) - 1;

/// The tokens and cost of one or several attempts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Tokens that the model read, including cached ones.
    pub input_tokens: u64,
    /// Tokens that the model wrote, including reasoning.
    pub output_tokens: u64,
    /// All tokens: at least the sum of both.
    pub total_tokens: u64,
    /// Input tokens that came from a cache, if the provider reports them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<u64>,
    /// The cost, if the provider reports it or the tool has a price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// The model, if known; for a sum, if it is the same for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Arc<str>>,
    /// The provider, if known; for a sum, if it is the same for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Arc<str>>,
}

impl Usage {
    /// Adds `more`.
    pub fn add(&mut self, more: &Self) {
        let sum = |one: u64, other: u64| one.saturating_add(other).min(TOKENS_MAX);
        self.input_tokens = sum(self.input_tokens, more.input_tokens);
        self.output_tokens = sum(self.output_tokens, more.output_tokens);
        self.total_tokens = sum(self.total_tokens, more.total_tokens);
        self.cached_tokens = either(self.cached_tokens, more.cached_tokens, sum);
        self.cost = either(self.cost, more.cost, Cost::plus);
        self.model.take_if(|model| more.model.as_ref() != Some(model));
        self.provider.take_if(|provider| more.provider.as_ref() != Some(provider));
    }

    /// The rest after subtracting `less`, which was reported before; `None` if nothing is left.
    #[must_use]
    pub fn without(&self, less: &Self) -> Option<Self> {
        let left = Self {
            input_tokens: self.input_tokens.saturating_sub(less.input_tokens),
            output_tokens: self.output_tokens.saturating_sub(less.output_tokens),
            total_tokens: self.total_tokens.saturating_sub(less.total_tokens),
            cached_tokens: self.cached_tokens.map(|all| all.saturating_sub(less.cached_tokens.unwrap_or(0))),
            cost: self.cost.map(|all| Cost(all.0.saturating_sub(less.cost.map_or(0, |less| less.0)))),
            ..self.clone()
        };
        let is_some = left.input_tokens + left.output_tokens + left.total_tokens > 0;
        (is_some || left.cost.is_some_and(|cost| cost.0 > 0)).then_some(left)
    }

    /// Adds `more` to `sum`, which may not exist yet.
    pub fn add_to(sum: &mut Option<Box<Self>>, more: &Self) {
        match sum {
            Some(sum) => sum.add(more),
            None => *sum = Some(Box::new(more.clone())),
        }
    }
}

/// `1,234 tokens, 0.0125`
impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Tokens(self.total_tokens))?;
        self.cost.map_or(Ok(()), |cost| write!(f, ", cost {cost}"))
    }
}

fn either<T>(one: Option<T>, other: Option<T>, both: impl FnOnce(T, T) -> T) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(both(one, other)),
        (one, other) => one.or(other),
    }
}

/// `1 token`, `12,345 tokens`
struct Tokens(u64);

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} token{}", Grouped(self.0), if self.0 == 1 { "" } else { "s" })
    }
}

/// A number with separators: `12,345`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grouped(pub u64);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

/// An amount of money in billionths of a unit. The unit is that of the configured prices.
///
/// On the wire it is a decimal number. Up to [`Cost::MAX`], a double represents each amount exactly enough to read the
/// same amount back. Larger amounts count as that maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Cost(u64);

impl Cost {
    /// A million units.
    pub const MAX: Self = Self(1_000_000 * Self::UNIT);

    /// Billionths in a unit.
    const UNIT: u64 = 1_000_000_000;

    /// `units`, rounded to a billionth. `None` if they are negative or not a number.
    pub fn of_units(units: f64) -> Option<Self> {
        let billionths = (units * Self::UNIT as f64).round();
        // The cast saturates at the bounds of the type.
        (billionths >= 0.0).then_some(Self(billionths as u64).min(Self::MAX))
    }

    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0)).min(Self::MAX)
    }

    /// The amount in units.
    pub fn units(self) -> f64 {
        self.0 as f64 / Self::UNIT as f64
    }

    /// The cost of `tokens` if a million of them cost this, rounded to a billionth.
    fn of_tokens(self, tokens: u64) -> u128 {
        u128::from(self.0) * u128::from(tokens)
    }
}

/// In the shortest exact form: `0.0125`, `3`.
impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (units, billionths) = (self.0 / Self::UNIT, self.0 % Self::UNIT);
        let decimals = format!("{billionths:09}");
        match decimals.trim_end_matches('0') {
            "" => write!(f, "{units}"),
            decimals => write!(f, "{units}.{decimals}"),
        }
    }
}

impl Serialize for Cost {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(self.units())
    }
}

impl<'de> Deserialize<'de> for Cost {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let units = f64::deserialize(from)?;
        Self::of_units(units).ok_or_else(|| serde::de::Error::custom("a cost is not negative"))
    }
}

/// The price of a million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Price {
    /// For input tokens.
    pub input: Cost,
    /// For output tokens.
    pub output: Cost,
    /// For input tokens from a cache; by default the same as for other input tokens.
    pub cached: Option<Cost>,
}

impl Price {
    /// The cost of `usage`, rounded to a billionth.
    pub fn of(&self, usage: &Usage) -> Cost {
        const MILLION: u128 = 1_000_000;
        let cached = usage.cached_tokens.unwrap_or(0).min(usage.input_tokens);
        let millionths = self.input.of_tokens(usage.input_tokens - cached)
            + self.cached.unwrap_or(self.input).of_tokens(cached)
            + self.output.of_tokens(usage.output_tokens);
        let billionths = (millionths + MILLION / 2) / MILLION;
        Cost(u64::try_from(billionths).unwrap_or(u64::MAX)).min(Cost::MAX)
    }
}

/// The maximum usage of a run, which ends when it reaches either limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Budget {
    /// Tokens, both input and output.
    pub tokens: Option<u64>,
    /// The cost.
    pub cost: Option<Cost>,
}

impl Budget {
    /// The limit that `usage` has reached, if any.
    pub fn reached_by(&self, usage: &Usage) -> Option<Reached> {
        let tokens = self.tokens.filter(|&limit| usage.total_tokens >= limit);
        let tokens = tokens.map(|limit| Reached::Tokens { used: usage.total_tokens, limit });
        let cost = || {
            let used = usage.cost?;
            self.cost.filter(|&limit| used >= limit).map(|limit| Reached::Cost { used, limit })
        };
        tokens.or_else(cost)
    }
}

/// A budget that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// In tokens.
    Tokens {
        /// The tokens used.
        used: u64,
        /// The budget.
        limit: u64,
    },
    /// In money.
    Cost {
        /// The cost.
        used: Cost,
        /// The budget.
        limit: Cost,
    },
}

/// `1,200 tokens of a budget of 1,000 tokens`, `a cost of 1.25 of a budget of 1`
impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tokens { used, limit } => write!(f, "{} of a budget of {}", Tokens(*used), Tokens(*limit)),
            Self::Cost { used, limit } => write!(f, "a cost of {used} of a budget of {limit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn usage(input_tokens: u64, output_tokens: u64, cost: Option<f64>) -> Usage {
        let cost = cost.and_then(Cost::of_units);
        Usage { input_tokens, output_tokens, total_tokens: input_tokens + output_tokens, cost, ..Usage::default() }
    }

    #[test]
    fn a_cost_is_exact_to_the_billionth_and_comes_back_as_it_was_written() {
        for (units, text) in [
            (0.0, "0"),
            (0.1 + 0.2, "0.3"),
            (0.000_148_75, "0.00014875"),
            (1e-9, "0.000000001"),
            (4e-10, "0"),
            (12.5, "12.5"),
            (999_999.999_999_999, "999999.999999999"),
            (1e9, "1000000"),
            (f64::INFINITY, "1000000"),
        ] {
            let cost = Cost::of_units(units).expect("an amount");
            assert_eq!(cost.to_string(), text);
            let written = serde_json::to_string(&cost).expect("serializes");
            assert_eq!(serde_json::from_str::<Cost>(&written).expect("is read"), cost, "{written}");
        }
        assert_eq!((Cost::of_units(-0.1), Cost::of_units(f64::NAN)), (None, None));
    }

    #[test]
    fn any_sum_of_costs_comes_back_as_it_was_written() {
        let mut sum = Cost::default();
        for n in 0..10_000u64 {
            sum = sum.plus(Cost(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (200 * Cost::UNIT)));
            let written = serde_json::to_string(&sum).expect("serializes");
            assert_eq!(serde_json::from_str::<Cost>(&written).expect("is read"), sum, "{written}");
        }
        assert!(sum < Cost::MAX);
    }

    #[test]
    fn a_price_is_per_million_tokens_and_knows_those_from_a_cache() {
        let cost = |units: f64| Cost::of_units(units).expect("an amount");
        let price = Price { input: cost(3.0), output: cost(15.0), cached: None };
        assert_eq!(price.of(&usage(1_000_000, 1_000_000, None)), cost(18.0));
        assert_eq!(price.of(&usage(1, 1, None)), cost(0.000_018));
        let cached = Usage { cached_tokens: Some(900), ..usage(1000, 0, None) };
        assert_eq!(price.of(&cached), cost(0.003));
        let cheap = Price { cached: Some(cost(0.3)), ..price };
        assert_eq!(cheap.of(&cached), cost(0.000_57));
        assert_eq!(cheap.of(&Usage { cached_tokens: Some(9000), ..cached }), cost(0.000_3), "no more than were read");
        let fine = Price { input: cost(0.000_1), ..Price::default() };
        assert_eq!([4, 5].map(|tokens| fine.of(&usage(tokens, 0, None)).to_string()), ["0", "0.000000001"]);
        assert_eq!(price.of(&usage(TOKENS_MAX / 2, TOKENS_MAX / 2, None)), Cost::MAX);
    }

    #[test]
    fn a_sum_names_a_model_where_all_do() {
        let of = |model: Option<&str>| Usage { model: model.map(Into::into), ..usage(1, 2, None) };
        for (models, expected) in [
            (&[Some("a"), Some("a")][..], Some("a")),
            (&[Some("a"), Some("b"), Some("a")], None),
            (&[Some("a"), None], None),
            (&[None, Some("a")], None),
        ] {
            let mut sum = None;
            models.iter().for_each(|model| Usage::add_to(&mut sum, &of(*model)));
            let sum = sum.expect("a sum");
            assert_eq!(sum.model.as_deref(), expected, "{models:?}");
            assert_eq!(sum.total_tokens, 3 * models.len() as u64);
        }
    }

    #[test]
    fn what_is_not_known_is_not_said_and_what_is_known_in_part_is_summed() {
        let mut sum = usage(10, 5, None);
        assert_eq!(json!(sum), json!({"inputTokens": 10, "outputTokens": 5, "totalTokens": 15}));
        sum.add(&Usage { cached_tokens: Some(3), ..usage(1, 1, Some(0.25)) });
        sum.add(&usage(TOKENS_MAX, 0, Some(0.5)));
        assert_eq!(
            json!(sum),
            json!({"inputTokens": TOKENS_MAX, "outputTokens": 6, "totalTokens": TOKENS_MAX, "cachedTokens": 3,
                "cost": 0.75})
        );
    }

    #[test]
    fn a_budget_is_reached_by_as_much_as_it_is() {
        let budget = Budget { tokens: Some(1000), cost: Cost::of_units(0.5) };
        let says = |used: Usage| budget.reached_by(&used).map(|reached| reached.to_string());
        assert_eq!(says(usage(500, 499, Some(0.4))), None);
        assert_eq!(says(usage(500, 500, Some(0.4))).as_deref(), Some("1,000 tokens of a budget of 1,000 tokens"));
        assert_eq!(says(usage(1, 0, Some(0.75))).as_deref(), Some("a cost of 0.75 of a budget of 0.5"));
        assert_eq!(Budget::default().reached_by(&usage(TOKENS_MAX, 0, Some(1e6))), None);
    }
}
