//! `stepcast serve`: a server until told to stop.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use signal_hook::consts::SIGXFSZ;
use signal_hook::flag;

use super::args::Settings;
use super::error::CommandError;
use super::signals::Hangup;
use super::{logging, signals};
use crate::server::{Builder, Stopper, Tls};

pub(super) fn serve(settings: Settings, insecure: bool) -> Result<ExitCode, CommandError> {
    let loaded = settings.load()?;
    loaded.config.check_for_serving(insecure)?;
    // A log that is there already belongs to whoever embeds this, and is as good.
    let _ = logging::start(loaded.config.log.level, Box::new(io::stderr()));
    loaded.warnings.iter().for_each(|warning| log::warn!("{warning}"));
    survive_file_limit()?;
    if cfg!(not(feature = "sqlite")) {
        log::info!("built without sqlite: messages and runs are kept in memory alone");
    }
    let server = Builder::new(loaded.config).start()?;
    match server.tls() {
        Some(tls) => stop_on_signal(server.stopper(), Hangup::Calls(Box::new(move || reload(&tls))))?,
        None => stop_on_signal(server.stopper(), Hangup::Asks)?,
    }
    for url in server.urls() {
        log::info!("listening on {url}");
    }
    server.wait().map_err(|error| CommandError::io("go on serving", &error))?;
    log::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// A file that has come to the size limit of the process (`ulimit -f`) is an error of the write that came there, as a full
/// disk is, and not the end of the process. Caught, not ignored: commands would inherit that.
fn survive_file_limit() -> Result<(), CommandError> {
    let caught = flag::register(SIGXFSZ, Arc::default());
    caught.map(drop).map_err(|error| CommandError::io("catch a signal", &error))
}

fn reload(tls: &Tls) {
    match tls.reload() {
        Ok(()) => log::info!("certificate and key were read anew"),
        Err(error) => log::error!("certificate and key stay as they were: {error}"),
    }
}

/// The first signal ends the server gracefully, the second at once.
pub(super) fn stop_on_signal(stopper: Stopper, hangup: Hangup) -> Result<(), CommandError> {
    let again = stopper.clone();
    signals::watch(
        hangup,
        move || stopper.stop(),
        move |_| {
            // The first may not have come here: SIGQUIT does not ask.
            again.stop();
            again.stop();
        },
    )
}
