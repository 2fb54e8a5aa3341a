//! Sockets passed by a service manager, and what it is told.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use rustix::process::Signal;

use super::{gated, open_gate, publish, run_to_the_gate, upgrade};
use crate::common::DEADLINE;
use crate::common::client::{Connection, Request};
use crate::common::server::{Setup, TempDirectory};

fn ask_by_path(path: &std::path::Path, target: &str) -> String {
    let mut socket = UnixStream::connect(path).expect("it listens");
    socket.set_read_timeout(Some(DEADLINE)).expect("not zero");
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn sockets_of_a_service_manager_are_served_at_in_place_of_listen() {
    let directory = TempDirectory::new();
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = tcp.local_addr().expect("bound");
    // It waits until there is a server.
    let mut early = Connection::open(address);
    early.write(&Request::get("/healthz").bytes(address));
    let path = directory.join("socket");
    let unix = UnixListener::bind(&path).expect("a listener");
    let sockets = vec![(tcp.into(), "stepcast.socket"), (unix.into(), "stepcast.socket")];
    let server = Setup::default().data(&directory.join("data")).sockets(sockets).start();
    assert_eq!(server.address, address);
    let line = server.until_logged("ignoring listen", 1);
    assert!(line.contains(&format!("{address}, unix:{}", path.display())), "{line}");
    assert_eq!(early.response(false).expect("an answer").status, 200);
    assert!(ask_by_path(&path, "/readyz").starts_with("HTTP/1.1 200 "));
    // Both go on in a process that takes over.
    upgrade(&server);
    let _serves = server.until_upgraded(1);
    assert_eq!(server.call(publish(1)).status, 202);
    assert!(ask_by_path(&path, "/readyz").starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_socket_of_the_name_metrics_is_for_metrics() {
    let directory = TempDirectory::new();
    let (main, metrics) = (TcpListener::bind("127.0.0.1:0"), UnixListener::bind(directory.join("socket")));
    let sockets = vec![(main.expect("one").into(), "http"), (metrics.expect("another").into(), "metrics")];
    let server = Setup::default().sockets(sockets).start();
    assert_eq!(server.get("/metrics").status, 404);
    let answer = ask_by_path(&directory.join("socket"), "/metrics");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("stepcast_"), "{answer}");
}

#[test]
fn sockets_that_cannot_be_served_at_end_the_start() {
    let directory = TempDirectory::new();
    let open = TcpListener::bind("0.0.0.0:0").expect("a listener");
    let (status, said) = Setup::default().sockets(vec![(open.into(), "")]).launch().refusal();
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("auth.mode"), "{said}");
    let datagram = UnixDatagram::bind(directory.join("socket")).expect("a socket");
    let (status, said) = Setup::default().sockets(vec![(datagram.into(), "")]).launch().refusal();
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("cannot use the sockets of the service manager"), "{said}");
    let lacking = Setup::default().after("export LISTEN_PID=$$ LISTEN_FDS=7").launch();
    let (status, said) = lacking.refusal();
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("of LISTEN_FDS=7 is not open"), "{said}");
    // They were meant for another process.
    let server = Setup::default().after("export LISTEN_PID=1 LISTEN_FDS=7").start();
    assert_eq!(server.get("/healthz").status, 200);
}

/// What a service manager would hear.
struct Manager(UnixDatagram);

impl Manager {
    fn at(path: &std::path::Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("a socket");
        socket.set_read_timeout(Some(DEADLINE)).expect("not zero");
        Self(socket)
    }

    fn next(&self) -> String {
        let mut text = [0; 1024];
        let bytes = self.0.recv(&mut text).expect("it is told something");
        String::from_utf8(text[..bytes].to_vec()).expect("text")
    }

    fn next_but_beats(&self) -> String {
        loop {
            let said = self.next();
            if said != "WATCHDOG=1" {
                return said;
            }
        }
    }

    fn until_beat(&self) {
        while self.next() != "WATCHDOG=1" {}
    }
}

#[test]
fn a_service_manager_is_told_of_start_life_upgrade_and_end() {
    let directory = TempDirectory::new();
    let manager = Manager::at(&directory.join("notify"));
    let path = directory.join("notify");
    let path = path.to_str().expect("plain characters");
    let setup = gated(&directory).flags(&["--executor-grace", "5m"]).environment("NOTIFY_SOCKET", path);
    let mut server = setup.environment("WATCHDOG_USEC", "200000").start();
    let serving = format!("READY=1\nSTATUS=serving at http://{}", server.address);
    assert_eq!(manager.next_but_beats(), serving);
    manager.until_beat();
    manager.until_beat();
    run_to_the_gate(&server);
    upgrade(&server);
    let reloading = manager.next_but_beats();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    server.until_logged("is ready to take over", 1);
    manager.until_beat();
    open_gate(&directory);
    let serves = server.until_upgraded(1);
    assert_eq!(manager.next_but_beats(), format!("MAINPID={}", serves.pid()));
    assert_eq!(server.wait(), Some(0));
    assert_eq!(manager.next_but_beats(), serving);
    manager.until_beat();
    serves.signal(Signal::TERM);
    assert_eq!(manager.next_but_beats(), "STOPPING=1\nSTATUS=stopping");
    serves.until_ended();
}

#[test]
fn where_an_upgrade_does_not_come_about_the_service_is_ready_again() {
    let directory = TempDirectory::new();
    let manager = Manager::at(&directory.join("notify"));
    let path = directory.join("notify");
    let config = directory.join("toml");
    std::fs::write(&config, "").expect("a file");
    let flags = ["--config", config.to_str().expect("plain characters")];
    let setup = Setup::default().flags(&flags).environment("NOTIFY_SOCKET", path.to_str().expect("plain characters"));
    let server = setup.start();
    let serving = manager.next();
    std::fs::write(&config, "nonsense = 1").expect("a file");
    upgrade(&server);
    assert!(manager.next().starts_with("RELOADING=1\n"));
    assert_eq!(manager.next(), serving);
}

#[test]
fn after_an_upgrade_that_failed_at_its_end_the_manager_was_told_of_the_stop_twice() {
    let directory = TempDirectory::new();
    let manager = Manager::at(&directory.join("notify"));
    let path = directory.join("notify");
    let setup = gated(&directory).flags(&["--executor-grace", "5m"]);
    let setup = setup.environment("NOTIFY_SOCKET", path.to_str().expect("plain characters"));
    let mut server = setup.environment("WATCHDOG_USEC", "200000").start();
    let serving = manager.next_but_beats();
    run_to_the_gate(&server);
    upgrade(&server);
    assert!(manager.next_but_beats().starts_with("RELOADING=1\n"));
    let line = server.until_logged("is ready to take over", 1);
    let new = line.split("process ").nth(1).and_then(|it| it.split(' ').next()?.parse().ok());
    rustix::process::kill_process(new.and_then(rustix::process::Pid::from_raw).expect("a pid"), Signal::KILL)
        .expect("it waits");
    open_gate(&directory);
    assert_eq!(manager.next_but_beats(), serving);
    // The thread that beat was that of the server before.
    manager.until_beat();
    manager.until_beat();
    server.signal(Signal::TERM);
    assert_eq!(server.wait(), Some(0));
    manager.0.set_nonblocking(true).expect("a socket");
    let mut text = [0; 1024];
    let said = std::iter::from_fn(|| manager.0.recv(&mut text).ok().map(|bytes| text[..bytes].to_vec()));
    assert_eq!(said.filter(|it| it.starts_with(b"STOPPING=1")).count(), 1);
}
