//! What a fleet of subscribers has seen, added up.

use std::collections::BTreeMap;

use crate::latency::Latencies;
use crate::sequence::Verdict;

/// Error texts that are kept; further ones are counted.
const ERRORS_KEPT: usize = 5;

/// Everything that is counted about streams.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Messages with a number of their own.
    pub messages: u64,
    /// Bytes behind the heads.
    pub bytes: u64,
    /// Comment lines: heartbeats.
    pub comments: u64,
    /// Streams begun, by the word in `connected`.
    pub begun: BTreeMap<String, u64>,
    /// `stream_closing`, by reason.
    pub closings: BTreeMap<String, u64>,
    /// `stream_reset`, by reason.
    pub resets: BTreeMap<String, u64>,
    /// Streams that ended.
    pub ended: u64,
    /// Connections that nobody accepted.
    pub refused: u64,
    /// Messages that never came.
    pub lost: u64,
    /// Messages that came twice or too late.
    pub repeated: u64,
    /// What went wrong otherwise.
    pub errors: u64,
    /// Some of it.
    pub error_texts: Vec<String>,
    /// From when a message was due until it was read.
    pub latencies: Latencies,
}

impl Tally {
    /// A message's number has been looked at.
    pub fn count(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Next => {}
            Verdict::Lost(n) => self.lost += n,
            Verdict::Repeated => self.repeated += 1,
        }
    }

    /// Something went wrong.
    pub fn error(&mut self, text: String) {
        self.errors += 1;
        if self.error_texts.len() < ERRORS_KEPT {
            self.error_texts.push(text);
        }
    }

    /// Adds all of another one.
    pub fn add(&mut self, other: &Self) {
        for (to, from) in [
            (&mut self.messages, other.messages),
            (&mut self.bytes, other.bytes),
            (&mut self.comments, other.comments),
            (&mut self.ended, other.ended),
            (&mut self.refused, other.refused),
            (&mut self.lost, other.lost),
            (&mut self.repeated, other.repeated),
            (&mut self.errors, other.errors),
        ] {
            *to += from;
        }
        for (to, from) in
            [(&mut self.begun, &other.begun), (&mut self.closings, &other.closings), (&mut self.resets, &other.resets)]
        {
            from.iter().for_each(|(word, n)| *to.entry(word.clone()).or_default() += n);
        }
        let room = ERRORS_KEPT.saturating_sub(self.error_texts.len());
        self.error_texts.extend(other.error_texts.iter().take(room).cloned());
        self.latencies.add(&other.latencies);
    }

    /// What breaks the promise that every message comes once and in order; nothing where it was kept.
    pub fn complaints(&self, who: &str) -> Vec<String> {
        let mut complaints = Vec::new();
        let mut complain = |n: u64, what: &str| {
            if n > 0 {
                complaints.push(format!("{who}: {n} {what}"));
            }
        };
        complain(self.lost, "messages lost");
        complain(self.repeated, "messages repeated or out of order");
        complain(self.resets.values().sum(), &format!("stream_reset {:?}", self.resets));
        complain(self.errors, &format!("errors, such as: {}", self.error_texts.join("; ")));
        complaints
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_promise_is_complained_about() {
        let mut tally = Tally::default();
        tally.count(Verdict::Next);
        assert_eq!(tally.complaints("one"), Vec::<String>::new());
        let mut other = Tally::default();
        other.count(Verdict::Lost(3));
        other.count(Verdict::Repeated);
        other.resets.insert("expired".to_owned(), 2);
        (0..=ERRORS_KEPT).for_each(|n| other.error(format!("e{n}")));
        tally.add(&other);
        let complaints = tally.complaints("all");
        assert_eq!(
            complaints[..3],
            [
                "all: 3 messages lost",
                "all: 1 messages repeated or out of order",
                "all: 2 stream_reset {\"expired\": 2}"
            ]
        );
        assert_eq!(complaints[3], "all: 6 errors, such as: e0; e1; e2; e3; e4");
    }
}
