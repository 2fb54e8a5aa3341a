//! Readers that take a little, or nothing, among healthy ones: do the others notice, and what does the server hold for
//! them? The slow ones' receive buffers are small, so that what they leave waits at the server.

use std::time::Duration;

use serde_json::json;

use super::shown::{LATENCY_COLUMNS, latency_cells, mib, report};
use super::steps::{NO_BOUNDS, check_published, publish_at, wait_for_goal, wait_for_streams};
use crate::failure::Outcome;
use crate::fleet::{Fleet, Settings};
use crate::options::{Options, Parameter, Scenario};
use crate::proc::{Memory, Sampler};
use crate::publisher::Published;
use crate::report::{Report, Table};
use crate::server::{Data, Server};
use crate::subscriber::Pace;
use crate::watch::Watch;

const PROJECT: &str = "mixed";

pub const SCENARIO: Scenario = Scenario {
    name: "slow",
    about: "subscribers that read slowly or not at all, next to healthy ones",
    parameters: &[
        Parameter { name: "healthy", default: "200", help: "number of subscribers that read everything" },
        Parameter { name: "slow", default: "100", help: "number of subscribers that read --slow-bytes per second" },
        Parameter { name: "slow-bytes", default: "1024", help: "bytes per second that a slow subscriber reads" },
        Parameter { name: "stalled", default: "100", help: "number of subscribers that read nothing" },
        Parameter { name: "rate", default: "500", help: "messages per second" },
        Parameter { name: "payload", default: "250", help: "size of each payload in bytes" },
        Parameter {
            name: "seconds",
            default: "15",
            help: "seconds with the slow subscribers; a third of that before, without them",
        },
    ],
    data: &[Data::Temporary],
    limit_s: 120,
    run,
};

fn run(options: &Options, data: Data, watch: &mut Watch) -> Outcome<Report> {
    let mut report = report(options, data);
    let server = Server::start(&options.server, data, &NO_BOUNDS)?;
    let (target, healthy) = (server.target(), options.number("healthy")?);
    let fleet = Fleet::open_new(&Settings::new(target, PROJECT, healthy))?;
    wait_for_streams(watch, &fleet, healthy)?;
    let publisher = publish_at(&server, PROJECT, options.number("rate")?, options.number("payload")?)?;
    let time = Duration::from_secs_f64(options.number("seconds")?);
    let so_far = || format!("{} messages", fleet.gauges().messages());
    watch.pass("healthy ones alone", time / 3, so_far)?;
    let (alone, idle) = (fleet.tally()?, server.memory());
    let sampler = server.pid().map(Sampler::start).transpose()?;
    let slow = slow_fleet(options, &server, "slow", Pace::BytesPerSecond(options.number("slow-bytes")?))?;
    let stalled = slow_fleet(options, &server, "stalled", Pace::Nothing)?;
    wait_for_streams(watch, &slow, options.number("slow")?)?;
    wait_for_streams(watch, &stalled, options.number("stalled")?)?;
    fleet.forget()?;
    watch.pass("with slow ones", time, so_far)?;
    let together = fleet.tally()?;
    report_memory(&mut report, idle, sampler.map(|sampler| sampler.peak().0));
    let published = publisher.stop()?;
    end_healthy(watch, &fleet, &published, healthy, &mut report)?;
    report_slow(&mut report, &slow, &stalled)?;
    server.stop()?;
    let columns = [&["healthy ones", "deliveries"][..], &LATENCY_COLUMNS].concat();
    let mut table = Table::new("latency of healthy subscribers", &columns);
    for (when, tally) in [("alone", &alone), ("with slow ones", &together)] {
        let cells = [json!(when), json!(tally.latencies.len())];
        table.row([&cells[..], &latency_cells(&tally.latencies)].concat());
    }
    report.table(table);
    report.note("memory: the server's RssAnon before the slow ones came, and its peak since");
    Ok(report)
}

fn slow_fleet(options: &Options, server: &Server, which: &str, pace: Pace) -> Outcome<Fleet> {
    Fleet::open_new(&Settings { pace, ..Settings::new(server.target(), PROJECT, options.number(which)?) })
}

fn report_memory(report: &mut Report, idle: Option<Memory>, peak: Option<Memory>) {
    let kib = |memory: Option<Memory>| memory.map(|memory| memory.anonymous_kib as f64);
    report.figure("anonymous memory, without slow ones", mib(kib(idle)), "MiB");
    report.figure("anonymous memory, peak with them", mib(kib(peak)), "MiB");
    report.figure("anonymous memory, what they cost", mib(kib(peak).zip(kib(idle)).map(|(p, i)| p - i)), "MiB");
}

fn end_healthy(
    watch: &mut Watch,
    fleet: &Fleet,
    published: &Published,
    healthy: usize,
    report: &mut Report,
) -> Outcome<()> {
    check_published(report, "publisher", published);
    fleet.set_goal(published.messages)?;
    wait_for_goal(watch, fleet, healthy)?;
    report.figure("published", published.messages as f64 / published.took.as_secs_f64(), "/s");
    report.figure("publisher's answers, p99", json!(published.answers.ms(0.99)), "ms");
    report.fail_all(fleet.tally()?.complaints("healthy ones"));
    Ok(())
}

/// What slow ones have read must be in order, too.
fn report_slow(report: &mut Report, slow: &Fleet, stalled: &Fleet) -> Outcome<()> {
    for (who, fleet) in [("slow", slow), ("stalled", stalled)] {
        let tally = fleet.tally()?;
        report.figure(&format!("{who} ones: messages read"), tally.messages, "");
        report.figure(&format!("{who} ones: streams that the server ended"), tally.ended, "");
        report.fail_all(tally.complaints(who));
    }
    Ok(())
}
