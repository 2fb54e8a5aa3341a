//! How many messages a second go through the log? Publishers send back to back over keep-alive connections, each with
//! one request in flight: single messages and arrays, without anyone watching and with subscribers. Each cell of the
//! table has a server of its own, with the history bounds that it has by default.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::shown::report;
use super::steps::{NO_BOUNDS, check_published, wait_for_goal, wait_for_streams};
use crate::failure::Outcome;
use crate::fleet::{Fleet, Settings};
use crate::options::{Options, Parameter, Scenario};
use crate::publisher::{Pace, Plan, Publisher};
use crate::report::{Report, Table};
use crate::server::{Data, Server};
use crate::watch::Watch;

const PROJECT: &str = "logged";

pub const SCENARIO: Scenario = Scenario {
    name: "log",
    about: "messages per second through the log, by requests in flight, messages per request, and subscribers",
    parameters: &[
        Parameter { name: "in-flight", default: "1,8,64,512", help: "requests in flight, each on its own connection" },
        Parameter { name: "batch", default: "1,100", help: "messages per request" },
        Parameter { name: "subscribers", default: "0,1", help: "number of subscribers in the meantime" },
        Parameter { name: "payload", default: "250", help: "size of each payload in bytes" },
        Parameter {
            name: "seconds",
            default: "2",
            help: "measured seconds of each cell, after half a second of warm-up",
        },
    ],
    data: &[Data::None, Data::Temporary],
    limit_s: 300,
    run,
};

/// What passes before a cell counts.
const WARM_UP: Duration = Duration::from_millis(500);

/// One cell's load.
#[derive(Clone, Copy)]
struct Load {
    in_flight: usize,
    batch: usize,
    subscribers: usize,
    payload_bytes: usize,
    time: Duration,
}

/// What is read off server and publisher at the beginning and the end of a cell's time.
struct Reading {
    at: Instant,
    messages: u64,
    cpu: Option<f64>,
    logged: Option<f64>,
    commits: Option<f64>,
}

fn run(options: &Options, data: Data, watch: &mut Watch) -> Outcome<Report> {
    let mut report = report(options, data);
    let columns = [
        "subscribers",
        "msgs/request",
        "in flight",
        "messages/s",
        "requests/s",
        "answer p50 ms",
        "answer p99 ms",
        "msgs/commit",
        "server CPU s/million",
        "resets",
    ];
    let mut table = Table::new("through the log", &columns);
    for subscribers in options.numbers("subscribers")? {
        for batch in options.numbers("batch")? {
            for in_flight in options.numbers("in-flight")? {
                let time = Duration::from_secs_f64(options.number("seconds")?);
                let load = Load { in_flight, batch, subscribers, payload_bytes: options.number("payload")?, time };
                table.row(cell(options, data, load, watch, &mut report)?);
            }
        }
    }
    report.table(table);
    report.note("msgs/commit: stepcast_log_messages_total divided by stepcast_log_commits_total, if the server has these metrics");
    report.note(
        "resets: a subscriber that fell further behind than history reaches was told so; this does not count as loss",
    );
    Ok(report)
}

fn cell(options: &Options, data: Data, load: Load, watch: &mut Watch, report: &mut Report) -> Outcome<Vec<Value>> {
    let server = Server::start(&options.server, data, &NO_BOUNDS)?;
    let fleet = Fleet::open_new(&Settings::new(server.target(), PROJECT, load.subscribers))?;
    wait_for_streams(watch, &fleet, load.subscribers)?;
    let publisher = Publisher::start(plan(&server, load))?;
    let what = format!("{} subscribers, {} in a request, {} in flight", load.subscribers, load.batch, load.in_flight);
    let so_far = || format!("{} messages", publisher.accepted());
    watch.pass(&what, WARM_UP, so_far)?;
    let begin = Reading::take(&server, &publisher);
    watch.pass(&what, load.time, so_far)?;
    let end = Reading::take(&server, &publisher);
    let published = publisher.stop()?;
    check_published(report, &what, &published);
    let resets = end_fleet(watch, &fleet, published.messages, load.subscribers, &what, report)?;
    let messages = (end.messages - begin.messages) as f64;
    let per_second = messages / (end.at - begin.at).as_secs_f64();
    let difference = |of: fn(&Reading) -> Option<f64>| of(&end).zip(of(&begin)).map(|(end, begin)| end - begin);
    server.stop()?;
    let commits = difference(|reading| reading.commits).filter(|commits| *commits > 0.0);
    let per_commit = difference(|reading| reading.logged).zip(commits).map(|(logged, commits)| logged / commits);
    Ok(vec![
        json!(load.subscribers),
        json!(load.batch),
        json!(load.in_flight),
        json!(per_second),
        json!(per_second / load.batch as f64),
        json!(published.answers.ms(0.5)),
        json!(published.answers.ms(0.99)),
        json!(per_commit),
        json!(difference(|reading| reading.cpu).map(|cpu| cpu * 1e6 / messages.max(1.0))),
        json!(resets),
    ])
}

fn plan(server: &Server, load: Load) -> Plan {
    Plan {
        target: server.target(),
        projects: vec![PROJECT.to_owned()],
        payload_bytes: load.payload_bytes,
        batch: load.batch,
        connections: load.in_flight,
        pace: Pace::BackToBack,
        requests: u64::MAX,
        token: None,
    }
}

impl Reading {
    fn take(server: &Server, publisher: &Publisher) -> Self {
        let metric = |name| server.target().metric(name);
        Self {
            logged: metric("stepcast_log_messages_total"),
            commits: metric("stepcast_log_commits_total"),
            cpu: server.cpu_seconds(),
            messages: publisher.accepted(),
            at: Instant::now(),
        }
    }
}

/// Waits until subscribers have the newest message; how often they were told of a gap. Gaps that nobody told them of
/// are failures.
fn end_fleet(
    watch: &mut Watch,
    fleet: &Fleet,
    messages: u64,
    subscribers: usize,
    what: &str,
    report: &mut Report,
) -> Outcome<u64> {
    fleet.set_goal(messages)?;
    wait_for_goal(watch, fleet, subscribers)?;
    let mut tally = fleet.tally()?;
    let resets = std::mem::take(&mut tally.resets).values().sum();
    report.fail_all(tally.complaints(what));
    Ok(resets)
}
