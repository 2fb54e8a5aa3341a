//! The display for files and pipes: one line per event, with the time since the start of the run, and without escape
//! codes.

use std::collections::HashMap;
use std::io::{self, Write};

use super::lines::LineBuffer;
use super::palette::Palette;
use super::tally::Tally;
use crate::model::{OutputStream, RunEvent, RunEventKind, StepId, StepOutput, StepProgress, Timestamp};
use crate::text::{clock, described, output_line, progress_line};

/// Writes events as lines.
pub(super) struct Plain {
    output: Box<dyn Write + Send>,
    /// Tells this run from others in the same output, with a space after it; empty where there are none.
    label: String,
    started: Option<Timestamp>,
    /// Unfinished lines of running steps.
    unfinished: HashMap<(StepId, OutputStream), LineBuffer>,
    /// The first write that failed; nothing is written after it.
    error: Option<io::Error>,
}

impl Plain {
    pub(super) fn new(output: Box<dyn Write + Send>, label: Option<String>) -> Self {
        let label = label.map(|label| label + " ").unwrap_or_default();
        Self { output, label, started: None, unfinished: HashMap::new(), error: None }
    }

    pub(super) fn is_broken(&self) -> bool {
        self.error.is_some()
    }

    pub(super) fn on_event(&mut self, event: &RunEvent) {
        let started = *self.started.get_or_insert(event.timestamp);
        let clock = clock(event.timestamp.millis_since(started));
        let lines = match &event.kind {
            RunEventKind::StepOutput(output) => self.output_lines(output),
            RunEventKind::Progress(progress) => self.progress_lines(progress),
            _ => vec![described(event)],
        };
        let text: String = lines.into_iter().map(|line| format!("{clock} {}{line}\n", self.label)).collect();
        self.write(&text);
    }

    pub(super) fn finish(mut self, tally: &Tally) -> io::Result<()> {
        let text: String = tally.summary(Palette { color: false }).into_iter().map(|line| line + "\n").collect();
        self.write(&text);
        self.error.map_or(Ok(()), Err)
    }

    fn write(&mut self, text: &str) {
        if self.error.is_none() {
            let written = self.output.write_all(text.as_bytes()).and_then(|()| self.output.flush());
            self.error = written.err();
        }
    }

    fn output_lines(&mut self, said: &StepOutput) -> Vec<String> {
        let omitted = said.omitted_bytes.map(|bytes| format!("({bytes} bytes omitted)"));
        let buffer = self.unfinished.entry((said.step_id.clone(), said.stream)).or_default();
        let lines = omitted.into_iter().chain(buffer.push(&said.chunk));
        lines.map(|line| output_line(&said.step_id, said.stream, &line)).collect()
    }

    /// A step that starts, ends or fails an attempt says nothing more on the line it was at.
    fn progress_lines(&mut self, said: &StepProgress) -> Vec<String> {
        let mut lines = Vec::new();
        for stream in [OutputStream::Stdout, OutputStream::Stderr, OutputStream::Text] {
            let buffer = self.unfinished.remove(&(said.step_id.clone(), stream));
            let rest = buffer.and_then(|mut buffer| buffer.take());
            lines.extend(rest.map(|line| output_line(&said.step_id, stream, &line)));
        }
        lines.push(progress_line(said));
        lines
    }
}
