//! What a scenario is, and what it is carried out with.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use crate::failure::{Outcome, failure};
use crate::report::Report;
use crate::server::{Choice, Data};
use crate::watch::Watch;

/// One kind of load.
pub struct Scenario {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// What can be said about it.
    pub parameters: &'static [Parameter],
    /// The stores that it is carried out with, one after the other, where none are asked for.
    pub data: &'static [Data],
    /// Seconds that it may take.
    pub limit_s: u64,
    /// Carries it out with one store.
    pub run: fn(&Options, Data, &mut Watch) -> Outcome<Report>,
}

/// A number, or a list of them, that a scenario can be given.
#[derive(Debug)]
pub struct Parameter {
    /// Its flag, without the dashes.
    pub name: &'static str,
    /// What it is where it is not given.
    pub default: &'static str,
    /// What it means.
    pub help: &'static str,
}

/// What a scenario is carried out with.
pub struct Options {
    /// Which one.
    pub scenario: &'static Scenario,
    /// The server.
    pub server: Choice,
    /// Where it keeps its messages.
    pub data: Vec<Data>,
    /// The report is to be JSON.
    pub is_json: bool,
    /// How long the whole may take.
    pub limit: Duration,
    /// Its parameters.
    pub values: BTreeMap<&'static str, String>,
}

impl Options {
    /// A parameter that is one number.
    ///
    /// # Errors
    /// Where it is not, or not of this kind.
    pub fn number<T: FromStr>(&self, name: &str) -> Outcome<T> {
        match self.numbers(name)?.into_iter().next() {
            Some(number) => Ok(number),
            None => failure(format!("--{name}: expected a number")),
        }
    }

    /// A parameter that may be several.
    ///
    /// # Errors
    /// Where one of them is not of this kind.
    pub fn numbers<T: FromStr>(&self, name: &str) -> Outcome<Vec<T>> {
        let text = self.values.get(name).map(String::as_str).unwrap_or_default();
        let numbers = text.split(',').map(|item| item.trim().parse().ok());
        match numbers.collect() {
            Some(numbers) => Ok(numbers),
            None => failure(format!("--{name} {text}: expected a whole number")),
        }
    }

    /// All of them, as they stand in the report.
    pub fn values(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.values.iter().map(|(name, value)| (*name, value.as_str()))
    }
}
