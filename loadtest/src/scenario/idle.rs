//! What do streams cost on which nothing happens? Memory is counted against the same server before they came (RssAnon);
//! then processor time without heartbeats and with them; then all leave, and what was for them should be given back.
//! Where it is not, further waves of streams tell what is kept to be used again from what is lost.

use std::time::Duration;

use serde_json::{Value, json};

use super::shown::{mib, report};
use super::steps::{NO_BOUNDS, settings, wait_for_streams};
use crate::failure::Outcome;
use crate::fleet::{Fleet, Settings};
use crate::options::{Options, Parameter, Scenario};
use crate::proc::Memory;
use crate::report::{Report, Table};
use crate::server::{Data, Server, Setup};
use crate::watch::Watch;

const PROJECT: &str = "idle";

pub const SCENARIO: Scenario = Scenario {
    name: "idle",
    about: "memory and processor time of idle streams",
    parameters: &[
        Parameter { name: "streams", default: "10000", help: "streams" },
        Parameter {
            name: "heartbeat",
            default: "0,5",
            help: "seconds between heartbeats, for each row; 0: no heartbeats",
        },
        Parameter { name: "several", default: "1", help: "number of projects per stream" },
        Parameter {
            name: "sets",
            default: "1",
            help: "number of different project sets that the streams subscribe to",
        },
        Parameter { name: "seconds", default: "10", help: "seconds during which processor time is measured" },
        Parameter {
            name: "waves",
            default: "1",
            help: "how often all streams come and leave, for each heartbeat; each wave is a row",
        },
    ],
    data: &[Data::None],
    limit_s: 120,
    run,
};

/// What passes before memory is looked at.
const SETTLE: Duration = Duration::from_secs(1);

/// Descriptors that a server may open for itself meanwhile.
const DESCRIPTORS_OWN: usize = 8;

fn run(options: &Options, data: Data, watch: &mut Watch) -> Outcome<Report> {
    let mut report = report(options, data);
    let columns = [
        "streams",
        "heartbeat s",
        "resident at start MiB",
        "KiB/stream",
        "CPU s in 10 s",
        "KiB/stream once all left",
        "descriptors left",
    ];
    let mut table = Table::new("idle streams", &columns);
    let waves: usize = options.number("waves")?;
    for heartbeat_s in options.numbers("heartbeat")? {
        let setup = Setup { heartbeat_s: Some(heartbeat_s), ..Setup::new(data, &NO_BOUNDS) };
        let server = Server::start_with(&options.server, &setup)?;
        watch.pass("a quiet moment", SETTLE, String::new)?;
        let start = Start { memory: server.memory(), descriptors: server.descriptors().unwrap_or(0) };
        for _ in 0..waves {
            table.row(wave(options, (&server, &start), heartbeat_s, watch, &mut report)?);
        }
        server.stop()?;
    }
    report.table(table);
    report.note(
        "memory of a stream: growth of anonymous memory (RssAnon) divided by the number of streams; without kernel buffers",
    );
    Ok(report)
}

/// What a server held before anyone came.
struct Start {
    memory: Option<Memory>,
    descriptors: usize,
}

/// All streams come, stay a while and leave.
fn wave(
    options: &Options,
    (server, start): (&Server, &Start),
    heartbeat_s: u64,
    watch: &mut Watch,
    report: &mut Report,
) -> Outcome<Vec<Value>> {
    let (streams, seconds): (usize, f64) = (options.number("streams")?, options.number("seconds")?);
    let projects = sets_of_projects(options.number("several")?, options.number("sets")?);
    let fleet = Fleet::open_new(&Settings { projects, ..settings(server, PROJECT, streams) })?;
    wait_for_streams(watch, &fleet, streams)?;
    watch.pass("a quiet moment", SETTLE, String::new)?;
    let open = server.memory();
    let cpu_before = server.cpu_seconds();
    watch.pass("idle streams", Duration::from_secs_f64(seconds), String::new)?;
    let cpu_s = server.cpu_seconds().zip(cpu_before).map(|(after, before)| after - before);
    leave(watch, server, &fleet, start.descriptors, report)?;
    let per_stream = |memory: Option<Memory>| {
        let kib = memory.zip(start.memory).map(|(now, start)| now.anonymous_kib as f64 - start.anonymous_kib as f64);
        json!(kib.map(|kib| kib / streams.max(1) as f64))
    };
    Ok(vec![
        json!(streams),
        json!(heartbeat_s),
        mib(start.memory.map(|memory| memory.resident_kib as f64)),
        per_stream(open),
        json!(cpu_s.map(|cpu_s| cpu_s * 10.0 / seconds)),
        per_stream(server.memory()),
        json!(server.descriptors().map(|now| now.saturating_sub(start.descriptors))),
    ])
}

/// So many sets of so many projects each, out of twice as many; or the one project.
fn sets_of_projects(several: usize, sets: usize) -> Vec<String> {
    if several == 1 {
        return vec![PROJECT.to_owned()];
    }
    let mut random = 7_u64;
    let mut set = || {
        let mut left: Vec<usize> = (0..2 * several).collect();
        let mut draw = |_| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            format!("p{}", left.swap_remove((random >> 33) as usize % left.len()))
        };
        (0..several).map(&mut draw).collect::<Vec<_>>().join(",")
    };
    (0..sets).map(|_| set()).collect()
}

/// All leave, and the server has seen it. None may have left before.
fn leave(watch: &mut Watch, server: &Server, fleet: &Fleet, descriptors: usize, report: &mut Report) -> Outcome<()> {
    let tally = fleet.tally()?;
    report.fail_all(tally.complaints("idle streams"));
    if tally.ended > 0 {
        report.fail(format!("{} idle streams were closed", tally.ended));
    }
    fleet.close();
    let left = || server.descriptors().map(|now| now.saturating_sub(descriptors));
    let is_seen = || left().is_none_or(|left| left <= DESCRIPTORS_OWN);
    watch.until("the server has seen all leave", is_seen, || format!("{:?} descriptors left", left()))?;
    watch.pass("a quiet moment", SETTLE, String::new)
}
