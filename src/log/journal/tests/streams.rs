//! Where streams begin, and the snapshots that they begin with.

use super::*;

#[test]
fn a_position_is_resumed_or_the_stream_is_told_why_not() {
    let mut bench = Bench::with(keeping(Retention { messages: 4, ..KEEP_ALL }));
    bench.publish(&p(), 10);
    for (from, expected) in [
        (None, (Resume::Fresh, 10)),
        (Some(ResumeFrom::Seq(10)), (Resume::Resumed, 10)),
        (Some(ResumeFrom::Seq(6)), (Resume::Resumed, 6)),
        (Some(ResumeFrom::Seq(5)), (Resume::Reset(ResetReason::Expired), 10)),
        (Some(ResumeFrom::Seq(0)), (Resume::Reset(ResetReason::Expired), 10)),
        (Some(ResumeFrom::Seq(11)), (Resume::Reset(ResetReason::Ahead), 10)),
        (Some(ResumeFrom::Unknown), (Resume::Reset(ResetReason::UnknownId), 10)),
    ] {
        let start = bench.attach(from, None);
        assert_eq!((start.resume, start.after), expected, "{from:?}");
    }
}

#[test]
fn a_stream_of_one_run_begins_with_its_first_message_and_is_over_behind_its_last() {
    let mut bench = Bench::new();
    bench.publish(&p(), 2);
    bench.whole_run("r", 1);
    bench.publish(&p(), 2);
    let fresh = bench.attach(None, Some("r"));
    assert_eq!((fresh.after, fresh.resume, fresh.is_over), (2, Resume::Fresh, false));
    assert!(fresh.snapshots.is_empty() && fresh.run.is_some());
    assert_eq!(bench.follow(fresh.after, fresh.run), (vec![3, 4, 5], true));
    for (seq, is_over) in [(2, false), (4, false), (5, true), (7, true)] {
        let resumed = bench.attach(Some(ResumeFrom::Seq(seq)), Some("r"));
        assert_eq!((resumed.resume, resumed.after, resumed.is_over), (Resume::Resumed, seq, is_over), "{seq}");
    }
    let other = subscribe(Subscription { run: Some(run_id("other")), ..everything(p()) }, 0);
    assert!(matches!(bench.ask(other), Answer::Refused(Refusal::UnknownRun)));
}

#[test]
fn a_stream_of_a_run_that_waits_begins_before_its_first_message() {
    let mut bench = Bench::new();
    bench.publish(&p(), 2);
    bench.submit("r");
    bench.publish(&p(), 1);
    let queued = bench.attach(None, Some("r"));
    assert_eq!((queued.after, queued.resume), (3, Resume::Fresh));
    bench.say("r", vec![started(), failed(EndReason::Cancelled)]);
    assert_eq!(bench.follow(queued.after, queued.run), (vec![4, 5], true));
}

#[test]
fn a_stream_of_a_run_whose_history_is_gone_is_told_its_state_and_its_end_once() {
    let mut bench = Bench::with(keeping(Retention { messages: 4, ..KEEP_ALL }));
    bench.whole_run("r", 5);
    bench.publish(&p(), 10);
    for from in [None, Some(ResumeFrom::Seq(2)), Some(ResumeFrom::Unknown)] {
        let reset = bench.attach(from, Some("r"));
        assert!(matches!(reset.resume, Resume::Reset(_)), "{from:?}: {:?}", reset.resume);
        assert_eq!((reset.snapshots.len(), reset.after, reset.is_over), (1, 6, false));
        assert_eq!(bench.follow(reset.after, reset.run), (vec![7], true), "not reset again and again");
    }
    for seq in [7, 12] {
        let seen = bench.attach(Some(ResumeFrom::Seq(seq)), Some("r"));
        assert!(seen.is_over, "whoever has seen the last message is told to stay away: {:?}", seen.resume);
    }
}

#[test]
fn a_stream_of_a_run_that_goes_on_is_reset_to_where_the_run_is() {
    let mut bench = Bench::with(keeping(Retention { messages: 4, ..KEEP_ALL }));
    bench.submit("r");
    bench.say("r", vec![started()]);
    bench.publish(&p(), 10);
    let reset = bench.attach(None, Some("r"));
    assert_eq!((reset.resume, reset.after, reset.snapshots.len()), (Resume::Reset(ResetReason::Expired), 11, 1));
    bench.say("r", vec![completed()]);
    assert_eq!(bench.follow(reset.after, reset.run), (vec![12], true));
}

/// The ids and statuses of the runs that snapshots show.
fn shown(start: &StartingPosition) -> Vec<(String, String)> {
    let show = |snapshot: &Arc<[u8]>| {
        let message: Value = serde_json::from_slice(snapshot).expect("JSON");
        assert_eq!((&message["type"], &message["seq"]), (&json!("workflow_snapshot"), &json!(start.after)));
        let text = |name: &str| message["payload"][name].as_str().expect("a text").to_owned();
        assert!(message["payload"]["timestamp"].is_string());
        (text("runId"), text("status"))
    };
    start.snapshots.iter().map(show).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(run, status)| ((*run).to_owned(), (*status).to_owned())).collect()
}

