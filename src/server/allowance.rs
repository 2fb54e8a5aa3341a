//! Limits how much bulk data is sent while others wait for small responses. Pure.
//!
//! On one processor, a client that receives much data takes most of the time from publishers: every piece that is
//! written delays the next message, and the log with it. So while others publish, downloads, history and snapshots each
//! get a fixed number of bytes per millisecond; while nobody publishes, they are not limited.

use std::time::Duration;

/// The bytes per millisecond while others publish: 128 MB a second, as in a network of 1 Gbit/s. Sending them takes a
/// twentieth of a processor.
const BYTES_PER_MS: u64 = 128 * 1024;

/// The size of a burst, of which there is one every 4 ms: switching between large and small responses costs more than
/// the bytes.
const BURST_BYTES: i64 = 512 * 1024;

/// How long after a publish the next one is expected.
const PUBLISHING_FOR: Duration = Duration::from_millis(3);

/// The bytes of bulk data that may be sent.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    /// The bytes that may be sent while others publish; negative if a piece was larger than what was left.
    left: i64,
    /// Whether nothing was left. Then a whole burst is earned before any of it is spent.
    is_spent: bool,
    /// The time for which `left` holds.
    at: Duration,
    /// The time of the last publish.
    published_at: Option<Duration>,
}

impl Allowance {
    /// Notes that someone published.
    pub(super) fn note_publish(&mut self, now: Duration) {
        self.published_at = Some(now);
    }

    /// Whether anyone is publishing.
    pub(super) fn is_bounded(&self, now: Duration) -> bool {
        self.published_at.is_some_and(|at| now < at + PUBLISHING_FOR)
    }

    /// Whether more may be sent now.
    pub(super) fn has_any(&mut self, now: Duration) -> bool {
        if !self.is_bounded(now) {
            (self.left, self.is_spent, self.at) = (BURST_BYTES, false, now);
            return true;
        }
        let earned = now.saturating_sub(self.at).as_micros() as u64 * BYTES_PER_MS / 1000;
        if earned > 0 {
            (self.left, self.at) = ((self.left + earned as i64).min(BURST_BYTES), now);
        }
        self.is_spent = self.left < if self.is_spent { BURST_BYTES } else { 1 };
        !self.is_spent
    }

    /// Notes that so many bytes were sent.
    pub(super) fn spend(&mut self, bytes: usize, now: Duration) {
        if self.is_bounded(now) {
            self.left -= bytes as i64;
        }
    }

    /// When more may be sent, if the last call of `has_any` returned `false`.
    pub(super) fn next_at(&self) -> Option<Duration> {
        if !self.is_spent {
            return None;
        }
        let lacking = u64::try_from(BURST_BYTES - self.left).unwrap_or_default();
        let earned_at = self.at + Duration::from_micros((lacking * 1000).div_ceil(BYTES_PER_MS));
        Some(self.published_at.map_or(earned_at, |at| earned_at.min(at + PUBLISHING_FOR)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn while_nobody_publishes_nothing_is_held_back() {
        let mut allowance = Allowance::default();
        for turn in 0..100 {
            assert!(allowance.has_any(MS * turn / 100));
            allowance.spend(1 << 20, MS * turn / 100);
            assert_eq!(allowance.next_at(), None);
        }
    }

    #[test]
    fn while_someone_publishes_it_is_so_much_in_a_millisecond_whatever_the_size_of_a_piece() {
        for piece in [1000, 64 * 1024, 1 << 20] {
            let (mut allowance, mut sent, mut now) = (Allowance::default(), 0, MS);
            while now < MS * 1000 {
                allowance.note_publish(now);
                match allowance.has_any(now) {
                    true => {
                        allowance.spend(piece, now);
                        sent += piece;
                        now += MS / 200;
                    }
                    false => {
                        let next_at = allowance.next_at().expect("nothing is left");
                        assert!(next_at > now, "it is not asked for ever at the same time");
                        now = next_at;
                    }
                }
            }
            let most = BYTES_PER_MS as usize * 1000;
            assert!((most * 3 / 4..most * 11 / 10 + piece).contains(&sent), "{sent} bytes in pieces of {piece}");
        }
    }

    #[test]
    fn what_was_held_back_goes_on_as_soon_as_nobody_publishes() {
        let mut allowance = Allowance::default();
        allowance.note_publish(MS);
        allowance.spend(100 << 20, MS);
        assert!(!allowance.has_any(MS * 3));
        assert_eq!(allowance.next_at(), Some(MS * 4));
        assert!(allowance.has_any(MS * 4) && allowance.next_at().is_none());
    }
}
