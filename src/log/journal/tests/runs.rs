//! Runs: how many there may be, what they say, and that they end once.

use super::*;

#[test]
fn a_run_with_more_outputs_than_the_store_takes_in_one_value_could_not_end() {
    let mut bench = Bench::with(Limits { state_outputs_bytes: 1500, ..limits() });
    bench.submit("r");
    let large = |c: &str| json!({"long": c.repeat(1000)});
    bench.say("r", vec![started(), progress("a", done(large("a"), false)), progress("b", done(large("b"), false))]);
    for is_ended in [false, true] {
        let run = bench.json(Query::Run { project: p(), run: run_id("r"), wanted: WantedRun::CUT });
        let [a, b] = [0, 1].map(|at| &run["steps"][at]);
        assert_eq!((&a["output"], &a["truncated"]), (&large("a"), &Value::Null));
        assert_eq!((&b["output"], &b["truncated"], &b["outputBytes"]), (&json!(""), &json!(true), &json!(1011)));
        let run = bench.json(Query::Run { project: p(), run: run_id("r"), wanted: WantedRun::WHOLE });
        assert_eq!((&run["steps"][1]["output"], &run["steps"][1]["truncated"]), (&large("b"), &Value::Null));
        assert_eq!(bench.output("b", None), Ok((large("b").to_string(), true)), "ended: {is_ended}");
        let folded = bench.journal.runs.values().next().expect("it is held").state.clone();
        bench.journal.reload(None, &Default::default(), bench.now).expect("it can be read");
        assert_eq!(bench.journal.runs.values().next().expect("it is held").state, folded, "ended: {is_ended}");
        if !is_ended {
            bench.say("r", vec![completed()]);
        }
    }
    let kept = bench.journal.store.ended_state(number(1)).expect("it can be read").expect("it is kept");
    assert!(kept.len() < 1500 + 1000, "{} bytes", kept.len());
    let seen = bench.page(0, None, 1 << 20);
    let Answer::Page(page) = seen else { panic!("{seen:?}") };
    let messages = messages_of(&page.bytes);
    assert_eq!(messages[2]["payload"]["output"], large("b"), "its message has all of it");
}

#[test]
fn runs_that_ended_are_not_held_for_ever() {
    let mut bench = Bench::new();
    for n in 0..10 {
        bench.whole_run(&format!("r{n}"), 0);
        bench.wait_ms(10);
    }
    assert_eq!(bench.journal.runs.len(), 1, "only the newest that ended is shown to who comes");
    bench.wait_ms(60_001);
    bench.publish(&p(), 1);
    assert_eq!(bench.journal.runs.len(), 0);
    let run = bench.json(Query::Run { project: p(), run: run_id("r9"), wanted: WantedRun::WHOLE });
    assert_eq!((&run["status"], &run["lastEventId"]), (&json!("completed"), &json!(bench.id(20))));
    assert_eq!(bench.attach(Some(ResumeFrom::Seq(0)), Some("r9")).after, 0);
}

#[test]
fn runs_that_have_not_ended_are_limited() {
    let mut bench = Bench::with(Limits { open_runs: 2, ..limits() });
    bench.submit("a");
    bench.submit("b");
    assert_eq!(accepted(bench.ask(submit("c", None, 0, 0))), Err(Refusal::TooManyRuns(2)));
    assert!(matches!(accepted(bench.ask(submit("a", None, 0, 0))), Ok((_, true))), "a replay is none more");
    bench.say("a", vec![started(), failed(EndReason::StepFailed)]);
    bench.submit("c");
}

#[test]
fn one_projects_runs_leave_room_for_those_of_the_others() {
    let mut bench = Bench::with(Limits { open_runs: 4, project_runs: 2, ..limits() });
    bench.submit("a");
    bench.submit("b");
    assert_eq!(accepted(bench.ask(submit("c", None, 0, 0))), Err(Refusal::TooManyProjectRuns(2)));
    assert!(matches!(accepted(bench.ask(submit("a", None, 0, 0))), Ok((_, true))), "a replay is none more");
    let mut elsewhere = submit("c", None, 0, 0);
    if let Command::Submit { submission, .. } = &mut elsewhere {
        submission.claim.project = project("other");
    }
    assert!(matches!(accepted(bench.ask(elsewhere)), Ok((_, false))));
    bench.say("a", vec![started(), failed(EndReason::StepFailed)]);
    bench.submit("c");
}

#[test]
fn each_of_many_open_runs_is_told_its_own() {
    let mut bench = Bench::new();
    for n in 0..1000 {
        bench.submit(&format!("r{n}"));
    }
    for n in (0..1000).rev() {
        bench.say(&format!("r{n}"), vec![started()]);
    }
    bench.say("r500", vec![completed()]);
    let listed = bench.json(Query::Runs { project: p(), status: Some(RunStatus::Running), before: None, limit: 1000 });
    assert_eq!(listed["workflows"].as_array().map(Vec::len), Some(999));
    assert_eq!(bench.follow(0, bench.journal.open_run(&p(), &run_id("r7"))).0, [993]);
}

#[test]
fn only_a_run_that_has_not_ended_can_be_cancelled() {
    let mut bench = Bench::new();
    let cancel = |run: &str| Command::Cancel { project: p(), run: run_id(run), reply: Some(reply_to(0)) };
    assert!(matches!(bench.ask(cancel("r")), Answer::Refused(Refusal::UnknownRun)));
    let outcome = bench.handle(vec![submit("r", None, 0, 0), cancel("r")]);
    assert!(matches!(&outcome.orders[..], [Order::Start { .. }, Order::Cancel { .. }]), "in this order");
    assert!(matches!(answers(outcome).pop(), Some((_, Answer::CancelAccepted))));
    bench.say("r", vec![started(), failed(EndReason::Cancelled)]);
    let outcome = bench.handle(vec![cancel("r")]);
    assert!(outcome.orders.is_empty());
    assert!(matches!(answers(outcome).pop(), Some((_, Answer::Refused(Refusal::RunEnded)))));
    let run = bench.json(Query::Run { project: p(), run: run_id("r"), wanted: WantedRun::WHOLE });
    assert_eq!((&run["status"], &run["error"]), (&json!("cancelled"), &json!("no")));
}

#[test]
fn what_a_run_says_after_its_last_message_is_not_kept() {
    let mut bench = Bench::new();
    bench.whole_run("r", 0);
    let outcome = bench.say("r", vec![output_chunk("late")]);
    assert!(outcome.deliveries.is_empty());
    assert_eq!(bench.publish(&p(), 1), 3);
}

#[test]
fn what_runs_did_is_counted_once_it_is_kept() {
    let mut bench = Bench::new();
    bench.submit("r");
    let outcome = bench.say("r", vec![started(), progress("a", running()), completed()]);
    let work = outcome.deliveries.iter().find_map(|delivery| match delivery {
        Delivery::Worked(work) => Some(work.clone()),
        _ => None,
    });
    let work = work.expect("work");
    assert_eq!(work.runs().filter(|(_, n)| *n > 0).collect::<Vec<_>>(), [("started", 1), ("completed", 1)]);
    assert_eq!(work.steps().filter(|(_, n)| *n > 0).collect::<Vec<_>>(), [("running", 1)]);
}
