//! A run in the terminal: what `stepcast run` and `demo` show while it goes, and what they say of it at its end.
//!
//! On a terminal the display is live: a bar, a line for each running step, and finished steps left above. Where the
//! output goes to a file or a pipe it is plain: one line per event, no escape codes. Both are fed the run's messages in
//! order and know nothing else. Whatever text a plan or a tool had a hand in is made harmless first.

mod format;
mod lines;
mod live;
mod plain;
mod tally;

use std::io::{self, IsTerminal, Write};

use indicatif::ProgressDrawTarget;

use self::format::Palette;
pub(super) use self::format::count;
use self::live::Live;
use self::plain::Plain;
use self::tally::Tally;
use crate::model::RunEvent;

/// Shows one run.
pub struct Progress {
    view: View,
    tally: Tally,
}

enum View {
    Live(Live),
    Plain(Plain),
}

impl Progress {
    /// A display on stdout: live where that is a terminal that can move its cursor, plain elsewhere. In colour unless
    /// `NO_COLOR` is set.
    pub fn stdout() -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let can_move = set("TERM").is_some_and(|term| term != "dumb");
        if io::stdout().is_terminal() && can_move {
            Self::live(ProgressDrawTarget::stdout(), set("NO_COLOR").is_none())
        } else {
            Self::plain(Box::new(io::stdout()))
        }
    }

    /// A plain display on `output`.
    pub fn plain(output: Box<dyn Write + Send>) -> Self {
        Self { view: View::Plain(Plain::new(output)), tally: Tally::default() }
    }

    /// A live display on `target`.
    pub fn live(target: ProgressDrawTarget, color: bool) -> Self {
        Self { view: View::Live(Live::new(target, Palette { color })), tally: Tally::default() }
    }

    /// Where the program's log may write without breaking the display: above it where it is live, else stderr. Each
    /// write is taken as whole lines.
    pub fn log_output(&self) -> Box<dyn Write + Send> {
        match &self.view {
            View::Live(live) => live.above(),
            View::Plain(_) => Box::new(io::stderr()),
        }
    }

    /// The run said this.
    pub fn on_event(&mut self, event: &RunEvent) {
        self.tally.apply(event);
        match &mut self.view {
            View::Live(live) => live.on_event(event),
            View::Plain(plain) => plain.on_event(event),
        }
    }

    /// Ends the display with a summary.
    ///
    /// # Errors
    /// Where something, now or before, could not be written.
    pub fn finish(self) -> io::Result<()> {
        match self.view {
            View::Live(live) => live.finish(&self.tally),
            View::Plain(plain) => plain.finish(&self.tally),
        }
    }
}

#[cfg(test)]
mod tests;
