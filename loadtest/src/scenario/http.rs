//! Plain requests: how many a second does one processor answer? `GET /healthz`, and publishing to a project that nobody
//! watches, over keep-alive connections with one request in flight each.

use std::time::Duration;

use serde_json::{Value, json};

use super::shown::report;
use super::steps::NO_BOUNDS;
use crate::body::Template;
use crate::clock::now_ns;
use crate::failure::Outcome;
use crate::hammer::Hammer;
use crate::options::{Options, Parameter, Scenario};
use crate::report::{Report, Table};
use crate::server::{Data, Server};
use crate::watch::Watch;

pub const SCENARIO: Scenario = Scenario {
    name: "http",
    about: "plain requests per second: /healthz, and events without subscribers",
    parameters: &[
        Parameter { name: "connections", default: "64", help: "keep-alive connections, one request in flight each" },
        Parameter { name: "payload", default: "250", help: "size of each payload in bytes" },
        Parameter { name: "seconds", default: "3", help: "measured seconds of each call, after a warm-up of a tenth" },
    ],
    data: &[Data::None],
    limit_s: 60,
    run,
};

fn run(options: &Options, data: Data, _: &mut Watch) -> Outcome<Report> {
    let mut report = report(options, data);
    let server = Server::start(&options.server, data, &NO_BOUNDS)?;
    let host = server.target().address();
    let health = format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
    let shape = (options.number("payload")?, 1);
    let publish = Template::new(server.target(), "unwatched", None, shape).at(now_ns()).to_vec();
    let mut table = Table::new("plain requests", &["call", "requests/s", "CPU s/million", "busy"]);
    for (name, request) in [("GET /healthz", health), ("POST events", publish)] {
        table.row(row(options, &server, name, request)?);
    }
    server.stop()?;
    report.table(table);
    report.note("busy: share of one processor that the server used");
    Ok(report)
}

fn row(options: &Options, server: &Server, name: &str, request: Vec<u8>) -> Outcome<Vec<Value>> {
    let time = Duration::from_secs_f64(options.number("seconds")?);
    let mut hammer = Hammer::new(server.target(), request, options.number("connections")?)?;
    hammer.go(time / 10)?;
    let before = server.cpu_seconds();
    let (answered, seconds) = hammer.go(time)?;
    let cpu_s = server.cpu_seconds().zip(before).map(|(after, before)| after - before);
    Ok(vec![
        json!(name),
        json!(answered as f64 / seconds),
        json!(cpu_s.map(|cpu_s| cpu_s * 1e6 / answered.max(1) as f64)),
        json!(cpu_s.map(|cpu_s| cpu_s / seconds)),
    ])
}
