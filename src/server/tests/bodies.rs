//! Responses larger than one turn writes: they flow, and nobody waits for them.

use std::time::Duration;

use super::bench::{Bench, Client, OUTPUT, SWEEP, limits};
use super::{HEALTH, publish, statuses};
use crate::api::OUTPUT_PIECE_BYTES;
use crate::log::{Answer, Refusal};
use crate::server::ConnectionLimits;

const LIST: &str = "GET /api/projects/p/workflows HTTP/1.1\r\nHost: h\r\n\r\n";
const KIB: usize = 1024;
/// More than the head of any answer here takes.
const HEAD_MAX: usize = KIB;

/// Text in which no piece is like another.
fn text(bytes: usize) -> String {
    (0..).flat_map(|n: u32| format!("{n:06},").into_bytes()).map(char::from).take(bytes).collect()
}

/// The client asks for `LIST` after `before` and before `behind`, and the log answers `body`; no turn is taken.
fn ask_for(bench: &mut Bench, client: &Client, [before, asked, behind]: [&str; 3], body: &str) {
    bench.is_log_held_up = true;
    bench.send(client, &[before, asked, behind].concat());
    bench.log_answers(Answer::Json(body.as_bytes().to_vec()));
}

fn written(client: &Client) -> usize {
    client.wire.borrow().from_server.len()
}

#[test]
fn a_large_answer_is_written_in_pieces_and_the_others_are_served_between_them() {
    let mut bench = Bench::new();
    let [large, small] = [bench.connect(), bench.connect()];
    let body = text(10_000 * KIB);
    ask_for(&mut bench, &large, ["", LIST, ""], &body);
    let mut before = written(&large);
    assert!((1..=64 * KIB + HEAD_MAX).contains(&before), "{before} bytes before anyone else had a turn");
    for turn in 0..100 {
        small.wire.borrow_mut().to_server.extend(HEALTH.bytes());
        bench.readable(&small);
        assert_eq!(statuses(&small.take()), [200], "in turn {turn}");
        assert!(bench.turn(), "there is more to write, of which no event will tell");
        let more = written(&large) - before;
        assert_eq!(more, 64 * KIB, "in turn {turn}");
        before += more;
    }
    bench.turns();
    assert!(large.take().ends_with(&format!("\r\n\r\n{body}")));
    bench.is_log_held_up = false;
    assert_eq!(statuses(&bench.ask(&large, HEALTH)), [200], "and the connection goes on");
}

#[test]
fn a_large_answer_is_sent_at_a_measured_pace_while_others_publish_and_at_any_once_they_do_not() {
    let mut bench = Bench::new();
    let [publisher, client] = [bench.connect(), bench.connect()];
    let publish_next = |bench: &mut Bench| {
        bench.is_log_held_up = false;
        assert_eq!(statuses(&bench.ask(&publisher, &publish(1))), [202], "whatever else goes out");
    };
    publish_next(&mut bench);
    let body = text(10_000 * KIB);
    ask_for(&mut bench, &client, ["", LIST, ""], &body);
    bench.turns();
    for ms in 1..=20 {
        bench.wait(Duration::from_millis(1));
        publish_next(&mut bench);
        let most = (ms * 128 + 512 + 64) * KIB;
        assert!(written(&client) <= most, "{} bytes in {ms} ms", written(&client));
        assert!(
            bench.server.next_deadline().is_some_and(|at| at > bench.now.mono),
            "it goes on by itself, and not at once"
        );
    }
    assert!(written(&client) > 2000 * KIB, "{} bytes", written(&client));
    bench.wait(Duration::from_millis(5));
    assert!(client.take().ends_with(&body), "nobody publishes any more");
}

#[test]
fn many_large_answers_share_a_turn_and_none_is_left_behind() {
    let mut bench = Bench::new();
    let clients: Vec<Client> = (0..60).map(|_| bench.connect()).collect();
    let body = text(1000 * KIB);
    bench.is_log_held_up = true;
    clients.iter().for_each(|client| bench.send(client, LIST));
    clients.iter().for_each(|_| bench.log_answers(Answer::Json(body.clone().into_bytes())));
    let sum = || clients.iter().map(written).sum::<usize>();
    for turn in 0..12 {
        let before = sum();
        bench.turn();
        let more = sum() - before;
        assert!(more <= (1024 + 64) * KIB, "{more} bytes in turn {turn}");
    }
    let (least, most) =
        clients.iter().map(written).fold((usize::MAX, 0), |(least, most), n| (least.min(n), most.max(n)));
    assert!(most - least <= 2 * 64 * KIB, "{least} bytes of one and {most} of another");
    bench.turns();
    assert!(clients.iter().all(|client| client.take().ends_with(&body)));
}

