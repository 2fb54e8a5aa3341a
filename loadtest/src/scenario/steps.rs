//! What several scenarios do: bring subscribers in, publish to them, wait for what comes of it.

use crate::failure::{Failure, Outcome, failure};
use crate::fleet::{Fleet, Settings};
use crate::publisher::{Pace, Plan, Published, Publisher};
use crate::report::Report;
use crate::server::Server;
use crate::watch::Watch;

/// Flags without which a server would refuse what is asked of it here.
pub(super) const NO_BOUNDS: [&str; 4] =
    ["--limits-publish-rate", "1000000000", "--limits-connections-per-address", "100000"];

/// So many subscribers of a project, as this server needs them.
pub(super) fn settings(server: &Server, project: &str, subscribers: usize) -> Settings {
    Settings {
        token: server.token(),
        is_numbered: server.is_numbered(),
        tls: server.secure().map(|secure| secure.config.clone()),
        ..Settings::new(server.secure().map_or(server.target(), |secure| secure.target), project, subscribers)
    }
}

/// Waits until everyone has a stream.
pub(super) fn wait_for_streams(watch: &mut Watch, fleet: &Fleet, subscribers: usize) -> Outcome<()> {
    let greeted = || fleet.gauges().greeted();
    watch.until("all streams are open", || greeted() == subscribers, || format!("{} of {subscribers}", greeted()))
}

/// Waits until everyone has the message of the goal. Where that never comes the failure says what came instead.
pub(super) fn wait_for_goal(watch: &mut Watch, fleet: &Fleet, subscribers: usize) -> Outcome<()> {
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
pub(super) fn publish_all(
    watch: &mut Watch,
    server: &Server,
    project: &str,
    messages: u64,
    bytes: usize,
) -> Outcome<Published> {
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
pub(super) fn publish_at(server: &Server, project: &str, per_second: f64, bytes: usize) -> Outcome<Publisher> {
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
pub(super) fn check_published(report: &mut Report, who: &str, published: &Published) {
    if let Some(first) = &published.first_refusal {
        report.fail(format!("{who}: {} requests refused, the first with {first}", published.refused));
    }
}
