//! Processes that die, hang or are told to end in the middle of an upgrade.

use std::fs::{self, File, read_to_string};
use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};

use super::{STREAM, ask, gated, install_script, open_gate, publish, replaceable, run_to_the_gate, upgrade};
use crate::common::client::Connection;
use crate::common::server::{Server, Setup, TempDirectory};
use crate::common::{is_alive, wait_for};

/// A server of which a new process is ready to take over while a step holds the old one; the id of the new one.
fn held_up(directory: &TempDirectory) -> (Server, Pid) {
    let server = gated(directory).flags(&["--executor-grace", "5m"]).start();
    run_to_the_gate(&server);
    upgrade(&server);
    let line = server.until_logged("is ready to take over", 1);
    let pid = line.split("process ").nth(1).and_then(|it| it.split(' ').next()?.parse().ok()).and_then(Pid::from_raw);
    (server, pid.expect("a process id"))
}

fn number(pid: Pid) -> u64 {
    pid.as_raw_nonzero().get().unsigned_abs().into()
}

/// How many threads of this name a process has.
fn threads(pid: Pid, name: &str) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", number(pid))).expect("it runs");
    let names = tasks.filter_map(|task| read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|it| it.trim() == name).count()
}

#[test]
fn an_upgrade_that_failed_at_its_end_left_threads_behind_that_obeyed_signals_twice() {
    let directory = TempDirectory::new();
    let (mut server, new) = held_up(&directory);
    let mut connection = Connection::open(server.address);
    assert_eq!(ask(&mut connection, &server, &publish(1)).status, 202);
    kill_process(new, Signal::KILL).expect("it waits");
    open_gate(&directory);
    let line = server.until_logged("upgrade failed: ", 1);
    assert!(line.contains("ended before it started serving (signal: 9"), "{line}");
    assert_eq!(ask(&mut connection, &server, &publish(2)).status, 202);
    for name in ["signals", "loop", "upgrade", "schedules"] {
        assert_eq!(threads(server.pid(), name), 1, "{name}");
    }
    upgrade(&server);
    let second = server.until_upgraded(1);
    assert_eq!(server.wait(), Some(0));
    second.signal(Signal::TERM);
    second.until_ended();
    assert_eq!(server.log().iter().filter(|line| line.ends_with("serve: stopped")).count(), 2, "{:?}", server.log());
}

/// A server whose upgrade has just failed, because someone else has the lock of its store until it is dropped.
fn without_a_store(directory: &TempDirectory) -> (Server, Connection, File) {
    let (server, new) = held_up(directory);
    let mut connection = Connection::open(server.address);
    assert_eq!(ask(&mut connection, &server, &publish(1)).status, 202);
    // Nobody but the thief comes for the lock meanwhile.
    kill_process(new, Signal::STOP).expect("it waits");
    let lock = File::options().write(true).open(directory.join("data").join("lock")).expect("the store's lock");
    open_gate(directory);
    lock.lock().expect("nobody interrupts it");
    kill_process(new, Signal::CONT).expect("it waits");
    let line = server.until_logged("upgrade failed: ", 1);
    assert!(line.contains("ended before it started serving (exit status: 1)"), "{line}");
    // A store that was not free at once was the end of the old process.
    server.until_logged("in use by another stepcast process; trying again", 1);
    (server, connection, lock)
}

#[test]
fn where_the_new_process_cannot_open_the_store_after_all_the_old_one_opens_it_again_and_serves() {
    let directory = TempDirectory::new();
    let (server, mut connection, stolen) = without_a_store(&directory);
    drop(stolen);
    assert_eq!(ask(&mut connection, &server, &publish(2)).status, 202);
    let mut stream = server.stream(STREAM);
    assert_eq!(stream.next().expect("connected").kind(), "connected");
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn a_process_that_waits_for_its_store_after_an_upgrade_that_failed_ends_when_it_is_told_to() {
    let directory = TempDirectory::new();
    let (mut server, _connection, _stolen) = without_a_store(&directory);
    server.signal(Signal::TERM);
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn where_the_old_process_is_killed_while_its_steps_have_their_grace_the_new_one_ends_too() {
    let directory = TempDirectory::new();
    let (mut server, new) = held_up(&directory);
    server.signal(Signal::KILL);
    assert_eq!(server.wait(), None);
    wait_for("the end of the new process", || (!is_alive(number(new))).then_some(()));
    let started_again = Setup::default().data(&directory.join("data")).start();
    assert_eq!(started_again.call(publish(1)).status, 202);
}

#[test]
fn a_new_process_that_hung_kept_the_old_one_from_ending_at_the_second_signal() {
    let directory = TempDirectory::new();
    let (mut server, new) = held_up(&directory);
    kill_process(new, Signal::STOP).expect("it waits");
    open_gate(&directory);
    wait_for("the end of the old loop", || (threads(server.pid(), "loop") == 0).then_some(()));
    server.signal(Signal::TERM);
    wait_for("the signal to be heard", || {
        let status = read_to_string(format!("/proc/{}/status", number(new))).ok()?;
        let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"))?;
        (u64::from_str_radix(pending.trim(), 16).ok()? != 0).then_some(())
    });
    server.signal(Signal::TERM);
    assert_eq!(server.wait(), Some(0));
    wait_for("the end of the new process", || (!is_alive(number(new))).then_some(()));
}

#[test]
fn a_new_process_that_was_not_ready_was_left_behind_by_one_that_was_told_to_end() {
    let directory = TempDirectory::new();
    let mut server = replaceable(&directory);
    let noted: PathBuf = directory.join("pid");
    // Neither its line nor the end of its parent means anything to it.
    install_script(&directory, &format!("echo $$ > '{0}.part'; mv '{0}.part' '{0}'; exec sleep 600", noted.display()));
    upgrade(&server);
    let pid: u64 = wait_for("it to start", || read_to_string(&noted).ok()?.trim().parse().ok());
    assert!(is_alive(pid));
    server.signal(Signal::TERM);
    assert_eq!(server.wait(), Some(0));
    assert!(!is_alive(pid));
    assert!(server.log().iter().any(|line| line.contains("no upgrade: this process was told to end")));
}

#[test]
fn a_service_that_ends_with_its_first_process_is_not_upgraded() {
    // As systemd starts a service that is not of Type=notify.
    let server = Setup::default().after("export SYSTEMD_EXEC_PID=$$").start();
    let mut stream = server.stream(STREAM);
    stream.next();
    upgrade(&server);
    let line = server.until_logged("upgrade refused: ", 1);
    assert!(line.contains("its unit needs Type=notify"), "{line}");
    assert_eq!(server.call(publish(1)).status, 202);
    assert_eq!(stream.next().expect("it goes on").kind(), "n");
    let inherited = Setup::default().environment("SYSTEMD_EXEC_PID", "1").start();
    upgrade(&inherited);
    let _serves = inherited.until_upgraded(1);
}
