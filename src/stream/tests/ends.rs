//! What becomes of streams with time: heartbeats, stalls, the ends of tokens and of the server.

use super::*;

#[test]
fn a_silent_stream_gets_a_heartbeat_and_one_that_is_not_silent_gets_none() {
    let (mut bench, p) = Bench::with_project();
    let [plain, message] = std::array::from_fn(|_| FakeSocket::open());
    bench.join(&p, &plain);
    bench.add(&p, &message, NewStream { heartbeat_as_message: true, ..NewStream::default() });
    bench.wait(HEARTBEAT - Duration::from_millis(1));
    assert_eq!((plain.text(), message.text()), (String::new(), String::new()));
    bench.wait(Duration::from_secs(1));
    assert_eq!(plain.take_text(), comment(Coding::Chunked));
    let beat = message.take_text();
    let beat = String::from_utf8(contents(beat.as_bytes())).expect("text");
    assert!(beat.starts_with("data: {\"type\":\"heartbeat\",\"projectId\":\"p\",\"seq\":0,\"payload\":{"), "{beat}");
    assert!(beat.ends_with("}\n\n") && beat.matches('\n').count() == 2, "one event: {beat}");
    bench.wait(HEARTBEAT / 2);
    bench.say(&p, 30);
    bench.flush();
    plain.take_text();
    bench.wait(HEARTBEAT - Duration::from_secs(1));
    assert_eq!(plain.text(), "", "silence counts from the last write");
    bench.wait(Duration::from_secs(2));
    assert_eq!(plain.take_text(), comment(Coding::Chunked));
}

#[test]
fn no_heartbeats_where_they_are_off_and_none_into_a_stream_that_waits_for_history() {
    let mut bench = Bench::with(Settings { heartbeat: Duration::ZERO, ..settings() });
    let p = id("p");
    bench.open(&p);
    let off = FakeSocket::open();
    bench.join(&p, &off);
    bench.wait(HEARTBEAT * 10);
    assert_eq!(off.text(), "");

    let (mut bench, p) = Bench::with_project();
    (0..40).for_each(|_| bench.say(&p, 1000));
    let behind = FakeSocket::open();
    bench.add(&p, &behind, NewStream::default());
    bench.wait(HEARTBEAT * 2);
    assert_eq!(behind.text(), "");
    bench.turn_pages(1 << 20);
    assert_eq!(behind.text(), bench.logs[&p].text(0));
}

#[test]
fn a_stream_that_takes_nothing_is_closed_and_one_that_takes_a_little_is_not() {
    let (mut bench, p) = Bench::with_project();
    let [stuck, slow] = std::array::from_fn(|_| FakeSocket::with_room(5));
    let stuck_key = bench.join(&p, &stuck);
    let slow_key = bench.join(&p, &slow);
    bench.say(&p, 3000);
    bench.flush();
    for _ in 0..5 {
        bench.wait(STALL / 2);
        bench.make_room(stuck_key, &stuck, 0);
        bench.make_room(slow_key, &slow, 1);
    }
    assert_eq!(bench.reap(), [CloseReason::Stalled]);
    assert_eq!((stuck.text().len(), slow.text().len(), bench.manager.len()), (5, 10, 1));
}

#[test]
fn a_stream_ends_with_its_token_and_is_told_so() {
    let (mut bench, p) = Bench::with_project();
    let [short, long] = std::array::from_fn(|_| FakeSocket::open());
    let expires_at = Some(bench.now.wall.plus_millis(5_500));
    bench.add(&p, &short, NewStream { expires_at, ..NewStream::default() });
    bench.join(&p, &long);
    bench.wait(Duration::from_millis(5_499));
    assert_eq!(bench.reap(), []);
    bench.wait(Duration::from_millis(1_501));
    assert_eq!(bench.reap(), [CloseReason::TokenExpired]);
    let told = short.text();
    let told = told.strip_suffix("0\r\n\r\n").expect("the last chunk tells the end");
    let told = String::from_utf8(contents(told.as_bytes())).expect("text");
    assert!(told.starts_with("retry: ") && told.contains("\"payload\":{\"reason\":\"token_expired\"}"), "{told}");
    assert_eq!(long.text(), "");
}

