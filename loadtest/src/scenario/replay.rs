//! Many clients come back at once after having missed everything, while others watch live. What does it cost the server
//! in memory, and the others in latency?
//!
//! A first stream, opened before anything is published, gives the id that all clients resume from. Then the messages
//! are published; publishers go on at a rate in the same project and in another one, both with live subscribers. Idle
//! is the server's memory then, after one more quiet second: history full, live streams open, live messages flowing, no
//! replay yet. Peak is the highest of the samples (one every 20 ms) until all clients have every message that was there
//! when they came. RssAnon is what counts; VmRSS holds pages of files besides, which the kernel may drop.

use std::time::Duration;

use serde_json::json;

use super::shown::{LATENCY_COLUMNS, latency_cells, mib, report};
use super::steps::{NO_BOUNDS, check_published, publish_all, publish_at, wait_for_goal, wait_for_streams};
use crate::clock::now_ns;
use crate::failure::{Failure, Outcome};
use crate::fleet::{Fleet, Settings};
use crate::options::{Options, Parameter, Scenario};
use crate::proc::{Memory, Sampler};
use crate::publisher::Publisher;
use crate::report::{Report, Table};
use crate::server::{Data, Server};
use crate::subscriber::Position;
use crate::tally::Tally;
use crate::watch::Watch;

const SAME: &str = "replayed";
const OTHER: &str = "other";

pub const SCENARIO: Scenario = Scenario {
    name: "replay",
    about: "many clients resume from the first message at once, while others follow live",
    parameters: &[
        Parameter { name: "messages", default: "100000", help: "number of messages that each client has missed" },
        Parameter { name: "clients", default: "100", help: "number of clients that resume" },
        Parameter { name: "payload", default: "250", help: "size of each payload in bytes" },
        Parameter { name: "live", default: "10", help: "live subscribers in each of the two projects" },
        Parameter { name: "rate", default: "100", help: "live messages per second in each of the two projects" },
        Parameter { name: "before", default: "3", help: "seconds of live messages before the replay, for comparison" },
    ],
    data: &[Data::Temporary],
    limit_s: 180,
    run,
};

/// How long nothing but live messages flows before memory counts as idle.
const QUIET: Duration = Duration::from_secs(1);

/// Live subscribers and their publisher, in one project.
struct Live {
    project: &'static str,
    fleet: Fleet,
    publisher: Publisher,
    subscribers: usize,
    before: Tally,
}

fn run(options: &Options, data: Data, watch: &mut Watch) -> Outcome<Report> {
    let mut report = report(options, data);
    let messages: u64 = options.number("messages")?;
    // History must hold everything, and what is published live meanwhile.
    let history = (2 * messages).max(10_000).to_string();
    let server = Server::start(&options.server, data, &[&NO_BOUNDS[..], &["--history-messages", &history]].concat())?;
    let position = first_position(watch, &server)?;
    let published = publish_all(watch, &server, SAME, messages, options.number("payload")?)?;
    check_published(&mut report, "history", &published);
    let mut lives = vec![Live::start(options, watch, &server, SAME)?, Live::start(options, watch, &server, OTHER)?];
    let before = Duration::from_secs_f64(options.number("before")?);
    watch.pass("live messages before the replay", before, String::new)?;
    for live in &mut lives {
        live.before = live.fleet.tally()?;
        live.fleet.forget()?;
    }
    watch.pass("a quiet second", QUIET, String::new)?;
    let idle = server.memory();
    lives.iter().try_for_each(|live| live.fleet.forget())?;
    replay(options, watch, &server, &position, idle, &lives, &mut report)?;
    let live_table = end_live(watch, lives, &mut report)?;
    server.stop()?;
    report.table(live_table);
    report.note("idle: before the first client resumes, with history written and live streams open");
    report.note("memory is anonymous memory (RssAnon); resident memory (VmRSS) also includes pages of mapped files");
    report.note("latency is measured from the time a message was due");
    Ok(report)
}

/// A genuine id from before the first message.
fn first_position(watch: &mut Watch, server: &Server) -> Outcome<Position> {
    let fleet = Fleet::open_new(&Settings::new(server.target(), SAME, 1))?;
    wait_for_streams(watch, &fleet, 1)?;
    fleet.position()?.ok_or_else(|| Failure("the message `connected` has no id".to_owned()))
}

