//! The screen: several displays, one for each run, share a terminal.

use std::io::{self, IsTerminal, Write};

use indicatif::{MultiProgress, ProgressDrawTarget};

use super::live::{Above, Live};
use super::palette::Palette;
use super::plain::Plain;
use super::{Progress, View};
use crate::text::{one_line, shortened};

/// The longest line printed besides the runs, in characters.
const SAID_CHARS_MAX: usize = 1000;

/// A terminal, or a file or pipe.
#[derive(Clone)]
pub enum Screen {
    /// A terminal that can move its cursor.
    Live(LiveScreen),
    /// Anything else: lines on stdout.
    Plain,
}

/// What the displays on one terminal share.
#[derive(Clone)]
pub struct LiveScreen {
    above: Above,
    palette: Palette,
}

impl Screen {
    /// Stdout: live where that is a terminal that can move its cursor, plain elsewhere. In colour unless `NO_COLOR` is set.
    pub fn stdout() -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let can_move = set("TERM").is_some_and(|term| term != "dumb");
        if io::stdout().is_terminal() && can_move {
            Self::live(ProgressDrawTarget::stdout(), set("NO_COLOR").is_none())
        } else {
            Self::Plain
        }
    }

    /// A live one on `target`.
    pub fn live(target: ProgressDrawTarget, color: bool) -> Self {
        Self::Live(LiveScreen {
            above: Above::new(MultiProgress::with_draw_target(target)),
            palette: Palette { color },
        })
    }

    /// The display of one more run. Where there may be several at a time, `label` tells them apart.
    pub fn progress(&self, label: Option<&str>) -> Progress {
        let label = label.map(one_line);
        Progress::of(match self {
            Self::Live(LiveScreen { above, palette }) => View::Live(Live::new(above.clone(), *palette, label)),
            Self::Plain => View::Plain(Plain::new(Box::new(io::stdout()), label)),
        })
    }

    /// Says something beside the runs, on one line.
    ///
    /// # Errors
    /// If it could not be written.
    pub fn say(&self, text: &str) -> io::Result<()> {
        let text = one_line(text);
        let text = shortened(&text, SAID_CHARS_MAX);
        match self {
            Self::Live(LiveScreen { above, .. }) => above.bars.println(&text),
            Self::Plain => writeln!(io::stdout().lock(), "{text}"),
        }
    }

    /// Where what is no part of the display may be written without breaking it, in whole lines: above it where it is
    /// live, else stderr.
    pub fn log_output(&self) -> Box<dyn Write + Send> {
        match self {
            Self::Live(LiveScreen { above, .. }) => Box::new(above.clone()),
            Self::Plain => Box::new(io::stderr()),
        }
    }
}
