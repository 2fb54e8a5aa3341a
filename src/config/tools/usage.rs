//! `tools.NAME.usage`, `price`, `provider` and `budget`: what a tool's answers have used, what that costs, and how much a run
//! may use.

use toml::de::{DeTable, DeValue};

use super::{Fields, no_nul};
use crate::config::report::{integer_of, kind_of};
use crate::executor::tool::{Budget, Cost, Price, UsageSpec};
use crate::model::TOKENS_MAX;

/// The longest name of a provider, in bytes: as long as one that an answer may give.
const PROVIDER_BYTES_MAX: usize = 128;

impl<'a> Fields<'a, '_, '_> {
    pub(super) fn usage(&mut self) -> UsageSpec {
        UsageSpec {
            pick: self.text("usage").map(str::to_owned),
            price: self.price(),
            provider: self.provider().map(str::to_owned),
        }
    }

    pub(super) fn budget(&mut self) -> Budget {
        let Some(table) = self.small_table("budget", "tokens = 100000, cost = 2.5", &["tokens", "cost"]) else {
            return Budget::default();
        };
        if table.is_empty() {
            self.reject::<()>("budget", "expected at least one of tokens and cost");
        }
        let tokens = self.inside(table, ("budget", "tokens"), tokens, "a whole number greater than 0");
        let cost = self.inside(table, ("budget", "cost"), |value| amount(value).filter(above_nothing), ABOVE_NOTHING);
        Budget { tokens, cost }
    }

    fn price(&mut self) -> Option<Price> {
        let table = self.small_table("price", "input = 3.0, output = 15.0", &["input", "output", "cached"])?;
        let mut of = |key: &'static str| self.inside(table, ("price", key), amount, AN_AMOUNT);
        let price = Price {
            input: of("input").unwrap_or_default(),
            output: of("output").unwrap_or_default(),
            cached: of("cached"),
        };
        for key in ["input", "output"] {
            if !table.contains_key(key) {
                self.reject::<()>("price", &format!("missing {key}: the price of one million tokens"));
            }
        }
        Some(price)
    }

    fn provider(&mut self) -> Option<&'a str> {
        let name = self.text("provider")?;
        let fits =
            no_nul(name) && (1..=PROVIDER_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
        fits.then_some(name).or_else(|| self.reject("provider", "expected a name of at most 128 bytes"))
    }

    /// A table of a few keys.
    fn small_table(&mut self, key: &str, example: &str, known: &[&str]) -> Option<&'a DeTable<'a>> {
        let value = self.table.get(key)?;
        let DeValue::Table(table) = value.get_ref() else {
            let found = kind_of(value.get_ref());
            return self.reject(key, &format!("expected a table such as {{ {example} }}, found {found}"));
        };
        let known: Vec<_> = known.iter().map(|name| format!("tools.{}.{key}.{name}", self.name)).collect();
        for name in table.keys() {
            let path = format!("tools.{}.{key}.{}", self.name, name.get_ref());
            if !known.contains(&path) {
                self.report.unknown_key(name.span().start, &path, known.iter().map(String::as_str));
            }
        }
        Some(table)
    }

    /// What a key of such a table says.
    fn inside<T>(
        &mut self,
        table: &DeTable<'_>,
        (of, key): (&str, &str),
        read: impl Fn(&DeValue<'_>) -> Option<T>,
        expected: &str,
    ) -> Option<T> {
        let value = table.get(key)?;
        let found = read(value.get_ref());
        if found.is_none() {
            self.report.issue(value.span().start, &format!("tools.{}.{of}.{key}: expected {expected}", self.name));
        }
        found
    }
}

const AN_AMOUNT: &str = "a number from 0 to 1000000";
const ABOVE_NOTHING: &str = "a number greater than 0 and at most 1000000";

fn above_nothing(cost: &Cost) -> bool {
    *cost > Cost::default()
}

fn amount(value: &DeValue<'_>) -> Option<Cost> {
    let units = match value {
        DeValue::Float(float) => float.as_str().parse::<f64>().ok(),
        _ => integer_of(value).map(|integer| integer as f64),
    };
    units.filter(|units| *units <= Cost::MAX.units()).and_then(Cost::of_units)
}

fn tokens(value: &DeValue<'_>) -> Option<u64> {
    let count = integer_of(value).and_then(|count| u64::try_from(count).ok());
    count.filter(|count| (1..=TOKENS_MAX).contains(count))
}