#[test]
fn a_stream_without_a_token_goes_on_by_a_clock_that_is_set_beyond_2106() {
    let (mut bench, p) = Bench::with_project();
    let socket = FakeSocket::open();
    bench.join(&p, &socket);
    bench.now.wall = Timestamp::from_millis(1000 * (u64::from(u32::MAX) + 1));
    bench.wait(Duration::from_secs(2));
    assert_eq!((bench.reap(), socket.text()), (vec![], String::new()));
}

fn retry_of(text: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix("retry: ")).expect("a retry field");
    line.parse().expect("a number")
}

#[test]
fn those_whom_another_process_takes_over_come_back_ten_each_millisecond() {
    let (mut bench, p) = Bench::with_project();
    let sockets: Vec<_> = (0..2000).map(|_| FakeSocket::open()).collect();
    for socket in &sockets {
        bench.join(&p, socket);
    }
    bench.manager.expect_back_soon();
    bench.manager.close_all(CloseReason::Shutdown, bench.now);
    assert_eq!(bench.reap().len(), 2000);
    let retries: Vec<u64> = sockets.iter().map(|socket| retry_of(&socket.text())).collect();
    assert!(retries.iter().all(|retry| (100..300).contains(retry)), "{retries:?}");
    let early = retries.iter().filter(|retry| **retry < 200).count();
    assert!((800..1200).contains(&early), "{early} of 2000 in the first half");
}

#[test]
fn all_streams_are_told_to_come_back_each_at_its_own_time() {
    let (mut bench, p) = Bench::with_project();
    let sockets: Vec<_> = (0..50).map(|_| FakeSocket::open()).collect();
    for socket in &sockets {
        bench.join(&p, socket);
    }
    let stuck = FakeSocket::with_room(3);
    bench.join(&p, &stuck);
    bench.say(&p, 30);
    bench.flush();
    bench.manager.close_all(CloseReason::Shutdown, bench.now);
    assert_eq!(bench.reap(), [CloseReason::Shutdown; 51]);
    assert_eq!(stuck.text().len(), 3, "nothing is written into the middle of an event");
    let mut retries: Vec<u64> = Vec::new();
    for socket in &sockets {
        let text = socket.text().split_off(bench.logs[&p].text(0).len());
        let text = text.strip_suffix("0\r\n\r\n").expect("the last chunk tells the end");
        let text = String::from_utf8(contents(text.as_bytes())).expect("text");
        let closing = "data: {\"type\":\"stream_closing\",\"projectId\":\"p\",\"seq\":1,\
            \"payload\":{\"reason\":\"shutdown\"}}\n\n";
        assert!(text.ends_with(closing) && !text.contains("id: "), "{text}");
        retries.push(retry_of(&text));
    }
    assert!(retries.iter().all(|retry| (RETRY_MS..2 * RETRY_MS).contains(retry)), "{retries:?}");
    retries.sort_unstable();
    retries.dedup();
    assert!(retries.len() > 25, "spread: {retries:?}");
    assert_eq!(bench.manager.len(), 0);
}

#[test]
fn a_stream_that_was_about_to_end_when_all_were_ended_is_taken_out_once() {
    let (mut bench, p) = Bench::with_project();
    let sockets = [FakeSocket::open(), FakeSocket::open()];
    let [left, broken] = [0, 1].map(|at| bench.join(&p, &sockets[at]));
    sockets[1].0.borrow_mut().is_broken = true;
    bench.manager.hangup(left.index());
    bench.manager.close_all(CloseReason::Shutdown, bench.now);
    bench.manager.close_all(CloseReason::Shutdown, bench.now);
    bench.manager.remove_sse(broken, CloseReason::Stalled);
    assert_eq!(bench.reap(), [CloseReason::ClientGone; 2]);
}
