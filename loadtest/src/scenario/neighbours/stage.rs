//! What neighbours ask for, set up once on one server: large outputs of a step that runs and of some that have ended, a
//! run of many steps that goes on, many messages, many projects.

use serde_json::{Value, json};

use super::kinds::Kind;
use super::places::{DOWNLOAD, LARGE_RUN, LONG_RUN, RANGES, REPLAYED, output_path, run_id, run_path};
use crate::asker::{Asker, Question, Until};
use crate::failure::{Failure, Outcome, failure};
use crate::fleet::{Fleet, Settings};
use crate::options::Options;
use crate::publisher::{Pace, Plan, Publisher};
use crate::scenario::steps::{NO_BOUNDS, publish_all, wait_for_streams};
use crate::server::{Data, Server, TemporaryDirectory};
use crate::subscriber::Position;
use crate::watch::Watch;

/// Steps of the run with large outputs.
const LARGE_STEPS: u64 = 5;

/// How long a step runs that is to go on: longer than any scenario may take.
const FOR_LONG_MS: u64 = 3_600_000;

/// Tools that print so many bytes in lines; one of them stays then.
const TOOLS: &str = r#"
[tools.print]
kind = "command"
argv = ["sh", "-c", "yes 'a line of what a build or a test prints, of some eighty bytes or so ........' | head -c $1", "print", "{{ inputs.bytes }}"]

[tools.print_and_stay]
kind = "command"
argv = ["sh", "-c", "yes 'a line of what a build or a test prints, of some eighty bytes or so ........' | head -c $1; exec sleep 3600", "print", "{{ inputs.bytes }}"]
"#;

/// How large all of it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    range_bytes: u64,
    run_bytes: u64,
    download_bytes: u64,
    steps: usize,
    messages: u64,
    clients: usize,
    projects: usize,
    payload_bytes: usize,
    asks_per_second: f64,
}

impl Sizes {
    /// As it was asked for.
    pub(super) fn new(options: &Options) -> Outcome<Self> {
        let megabytes = |name| options.number(name).map(|megabytes: u64| megabytes * 1_000_000);
        Ok(Self {
            range_bytes: megabytes("range-mb")?,
            run_bytes: megabytes("run-mb")?,
            download_bytes: megabytes("download-mb")?,
            steps: options.number("steps")?,
            messages: options.number("messages")?,
            clients: options.number("clients")?,
            projects: options.number("projects")?,
            payload_bytes: options.number("payload")?,
            asks_per_second: options.number("asks")?,
        })
    }
}

/// The server with all that is set up on it.
#[derive(Debug)]
pub(super) struct Stage {
    pub server: Server,
    /// How often a neighbour asks at most; 0 for as often as it is answered.
    pub asks_per_second: f64,
    clients: usize,
    /// From before the first message that is replayed.
    position: Option<Position>,
    /// Projects whose runs go on.
    running: Vec<&'static str>,
    /// With the declared tools.
    _directory: TemporaryDirectory,
}

impl Stage {
    /// Sets up what these neighbours ask for.
    pub(super) fn set(
        options: &Options,
        data: Data,
        kinds: &[Kind],
        sizes: &Sizes,
        watch: &mut Watch,
    ) -> Outcome<Self> {
        let directory = TemporaryDirectory::new()?;
        let config = directory.path().join("stepcast.toml");
        std::fs::write(&config, TOOLS)?;
        let config = config.to_string_lossy().into_owned();
        let history = (sizes.messages + sizes.messages / 10).max(10_000).to_string();
        let own = ["--config", &config, "--history-messages", &history, "--executor-grace", "100ms"];
        let server = Server::start(&options.server, data, &[&NO_BOUNDS[..], &own].concat())?;
        let mut stage = Self {
            server,
            asks_per_second: sizes.asks_per_second,
            clients: sizes.clients,
            position: None,
            running: Vec::new(),
            _directory: directory,
        };
        for kind in kinds {
            stage.set_for(*kind, sizes, watch)?;
        }
        Ok(stage)
    }

    fn set_for(&mut self, kind: Kind, sizes: &Sizes, watch: &mut Watch) -> Outcome<()> {
        match kind {
            Kind::Ranges => self.print_and_stay(sizes.range_bytes, watch),
            Kind::LargeRun => self.print(LARGE_RUN, LARGE_STEPS, sizes.run_bytes / LARGE_STEPS, watch),
            Kind::Downloads => self.print(DOWNLOAD, 1, sizes.download_bytes, watch),
            Kind::Attaches => self.run_for_long(sizes.steps, watch),
            Kind::Replay => {
                self.position = Some(first_position(watch, &self.server)?);
                publish_all(watch, &self.server, REPLAYED, sizes.messages, sizes.payload_bytes).map(drop)
            }
            Kind::Lists => self.publish_to_many(sizes, watch),
            Kind::Nobody | Kind::Healthz | Kind::UnreadOwn | Kind::UnreadOther => Ok(()),
        }
    }

