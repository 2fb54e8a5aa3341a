//! Everyone drops at once, misses some messages, and comes back at once with its `Last-Event-ID`. How long until all
//! have all of them?

use serde_json::json;

use super::shown::report;
use super::steps::{NO_BOUNDS, check_published, publish_all, settings, wait_for_goal, wait_for_streams};
use crate::clock::now_ns;
use crate::failure::Outcome;
use crate::fleet::{Fleet, Settings};
use crate::options::{Options, Parameter, Scenario};
use crate::report::Report;
use crate::server::{Data, Server, Setup};
use crate::watch::Watch;

const PROJECT: &str = "reconnected";

/// Descriptors that a server may hold besides: publishers' connections that it has not seen leave.
const DESCRIPTORS_OWN: usize = 16;

pub const SCENARIO: Scenario = Scenario {
    name: "storm",
    about: "all subscribers disconnect at once, miss messages, and reconnect",
    parameters: &[
        Parameter { name: "subscribers", default: "10000", help: "number of subscribers" },
        Parameter { name: "messages", default: "10", help: "number of messages that they miss" },
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
    let (subscribers, messages): (usize, u64) = (options.number("subscribers")?, options.number("messages")?);
    let bytes = options.number("payload")?;
    let tokens: u8 = options.number("tokens")?;
    let setup = Setup { checks_tokens: tokens > 0, ..Setup::new(data, &NO_BOUNDS) };
    let server = Server::start_with(&options.server, &setup)?;
    let descriptors = server.descriptors().unwrap_or(0);
    let settings = Settings { threads: options.number("threads")?, ..settings(&server, PROJECT, subscribers) };
    let (fleet, began_ns) = (Fleet::new(&settings)?, now_ns());
    fleet.open();
    wait_for_streams(watch, &fleet, subscribers)?;
    let opened_ns = now_ns();
    report.figure("first time: streams opened", subscribers as f64 * 1e9 / (opened_ns - began_ns) as f64, "/s");
    fleet.set_goal(1)?;
    check_published(&mut report, "before", &publish_all(watch, &server, PROJECT, 1, bytes)?);
    wait_for_goal(watch, &fleet, subscribers)?;
    drop_all(watch, &server, &fleet, descriptors + DESCRIPTORS_OWN)?;
    check_published(&mut report, "meanwhile", &publish_all(watch, &server, PROJECT, messages, bytes)?);
    come_back(watch, &server, &fleet, (subscribers, messages), &mut report)?;
    server.stop()?;
    Ok(report)
}

/// All streams end, and the server has seen it.
fn drop_all(watch: &mut Watch, server: &Server, fleet: &Fleet, descriptors: usize) -> Outcome<()> {
    fleet.close();
    watch.until("the streams are gone", || fleet.gauges().greeted() == 0, String::new)?;
    let left = || server.descriptors();
    let is_seen = || left().is_none_or(|left| left <= descriptors);
    watch.until("the server has seen it", is_seen, || format!("{:?} descriptors left", left()))
}

fn come_back(
    watch: &mut Watch,
    server: &Server,
    fleet: &Fleet,
    (subscribers, messages): (usize, u64),
    report: &mut Report,
) -> Outcome<()> {
    fleet.forget()?;
    fleet.set_goal(1 + messages)?;
    let (began_ns, began_cpu) = (now_ns(), server.cpu_seconds());
    fleet.open();
    wait_for_goal(watch, fleet, subscribers)?;
    let seconds = (fleet.gauges().last_goal_ns() - began_ns) as f64 / 1e9;
    let cpu = server.cpu_seconds().zip(began_cpu).map(|(end, begin)| end - begin);
    report.figure("until all have all", seconds, "s");
    report.figure("streams resumed", subscribers as f64 / seconds, "/s");
    report.figure("server's processor time", json!(cpu.map(|cpu| cpu * 1e6 / subscribers as f64)), "ms per thousand");
    report.figure("server's descriptors", json!(server.descriptors()), "");
    let tally = fleet.tally()?;
    report.fail_all(tally.complaints("subscribers"));
    let (resumed, due) = (tally.begun.get("resumed").copied().unwrap_or(0), subscribers as u64);
    // Those that number nothing do not say whether they resume either.
    if (server.is_numbered() && resumed != due) || tally.messages != due * messages {
        report.fail(format!(
            "{resumed} of {due} streams resumed, {} of {} messages received",
            tally.messages,
            due * messages
        ));
    }
    Ok(())
}
