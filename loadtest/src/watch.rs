//! Waiting, with an end: a scenario that takes too long fails with a sentence, and one that takes a while says how far
//! it is.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::failure::{Outcome, failure};

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Runs shorter than this say nothing on the way.
const QUIET: Duration = Duration::from_secs(5);

/// Between two progress lines, on a terminal and elsewhere.
const LINE_EVERY: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(5)];

/// The time that a scenario has.
#[derive(Debug)]
pub struct Watch {
    began: Instant,
    limit: Duration,
    last_line: Instant,
    is_terminal: bool,
    has_line: bool,
}

impl Watch {
    /// From now on, for so long.
    pub fn new(limit: Duration) -> Self {
        let now = Instant::now();
        let is_terminal = std::io::stderr().is_terminal();
        Self { began: now, limit, last_line: now, is_terminal, has_line: false }
    }

    /// Waits for `condition`.
    ///
    /// # Errors
    /// Where the time is up; the text says what was waited for.
    pub fn until(
        &mut self,
        what: &str,
        mut condition: impl FnMut() -> bool,
        progress: impl Fn() -> String,
    ) -> Outcome<()> {
        while !condition() {
            if self.began.elapsed() > self.limit {
                return failure(format!("not within {} s: {what} ({})", self.limit.as_secs(), progress()));
            }
            self.say(what, &progress);
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Lets things go on for a while.
    ///
    /// # Errors
    /// Where the time is up.
    pub fn pass(&mut self, what: &str, time: Duration, progress: impl Fn() -> String) -> Outcome<()> {
        let began = Instant::now();
        self.until(what, || began.elapsed() >= time, progress)
    }

    fn say(&mut self, what: &str, progress: &impl Fn() -> String) {
        let every = LINE_EVERY[usize::from(!self.is_terminal)];
        if self.began.elapsed() < QUIET || self.last_line.elapsed() < every {
            return;
        }
        self.last_line = Instant::now();
        let line = format!("[{:5.1} s] {what}: {}", self.began.elapsed().as_secs_f64(), progress());
        let mut stderr = std::io::stderr();
        // A progress line that can't be written is no reason to stop.
        let _ = if self.is_terminal { write!(stderr, "\r{line}\x1b[K") } else { writeln!(stderr, "{line}") };
        self.has_line = self.is_terminal;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.has_line {
            eprint!("\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_comes_ends_with_a_sentence() {
        let mut watch = Watch::new(Duration::ZERO);
        assert!(watch.until("what is", || true, String::new).is_ok());
        let failed = watch.until("what never comes", || false, || "0 of 1".to_owned());
        let text = failed.expect_err("it never comes").to_string();
        assert!(text.contains("what never comes (0 of 1)"), "{text}");
    }
}
