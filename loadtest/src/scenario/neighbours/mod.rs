//! Does one who asks for much slow those who ask for little? A publisher, one request at a time, and one that asks
//! `healthz` are measured in short turns, alone and beside one neighbour, again and again, so that whatever else the
//! machine does meets both; what counts are the medians of the pairs. Then the store fails, and it is looked how late a
//! step's timeout and a cancel are.
//!
//! What neighbours do in this program must not slow the publisher down, as both share its processors: their threads
//! are nice. None asks more than a thousand times a second, unless it is said otherwise: where one processor serves all,
//! whoever asks for little ten times as often has ten times the share of it, which is nobody's fault. Two of them are
//! for comparison alone: one that does nothing shows how far noise goes, and one that asks `healthz` as often as the
//! others shows what the cheapest of requests costs.

mod judge;
mod kinds;
mod neighbour;
mod outage;
mod places;
mod prober;
mod slice;
mod stage;

use std::time::Duration;

use serde_json::{Value, json};

use super::shown::report;
use crate::failure::Outcome;
use crate::options::{Options, Parameter, Scenario};
use crate::report::{Report, Table};
use crate::server::Data;
use crate::watch::Watch;

use judge::{Limits, Pairs};
use kinds::Kind;
use neighbour::Neighbour;
use slice::Times;
use stage::{Sizes, Stage};

pub const SCENARIO: Scenario = Scenario {
    name: "neighbours",
    about: "publishing while a neighbour downloads, attaches, lists, replays or reads nothing, and while the store fails",
    parameters: &[
        Parameter { name: "runs", default: "5", help: "turns with each neighbour, each after a turn without" },
        Parameter { name: "seconds", default: "0.5", help: "seconds per turn" },
        Parameter { name: "settle", default: "0.2", help: "warm-up seconds before each turn" },
        Parameter { name: "in-flight", default: "1", help: "publish requests in flight" },
        Parameter { name: "payload", default: "250", help: "size of each payload in bytes" },
        Parameter {
            name: "asks",
            default: "1000",
            help: "maximum number of requests per second of a neighbour; 0: no limit",
        },
        Parameter {
            name: "range-mb",
            default: "60",
            help: "output of the running step from which ranges are read, in MB",
        },
        Parameter {
            name: "run-mb",
            default: "50",
            help: "outputs of the five steps of the run that is requested, in MB",
        },
        Parameter { name: "download-mb", default: "50", help: "output that is downloaded, in MB" },
        Parameter { name: "steps", default: "5000", help: "steps of the active run that is attached to" },
        Parameter { name: "messages", default: "100000", help: "number of messages to replay" },
        Parameter { name: "clients", default: "100", help: "number of clients that replay them" },
        Parameter { name: "projects", default: "1000", help: "number of projects to list" },
        Parameter { name: "only", default: "0", help: "only these neighbours, by number from 1; 0: all" },
        Parameter {
            name: "ratio",
            default: "0.7",
            help: "minimum share of its previous rate that the publisher must keep",
        },
        Parameter { name: "p99-times", default: "2", help: "maximum growth of its 99th percentile, as a factor" },
        Parameter { name: "p99-ms", default: "2", help: "or in milliseconds, whichever is larger" },
        Parameter { name: "healthz-ms", default: "5", help: "maximum 99th percentile of /healthz, in milliseconds" },
        Parameter {
            name: "late-ms",
            default: "100",
            help: "maximum delay of a timeout or cancel while the store fails",
        },
    ],
    data: &[Data::None, Data::Temporary],
    limit_s: 600,
    run,
};

/// The number of the store that fails, behind those of the neighbours.
const OUTAGE: usize = kinds::ALL.len() + 1;

fn run(options: &Options, data: Data, watch: &mut Watch) -> Outcome<Report> {
    let mut report = report(options, data);
    let limits = Limits::new(options)?;
    let only: Vec<usize> = options.numbers("only")?;
    let is_asked = |number: usize| only == [0] || only.contains(&number);
    let kinds: Vec<Kind> =
        (1..).zip(kinds::ALL).filter(|(number, _)| is_asked(*number)).map(|(_, kind)| *kind).collect();
    if !kinds.is_empty() {
        let measured = measure(options, data, &kinds, watch, &mut report)?;
        for pairs in &measured {
            report.fail_all(limits.judge(pairs));
            limits.noise(pairs).into_iter().for_each(|text| report.note(format!("NOISE {text}")));
        }
        report.table(table(&measured));
        report
            .note("before, with: medians over the turns; ratio: median of each turn's rate divided by that of the turn before it");
        report
            .note("times are measured from when a publish request was sent, and from when a /healthz request was due");
    }
    if is_asked(OUTAGE) {
        match data {
            Data::Temporary => outage::run(options, watch, &limits, &mut report)?,
            Data::None => report.note("a store that fails: skipped, because only a store on disk can be made to fail"),
        }
    }
    Ok(report)
}

/// Every neighbour in turn, each turn after one without it, as many times as was asked for.
fn measure(
    options: &Options,
    data: Data,
    kinds: &[Kind],
    watch: &mut Watch,
    report: &mut Report,
) -> Outcome<Vec<Pairs>> {
    let stage = Stage::set(options, data, kinds, &Sizes::new(options)?, watch)?;
    let seconds = |name| options.number(name).map(Duration::from_secs_f64);
    let times = Times { turn: seconds("seconds")?, settle: seconds("settle")? };
    let mut measured: Vec<Pairs> = kinds.iter().map(|kind| Pairs::new(kind.name(), kind.is_judged())).collect();
    for _ in 0..options.number("runs")? {
        for (kind, pairs) in kinds.iter().zip(&mut measured) {
            let background = kind.start_background(&stage.server, options)?;
            let before = slice::measure(&stage, options, &times, kind.name(), watch)?;
            let neighbour = Neighbour::start(*kind, &stage, watch)?;
            let with = slice::measure(&stage, options, &times, kind.name(), watch)?;
            let work = neighbour.stop()?;
            if let Some(publisher) = background {
                publisher.stop()?;
            }
            report.fail_all(work.complaints);
            pairs.push(before, with, (work.did, work.is_served));
        }
    }
    stage.strike(watch)?;
    Ok(measured)
}

const COLUMNS: [&str; 12] = [
    "neighbour",
    "before /s",
    "with /s",
    "ratio",
    "of the turns",
    "p50 before ms",
    "p50 with",
    "p99 before ms",
    "p99 with",
    "healthz p99 before ms",
    "healthz p99 with",
    "meanwhile it did",
];

fn table(measured: &[Pairs]) -> Table {
    let mut table = Table::new("publishes beside neighbours", &COLUMNS);
    for pairs in measured {
        let (before, with) = (pairs.before(), pairs.with());
        let (least, most) = pairs.ratios();
        let cells: [Value; 12] = [
            json!(pairs.name),
            json!(before.per_second),
            json!(with.per_second),
            json!(pairs.ratio()),
            json!(format!("{least:.2} to {most:.2}")),
            json!(before.p50_ms),
            json!(with.p50_ms),
            json!(before.p99_ms),
            json!(with.p99_ms),
            json!(before.healthz_p99_ms),
            json!(with.healthz_p99_ms),
            json!(pairs.did()),
        ];
        table.row(cells.to_vec());
    }
    table
}
