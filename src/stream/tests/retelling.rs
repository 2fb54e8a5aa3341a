//! Runs in a format: channels of their own, asked for once, written to all, and never ended as if all were well.

use super::*;

const FORMAT: Format = Format::AiSdk { in_turns: false };

/// A stream of run 1 in a format, which has everything up to here.
fn retold(after: u64) -> NewStream {
    NewStream { after, only_run: Some(run(1)), view: View::Format(FORMAT), ..NewStream::default() }
}

fn say(bench: &mut Bench, project: &ProjectId, of: u64) {
    bench.say_of(project, 40, Some(run(of)), false);
}

/// What run 1 has said, as it is in the log.
fn said(bench: &Bench, project: &ProjectId, after: u64) -> String {
    String::from_utf8_lossy(&bench.logs[project].bytes(after, Some(run(1)))).into_owned()
}

fn last_words(reason: &str, coding: Coding) -> String {
    let mut words = Vec::new();
    closing(FORMAT, reason, &mut words);
    let mut words = coding.encoded(words);
    words.extend_from_slice(coding.end());
    String::from_utf8(words).expect("text")
}

#[test]
fn a_run_in_a_format_is_asked_for_once_however_many_watch_it_and_a_burst_is_one_row() {
    let (mut bench, p) = Bench::with_project();
    let [a, b, whole] = std::array::from_fn(|_| FakeSocket::open());
    bench.add(&p, &a, retold(0));
    bench.add(&p, &b, retold(0));
    bench.join(&p, &whole);
    bench.turn_rows(usize::MAX, 1 << 20);
    say(&mut bench, &p, 1);
    say(&mut bench, &p, 2);
    bench.turn_pages(1 << 20);
    assert_eq!(bench.rows.iter().map(|row| (row.run, row.after)).collect::<Vec<_>>(), [(run(1), 0)]);
    say(&mut bench, &p, 1);
    say(&mut bench, &p, 1);
    bench.turn_pages(1 << 20);
    assert_eq!(bench.rows.len(), 1, "one is on its way");
    let AskedRow { channel, .. } = bench.rows.pop_front().expect("that one");
    let first = Row { up_to: 2, ..bench.logs[&p].row(0, run(1), 1) };
    bench.manager.row(channel, &first, bench.now);
    bench.catch_up();
    for socket in [&a, &b] {
        assert_eq!((socket.text(), socket.writes()), (said(&bench, &p, 0), 2), "each burst is one write");
    }
    assert_eq!(whole.text(), bench.logs[&p].text(0));
    say(&mut bench, &p, 2);
    bench.turn_pages(1 << 20);
    assert!(bench.rows.is_empty(), "others are of no concern");
}

#[test]
fn behind_the_runs_last_message_its_streams_end_at_any_pace() {
    for coding in [Coding::Chunked, Coding::UntilClose] {
        for room in 0..130 {
            let (mut bench, p) = Bench::with_project();
            let socket = FakeSocket::with_room(room);
            let key = bench.add(&p, &socket, NewStream { coding, ..retold(0) });
            say(&mut bench, &p, 1);
            bench.catch_up();
            bench.say_of(&p, 40, Some(run(1)), true);
            bench.say_of(&p, 40, Some(run(2)), false);
            bench.catch_up();
            bench.make_room(key, &socket, usize::MAX);
            bench.catch_up();
            assert_eq!(bench.reap(), [CloseReason::RunOver], "{coding:?}, {room} bytes");
            let mut expected = coding.encoded(bench.logs[&p].bytes(0, Some(run(1))));
            expected.extend_from_slice(coding.end());
            assert_eq!(socket.text(), String::from_utf8_lossy(&expected), "{coding:?}, {room} bytes");
        }
    }
}

#[test]
fn a_run_that_is_over_is_told_and_the_stream_ends() {
    let (mut bench, p) = Bench::with_project();
    let socket = FakeSocket::open();
    let (transport, wanted, mut start) = retold(0).parts(&p, &socket);
    let prelude = b"5\r\nwhole\r\n".to_vec();
    let ended_at = Some(Timestamp::from_millis(1));
    start.retold =
        Some(Box::new(crate::log::Retold { format: FORMAT, prelude, ends: ended_at.is_some(), ended_at, row: None }));
    bench.manager.begin(transport, &wanted, &start, bench.now).expect("the project is open");
    assert_eq!(bench.reap(), [CloseReason::RunOver]);
    // When to come back is told with the first event.
    let text = socket.text();
    let retry = text.strip_prefix("11\r\nretry: ").and_then(|text| text.strip_suffix("\nwhole\r\n0\r\n\r\n"));
    assert!(retry.is_some_and(|ms| (2000..4000).contains(&ms.parse::<u64>().unwrap_or_default())), "{text}");
}

