//! `stepcast watch`: follows the runs of a server in the terminal.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;

use crossbeam_channel::{Sender, bounded};
use serde::Deserialize;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::error::CommandError;
use super::follow::{Envelope, Follower, Said, ServerUrl, Target};
use super::progress::{Progress, Screen};
use crate::clock;
use crate::config::Secret;
use crate::model::{ProjectId, RunEvent, RunEventKind, RunId, RunState, RunStatus};
use crate::text::{duration, label, one_line};

/// The environment variable that holds the token if no flag gives one.
const TOKEN_VARIABLE: &str = "STEPCAST_TOKEN";

/// How many messages may wait for a terminal that is slower than the stream; then the stream waits.
const WAITING_MAX: usize = 256;

/// How many ended runs are remembered, so that a snapshot does not show one again. A server sends snapshots of runs
/// that ended within the last minute.
const ENDED_MAX: usize = 1024;

/// What to watch, and how to show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchRequest {
    /// The project.
    pub project: ProjectId,
    /// The server.
    pub server: ServerUrl,
    /// The access token; if there is none, the environment may have one.
    pub token: Option<Secret>,
    /// Watch this run alone, to its end.
    pub run: Option<RunId>,
    /// Print messages as JSON lines instead of the progress display.
    pub json: bool,
}

/// What comes to the thread that shows things.
enum Heard {
    Said(Result<Said, CommandError>),
    Stopped,
}

pub(super) fn watch(request: WatchRequest) -> Result<ExitCode, CommandError> {
    let WatchRequest { project, server, token, run, json } = request;
    let token = token_or_environment(token)?;
    let mut watched = Watched::new(run.clone(), json);
    let (sender, heard) = bounded(WAITING_MAX);
    tell_of_signals(sender.clone())?;
    follow(Follower::new(Target { server, token, project, run, snapshots: true }), sender)?;
    for heard in heard {
        let verdict = match heard {
            Heard::Said(said) => watched.hear(said?),
            Heard::Stopped => Ok(Some(watched.status_when_stopped())),
        };
        if let Some(status) = verdict.map_err(|error| CommandError::stdout(&error))? {
            watched.finish().map_err(|error| CommandError::stdout(&error))?;
            return Ok(ExitCode::from(status));
        }
    }
    Err(CommandError::new("the thread that follows the stream ended unexpectedly"))
}

/// The access token, from the flag or the environment.
pub(super) fn token_or_environment(token: Option<Secret>) -> Result<Option<Secret>, CommandError> {
    let token = token.or_else(|| std::env::var(TOKEN_VARIABLE).ok().filter(|token| !token.is_empty()).map(Secret::new));
    match token.as_ref().is_some_and(|token| !token.expose().bytes().all(|byte| byte.is_ascii_graphic())) {
        true => Err(CommandError::new("the token contains characters that are not allowed in a token")),
        false => Ok(token),
    }
}

fn follow(mut follower: Follower, to: Sender<Heard>) -> Result<(), CommandError> {
    let follow = move || {
        loop {
            let said = follower.next();
            let is_last = !matches!(said, Ok(Said::Message(_) | Said::Lost { .. }));
            if to.send(Heard::Said(said)).is_err() || is_last {
                return;
            }
        }
    };
    let thread = thread::Builder::new().name("follow".into()).spawn(follow);
    thread.map(drop).map_err(|error| CommandError::io("start a thread", &error))
}

/// The first signal ends the watch with what there is to say, the second at once.
fn tell_of_signals(to: Sender<Heard>) -> Result<(), CommandError> {
    let signals = Signals::new([SIGINT, SIGTERM]);
    let mut signals = signals.map_err(|error| CommandError::io("install signal handlers", &error))?;
    let tell = move || {
        let mut arrived = signals.forever();
        if arrived.next().is_some() {
            let telling = thread::Builder::new().spawn(move || to.send(Heard::Stopped));
            if telling.is_err() || arrived.next().is_some() {
                std::process::exit(130);
            }
        }
    };
    let thread = thread::Builder::new().name("signals".into()).spawn(tell);
    thread.map(drop).map_err(|error| CommandError::io("start a thread", &error))
}

/// What is shown.
struct Watched {
    screen: Screen,
    json: bool,
    /// The one run that is watched.
    only: Option<RunId>,
    runs: BTreeMap<RunId, Shown>,
    ended: VecDeque<RunId>,
    is_lost: bool,
}

struct Shown {
    progress: Progress,
    /// The stream began again, and has not said yet whether this run goes on.
    is_in_doubt: bool,
}

/// What the program exits with, where it is over.
type Verdict = io::Result<Option<u8>>;

impl Watched {
    fn new(only: Option<RunId>, json: bool) -> Self {
        let screen = if json { Screen::Plain } else { Screen::stdout() };
        Self { screen, json, only, runs: BTreeMap::new(), ended: VecDeque::new(), is_lost: false }
    }

