//! What a server does that leaves everything to another process, and what that one takes over.

use super::bench::{Bench, HEADER, IDLE, SWEEP};
use super::{HEALTH, publish, statuses, stream};

#[test]
fn a_server_that_leaves_answers_what_it_has_read_and_leaves_the_rest_unread() {
    let mut bench = Bench::new();
    let [watcher, idle, asking, half] = std::array::from_fn(|_| bench.connect());
    bench.send(&watcher, &stream("p"));
    watcher.take();
    assert_eq!(statuses(&bench.ask(&idle, HEALTH)), [200]);
    bench.is_log_held_up = true;
    bench.send(&asking, &publish(1));
    let request = publish(2);
    let (begun, rest) = request.split_at(40);
    bench.send(&half, begun);
    assert!(bench.server.owes_answers());

    bench.server.leave_to_another(bench.now);
    bench.turns();
    let told = watcher.take();
    assert!(told.contains("\"reason\":\"shutdown\"") && told.contains("retry: 1"), "{told}");
    assert_eq!(bench.ask(&idle, HEALTH), "", "it is for the other process");
    bench.is_log_held_up = false;
    bench.log_does_one();
    assert_eq!(statuses(&asking.take()), [202]);
    assert!(!bench.server.owes_answers());

    let passed = bench.server.take_passable();
    let unanswered: Vec<_> = passed.iter().map(|(_, _, input)| String::from_utf8_lossy(input).into_owned()).collect();
    assert_eq!(unanswered, ["", "", begun]);

    let mut other = Bench::new();
    let client = other.connect();
    other.feed(&client, begun);
    assert_eq!(statuses(&other.ask(&client, rest)), [202]);
    let client = other.connect();
    other.feed(&client, &[HEALTH, HEALTH].concat());
    assert_eq!(statuses(&client.take()), [200, 200]);
}

#[test]
fn a_connection_that_was_passed_on_had_no_more_time_for_its_next_request_than_a_new_one() {
    let mut bench = Bench::new();
    let [idle, half, new] = std::array::from_fn(|_| bench.connect());
    bench.feed(&idle, "");
    bench.feed(&half, "GET /healthz HT");
    bench.wait(HEADER + SWEEP);
    assert!(new.is_dropped() && !idle.is_dropped());
    assert_eq!(statuses(&half.take()), [408]);
    assert_eq!(statuses(&bench.ask(&idle, HEALTH)), [200]);
    bench.wait(IDLE - SWEEP);
    assert!(!idle.is_dropped());
    bench.wait(2 * SWEEP);
    assert!(idle.is_dropped());
}
