//! The display for terminals: an overall bar at the bottom, one line for each running step above it, and above those
//! the lines of what has ended, which stay.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use super::lines::LineBuffer;
use super::palette::{Palette, Tone};
use super::tally::Tally;
use crate::model::{Progress, RunEvent, RunEventKind, StepId, StepOutput, StepProgress, StepUpdate, Timestamp};
use crate::text::{ERROR_CHARS_MAX, count, described, duration, handler_text, one_line, progress_line, shortened};

/// The most running steps with a line of their own, so that the display stays under half of a common terminal's 24
/// lines; the rest is counted.
const STEPS_SHOWN_MAX: usize = 10;

/// The longest title, in characters; leaves half of a common terminal's 80 columns for the step's output.
const TITLE_CHARS_MAX: usize = 40;

/// The most characters shown of a line that still grows: what a common terminal has room for after a title.
const TAIL_CHARS: usize = 48;

/// How often the lines of running steps move.
const TICK: Duration = Duration::from_millis(100);

/// The most lines of the log that wait for a display that is held; later ones are left out.
const HELD_LINES_MAX: usize = 1000;

/// Draws one run.
pub(super) struct Live {
    bars: MultiProgress,
    above: Above,
    overall: ProgressBar,
    palette: Palette,
    /// Tells this run from others on the same terminal, with a space after it; empty where there are none.
    label: String,
    /// Steps that run or wait for a retry.
    active: BTreeMap<StepId, Active>,
    open_levels: BTreeSet<usize>,
    level: String,
    progress: Progress,
}

/// A step on its way.
struct Active {
    title: String,
    since: Timestamp,
    attempt: u32,
    output: LineBuffer,
    /// What its line says beside the title: the last line of output, or that it waits for a retry.
    says: String,
    /// Its line, where it is among those shown.
    line: Option<ProgressBar>,
}

impl Live {
    pub(super) fn new(above: Above, palette: Palette, label: Option<String>) -> Self {
        let bars = above.bars.clone();
        let overall = bars.add(ProgressBar::new(0).with_style(overall_style(palette)));
        let label = label.map(|label| format!("{} ", palette.paint(Tone::Quiet, &label))).unwrap_or_default();
        let (active, level, progress) = (BTreeMap::new(), String::new(), Progress::default());
        Self { bars, above, overall, palette, label, active, open_levels: BTreeSet::new(), level, progress }
    }

    /// The run began at `started`, and it is `now`: for a display that comes late.
    pub(super) fn set_clock(&mut self, started: Timestamp, now: Timestamp) {
        let since = |then: Timestamp| Duration::from_millis(now.millis_since(then));
        self.overall.set_elapsed(since(started));
        for active in self.active.values() {
            if let Some(line) = &active.line {
                line.set_elapsed(since(active.since));
                line.tick();
            }
        }
        self.overall.tick();
    }

    /// Writes above the display.
    pub(super) fn above(&self) -> Box<dyn Write + Send> {
        Box::new(self.above.clone())
    }

    /// Goes from the terminal, until it is released; it is told of nothing meanwhile.
    pub(super) fn hold(&self) {
        self.lines().for_each(ProgressBar::disable_steady_tick);
        self.above.hold();
        // A terminal that is gone is told of at the end, when the summary can't be written either.
        let _ = self.bars.clear();
    }

    pub(super) fn release(&self) {
        self.above.release();
        self.lines().for_each(|line| line.enable_steady_tick(TICK));
    }

    fn lines(&self) -> impl Iterator<Item = &ProgressBar> {
        self.active.values().filter_map(|active| active.line.as_ref()).chain([&self.overall])
    }

    pub(super) fn on_event(&mut self, event: &RunEvent) {
        match &event.kind {
            RunEventKind::Started(started) => {
                self.overall.set_length(started.step_count as u64);
                self.overall.enable_steady_tick(TICK);
                let steps = count(started.step_count, "step");
                let name = self.palette.paint(Tone::Strong, &one_line(&started.plan_name));
                self.print(&format!("{name}: {steps} in {}", count(started.total_levels, "level")));
            }
            RunEventKind::LevelStarted(level) => {
                self.open_levels.insert(level.level);
                self.show_levels(level.total_levels);
            }
            RunEventKind::Progress(progress) => self.on_progress(progress, event.timestamp),
            RunEventKind::StepOutput(output) => self.on_output(output),
            RunEventKind::PlanChanged(changed) => {
                self.overall.set_length(changed.step_count as u64);
                self.progress = changed.progress;
                self.print(&self.palette.paint(Tone::Quiet, &described(event)));
            }
            RunEventKind::LevelCompleted(level) => {
                self.open_levels.remove(&level.level);
                self.show_levels(level.total_levels);
            }
            RunEventKind::Completed(_) | RunEventKind::Failed(_) => {}
        }
        self.show_lines(event.timestamp);
        self.show_overall();
    }