#[test]
fn a_large_answer_keeps_its_place_however_it_is_taken() {
    for (room, bytes) in [(1, 17 * KIB), (1000, 200 * KIB), (64 * KIB, 200 * KIB), (usize::MAX, 200 * KIB)] {
        let body = text(bytes);
        let mut bench = Bench::new();
        let client = bench.connect();
        client.wire.borrow_mut().room = 0;
        ask_for(&mut bench, &client, [HEALTH, LIST, HEALTH], &body);
        for _ in 0..bytes.div_ceil(room) {
            bench.make_room(&client, room);
        }
        bench.make_room(&client, usize::MAX);
        let told = client.take();
        assert_eq!(statuses(&told), [200; 3], "{room} bytes at a time");
        assert_eq!(told.matches(&*body).count(), 1, "{room} bytes at a time");
        assert!(told.ends_with("{\"status\":\"ok\"}"), "{room} bytes at a time");
    }
}

#[test]
fn a_large_answer_that_is_not_taken_is_held_once_and_given_up_in_the_end() {
    let mut bench = Bench::new();
    let client = bench.connect();
    client.wire.borrow_mut().room = 100 * KIB;
    let body = text(1000 * KIB);
    ask_for(&mut bench, &client, ["", LIST, HEALTH], &body);
    bench.turns();
    let held = bench.server.gauges().buffer_bytes;
    assert!((990 * KIB..1010 * KIB).contains(&held), "{held} bytes");
    assert!(bench.server.owes_answers());
    bench.wait(OUTPUT - SWEEP);
    bench.make_room(&client, 10);
    bench.wait(OUTPUT - SWEEP);
    assert!(!client.is_dropped(), "it has taken something");
    bench.wait(2 * SWEEP);
    assert!(client.is_dropped());
    assert_eq!((bench.server.gauges().buffer_bytes, bench.server.owes_answers()), (0, false));
}

#[test]
fn a_client_that_takes_nothing_had_more_time_for_sending_while_others_had_the_turn() {
    for requests in 40..64 {
        let mut bench = Bench::new();
        let deaf = bench.connect();
        deaf.wire.borrow_mut().room = 10 * KIB;
        ask_for(&mut bench, &deaf, ["", LIST, ""], &text(1000 * KIB));
        bench.turns();
        bench.wait(OUTPUT - SWEEP);
        // In one of these cases all of a turn's work but less than what the deaf one sends.
        let [busy, busier] = [bench.connect(), bench.connect()];
        busy.wire.borrow_mut().to_server.extend(HEALTH.repeat(3 * 64).bytes());
        (0..3).for_each(|_| bench.readable(&busy));
        busier.wire.borrow_mut().to_server.extend(HEALTH.repeat(requests).bytes());
        bench.readable(&busier);
        deaf.wire.borrow_mut().to_server.extend([b'x'; 16 * KIB]);
        bench.readable(&deaf);
        bench.wait(2 * SWEEP);
        assert!(deaf.is_dropped(), "beside {requests} requests");
    }
}

#[test]
fn a_large_answer_beyond_what_may_be_held_is_let_go() {
    let mut bench = Bench::with(ConnectionLimits { buffer_bytes: 500 * KIB, ..limits() }, false);
    let [deaf, other] = [bench.connect(), bench.connect()];
    deaf.wire.borrow_mut().room = 0;
    ask_for(&mut bench, &deaf, ["", LIST, ""], &text(1000 * KIB));
    bench.turns();
    assert!(deaf.is_dropped() && bench.server.gauges().buffer_bytes == 0);
    assert_eq!(statuses(&bench.ask(&other, HEALTH)), [200]);
}

#[test]
fn whoever_sends_no_more_still_gets_all_of_a_large_answer() {
    for is_last in [false, true] {
        let mut bench = Bench::new();
        let client = bench.connect();
        let request = if is_last { LIST.replace("Host", "Connection: close\r\nHost") } else { LIST.to_owned() };
        let body = text(300 * KIB);
        ask_for(&mut bench, &client, ["", &request, ""], &body);
        client.wire.borrow_mut().is_half_closed = true;
        bench.readable(&client);
        assert!(!client.is_dropped(), "most of it is still to come");
        bench.turns();
        assert!(client.take().ends_with(&body) && client.is_dropped());
    }
}

#[test]
fn the_head_of_a_large_answer_has_its_length_and_nothing_of_it() {
    let mut bench = Bench::new();
    let client = bench.connect();
    let body = text(300 * KIB);
    ask_for(&mut bench, &client, ["", &LIST.replace("GET", "HEAD"), HEALTH], &body);
    bench.turns();
    let told = client.take();
    assert!(told.contains(&format!("Content-Length: {}\r\n", body.len())), "{told}");
    assert_eq!(statuses(&told), [200, 200]);
    assert_eq!(bench.server.gauges().buffer_bytes, 0);
}

