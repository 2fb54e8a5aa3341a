//! Projects: how many are held, for how long, and how they are listed.

use super::*;

#[test]
fn projects_that_were_only_ever_watched_are_bounded_and_forgotten() {
    let mut bench = Bench::with(Limits { projects: 2, ..limits() });
    let attach = |of: &str| subscribe(everything(project(of)), 0);
    bench.publish(&project("kept"), 1);
    assert!(matches!(bench.ask(attach("a")), Answer::StartsAt(_)));
    assert!(matches!(bench.ask(attach("b")), Answer::Refused(Refusal::TooManyProjects(_))));
    assert!(matches!(bench.ask(publish(&project("b"), 1, 0)), Answer::Refused(Refusal::TooManyProjects(_))));
    bench.handle(vec![Command::Unwatch(project("a")), Command::Unwatch(project("kept"))]);
    assert!(matches!(bench.ask(attach("b")), Answer::StartsAt(_)));
    assert_eq!(bench.publish(&project("kept"), 1), 2, "what was written to goes on where it was");
}

#[test]
fn an_empty_array_of_events_makes_no_project() {
    let mut bench = Bench::new();
    assert_eq!(bench.publish(&p(), 0), 1);
    let projects = bench.json(Query::Projects { visible: None, after: None, limit: 10 });
    assert_eq!(projects, json!({"projects": []}));
}

#[test]
fn projects_are_listed_by_name_page_by_page_as_far_as_they_may_be_seen() {
    let mut bench = Bench::new();
    for name in ["c", "a", "b", "d"] {
        bench.publish(&project(name), 1);
    }
    bench.submit("r");
    bench.journal.watchers().say([(project("c"), Some(2)), (project("d"), None)]);
    let mut listed = |visible: Option<&[&str]>, after: Option<&str>, limit| {
        let visible = visible.map(|names| names.iter().map(|name| project(name)).collect());
        let list = bench.json(Query::Projects { visible, after: after.map(project), limit });
        let row = |row: &Value| {
            format!("{}{}{}", row["projectId"].as_str().unwrap_or("?"), row["activeRuns"], row["subscribers"])
        };
        let rows = list["projects"].as_array().expect("rows");
        (rows.iter().map(row).collect::<Vec<_>>().join(" "), list["next"].clone())
    };
    assert_eq!(listed(None, None, 3), ("a00 b00 c02".into(), json!("c")));
    assert_eq!(listed(None, Some("c"), 3), ("d00 p10".into(), Value::Null));
    assert_eq!(listed(Some(&["d", "b", "b", "none"]), None, 3), ("b00 d00".into(), Value::Null));
    assert_eq!(listed(Some(&["d", "c", "b"]), Some("b"), 1), ("c02".into(), json!("c")));
}

#[test]
fn a_clock_that_leapt_forward_let_all_history_go() {
    let mut bench = Bench::with(keeping(Retention { age_ms: DAY_MS, ..KEEP_ALL }));
    bench.whole_run("r1", 3);
    bench.ask(submit("r2", Some("key"), 1, 0));
    // A board without a clock of its own learns what time it is.
    bench.now.wall = bench.now.wall.plus_millis(50 * 365 * DAY_MS);
    bench.wait_ms(60_000);
    bench.publish(&p(), 1);
    assert_eq!(bench.follow(0, None).0.len(), 6);
    assert!(matches!(accepted(bench.ask(submit("r3", Some("key"), 1, 0))), Ok((_, true))), "nor any key");
    bench.wait_ms(DAY_MS);
    bench.handle(Vec::new());
    assert_eq!(bench.follow(6, None).0.len(), 0);
    let lost = bench.page(0, None, 1);
    assert!(matches!(lost, Answer::StartsAt(_)), "time that passes lets it go all the same: {lost:?}");
}

#[test]
fn projects_that_held_nothing_any_more_filled_the_limit_for_good() {
    let retention = Retention { age_ms: DAY_MS, ..KEEP_ALL };
    let mut bench = Bench::with(Limits { projects: 3, ..keeping(retention) });
    for name in ["a", "b", "c"] {
        bench.publish(&project(name), 2);
    }
    let one_more = publish(&project("d"), 1, 0);
    assert!(matches!(bench.ask(one_more.clone()), Answer::Refused(Refusal::TooManyProjects(_))));
    bench.wait_ms(2 * DAY_MS);
    let outcome = bench.handle(Vec::new());
    let held = outcome.deliveries.iter().find_map(|delivery| match delivery {
        Delivery::Worked(work) => Some(work.gauges().projects),
        _ => None,
    });
    assert_eq!(held, Some(0), "it is told: {outcome:?}");
    assert!(matches!(bench.ask(one_more), Answer::Published { first_seq: 1, count: 1 }));
    let projects = bench.json(Query::Projects { visible: None, after: None, limit: 10 });
    assert_eq!(projects["projects"].as_array().map(Vec::len), Some(1), "{projects}");
    assert_eq!(bench.publish(&project("a"), 1), 3, "its seq goes on");
    assert_eq!(bench.attach(None, None).after, 0);
    let ahead = Subscription { resume: Some(ResumeFrom::Seq(2)), ..everything(project("b")) };
    assert!(
        matches!(bench.ask(publish(&project("e"), 1, 0)), Answer::Refused(Refusal::TooManyProjects(_))),
        "p is watched"
    );
    bench.handle(vec![Command::Unwatch(p())]);
    match bench.ask(subscribe(ahead, 0)) {
        Answer::StartsAt(start) => assert_eq!((start.resume, start.after), (Resume::Resumed, 2)),
        other => panic!("no start: {other:?}"),
    }
}
