//! `stepcast serve`: a server until told to stop.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use super::args::Settings;
use super::error::CommandError;
use super::logging;
use crate::server::{Builder, Stopper};

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
    stop_on_signal(server.stopper())?;
    for address in server.addresses() {
        log::info!("listening on http://{address}");
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

/// Each signal goes to the server: the first ends it gracefully, the second at once.
pub(super) fn stop_on_signal(stopper: Stopper) -> Result<(), CommandError> {
    let signals = Signals::new([SIGINT, SIGTERM]);
    let mut signals = signals.map_err(|error| CommandError::io("listen to signals", &error))?;
    let watch = move || {
        let _alarm = Alarm;
        signals.forever().for_each(|_| stopper.stop());
    };
    let thread = thread::Builder::new().name("signals".into()).spawn(watch);
    thread.map(drop).map_err(|error| CommandError::io("start a thread", &error))
}

/// Ends the process where the thread that listens to signals panics: nothing else would end it any more.
struct Alarm;

impl Drop for Alarm {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}
