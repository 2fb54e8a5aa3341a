//! One turn: a publisher that sends back to back, and one who asks `healthz`, for a moment.

use std::time::Duration;

use super::judge::Slice;
use super::places::PUBLISHED;
use super::prober::Prober;
use super::stage::Stage;
use crate::failure::{Outcome, failure};
use crate::options::Options;
use crate::publisher::{Pace, Plan, Publisher};
use crate::watch::Watch;

/// How long a turn is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// What passes before it.
    pub settle: Duration,
    /// What counts.
    pub turn: Duration,
}

/// Measures one.
pub(super) fn measure(
    stage: &Stage,
    options: &Options,
    times: &Times,
    what: &str,
    watch: &mut Watch,
) -> Outcome<Slice> {
    watch.pass(what, times.settle, String::new)?;
    let prober = Prober::start(stage.server.target())?;
    let publisher = Publisher::start(Plan {
        target: stage.server.target(),
        projects: vec![PUBLISHED.to_owned()],
        payload_bytes: options.number("payload")?,
        batch: 1,
        connections: options.number("in-flight")?,
        pace: Pace::BackToBack,
        requests: u64::MAX,
        token: stage.server.token(),
    })?;
    watch.pass(what, times.turn, || format!("{} published", publisher.accepted()))?;
    let published = publisher.stop()?;
    let healthz = prober.stop()?;
    if let Some(refusal) = published.first_refusal {
        return failure(format!("{what}: {} publishes were refused, the first with {refusal}", published.refused));
    }
    Ok(Slice {
        per_second: published.messages as f64 / published.took.as_secs_f64(),
        p50_ms: published.answers.ms(0.5).unwrap_or_default(),
        p99_ms: published.answers.ms(0.99).unwrap_or_default(),
        healthz_p99_ms: healthz.ms(0.99).unwrap_or_default(),
    })
}
