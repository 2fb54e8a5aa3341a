//! A terminal, as programs see one.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// Begins a terminal: its two ends. What is started by `setsid --ctty` with the second one as its stdin has it as its
/// controlling terminal.
pub fn terminal() -> (OwnedFd, File) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&master).expect("ours");
    unlockpt(&master).expect("ours");
    let name = ptsname(&master, Vec::new()).expect("a name");
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let other = rustix::fs::open(&name, flags, Mode::empty()).expect("its other end");
    (master, other.into())
}
