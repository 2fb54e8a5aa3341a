//! Idle resources that are kept between calls, and dropped when no call has needed them for a while.
//!
//! Nothing else would drop them: if a server closes an idle connection, the socket stays half closed until somebody
//! uses it. While something is kept, one thread per pool waits for its time; it ends when nothing is left.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use crate::clock;

/// Things that wait for their next use.
pub(super) struct Idle<T> {
    shared: Arc<Mutex<Shelf<T>>>,
}

impl<T> fmt::Debug for Idle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Idle({})", lock(&self.shared).kept.len())
    }
}

impl<T: Send + 'static> Idle<T> {
    /// Keeps at most `count_max` things, each for `age`.
    pub(super) fn new(age: Duration, count_max: usize) -> Self {
        let shelf = Shelf { kept: VecDeque::new(), age, count_max, is_watched: false };
        Self { shared: Arc::new(Mutex::new(shelf)) }
    }

    /// What was put here last.
    pub(super) fn take(&self) -> Option<T> {
        lock(&self.shared).take()
    }

    /// Keeps `item`. Where too many are kept already, or nobody could watch over it, it is given up.
    pub(super) fn put(&self, item: T) {
        let mut shelf = lock(&self.shared);
        if !shelf.is_watched {
            let weak = Arc::downgrade(&self.shared);
            let watcher = thread::Builder::new().name("stepcast-idle".to_owned()).spawn(move || watch(&weak));
            shelf.is_watched = watcher.is_ok();
        }
        let surplus = if shelf.is_watched { shelf.put(item, clock::mono()) } else { Some(item) };
        // Giving it up may take a moment.
        drop(shelf);
        drop(surplus);
    }
}

/// Gives up what is due, until nothing is kept or nobody has the pool any more.
fn watch<T>(pool: &Weak<Mutex<Shelf<T>>>) {
    while let Some(shared) = pool.upgrade() {
        let now = clock::mono();
        let mut shelf = lock(&shared);
        let due = shelf.take_due(now);
        let next = shelf.next_due();
        shelf.is_watched = next.is_some();
        drop(shelf);
        drop(shared);
        drop(due);
        match next {
            Some(next) => thread::sleep(next.saturating_sub(now)),
            None => return,
        }
    }
}

fn lock<T>(shared: &Mutex<Shelf<T>>) -> MutexGuard<'_, Shelf<T>> {
    // Nothing that is done with the lock held can leave the list half changed.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The things, oldest first. Pure.
struct Shelf<T> {
    kept: VecDeque<(Duration, T)>,
    age: Duration,
    count_max: usize,
    is_watched: bool,
}

impl<T> Shelf<T> {
    fn take(&mut self) -> Option<T> {
        self.kept.pop_back().map(|(_, item)| item)
    }

    /// Keeps `item`; comes back with what there is no room for.
    fn put(&mut self, item: T, now: Duration) -> Option<T> {
        if self.kept.len() >= self.count_max {
            return Some(item);
        }
        self.kept.push_back((now, item));
        None
    }

    fn take_due(&mut self, now: Duration) -> Vec<T> {
        let count = self.kept.iter().take_while(|(since, _)| now.saturating_sub(*since) >= self.age).count();
        self.kept.drain(..count).map(|(_, item)| item).collect()
    }

    fn next_due(&self) -> Option<Duration> {
        self.kept.front().and_then(|(since, _)| since.checked_add(self.age))
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::{Sender, unbounded};

    use super::*;

    #[test]
    fn each_is_due_when_its_time_has_passed() {
        let at = Duration::from_secs;
        let age = Duration::from_secs(15);
        let mut shelf = Shelf { kept: VecDeque::new(), age, count_max: 3, is_watched: false };
        assert_eq!(shelf.next_due(), None);
        for (item, second) in [("a", 0), ("b", 1), ("c", 10)] {
            assert_eq!(shelf.put(item, at(second)), None);
        }
        assert_eq!(shelf.put("d", at(11)), Some("d"), "no more than three");
        assert_eq!(shelf.take_due(at(14)), [""; 0]);
        assert_eq!(shelf.next_due(), Some(at(15)));
        assert_eq!(shelf.take(), Some("c"), "the one used last");
        assert_eq!(shelf.put("c", at(20)), None);
        assert_eq!(shelf.take_due(at(20)), ["a", "b"]);
        assert_eq!(shelf.next_due(), Some(at(35)));
        assert_eq!(shelf.take_due(at(35)), ["c"]);
    }

    /// Tells when it is given up.
    struct Told(Sender<()>);

    impl Drop for Told {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }

    #[test]
    fn what_nobody_takes_is_given_up_and_a_later_one_too() {
        let idle = Idle::new(Duration::from_millis(1), 4);
        for _ in 0..3 {
            let (to, given_up) = unbounded();
            idle.put(Told(to));
            assert_eq!(given_up.recv_timeout(Duration::from_secs(30)), Ok(()));
        }
    }
}
