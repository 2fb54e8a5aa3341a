//! Messages with what is said of items between them.

use super::*;
use crate::log::ItemFrame;

fn with_items() -> NewStream {
    NewStream { view: View::Items, ..NewStream::default() }
}

/// What is said of an item after message `seq`, alone.
fn item(seq: u64, name: &str) -> Frames {
    let mut frames = Frames::starting_at(seq + 1);
    let mut bytes = Vec::new();
    sse::write_event(&mut bytes, None, None, name.as_bytes());
    frames.items.push(ItemFrame { behind: 0, run: run(1), bytes });
    frames
}

fn event(data: &str) -> String {
    let mut bytes = Vec::new();
    sse::write_event(&mut bytes, None, None, data.as_bytes());
    String::from_utf8(bytes).expect("text")
}

#[test]
fn items_are_told_among_messages_to_those_who_have_asked_and_to_nobody_else() {
    let (mut bench, p) = Bench::with_project();
    let [plain, asked, of_run, of_other] = std::array::from_fn(|_| FakeSocket::open());
    bench.join(&p, &plain);
    let asked_key = bench.add(&p, &asked, with_items());
    bench.add(&p, &of_run, NewStream { only_run: Some(run(1)), ..with_items() });
    bench.add(&p, &of_other, NewStream { only_run: Some(run(2)), ..with_items() });
    assert_eq!(bench.turn_pages(1 << 20), 3, "each is shown how the items are");
    for socket in [&asked, &of_run, &of_other] {
        assert_eq!(socket.take_text(), event("items of p at 0"));
    }
    bench.say_of(&p, 60, Some(run(1)), false);
    bench.flush();
    let writes = plain.writes();
    bench.manager.broadcast(&p, &item(1, "a runs"), bench.now);
    bench.manager.broadcast(&p, &item(1, "a ended"), bench.now);
    bench.flush();
    assert_eq!(plain.writes(), writes, "what is said of items alone makes no round of others");
    let mut both = bench.logs.get_mut(&p).expect("open").add(60, Some(run(1)), true);
    both.items = vec![ItemFrame { behind: 0, run: run(1), bytes: event("b ended").into() }];
    bench.manager.broadcast(&p, &both, bench.now);
    bench.flush();
    let log = &bench.logs[&p];
    let [first, second] = [0, 1].map(|seq| String::from_utf8(log.messages[seq].0.clone()).expect("text"));
    let told = first.clone() + &event("a runs") + &event("a ended") + &event("b ended") + &second;
    assert_eq!(asked.text(), told);
    assert!(of_run.text().starts_with(&told), "with the end of the stream behind it: {}", of_run.text());
    assert_eq!(of_other.text(), "");
    assert_eq!(plain.text(), first + &second);
    assert_eq!(bench.reap(), [CloseReason::RunOver]);
    bench.manager.hangup(asked_key.index());
    bench.reap();
    assert!(bench.manager.take_effects(PAGES_IN_FLIGHT_MAX).is_empty(), "another one watches with items");
}

#[test]
fn whoever_falls_behind_reads_messages_from_the_log_and_is_shown_how_the_items_are() {
    let (mut bench, p) = Bench::with_project();
    let socket = FakeSocket::with_room(0);
    let key = bench.add(&p, &socket, with_items());
    bench.make_room(key, &socket, 1000);
    bench.turn_pages(1 << 20);
    assert_eq!(socket.take_text(), event("items of p at 0"));
    bench.say(&p, 2000);
    for n in 0..1000 {
        bench.manager.broadcast(&p, &item(1, &format!("{n} {}", "x".repeat(100))), bench.now);
    }
    bench.say(&p, 100);
    for n in 0..1000 {
        bench.manager.broadcast(&p, &item(2, &format!("{n} {}", "y".repeat(100))), bench.now);
    }
    bench.flush();
    bench.make_room(key, &socket, usize::MAX);
    bench.catch_up();
    let text = socket.text();
    let shown = text.rfind("items of p at 2").expect("it is shown how the items are");
    assert!(!text[shown..].contains("0 y"), "what was said before is not told behind it");
    bench.manager.broadcast(&p, &item(2, "the newest"), bench.now);
    bench.flush();
    assert!(socket.text().ends_with(&event("the newest")));
    assert_eq!(bench.turn_pages(1 << 20), 0, "nothing is lacking");
}

#[test]
fn a_project_of_which_nobody_wants_items_any_more_has_them_told_no_longer() {
    let (mut bench, p) = Bench::with_project();
    let socket = FakeSocket::open();
    let key = bench.add(&p, &socket, with_items());
    bench.turn_pages(1 << 20);
    bench.manager.hangup(key.index());
    bench.reap();
    let again = FakeSocket::open();
    bench.add(&p, &again, with_items());
    let effects = bench.manager.take_effects(PAGES_IN_FLIGHT_MAX);
    assert!(
        matches!(&effects[..], [Effect::IgnoreItems(_), Effect::ReadItems { .. }]),
        "whoever comes next asks behind that: {effects:?}"
    );
}