#[test]
fn a_client_that_is_gone_leaves_nothing_of_a_large_answer_behind() {
    let mut bench = Bench::new();
    let client = bench.connect();
    ask_for(&mut bench, &client, ["", LIST, ""], &text(1000 * KIB));
    bench.abandon(&client);
    bench.turns();
    assert!(client.is_dropped() && bench.server.gauges().buffer_bytes == 0);
    let next = bench.connect();
    assert_eq!(statuses(&bench.ask(&next, HEALTH)), [200]);
}

const OUTPUT_OF_A: &str = "GET /api/projects/p/workflows/r/steps/a/output HTTP/1.1\r\nHost: h\r\n\r\n";

fn print(bench: &mut Bench, body: &str) {
    let chunks: Vec<&str> = body.as_bytes().chunks(50_000).map(|chunk| str::from_utf8(chunk).expect("ASCII")).collect();
    bench.print(&chunks);
}

#[test]
fn an_output_flows_from_the_log_as_it_is_taken() {
    for (room, bytes) in [(50 * KIB, 1000 * KIB), (usize::MAX, 1000 * KIB), (KIB, 20 * KIB), (KIB, 1)] {
        let mut bench = Bench::new();
        let client = bench.connect();
        let body = text(bytes);
        print(&mut bench, &body);
        client.wire.borrow_mut().room = 0;
        bench.send(&client, &[HEALTH, OUTPUT_OF_A, HEALTH].concat());
        let held = bench.server.gauges().buffer_bytes;
        assert!(held <= 2 * OUTPUT_PIECE_BYTES + HEAD_MAX, "{held} bytes are held for one that takes nothing");
        for _ in 0..bytes.div_ceil(room) {
            bench.make_room(&client, room);
            let held = bench.server.gauges().buffer_bytes;
            assert!(held <= 2 * OUTPUT_PIECE_BYTES + HEAD_MAX, "{held} bytes are held");
        }
        bench.make_room(&client, usize::MAX);
        let told = client.take();
        assert_eq!(statuses(&told), [200; 3]);
        assert!(told.contains(&format!("\r\n\r\n{body}HTTP/1.1 200 OK\r\n")), "{bytes} bytes, {room} at a time");
    }
}

#[test]
fn a_part_of_an_output_and_its_head_alone_are_what_they_say() {
    let mut bench = Bench::new();
    let client = bench.connect();
    let body = text(1000 * KIB);
    print(&mut bench, &body);
    let length = body.len();
    for (range, part) in
        [("bytes=5-600004", 5..600_005), ("bytes=0-9", 0..10), ("bytes=-300000", length - 300_000..length)]
    {
        let told = bench.ask(&client, &OUTPUT_OF_A.replace("Host", &format!("Range: {range}\r\nHost")));
        assert_eq!(statuses(&told), [206], "{range}");
        let said = format!("Content-Range: bytes {}-{}/{length}\r\n", part.start, part.end - 1);
        assert!(told.contains(&said) && told.ends_with(&format!("\r\n\r\n{}", &body[part])), "{range}");
    }
    let head = bench.ask(&client, &OUTPUT_OF_A.replace("GET", "HEAD"));
    assert!(head.contains(&format!("Content-Length: {length}\r\n")) && head.ends_with("\r\n\r\n"), "{head}");
    bench.is_log_held_up = true;
    assert_eq!((bench.asked_of_log(), bench.server.gauges().buffer_bytes), (0, 0));
}

#[test]
fn an_output_that_breaks_off_ends_the_connection_because_its_length_was_promised() {
    for breaks in [
        Answer::Refused(Refusal::StoreUnavailable),
        Answer::Refused(Refusal::OutputReplaced),
        Answer::OutputRest { bytes: Vec::new(), rest: None },
        Answer::OutputRest { bytes: vec![b'x'; 10], rest: None },
        Answer::OutputRest { bytes: vec![b'x'; 2000 * KIB], rest: None },
    ] {
        let mut bench = Bench::new();
        let client = bench.connect();
        print(&mut bench, &text(1000 * KIB));
        // Two pieces are held then, and the third is asked for once the first has gone.
        client.wire.borrow_mut().room = 0;
        bench.send(&client, &[OUTPUT_OF_A, HEALTH].concat());
        bench.is_log_held_up = true;
        assert_eq!(bench.asked_of_log(), 0);
        bench.make_room(&client, OUTPUT_PIECE_BYTES + 100 * KIB);
        assert_eq!(bench.asked_of_log(), 1, "one piece is asked for at a time");
        bench.make_room(&client, 10_000 * KIB);
        assert_eq!(written(&client) / OUTPUT_PIECE_BYTES, 2, "everything that had come");
        bench.wait(OUTPUT + SWEEP);
        assert!(!client.is_dropped(), "it is not the client's fault that it takes nothing");
        bench.log_answers(breaks);
        bench.turns();
        assert!(client.is_dropped() && bench.server.gauges().buffer_bytes == 0);
        assert_eq!(statuses(&client.take()), [200], "nothing is said behind half an answer");
        let other = bench.connect();
        assert_eq!(statuses(&bench.ask(&other, HEALTH)), [200]);
    }
}
