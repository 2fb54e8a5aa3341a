//! `stepcast run`: runs a plan in this process, and shows its progress in the terminal.

use std::collections::HashMap;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use crossbeam_channel::{Receiver, unbounded};
use serde_json::{Map, Value};

use super::args::{PlanSource, Settings};
use super::ask::Asker;
use super::error::CommandError;
use super::progress::Progress;
use super::signals::Hangup;
use super::{load, logging, plan_file, signals};
use crate::clock;
use crate::executor::{Executor, ExecutorHandle, NewRun, Settings as ExecutorSettings};
use crate::model::{ProjectId, Record, RunEvent, RunEventKind, RunId, write_message};
use crate::random;

/// What the run's messages name as their project.
const PROJECT: &str = "local";

pub(super) fn run(
    settings: Settings,
    source: &PlanSource,
    inputs: Map<String, Value>,
    json: bool,
) -> Result<ExitCode, CommandError> {
    let config = load(settings)?;
    let context = plan_file::context(&config)?;
    let plan = Arc::new(plan_file::read(source, Some(inputs), &context, &config)?);
    let mut view = View::new(json);
    // A log that is there already belongs to whoever embeds this, and is as good.
    let _ = logging::start(config.log.level, view.log_output());

    let (records, said) = unbounded();
    let settings =
        ExecutorSettings { workers: config.executor.workers, active_runs_max: 1, grace: config.executor.grace };
    let executor = Executor::start(settings, context, move |batch| records.send(batch).map_err(|error| error.0));
    let executor = executor.map_err(|error| CommandError::io("start the workers", &error))?;
    let project = ProjectId::parse(PROJECT).map_err(|error| CommandError::new(error.to_string()))?;
    let run = RunId::from_random(random::bits()?);
    let (handle, cancelled) = (executor.handle(), (project.clone(), run.clone()));
    signals::watch(Hangup::Asks, move || handle.cancel(cancelled.0, cancelled.1), signals::end)?;
    let mut asker = Asker::start(executor.handle(), project.clone(), run.clone());
    let created_at = clock::wall();
    let (seed, whole_outputs) = (created_at.as_millis(), HashMap::new());
    executor.handle().start(NewRun {
        project: project.clone(),
        run,
        plan,
        created_at,
        seed,
        whole_outputs,
        is_held: false,
    });

    let has_completed = show(&said, &executor.handle(), &mut view, &project, &mut asker);
    executor.handle().shutdown();
    executor.join().map_err(|error| CommandError::new(error.to_string()))?;
    match view.finish().map_err(|error| CommandError::stdout(&error)) {
        // The run went on to its end all the same, and how that was is the answer.
        Err(error) if !error.is_reader_gone() => return Err(error),
        _ => {}
    }
    Ok(if has_completed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Shows the run's messages until its last one; whether it completed. What was shown counts as kept.
fn show(
    said: &Receiver<Vec<Record>>,
    executor: &ExecutorHandle,
    view: &mut View,
    project: &ProjectId,
    asker: &mut Asker,
) -> bool {
    for batch in said {
        for record in batch {
            if let Record::Verdict { verdict, .. } = &record {
                asker.on_verdict(verdict);
            }
            for event in record.events() {
                view.on_event(event, project);
                let question = asker.hear(event);
                view.hold(asker.is_asking());
                if let Some(question) = question {
                    asker.ask(question);
                }
                if event.is_last() {
                    return matches!(event.kind, RunEventKind::Completed(_));
                }
            }
        }
        executor.kept(1);
    }
    false
}

/// How a run is shown.
enum View {
    Progress(Box<Progress>),
    /// The messages themselves, one a line.
    Json {
        seq: u64,
        written: io::Result<()>,
    },
}

impl View {
    fn new(json: bool) -> Self {
        if json { Self::Json { seq: 0, written: Ok(()) } } else { Self::Progress(Box::new(Progress::stdout())) }
    }

    fn log_output(&self) -> Box<dyn Write + Send> {
        match self {
            Self::Progress(progress) => progress.log_output(),
            Self::Json { .. } => Box::new(io::stderr()),
        }
    }

    fn on_event(&mut self, event: &RunEvent, project: &ProjectId) {
        match self {
            Self::Progress(progress) => progress.on_event(event),
            Self::Json { seq, written } => {
                *seq += 1;
                if written.is_ok() {
                    *written = write_line(event, project, *seq);
                }
            }
        }
    }

    /// While someone is asked, nothing is written over what they type.
    fn hold(&mut self, is_held: bool) {
        if let Self::Progress(progress) = self {
            progress.hold(is_held);
        }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Progress(progress) => progress.finish(),
            Self::Json { written, .. } => written,
        }
    }
}

fn write_line(event: &RunEvent, project: &ProjectId, seq: u64) -> io::Result<()> {
    let mut line = Vec::new();
    write_message(&mut line, event.message_type(), project, seq, &serde_json::to_vec(event)?);
    line.push(b'\n');
    io::stdout().lock().write_all(&line)
}
