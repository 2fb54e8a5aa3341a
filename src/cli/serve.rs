//! `stepcast serve`: a server until told to stop.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use signal_hook::consts::SIGXFSZ;
use signal_hook::flag;

use super::args::Settings;
use super::error::CommandError;
use super::{logging, signals};
use crate::server::{Builder, Stopper};

pub(super) fn serve(settings: Settings, insecure: bool) -> Result<ExitCode, CommandError> {
    let loaded = settings.load()?;
    loaded.config.check_for_serving(insecure)?;
    // A log that is there already belongs to whoever embeds this, and is as good.
    let _ = logging::start(loaded.config.log.level, Box::new(io::stderr()));
    loaded.warnings.iter().for_each(|warning| log::warn!("{warning}"));
    survive_file_limit()?;
    if cfg!(not(feature = "sqlite")) {
        log::info!("this program was built without the feature sqlite: messages and runs are kept in memory only");
    }
    let server = Builder::new(loaded.config).start()?;
    stop_on_signal(server.stopper())?;
    for address in server.addresses() {
        log::info!("listening on http://{address}");
    }
    server.wait().map_err(|error| CommandError::io("continue serving", &error))?;
    log::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// A file that has come to the size limit of the process (`ulimit -f`) is an error of the write that came there, as a full
/// disk is, and not the end of the process. Caught, not ignored: commands would inherit that.
fn survive_file_limit() -> Result<(), CommandError> {
    let caught = flag::register(SIGXFSZ, Arc::default());
    caught.map(drop).map_err(|error| CommandError::io("install a signal handler", &error))
}

/// The first signal ends the server gracefully, the second at once.
pub(super) fn stop_on_signal(stopper: Stopper) -> Result<(), CommandError> {
    let again = stopper.clone();
    signals::watch(
        move || stopper.stop(),
        move |_| {
            // The first may not have come here: SIGQUIT does not ask.
            again.stop();
            again.stop();
        },
    )
}
