//! Calls that come twice, and the keys that they are known by.

use super::*;

#[test]
fn a_call_that_comes_twice_makes_one_run_whether_in_one_batch_or_two() {
    let first = || submit("r1", Some("key"), 1, 1);
    let calls = [
        ("same key, same body", submit("r2", Some("key"), 1, 2), Ok(("{\"runId\":\"r1\"}".to_owned(), true))),
        ("same key, other body", submit("r3", Some("key"), 2, 2), Err(Refusal::KeyReused)),
        ("same run id, same body", submit("r1", None, 1, 2), Ok(("{\"runId\":\"r1\"}".to_owned(), true))),
        ("same run id, other body", submit("r1", None, 2, 2), Err(Refusal::KeyReused)),
        ("another key", submit("r4", Some("other"), 1, 2), Ok(("{\"runId\":\"r4\"}".to_owned(), false))),
    ];
    for (name, call, expected) in calls {
        let Command::Submit { submission, .. } = &call else { unreachable!("a submission") };
        let again = Command::Submit { submission: submission.clone(), reply: reply_to(2) };

        let mut bench = Bench::new();
        let outcome = bench.handle(vec![first(), call]);
        assert_eq!(outcome.orders.len(), if matches!(expected, Ok((_, false))) { 2 } else { 1 }, "{name}");
        let (_, answer) = answers(outcome).remove(1);
        assert_eq!(accepted(answer), expected, "{name}, in one batch");

        let mut bench = Bench::new();
        bench.handle(vec![first()]);
        assert_eq!(accepted(bench.ask(again)), expected, "{name}, in two");
    }
}

#[test]
fn keys_are_a_projects_own_and_good_for_a_day_also_when_the_run_has_ended() {
    let mut bench = Bench::new();
    bench.ask(submit("r1", Some("key"), 1, 0));
    bench.say("r1", vec![started(), completed()]);
    let elsewhere = Box::new(submission("q", "r2", Some("key"), 2));
    let answer = bench.ask(Command::Submit { submission: elsewhere, reply: reply_to(0) });
    assert!(matches!(accepted(answer), Ok((_, false))));
    bench.wait_ms(DAY_MS);
    assert!(matches!(accepted(bench.ask(submit("r3", Some("key"), 1, 0))), Ok((_, true))));
    bench.wait_ms(1);
    assert!(matches!(accepted(bench.ask(submit("r4", Some("key"), 1, 0))), Ok((_, false))));
    assert!(matches!(accepted(bench.ask(submit("r1", None, 1, 0))), Ok((_, true))), "a run id as long as its run");
}

#[test]
fn a_key_whose_run_was_let_go_made_a_second_run() {
    let mut bench = Bench::with(keeping(Retention { runs: 0, ..KEEP_ALL }));
    let first = accepted(bench.ask(submit("r1", Some("key"), 1, 0)));
    bench.say("r1", vec![started(), completed()]);
    bench.wait_ms(DAY_MS / 2);
    bench.publish(&p(), 1);
    let gone = bench.read(Query::Document { project: p(), run: run_id("r1") });
    assert!(matches!(gone, Answer::Refused(Refusal::UnknownRun)), "{gone:?}");
    let body = first.expect("taken on").0;
    assert_eq!(accepted(bench.ask(submit("r2", Some("key"), 1, 0))), Ok((body.clone(), true)));
    assert_eq!(accepted(bench.ask(submit("r3", Some("key"), 2, 0))), Err(Refusal::KeyReused));
    assert_eq!(accepted(bench.ask(submit("r1", None, 1, 0))), Ok((body, true)), "an id that the caller chose too");
}

#[test]
fn a_call_that_can_not_be_carried_out_is_answered_as_the_one_with_its_key() {
    let mut bench = Bench::new();
    bench.ask(submit("r1", Some("key"), 1, 0));
    let mut recalled = |key: &str, fingerprint: u8| {
        let mut claim = Box::new(submission("p", "r9", Some(key), fingerprint).claim);
        claim.run = None;
        let otherwise = Box::new(Problem::new(400, "invalid_json", "no JSON"));
        bench.read(Query::Recall { claim, otherwise })
    };
    assert_eq!(accepted(recalled("key", 1)), Ok(("{\"runId\":\"r1\"}".into(), true)), "its tool may be gone since");
    assert_eq!(accepted(recalled("key", 2)), Err(Refusal::KeyReused));
    assert!(matches!(recalled("other", 2), Answer::Problem(problem) if problem.code == "invalid_json"));
}

#[test]
fn a_body_is_known_again_that_an_earlier_version_kept_by_its_bytes() {
    let mut bench = Bench::new();
    bench.ask(submit("r1", Some("key"), 1, 0));
    // Of the same bytes, and of another value than was kept.
    let again = submit("r2", Some("key"), 1 ^ 0xff, 0);
    assert!(matches!(accepted(bench.ask(again)), Ok((_, true))));
}

#[test]
fn keys_are_bounded_in_bytes_and_one_project_leaves_room_for_the_others() {
    let mut bench = Bench::with(Limits { key_bytes: 4000, open_runs: 10_000, ..limits() });
    let call = |of: &str, n: usize| {
        let mut submission = submission(of, &format!("{of}{n}"), Some(&format!("key{n}")), 1);
        submission.claim.run = None;
        Command::Submit { submission: Box::new(submission), reply: reply_to(0) }
    };
    let fill = |bench: &mut Bench, of: &str| {
        let is_taken = |n: &usize| accepted(bench.ask(call(of, *n))) != Err(Refusal::TooManyKeys(4000));
        (0..1000).take_while(is_taken).count()
    };
    let (first, second) = (fill(&mut bench, "a"), fill(&mut bench, "b"));
    assert!((8..12).contains(&first), "half of it: {first}");
    assert!((4..7).contains(&second), "half of what is left: {second}");
    assert!(bench.journal.key_bytes <= 4000);
    assert!(matches!(accepted(bench.ask(call("a", 0))), Ok((_, true))), "none is forgotten");
    let unnamed = |of: &str, run: &str| {
        let mut submission = submission(of, run, None, 1);
        submission.claim.run = None;
        Command::Submit { submission: Box::new(submission), reply: reply_to(0) }
    };
    assert!(matches!(accepted(bench.ask(unnamed("a", "plain"))), Ok((_, false))), "without a key it needs no room");
    bench.wait_ms(DAY_MS + 1);
    bench.publish(&p(), 1);
    bench.wait_ms(31_000);
    bench.handle(Vec::new());
    assert_eq!(bench.journal.key_bytes, 0);
    assert!(matches!(accepted(bench.ask(call("a", 999))), Ok((_, false))), "after a day there is room");
}
