//! What is numbered, delivered and read in pages, and how much of it is kept.

use super::*;

#[test]
fn messages_are_numbered_by_project_without_a_gap() {
    let mut bench = Bench::new();
    assert_eq!([bench.publish(&p(), 3), bench.publish(&project("q"), 1), bench.publish(&p(), 2)], [1, 1, 4]);
    bench.whole_run("r", 2);
    assert_eq!(bench.publish(&p(), 1), 10, "a run's messages count too");
    assert_eq!(bench.follow(0, None).0, (1..=10).collect::<Vec<_>>());
}

#[test]
fn a_batch_is_read_as_a_whole_and_its_frames_come_before_its_answers() {
    let mut bench = Bench::new();
    bench.attach(None, None);
    let read = Command::Read {
        query: Query::Page { project: p(), after: 0, run: None, view: View::Events, bytes_max: 1 << 20 },
        reply: reply_to(7),
    };
    let outcome = bench.handle(vec![read, publish(&p(), 2, 1), submit("r", None, 0, 2), publish(&p(), 1, 3)]);
    let of_p = frames(&outcome);
    assert_eq!(of_p.len(), 1, "one row a project");
    assert_eq!((of_p[0].1.first_seq, seqs_of(&of_p[0].1.bytes)), (1, vec![1, 2, 3]));
    assert!(matches!(outcome.deliveries[0], Delivery::Frames { .. }));
    assert!(matches!(&outcome.orders[..], [Order::Start { .. }]));
    let answers = answers(outcome);
    let to: Vec<u64> = answers.iter().map(|(to, _)| *to).collect();
    assert_eq!(to, [1, 2, 3, 7]);
    let Answer::Page(page) = &answers[3].1 else { panic!("no page: {answers:?}") };
    assert_eq!(seqs_of(&page.bytes), [1, 2, 3], "a read sees all of its batch");
}

#[test]
fn a_project_is_delivered_while_it_is_watched_and_its_tail_is_handed_over_once() {
    let mut bench = Bench::new();
    bench.publish(&p(), 3);
    let first = bench.attach(None, None);
    let tail = first.backlog.expect("the tail");
    assert_eq!((first.after, tail.first_seq, seqs_of(&tail.bytes)), (3, 1, vec![1, 2, 3]));
    assert_eq!(tail.marks.last().map(|mark| mark.end), Some(tail.bytes.len()));
    assert!(bench.attach(None, None).backlog.is_none(), "it is watched already");
    assert_eq!(frames(&bench.handle(vec![publish(&p(), 1, 0)])).len(), 1);

    bench.handle(vec![Command::Unwatch(p())]);
    assert_eq!(frames(&bench.handle(vec![publish(&p(), 1, 0)])).len(), 0);
    let again = bench.attach(Some(ResumeFrom::Seq(3)), None);
    assert_eq!((again.after, again.resume), (3, Resume::Resumed));
    assert_eq!(again.backlog.map(|tail| seqs_of(&tail.bytes)), Some(vec![1, 2, 3, 4, 5]));
}

#[test]
fn an_empty_project_may_be_watched() {
    let mut bench = Bench::new();
    let start = bench.attach(None, None);
    let tail = start.backlog.expect("an empty tail");
    assert_eq!((start.after, tail.first_seq, tail.marks.len()), (0, 1, 0));
    let outcome = bench.handle(vec![publish(&p(), 1, 0)]);
    assert_eq!(frames(&outcome)[0].1.first_seq, 1);
}

