//! A fleet against a server made of plain sockets.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use super::*;
use crate::loopback::Target;
use crate::watch::Watch;

/// After this long something that should happen counts as never happening.
const DEADLINE: Duration = Duration::from_secs(60);

const MEMBERS: usize = 3;

/// Takes a request for a stream; what its `Last-Event-ID` says.
fn accept(listener: &TcpListener) -> (TcpStream, Option<String>) {
    let (mut socket, _) = listener.accept().expect("a connection");
    let (mut seen, mut chunk) = (Vec::new(), [0; 1024]);
    while !seen.ends_with(b"\r\n\r\n") {
        let n = socket.read(&mut chunk).expect("a request");
        assert!(n > 0, "half a request");
        seen.extend_from_slice(&chunk[..n]);
    }
    let head = String::from_utf8(seen).expect("text");
    let id = head.lines().find_map(|line| line.strip_prefix("Last-Event-ID: ")).map(str::to_owned);
    (socket, id)
}

/// `connected`, then the messages of these numbers.
fn stream(socket: &mut TcpStream, resume: &str, after: u64, messages: &[u64]) {
    let mut bytes = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nretry: 1\n\n".to_owned();
    let mut event = |seq: u64, kind: &str, payload: &str| {
        let data = format!("{{\"type\":\"{kind}\",\"projectId\":\"p\",\"seq\":{seq},\"payload\":{payload}}}");
        bytes += &format!("id: i{seq}\ndata: {data}\n\n");
    };
    event(after, "connected", &format!("{{\"resume\":\"{resume}\"}}"));
    messages.iter().for_each(|seq| event(*seq, "load", "{}"));
    socket.write_all(bytes.as_bytes()).expect("it is read");
}

fn fleet(comes_back: bool) -> (TcpListener, Fleet) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let target = Target::new(listener.local_addr().expect("bound")).expect("loopback");
    let settings = Settings { threads: 2, comes_back, ..Settings::new(target, "p", MEMBERS) };
    (listener, Fleet::open_new(&settings).expect("threads"))
}

#[test]
fn a_fleet_comes_goes_and_goes_on_where_it_was() {
    let (listener, fleet) = fleet(false);
    let mut watch = Watch::new(DEADLINE);
    let mut wait = |what: &str, condition: &dyn Fn() -> bool| watch.until(what, condition, String::new).expect(what);
    fleet.set_goal(6).expect("threads");
    let streams: Vec<TcpStream> = (0..MEMBERS)
        .map(|_| {
            let (mut socket, id) = accept(&listener);
            assert_eq!(id, None);
            stream(&mut socket, "fresh", 4, &[5, 6]);
            socket
        })
        .collect();
    wait("all at the goal", &|| fleet.gauges().at_goal() == MEMBERS && fleet.gauges().greeted() == MEMBERS);
    fleet.close();
    wait("all gone", &|| fleet.gauges().greeted() == 0);
    drop(streams);
    fleet.set_goal(7).expect("threads");
    assert_eq!(fleet.gauges().at_goal(), 0);
    fleet.open();
    let _streams: Vec<TcpStream> = (0..MEMBERS)
        .map(|number| {
            let (mut socket, id) = accept(&listener);
            assert_eq!(id.as_deref(), Some("i6"));
            stream(&mut socket, "resumed", 6, if number == 0 { &[8] } else { &[7] });
            socket
        })
        .collect();
    wait("all at the goal again", &|| fleet.gauges().at_goal() == MEMBERS);
    let tally = fleet.tally().expect("threads");
    assert_eq!((tally.messages, tally.lost, tally.repeated), (9, 1, 0), "one of them lost number 7");
    assert_eq!((tally.begun["fresh"], tally.begun["resumed"]), (3, 3));
}

#[test]
fn a_stream_that_ends_is_opened_again_by_those_that_come_back() {
    let (listener, fleet) = fleet(true);
    for _ in 0..MEMBERS {
        let (mut socket, _) = accept(&listener);
        stream(&mut socket, "fresh", 0, &[1]);
    }
    let (_again, ids): (Vec<_>, Vec<_>) = (0..MEMBERS).map(|_| accept(&listener)).unzip();
    assert_eq!(ids, vec![Some("i1".to_owned()); MEMBERS]);
    let tally = fleet.tally().expect("threads");
    assert_eq!((tally.ended, tally.complaints("they")), (MEMBERS as u64, vec![]));
}