#[test]
fn a_stream_that_ends_early_says_so_in_its_format_or_breaks_off() {
    for coding in [Coding::Chunked, Coding::UntilClose] {
        let (mut bench, p) = Bench::with_project();
        let [open, full, midway] = [usize::MAX, 0, 10].map(FakeSocket::with_room);
        bench.add(&p, &open, NewStream { coding, ..retold(0) });
        bench.add(&p, &full, NewStream { coding, ..retold(0) });
        bench.add(&p, &midway, NewStream { coding, ..retold(0) });
        say(&mut bench, &p, 1);
        bench.catch_up();
        let whole = open.take_text();
        bench.manager.close_all(CloseReason::Shutdown, bench.now);
        assert_eq!(bench.reap(), [CloseReason::Shutdown; 3]);
        assert_eq!(open.text(), last_words("shutdown", coding));
        assert_eq!((full.text(), midway.text()), (String::new(), whole[..10].to_owned()), "no end that seems meant");
    }
}

#[test]
fn the_end_of_a_token_is_told_in_the_format() {
    let (mut bench, p) = Bench::with_project();
    let socket = FakeSocket::open();
    let expires_at = Some(Timestamp::from_millis(bench.now.wall.as_millis() + 5000));
    bench.add(&p, &socket, NewStream { expires_at, ..retold(0) });
    bench.wait(Duration::from_secs(7));
    assert_eq!(bench.reap(), [CloseReason::TokenExpired]);
    assert_eq!(socket.text(), last_words("token_expired", Coding::Chunked));
}

#[test]
fn heartbeats_are_comments() {
    let (mut bench, p) = Bench::with_project();
    let socket = FakeSocket::open();
    let key = bench.add(&p, &socket, NewStream { heartbeat_as_message: true, ..retold(0) });
    bench.wait(HEARTBEAT);
    assert_eq!(socket.text(), comment(Coding::Chunked));
    assert!(bench.manager.is_current(key));
}

#[test]
fn what_is_gone_from_history_ends_the_stream_because_a_format_has_no_word_for_a_gap() {
    let (mut bench, p) = Bench::with_project();
    let socket = FakeSocket::open();
    let key = bench.add(&p, &socket, retold(0));
    say(&mut bench, &p, 1);
    bench.turn_pages(1 << 20);
    let AskedRow { channel, .. } = bench.rows.pop_front().expect("it asks");
    bench.manager.row(channel, &Row::after(1), bench.now);
    bench.flush();
    let asked = bench.manager.take_effects(PAGES_IN_FLIGHT_MAX);
    assert!(matches!(asked[..], [Effect::ReadPage { after: 0, view: View::Format(_), .. }]), "{asked:?}");
    bench.manager.skip(key, &reset(&p, 1), bench.now);
    assert_eq!((bench.reap(), socket.text()), (vec![CloseReason::Expired], last_words("expired", Coding::Chunked)));
}

#[test]
fn a_run_that_is_gone_ends_all_who_watch_it() {
    let (mut bench, p) = Bench::with_project();
    let sockets = [FakeSocket::open(), FakeSocket::open()];
    for socket in &sockets {
        bench.add(&p, socket, retold(0));
    }
    say(&mut bench, &p, 1);
    bench.turn_pages(1 << 20);
    let AskedRow { channel, .. } = bench.rows.pop_front().expect("it asks");
    bench.manager.run_gone(channel, bench.now);
    assert_eq!(bench.reap(), [CloseReason::Expired; 2]);
    sockets.iter().for_each(|socket| assert_eq!(socket.text(), last_words("expired", Coding::Chunked)));
}

#[test]
fn what_could_not_be_read_is_asked_for_again() {
    let (mut bench, p) = Bench::with_project();
    let socket = FakeSocket::open();
    bench.add(&p, &socket, retold(0));
    say(&mut bench, &p, 1);
    bench.turn_pages(1 << 20);
    let AskedRow { channel, .. } = bench.rows.pop_front().expect("it asks");
    bench.manager.row_refused(channel);
    bench.turn_pages(1 << 20);
    assert!(bench.rows.is_empty(), "not at once");
    bench.wait(Duration::from_secs(2));
    bench.catch_up();
    assert_eq!(socket.text(), said(&bench, &p, 0));
}

#[test]
fn what_came_between_where_a_stream_begins_and_its_beginning_is_asked_for() {
    let (mut bench, p) = Bench::with_project();
    say(&mut bench, &p, 1);
    say(&mut bench, &p, 1);
    let socket = FakeSocket::open();
    bench.add(&p, &socket, retold(1));
    bench.catch_up();
    assert_eq!(socket.text(), said(&bench, &p, 1));
}

