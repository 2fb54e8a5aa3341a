//! Keep-alive messages for a service manager that restarts a program that sends none (`WatchdogSec=`). They are sent
//! only while the event loop makes turns: if the loop hangs there are none, even though this thread still runs.

use std::io;
use std::thread;
use std::time::Duration;

use super::Notifier;

/// Messages sent in the time after which the manager would act.
const BEATS: u32 = 3;

/// The time without a message after which the manager acts, if the environment asks this process for messages.
pub(super) fn interval(microseconds: Option<String>, pid: Option<String>, own_pid: u32) -> Option<Duration> {
    let is_own = pid.is_none_or(|pid| pid.parse() == Ok(own_pid));
    let microseconds = microseconds?.parse().ok().filter(|&microseconds| microseconds > 0 && is_own)?;
    Some(Duration::from_micros(microseconds))
}

/// Sends keep-alive messages while `turns` changes.
///
/// # Errors
/// If the system can't start a thread.
pub(super) fn start(to: Notifier, turns: impl Fn() -> u64 + Send + 'static, interval: Duration) -> io::Result<()> {
    let beat = move || {
        let mut seen = turns();
        loop {
            thread::sleep(interval / BEATS);
            let now = turns();
            if std::mem::replace(&mut seen, now) != now {
                to.beat();
            }
        }
    };
    thread::Builder::new().name("watchdog".into()).spawn(beat).map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn a_loop_that_hangs_makes_no_beat() {
        let (to, heard) = Notifier::to_test("watchdog", Duration::from_millis(3));
        let asked = Arc::new(AtomicU64::new(0));
        let count = asked.clone();
        // The loop hangs until it was asked ten times, and turns after that.
        let turns = move || count.fetch_add(1, Ordering::SeqCst).max(10);
        start(to, turns, Duration::from_millis(3)).expect("a thread");
        let mut text = [0; 64];
        let bytes = heard.recv(&mut text).expect("a datagram");
        assert_eq!(&text[..bytes], b"WATCHDOG=1");
        assert!(asked.load(Ordering::SeqCst) > 11);
    }

    #[test]
    fn beats_are_for_the_process_that_they_are_expected_of() {
        let of = |microseconds: &str, pid: Option<&str>| interval(Some(microseconds.into()), pid.map(Into::into), 7);
        assert_eq!(of("3000000", None), Some(Duration::from_secs(3)));
        assert_eq!(of("3000000", Some("7")), Some(Duration::from_secs(3)));
        assert_eq!((of("3000000", Some("8")), of("0", None), of("soon", None)), (None, None, None));
        assert_eq!(interval(None, None, 7), None);
    }
}