    fn hear(&mut self, said: Said) -> Verdict {
        match said {
            Said::Message(message) => self.show(&message),
            Said::Lost { why, again_in } => {
                self.is_lost = true;
                let again_in = duration(u64::try_from(again_in.as_millis()).unwrap_or(u64::MAX));
                self.tell(&format!("{why}; reconnecting in {again_in}"));
                Ok(None)
            }
            Said::Over => {
                self.tell("the run has already ended");
                Ok(Some(1))
            }
        }
    }

    /// Says something of the stream itself: no part of what a pipe reads.
    fn tell(&self, text: &str) {
        // If that can't be written, there is no one to report it to.
        let _ = writeln!(self.screen.log_output(), "stepcast: {}", one_line(text));
    }

    fn show(&mut self, message: &str) -> Verdict {
        let Some(envelope) = Envelope::read(message) else {
            self.tell("skipped a message that cannot be read");
            return Ok(None);
        };
        if self.json {
            writeln!(io::stdout().lock(), "{message}")?;
        }
        let payload = envelope.payload.get();
        match envelope.message_type {
            "connected" => {
                if std::mem::take(&mut self.is_lost) {
                    self.tell("reconnected");
                }
            }
            "stream_closing" => self.tell(&format!("the server is closing the stream: {}", reason(payload))),
            "stream_reset" => {
                self.tell(&format!("messages sent in the meantime are no longer available: {}", reason(payload)));
                self.runs.values_mut().for_each(|shown| shown.is_in_doubt = true);
            }
            "workflow_snapshot" => {
                if let Ok(state) = RunState::from_json(payload.as_bytes()) {
                    return self.catch_up(&state);
                }
            }
            kind => {
                self.end_missing_runs()?;
                match envelope.event() {
                    Some(event) => return self.move_on(&event),
                    None if self.json => {}
                    None => self.screen.say(&format!("{kind} {payload}"))?,
                }
            }
        }
        Ok(None)
    }

    /// A run said something.
    fn move_on(&mut self, event: &RunEvent) -> Verdict {
        let is_completed = matches!(event.kind, RunEventKind::Completed(_));
        if !self.json {
            let shown = self.shown(&event.run_id);
            shown.progress.on_event(event);
            if shown.progress.is_broken() {
                return self.end_run(&event.run_id).and(Ok(Some(1)));
            }
        }
        if !event.is_last() {
            return Ok(None);
        }
        self.end_run(&event.run_id)?;
        Ok(self.status_of(&event.run_id, is_completed))
    }

    /// A run is in this state.
    fn catch_up(&mut self, state: &RunState) -> Verdict {
        if self.ended.contains(&state.run_id) {
            return Ok(None);
        }
        if !self.json {
            let shown = self.shown(&state.run_id);
            shown.is_in_doubt = false;
            shown.progress.catch_up(state, clock::wall());
        }
        if !state.status.is_ended() {
            return Ok(None);
        }
        self.end_run(&state.run_id)?;
        Ok(self.status_of(&state.run_id, state.status == RunStatus::Completed))
    }

    fn shown(&mut self, run: &RunId) -> &mut Shown {
        let Self { runs, screen, only, .. } = self;
        runs.entry(run.clone()).or_insert_with(|| {
            let label = only.is_none().then(|| label(run));
            Shown { progress: screen.progress(label.as_deref()), is_in_doubt: false }
        })
    }

    fn end_run(&mut self, run: &RunId) -> io::Result<()> {
        if self.ended.len() == ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(run.clone());
        self.runs.remove(run).map_or(Ok(()), |shown| shown.progress.finish())
    }

    /// After a stream has begun again, its snapshots come first: a run without a snapshot has ended meanwhile.
    fn end_missing_runs(&mut self) -> io::Result<()> {
        let in_doubt = self.runs.iter().filter(|(_, shown)| shown.is_in_doubt);
        let gone: Vec<RunId> = in_doubt.map(|(run, _)| run.clone()).collect();
        for run in gone {
            self.tell(&format!("the rest of run {run} is no longer available"));
            self.end_run(&run)?;
        }
        Ok(())
    }

    fn status_of(&self, run: &RunId, is_completed: bool) -> Option<u8> {
        (self.only.as_ref() == Some(run)).then_some(u8::from(!is_completed))
    }

    /// Someone has seen enough: of a project that is how it ends, of a run it is not.
    fn status_when_stopped(&self) -> u8 {
        if self.only.is_some() { 130 } else { 0 }
    }

    fn finish(self) -> io::Result<()> {
        self.runs.into_values().try_for_each(|shown| shown.progress.finish())
    }
}

/// What a message of the stream itself gives as its reason.
fn reason(payload: &str) -> String {
    #[derive(Deserialize)]
    struct Reason {
        reason: String,
    }
    serde_json::from_str::<Reason>(payload).map_or_else(|_| "no reason given".to_owned(), |it| it.reason)
}
