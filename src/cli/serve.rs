//! `stepcast serve`: runs a server until it is told to stop.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use signal_hook::consts::SIGXFSZ;
use signal_hook::flag;

use super::args::Settings;
use super::current::Current;
use super::error::CommandError;
use super::service::{Notifier, activation};
use super::signals::Hangup;
use super::upgrade::{HandedOver, Predecessor, Succession};
use super::{logging, signals};
use crate::clock;
use crate::server::{Builder, RunningServer, StartError};

/// How long a store that can't be opened after an upgrade that failed is tried. What starts this process again then may do
/// better, with the program that is on the disk by now.
const OPEN_PATIENCE: Duration = Duration::from_secs(60);

/// How often.
const OPEN_PACE: Duration = Duration::from_secs(1);

pub(super) fn serve(settings: Settings, insecure: bool) -> Result<ExitCode, CommandError> {
    let mut predecessor = Predecessor::here()?;
    let listeners = match &predecessor {
        Some(predecessor) => predecessor.listeners()?,
        None => activation::listeners()?,
    };
    let loaded = settings.load()?;
    let mut config = loaded.config;
    // A log that is there already belongs to whoever embeds this, and is as good.
    let _ = logging::start(config.log.level, Box::new(io::stderr()));
    activation::take_places(&mut config, &listeners);
    config.check_for_serving(insecure)?;
    loaded.warnings.iter().for_each(|warning| log::warn!("{warning}"));
    survive_file_limit()?;
    if cfg!(not(feature = "sqlite")) {
        log::info!("this program was built without the feature sqlite: messages and runs are kept in memory only");
    }
    let notifier = Notifier::from_environment();
    let upgradable = Succession::on_signal(notifier.clone());
    let succession = upgradable.map_err(|error| CommandError::io("install signal handlers", &error))?;
    let mut builder = Builder::new(config.clone()).listeners(listeners).prepare()?;
    if let Some(predecessor) = &predecessor {
        builder = builder.connections(predecessor.take_over()?);
    }
    let current = Current::default();
    let mut server = builder.start()?;
    current.set(&server);
    obey(&server, &current, &notifier)?;
    loop {
        announce(&server, &succession, predecessor.take());
        let released = server.release();
        current.leave();
        let Some(legacy) = released.map_err(|error| CommandError::io("continue serving", &error))? else {
            succession.end();
            break;
        };
        let HandedOver::GoOn(listeners, connections) = succession.hand_over(legacy)? else { break };
        let builder = Builder::new(config.clone()).listeners(listeners).connections(connections);
        let Some(again) = start_again(builder, &current, &notifier)? else { break };
        current.set(&again);
        server = again;
    }
    log::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Has the current server obey signals and show that it lives, from the first one on.
fn obey(server: &RunningServer, current: &Current, notifier: &Notifier) -> Result<(), CommandError> {
    let (telling, reloading, living) = (notifier.clone(), current.clone(), current.clone());
    let hangup = match server.tls() {
        Some(_) => Hangup::Calls(Box::new(move || reloading.reload())),
        None => Hangup::Asks,
    };
    stop_on_signal(current.clone(), move || telling.stopping(), hangup)?;
    notifier.beat_with(move || living.turns()).map_err(|error| CommandError::io("start a thread", &error))
}

/// Tells everyone who has to know that a server serves.
fn announce(server: &RunningServer, succession: &Succession, predecessor: Option<Predecessor>) {
    if let Some(predecessor) = predecessor {
        log::info!("taking over from process {}", predecessor.pid());
        predecessor.relieve();
    }
    let all = server.listeners().upgrade();
    let by_path = all.iter().flat_map(|all| all.iter()).filter(|it| it.address().is_none()).map(ToString::to_string);
    let at: Vec<String> = server.urls().into_iter().chain(by_path).collect();
    // Whoever reads below that it listens may have it upgraded.
    succession.serves(server, format!("serving at {}", at.join(", ")));
    at.iter().for_each(|at| log::info!("listening on {at}"));
}

/// Starts a server after an upgrade that failed. Its store may be held for a moment more by a process that is gone, or not
/// be there for another reason that passes; nothing, where this process is told to stop meanwhile.
fn start_again(
    builder: Builder,
    current: &Current,
    notifier: &Notifier,
) -> Result<Option<RunningServer>, CommandError> {
    let began = clock::mono();
    let wait = |error: StartError| {
        if clock::mono() - began >= OPEN_PATIENCE {
            return Err(error);
        }
        log::error!("{error}; trying again");
        notifier.trouble(&format!("{error}"));
        if current.is_told_to_stop_within(OPEN_PACE) { Err(error) } else { Ok(()) }
    };
    match builder.start_once_open(wait) {
        Err(_) if current.is_told_to_stop() => Ok(None),
        started => Ok(Some(started?)),
    }
}

/// A file that has come to the size limit of the process (`ulimit -f`) is an error of the write that came there, as a full
/// disk is, and not the end of the process. Caught, not ignored: commands would inherit that.
fn survive_file_limit() -> Result<(), CommandError> {
    let caught = flag::register(SIGXFSZ, Arc::default());
    caught.map(drop).map_err(|error| CommandError::io("install a signal handler", &error))
}

/// The first signal ends the server gracefully, once `before` has been called, the second at once.
pub(super) fn stop_on_signal(
    current: Current,
    before: impl FnOnce() + Send + 'static,
    hangup: Hangup,
) -> Result<(), CommandError> {
    let again = current.clone();
    signals::watch(
        hangup,
        move || {
            before();
            current.stop();
        },
        move |_| {
            // The first may not have come here: SIGQUIT does not ask.
            again.stop();
            again.stop();
        },
    )
}
