//! What running plans costs, seen from outside: from a call to its first step, from step to step, runs a second, what
//! ten thousand runs leave behind in memory, and how soon a step's output reaches a thousand viewers. The steps do nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::shown::{latency_cells, report};
use super::viewers::{self, Others};
use crate::failure::{Failure, Outcome, failure};
use crate::flight::Flight;
use crate::follower::{Caller, Follower};
use crate::latency::Latencies;
use crate::loopback::Target;
use crate::options::{Options, Parameter, Scenario};
use crate::peers::Peer;
use crate::report::{Report, Table};
use crate::server::{Choice, Data, Server, TemporaryDirectory};
use crate::watch::Watch;

pub const SCENARIO: Scenario = Scenario {
    name: "workflow",
    about: "running plans: time to first step, step to step, runs per second, output to viewers",
    parameters: &[
        Parameter { name: "starts", default: "1000", help: "number of one-step runs, one after the other" },
        Parameter { name: "chain", default: "400", help: "steps of a chain; twenty chains are run" },
        Parameter { name: "submitters", default: "8", help: "connections that submit three-step plans back to back" },
        Parameter { name: "seconds", default: "4", help: "seconds of submitting" },
        Parameter { name: "in-flight", default: "1,64", help: "runs in flight in one project, for each row; 0: none" },
        Parameter {
            name: "viewers",
            default: "1000",
            help: "number of subscribers while the output of a step is measured",
        },
        Parameter { name: "lines", default: "60", help: "lines that the step prints, six per second" },
    ],
    data: &[Data::None, Data::Temporary],
    limit_s: 120,
    run,
};

/// Where a peer runs a plan of three steps.
const PEER_PATH: &str = "/three/run";

/// Chains that are run.
const CHAINS: usize = 20;

const RUNNING: (&str, Option<&str>) = ("workflow_progress", Some("running"));
const COMPLETED: (&str, Option<&str>) = ("workflow_completed", None);

fn run(options: &Options, data: Data, watch: &mut Watch) -> Outcome<Report> {
    let mut report = report(options, data);
    if let Choice::Peer { peer, .. } = &options.server {
        return peer_run(options, peer, report, watch);
    }
    let directory = TemporaryDirectory::new()?;
    let config = directory.path().join("stepcast.toml");
    std::fs::write(&config, viewers::CLOCK_TOOL)?;
    let config = config.to_string_lossy().into_owned();
    // History is bounded as it is by default, or memory would say nothing.
    let bounds = ["--config", &config, "--limits-queued-runs", "100000", "--limits-connections-per-address", "100000"];
    let server = Server::start(&options.server, data, &bounds)?;
    let mut table = Table::new("plans", &["what", "times", "p50 ms", "p99 ms", "max ms"]);
    let mut row = |what: &str, times: &Latencies| {
        table.row(vec![
            json!(what),
            json!(times.len()),
            json!(times.ms(0.5)),
            json!(times.ms(0.99)),
            json!(times.max_ms()),
        ]);
    };
    row("call to end of three steps", &whole_runs(&server, options.number("starts")?)?);
    row("call to first step", &starts(&server, options.number("starts")?)?);
    row("step to step", &steps(&server, options.number("chain")?)?);
    let (viewers, lines) = (options.number("viewers")?, options.number("lines")?);
    for others in [Others::Read, Others::Wait] {
        row(viewers::output_name(others), &viewers::output(&server, viewers, lines, others, watch)?);
    }
    for others in [Others::Read, Others::Wait] {
        row(viewers::event_name(others), &viewers::events(&server, viewers, lines, others, watch)?);
    }
    report.table(table);
    runs(&server, options, watch, &mut report)?;
    server.stop()?;
    let mut table = Table::new("runs in flight", &["in flight", "runs/s", "us CPU a run", "kB written a run"]);
    for in_flight in options.numbers("in-flight")?.into_iter().filter(|&in_flight| in_flight > 0) {
        table.row(flight(options, data, &bounds, in_flight)?);
    }
    report.table(table);
    Ok(report)
}

