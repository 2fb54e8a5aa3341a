//! Peers that are out for harm, among healthy subscribers: each kind alone, and all of them at once. Do the healthy ones
//! notice, what does the server hold for the others, and does it let go of everything once they have left?
//!
//! The server's limits per address count here: loopback is no trusted proxy.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::shown::{LATENCY_COLUMNS, latency_cells, mib, report};
use super::steps::{check_published, publish_at, wait_for_goal, wait_for_streams};
use crate::failure::{Outcome, failure};
use crate::fleet::{Fleet, Settings};
use crate::habit::Habit;
use crate::mob::{Mob, Plan, Seen};
use crate::options::{Options, Parameter, Scenario};
use crate::proc::Sampler;
use crate::report::{Report, Table};
use crate::server::{Data, Server};
use crate::tally::Tally;
use crate::watch::Watch;

const PROJECT: &str = "healthy";

/// Without these the server would take everyone here for a proxy, whose connections it does not count.
const FLAGS: [&str; 4] = ["--limits-trusted-proxies", "192.0.2.1/32", "--limits-publish-rate", "1000000000"];

/// How long the server has to let go of those who have left.
const LETS_GO_WITHIN: Duration = Duration::from_secs(5);

pub const SCENARIO: Scenario = Scenario {
    name: "hostile",
    about: "peers that stall, flood, hold or break connections, next to healthy subscribers",
    parameters: &[
        Parameter { name: "healthy", default: "100", help: "number of subscribers that read everything" },
        Parameter { name: "rate", default: "100", help: "messages per second" },
        Parameter { name: "payload", default: "250", help: "size of each payload in bytes" },
        Parameter { name: "peers", default: "5000", help: "hostile connections open at the same time" },
        Parameter {
            name: "per-second",
            default: "1000",
            help: "how many of them reconnect or repeat their request per second",
        },
        Parameter {
            name: "kinds",
            default: "0,1,2,3,4,5,6,7,8,9,10,11",
            help: "which kinds: 0 all at once; 1 silent, 2 slow head, 3 slow body, 4 held body, 5 unread stream, 6 unread answers, \
                   7 half-closed, 8 flood, 9 garbage, 10 churn, 11 reset",
        },
        Parameter { name: "one-address", default: "0", help: "1: all hostile connections come from one address" },
        Parameter { name: "seconds", default: "3", help: "seconds with each kind, and with none before" },
        Parameter {
            name: "p99-ms",
            default: "100",
            help: "maximum 99th percentile of the healthy subscribers' latency, in milliseconds",
        },
    ],
    data: &[Data::Temporary],
    limit_s: 180,
    run,
};

/// What one kind has done to the server and the healthy ones.
struct Damage {
    seen: Seen,
    healthy: Tally,
    peak_kib: Option<f64>,
    after_kib: Option<f64>,
    cpu_s: Option<f64>,
    sockets_after: Option<usize>,
}

fn run(options: &Options, data: Data, watch: &mut Watch) -> Outcome<Report> {
    let mut report = report(options, data);
    let server = Server::start(&options.server, data, &FLAGS)?;
    let healthy = options.number("healthy")?;
    let fleet = Fleet::open_new(&Settings::new(server.target(), PROJECT, healthy))?;
    wait_for_streams(watch, &fleet, healthy)?;
    let publisher = publish_at(&server, PROJECT, options.number("rate")?, options.number("payload")?)?;
    let time = Duration::from_secs_f64(options.number("seconds")?);
    watch.pass("healthy ones alone", time, || format!("{} messages", fleet.gauges().messages()))?;
    let (alone, sockets) = (fleet.tally()?, server.sockets());
    report.figure("anonymous memory before", mib(anonymous_kib(&server)), "MiB");
    report.figure("sockets before", json!(sockets), "");
    let mut table = table();
    table.row(row("none", &alone, None));
    for habits in chosen(options, &server)? {
        let name = if let [only] = habits.as_slice() { only.name } else { "all at once" };
        let damage = let_loose(options, &server, (&fleet, sockets), habits, watch)?;
        judge(&mut report, options.number("p99-ms")?, (name, &damage), sockets);
        table.row(row(name, &damage.healthy, Some(&damage)));
    }
    let published = publisher.stop()?;
    check_published(&mut report, "publisher", &published);
    fleet.set_goal(published.messages)?;
    wait_for_goal(watch, &fleet, healthy)?;
    report.fail_all(fleet.tally()?.complaints("healthy ones"));
    server.stop()?;
    report.table(table);
    report.note("latency: of the healthy subscribers, from the time a message was due; memory: RssAnon of the server");
    report.note("answers: the first answer on each connection, by status");
    Ok(report)
}

