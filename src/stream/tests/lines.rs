//! Messages in lines, for people.

use super::*;

/// A message that says something to people.
fn note(seq: u64) -> Frames {
    let mut frames = Frames::starting_at(seq);
    let message = format!(r#"{{"type":"note","projectId":"p","seq":{seq},"payload":{{"n":{seq}}}}}"#);
    sse::write_event(&mut frames.bytes, Some("i"), None, message.as_bytes());
    frames.mark(Some(run(1)), false);
    frames
}

fn told(seqs: std::ops::RangeInclusive<u64>) -> String {
    seqs.map(|seq| format!("{:width$} note {{\"n\":{seq}}}\n", "", width = "22:13:20.042".len())).collect()
}

#[test]
fn messages_are_put_into_lines_once_for_all_who_are_shown_them_so() {
    let (mut bench, p) = Bench::with_project();
    let text = NewStream { view: View::Text, ..NewStream::default() };
    let [events, first, second, old, of_run] = std::array::from_fn(|_| FakeSocket::open());
    bench.join(&p, &events);
    let before = bench.manager.backlog_memory().1;
    let first_key = bench.add(&p, &first, text);
    bench.add(&p, &second, NewStream { view: View::Text, ..NewStream::default() });
    let coding = Coding::UntilClose;
    let old_key = bench.add(&p, &old, NewStream { view: View::Text, coding, ..NewStream::default() });
    let only_run = Some(run(1));
    bench.add(&p, &of_run, NewStream { view: View::Text, only_run, ..NewStream::default() });
    bench.manager.broadcast(&p, &note(1), bench.now);
    bench.manager.broadcast(&p, &note(2), bench.now);
    bench.flush();
    for socket in [&first, &second, &of_run] {
        assert_eq!(String::from_utf8_lossy(&contents(socket.text().as_bytes())), told(1..=2));
        assert_eq!(socket.writes(), 1, "from a backlog of their own");
    }
    assert_eq!(old.text(), told(1..=2));
    assert_eq!(events.text().as_bytes(), [note(1).bytes, note(2).bytes].concat());

    bench.manager.hangup(old_key.index());
    bench.manager.hangup(first_key.index());
    bench.reap();
    bench.manager.broadcast(&p, &note(3), bench.now);
    bench.flush();
    assert!(second.text().contains("{\"n\":3}"));
    assert!(bench.manager.backlog_memory().1 > before);
}

#[test]
fn whoever_is_shown_lines_and_falls_behind_or_begins_in_the_past_reads_on_from_the_log() {
    let (mut bench, p) = Bench::with_project();
    bench.say(&p, 100);
    bench.say(&p, 100);
    let socket = FakeSocket::open();
    bench.add(&p, &socket, NewStream { view: View::Text, ..NewStream::default() });
    assert_eq!(bench.manager.pages().0, 1, "nobody was shown lines until now: it waits for a page");
    assert_eq!(bench.turn_pages(1 << 20), 1);
    bench.manager.broadcast(&p, &note(3), bench.now);
    bench.flush();
    assert_eq!(String::from_utf8_lossy(&contents(socket.text().as_bytes())), told(3..=3));
}

#[test]
fn lines_arrive_whole_and_in_order_however_little_a_socket_takes() {
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let (mut bench, p) = Bench::with_project();
        let socket = FakeSocket::with_room(0);
        let coding = if rng.one_in(4) { Coding::UntilClose } else { Coding::Chunked };
        let key = bench.add(&p, &socket, NewStream { view: View::Text, coding, ..NewStream::default() });
        let mut expected = Vec::new();
        for _ in 0..400 {
            match rng.below(6) {
                0..=2 => {
                    let frames = note_or_nothing(bench.logs[&p].newest() + 1, &mut rng);
                    expected.append(&mut View::Text.of_events(frames.bytes.clone()));
                    bench.logs.get_mut(&p).expect("open").messages.push((frames.bytes.clone(), None, false));
                    bench.manager.broadcast(&p, &frames, bench.now);
                }
                3 => bench.flush(),
                4 => bench.make_room(key, &socket, [1, 7, 500, 20_000][rng.below(4)]),
                _ => drop(bench.turn_pages([1, 2000, 1 << 20][rng.below(3)])),
            }
        }
        bench.make_room(key, &socket, usize::MAX);
        bench.flush();
        while bench.turn_pages(1 << 20) > 0 {}
        let expected = coding.encoded(expected);
        assert_eq!(socket.text(), String::from_utf8_lossy(&expected), "seed {seed}");
    }
}

/// A message that says much to people, or nothing.
fn note_or_nothing(seq: u64, rng: &mut Rng) -> Frames {
    let mut frames = Frames::starting_at(seq);
    let padding = "x".repeat(rng.below(900));
    let message = match rng.one_in(3) {
        true => "nothing".to_owned(),
        false => format!(r#"{{"type":"note","projectId":"p","seq":{seq},"payload":"{seq} {padding}"}}"#),
    };
    sse::write_event(&mut frames.bytes, Some("i"), None, message.as_bytes());
    frames.mark(None, false);
    frames
}

#[test]
fn a_silent_stream_of_lines_gets_a_line_because_proxies_end_what_is_silent() {
    let (mut bench, p) = Bench::with_project();
    let socket = FakeSocket::open();
    bench.add(&p, &socket, NewStream { view: View::Text, ..NewStream::default() });
    bench.wait(HEARTBEAT);
    assert_eq!(String::from_utf8_lossy(&contents(socket.text().as_bytes())), "22:13:35.000 heartbeat\n");
}
