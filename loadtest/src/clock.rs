//! One clock for publishers and subscribers: both live in this process, so a time that travelled in a payload can be
//! compared with one read here.

use std::sync::OnceLock;
use std::time::Instant;

/// What every time begins with, so that all have the same number of digits: payloads are patched in place.
const BASE: u64 = 1_000_000_000_000_000;

/// Digits of a time: enough for 104 days.
pub const DIGITS: usize = 16;

/// Nanoseconds on a clock of this process that never goes back.
pub fn now_ns() -> u64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    BASE + u64::try_from(BEGAN.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX - BASE)
}

/// A time as it stands in payloads.
pub fn digits(time_ns: u64) -> [u8; DIGITS] {
    let mut digits = [b'0'; DIGITS];
    let mut rest = time_ns;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_fills_its_digits() {
        let now = now_ns();
        assert_eq!(String::from_utf8_lossy(&digits(now)), now.to_string());
        assert!(now_ns() >= now);
    }
}
