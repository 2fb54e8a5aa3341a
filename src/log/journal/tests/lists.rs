//! Lists of runs and of their events, page by page.

use super::*;

#[test]
fn runs_are_listed_newest_first_by_status_and_page_by_page() {
    let mut bench = Bench::new();
    for n in 1..=5 {
        bench.submit(&format!("r{n}"));
        let end = if n % 2 == 0 { completed() } else { failed(EndReason::StepFailed) };
        bench.say(&format!("r{n}"), vec![started(), end]);
    }
    bench.submit("r6");
    bench.submit("r7");
    bench.say("r6", vec![started()]);
    let mut listed = |status: Option<RunStatus>, before: Option<&str>, limit: usize| {
        let list = bench.json(Query::Runs { project: p(), status, before: before.map(position), limit });
        let ids = list["workflows"].as_array().expect("an array").iter().map(|run| run["runId"].as_str());
        let ids: Vec<_> = ids.map(|id| id.expect("an id").to_owned()).collect();
        (ids.join(" "), list["next"].as_str().map(str::to_owned))
    };
    assert_eq!(listed(None, None, 3), ("r7 r6 r5".into(), Some("~5".into())));
    assert_eq!(listed(None, Some("~5"), 4), ("r4 r3 r2 r1".into(), None));
    assert_eq!(listed(Some(RunStatus::Failed), None, 2), ("r5 r3".into(), Some("~3".into())));
    assert_eq!(listed(Some(RunStatus::Failed), Some("r3"), 2), ("r1".into(), None));
    assert_eq!(listed(Some(RunStatus::Running), None, 1), ("r6".into(), None));
    assert_eq!(listed(Some(RunStatus::Queued), None, 10), ("r7".into(), None));
    assert_eq!(listed(Some(RunStatus::Queued), Some("r7"), 10), (String::new(), None));
    assert_eq!(listed(Some(RunStatus::Cancelled), None, 10), (String::new(), None));
    assert_eq!(listed(None, Some("r9"), 1), (String::new(), None), "none is older than all that have ended");
}

#[test]
fn a_page_of_runs_could_not_be_gone_on_from_once_its_last_run_was_let_go() {
    let mut bench = Bench::with(keeping(Retention { runs: 1, ..KEEP_ALL }));
    bench.submit("old");
    for run in ["r1", "r2"] {
        bench.whole_run(run, 0);
        bench.submit(&format!("{run}-goes-on"));
    }
    let page = |bench: &mut Bench, before: Option<&str>| {
        let before = before.map(position);
        let list = bench.json(Query::Runs { project: p(), status: None, before, limit: 2 });
        let ids = list["workflows"].as_array().expect("an array").iter().map(|run| run["runId"].as_str());
        let ids: Vec<_> = ids.map(|id| id.expect("an id").to_owned()).collect();
        (ids.join(" "), list["next"].as_str().map(str::to_owned))
    };
    let (first, next) = page(&mut bench, None);
    assert_eq!(first, "r2-goes-on r2");
    // The run that the page ended with is let go.
    bench.whole_run("r3", 0);
    let gone = Query::Run { project: p(), run: run_id("r2"), wanted: WantedRun::WHOLE };
    bench.wait_ms(61_000);
    assert!(matches!(bench.read(gone), Answer::Refused(Refusal::UnknownRun)));
    assert_eq!(page(&mut bench, next.as_deref()), ("r1-goes-on old".into(), None));
    for bad in ["~", "~0", "~x", "~-1", "a b", ""] {
        assert!(bad.parse::<Position>().is_err(), "{bad}");
    }
}

#[test]
fn a_list_of_runs_that_have_ended_reads_none_of_their_states() {
    let mut bench = Bench::with(keeping(Retention { age_ms: u64::MAX, ..KEEP_ALL }));
    let writes: Vec<Write> = (1..=3)
        .flat_map(|n| {
            let summary = format!("{{\"runId\":\"run{n}\"}}").into_bytes().into();
            let state = b"not looked at".as_slice().into();
            let status = if n == 2 { RunStatus::Failed } else { RunStatus::Completed };
            [created(n, 0), Write::RunEnded { number: number(n), status, summary, state, last_seq: n }]
        })
        .collect();
    assert_eq!(bench.journal.store.append(&[], &writes, Timestamp::default()), Ok(()));
    for (status, expected) in [
        (None, json!([{"runId": "run3"}, {"runId": "run2"}, {"runId": "run1"}])),
        (Some(RunStatus::Completed), json!([{"runId": "run3"}, {"runId": "run1"}])),
        (Some(RunStatus::Failed), json!([{"runId": "run2"}])),
    ] {
        let list = bench.json(Query::Runs { project: p(), status, before: None, limit: 3 });
        assert_eq!(list["workflows"], expected, "{status:?}");
    }
}

#[test]
fn a_runs_events_are_read_page_by_page() {
    let mut bench = Bench::new();
    bench.publish(&p(), 1);
    bench.whole_run("r", 3);
    let query =
        |after, limit| Query::RunEvents { project: p(), run: run_id("r"), after, limit, list: EventList::Messages };
    let page = bench.json(query(0, 2));
    let first = &page["events"][0];
    assert_eq!(
        (&first["id"], &first["type"], &first["seq"]),
        (&json!(bench.id(2)), &json!("workflow_started"), &json!(2))
    );
    assert_eq!((page["events"].as_array().map(Vec::len), &page["next"]), (Some(2), &json!(bench.id(3))));
    let rest = bench.json(query(3, 3));
    assert_eq!((rest["events"].as_array().map(Vec::len), &rest["next"]), (Some(3), &Value::Null));
    assert_eq!(bench.json(query(6, 3))["events"], json!([]));
}

#[test]
fn a_page_of_a_runs_events_was_as_large_as_its_messages_were() {
    const MIB: usize = 1024 * 1024;
    let mut bench = Bench::new();
    bench.submit("r");
    let said = progress("a", done(json!("x".repeat(MIB)), false));
    bench.say("r", vec![started()]);
    (0..9).for_each(|_| drop(bench.say("r", vec![said.clone()])));
    let (mut after, mut seen, mut pages) = (0, 0, 0);
    loop {
        let Answer::Json(body) = bench.read(Query::RunEvents {
            project: p(),
            run: run_id("r"),
            after,
            limit: 1000,
            list: EventList::Messages,
        }) else {
            panic!("no page")
        };
        assert!(body.len() < 6 * MIB, "{} bytes", body.len());
        let page: Value = serde_json::from_slice(&body).expect("JSON");
        let events = page["events"].as_array().expect("an array");
        (seen, pages) = (seen + events.len(), pages + 1);
        after = events.last().map_or(after, |event| event["seq"].as_u64().expect("a number"));
        if page["next"].is_null() {
            break;
        }
        assert_eq!(page["next"], json!(bench.id(after)));
    }
    assert_eq!((seen, pages), (10, 3));
}
