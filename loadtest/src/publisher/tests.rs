//! A publisher against a server made of a plain socket.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::channel;

use super::*;

/// After this long something that should happen counts as never happening.
const DEADLINE: Duration = Duration::from_secs(60);

fn listen() -> (TcpListener, Target) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let target = Target::new(listener.local_addr().expect("bound")).expect("loopback");
    (listener, target)
}

fn plan(target: Target, connections: usize, requests: u64) -> Plan {
    let projects = vec!["p".to_owned()];
    let pace = Pace::PerSecond(1e6);
    Plan { target, projects, payload_bytes: 100, batch: 1, connections, pace, requests, token: None }
}

fn read_request(socket: &mut TcpStream) {
    let (mut seen, mut chunk) = (Vec::new(), [0; 1024]);
    while !seen.ends_with(b"\"}}") {
        let n = socket.read(&mut chunk).expect("a request");
        assert!(n > 0, "half a request");
        seen.extend_from_slice(&chunk[..n]);
    }
}

fn answer(socket: &mut TcpStream, status: &str, body: &str) {
    write!(socket, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).expect("it is read");
}

#[test]
fn a_connection_closed_for_idleness_is_opened_again() {
    let (listener, target) = listen();
    let (done, is_done) = channel();
    let publisher = Publisher::start(plan(target, 2, 1)).expect("a thread");
    std::thread::spawn(move || {
        let (mut busy, _) = listener.accept().expect("the first connection");
        drop(listener.accept().expect("the second, which has nothing to do"));
        let _again = listener.accept().expect("the second again");
        read_request(&mut busy);
        answer(&mut busy, "202 Accepted", "{}");
        let _ = done.send(());
    });
    is_done.recv_timeout(DEADLINE).expect("it is opened again");
    assert_eq!(publisher.stop().expect("all is well").messages, 1);
}

#[test]
fn refusals_are_counted_and_the_first_is_told() {
    let (listener, target) = listen();
    let (done, is_done) = channel();
    let publisher = Publisher::start(plan(target, 1, 3)).expect("a thread");
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("a connection");
        for status in ["202 Accepted", "503 Service Unavailable", "429 Too Many Requests"] {
            read_request(&mut socket);
            answer(&mut socket, status, "why");
        }
        let _ = done.send(socket);
    });
    let _socket = is_done.recv_timeout(DEADLINE).expect("three requests");
    let published = publisher.stop().expect("refusals are answers");
    assert_eq!((published.messages, published.refused), (1, 2));
    assert_eq!(published.first_refusal.as_deref(), Some("503 why"));
    assert_eq!(published.answers.len(), 3);
}

#[test]
fn a_connection_closed_under_a_request_is_a_failure() {
    let (listener, target) = listen();
    let (done, is_done) = channel();
    let publisher = Publisher::start(plan(target, 1, 1)).expect("a thread");
    std::thread::spawn(move || {
        read_request(&mut listener.accept().expect("a connection").0);
        let _ = done.send(());
    });
    is_done.recv_timeout(DEADLINE).expect("a request");
    assert!(publisher.stop().is_err());
}