/// The kinds that were asked for, each as those who do it.
fn chosen(options: &Options, server: &Server) -> Outcome<Vec<Vec<Habit>>> {
    let all = Habit::hostile(server.target(), PROJECT);
    let kind = |number: usize| match number {
        0 => Ok(all.clone()),
        number => match all.get(number - 1) {
            Some(habit) => Ok(vec![habit.clone()]),
            None => failure(format!("--kinds {number}: expected a number up to {}", all.len())),
        },
    };
    options.numbers("kinds")?.into_iter().map(kind).collect()
}

fn let_loose(
    options: &Options,
    server: &Server,
    (fleet, sockets): (&Fleet, Option<usize>),
    habits: Vec<Habit>,
    watch: &mut Watch,
) -> Outcome<Damage> {
    fleet.forget()?;
    let sampler = server.pid().map(Sampler::start).transpose()?;
    let (cpu_before, time) = (server.cpu_seconds(), Duration::from_secs_f64(options.number("seconds")?));
    let plan = Plan {
        target: server.target(),
        habits,
        peers: options.number("peers")?,
        attempts: u64::MAX,
        per_second: options.number("per-second")?,
        is_alone: options.number::<u8>("one-address")? > 0,
    };
    let mob = Mob::start(plan)?;
    watch.pass("under attack", time, || format!("{} connections", mob.attempts()))?;
    let healthy = fleet.tally()?;
    let cpu_s = server.cpu_seconds().zip(cpu_before).map(|(after, before)| after - before);
    let seen = mob.stop()?;
    let began = Instant::now();
    let has_let_go = || server.sockets() <= sockets || began.elapsed() > LETS_GO_WITHIN;
    watch.until("the server lets go", has_let_go, || format!("{:?} sockets", server.sockets()))?;
    let peak_kib = sampler.map(|sampler| sampler.peak().0.anonymous_kib as f64);
    let (after_kib, sockets_after) = (anonymous_kib(server), server.sockets());
    Ok(Damage { seen, healthy, peak_kib, after_kib, cpu_s, sockets_after })
}

fn judge(report: &mut Report, p99_ms_max: f64, (name, damage): (&str, &Damage), sockets: Option<usize>) {
    match damage.healthy.latencies.ms(0.99) {
        Some(ms) if ms <= p99_ms_max => {}
        Some(ms) => report.fail(format!("{name}: the 99th percentile of the healthy subscribers is {ms:.0} ms")),
        None => report.fail(format!("{name}: the healthy subscribers received nothing")),
    }
    if damage.sockets_after > sockets {
        report.fail(format!("{name}: {:?} sockets afterwards", damage.sockets_after));
    }
}

fn anonymous_kib(server: &Server) -> Option<f64> {
    server.memory().map(|memory| memory.anonymous_kib as f64)
}

fn table() -> Table {
    let columns = ["hostile", "connections", "ended", "answers", "deliveries"];
    let memory = ["peak MiB", "after MiB", "CPU s", "sockets after"];
    Table::new("healthy ones among hostile ones", &[&columns[..], &LATENCY_COLUMNS, &memory].concat())
}

fn row(name: &str, healthy: &Tally, damage: Option<&Damage>) -> Vec<Value> {
    let seen = damage.map(|damage| &damage.seen);
    let answers = seen.map(|seen| {
        let words = seen.statuses.iter().map(|(status, n)| format!("{status}: {n}"));
        words.collect::<Vec<_>>().join(", ")
    });
    let mut row = vec![json!(name), json!(seen.map(|seen| seen.attempts)), json!(seen.map(|seen| seen.ended))];
    row.extend([json!(answers), json!(healthy.latencies.len())]);
    row.extend(latency_cells(&healthy.latencies));
    row.extend([mib(damage.and_then(|damage| damage.peak_kib)), mib(damage.and_then(|damage| damage.after_kib))]);
    row.extend([json!(damage.and_then(|damage| damage.cpu_s))]);
    row.extend([json!(damage.and_then(|damage| damage.sockets_after))]);
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harm_is_complained_about_and_its_absence_is_not() {
        let damage = |ms: u64, sockets| {
            let mut healthy = Tally::default();
            healthy.latencies.record(ms * 1_000_000);
            let (peak_kib, after_kib, cpu_s) = (None, None, None);
            Damage { seen: Seen::default(), healthy, peak_kib, after_kib, cpu_s, sockets_after: Some(sockets) }
        };
        for (damage, is_good) in [(damage(99, 20), true), (damage(101, 20), false), (damage(1, 21), false)] {
            let mut report = Report::new("hostile");
            judge(&mut report, 100.0, ("one", &damage), Some(20));
            assert_eq!(report.is_good(), is_good);
        }
        assert_eq!(
            row("one", &Tally::default(), None).len(),
            row("one", &damage(1, 1).healthy, Some(&damage(1, 1))).len()
        );
    }
}
