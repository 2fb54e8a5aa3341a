//! How many streams a second can be opened, each showing a JWT that is checked? All come at once, with as many on their
//! way as the listener's queue takes, and stay.

use serde_json::json;

use super::shown::report;
use super::steps::{NO_BOUNDS, settings, wait_for_streams};
use crate::clock::now_ns;
use crate::failure::Outcome;
use crate::fleet::{Fleet, Settings};
use crate::options::{Options, Parameter, Scenario};
use crate::report::Report;
use crate::server::{Data, Server, Setup};
use crate::watch::Watch;

const PROJECT: &str = "connected";

pub const SCENARIO: Scenario = Scenario {
    name: "connect",
    about: "streams opened per second, each with a token that the server checks",
    parameters: &[
        Parameter { name: "streams", default: "10000", help: "streams" },
        Parameter { name: "tokens", default: "1", help: "1: with a JWT; 0: without authentication" },
        Parameter { name: "threads", default: "1", help: "number of subscriber threads" },
    ],
    data: &[Data::None],
    limit_s: 60,
    run,
};

fn run(options: &Options, data: Data, watch: &mut Watch) -> Outcome<Report> {
    let mut report = report(options, data);
    let (streams, tokens): (usize, u8) = (options.number("streams")?, options.number("tokens")?);
    let setup = Setup { checks_tokens: tokens > 0, ..Setup::new(data, &NO_BOUNDS) };
    let server = Server::start_with(&options.server, &setup)?;
    let settings = Settings { threads: options.number("threads")?, ..settings(&server, PROJECT, streams) };
    let fleet = Fleet::new(&settings)?;
    let (began_ns, before) = (now_ns(), server.cpu_seconds());
    fleet.open();
    wait_for_streams(watch, &fleet, streams)?;
    let seconds = (now_ns() - began_ns) as f64 / 1e9;
    let cpu_s = server.cpu_seconds().zip(before).map(|(after, before)| after - before);
    report.figure("streams opened", streams as f64 / seconds, "/s");
    report.figure("server's processor time", json!(cpu_s.map(|cpu_s| cpu_s * 1e6 / streams as f64)), "ms per thousand");
    report.fail_all(fleet.tally()?.complaints("streams"));
    server.stop()?;
    Ok(report)
}