    /// A step that has printed all that it prints, and runs on.
    fn print_and_stay(&mut self, bytes: u64, watch: &mut Watch) -> Outcome<()> {
        self.running.push(RANGES);
        let step = json!({"id": "s0", "tool": "print_and_stay", "inputs": {"bytes": bytes}});
        self.submit(RANGES, vec![step])?;
        let (mut asker, target) = (Asker::new(self.server.target()), self.server.target());
        let last = format!("Range: bytes={}-{}\r\n", bytes.saturating_sub(10), bytes.saturating_sub(1));
        let last = Question::get(target, &output_path(RANGES), &last, Until::End);
        // While the last bytes are not there the range can't be satisfied.
        let is_there = || asker.ask(&last, || false).is_ok_and(|status| status == Some(206));
        watch.until("a running step has printed", is_there, String::new)
    }

    /// A run that has ended, of steps that print.
    fn print(&self, project: &str, steps: u64, bytes: u64, watch: &mut Watch) -> Outcome<()> {
        let step = |n| json!({"id": format!("s{n}"), "tool": "print", "inputs": {"bytes": bytes}});
        self.submit(project, (0..steps).map(step).collect())?;
        watch.until("a run has printed", || self.state(project)["status"] == "completed", String::new)
    }

    /// A run of many steps, all of which but one have ended.
    fn run_for_long(&mut self, steps: usize, watch: &mut Watch) -> Outcome<()> {
        self.running.push(LONG_RUN);
        let echo = |n| json!({"id": format!("s{n}"), "tool": "echo"});
        let delay = json!({"id": "last", "tool": "delay", "inputs": {"ms": FOR_LONG_MS}});
        self.submit(LONG_RUN, (1..steps).map(echo).chain([delay]).collect())?;
        let done = || self.state(LONG_RUN)["progress"]["completed"].as_u64().unwrap_or(0);
        watch.until("a long run is at its last step", || done() + 1 >= steps as u64, || done().to_string())
    }

    /// A message to each of many projects.
    fn publish_to_many(&self, sizes: &Sizes, watch: &mut Watch) -> Outcome<()> {
        let publisher = Publisher::start(Plan {
            target: self.server.target(),
            projects: (0..sizes.projects).map(|n| format!("listed{n}")).collect(),
            payload_bytes: sizes.payload_bytes,
            batch: 1,
            connections: 8,
            pace: Pace::BackToBack,
            requests: sizes.projects as u64,
            token: self.server.token(),
        })?;
        watch.until("all projects have a message", || publisher.is_finished(), String::new)?;
        publisher.stop().map(drop)
    }

    fn submit(&self, project: &str, steps: Vec<Value>) -> Outcome<()> {
        let body = json!({"plan": {"name": project, "steps": steps}, "runId": run_id(project)}).to_string();
        let answer = self.server.target().call("POST", &format!("/api/projects/{project}/workflows"), None, &body)?;
        if answer.status == 202 {
            Ok(())
        } else {
            failure(format!("a plan was answered {}: {}", answer.status, answer.body))
        }
    }

    /// The state of a project's run, as far as it is known.
    fn state(&self, project: &str) -> Value {
        let state = self.server.target().get(&format!("{}?outputs=cut", run_path(project)));
        state.ok().and_then(|body| serde_json::from_str(&body).ok()).unwrap_or_default()
    }

    /// The clients that everything is replayed to.
    pub(super) fn replay_settings(&self) -> Outcome<Settings> {
        let position = self.position.clone().ok_or_else(|| Failure("nothing to replay was set up".to_owned()))?;
        let settings = Settings::new(self.server.target(), REPLAYED, self.clients);
        Ok(Settings { position: Some(position), ..settings })
    }

    /// Ends what runs, and the server.
    pub(super) fn strike(self, watch: &mut Watch) -> Outcome<()> {
        for project in &self.running {
            let cancelled = self.server.target().call("POST", &format!("{}/cancel", run_path(project)), None, "")?;
            if cancelled.status != 202 {
                return failure(format!("a cancel was answered {}", cancelled.status));
            }
            watch.until("a run is cancelled", || self.state(project)["status"] == "cancelled", String::new)?;
        }
        self.server.stop()
    }
}

/// A genuine id from before the first message.
fn first_position(watch: &mut Watch, server: &Server) -> Outcome<Position> {
    let fleet = Fleet::open_new(&Settings::new(server.target(), REPLAYED, 1))?;
    wait_for_streams(watch, &fleet, 1)?;
    fleet.position()?.ok_or_else(|| Failure("the message `connected` has no id".to_owned()))
}
