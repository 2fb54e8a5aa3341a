//! `stepcast serve`: runs a server until it is told to stop.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use signal_hook::consts::SIGXFSZ;
use signal_hook::flag;

use super::args::Settings;
use super::error::CommandError;
use super::service::{Notifier, activation};
use super::signals::Hangup;
use super::upgrade::{HandedOver, Predecessor, Succession};
use super::{logging, signals};
use crate::server::{Builder, RunningServer, Stopper, Tls};

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
    let mut former: Option<Stopper> = None;
    loop {
        let server = builder.start()?;
        begin_serving(&server, &succession, &notifier, predecessor.take())?;
        let stopper = server.stopper();
        // Whoever told the one before to end, while this one was starting, meant this one.
        let is_told = former.replace(stopper.clone()).is_some_and(|former| former.is_told_to_stop());
        if is_told && !stopper.is_told_to_stop() {
            stopper.stop();
        }
        let Some(legacy) = server.release().map_err(|error| CommandError::io("continue serving", &error))? else {
            succession.end();
            break;
        };
        match succession.hand_over(legacy) {
            HandedOver::Over => break,
            HandedOver::GoOn(listeners, connections) => {
                builder = Builder::new(config.clone()).listeners(listeners).connections(connections);
            }
        }
    }
    log::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Tells everyone who has to know that a server serves, and has it obey signals.
fn begin_serving(
    server: &RunningServer,
    succession: &Succession,
    notifier: &Notifier,
    predecessor: Option<Predecessor>,
) -> Result<(), CommandError> {
    let telling = notifier.clone();
    let hangup = match server.tls() {
        Some(tls) => Hangup::Calls(Box::new(move || reload(&tls))),
        None => Hangup::Asks,
    };
    stop_on_signal(server.stopper(), move || telling.stopping(), hangup)?;
    if let Some(predecessor) = predecessor {
        log::info!("taking over from process {}", predecessor.pid());
        predecessor.relieve();
    }
    let all = server.listeners().upgrade();
    let by_path = all.iter().flat_map(|all| all.iter()).filter(|it| it.address().is_none()).map(ToString::to_string);
    let at: Vec<String> = server.urls().into_iter().chain(by_path).collect();
    at.iter().for_each(|at| log::info!("listening on {at}"));
    notifier.beat_with(server.loop_watch()).map_err(|error| CommandError::io("start a thread", &error))?;
    succession.serves(server, format!("serving at {}", at.join(", ")));
    Ok(())
}

/// A file that has come to the size limit of the process (`ulimit -f`) is an error of the write that came there, as a full
/// disk is, and not the end of the process. Caught, not ignored: commands would inherit that.
fn survive_file_limit() -> Result<(), CommandError> {
    let caught = flag::register(SIGXFSZ, Arc::default());
    caught.map(drop).map_err(|error| CommandError::io("install a signal handler", &error))
}

fn reload(tls: &Tls) {
    match tls.reload() {
        Ok(()) => log::info!("reloaded the TLS certificate and key"),
        Err(error) => log::error!("cannot reload the TLS certificate and key, the previous ones stay in use: {error}"),
    }
}

/// The first signal ends the server gracefully, once `before` has been called, the second at once.
pub(super) fn stop_on_signal(
    stopper: Stopper,
    before: impl FnOnce() + Send + 'static,
    hangup: Hangup,
) -> Result<(), CommandError> {
    let again = stopper.clone();
    signals::watch(
        hangup,
        move || {
            before();
            stopper.stop();
        },
        move |_| {
            // The first may not have come here: SIGQUIT does not ask.
            again.stop();
            again.stop();
        },
    )
}
