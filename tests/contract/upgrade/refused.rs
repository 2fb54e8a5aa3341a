//! Upgrades that fail, and upgrades that are interrupted.

use std::fs;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::Signal;

use super::{STREAM, ask, gated, install, install_script, open_gate, publish, replaceable, run_to_the_gate, upgrade};
use crate::common::client::Connection;
use crate::common::server::{Setup, TempDirectory};
use crate::common::{is_alive, wait_for};

#[test]
fn where_the_new_program_or_its_configuration_is_no_good_the_old_one_goes_on() {
    let directory = TempDirectory::new();
    let server = replaceable(&directory);
    let mut stream = server.stream(STREAM);
    assert_eq!(stream.next().expect("connected").kind(), "connected");
    let mut connection = Connection::open(server.address);
    let mut refusals = 0;
    let mut until_refused = |why: &str| {
        refusals += 1;
        upgrade(&server);
        let line = server.until_logged("upgrade failed: ", refusals);
        assert!(line.contains(why), "{line}");
        assert_eq!(ask(&mut connection, &server, &publish(1)).status, 202);
        assert_eq!(stream.next().expect("it goes on").kind(), "n");
    };
    install_script(&directory, "exit 3");
    until_refused("ended before it was ready (exit status: 3)");
    fs::write(directory.join("bin"), "no program").expect("a file");
    until_refused("cannot start the program: ");
    fs::remove_file(directory.join("bin")).expect("a file");
    until_refused("cannot start the program: ");
    install(&directory);
    fs::write(directory.join("toml"), "nonsense = 1\n").expect("a file");
    until_refused("ended before it was ready (exit status: 1)");
    // What it said of that stands before.
    assert!(server.log().iter().any(|line| line.contains("nonsense")), "{:?}", server.log());
    fs::write(directory.join("toml"), "[auth]\njwt_algorithm = \"RS256\"\n").expect("a file");
    fs::write(directory.join("toml"), "[metrics]\nlisten = \"192.0.2.1:1\"\n").expect("a file");
    until_refused("ended before it was ready");
    fs::write(directory.join("toml"), "").expect("a file");
    upgrade(&server);
    let _serves = server.until_upgraded(1);
    assert_eq!(ask(&mut connection, &server, &publish(1)).status, 202);
}

#[test]
fn a_signal_during_an_upgrade_begins_no_other_and_one_behind_it_does() {
    let directory = TempDirectory::new();
    let mut server = gated(&directory).flags(&["--executor-grace", "5m"]).start();
    run_to_the_gate(&server);
    upgrade(&server);
    server.until_logged("is ready to take over", 1);
    upgrade(&server);
    server.until_logged("being upgraded", 1);
    open_gate(&directory);
    let first = server.until_upgraded(1);
    assert_eq!(server.wait(), Some(0));
    server.until_logged("taking over from process", 1);
    first.signal(Signal::USR2);
    let second = server.until_upgraded(2);
    assert_eq!(server.call(publish(1)).status, 202);
    second.signal(Signal::TERM);
    second.until_ended();
}

#[test]
fn sigterm_during_an_upgrade_ends_both_processes() {
    let directory = TempDirectory::new();
    let mut server = gated(&directory).flags(&["--executor-grace", "5m"]).start();
    run_to_the_gate(&server);
    upgrade(&server);
    let line = server.until_logged("is ready to take over", 1);
    let pid: u64 = line.split("process ").nth(1).and_then(|it| it.split(' ').next()?.parse().ok()).expect("a pid");
    assert!(is_alive(pid));
    server.signal(Signal::TERM);
    wait_for("no new work", || (server.get("/readyz").status == 503).then_some(()));
    open_gate(&directory);
    assert_eq!(server.wait(), Some(0));
    wait_for("the end of the other process", || (!is_alive(pid)).then_some(()));
    assert!(!server.log().iter().any(|line| line.contains("has taken over")));
}

#[test]
fn a_new_process_whose_predecessor_had_ended_before_it_looked_served_beside_whatever_was_started_next() {
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("sockets");
    drop(ours);
    // Its stdin is the line; its parent is not the process that it was started by.
    let orphan = Setup::default().sockets(vec![(theirs, "")]).after(":").environment("UPGRADE_OF_STEPCAST", "1:");
    let (status, said) = orphan.launch().refusal();
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("cannot replace process 1: it closed the connection"), "{said}");
}
