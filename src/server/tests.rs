//! A connection alone, and what of everything there may be.

mod bench;
mod bodies;
mod framing;
mod keys;
mod leaving;
mod limits;
mod panics;

use std::time::Duration;

use bench::{BODY, Bench, HEADER, IDLE, OUTPUT, SWEEP};

use super::connections::Connection;
use super::replies::CONGESTION_HOLD;
use crate::http::contents;
use crate::log::{Answer, Refusal};

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n";

fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn publish(n: u32) -> String {
    post("/api/projects/p/events", &format!("{{\"type\":\"note\",\"payload\":{{\"n\":{n}}}}}"))
}

fn stream(path_and_query: &str) -> String {
    let path = format!("/api/sse/projects/{path_and_query}");
    format!("GET {path} HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n")
}

/// The statuses of the answers in `text`, in order.
fn statuses(text: &str) -> Vec<u16> {
    let lines = text.split("HTTP/1.1 ").skip(1);
    lines.filter_map(|line| line.get(..3)?.parse().ok()).collect()
}

/// Requests of every kind, one after the other.
fn script() -> String {
    let chunked = "POST /api/projects/p/events HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
        10\r\n{\"type\":\"c\",\"pay\r\nb\r\nload\":{}}  \r\n0\r\n\r\n";
    let head = "HEAD /healthz HTTP/1.1\r\nHost: h\r\n\r\n";
    let unknown = "GET /nowhere HTTP/1.1\r\nHost: h\r\n\r\n";
    let last = "GET /readyz HTTP/1.0\r\n\r\n";
    [HEALTH, &publish(1), chunked, head, unknown, &publish(2), last].concat()
}

fn play(read_max: usize, bytes_a_write: usize) -> String {
    let mut bench = Bench::new();
    let client = bench.connect();
    client.wire.borrow_mut().read_max = read_max;
    client.wire.borrow_mut().room = bytes_a_write;
    for chunk in script().as_bytes().chunks(read_max) {
        bench.send(&client, str::from_utf8(chunk).expect("ASCII"));
    }
    while !client.wire.borrow().is_finished {
        bench.make_room(&client, bytes_a_write);
    }
    client.take()
}

#[test]
fn requests_are_answered_in_order_however_they_are_cut_and_taken() {
    let whole = play(usize::MAX, usize::MAX);
    assert_eq!(statuses(&whole), [200, 202, 202, 200, 404, 202, 200]);
    let ids = whole.matches("{\"ids\":[\"").count();
    assert!(ids == 3 && whole.contains("Connection: close"), "{whole}");
    for (read_max, bytes_a_write) in [(1, usize::MAX), (1, 1), (7, 3), (1000, 1)] {
        assert!(play(read_max, bytes_a_write) == whole, "{read_max} bytes a read, {bytes_a_write} a write");
    }
}

#[test]
fn an_answer_that_has_to_wait_keeps_those_behind_it_waiting() {
    let mut bench = Bench::new();
    let client = bench.connect();
    bench.is_log_held_up = true;
    assert_eq!(bench.ask(&client, &format!("{}{HEALTH}", publish(1))), "");
    bench.is_log_held_up = false;
    bench.turns();
    assert_eq!(statuses(&client.take()), [202, 200]);
}

#[test]
fn a_head_alone_has_the_length_and_no_content() {
    let mut bench = Bench::new();
    let client = bench.connect();
    let whole = bench.ask(&client, HEALTH);
    let head = bench.ask(&client, &HEALTH.replace("GET", "HEAD"));
    assert_eq!(whole.strip_suffix("{\"status\":\"ok\"}"), Some(&*head));
    let stream_head = bench.ask(&client, &stream("p").replace("GET", "HEAD"));
    assert!(stream_head.contains("Content-Type: text/event-stream") && stream_head.ends_with("\r\n\r\n"));
    assert!(client.wire.borrow().is_finished && bench.server.gauges().streams == 0);
}

#[test]
fn a_body_that_is_held_back_is_asked_for_once() {
    let mut bench = Bench::new();
    let client = bench.connect();
    let request = publish(1).replace("Host: h\r\n", "Host: h\r\nExpect: 100-continue\r\n");
    let (head, body) = request.split_at(request.find("{\"type").expect("a body"));
    assert_eq!(bench.ask(&client, head), "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(bench.ask(&client, &body[..5]), "");
    assert_eq!(statuses(&bench.ask(&client, &body[5..])), [202]);
    assert_eq!(statuses(&bench.ask(&client, &request)), [202], "it came by itself");
}

#[test]
fn whoever_sends_no_more_still_gets_every_answer() {
    let mut bench = Bench::new();
    let client = bench.connect();
    client.wire.borrow_mut().to_server.extend(format!("{}{HEALTH}{}", publish(1), publish(2)).bytes());
    bench.half_close(&client);
    assert_eq!(statuses(&client.take()), [202, 200, 202]);
    assert!(client.is_dropped());

    let client = bench.connect();
    bench.is_log_held_up = true;
    bench.send(&client, &publish(3));
    bench.half_close(&client);
    assert!(!client.is_dropped(), "it is owed an answer");
    bench.is_log_held_up = false;
    bench.turns();
    assert_eq!((statuses(&client.take()), client.is_dropped()), (vec![202], true));

    let client = bench.connect();
    bench.send(&client, &HEALTH[..20]);
    bench.half_close(&client);
    assert_eq!((client.take(), client.is_dropped()), (String::new(), true), "half a request is none");
}

#[test]
fn who_says_nothing_is_let_go_without_a_word_and_who_says_half_is_told() {
    let slow_body = post("/api/projects/p/events", "0123456789");
    let slow_body = &slow_body[..slow_body.len() - 1];
    for (name, said, time, answer) in [
        ("nothing", "", HEADER, vec![]),
        ("an empty line", "\r\n", HEADER, vec![]),
        ("half a head", "GET /healthz HT", HEADER, vec![408]),
        ("half a body", slow_body, BODY, vec![408]),
        ("one request", HEALTH, IDLE, vec![200]),
    ] {
        let mut bench = Bench::new();
        let client = bench.connect();
        bench.send(&client, said);
        bench.wait(time - SWEEP);
        assert!(!client.is_dropped() && !client.wire.borrow().is_finished, "{name}: too early");
        bench.wait(2 * SWEEP);
        assert_eq!(statuses(&client.take()), answer, "{name}");
        assert!(client.is_dropped() || client.wire.borrow().is_finished, "{name}");
    }
}

#[test]
fn a_head_that_comes_byte_by_byte_has_no_more_time() {
    let mut bench = Bench::new();
    let client = bench.connect();
    for byte in HEALTH[..11].split_terminator("") {
        bench.send(&client, byte);
        bench.wait(Duration::from_secs(1));
    }
    assert_eq!(statuses(&client.take()), [408]);
}

#[test]
fn a_refusal_arrives_before_the_end_and_what_still_comes_is_dropped() {
    let mut bench = Bench::new();
    let client = bench.connect();
    bench.send(&client, "GET /healthz HT");
    assert_eq!(statuses(&bench.ask(&client, "TP/3.0\r\n\r\n")), [505]);
    assert!(client.wire.borrow().is_finished && !client.is_dropped());
    bench.send(&client, HEALTH);
    assert_eq!((client.take(), client.wire.borrow().to_server.len()), (String::new(), 0));
    bench.wait(HEADER);
    assert_eq!((client.take(), client.is_dropped()), (String::new(), true), "not refused again as too slow");

    let patient = bench.connect();
    bench.send(&patient, "nonsense\r\n\r\n");
    bench.half_close(&patient);
    assert!(patient.is_dropped(), "it has left");
}

#[test]
fn a_refused_client_that_talks_on_does_not_put_its_end_off() {
    let mut bench = Bench::new();
    let client = bench.connect();
    bench.send(&client, "nonsense\r\n\r\n");
    for _ in 0..10 {
        bench.send(&client, HEALTH);
        bench.wait(Duration::from_millis(500));
    }
    assert!(client.is_dropped());
}

#[test]
fn no_more_is_read_than_one_request_may_have_while_an_answer_is_awaited() {
    let mut bench = Bench::new();
    let client = bench.connect();
    bench.is_log_held_up = true;
    bench.send(&client, &publish(1));
    bench.send(&client, &HEALTH.repeat(20_000));
    let unread = client.wire.borrow().to_server.len();
    assert!(unread > HEALTH.len() * 10_000, "{unread} bytes are left where they are");
    bench.is_log_held_up = false;
    bench.turns();
    assert_eq!(statuses(&client.take()).len(), 20_001, "and are read later, though no event tells of them");
}

#[test]
fn what_was_left_unread_while_an_answer_was_awaited_is_read_afterwards() {
    let mut bench = Bench::new();
    let client = bench.connect();
    let large =
        post("/api/projects/p/events", &format!("{{\"type\":\"x\",\"payload\":{{}},\"{}\":0}}", "y".repeat(4000)));
    bench.is_log_held_up = true;
    bench.send(&client, &publish(1));
    bench.send(&client, &large.repeat(30));
    assert!(!client.wire.borrow().to_server.is_empty(), "there is more than is read ahead");
    bench.is_log_held_up = false;
    bench.turns();
    assert_eq!(statuses(&client.take()), [202; 31]);
}

#[test]
fn answers_that_are_not_taken_hold_up_the_requests_behind_them_and_no_more() {
    let mut bench = Bench::new();
    let client = bench.connect();
    client.wire.borrow_mut().room = 0;
    let openapi = HEALTH.replace("healthz", "openapi.json");
    bench.send(&client, &openapi.repeat(2000));
    assert!(bench.server.owes_answers());
    let mut answers = 0;
    for _ in 0..10_000 {
        bench.make_room(&client, 1 << 20);
        answers += statuses(&client.take()).len();
        if answers == 2000 {
            break;
        }
    }
    assert_eq!((answers, client.wire.borrow().to_server.len()), (2000, 0));
    bench.make_room(&client, 1 << 20);
    assert_eq!(statuses(&bench.ask(&client, HEALTH)), [200]);
}

#[test]
fn a_connection_that_took_its_answers_late_has_its_deadline_again() {
    let mut bench = Bench::new();
    let client = bench.connect();
    client.wire.borrow_mut().room = 10;
    bench.send(&client, HEALTH);
    bench.wait(OUTPUT - SWEEP);
    bench.make_room(&client, usize::MAX);
    assert_eq!(statuses(&client.take()), [200]);
    bench.wait(IDLE - SWEEP);
    assert!(!client.is_dropped());
    bench.wait(2 * SWEEP);
    assert!(client.is_dropped());
}

#[test]
fn who_takes_no_answers_is_let_go_though_it_sends_on() {
    let mut bench = Bench::new();
    let client = bench.connect();
    client.wire.borrow_mut().room = 10;
    for _ in 0..8 {
        bench.send(&client, HEALTH);
        bench.wait(OUTPUT / 7);
    }
    assert!(client.is_dropped());
}

#[test]
fn one_connection_with_many_requests_leaves_the_others_their_turn() {
    let mut bench = Bench::new();
    let [greedy, modest] = [bench.connect(), bench.connect()];
    greedy.wire.borrow_mut().to_server.extend(HEALTH.repeat(1000).bytes());
    modest.wire.borrow_mut().to_server.extend(HEALTH.bytes());
    bench.readable(&greedy);
    bench.readable(&modest);
    assert_eq!(statuses(&modest.take()), [200]);
    let before = statuses(&greedy.take()).len();
    assert!((1..200).contains(&before), "{before} answers before the others' turn");
    bench.turns();
    assert_eq!(before + statuses(&greedy.take()).len(), 1000);
}

#[test]
fn a_flood_of_requests_has_one_turn_in_each_of_the_loop_however_long_it_goes_on() {
    let mut bench = Bench::new();
    let client = bench.connect();
    client.wire.borrow_mut().to_server.extend(HEALTH.repeat(50_000).bytes());
    bench.readable(&client);
    let mut answers = statuses(&client.take()).len();
    for turn in 0..20 {
        assert!(bench.turn(), "there is more");
        let more = statuses(&client.take()).len();
        assert!((1..=128).contains(&more), "{more} answers in turn {turn}");
        answers += more;
    }
    bench.turns();
    assert_eq!(answers + statuses(&client.take()).len(), 50_000);
}

#[test]
fn a_socket_that_gave_less_than_was_asked_for_is_not_asked_again_unless_it_has_closed() {
    let mut bench = Bench::new();
    let client = bench.connect();
    assert_eq!(statuses(&bench.ask(&client, HEALTH)), [200]);
    assert_eq!(client.wire.borrow().reads, 1);
    // Request and end arrive in one event: no further event would report the end.
    client.wire.borrow_mut().to_server.extend(HEALTH.bytes());
    bench.half_close(&client);
    assert_eq!(statuses(&client.take()), [200]);
    assert!(client.is_dropped());
}

#[test]
fn a_stream_begins_behind_the_answers_before_it_and_is_sent_what_is_published() {
    for room in [usize::MAX, 0] {
        let mut bench = Bench::new();
        let [watcher, publisher] = [bench.connect(), bench.connect()];
        watcher.wire.borrow_mut().room = room;
        bench.send(&watcher, &format!("{HEALTH}{}", stream("p")));
        bench.make_room(&watcher, usize::MAX);
        let began = watcher.take();
        assert_eq!(statuses(&began), [200, 200]);
        let (_, began) = began.rsplit_once("\r\n\r\n").expect("a head");
        let began = String::from_utf8(contents(began.as_bytes())).expect("text");
        assert!(began.starts_with("retry: 2000\nid: "), "{began}");
        assert!(began.contains("\"payload\":{\"resume\":\"fresh\",\"heartbeat\":15000}}\n\n"), "{began}");
        assert_eq!(statuses(&bench.ask(&publisher, &publish(7))), [202]);
        let told = String::from_utf8(contents(watcher.take().as_bytes())).expect("text");
        assert!(told.ends_with("\"seq\":1,\"payload\":{\"n\":7}}\n\n") && told.starts_with("id: "), "{told}");
        bench.half_close(&watcher);
        assert!(watcher.is_dropped() && bench.server.gauges().streams == 0);
    }
}

#[test]
fn a_stream_is_chunked_for_1_1_and_ends_with_the_connection_for_1_0() {
    let mut bench = Bench::new();
    let [new, old, publisher] = [bench.connect(), bench.connect(), bench.connect()];
    let began = bench.ask(&new, &stream("p"));
    assert!(began.contains("\r\nTransfer-Encoding: chunked\r\n") && !began.contains("\r\n\r\nretry: "), "{began}");
    let began = bench.ask(&old, &stream("p").replace("HTTP/1.1", "HTTP/1.0"));
    assert!(!began.contains("Transfer-Encoding") && began.contains("\r\n\r\nretry: 2000\nid: "), "{began}");
    bench.ask(&publisher, &publish(7));
    let [chunk, plain] = [new.take(), old.take()];
    assert!(plain.starts_with("id: ") && plain.ends_with("}\n\n"), "{plain}");
    assert_eq!(chunk, format!("{:x}\r\n{plain}\r\n", plain.len()), "the block is whole in its chunk");
    bench.server.end_streams(bench.now);
    bench.turns();
    let [chunks, plain] = [new.take(), old.take()];
    assert!(chunks.ends_with("}\n\n\r\n0\r\n\r\n") && plain.ends_with("}\n\n"), "{chunks}{plain}");
    assert!(new.is_dropped() && old.is_dropped());
}

#[test]
fn a_client_that_left_while_its_stream_was_asked_for_is_noticed() {
    let mut bench = Bench::new();
    let client = bench.connect();
    bench.is_log_held_up = true;
    bench.send(&client, &stream("p"));
    bench.half_close(&client);
    bench.is_log_held_up = false;
    bench.turns();
    assert!(client.is_dropped() && bench.server.gauges().streams == 0, "the poll does not tell of it again");
}

#[test]
fn publishers_wait_a_moment_while_most_of_those_who_watch_are_behind() {
    let mut bench = Bench::new();
    let watchers = [bench.connect(), bench.connect(), bench.connect()];
    watchers.iter().for_each(|watcher| bench.send(watcher, &stream("p")));
    let publisher = bench.connect();
    watchers[0].wire.borrow_mut().room = 0;
    assert_eq!(statuses(&bench.ask(&publisher, &publish(1))), [202]);
    assert_eq!(statuses(&bench.ask(&publisher, &publish(2))), [202], "one of three is in nobody's way");

    watchers[1].wire.borrow_mut().room = 0;
    assert_eq!(statuses(&bench.ask(&publisher, &publish(3))), [202], "that it is full is found out by this");
    assert_eq!(bench.ask(&publisher, &publish(4)), "");
    assert!(watchers[2].take().contains("\"n\":4"), "what is published is not held back");
    bench.wait(CONGESTION_HOLD - Duration::from_millis(1));
    assert_eq!(publisher.take(), "");
    assert!(bench.server.next_deadline().is_some_and(|at| at <= bench.now.mono + Duration::from_millis(1)));
    bench.wait(Duration::from_millis(1));
    assert_eq!(statuses(&publisher.take()), [202]);

    bench.make_room(&watchers[1], usize::MAX);
    assert_eq!(statuses(&bench.ask(&publisher, &publish(5))), [202], "most have everything again");
}

#[test]
fn watchers_that_take_nothing_hold_no_publisher_back() {
    let mut bench = Bench::new();
    let [slow, stuck, publisher] = [bench.connect(), bench.connect(), bench.connect()];
    bench.send(&slow, &stream("p"));
    bench.send(&stuck, &stream("p"));
    for watcher in [&slow, &stuck] {
        watcher.wire.borrow_mut().room = 0;
    }
    bench.ask(&publisher, &publish(1));
    assert_eq!(bench.ask(&publisher, &publish(2)), "", "they may be slow");
    bench.wait(CONGESTION_HOLD);
    publisher.take();
    bench.wait(Duration::from_millis(200));
    assert_eq!(statuses(&bench.ask(&publisher, &publish(3))), [202], "they take nothing");
    bench.make_room(&slow, 1);
    bench.wait(Duration::from_millis(10));
    assert_eq!(bench.ask(&publisher, &publish(4)), "", "one takes little, and the other does not count");
}

#[test]
fn a_publisher_that_leaves_while_its_answer_is_held_back_is_let_go() {
    let mut bench = Bench::new();
    let [watcher, publisher] = [bench.connect(), bench.connect()];
    bench.send(&watcher, &stream("p"));
    watcher.wire.borrow_mut().room = 0;
    bench.send(&publisher, &publish(1));
    publisher.take();
    bench.send(&publisher, &publish(2));
    bench.half_close(&publisher);
    bench.wait(CONGESTION_HOLD);
    assert_eq!(statuses(&publisher.take()), [202]);
    assert!(publisher.is_dropped());
}

#[test]
fn what_a_streams_client_says_is_dropped_and_too_much_of_it_ends_the_stream() {
    let mut bench = Bench::new();
    let client = bench.connect();
    bench.send(&client, &stream("p"));
    client.take();
    assert_eq!(bench.ask(&client, HEALTH), "");
    assert!(!client.is_dropped());
    bench.send(&client, &"x".repeat(300 * 1024));
    assert!(client.is_dropped());
}

#[test]
fn a_client_that_comes_back_goes_on_behind_what_it_has() {
    let mut bench = Bench::new();
    let publisher = bench.connect();
    let ids: Vec<String> = (1..=3)
        .map(|n| {
            let answer = bench.ask(&publisher, &publish(n));
            answer.split("{\"ids\":[\"").nth(1).and_then(|rest| rest.split('"').next()).expect("an id").to_owned()
        })
        .collect();
    let again = |id: &str| stream("p").replace("Accept", &format!("Last-Event-ID: {id}\r\nAccept"));
    for _ in 0..2 {
        // First by the log, and then by the backlog.
        let client = bench.connect();
        let told = bench.ask(&client, &again(&ids[0]));
        assert!(told.contains("\"resume\":\"resumed\"") && told.contains("\"n\":2") && told.contains("\"n\":3"));
        assert!(!told.contains("\"n\":1}"), "{told}");
    }
    let client = bench.connect();
    let told = bench.ask(&client, &again("nonsense"));
    assert!(told.contains("\"resume\":\"reset\"") && told.contains("{\"reason\":\"unknown_id\"}"), "{told}");
}

#[test]
fn what_a_connection_weighs_in_the_slab() {
    /// As the slab keeps it.
    #[expect(dead_code, reason = "only its size matters")]
    enum Entry<T> {
        Vacant(usize),
        Occupied(T),
    }
    let size = size_of::<Entry<Connection<i32>>>();
    assert!(size <= 208, "{size} bytes");
}

#[test]
fn a_late_answer_to_a_stream_of_several_projects_was_taken_for_that_to_the_next_request() {
    let (mut bench, refused) = (Bench::new(), Answer::Refused(Refusal::StoreUnavailable));
    let client = bench.connect();
    bench.is_log_held_up = true;
    bench.send(&client, "GET /api/sse?projects=a,b HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(bench.asked_of_log(), 2, "each project's beginning");
    bench.log_answers(refused);
    bench.turns();
    assert_eq!(statuses(&client.take()), [503]);
    bench.send(&client, "GET /api/projects/c/workflows/r HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(bench.asked_of_log(), 2, "the other project's beginning, and the run");
    bench.log_does_one();
    assert_eq!(client.take(), "", "nobody waits for that any more");
    bench.log_does_one();
    assert_eq!(statuses(&client.take()), [404], "its own answer");
}