#[test]
fn snapshots_show_what_is_active_and_the_newest_that_ended_a_moment_ago() {
    let mut bench = Bench::new();
    bench.whole_run("first", 0);
    bench.wait_ms(1000);
    bench.whole_run("second", 0);
    bench.submit("active");
    bench.say("active", vec![started()]);
    bench.submit("waits");
    let fresh = bench.attach(None, None);
    assert_eq!(shown(&fresh), pairs(&[("second", "completed"), ("active", "running"), ("waits", "queued")]));
    assert_eq!(shown(&bench.attach(Some(ResumeFrom::Unknown), None)).len(), 3);
    assert_eq!(shown(&bench.attach(Some(ResumeFrom::Seq(1)), None)).len(), 0, "whoever resumes has seen them");
    let bare = subscribe(Subscription::to(p()), 0);
    assert!(matches!(bench.ask(bare), Answer::StartsAt(start) if start.snapshots.is_empty()));
    bench.wait_ms(60_000);
    assert_eq!(shown(&bench.attach(None, None)).len(), 3);
    bench.wait_ms(1);
    assert_eq!(shown(&bench.attach(None, None)), pairs(&[("active", "running"), ("waits", "queued")]));
}

#[test]
fn a_snapshot_is_cut_anew_once_anything_has_changed() {
    let mut bench = Bench::new();
    bench.submit("r");
    assert_eq!(shown(&bench.attach(None, None)), pairs(&[("r", "queued")]));
    bench.publish(&p(), 1);
    assert_eq!(shown(&bench.attach(None, None)), pairs(&[("r", "queued")]), "its seq is the stream's position");
    bench.say("r", vec![started()]);
    assert_eq!(shown(&bench.attach(None, None)), pairs(&[("r", "running")]));
}

#[test]
fn a_snapshot_is_made_beside_the_log_and_once_for_all_who_come_before_its_run_moves_on() {
    let mut bench = Bench::new();
    bench.submit("r");
    bench.say("r", vec![started()]);
    let begin = |bench: &mut Bench| {
        let Asked::Snapshots(start) = bench.question(subscribe(everything(p()), 0)) else { panic!("no snapshots") };
        assert!(start.snapshots.is_empty() && start.backlog.is_none(), "the loop has the newest messages already");
        start
    };
    let one = begin(&mut bench);
    bench.publish(&p(), 1);
    let other = begin(&mut bench);
    assert!(Arc::ptr_eq(&one.unmade[0], &other.unmade[0]), "what others say in its project changes no run");
    bench.say("r", vec![progress("a", running())]);
    let later = begin(&mut bench);
    assert!(!Arc::ptr_eq(&one.unmade[0], &later.unmade[0]));
    bench.say("r", vec![completed()]);
    for (start, position) in [(one, 1), (other, 2), (later, 3)] {
        let Answer::StartsAt(start) = lookup::begun(start, &bench.signer) else { panic!("not made") };
        assert_eq!((start.after, start.unmade.len()), (position, 0));
        assert_eq!(shown(&start), pairs(&[("r", "running")]), "as it was when the stream began");
    }
}

#[test]
fn the_outputs_of_a_snapshot_are_bounded_together() {
    let mut bench = Bench::new();
    bench.submit("r");
    let large = Value::String("x".repeat(600 * 1024));
    bench.say("r", vec![started(), progress("a", done(large.clone(), false)), progress("b", done(large, false))]);
    let snapshot = &bench.attach(None, None).snapshots[0];
    let message: Value = serde_json::from_slice(snapshot).expect("JSON");
    let [a, b] = [0, 1].map(|at| &message["payload"]["steps"][at]);
    assert!(a["output"].as_str().is_some_and(|output| output.len() == 600 * 1024) && a["truncated"].is_null());
    assert_eq!((&b["output"], &b["truncated"], &b["outputBytes"]), (&json!(""), &json!(true), &json!(600 * 1024 + 2)));
}

#[test]
fn a_stream_was_never_sent_anything_where_one_that_came_just_before_it_was_refused() {
    use crate::log::MemoryStore;
    use crate::log::faulty::{Call, Disk, Fault};
    let disk = Disk::new(MemoryStore::new());
    let mut bench = Bench::new();
    let no_plan = Box::new(|_: &[u8]| Err(String::new()));
    let store = Box::new(disk.store());
    bench.journal = Journal::open(store, bench.signer.clone(), limits(), no_plan, bench.now).expect("nothing fails").0;
    bench.publish(&p(), 1);
    let note = json!({"nonce": "AAAAAAAAAAAAAAAAAAAAAA", "kind": "spent", "until": "2033-01-01T00:00:00.000Z"});
    let first = Command::Subscribe {
        subscription: Arc::new(Subscription::to(p())),
        spends: Some(Spends { note: serde_json::from_value(note).expect("a note"), is_proven: false }),
        reply: reply_to(1),
    };
    disk.set(Fault::Always(&[Call::Append]));
    let outcome = bench.handle(vec![first, subscribe(Subscription::to(p()), 2)]);
    let begun: Vec<_> = answers(outcome)
        .into_iter()
        .filter_map(|(to, answer)| match answer {
            Answer::StartsAt(start) => Some((to, start.backlog.is_some())),
            _ => None,
        })
        .collect();
    assert_eq!(begun, [(2, true)]);
    disk.set(Fault::Never);
    bench.wait_ms(1000);
    let outcome = bench.handle(vec![publish(&p(), 1, 3)]);
    assert_eq!(frames(&outcome).len(), 1);
}
