//! What does a steady load cost the server, and how long do subscribers wait? Messages come evenly, so many that there
//! are --rate deliveries a second in all. Latency is counted from when a message was due to when a subscriber read it:
//! to the last of 10,000 subscribers it is the time of 10,000 writes. Each row has a server of its own.

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
    name: "steady",
    about: "processor time of the server and latency at a steady rate",
    parameters: &[
        Parameter { name: "projects", default: "1,1,1000", help: "number of projects, for each row" },
        Parameter {
            name: "subscribers",
            default: "1000,10000,10000",
            help: "total number of subscribers, for each row",
        },
        Parameter { name: "rate", default: "50000", help: "deliveries per second" },
        Parameter { name: "in-flight", default: "8", help: "maximum number of requests in flight" },
        Parameter { name: "payload", default: "250", help: "size of each payload in bytes" },
        Parameter { name: "seconds", default: "6", help: "measured seconds of each row, after one second of warm-up" },
    ],
    data: &[Data::None],
    limit_s: 180,
    run,
};

/// What passes before a row counts.
const WARM_UP: Duration = Duration::from_secs(1);

/// A server that delivers less than this share of what is due does not keep up.
const SHARE_MIN: f64 = 0.9;

fn run(options: &Options, data: Data, watch: &mut Watch) -> Outcome<Report> {
    let mut report = report(options, data);
    let columns =
        [&["projects", "subscribers", "deliveries/s", "CPU s/million"][..], &LATENCY_COLUMNS, &["sent late, p99 ms"]];
    let mut table = Table::new("at a steady rate", &columns.concat());
    for shape in Shape::all(options)? {
        table.row(row(options, data, shape, watch, &mut report)?);
    }
    report.table(table);
    report
        .note("latency is measured from the time a message was due; sent late: the part of it spent waiting for a free connection");
    Ok(report)
}

fn row(options: &Options, data: Data, shape: Shape, watch: &mut Watch, report: &mut Report) -> Outcome<Vec<Value>> {
    let rate: f64 = options.number("rate")?;
    let crowd = Crowd::gather(options, data, shape, watch)?;
    let pace = Pace::PerSecond(rate / shape.fan_out() as f64);
    let publisher = crowd.publish(pace, options.number("in-flight")?, options.number("payload")?)?;
    crowd.pass(watch, WARM_UP)?;
    report.fail_all(crowd.fleet.tally()?.complaints("warming up"));
    crowd.fleet.forget()?;
    let window = crowd.count(watch, Duration::from_secs_f64(options.number("seconds")?))?;
    let latencies = crowd.fleet.tally()?.latencies;
    let published = publisher.stop()?;
    if window.per_second() < rate * SHARE_MIN {
        report.fail(format!("{shape}: {:.0} deliveries per second instead of {rate}", window.per_second()));
    }
    crowd.end(watch, &published, report)?;
    let cells = [
        json!(shape.projects),
        json!(shape.subscribers),
        json!(window.per_second()),
        json!(window.cpu_s_per_million()),
    ];
    Ok([&cells[..], &latency_cells(&latencies), &[json!(published.lateness.ms(0.99))]].concat())
}
