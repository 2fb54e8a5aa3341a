//! What the executor costs: a chain of 400 `echo` steps, runs of one step one after the other, and many runs of three
//! steps, through a whole server in this process, with the log in memory and on disk, timed where a subscriber on loopback
//! sees the messages.
//!
//! `cargo bench --bench workflow`

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stepcast::ProjectId;
use stepcast::config::{AuthMode, Config, DataLocation, ListenAddress};
use stepcast::server::{Builder, Handle};

const CHAIN_STEPS: usize = 400;
const ROUNDS: usize = 20;
const STARTS: usize = 1000;
const SHORT_RUNS: usize = 4000;

type Done<T> = Result<T, Box<dyn Error>>;

fn main() -> Done<()> {
    measure("in memory", DataLocation::Memory)?;
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("workflow-{}", std::process::id()));
    let measured = measure("in SQLite", DataLocation::Directory(directory.clone()));
    // Where there was nothing to keep there is nothing to remove.
    let _ = std::fs::remove_dir_all(directory);
    measured
}

fn measure(what: &str, data: DataLocation) -> Done<()> {
    println!("the log {what}:");
    let mut config =
        Config { listen: ListenAddress::parse("127.0.0.1:0").ok_or("no address")?, data, ..Config::default() };
    config.auth.mode = AuthMode::None;
    config.limits.queued_runs = SHORT_RUNS;
    config.limits.runs_per_project = SHORT_RUNS;
    config.history.messages = 20 * SHORT_RUNS;
    let server = Builder::new(config).start()?;
    chain(server.addresses()[0], &server.handle())?;
    starts(server.addresses()[0], &server.handle())?;
    short_runs(server.addresses()[0], &server.handle())?;
    server.stop()?;
    Ok(())
}

/// From the submission to the last message, and that by the number of steps.
fn chain(address: SocketAddr, handle: &Handle) -> Done<()> {
    let project: ProjectId = "chain".parse()?;
    let plan = plan(CHAIN_STEPS);
    let mut totals = Vec::new();
    for _ in 0..ROUNDS {
        let mut messages = Messages::follow(address, &project)?;
        let began = Instant::now();
        handle.submit(&project, &plan)?;
        while !messages.next()?.contains("\"type\":\"workflow_completed\"") {}
        totals.push(began.elapsed());
    }
    println!("  chain of {CHAIN_STEPS} echo steps, {ROUNDS} runs:");
    println!("    submit to last message  p50 {:?}  p99 {:?}", quantile(&mut totals, 0.5), quantile(&mut totals, 0.99));
    println!("    the same, a step        p50 {:?}", quantile(&mut totals, 0.5) / CHAIN_STEPS as u32);
    Ok(())
}

/// From the submission to the first step, one run after the other.
fn starts(address: SocketAddr, handle: &Handle) -> Done<()> {
    let project: ProjectId = "starts".parse()?;
    let plan = plan(1);
    let mut messages = Messages::follow(address, &project)?;
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let began = Instant::now();
        handle.submit(&project, &plan)?;
        while !messages.next()?.contains("\"status\":\"running\"") {}
        times.push(began.elapsed());
        while !messages.next()?.contains("\"type\":\"workflow_completed\"") {}
    }
    println!("  submit to first step  p50 {:?}  p99 {:?}", quantile(&mut times, 0.5), quantile(&mut times, 0.99));
    Ok(())
}

/// Runs a second, all submitted as fast as they are taken.
fn short_runs(address: SocketAddr, handle: &Handle) -> Done<()> {
    let project: ProjectId = "short".parse()?;
    let plan = plan(3);
    let mut messages = Messages::follow(address, &project)?;
    let began = Instant::now();
    let submitter = {
        let (handle, project) = (handle.clone(), project.clone());
        std::thread::spawn(move || (0..SHORT_RUNS).try_for_each(|_| handle.submit(&project, &plan).map(drop)))
    };
    let mut ended = 0;
    while ended < SHORT_RUNS {
        ended += usize::from(messages.next()?.contains("\"type\":\"workflow_completed\""));
    }
    let took = began.elapsed();
    submitter.join().map_err(|_| "the submitter panicked")??;
    println!("  {SHORT_RUNS} runs of three echo steps: {:.0} runs a second", SHORT_RUNS as f64 / took.as_secs_f64());
    Ok(())
}

fn plan(steps: usize) -> Value {
    let step = |n: usize| match n {
        0 => json!({"id": "s0", "tool": "echo", "inputs": {"n": 0}}),
        _ => {
            json!({"id": format!("s{n}"), "tool": "echo", "inputs": {"n": n}, "dependencies": [format!("s{}", n - 1)]})
        }
    };
    json!({"name": "bench", "steps": (0..steps).map(step).collect::<Vec<_>>()})
}

fn quantile(times: &mut [Duration], q: f64) -> Duration {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * q).round() as usize]
}

/// A project's stream, message by message.
struct Messages {
    stream: BufReader<TcpStream>,
    line: String,
}

impl Messages {
    fn follow(address: SocketAddr, project: &ProjectId) -> Done<Self> {
        let mut socket = TcpStream::connect(address)?;
        write!(socket, "GET /api/sse/projects/{project}?snapshot=0 HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
        let mut messages = Self { stream: BufReader::new(socket), line: String::new() };
        messages.next()?;
        Ok(messages)
    }

    fn next(&mut self) -> Done<&str> {
        loop {
            self.line.clear();
            if self.stream.read_line(&mut self.line)? == 0 {
                return Err("the stream has ended".into());
            }
            if self.line.starts_with("data:") {
                return Ok(&self.line);
            }
        }
    }
}
