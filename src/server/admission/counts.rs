//! Counts of guards: each counted connection or stream holds a guard, and dropping it decrements the count, whichever
//! way the connection ends.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

/// Up to this many keys are kept before those without permits are removed.
const KEYS_KEPT: usize = 1024;

/// Counts as one of a [`Count`] until it is dropped.
#[derive(Debug)]
pub(in crate::server) struct Permit(#[expect(dead_code, reason = "only counted")] Arc<()>);

/// The number of permits that are held.
#[derive(Debug, Default)]
pub(in crate::server) struct Count(Arc<()>);

impl Count {
    /// Takes a permit.
    pub(in crate::server) fn take(&self) -> Permit {
        Permit(self.0.clone())
    }

    /// The number of permits that are held.
    pub(in crate::server) fn get(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}

/// Counts of permits by key.
#[derive(Debug)]
pub(super) struct Counts<K> {
    by_key: HashMap<K, Count>,
    /// At this many keys, those without permits are removed: twice as many as remained the last time, so that each key
    /// costs about one check.
    keys_max: usize,
}

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self { by_key: HashMap::new(), keys_max: KEYS_KEPT }
    }
}

impl<K: Hash + Eq> Counts<K> {
    /// Takes a permit, unless `max` are held.
    pub(super) fn take(&mut self, key: K, max: u32) -> Option<Permit> {
        if self.by_key.len() >= self.keys_max {
            self.forget_empty();
        }
        let count = self.by_key.entry(key).or_default();
        (count.get() < max as usize).then(|| count.take())
    }

    fn forget_empty(&mut self) {
        self.by_key.retain(|_, count| count.get() > 0);
        self.keys_max = KEYS_KEPT.max(2 * self.by_key.len());
    }

    /// The number of keys with a permit.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_key.values().filter(|count| count.get() > 0).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_stop_at_their_limit_and_go_down_by_themselves() {
        let mut counts = Counts::default();
        let (first, second) = (counts.take("a", 2), counts.take("a", 2));
        assert!(first.is_some() && second.is_some() && counts.take("a", 2).is_none());
        assert!(counts.take("b", 2).is_some() && counts.take("c", 0).is_none());
        drop(first);
        assert!(counts.take("a", 1).is_none(), "one is still counted");
        assert!(counts.take("a", 2).is_some());
        assert_eq!(counts.len(), 1);
        drop(second);
        assert_eq!(counts.len(), 0);
    }

    #[test]
    fn whoever_has_nothing_left_is_forgotten() {
        let mut counts = Counts::default();
        let permits: Vec<_> = (0..10).map(|key| counts.take(key, 1)).collect();
        for key in 10..100 * KEYS_KEPT {
            assert!(counts.take(key, 1).is_some());
        }
        assert!(counts.by_key.len() <= KEYS_KEPT && counts.len() == permits.len());
        assert!(counts.take(0, 1).is_none(), "whoever has something is not");
    }
}
