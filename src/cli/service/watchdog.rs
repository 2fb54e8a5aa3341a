//! Beats for a service manager that restarts a program without any (`WatchdogSec=`). It is the turns of the loop that
//! make them: a loop that hangs makes none, though this thread is well.

use std::io;
use std::thread;
use std::time::Duration;

use super::Notifier;
use crate::server::LoopWatch;

/// Beats in the time after which the manager would act.
const BEATS: u32 = 3;

/// How long a beat may be late, where the environment says that there are to be any for this process.
pub(super) fn interval(microseconds: Option<String>, pid: Option<String>, own_pid: u32) -> Option<Duration> {
    let is_own = pid.is_none_or(|pid| pid.parse() == Ok(own_pid));
    let microseconds = microseconds?.parse().ok().filter(|&microseconds| microseconds > 0 && is_own)?;
    Some(Duration::from_micros(microseconds))
}

/// Beats for as long as the loop goes round.
///
/// # Errors
/// Where the system grants no thread.
pub(super) fn start(to: Notifier, turns: LoopWatch, interval: Duration) -> io::Result<()> {
    let beat = move || {
        let mut seen = turns.turns();
        loop {
            thread::sleep(interval / BEATS);
            let now = turns.turns();
            if std::mem::replace(&mut seen, now) != now {
                to.beat();
            }
        }
    };
    thread::Builder::new().name("watchdog".into()).spawn(beat).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_are_for_the_process_that_they_are_expected_of() {
        let of = |microseconds: &str, pid: Option<&str>| interval(Some(microseconds.into()), pid.map(Into::into), 7);
        assert_eq!(of("3000000", None), Some(Duration::from_secs(3)));
        assert_eq!(of("3000000", Some("7")), Some(Duration::from_secs(3)));
        assert_eq!((of("3000000", Some("8")), of("0", None), of("soon", None)), (None, None, None));
        assert_eq!(interval(None, None, 7), None);
    }
}
