//! Projects come and go, and what all of it takes stays bounded.

use super::*;

#[test]
fn a_project_without_streams_lingers_and_is_then_let_go_and_may_come_back() {
    let (mut bench, p) = Bench::with_project();
    let socket = FakeSocket::open();
    let key = bench.join(&p, &socket);
    bench.say(&p, 30);
    bench.wait(LINGER * 2);
    assert_eq!(bench.manager.take_effects(PAGES_IN_FLIGHT_MAX), [], "it is watched");
    bench.manager.hangup(key.index());
    bench.reap();
    bench.wait(LINGER - Duration::from_secs(1));
    assert!(bench.manager.take_effects(PAGES_IN_FLIGHT_MAX).is_empty() && bench.manager.reaches(&p, 0), "it lingers");
    bench.wait(Duration::from_secs(2));
    assert_eq!(bench.manager.take_effects(PAGES_IN_FLIGHT_MAX), [Effect::Unwatch(p.clone())]);
    assert_eq!((bench.manager.backlog_memory(), bench.manager.next_deadline()), ((0, 0), None));
    assert!(!bench.manager.flush(1, bench.now), "its round is over");

    bench.open(&p);
    let again = FakeSocket::open();
    bench.join(&p, &again);
    bench.say(&p, 30);
    bench.flush();
    assert_eq!(again.text(), bench.logs[&p].text(1));
}

#[test]
fn a_project_that_is_open_takes_what_it_lacks_when_it_is_opened_again() {
    let (mut bench, p) = Bench::with_project();
    let socket = FakeSocket::open();
    bench.join(&p, &socket);
    bench.say(&p, 30);
    let mut newest = Frames::starting_at(1);
    for seq in 1..=2 {
        let known = (seq == 1).then(|| bench.logs[&p].messages[0].0.clone());
        let bytes = known.unwrap_or_else(|| bench.logs.get_mut(&p).expect("open").add(40, None, false).bytes);
        newest.bytes.extend_from_slice(&bytes);
        newest.mark(None, false);
    }
    bench.manager.open_project(&p, newest, bench.now);
    bench.flush();
    assert_eq!(socket.text(), bench.logs[&p].text(0));
}

#[test]
fn all_backlogs_together_keep_to_their_bound_however_many_projects_are_opened() {
    const TOGETHER: usize = 8 * BACKLOG_BYTES_MIN;
    let mut bench = Bench::with(Settings { backlog_bytes: TOGETHER, backlogs_bytes: TOGETHER, ..settings() });
    for n in 0..8 {
        let project = id(&n.to_string());
        let log = bench.logs.entry(project.clone()).or_default();
        let mut newest = Frames::starting_at(1);
        for _ in 0..200 {
            newest.bytes.extend_from_slice(&log.add(1000, None, false).bytes);
            newest.mark(None, false);
        }
        bench.manager.open_project(&project, newest, bench.now);
    }
    bench.wait(Duration::from_secs(2));
    let (projects, bytes) = bench.manager.backlog_memory();
    // Dead bytes at a backlog's front are cut off once they are as many as the live ones.
    assert!(projects == 8 && bytes <= 3 * TOGETHER, "{bytes} bytes");
}

#[test]
fn a_client_that_is_gone_is_noticed_by_its_write() {
    let (mut bench, p) = Bench::with_project();
    let socket = FakeSocket::open();
    bench.join(&p, &socket);
    socket.0.borrow_mut().is_broken = true;
    bench.say(&p, 30);
    bench.flush();
    bench.say(&p, 30);
    bench.flush();
    assert_eq!((bench.reap(), socket.writes()), (vec![CloseReason::ClientGone], 1));
    assert_eq!(bench.manager.stats().closed, [1, 0, 0, 0, 0, 0]);
}

#[test]
fn a_stream_weighs_its_slab_entry_and_an_idle_one_nothing_more() {
    /// As the slab keeps it.
    #[expect(dead_code, reason = "only its size matters")]
    enum Entry<T> {
        Vacant(usize),
        Occupied(T),
    }
    // With a socket as it is, and with one that may speak TLS.
    let (plain, either) = (size_of::<Entry<Stream<i32>>>(), size_of::<Entry<Stream<[i32; 3]>>>());
    assert!(plain <= 56 && either <= 64, "{plain} and {either}");
    let (mut bench, p) = Bench::with_project();
    let socket = FakeSocket::open();
    let key = bench.add(&p, &socket, NewStream { preface: b"HEAD\n\n".to_vec(), ..NewStream::default() });
    assert!(bench.manager.is_bare(key), "its preface is spent");
    bench.say(&p, 30);
    bench.flush();
    bench.wait(HEARTBEAT * 2);
    assert!(socket.text().ends_with(comment(Coding::Chunked)) && bench.manager.is_bare(key), "its heartbeat is spent");
}

#[test]
fn memory_is_given_back_after_many_have_left() {
    let (mut bench, p) = Bench::with_project();
    let keys: Vec<_> = (0..1000).map(|_| bench.join(&p, &FakeSocket::open())).collect();
    let most = bench.manager.capacities(&p);
    for key in &keys[10..] {
        bench.manager.hangup(key.index());
    }
    bench.reap();
    let (streams, set) = bench.manager.capacities(&p);
    assert!(streams * 10 < most.0 && set * 10 < most.1, "{:?} of {most:?}", (streams, set));
}
