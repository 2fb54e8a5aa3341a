//! Connections that come and go: requests and streams, left in order, broken off, broken off unheard. Once they are
//! gone, nothing is left of them: no descriptor and no memory.

use std::time::{Duration, Instant};

use serde_json::json;

use super::shown::{mib, report};
use super::steps::{NO_BOUNDS, publish_all};
use crate::failure::Outcome;
use crate::habit::Habit;
use crate::mob::{Mob, Plan, Seen};
use crate::options::{Options, Parameter, Scenario};
use crate::proc::Sampler;
use crate::report::{Report, Table};
use crate::server::{Data, Server};
use crate::watch::Watch;

const PROJECT: &str = "passed-by";

/// How long the server has to let go of the last ones, and of what it held for them.
const LETS_GO_WITHIN: Duration = Duration::from_secs(10);

pub const SCENARIO: Scenario = Scenario {
    name: "churn",
    about: "connections that open and close, and the memory and descriptors that they leave behind",
    parameters: &[
        Parameter { name: "connections", default: "100000", help: "connections per round" },
        Parameter { name: "rounds", default: "2", help: "number of rounds; the first is a warm-up" },
        Parameter { name: "peers", default: "500", help: "connections open at the same time" },
        Parameter { name: "per-second", default: "20000", help: "maximum number of new connections per second" },
        Parameter { name: "left-kib", default: "2048", help: "maximum memory growth after the first round, in KiB" },
    ],
    data: &[Data::None],
    limit_s: 180,
    run,
};

fn run(options: &Options, data: Data, watch: &mut Watch) -> Outcome<Report> {
    let mut report = report(options, data);
    let server = Server::start(&options.server, data, &NO_BOUNDS)?;
    publish_all(watch, &server, PROJECT, 10, 250)?;
    let columns = ["round", "connections", "ended by the server", "connections/s", "peak MiB", "after MiB", "CPU s"];
    let mut table = Table::new("rounds", &[&columns[..], &["descriptors after"]].concat());
    let before = server.descriptors();
    let mut after_kib = Vec::new();
    for round in 1..=options.number::<usize>("rounds")? {
        let sampler = server.pid().map(Sampler::start).transpose()?;
        let (cpu_before, began) = (server.cpu_seconds(), Instant::now());
        let seen = come_and_go(options, &server, watch)?;
        let seconds = began.elapsed().as_secs_f64();
        let cpu_s = server.cpu_seconds().zip(cpu_before).map(|(after, before)| after - before);
        wait_until_idle(&server, before, watch)?;
        let peak = sampler.map(|sampler| sampler.peak().0.anonymous_kib as f64);
        let left = server.memory().map(|memory| memory.anonymous_kib as f64);
        after_kib.extend(left);
        let mut row = vec![json!(round), json!(seen.attempts), json!(seen.ended)];
        row.extend([json!(seen.attempts as f64 / seconds), mib(peak), mib(left), json!(cpu_s)]);
        row.push(json!(server.descriptors()));
        table.row(row);
        if server.descriptors() > before {
            report.fail(format!("round {round}: {:?} descriptors, {before:?} before", server.descriptors()));
        }
    }
    report.figure("descriptors before", json!(before), "");
    judge_memory(&mut report, &after_kib, options.number("left-kib")?);
    report.table(table);
    server.stop()?;
    Ok(report)
}

fn come_and_go(options: &Options, server: &Server, watch: &mut Watch) -> Outcome<Seen> {
    let mob = Mob::start(Plan {
        target: server.target(),
        habits: Habit::passing(server.target(), PROJECT),
        peers: options.number("peers")?,
        attempts: options.number("connections")?,
        per_second: options.number("per-second")?,
        is_alone: false,
    })?;
    watch.until("everyone has come and gone", || mob.is_finished(), || format!("{} connections", mob.attempts()))?;
    mob.stop()
}

/// Waits until the server holds no descriptor more than before, and no longer changes in size.
fn wait_until_idle(server: &Server, descriptors: Option<usize>, watch: &mut Watch) -> Outcome<()> {
    let began = Instant::now();
    let is_late = || began.elapsed() > LETS_GO_WITHIN;
    let so_far = || format!("{:?} descriptors", server.descriptors());
    watch.until("the server lets go", || server.descriptors() <= descriptors || is_late(), so_far)?;
    let (mut last, mut since) = (server.memory(), Instant::now());
    let is_steady = || {
        if server.memory() != last {
            (last, since) = (server.memory(), Instant::now());
        }
        since.elapsed() > Duration::from_secs(1) || is_late()
    };
    watch.until("memory is steady", is_steady, so_far)
}

fn judge_memory(report: &mut Report, after_kib: &[f64], left_kib_max: f64) {
    let (Some(first), Some(last)) = (after_kib.first(), after_kib.last()) else { return };
    report.figure("memory left of all rounds but the first", last - first, "KiB");
    if last - first > left_kib_max {
        report.fail(format!("{:.0} KiB more than after the first round", last - first));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_behind_is_complained_about() {
        for (after_kib, is_good) in [(vec![], true), (vec![9000.0, 11_048.0], true), (vec![9000.0, 11_049.0], false)] {
            let mut report = Report::new("churn");
            judge_memory(&mut report, &after_kib, 2048.0);
            assert_eq!(report.is_good(), is_good, "{after_kib:?}");
        }
    }
}
