//! How many deliveries a second, when publishers never wait? They send back to back over keep-alive connections, each
//! with one request in flight, to all projects in turn. Each row has a server of its own.
//!
//! Where the generator's processor is the bottleneck all servers look alike in deliveries; the server's processor time
//! tells them apart. A busy share near 1 says that it was the server that could not do more.

use std::time::Duration;

use serde_json::{Value, json};

use super::crowd::{Crowd, Shape};
use super::shown::{LATENCY_COLUMNS, latency_cells, report};
use crate::failure::Outcome;
use crate::options::{Options, Parameter, Scenario};
use crate::publisher::Pace;
use crate::report::{Report, Table};
use crate::server::Data;
use crate::watch::Watch;

pub const SCENARIO: Scenario = Scenario {
    name: "burst",
    about: "deliveries per second when publishers send back to back",
    parameters: &[
        Parameter { name: "projects", default: "1,1,1000", help: "number of projects, for each row" },
        Parameter {
            name: "subscribers",
            default: "1000,10000,10000",
            help: "total number of subscribers, for each row",
        },
        Parameter { name: "in-flight", default: "8", help: "requests in flight, each on its own connection" },
        Parameter { name: "payload", default: "250", help: "size of each payload in bytes" },
        Parameter { name: "seconds", default: "4", help: "measured seconds of each row, after one second of warm-up" },
    ],
    data: &[Data::None],
    limit_s: 180,
    run,
};

/// What passes before a row counts.
const WARM_UP: Duration = Duration::from_secs(1);

fn run(options: &Options, data: Data, watch: &mut Watch) -> Outcome<Report> {
    let mut report = report(options, data);
    let columns = [
        &["projects", "subscribers", "in flight", "deliveries/s", "published/s", "CPU s/million", "busy"][..],
        &LATENCY_COLUMNS,
    ];
    let mut table = Table::new("bursts", &columns.concat());
    for shape in Shape::all(options)? {
        for in_flight in options.numbers("in-flight")? {
            table.row(row(options, data, shape, in_flight, watch, &mut report)?);
        }
    }
    report.table(table);
    report.note("busy: share of one processor that the server used");
    Ok(report)
}

fn row(
    options: &Options,
    data: Data,
    shape: Shape,
    in_flight: usize,
    watch: &mut Watch,
    report: &mut Report,
) -> Outcome<Vec<Value>> {
    let crowd = Crowd::gather(options, data, shape, watch)?;
    let publisher = crowd.publish(Pace::BackToBack, in_flight, options.number("payload")?)?;
    crowd.pass(watch, WARM_UP)?;
    let window = crowd.count(watch, Duration::from_secs_f64(options.number("seconds")?))?;
    let latencies = crowd.fleet.tally()?.latencies;
    crowd.end(watch, &publisher.stop()?, report)?;
    let cells = [
        json!(shape.projects),
        json!(shape.subscribers),
        json!(in_flight),
        json!(window.per_second()),
        json!(window.per_second() / shape.fan_out() as f64),
        json!(window.cpu_s_per_million()),
        json!(window.cpu_s.map(|cpu_s| cpu_s / window.seconds)),
    ];
    Ok([&cells[..], &latency_cells(&latencies)].concat())
}
