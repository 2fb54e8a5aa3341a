//! The scenarios: each starts a server, puts one kind of load on it, and reports what it found.

mod burst;
mod churn;
mod cluster;
mod connect;
mod crowd;
mod hostile;
mod http;
mod idle;
mod log;
mod neighbours;
mod overload;
mod replay;
mod shown;
mod slow;
mod steady;
mod steps;
mod storm;
mod upgrade;
mod viewers;
mod workflow;

use crate::failure::Outcome;
use crate::options::{Options, Scenario};
use crate::proc;
use crate::report::Report;
use crate::server::Data;
use crate::watch::Watch;

/// All of them.
pub const ALL: &[Scenario] = &[
    burst::SCENARIO,
    steady::SCENARIO,
    idle::SCENARIO,
    connect::SCENARIO,
    storm::SCENARIO,
    http::SCENARIO,
    replay::SCENARIO,
    log::SCENARIO,
    slow::SCENARIO,
    workflow::SCENARIO,
    hostile::SCENARIO,
    churn::SCENARIO,
    overload::SCENARIO,
    neighbours::SCENARIO,
    cluster::SCENARIO,
    upgrade::SCENARIO,
];

/// Carries out what was asked for and prints the reports; were they good?
///
/// # Errors
/// Why it could not be carried out.
pub fn run(options: &Options) -> Outcome<bool> {
    proc::raise_descriptors()?;
    let reports = measure(options)?;
    for report in &reports {
        if options.is_json {
            println!("{}", report.json());
        } else {
            println!("{}", report.text());
        }
    }
    Ok(reports.iter().all(Report::is_good))
}

/// Carries out what was asked for: a report for each store.
///
/// # Errors
/// Why it could not be carried out.
pub fn measure(options: &Options) -> Outcome<Vec<Report>> {
    let measure = |data: &Data| (options.scenario.run)(options, *data, &mut Watch::new(options.limit));
    options.data.iter().map(measure).collect()
}
