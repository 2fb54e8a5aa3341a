//! A stream that is behind the backlog is paged, and continues live.

use super::*;

#[test]
fn a_stream_that_falls_behind_is_paged_and_goes_on_live_from_within_an_event() {
    for cut in [0, 1, 29, 31, 45] {
        let (mut bench, p) = Bench::with_project();
        let socket = FakeSocket::with_room(cut);
        let key = bench.join(&p, &socket);
        (0..2).for_each(|_| bench.say(&p, 30));
        bench.flush();
        (0..40).for_each(|_| bench.say(&p, 1000));
        bench.flush();
        assert!(!bench.manager.reaches(&p, 2), "the backlog has moved on");
        bench.make_room(key, &socket, usize::MAX);
        let mut pages = 0;
        while bench.turn_pages(5000) > 0 {
            pages += 1;
        }
        assert!((3..10).contains(&pages), "{pages} pages");
        assert_eq!(socket.text(), bench.logs[&p].text(0), "cut at {cut}");
        bench.say(&p, 30);
        bench.flush();
        assert_eq!((socket.text(), bench.turn_pages(5000)), (bench.logs[&p].text(0), 0), "live again");
    }
}

#[test]
fn a_stream_asks_for_one_page_at_a_time() {
    let (mut bench, p) = Bench::with_project();
    (0..40).for_each(|_| bench.say(&p, 1000));
    let socket = FakeSocket::open();
    let key = bench.add(&p, &socket, NewStream::default());
    bench.say(&p, 30);
    bench.flush();
    bench.manager.writable(key.index(), bench.now);
    assert_eq!(bench.manager.take_effects(PAGES_IN_FLIGHT_MAX).len(), 1);
    let page = bench.logs[&p].page(0, None, View::Events, 1 << 20);
    bench.manager.page(key, page.clone(), bench.now);
    assert_eq!(socket.text(), bench.logs[&p].text(0));
    bench.manager.remove_sse(key, CloseReason::ClientGone);
    bench.reap();
    bench.manager.page(key, page, bench.now);
    bench.manager.skip(key, &reset(&p, 3), bench.now);
    bench.manager.remove_sse(key, CloseReason::ClientGone);
    assert_eq!(bench.reap(), [], "a page for a stream that is gone changes nothing");
}

#[test]
fn a_page_may_be_ahead_of_what_was_broadcast() {
    for only_run in [None, Some(run(1))] {
        let (mut bench, p) = Bench::with_project();
        (0..40).for_each(|_| bench.say_of(&p, 1000, Some(run(1)), false));
        let socket = FakeSocket::open();
        bench.add(&p, &socket, NewStream { only_run, ..NewStream::default() });
        (0..3).for_each(|_| bench.keep(&p, 30, Some(run(1)), false));
        while bench.turn_pages(1 << 20) > 0 {}
        assert_eq!(socket.text(), bench.logs[&p].text(0), "the page had them all");
        (0..3).for_each(|_| bench.broadcast_kept(1));
        bench.flush();
        bench.say_of(&p, 30, Some(run(1)), false);
        bench.flush();
        assert_eq!((socket.text(), bench.turn_pages(1)), (bench.logs[&p].text(0), 0), "none comes twice");
    }
}

#[test]
fn only_so_many_pages_are_on_their_way_and_those_who_left_are_passed_over() {
    let (mut bench, p) = Bench::with_project();
    (0..40).for_each(|_| bench.say(&p, 1000));
    let sockets: Vec<_> = (0..3 * PAGES_IN_FLIGHT_MAX).map(|_| FakeSocket::open()).collect();
    let keys: Vec<_> = sockets.iter().map(|socket| bench.add(&p, socket, NewStream::default())).collect();
    let asked = |bench: &mut Bench| -> Vec<SlabKey> {
        let effects = bench.manager.take_effects(PAGES_IN_FLIGHT_MAX).into_iter();
        let stream = |effect| if let Effect::ReadPage { stream, .. } = effect { Some(stream) } else { None };
        effects.filter_map(stream).collect()
    };
    assert_eq!((asked(&mut bench), asked(&mut bench)), (keys[..PAGES_IN_FLIGHT_MAX].to_vec(), vec![]));
    for key in &keys[..PAGES_IN_FLIGHT_MAX + 4] {
        bench.manager.hangup(key.index());
    }
    bench.reap();
    assert_eq!(asked(&mut bench), [], "those that left are still on their way");
    let page = bench.logs[&p].page(0, None, View::Events, 1 << 20);
    bench.manager.page(keys[0], page, bench.now);
    bench.manager.skip(keys[1], &reset(&p, 3), bench.now);
    bench.manager.page_refused(keys[2], bench.now);
    assert_eq!(asked(&mut bench), keys[PAGES_IN_FLIGHT_MAX + 4..][..3], "one for each that was answered");
}

#[test]
fn a_stream_whose_history_cant_be_read_ends() {
    let (mut bench, p) = Bench::with_project();
    (0..40).for_each(|_| bench.say(&p, 1000));
    let key = bench.add(&p, &FakeSocket::open(), NewStream::default());
    assert_eq!(bench.manager.take_effects(PAGES_IN_FLIGHT_MAX).len(), 1);
    bench.manager.page_refused(key, bench.now);
    assert_eq!((bench.reap(), bench.manager.pages()), (vec![CloseReason::Stalled], (0, 0, 0)));
}