    pub(super) fn finish(self, tally: &Tally) -> io::Result<()> {
        for active in self.active.values() {
            if let Some(line) = &active.line {
                line.finish_and_clear();
                self.bars.remove(line);
            }
        }
        self.overall.finish_and_clear();
        self.bars.remove(&self.overall);
        self.bars.println(tally.summary(self.palette).join("\n"))
    }

    /// Which levels are open; where none is, those that were.
    fn show_levels(&mut self, total: usize) {
        self.level = match (self.open_levels.first(), self.open_levels.last()) {
            (Some(first), Some(last)) if first < last => format!("levels {} to {} of {total}", first + 1, last + 1),
            (Some(only), _) => format!("level {} of {total}", only + 1),
            _ => return,
        };
    }

    fn on_progress(&mut self, said: &StepProgress, now: Timestamp) {
        self.progress = said.progress;
        match &said.update {
            StepUpdate::Running { .. } => self.start(said, now),
            StepUpdate::Retrying { error, delay, .. } => {
                let error = shortened(&one_line(error), ERROR_CHARS_MAX).into_owned();
                let delay = duration(*delay);
                let note = format!("attempt {} failed, retrying in {delay}: {error}", said.attempt);
                self.print(&format!("{} {}  {note}", self.palette.paint(Tone::Warning, "↻"), title(said)));
                if let Some(active) = self.active.get_mut(&said.step_id) {
                    active.output = LineBuffer::default();
                    active.says = format!("retrying in {delay}");
                }
            }
            StepUpdate::Waiting { .. } => {
                self.print(&format!("{} {}", self.palette.paint(Tone::Warning, "?"), progress_line(said)));
                if let Some(active) = self.active.get_mut(&said.step_id) {
                    active.says = "waiting for a decision".to_owned();
                }
            }
            ended => {
                if let Some(Active { line: Some(line), .. }) = self.active.remove(&said.step_id) {
                    line.finish_and_clear();
                    self.bars.remove(&line);
                }
                self.print(&ended_line(&title(said), ended, self.palette));
            }
        }
    }

    fn start(&mut self, said: &StepProgress, now: Timestamp) {
        let active = self.active.entry(said.step_id.clone()).or_insert_with(|| Active {
            title: title(said),
            since: now,
            attempt: said.attempt,
            output: LineBuffer::default(),
            says: String::new(),
            line: None,
        });
        active.attempt = said.attempt;
        active.says.clear();
        if let StepUpdate::Running { message, .. } = &said.update
            && said.counts_items()
        {
            active.says.clone_from(message);
        }
    }

    fn on_output(&mut self, said: &StepOutput) {
        let Some(active) = self.active.get_mut(&said.step_id) else { return };
        let lines = active.output.push(&said.chunk);
        let newest = Some(tail(&active.output.peek())).into_iter().chain(lines.into_iter().rev());
        if let Some(line) = newest.into_iter().find(|line| !line.trim().is_empty()) {
            active.says = line;
        }
    }

    /// Gives free lines to steps that have none yet, and every line its newest text.
    fn show_lines(&mut self, now: Timestamp) {
        let mut free = STEPS_SHOWN_MAX.saturating_sub(self.shown());
        for active in self.active.values_mut() {
            if active.line.is_none() && free > 0 {
                free -= 1;
                let since = Duration::from_millis(now.millis_since(active.since));
                let line = ProgressBar::new_spinner().with_style(step_style(self.palette)).with_elapsed(since);
                let line = self.bars.insert_before(&self.overall, line);
                line.enable_steady_tick(TICK);
                active.line = Some(line);
            }
            active.update_line();
        }
    }

    fn shown(&self) -> usize {
        self.active.values().filter(|active| active.line.is_some()).count()
    }

    fn show_overall(&self) {
        let Progress { failed, skipped, cancelled, .. } = self.progress;
        self.overall.set_position(self.progress.ended() as u64);
        let mut parts = vec![format!("{}{}", self.label, self.level)];
        let untold = self.active.len() - self.shown();
        for (n, what) in [(failed, "failed"), (skipped, "skipped"), (cancelled, "cancelled"), (untold, "more running")]
        {
            if n > 0 {
                parts.push(format!("{n} {what}"));
            }
        }
        self.overall.set_message(parts.join(", "));
    }

