//! A board that one thread writes and many read: the newest value of each key.
//!
//! The writer never waits for readers, which may be slow: a value written while someone reads is set aside, and taken
//! up by whoever comes next.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// See the top of this file. One thread says what is on it.
pub struct Board<K, V> {
    known: Mutex<BTreeMap<K, V>>,
    /// What was said while someone looked, in order. Held for no longer than it takes to add to it, or to take it away.
    news: Mutex<Vec<News<K, V>>>,
}

enum News<K, V> {
    /// The value of one key, if it has any now.
    One(K, Option<V>),
    /// The values of all.
    All(BTreeMap<K, V>),
}

impl<K: Ord, V> Board<K, V> {
    /// Says what some keys' values are from now on; nothing for those that have none any more.
    pub fn say(&self, values: impl IntoIterator<Item = (K, Option<V>)>) {
        self.take(values.into_iter().map(|(key, value)| News::One(key, value)));
    }

    /// Says what all keys' values are from now on.
    pub(in crate::log) fn say_all(&self, values: BTreeMap<K, V>) {
        self.take(std::iter::once(News::All(values)));
    }

    /// Looks at all that was said by now.
    pub(in crate::log) fn read<T>(&self, look: impl FnOnce(&BTreeMap<K, V>) -> T) -> T {
        let mut known = lock(&self.known);
        self.catch_up(&mut known);
        look(&known)
    }

    fn take(&self, news: impl Iterator<Item = News<K, V>>) {
        let mut known = match self.known.try_lock() {
            Ok(known) => known,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return lock(&self.news).extend(news),
        };
        self.catch_up(&mut known);
        news.for_each(|one| one.apply(&mut known));
    }

    fn catch_up(&self, known: &mut BTreeMap<K, V>) {
        let news = std::mem::take(&mut *lock(&self.news));
        news.into_iter().for_each(|one| one.apply(known));
    }
}

impl<K: Ord, V> News<K, V> {
    fn apply(self, known: &mut BTreeMap<K, V>) {
        match self {
            Self::One(key, Some(value)) => drop(known.insert(key, value)),
            Self::One(key, None) => drop(known.remove(&key)),
            Self::All(values) => *known = values,
        }
    }
}

impl<K, V> Default for Board<K, V> {
    fn default() -> Self {
        Self { known: Mutex::default(), news: Mutex::default() }
    }
}

impl<K, V> fmt::Debug for Board<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(board: &Board<u32, &'static str>) -> Vec<(u32, &'static str)> {
        board.read(|known| known.iter().map(|(key, value)| (*key, *value)).collect())
    }

    #[test]
    fn whoever_looks_sees_all_that_was_said_and_whoever_says_it_waits_for_nobody() {
        let board = Board::default();
        board.say([(1, Some("a")), (2, Some("b"))]);
        let seen = board.read(|known| {
            // Would wait for ever if it waited for who looks.
            board.say([(1, None), (3, Some("c"))]);
            board.say([(3, Some("d"))]);
            known.len()
        });
        assert_eq!((seen, read(&board)), (2, vec![(2, "b"), (3, "d")]));
        board.say([(2, None)]);
        assert_eq!(read(&board), [(3, "d")]);
    }

    #[test]
    fn what_is_said_of_all_goes_for_what_was_put_aside_before_it_too() {
        let board = Board::default();
        board.say([(1, Some("a"))]);
        board.read(|_| {
            board.say([(2, Some("b"))]);
            board.say_all(BTreeMap::from([(3, "c")]));
            board.say([(4, Some("d"))]);
        });
        board.say([(5, Some("e"))]);
        assert_eq!(read(&board), [(3, "c"), (4, "d"), (5, "e")]);
    }
}