/// So many runs at once in one project of a server of their own: each that ends makes room for the next.
fn flight(options: &Options, data: Data, bounds: &[&str], in_flight: usize) -> Outcome<Vec<Value>> {
    let server = Server::start(&options.server, data, bounds)?;
    let mut flight = Flight::new(server.target(), "flight", &chain(3).to_string(), in_flight)?;
    let read = || (server.cpu_seconds(), server.written_bytes());
    let ((cpu_before, written_before), began) = (read(), Instant::now());
    let ended = flight.keep_up(Duration::from_secs_f64(options.number("seconds")?))? as f64;
    let (seconds, (cpu, written)) = (began.elapsed().as_secs_f64(), read());
    let cpu_us = cpu.zip(cpu_before).map(|(after, before)| (after - before) * 1e6 / ended);
    let written_kb = written.zip(written_before).map(|(after, before)| (after - before) as f64 / 1000.0 / ended);
    server.stop()?;
    Ok(vec![json!(in_flight), json!(ended / seconds), json!(cpu_us), json!(written_kb)])
}

/// What others that run plans can be asked: they answer a call once its run of three steps has ended.
fn peer_run(options: &Options, peer: &Peer, mut report: Report, watch: &mut Watch) -> Outcome<Report> {
    let server = Server::start(&options.server, Data::None, &[])?;
    if !peer.runs_plans {
        report.table(peer_events(options, &server, watch)?);
        report.note("this peer runs no plans: its viewers get events that carry the time of publishing");
        server.stop()?;
        return Ok(report);
    }
    let target = server.target();
    let is_up = || target.call("POST", PEER_PATH, None, "").is_ok_and(|answer| answer.status == 200);
    watch.until("it runs plans", is_up, String::new)?;
    let (mut caller, mut latencies) = (Caller::start(target)?, Latencies::default());
    for _ in 0..options.number("starts")? {
        let began = Instant::now();
        call(&mut caller, PEER_PATH, "", 200)?;
        latencies.record(nanoseconds(began.elapsed()));
    }
    let mut table = Table::new("plans", &["what", "times", "p50 ms", "p99 ms", "max ms"]);
    let cells = [json!("call to end of three steps"), json!(latencies.len())];
    table.row([&cells[..], &latency_cells(&latencies)].concat());
    report.table(table);
    let (cpu_before, kib_before) = (server.family_cpu_seconds(), server.family_anonymous_kib());
    let (began, time) = (Instant::now(), Duration::from_secs_f64(options.number("seconds")?));
    let what = |_| (PEER_PATH.to_owned(), String::new(), 200);
    let pass = |watch: &mut Watch| watch.pass("calls", time, String::new);
    let ended = call_for(target, options.number("submitters")?, what, pass, watch)?;
    report.figure("runs of three steps", ended / began.elapsed().as_secs_f64(), "/s");
    let cpu_s = server.family_cpu_seconds().zip(cpu_before).map(|(after, before)| after - before);
    report.figure("server's processor time", json!(cpu_s.map(|cpu_s| cpu_s * 1e6 / ended)), "µs a run");
    let mib = |kib: u64| kib as f64 / 1024.0;
    let grown = server.family_anonymous_kib().zip(kib_before).map(|(after, before)| mib(after) - mib(before));
    report.figure("memory grown meanwhile", json!(grown), "MiB");
    report.figure("memory", json!(server.family_anonymous_kib().map(mib)), "MiB");
    report.note("this peer answers a call when the run has ended; stepcast answers when the run is in the log");
    server.stop()?;
    Ok(report)
}

