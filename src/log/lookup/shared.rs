//! Content made from something that no longer changes, such as the state of an ended run: made once for all clients
//! that read it at the same time. Each of them holds it until its last byte is sent, which may take as long as the
//! client likes; with one copy each, a few slow clients could use up the memory. Content that nobody holds is dropped
//! at once.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Weak};

/// Up to this many keys, unused ones are kept.
const KEYS_KEPT: usize = 64;

/// See the top of this file.
#[derive(Debug)]
pub(in crate::log) struct Shared<K, V> {
    made: HashMap<K, Weak<V>>,
    /// At this many keys, unused ones are dropped: twice as many as were in use the last time.
    keys_max: usize,
}

impl<K, V> Default for Shared<K, V> {
    fn default() -> Self {
        Self { made: HashMap::new(), keys_max: KEYS_KEPT }
    }
}

impl<K: Hash + Eq, V> Shared<K, V> {
    /// The value, if someone still uses it.
    pub(in crate::log) fn get(&self, key: &K) -> Option<Arc<V>> {
        self.made.get(key).and_then(Weak::upgrade)
    }

    /// Adds a new value.
    pub(in crate::log) fn share(&mut self, key: K, value: V) -> Arc<V> {
        if self.made.len() >= self.keys_max {
            self.made.retain(|_, made| made.strong_count() > 0);
            self.keys_max = KEYS_KEPT.max(2 * self.made.len());
        }
        let value = Arc::new(value);
        self.made.insert(key, Arc::downgrade(&value));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_someone_holds_is_shared_and_what_nobody_holds_is_forgotten() {
        let mut shared = Shared::default();
        let held: Vec<_> = (0..10).map(|key| shared.share(key, key)).collect();
        for key in 10..100 * KEYS_KEPT {
            assert_eq!(*shared.share(key, key), key);
            assert_eq!(shared.get(&key), None, "nobody holds it");
        }
        assert!(shared.made.len() <= KEYS_KEPT);
        assert!(held.iter().all(|value| shared.get(value).is_some_and(|found| Arc::ptr_eq(&found, value))));
    }
}