#[test]
fn pages_hold_what_fits_and_only_the_readers_own() {
    let mut bench = Bench::new();
    bench.publish(&p(), 2);
    bench.submit("r");
    bench.say("r", vec![started()]);
    bench.publish(&p(), 2);
    bench.say("r", vec![completed()]);
    bench.publish(&p(), 1);
    let number = bench.attach(None, Some("r")).run;
    let page = |answer| match answer {
        Answer::Page(Page { bytes, messages, up_to, has_last }) => (seqs_of(&bytes), messages, up_to, has_last),
        other => panic!("no page: {other:?}"),
    };
    for (after, run, bytes_max, expected) in [
        (0, None, 1 << 20, (vec![1, 2, 3, 4, 5, 6, 7], 7, 7, false)),
        (4, None, 1 << 20, (vec![5, 6, 7], 3, 7, false)),
        (0, None, 1, (vec![1], 1, 1, false)),
        (7, None, 1, (vec![], 0, 7, false)),
        (0, number, 1 << 20, (vec![3, 6], 2, 7, true)),
        (0, number, 1, (vec![3], 1, 5, false)),
        (5, number, 1, (vec![6], 1, 7, true)),
        (6, number, 1, (vec![], 0, 7, false)),
    ] {
        assert_eq!(page(bench.page(after, run, bytes_max)), expected, "behind {after} of {run:?}, {bytes_max} bytes");
    }
}

#[test]
fn a_page_and_a_live_frame_are_the_same_bytes() {
    let mut bench = Bench::new();
    bench.attach(None, None);
    let outcome = bench.handle(vec![publish(&p(), 2, 0)]);
    let live = frames(&outcome)[0].1.bytes.clone();
    let Answer::Page(page) = bench.page(0, None, 1 << 20) else { panic!("no page") };
    assert_eq!((&*page.bytes, page.messages), (&*live, 2));
}

#[test]
fn history_is_bounded_by_count_and_keeps_the_ends_of_runs() {
    let mut bench = Bench::with(keeping(Retention { messages: 4, ..KEEP_ALL }));
    bench.whole_run("r", 5);
    bench.publish(&p(), 10);
    let Answer::StartsAt(reset) = bench.page(0, None, 1) else { panic!("what is gone is not paged") };
    assert_eq!(reset.resume, Resume::Reset(ResetReason::Expired));
    assert_eq!(bench.follow(13, None).0, [14, 15, 16, 17]);
    let events = bench.json(Query::RunEvents {
        project: p(),
        run: run_id("r"),
        after: 0,
        limit: 100,
        list: EventList::Messages,
    });
    let seqs: Vec<_> = events["events"].as_array().expect("an array").iter().map(|event| &event["seq"]).collect();
    assert_eq!(seqs, [1, 7]);
}

#[test]
fn history_is_bounded_by_bytes_and_by_age() {
    let mut bench = Bench::with(keeping(Retention { bytes: 2000, ..KEEP_ALL }));
    bench.publish(&p(), 100);
    bench.publish(&project("q"), 5);
    let kept = bench.attach(None, None).backlog.expect("a tail").marks.len();
    assert!((1..10).contains(&kept), "{kept} messages");

    let mut bench = Bench::with(keeping(Retention { age_ms: 1000, ..KEEP_ALL }));
    bench.publish(&p(), 3);
    bench.wait_ms(600);
    bench.publish(&p(), 3);
    bench.wait_ms(600);
    bench.publish(&project("q"), 1);
    assert_eq!(bench.attach(None, None).backlog.map(|tail| seqs_of(&tail.bytes)), Some(vec![4, 5, 6]));
}

#[test]
fn the_tail_that_is_handed_over_is_bounded_though_messages_are_large() {
    let mut bench = Bench::new();
    let payload = format!("{{\"x\":\"{}\"}}", "x".repeat(100 * 1024)).into_bytes();
    let event = PublishedEvent { message_type: "note".into(), payload };
    let command = Command::Publish { project: p(), events: vec![event; 20], reply: reply_to(0) };
    bench.ask(command);
    assert_eq!(bench.attach(None, None).backlog.map(|tail| seqs_of(&tail.bytes)), Some(vec![19, 20]));
    let mut bench = Bench::new();
    bench.publish(&p(), 10_000);
    let tail = bench.attach(None, None).backlog.expect("a tail");
    assert!((200 * 1024..512 * 1024).contains(&tail.bytes.len()), "{} bytes", tail.bytes.len());
    assert_eq!((tail.next_seq(), tail.marks.len()), (10_001, seqs_of(&tail.bytes).len()));
}
