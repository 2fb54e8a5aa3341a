//! How long to wait after a failure, and when to log it: when it starts, when its reason changes, and when it is over.

use std::time::Duration;

/// How soon what has failed for the first time is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(250);

/// The longest wait between two tries.
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(2);

/// See the top of this file.
#[derive(Debug)]
pub(super) struct Trouble {
    /// What fails, for the log.
    what: &'static str,
    now: Option<Failing>,
}

/// How loud a line of it is: that something works again is good news.
pub(super) fn level(works: bool) -> log::Level {
    if works { log::Level::Info } else { log::Level::Warn }
}

#[derive(Debug)]
struct Failing {
    reason: String,
    wait: Duration,
}

impl Trouble {
    /// None so far with `what`.
    pub(super) fn with(what: &'static str) -> Self {
        Self { what, now: None }
    }

    /// It has failed. How long to wait, and a line for the log where there is something new to say.
    pub(super) fn has_failed(&mut self, reason: &str) -> (Duration, Option<String>) {
        let before = self.now.take();
        let is_new = before.as_ref().is_none_or(|it| it.reason != reason);
        let wait = before.map_or(AGAIN_AFTER, |it| (2 * it.wait).min(AGAIN_AFTER_MAX));
        self.now = Some(Failing { reason: reason.to_owned(), wait });
        (wait, is_new.then(|| format!("cannot {}: {reason}", self.what)))
    }

    /// It has not. A line for the log where it had before.
    pub(super) fn is_over(&mut self) -> Option<String> {
        self.now.take().map(|_| format!("can {} again", self.what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_once_and_its_end_too() {
        let mut trouble = Trouble::with("beat");
        assert_eq!(trouble.is_over(), None);
        assert_eq!(trouble.has_failed("cut").1.as_deref(), Some("cannot beat: cut"));
        assert_eq!(trouble.has_failed("cut").1, None);
        assert_eq!(trouble.has_failed("refused").1.as_deref(), Some("cannot beat: refused"));
        let waits: Vec<_> = (0..4).map(|_| trouble.has_failed("refused").0.as_millis()).collect();
        assert_eq!(waits, [2000; 4]);
        assert_eq!(trouble.is_over().as_deref(), Some("can beat again"));
        assert_eq!(trouble.has_failed("cut"), (AGAIN_AFTER, Some("cannot beat: cut".to_owned())));
    }
}
