//! Tracks which notes about tickets have been passed on. Their numbers are assigned before they are committed, so a
//! note may appear after others with larger numbers. A gap is given up only once it is too late for such a note.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// No append takes as long from its first statement to its end.
const LATE_MAX: Duration = Duration::from_secs(30);

/// See the top of this file.
#[derive(Default)]
pub(super) struct Noted {
    /// Up to this one all were.
    up_to: i64,
    /// Behind that.
    told: BTreeSet<i64>,
    /// The largest number that was passed on, and when.
    marks: VecDeque<(Instant, i64)>,
    /// The last result, which may not have been passed on.
    pub(super) found: Vec<i64>,
}

impl Noted {
    /// The number up to which all are passed on, and the later numbers that are.
    pub(super) fn so_far(&mut self, now: Instant) -> (i64, Vec<i64>) {
        while let Some((at, id)) = self.marks.front().copied()
            && now.duration_since(at) > LATE_MAX
        {
            self.marks.pop_front();
            self.up_to = self.up_to.max(id);
        }
        self.told = self.told.split_off(&(self.up_to + 1));
        (self.up_to, self.told.iter().copied().collect())
    }

    /// The last result was passed on.
    pub(super) fn has_told(&mut self, now: Instant) {
        let found = std::mem::take(&mut self.found);
        if let Some(newest) = found.iter().max() {
            self.marks.push_back((now, *newest));
        }
        self.told.extend(found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_and_not_handed_on_is_read_again_and_what_is_seen_late_is_not_missed() {
        let (mut noted, began) = (Noted::default(), Instant::now());
        noted.found = vec![1, 3];
        assert_eq!(noted.so_far(began), (0, vec![]), "nobody had room for it");
        noted.found = vec![1, 3];
        noted.has_told(began);
        assert_eq!(noted.so_far(began), (0, vec![1, 3]), "2 may come");
        noted.found = vec![2];
        noted.has_told(began + LATE_MAX);
        assert_eq!(noted.so_far(began + LATE_MAX + Duration::from_secs(1)), (3, vec![]));
    }
}
