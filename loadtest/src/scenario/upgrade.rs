//! The server is told to upgrade (SIGUSR2) while many watch and some publish. Does everyone get everything, is anyone
//! refused, and how long until all are back?

mod newcomer;

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use self::newcomer::Newcomer;
use super::shown::report;
use super::steps::{NO_BOUNDS, check_published, publish_at, settings, wait_for_goal, wait_for_streams};
use crate::clock::now_ns;
use crate::failure::Outcome;
use crate::fleet::{Fleet, Settings};
use crate::options::{Options, Parameter, Scenario};
use crate::report::Report;
use crate::server::{Data, Server, Setup};
use crate::watch::Watch;

const PROJECT: &str = "upgraded";

/// What goes on before and behind an upgrade.
const PAUSE: Duration = Duration::from_secs(1);

/// What the old process logs.
const READY: &str = "is ready to take over";
const TAKEN_OVER: &str = "has taken over";

pub const SCENARIO: Scenario = Scenario {
    name: "upgrade",
    about: "a new process takes over while many watch and some publish",
    parameters: &[
        Parameter { name: "subscribers", default: "10000", help: "number of subscribers" },
        Parameter { name: "rate", default: "10", help: "messages published per second" },
        Parameter { name: "payload", default: "250", help: "size of each payload in bytes" },
        Parameter {
            name: "tokens",
            default: "1",
            help: "1: with a JWT that is checked on every connect; 0: without authentication",
        },
        Parameter { name: "threads", default: "1", help: "number of subscriber threads" },
    ],
    data: &[Data::Temporary],
    limit_s: 120,
    run,
};

fn run(options: &Options, data: Data, watch: &mut Watch) -> Outcome<Report> {
    let mut report = report(options, data);
    let (subscribers, rate): (usize, f64) = (options.number("subscribers")?, options.number("rate")?);
    let tokens: u8 = options.number("tokens")?;
    let setup = Setup { checks_tokens: tokens > 0, ..Setup::new(data, &NO_BOUNDS) };
    let mut server = Server::start_with(&options.server, &setup)?;
    let threads = options.number("threads")?;
    let settings = Settings { threads, comes_back: true, ..settings(&server, PROJECT, subscribers) };
    let fleet = Fleet::open_new(&settings)?;
    wait_for_streams(watch, &fleet, subscribers)?;
    let publisher = publish_at(&server, PROJECT, rate, options.number("payload")?)?;
    let newcomer = Newcomer::start(server.target())?;
    watch.pass("before", PAUSE, String::new)?;
    upgrade(watch, &mut server, &fleet, subscribers, &mut report)?;
    watch.pass("behind", PAUSE, String::new)?;
    let (published, came) = (publisher.stop()?, newcomer.stop()?);
    fleet.set_goal(published.messages)?;
    wait_for_goal(watch, &fleet, subscribers)?;
    check_published(&mut report, "the publisher", &published);
    let tally = fleet.tally()?;
    report.figure("messages published", published.messages, "");
    report.figure("messages lost", tally.lost, "");
    report.figure("messages repeated", tally.repeated, "");
    report.figure("publishes refused", published.refused, "");
    report.figure("connections refused", tally.refused + came.refused, "");
    report.figure("longest wait of a publish", json!(published.answers.max_ms()), "ms");
    report.figure("longest wait of a new connection", json!(came.waits.max_ms()), "ms");
    report.fail_all(tally.complaints("subscribers"));
    if came.refused + tally.refused > 0 {
        report.fail(format!("connections were refused: {}", came.first_refusal.unwrap_or_default()));
    }
    let closed = tally.closings.get("shutdown").copied().unwrap_or(0);
    if tally.messages != published.messages * subscribers as u64 || closed != subscribers as u64 {
        let due = published.messages * subscribers as u64;
        report.fail(format!("{} of {due} messages, {closed} of {subscribers} streams told to end", tally.messages));
    }
    report.note("a subscriber looks every 100 ms whether it is to come back; at most 512 are on their way at a time");
    server.stop()?;
    Ok(report)
}

fn upgrade(
    watch: &mut Watch,
    server: &mut Server,
    fleet: &Fleet,
    subscribers: usize,
    report: &mut Report,
) -> Outcome<()> {
    let (began_ns, streams) = (now_ns(), fleet.gauges().begun());
    server.signal(Signal::USR2)?;
    let mut until_logged = |what: &'static str| -> Outcome<f64> {
        let is_said = || server.log().iter().any(|line| line.contains(what));
        watch.until(what, is_said, || server.log().join("\n"))?;
        Ok((now_ns() - began_ns) as f64 / 1e9)
    };
    report.figure("signal to the new process ready", until_logged(READY)?, "s");
    let taken_over_s = until_logged(TAKEN_OVER)?;
    report.figure("signal to the new process serving", taken_over_s, "s");
    server.follow_successor(TAKEN_OVER)?;
    let resumed = || fleet.gauges().begun() - streams;
    watch.until(
        "everyone is back",
        || resumed() >= subscribers as u64,
        || format!("{} of {subscribers}", resumed()),
    )?;
    let back_s = (fleet.gauges().last_begun_ns() - began_ns) as f64 / 1e9;
    report.figure("signal to the last resume", back_s, "s");
    report.figure("the new process serving to the last resume", back_s - taken_over_s, "s");
    Ok(())
}
