//! `stepcast demo`: a server on loopback that runs sample plans of several shapes, one after another, until it is stopped.

use std::fs::{self, DirBuilder};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::args::Settings;
use super::current::Current;
use super::error::CommandError;
use super::follow::{Envelope, Follower, Said, ServerUrl, Target};
use super::logging;
use super::output::say;
use super::progress::Progress;
use super::serve::stop_on_signal;
use super::signals::Hangup;
use crate::clock;
use crate::config::{AuthMode, Config, DataLocation, ListenAddress, Sources, TlsConfig};
use crate::executor::tool::{ToolDeclaration, ToolKind};
use crate::model::{ProjectId, RunEvent};
use crate::server::{Builder, Handle};

/// The project that the demo's runs belong to.
const PROJECT: &str = "demo";

/// Between two runs.
const PAUSE: Duration = Duration::from_secs(3);

/// Real commands that every machine with a POSIX shell has.
const TOOLS: &str = include_str!("demo.toml");
/// A list of plans.
const PLANS: &str = include_str!("demo.json");

pub(super) fn demo(settings: Settings) -> Result<ExitCode, CommandError> {
    let has_address = settings.has_flag("listen");
    let loaded = settings.load()?;
    let _ = logging::start(loaded.config.log.level.min(log::LevelFilter::Warn), Box::new(io::stderr()));
    let scratch = Scratch::new().map_err(|error| CommandError::io("create a working directory", &error))?;
    let server = start(loaded.config, has_address, &scratch)?;
    let current = Current::default();
    current.set(&server);
    stop_on_signal(current, || (), Hangup::Asks)?;
    let address = server.addresses()[0];
    let project = ProjectId::parse(PROJECT).map_err(|error| CommandError::new(error.to_string()))?;
    if cfg!(feature = "dashboard") {
        say(format_args!("Open http://{address}/#/p/{PROJECT} in a browser to watch.\n"))?;
    }
    say(format_args!(
        "Sample plans run in the project \"{PROJECT}\" until you press Ctrl-C. To follow them in another terminal:"
    ))?;
    say(format_args!("  stepcast watch {PROJECT} --url http://{address}"))?;
    say(format_args!("  curl -N http://{address}/api/sse/projects/{PROJECT}\n"))?;

    let events = Events::follow(address, &project)?;
    let handle = server.handle();
    let stopper = server.stopper();
    let shown = thread::spawn(move || {
        let shown = show(events, &handle, &project);
        // What nobody sees any more is over.
        if shown.is_err() {
            stopper.stop();
        }
        shown
    });
    server.wait().map_err(|error| CommandError::io("continue serving", &error))?;
    match shown.join() {
        Ok(result) => result.map(|()| ExitCode::SUCCESS),
        Err(_) => Err(CommandError::new("the display thread panicked")),
    }
}

/// A server with the demo's tools, for this machine alone. At the usual address where that is free, or else at any.
fn start(
    mut config: Config,
    has_address: bool,
    scratch: &Scratch,
) -> Result<crate::server::RunningServer, CommandError> {
    let sources = Sources { file: Some(("demo.toml".into(), TOOLS.into())), ..Sources::default() };
    config.tools.extend(sources.resolve()?.config.tools.into_iter().map(|tool| scratch.given_to(tool)));
    config.auth.mode = AuthMode::None;
    // A demo sends no webhooks.
    config.webhooks.clear();
    config.data = DataLocation::Memory;
    // It is for this machine, and is followed at the plain address.
    config.tls = TlsConfig::default();
    config.check_for_serving(false)?;
    let mut elsewhere = config.clone();
    match Builder::new(config).start() {
        Ok(server) => Ok(server),
        Err(error) if has_address => Err(error.into()),
        Err(_) => {
            elsewhere.listen = ListenAddress::parse("127.0.0.1:0")
                .ok_or_else(|| CommandError::new("127.0.0.1:0 is not an address"))?;
            Ok(Builder::new(elsewhere).start()?)
        }
    }
}

/// Where the plan's commands leave their files. Goes with all that is in it, also where a run ends before it has tidied up.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> io::Result<Self> {
        let started = clock::wall().as_millis();
        let path = std::env::temp_dir().join(format!("stepcast-demo.{}-{started}", std::process::id()));
        // Made by nobody else: fails where it is there.
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    /// The tool, told to work there.
    fn given_to(&self, mut tool: ToolDeclaration) -> ToolDeclaration {
        if let (ToolKind::Command(command), Some(path)) = (&mut tool.kind, self.0.to_str()) {
            command.env.push(("TMPDIR".to_owned(), path.to_owned()));
        }
        tool
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            log::warn!("cannot remove {}: {error}", self.0.display());
        }
    }
}

/// What runs say in the demo's stream, as any client hears it.
struct Events(Follower);

impl Events {
    fn follow(address: SocketAddr, project: &ProjectId) -> Result<Self, CommandError> {
        let server = ServerUrl::of(address);
        let target = Target { server, token: None, project: project.clone(), run: None, snapshots: false };
        let mut follower = Follower::new(target);
        // `connected` is the first message: once it is here, everything later comes too.
        follower.next()?;
        Ok(Self(follower))
    }
}

impl Iterator for Events {
    type Item = RunEvent;

    /// The next message of a run; none once the stream has ended, for then the server ends.
    fn next(&mut self) -> Option<RunEvent> {
        while let Ok(Said::Message(message)) = self.0.next() {
            let event = Envelope::read(&message).and_then(|envelope| envelope.event());
            if event.is_some() {
                return event;
            }
        }
        None
    }
}

/// Runs a plan, shows what the stream says of it, waits, and runs the next, until the stream ends.
fn show(mut events: Events, handle: &Handle, project: &ProjectId) -> Result<(), CommandError> {
    let plans: Vec<Value> =
        serde_json::from_str(PLANS).map_err(|error| CommandError::new(format!("demo.json: {error}")))?;
    let (sender, waiting) = mpsc::sync_channel(0);
    let feeder = thread::spawn(move || events.by_ref().all(|event| sender.send(event).is_ok()));
    for plan in plans.iter().cycle() {
        if handle.submit(project, plan).is_err() {
            break;
        }
        let mut progress = Progress::stdout();
        let mut has_ended = false;
        while !has_ended && !progress.is_broken() {
            let Ok(event) = waiting.recv() else { break };
            progress.on_event(&event);
            has_ended = event.is_last();
        }
        progress.finish().map_err(|error| CommandError::stdout(&error))?;
        // The stream says nothing between two runs, unless the server ends.
        match waiting.recv_timeout(PAUSE) {
            Err(mpsc::RecvTimeoutError::Timeout) if has_ended => say("")?,
            _ => break,
        }
    }
    drop(waiting);
    let _ = feeder.join();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_demos_commands_leave_behind_goes_with_the_demo() {
        let scratch = Scratch::new().expect("a directory");
        let path = scratch.0.clone();
        let sources = Sources { file: Some(("demo.toml".into(), TOOLS.into())), ..Sources::default() };
        let tools = sources.resolve().expect("it is good").config.tools;
        for tool in tools.into_iter().map(|tool| scratch.given_to(tool)) {
            let ToolKind::Command(command) = tool.kind else { panic!("{} is no command", tool.name) };
            assert_eq!(command.env, [("TMPDIR".to_owned(), path.display().to_string())]);
        }
        fs::create_dir(path.join("stepcast-demo.x")).expect("a run's directory");
        fs::write(path.join("stepcast-demo.x/part-1.txt"), "x").expect("a file");
        drop(scratch);
        assert!(!path.exists());
    }
}
