//! The publish rate of each token.

use std::collections::HashMap;
use std::time::Duration;

use crate::model::{Lender, Taken};

/// The most tokens whose publishing is metered. If there are more, the one that was seen longest ago is forgotten.
const METERED_TOKENS_MAX: usize = 10_000;

/// The remaining publish rate of each token: a bucket that holds one second's worth and refills within a second.
#[derive(Debug, Default)]
pub(super) struct PublishMeter {
    buckets: HashMap<u64, Bucket>,
    held: Lender<Metered>,
}

/// The part of its token's rate that a publish call takes.
#[derive(Debug)]
pub(in crate::server) struct Metered {
    token: u64,
    messages: usize,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    messages: f64,
    at: Duration,
}

impl PublishMeter {
    /// Like [`take`](Self::take), for a call that may still be refused: the messages are given back if the result is
    /// dropped.
    pub(super) fn hold(&mut self, token: u64, messages: usize, rate: u32, now: Duration) -> Option<Taken<Metered>> {
        for Metered { token, messages } in self.held.returned() {
            if let Some(bucket) = self.buckets.get_mut(&token) {
                bucket.messages += messages as f64;
            }
        }
        self.take(token, messages, rate, now).then(|| self.held.lend(Metered { token, messages }))
    }

    /// Takes `messages` from the token's bucket, if it holds as many. A bucket that is full lets even more than it
    /// holds pass, and goes into debt, so that a large array is not refused for ever.
    fn take(&mut self, token: u64, messages: usize, rate: u32, now: Duration) -> bool {
        if self.buckets.len() >= METERED_TOKENS_MAX && !self.buckets.contains_key(&token) {
            self.forget_oldest();
        }
        let rate = f64::from(rate);
        let bucket = self.buckets.entry(token).or_insert(Bucket { messages: rate, at: now });
        let refill = now.saturating_sub(bucket.at).as_secs_f64() * rate;
        bucket.messages = (bucket.messages + refill).min(rate);
        bucket.at = now;
        if bucket.messages < (messages as f64).min(rate) {
            return false;
        }
        bucket.messages -= messages as f64;
        true
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.buckets.iter().min_by_key(|(_, bucket)| bucket.at).map(|(&token, _)| token) {
            self.buckets.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishing_is_metered_by_token_and_recovers() {
        let mut meter = PublishMeter::default();
        let at = Duration::from_millis;
        assert!(meter.take(1, 10, 10, at(0)) && !meter.take(1, 1, 10, at(0)) && meter.take(2, 1, 10, at(0)));
        assert!(meter.take(1, 1, 10, at(100)) && !meter.take(1, 1, 10, at(100)));
        assert!(meter.take(1, 1000, 10, at(5000)), "a large array passes when the bucket is full");
        assert!(!meter.take(1, 1, 10, at(6000)), "and is paid for afterwards");
    }
}