/// Runs of three steps a second that a peer gets done, so many in flight.
pub(super) fn peer_rate(server: &Server, in_flight: usize, time: Duration, watch: &mut Watch) -> Outcome<f64> {
    let target = server.target();
    let is_up = || target.call("POST", PEER_PATH, None, "").is_ok_and(|answer| answer.status == 200);
    watch.until("it runs plans", is_up, String::new)?;
    let (what, began) = (|_| (PEER_PATH.to_owned(), String::new(), 200), Instant::now());
    let pass = |watch: &mut Watch| watch.pass("calls", time, String::new);
    Ok(call_for(target, in_flight, what, pass, watch)? / began.elapsed().as_secs_f64())
}

/// What others can do that only pass events on.
fn peer_events(options: &Options, server: &Server, watch: &mut Watch) -> Outcome<Table> {
    let (viewers, lines) = (options.number("viewers")?, options.number("lines")?);
    let mut table = Table::new("plans", &["what", "times", "p50 ms", "p99 ms", "max ms"]);
    for others in [Others::Read, Others::Wait] {
        let latencies = viewers::events(server, viewers, lines, others, watch)?;
        let cells = [json!(viewers::event_name(others)), json!(latencies.len())];
        table.row([&cells[..], &latency_cells(&latencies)].concat());
    }
    Ok(table)
}

/// From the call until a run of three steps has ended, one run after the other.
fn whole_runs(server: &Server, times: usize) -> Outcome<Latencies> {
    let (mut follower, mut caller) = (Follower::start(server.target(), "whole")?, Caller::start(server.target())?);
    let plan = chain(3).to_string();
    let mut latencies = Latencies::default();
    for _ in 0..times {
        let began = Instant::now();
        submit(&mut caller, "whole", &plan)?;
        follower.wait_for(COMPLETED.0, COMPLETED.1)?;
        latencies.record(nanoseconds(began.elapsed()));
    }
    Ok(latencies)
}

/// From the call to the first step that runs, one run after the other.
fn starts(server: &Server, times: usize) -> Outcome<Latencies> {
    let (mut follower, mut caller) = (Follower::start(server.target(), "starts")?, Caller::start(server.target())?);
    let plan = chain(1).to_string();
    let mut latencies = Latencies::default();
    for _ in 0..times {
        let began = Instant::now();
        submit(&mut caller, "starts", &plan)?;
        follower.wait_for(RUNNING.0, RUNNING.1)?;
        latencies.record(nanoseconds(began.elapsed()));
        follower.wait_for(COMPLETED.0, COMPLETED.1)?;
    }
    Ok(latencies)
}

/// From the beginning of each step of a chain to that of the next.
fn steps(server: &Server, length: usize) -> Outcome<Latencies> {
    let (mut follower, mut caller) = (Follower::start(server.target(), "steps")?, Caller::start(server.target())?);
    let plan = chain(length).to_string();
    let mut latencies = Latencies::default();
    for _ in 0..CHAINS {
        submit(&mut caller, "steps", &plan)?;
        follower.wait_for(RUNNING.0, RUNNING.1)?;
        let mut before = Instant::now();
        for _ in 1..length {
            follower.wait_for(RUNNING.0, RUNNING.1)?;
            let now = Instant::now();
            latencies.record(nanoseconds(now - before));
            before = now;
        }
        follower.wait_for(COMPLETED.0, COMPLETED.1)?;
    }
    Ok(latencies)
}