impl Live {
    fn start(options: &Options, watch: &mut Watch, server: &Server, project: &'static str) -> Outcome<Self> {
        let subscribers = options.number("live")?;
        let fleet = Fleet::open_new(&Settings::new(server.target(), project, subscribers))?;
        wait_for_streams(watch, &fleet, subscribers)?;
        let publisher = publish_at(server, project, options.number("rate")?, options.number("payload")?)?;
        Ok(Self { project, fleet, publisher, subscribers, before: Tally::default() })
    }
}

fn replay(
    options: &Options,
    watch: &mut Watch,
    server: &Server,
    position: &Position,
    idle: Option<Memory>,
    lives: &[Live],
    report: &mut Report,
) -> Outcome<()> {
    let (clients, messages): (usize, u64) = (options.number("clients")?, options.number("messages")?);
    let sampler = server.pid().map(Sampler::start).transpose()?;
    let (began_ns, began_cpu) = (now_ns(), server.cpu_seconds());
    let settings = Settings { position: Some(position.clone()), ..Settings::new(server.target(), SAME, clients) };
    let fleet = Fleet::new(&settings)?;
    fleet.set_goal(position.seq + messages)?;
    fleet.open();
    wait_for_goal(watch, &fleet, clients)?;
    let seconds = (fleet.gauges().last_goal_ns() - began_ns) as f64 / 1e9;
    let cpu = server.cpu_seconds().zip(began_cpu).map(|(end, begin)| end - begin);
    report_memory(report, idle, sampler.as_ref().map(Sampler::peak));
    let replayed = (clients as u64 * messages) as f64;
    report.figure("replay, until the last client has all", seconds, "s");
    report.figure("messages replayed", replayed / seconds, "/s");
    report.figure("server's processor time", json!(cpu.map(|cpu| cpu * 1e6 / replayed)), "s per million");
    // What they got besides is what was published live since.
    let head = lives.first().map_or(0, |live| live.publisher.accepted());
    fleet.set_goal(position.seq + messages + head)?;
    wait_for_goal(watch, &fleet, clients)?;
    let tally = fleet.tally()?;
    report.figure("bytes to clients", tally.bytes as f64 / 1e6, "MB");
    report.fail_all(tally.complaints("clients"));
    if tally.begun.get("resumed").copied() != Some(clients as u64) {
        report.fail(format!("not all of the {clients} streams were resumed: {:?}", tally.begun));
    }
    Ok(())
}

fn report_memory(report: &mut Report, idle: Option<Memory>, peak: Option<(Memory, u64)>) {
    let (peak, samples) = peak.unzip();
    let kib = |memory: Option<Memory>, of: fn(Memory) -> u64| memory.map(|memory| of(memory) as f64);
    for (name, of) in [
        ("anonymous", (|memory| memory.anonymous_kib) as fn(Memory) -> u64),
        ("resident", |memory| memory.resident_kib),
    ] {
        let (idle, peak) = (kib(idle, of), kib(peak, of));
        report.figure(&format!("{name} memory, idle"), mib(idle), "MiB");
        report.figure(&format!("{name} memory, peak"), mib(peak), "MiB");
        report.figure(&format!("{name} memory, peak minus idle"), mib(peak.zip(idle).map(|(p, i)| p - i)), "MiB");
    }
    report.figure("samples of memory", json!(samples), "");
}

/// Stops the live publishers, sees that everyone has everything, and shows what they waited for.
fn end_live(watch: &mut Watch, lives: Vec<Live>, report: &mut Report) -> Outcome<Table> {
    let columns = [&["project", "when", "deliveries"][..], &LATENCY_COLUMNS].concat();
    let mut table = Table::new("latency of live subscribers", &columns);
    for live in lives {
        let during = live.fleet.tally()?;
        for (when, tally) in [("before", &live.before), ("during", &during)] {
            let cells = [json!(live.project), json!(when), json!(tally.latencies.len())];
            table.row([&cells[..], &latency_cells(&tally.latencies)].concat());
        }
        let published = live.publisher.stop()?;
        check_published(report, live.project, &published);
        let received = || live.fleet.gauges().messages();
        let due = published.messages * live.subscribers as u64;
        watch.until("live subscribers have everything", || received() >= due, || format!("{} of {due}", received()))?;
        report.fail_all(live.fleet.tally()?.complaints(&format!("live subscribers of {}", live.project)));
    }
    Ok(table)
}
