//! What is broadcast reaches everyone, in slices of any size and by writes that may end anywhere.

use super::*;

#[test]
fn a_broadcast_reaches_each_stream_of_its_project_and_no_other() {
    let (mut bench, p) = Bench::with_project();
    let q = id("q");
    bench.open(&q);
    let [a, b, c] = std::array::from_fn(|_| FakeSocket::open());
    bench.join(&p, &a);
    bench.join(&p, &b);
    bench.join(&q, &c);
    bench.say(&p, 30);
    bench.say(&p, 40);
    assert_eq!(a.text(), "", "nothing is written before the flush");
    bench.flush();
    assert_eq!((a.text(), b.text(), c.text()), (bench.logs[&p].text(0), bench.logs[&p].text(0), String::new()));
    assert_eq!((a.writes(), bench.manager.stats().messages), (1, 4), "a burst is one write");
    assert_eq!((bench.manager.subscribers(&p), bench.manager.subscribers(&q)), (2, 1));
    assert_eq!(bench.manager.take_rounds_ended().len(), 1);
}

#[test]
fn a_project_that_is_not_open_gives_the_socket_back() {
    let (mut bench, _) = Bench::with_project();
    let socket = FakeSocket::open();
    let (transport, wanted, start) = NewStream::default().parts(&id("q"), &socket);
    assert!(bench.manager.add_sse(transport, &wanted, &start, bench.now).is_err());
    bench.manager.check_invariants();
}

#[test]
fn slices_of_any_size_miss_nobody_though_streams_join_and_leave_in_between() {
    for budget in 1..=9 {
        for leaver in 0..8 {
            let (mut bench, p) = Bench::with_project();
            let mut streams: Vec<_> = (0..8).map(|_| FakeSocket::open()).map(|s| (bench.join(&p, &s), s)).collect();
            let late = FakeSocket::open();
            bench.say(&p, 30);
            let has_more = bench.manager.flush(budget, bench.now);
            assert_eq!(has_more, budget < 8, "budget {budget}");
            let (key, _) = streams.remove(leaver);
            bench.manager.hangup(key.index());
            assert_eq!(bench.reap(), [CloseReason::ClientGone]);
            bench.add(&p, &late, NewStream { after: 0, ..NewStream::default() });
            bench.say(&p, 50);
            let mut rounds = 0;
            while bench.manager.flush(budget, bench.now) {
                rounds += 1;
                assert!(rounds < 100, "a round ends");
            }
            let all = bench.logs[&p].text(0);
            for (_, socket) in &streams {
                assert_eq!(socket.text(), all, "budget {budget}, leaver {leaver}");
            }
            assert_eq!(late.text(), all);
        }
    }
}

#[test]
fn a_round_ends_though_someone_leaves_in_every_slice() {
    let (mut bench, p) = Bench::with_project();
    let mut streams: Vec<_> = (0..100).map(|_| FakeSocket::open()).map(|s| (bench.join(&p, &s), s)).collect();
    bench.say(&p, 30);
    while bench.manager.flush(5, bench.now) {
        let (first, _) = streams.remove(0);
        bench.manager.hangup(first.index());
        bench.reap();
    }
    assert!(streams.len() >= 80, "{} are left", streams.len());
    for (_, socket) in &streams {
        assert_eq!((socket.text(), socket.writes()), (bench.logs[&p].text(0), 1));
    }
}

#[test]
fn a_large_project_does_not_keep_a_small_one_waiting() {
    let (mut bench, large) = Bench::with_project();
    let small = id("small");
    bench.open(&small);
    for _ in 0..100 {
        bench.join(&large, &FakeSocket::open());
    }
    let socket = FakeSocket::open();
    bench.join(&small, &socket);
    bench.say(&large, 30);
    bench.say(&small, 30);
    assert!(bench.manager.flush(10, bench.now) && bench.manager.flush(10, bench.now));
    assert_eq!(socket.text(), bench.logs[&small].text(0));
}

#[test]
fn a_write_may_end_at_any_byte() {
    let (mut bench, p) = Bench::with_project();
    for size in [25, 1, 60] {
        bench.say(&p, size);
    }
    let all = bench.logs[&p].text(0);
    for first in 0..all.len() {
        let socket = FakeSocket::with_room(first);
        let key = bench.add(&p, &socket, NewStream::default());
        assert_eq!(socket.text(), all[..first]);
        bench.make_room(key, &socket, 1);
        assert_eq!(socket.text(), all[..first + 1]);
        bench.make_room(key, &socket, usize::MAX);
        assert_eq!(socket.text(), all, "after {first}");
        bench.manager.remove_sse(key, CloseReason::ClientGone);
        bench.reap();
    }
}

#[test]
fn a_preface_goes_before_everything_at_any_pace() {
    let (mut bench, p) = Bench::with_project();
    let socket = FakeSocket::with_room(0);
    let key = bench.add(&p, &socket, NewStream { preface: b"HEAD\n\n".to_vec(), ..NewStream::default() });
    bench.say(&p, 30);
    bench.flush();
    let expected = format!("HEAD\n\n{}", bench.logs[&p].text(0));
    for _ in 0..expected.len() {
        bench.make_room(key, &socket, 1);
    }
    assert_eq!(socket.text(), expected);
}