/// Plans of three steps, as fast as they are taken, until the time is up and every run has ended.
fn runs(server: &Server, options: &Options, watch: &mut Watch, report: &mut Report) -> Outcome<()> {
    let time = Duration::from_secs_f64(options.number("seconds")?);
    let ended = || server.target().metric("stepcast_runs_total{status=\"completed\"}").unwrap_or_default();
    let (before, memory_before, cpu_before) = (ended(), server.memory(), server.cpu_seconds());
    let (began, written_before) = (Instant::now(), server.written_bytes());
    let plan = chain(3).to_string();
    let what = |number| (format!("/api/projects/runs{number}/workflows"), plan.clone(), 202);
    let so_far = || format!("{} runs ended", ended() - before);
    let pass = |watch: &mut Watch| watch.pass("plans are submitted", time, so_far);
    let submitted = call_for(server.target(), options.number("submitters")?, what, pass, watch)?;
    watch.until("all runs end", || ended() - before >= submitted, || format!("{} of {submitted}", ended() - before))?;
    let seconds = began.elapsed().as_secs_f64();
    report.figure("runs of three steps", submitted / seconds, "/s");
    let cpu_s = server.cpu_seconds().zip(cpu_before).map(|(after, before)| after - before);
    report.figure("server's processor time", json!(cpu_s.map(|cpu_s| cpu_s * 1e6 / submitted)), "µs a run");
    let written = server.written_bytes().zip(written_before);
    let written_kb = written.map(|(after, before)| (after - before) as f64 / 1000.0 / submitted);
    report.figure("written to the disk", json!(written_kb), "kB a run");
    let grown = server.memory().zip(memory_before);
    let grown = grown.map(|(after, before)| (after.anonymous_kib as f64 - before.anonymous_kib as f64) / 1024.0);
    report.figure("memory grown meanwhile", json!(grown), "MiB");
    if ended() - before > submitted {
        report.fail("more runs ended than were submitted");
    }
    Ok(())
}

/// Calls over so many connections back to back, until `pass` returns; how many were answered as they should be. `what`
/// tells each connection its path, its body and that answer.
fn call_for(
    target: Target,
    connections: usize,
    what: impl Fn(usize) -> (String, String, u16),
    pass: impl FnOnce(&mut Watch) -> Outcome<()>,
    watch: &mut Watch,
) -> Outcome<f64> {
    let is_over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..connections).map(|number| caller(target, what(number), is_over.clone())).collect();
    let passed = pass(watch);
    is_over.store(true, Ordering::Relaxed);
    let joined = callers
        .into_iter()
        .map(|thread| thread.join().map_err(|_| Failure("a caller thread panicked".into()))?)
        .collect::<Vec<Outcome<u64>>>();
    passed?;
    Ok(joined.into_iter().sum::<Outcome<u64>>()? as f64)
}

fn caller(
    target: Target,
    (path, body, expected): (String, String, u16),
    is_over: Arc<AtomicBool>,
) -> JoinHandle<Outcome<u64>> {
    std::thread::spawn(move || {
        let (mut caller, mut answered) = (Caller::start(target)?, 0);
        while !is_over.load(Ordering::Relaxed) {
            call(&mut caller, &path, &body, expected)?;
            answered += 1;
        }
        Ok(answered)
    })
}

pub(super) fn submit(caller: &mut Caller, project: &str, plan: &str) -> Outcome<()> {
    call(caller, &format!("/api/projects/{project}/workflows"), plan, 202)
}

fn call(caller: &mut Caller, path: &str, body: &str, expected: u16) -> Outcome<()> {
    match caller.post(path, body)? {
        status if status == expected => Ok(()),
        status => failure(format!("a plan was answered with {status}")),
    }
}

pub(super) fn chain(length: usize) -> Value {
    let step = |n: usize| match n.checked_sub(1) {
        None => json!({"id": "s0", "tool": "echo"}),
        Some(before) => json!({"id": format!("s{n}"), "tool": "echo", "dependencies": [format!("s{before}")]}),
    };
    json!({"name": "chain", "steps": (0..length).map(step).collect::<Vec<_>>()})
}

pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_as_long_as_was_said_and_each_step_hangs_on_the_one_before() {
        let plan = chain(3);
        let dependencies: Vec<_> =
            plan["steps"].as_array().expect("steps").iter().map(|step| &step["dependencies"]).collect();
        assert_eq!(dependencies, [&Value::Null, &json!(["s0"]), &json!(["s1"])]);
    }
}