#[test]
fn what_came_along_with_somebodys_beginning_is_no_gap_and_nothing_twice() {
    let (mut bench, p) = Bench::with_project();
    let [early, late] = std::array::from_fn(|_| FakeSocket::open());
    bench.add(&p, &early, retold(0));
    say(&mut bench, &p, 1);
    bench.turn_pages(1 << 20);
    say(&mut bench, &p, 1);
    // The log was asked for both before it answered either: the one who comes is told of both messages, and the channel
    // gets them with that.
    let row = bench.logs[&p].row(0, run(1), 1 << 20);
    bench.manager.catch_up(&p, run(1), FORMAT, &row, bench.now);
    bench.add(&p, &late, retold(2));
    let AskedRow { channel, .. } = bench.rows.pop_front().expect("it asks");
    bench.manager.row(channel, &row, bench.now);
    say(&mut bench, &p, 1);
    bench.catch_up();
    assert_eq!((early.text(), late.text()), (said(&bench, &p, 0), said(&bench, &p, 2)));
}

#[test]
fn channels_go_with_their_streams_and_their_answers_reach_nobody_else() {
    let (mut bench, p) = Bench::with_project();
    let key = bench.add(&p, &FakeSocket::open(), retold(0));
    let before = bench.manager.backlog_memory().1;
    say(&mut bench, &p, 1);
    bench.turn_pages(1 << 20);
    assert_eq!(bench.manager.subscribers(&p), 1, "it watches the project");
    let AskedRow { channel, .. } = bench.rows.pop_front().expect("it asks");
    bench.manager.hangup(key.index());
    bench.reap();
    let socket = FakeSocket::open();
    bench.add(&p, &socket, retold(1));
    bench.manager.row(channel, &bench.logs[&p].row(0, run(1), 1 << 20), bench.now);
    bench.flush();
    assert_eq!(socket.text(), "");
    assert!(bench.manager.backlog_memory().1 > before, "the project lingers");
}

#[test]
fn those_who_read_a_format_count_among_those_who_are_behind() {
    let (mut bench, p) = Bench::with_project();
    let sockets: Vec<_> = (0..3).map(|_| FakeSocket::with_room(0)).collect();
    for socket in &sockets {
        bench.add(&p, socket, retold(0));
    }
    bench.join(&p, &FakeSocket::open());
    say(&mut bench, &p, 1);
    bench.catch_up();
    assert!(bench.manager.is_congested(&p, bench.now));
}

#[test]
fn backlogs_of_runs_count_among_all_backlogs() {
    const TOGETHER: usize = 8 * BACKLOG_BYTES_MIN;
    let mut bench = Bench::with(Settings { backlog_bytes: TOGETHER, backlogs_bytes: TOGETHER, ..settings() });
    let p = id("p");
    bench.open(&p);
    for n in 1..=7 {
        let new = NewStream { only_run: Some(run(n)), view: View::Format(FORMAT), ..NewStream::default() };
        bench.add(&p, &FakeSocket::open(), new);
    }
    for n in 0..600 {
        bench.say_of(&p, 1000, Some(run(n % 7 + 1)), false);
        bench.catch_up();
    }
    bench.wait(Duration::from_secs(2));
    let (_, bytes) = bench.manager.backlog_memory();
    // Half of the bytes may be dead, and there is room to grow.
    assert!(bytes <= 4 * TOGETHER, "{bytes} bytes");
}

#[test]
fn behind_the_end_of_a_turn_its_streams_end_at_any_pace_and_those_of_the_next_turn_go_on() {
    let in_turns = |after| NewStream { view: View::Format(Format::AiSdk { in_turns: true }), ..retold(after) };
    for room in 0..130 {
        let (mut bench, p) = Bench::with_project();
        let (slow, next) = (FakeSocket::with_room(room), FakeSocket::open());
        let key = bench.add(&p, &slow, in_turns(0));
        say(&mut bench, &p, 1);
        bench.catch_up();
        bench.say_of(&p, 40, Some(run(1)), true);
        bench.catch_up();
        let mut turn = bench.logs[&p].bytes(0, Some(run(1)));
        turn.extend_from_slice(Coding::Chunked.end());
        bench.add(&p, &next, in_turns(2));
        say(&mut bench, &p, 1);
        bench.catch_up();
        assert_eq!(next.text(), said(&bench, &p, 2), "{room} bytes");
        bench.make_room(key, &slow, usize::MAX);
        bench.catch_up();
        assert_eq!(bench.reap(), [CloseReason::RunOver], "{room} bytes");
        assert_eq!(slow.text(), String::from_utf8_lossy(&turn), "{room} bytes");
    }
}
