//! The scenarios: each starts a server, puts one kind of load on it, and reports what it found.

mod burst;
mod churn;
mod connect;
mod crowd;
mod hostile;
mod http;
mod idle;
mod log;
mod neighbours;
mod overload;
mod replay;
mod slow;
mod steady;
mod storm;
mod workflow;

use serde_json::{Value, json};

use crate::failure::{Failure, Outcome, failure};
use crate::fleet::{Fleet, Settings};
use crate::latency::Latencies;
use crate::options::{Options, Parameter};
use crate::proc;
use crate::publisher::{Pace, Plan, Published, Publisher};
use crate::report::Report;
use crate::server::{Choice, Data, Server};
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
    run: fn(&Options, Data, &mut Watch) -> Outcome<Report>,
}

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

/// The beginning of every report.
fn report(options: &Options, data: Data) -> Report {
    let mut report = Report::new(options.scenario.name);
    report.condition("store", data.name());
    options.values().for_each(|(name, value)| report.condition(name, value));
    match &options.server {
        Choice::Program { flags, is_pinned, .. } => {
            let flags = if flags.is_empty() { "none besides".to_owned() } else { flags.join(" ") };
            report.condition("server's flags", flags);
            report.condition("pinned", *is_pinned);
        }
        Choice::Peer { peer, is_pinned } => {
            report.condition("server", peer.name.clone());
            report.condition("pinned", *is_pinned);
        }
        Choice::Running { .. } => {}
    }
    report.condition("processors", std::thread::available_parallelism().map_or(0, usize::from));
    // Figures that were taken beside other work are worth less, and only this tells.
    report.condition(
        "load average before",
        proc::load_average().map_or_else(|| "unknown".to_owned(), |load| load.to_string()),
    );
    report
}

/// Flags without which a server would refuse what is asked of it here.
const NO_BOUNDS: [&str; 4] = ["--limits-publish-rate", "1000000000", "--limits-connections-per-address", "100000"];

/// So many subscribers of a project, as this server needs them.
fn settings(server: &Server, project: &str, subscribers: usize) -> Settings {
    Settings {
        token: server.token(),
        is_numbered: server.is_numbered(),
        ..Settings::new(server.target(), project, subscribers)
    }
}

/// Waits until everyone has a stream.
fn wait_for_streams(watch: &mut Watch, fleet: &Fleet, subscribers: usize) -> Outcome<()> {
    let greeted = || fleet.gauges().greeted();
    watch.until("all streams are open", || greeted() == subscribers, || format!("{} of {subscribers}", greeted()))
}

/// Waits until everyone has the message of the goal. Where that never comes the failure says what came instead.
fn wait_for_goal(watch: &mut Watch, fleet: &Fleet, subscribers: usize) -> Outcome<()> {
    let gauges = fleet.gauges();
    let is_there = || gauges.at_goal() == subscribers;
    let so_far = || format!("{} of {subscribers}, {} messages", gauges.at_goal(), gauges.messages());
    let Err(Failure(text)) = watch.until("everyone has every message", is_there, so_far) else { return Ok(()) };
    let tally = fleet.tally()?;
    failure(format!(
        "{text}; begun {:?}, ended {}, closings {:?}; {}",
        tally.begun,
        tally.ended,
        tally.closings,
        tally.complaints("they").join(", ")
    ))
}

/// Publishes `messages` to a project as fast as it goes, each answered with 202; how it went.
fn publish_all(watch: &mut Watch, server: &Server, project: &str, messages: u64, bytes: usize) -> Outcome<Published> {
    const BATCH: u64 = 100;
    let batch = if messages.is_multiple_of(BATCH) { BATCH } else { 1 };
    let publisher = Publisher::start(Plan {
        target: server.target(),
        projects: vec![project.to_owned()],
        payload_bytes: bytes,
        batch: batch as usize,
        connections: 8,
        pace: Pace::BackToBack,
        requests: messages / batch,
        token: server.token(),
    })?;
    let so_far = || format!("{} of {messages}", publisher.accepted());
    watch.until("everything is published", || publisher.is_finished(), so_far)?;
    publisher.stop()
}

/// A publisher of single messages at a rate, until it is stopped.
fn publish_at(server: &Server, project: &str, per_second: f64, bytes: usize) -> Outcome<Publisher> {
    /// Requests in flight: enough that one which hangs does not hold the others up.
    const CONNECTIONS: usize = 16;
    Publisher::start(Plan {
        target: server.target(),
        projects: vec![project.to_owned()],
        payload_bytes: bytes,
        batch: 1,
        connections: CONNECTIONS,
        pace: Pace::PerSecond(per_second),
        requests: u64::MAX,
        token: server.token(),
    })
}

/// Whatever the server did not take is a failure.
fn check_published(report: &mut Report, who: &str, published: &Published) {
    if let Some(first) = &published.first_refusal {
        report.fail(format!("{who}: {} requests refused, the first with {first}", published.refused));
    }
}

/// The cells of a table that shows latencies: median, 99th percentile, longest.
fn latency_cells(latencies: &Latencies) -> [Value; 3] {
    [json!(latencies.ms(0.5)), json!(latencies.ms(0.99)), json!(latencies.max_ms())]
}

const LATENCY_COLUMNS: [&str; 3] = ["p50 ms", "p99 ms", "max ms"];

/// KiB as MiB, where known.
fn mib(kib: Option<f64>) -> Value {
    json!(kib.map(|kib| kib / 1024.0))
}