    fn print(&self, line: &str) {
        // A terminal that is gone is told of at the end, when the summary can't be written either.
        let _ = self.bars.println(format!("{}{line}", self.label));
    }
}

impl Active {
    fn update_line(&self) {
        let Some(line) = &self.line else { return };
        let attempt = if self.attempt > 1 { format!(" (attempt {})", self.attempt) } else { String::new() };
        let prefix = format!("{}{attempt}", self.title);
        if line.prefix() != prefix {
            line.set_prefix(prefix);
        }
        if line.message() != self.says {
            line.set_message(self.says.clone());
        }
    }
}

/// The line that an ended step leaves behind.
fn ended_line(title: &str, update: &StepUpdate, palette: Palette) -> String {
    let (tone, mark, rest) = match update {
        StepUpdate::Completed { reused: true, .. } => (Tone::Good, '✓', "reused".to_owned()),
        StepUpdate::Completed { duration: took, .. } => (Tone::Good, '✓', duration(*took)),
        StepUpdate::Failed { error, duration: took, .. } => {
            (Tone::Bad, '✗', format!("{}: {}", duration(*took), one_line(error)))
        }
        StepUpdate::Skipped { reason, .. } => (Tone::Quiet, '-', format!("skipped: {}", one_line(reason))),
        StepUpdate::Cancelled { reason, .. } => (Tone::Warning, '-', format!("cancelled: {}", one_line(reason))),
        StepUpdate::Running { .. } | StepUpdate::Retrying { .. } | StepUpdate::Waiting { .. } => {
            (Tone::Quiet, '·', String::new())
        }
    };
    let rest = shortened(&rest, ERROR_CHARS_MAX);
    format!("{} {title}  {}", palette.paint(tone, &mark.to_string()), palette.paint(Tone::Quiet, &rest))
}

/// The end of a line that still grows, which is where a streamed text is at.
fn tail(line: &str) -> String {
    let chars = line.chars().count();
    if chars <= TAIL_CHARS {
        line.to_owned()
    } else {
        format!("…{}", line.chars().skip(chars + 1 - TAIL_CHARS).collect::<String>())
    }
}

/// What a step is called; of a handler also when it runs.
fn title(said: &StepProgress) -> String {
    let title = shortened(&one_line(&said.step_title), TITLE_CHARS_MAX).into_owned();
    said.handler.map_or_else(|| title.clone(), |kind| format!("{title} ({})", handler_text(kind)))
}

fn step_style(palette: Palette) -> ProgressStyle {
    let template = if palette.color {
        "{spinner:.cyan} {prefix}  {time} {wide_msg:.dim}"
    } else {
        "{spinner} {prefix}  {time} {wide_msg}"
    };
    style(template)
}

fn overall_style(palette: Palette) -> ProgressStyle {
    let template = if palette.color {
        "{bar:24.green/dim} {pos}/{len} {percent}%  {time}  {msg}"
    } else {
        "{bar:24} {pos}/{len} {percent}%  {time}  {msg}"
    };
    style(template).progress_chars("━╸─")
}

fn style(template: &str) -> ProgressStyle {
    let time = |state: &ProgressState, to: &mut dyn fmt::Write| {
        let elapsed = u64::try_from(state.elapsed().as_millis()).unwrap_or(u64::MAX);
        // Nothing can be done for a line that can't be formatted.
        let _ = to.write_str(&duration(elapsed));
    };
    ProgressStyle::with_template(template).expect("the templates are constants that parse").with_key("time", time)
}

/// Prints whole lines above the display; while that is held, it holds them as well.
#[derive(Clone)]
pub(super) struct Above {
    pub(super) bars: MultiProgress,
    held: Arc<Mutex<Option<Vec<String>>>>,
}

impl Above {
    pub(super) fn new(bars: MultiProgress) -> Self {
        Self { bars, held: Arc::default() }
    }

    fn hold(&self) {
        self.held().get_or_insert_default();
    }

    fn release(&self) {
        for line in self.held().take().unwrap_or_default() {
            let _ = self.bars.println(line);
        }
    }

    fn held(&self) -> MutexGuard<'_, Option<Vec<String>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Above {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes).trim_end_matches('\n').to_owned();
        match &mut *self.held() {
            Some(held) if held.len() == HELD_LINES_MAX => {}
            Some(held) => held.push(text),
            None => self.bars.println(text)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
