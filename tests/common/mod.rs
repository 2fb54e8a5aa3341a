//! What the black-box tests share: the real binary as a server, a raw HTTP client, and a strict reader of event streams.
//!
//! Nothing here knows the program but from outside: its command line, its log line with the address, and its sockets.
//! Everything waits for a condition, with one generous deadline in case it never comes.

#![allow(dead_code, reason = "each test binary takes what it needs")]

pub mod client;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "postgres")]
pub mod proxy;
pub mod random;
pub mod receiver;
pub mod retold;
pub mod server;
pub mod stream;
pub mod stream_body;
pub mod terminal;
pub mod token;
#[cfg(feature = "tls")]
pub mod tunnel;

use std::time::{Duration, Instant};

/// After this long something that should happen counts as never happening.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Asks again and again until `condition` gives something.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(began.elapsed() < DEADLINE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Is there a process of this id, that is no zombie?
pub fn is_alive(pid: u64) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}
