//! Requests whose tokens name an unknown key, which wait until the keys of the identity provider are fetched again.
//!
//! The provider may have published the key in the meantime. But anyone can invent a key name, so the keys are fetched
//! for this reason at most once a minute, however many ask.

use std::time::Duration;

use crate::model::SlabKey;

/// The shortest time between two requests for keys.
const WISH_INTERVAL: Duration = Duration::from_secs(60);

/// How long a request may wait. A fetch should end earlier; this is for one that does not.
const WAIT_MAX: Duration = Duration::from_secs(8);

const _: () = assert!(WAIT_MAX.as_secs() > super::jwks::FETCH_TIMEOUT.as_secs());

/// The waiting requests, and the request for keys that they wait for. Pure.
#[derive(Debug, Default)]
pub(super) struct KeyWait {
    /// The newest request for keys, counted from 1, and when it was made.
    wish: Option<(u64, Duration)>,
    /// Whether it is neither answered nor timed out.
    is_open: bool,
    /// Whether it was not passed on yet.
    is_new: bool,
    waiting: Vec<SlabKey>,
}

impl KeyWait {
    /// Whether a request may wait for keys. If none waits and it is time, this creates a request for keys.
    pub(super) fn admits(&mut self, now: Duration) -> bool {
        let is_time = self.wish.is_none_or(|(_, at)| now.saturating_sub(at) >= WISH_INTERVAL);
        if !self.is_open && is_time {
            self.wish = Some((self.wish.map_or(1, |(number, _)| number + 1), now));
            (self.is_open, self.is_new) = (true, true);
        }
        self.is_open
    }

    /// Adds a request that may wait.
    pub(super) fn add(&mut self, request: SlabKey) {
        self.waiting.push(request);
    }

    /// Takes the request for keys that is to be passed on.
    pub(super) fn take_wish(&mut self) -> Option<u64> {
        let is_new = std::mem::take(&mut self.is_new);
        self.wish.map(|(number, _)| number).filter(|_| is_new)
    }

    /// A fetch for this request for keys has ended. Returns the requests that waited for it.
    pub(super) fn answered(&mut self, wish: u64) -> Vec<SlabKey> {
        match self.wish {
            Some((number, _)) if self.is_open && wish >= number => self.close(),
            _ => Vec::new(),
        }
    }

    /// Takes the requests that have waited too long.
    pub(super) fn take_overdue(&mut self, now: Duration) -> Vec<SlabKey> {
        if self.deadline().is_some_and(|at| now >= at) { self.close() } else { Vec::new() }
    }

    /// When the waiting requests time out.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.wish.filter(|_| self.is_open).map(|(_, at)| at + WAIT_MAX)
    }

    fn close(&mut self) -> Vec<SlabKey> {
        self.is_open = false;
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn whoever_asks_there_is_one_wish_a_minute() {
        let mut wait = KeyWait::default();
        let keys = [SlabKey::new(1, 1), SlabKey::new(2, 1)];
        assert!(wait.admits(at(5)) && wait.admits(at(6)));
        keys.into_iter().for_each(|key| wait.add(key));
        assert_eq!((wait.take_wish(), wait.take_wish()), (Some(1), None));
        assert_eq!(wait.answered(0), [], "a fetch that began before");
        assert!(wait.admits(at(7)), "the wish is still open");
        assert_eq!((wait.answered(1), wait.answered(1)), (keys.to_vec(), vec![]));
        for second in [7, 30, 64] {
            assert!(!wait.admits(at(second)));
            assert_eq!((wait.take_wish(), wait.deadline()), (None, None));
        }
        assert!(wait.admits(at(65)));
        assert_eq!(wait.take_wish(), Some(2));
    }

    #[test]
    fn nobody_waits_for_ever() {
        let mut wait = KeyWait::default();
        assert!(wait.admits(at(5)));
        wait.add(SlabKey::new(1, 1));
        assert_eq!(wait.deadline(), Some(at(13)));
        assert_eq!(wait.take_overdue(at(12)), []);
        assert_eq!(wait.take_overdue(at(13)), [SlabKey::new(1, 1)]);
        assert!(!wait.admits(at(14)) && wait.deadline().is_none());
        assert_eq!(wait.answered(1), [], "late, and nobody waits");
    }
}
