//! A cache of verified tokens: thousands of subscribers may present the same token.

use std::collections::HashMap;

use super::Principal;

/// The most tokens remembered: 1,024 x 8 KiB are 8 MiB at worst, and some 400 KiB in practice. When there are more, all
/// are forgotten: cheaper than an order of use, and one that cycles through more tokens than fit misses either way.
const TOKENS_MAX: usize = 1024;

/// Whom each verified token stands for. Holds tokens that were valid once; whether they have expired is for the reader
/// to see.
#[derive(Default)]
pub(super) struct TokenCache(HashMap<Box<str>, Principal>);

impl TokenCache {
    /// The principal of exactly this token.
    pub(super) fn find(&self, token: &str) -> Option<Principal> {
        self.0.get(token).cloned()
    }

    /// Remembers a token whose signature and claims are right.
    pub(super) fn insert(&mut self, token: &str, principal: Principal) {
        if self.0.len() >= TOKENS_MAX {
            self.0.clear();
        }
        self.0.insert(token.into(), principal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_bounded_and_keeps_the_newest() {
        let mut cache = TokenCache::default();
        for n in 0..=TOKENS_MAX {
            cache.insert(&n.to_string(), Principal::anyone());
            assert!(cache.find(&n.to_string()).is_some() && cache.0.len() <= TOKENS_MAX);
        }
        assert!(cache.find("0").is_none() && cache.find("x").is_none());
    }
}