#[test]
fn readers_that_take_nothing_hold_a_bounded_sum_and_are_in_nobodys_way() {
    const STALLED: usize = 1000;
    let (mut bench, p) = Bench::with_project();
    (0..200).for_each(|_| bench.say(&p, 1000));
    let stalled: Vec<_> = (0..STALLED).map(|_| FakeSocket::with_room(0)).collect();
    let streams: Vec<_> = stalled.iter().map(|socket| bench.add(&p, socket, NewStream::default())).collect();
    while bench.turn_pages(1 << 20) > 0 {}
    let held = bench.manager.pages().2;
    assert!(held > 4 << 20 && held < 20 << 20, "{held} bytes");
    let socket = FakeSocket::open();
    bench.add(&p, &socket, NewStream::default());
    while bench.turn_pages(1 << 20) > 0 {}
    assert_eq!(socket.text(), bench.logs[&p].text(0), "everything, though the others take nothing");
    assert_eq!(bench.manager.pages(), (0, 0, held));
    streams.iter().for_each(|key| bench.manager.hangup(key.index()));
    bench.reap();
    assert_eq!(bench.manager.pages(), (0, 0, 0), "all of it is given back");
}

#[test]
fn a_page_that_comes_for_an_earlier_tenant_of_the_place_changes_nothing() {
    let (mut bench, p) = Bench::with_project();
    let [old, new] = std::array::from_fn(|_| FakeSocket::open());
    let old_key = bench.join(&p, &old);
    bench.manager.remove_sse(old_key, CloseReason::ClientGone);
    bench.reap();
    let new_key = bench.join(&p, &new);
    assert_eq!(old_key.index(), new_key.index());
    bench.manager.page(old_key, Page { bytes: b"old".to_vec().into(), up_to: 9, ..Page::default() }, bench.now);
    bench.manager.remove_sse(old_key, CloseReason::Shutdown);
    assert_eq!((bench.reap().len(), new.text()), (0, String::new()));
    assert!(!bench.manager.is_current(old_key) && bench.manager.is_current(new_key));
}

#[test]
fn history_that_is_gone_is_skipped_between_events_and_ends_the_stream_within_one() {
    for (cut, survives) in [(0, true), (7, false)] {
        let (mut bench, p) = Bench::with_project();
        let socket = FakeSocket::with_room(cut);
        let key = bench.join(&p, &socket);
        bench.say(&p, 1000);
        bench.flush();
        (0..40).for_each(|_| bench.say(&p, 1000));
        bench.make_room(key, &socket, usize::MAX);
        assert_eq!(bench.manager.take_effects(PAGES_IN_FLIGHT_MAX).len(), 1);
        let newest = bench.logs[&p].newest();
        let start = reset(&p, newest);
        bench.manager.skip(key, &start, bench.now);
        bench.say(&p, 30);
        bench.flush();
        if survives {
            let mut told = Vec::new();
            control::write_reset(&mut told, &start);
            let told = String::from_utf8(told).expect("text");
            assert_eq!(socket.text(), told + &bench.logs[&p].text(newest));
        } else {
            assert_eq!(bench.reap(), [CloseReason::Stalled]);
        }
    }
}

#[test]
fn a_stream_of_one_run_gets_that_run_alone_and_ends_behind_its_last_message() {
    for room in [usize::MAX, 0, 10] {
        let (mut bench, p) = Bench::with_project();
        let socket = FakeSocket::with_room(room);
        let key = bench.add(&p, &socket, NewStream { only_run: Some(run(1)), ..NewStream::default() });
        for (of, is_last) in [(Some(1), false), (None, false), (Some(2), true), (Some(1), true)] {
            bench.say_of(&p, 30, of.map(run), is_last);
        }
        bench.say(&p, 30);
        bench.flush();
        for _ in 0..200 {
            bench.make_room(key, &socket, 1);
        }
        let expected = [bench.logs[&p].bytes(0, Some(run(1))), b"0\r\n\r\n".to_vec()].concat();
        assert_eq!(socket.text().as_bytes(), expected, "room {room}");
        assert_eq!(bench.reap(), [CloseReason::RunOver]);
    }
}

#[test]
fn a_stream_of_one_run_that_falls_behind_is_paged_to_its_end() {
    let (mut bench, p) = Bench::with_project();
    let socket = FakeSocket::with_room(0);
    let key = bench.add(&p, &socket, NewStream { only_run: Some(run(1)), ..NewStream::default() });
    for n in 0..60 {
        bench.say_of(&p, 1000, (n % 3 == 0).then(|| run(1)), false);
        bench.flush();
    }
    bench.make_room(key, &socket, usize::MAX);
    bench.say_of(&p, 30, Some(run(1)), true);
    bench.flush();
    while bench.turn_pages(3000) > 0 {}
    let expected = [bench.logs[&p].bytes(0, Some(run(1))), b"0\r\n\r\n".to_vec()].concat();
    assert_eq!(socket.text().as_bytes(), expected);
    assert_eq!(bench.reap(), [CloseReason::RunOver]);
}
