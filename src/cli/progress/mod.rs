//! The display of a run in the terminal: what `stepcast run`, `watch` and `demo` show while it runs, and their summary
//! at its end.
//!
//! On a terminal the display is live: a bar, a line for each running step, and finished steps above. If the output is a
//! file or a pipe, it is plain: one line per event, without escape codes. Both displays get the messages of the run in
//! order, and nothing else. Text that comes from a plan or a tool is stripped of control sequences first.

mod catch_up;
mod lines;
mod live;
mod palette;
mod plain;
mod screen;
mod tally;

use std::io::{self, Write};

pub use self::catch_up::events_of;
use self::live::Live;
use self::plain::Plain;
pub use self::screen::Screen;
use self::tally::Tally;
use crate::model::{RunEvent, RunEventKind, RunState, Timestamp};

/// Shows one run.
pub struct Progress {
    view: View,
    tally: Tally,
    /// While the display is held: what it has not shown yet.
    held: Option<Vec<RunEvent>>,
}

enum View {
    Live(Live),
    Plain(Plain),
}

impl Progress {
    /// A display on stdout: live where that is a terminal that can move its cursor, plain elsewhere. In colour unless
    /// `NO_COLOR` is set.
    pub fn stdout() -> Self {
        Screen::stdout().progress(None)
    }

    fn of(view: View) -> Self {
        Self { view, tally: Tally::default(), held: None }
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
        match (&mut self.view, &mut self.held) {
            (View::Live(_), Some(_)) if is_passing(event) => {}
            (View::Live(_), Some(held)) => held.push(event.clone()),
            (View::Live(live), None) => live.on_event(event),
            (View::Plain(plain), _) => plain.on_event(event),
        }
    }

    /// While the display is held, a live one is gone from the terminal, which is someone else's. After that it shows what
    /// came meanwhile.
    pub fn hold(&mut self, is_held: bool) {
        let View::Live(live) = &mut self.view else { return };
        if is_held == self.held.is_some() {
            return;
        }
        if is_held {
            live.hold();
            self.held = Some(Vec::new());
            return;
        }
        live.release();
        for event in self.held.take().unwrap_or_default() {
            live.on_event(&event);
        }
    }

    /// The run is in this state `now`: what of it is not shown yet is.
    pub fn catch_up(&mut self, state: &RunState, now: Timestamp) {
        for event in events_of(state, now) {
            if !self.tally.knows(&event) {
                self.on_event(&event);
            }
        }
        if let View::Live(live) = &mut self.view {
            live.set_clock(state.started_at.unwrap_or(now), now);
        }
    }

    /// Can nothing be written any more?
    pub fn is_broken(&self) -> bool {
        matches!(&self.view, View::Plain(plain) if plain.is_broken())
    }

    /// Ends the display with a summary.
    ///
    /// # Errors
    /// If something, now or before, could not be written.
    pub fn finish(mut self) -> io::Result<()> {
        self.hold(false);
        match self.view {
            View::Live(live) => live.finish(&self.tally),
            View::Plain(plain) => plain.finish(&self.tally),
        }
    }
}

/// Is this of no use to who comes late? Live output is, and how many items have ended: there is no end to how often they come.
fn is_passing(event: &RunEvent) -> bool {
    match &event.kind {
        RunEventKind::StepOutput(_) => true,
        RunEventKind::Progress(said) => said.counts_items(),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
