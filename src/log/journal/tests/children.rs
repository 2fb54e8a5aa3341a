//! Runs that steps of others have begun.

use super::*;
use crate::log::MemoryStore;
use crate::log::faulty::Disk;
use crate::log::journal::ReadPlan;
use crate::model::{Parent, Usage};

fn plan_of(above: Option<&str>, group: Option<OnConflict>) -> Arc<Plan> {
    plan_in(above, group.map(|on_conflict| ("g", on_conflict)))
}

fn plan_in(above: Option<&str>, group: Option<(&str, OnConflict)>) -> Arc<Plan> {
    let parent = above.map(|run| Parent { run_id: run_id(run), step_id: step_id("a"), depth: 1 });
    let of = |(group, on_conflict): (&str, _)| Arc::new(Concurrency { group: group.into(), limit: 1, on_conflict });
    Arc::new(Plan { parent, concurrency: group.map(of), ..plan(&["a", "b: a"]) })
}

impl Bench {
    /// A run is taken on, or is not; what the executor is told.
    fn begin(&mut self, run: &str, above: Option<&str>, group: Option<OnConflict>) -> (Answer, Vec<String>) {
        self.take_on(run, plan_of(above, group))
    }

    fn take_on(&mut self, run: &str, plan: Arc<Plan>) -> (Answer, Vec<String>) {
        let submission = Submission { plan, ..submission("p", run, None, 0) };
        let outcome = self.handle(vec![Command::Submit { submission: Box::new(submission), reply: reply_to(0) }]);
        let told = told(&outcome);
        (answers(outcome).remove(0).1, told)
    }
}

#[test]
fn a_parent_hears_of_its_childs_end_and_takes_its_open_children_along() {
    let mut bench = Bench::new();
    for (run, above) in [("r", None), ("c1", Some("r")), ("c2", Some("r")), ("d", Some("c2")), ("other", None)] {
        assert_eq!(bench.begin(run, above, None).1, [format!("{run} begins")]);
    }
    assert_eq!(told(&bench.say("c1", vec![started(), completed()])), ["r hears of c1"]);
    assert_eq!(told(&bench.say("r", vec![started(), completed()])), ["c2 is cancelled"]);
    assert_eq!(ends(&mut bench, "c2"), ["r hears of c2", "d is cancelled"]);
    assert_eq!(ends(&mut bench, "d"), ["c2 hears of d"]);
    assert_eq!(ends(&mut bench, "other"), [] as [String; 0]);
    assert!(bench.journal.projects[&p()].children.is_empty());
}

#[test]
fn a_child_begins_once_and_only_while_its_parent_goes_on() {
    let mut bench = Bench::new();
    bench.submit("r");
    assert_eq!(bench.begin("c", Some("r"), None).1, ["c begins"]);
    let (again, told) = bench.begin("c", Some("r"), None);
    assert!(matches!(again, Answer::Accepted { replayed: true, .. }) && told.is_empty(), "{again:?} {told:?}");
    ends(&mut bench, "r");
    let (late, told) = bench.begin("d", Some("r"), None);
    assert!(matches!(late, Answer::Refused(Refusal::RunEnded)) && told.is_empty(), "{late:?} {told:?}");
}

#[test]
fn what_came_of_a_child_is_read_again() {
    let mut bench = Bench::new();
    bench.submit("r");
    for run in ["good", "bad", "open"] {
        bench.begin(run, Some("r"), None);
    }
    bench.say("good", vec![started(), completed()]);
    ends(&mut bench, "bad");
    let mut result = |run: &str| match bench.read(Query::ChildResult { project: p(), run: run_id(run) }) {
        Answer::ChildResult(result) => result.map(|result| result.output),
        other => panic!("{other:?}"),
    };
    assert_eq!(result("open"), None);
    assert_eq!(result("good"), Some(Ok(json!({"runId": "good", "outputs": {}}))));
    let failed = "run bad of the stored plan has failed: no";
    assert_eq!(result("bad"), Some(Err(failed.to_owned())));
    assert!(matches!(result("never"), Some(Err(error)) if error.contains("no longer stored")));
}

#[test]
fn what_a_child_has_used_is_told_with_its_end_and_read_again() {
    let mut bench = Bench::new();
    bench.submit("r");
    bench.begin("c", Some("r"), None);
    let usage = Some(Box::new(Usage { total_tokens: 7, ..Usage::default() }));
    let RunEventKind::Completed(completed) = completed() else { panic!("it completes") };
    let spent = RunEventKind::Completed(RunCompleted { usage: usage.clone(), ..completed });
    let told = bench.say("c", vec![started(), spent]).orders.into_iter().find_map(|order| match order {
        Order::ChildEnded { end, .. } => Some(end.result),
        _ => None,
    });
    assert_eq!(told.as_ref().map(|result| &result.usage), Some(&usage));
    match bench.read(Query::ChildResult { project: p(), run: run_id("c") }) {
        Answer::ChildResult(again) => assert_eq!(again, told),
        other => panic!("{other:?}"),
    }
}

/// The child waited for its parent's end, and the parent for the child's.
#[test]
fn a_child_of_its_parents_group_waited_for_ever() {
    for on_conflict in [OnConflict::Queue, OnConflict::Reject, OnConflict::Cancel] {
        let mut bench = Bench::new();
        bench.begin("r", None, Some(on_conflict));
        bench.begin("between", Some("r"), None);
        assert_eq!(bench.begin("c", Some("between"), Some(on_conflict)).1, ["c begins"], "{on_conflict:?}");
    }
    let mut bench = Bench::new();
    bench.begin("first", None, Some(OnConflict::Queue));
    bench.begin("r", None, None);
    assert_eq!(bench.begin("c", Some("r"), Some(OnConflict::Queue)).1, ["c waits"], "others are waited for");
    assert_eq!(ends(&mut bench, "first"), ["c is released"]);
}

/// Each of two parents was in the group that the other's child waited for.
#[test]
fn children_of_two_groups_waited_for_each_others_parents_for_ever() {
    let mut bench = Bench::new();
    let mut begin = |run: &str, above: Option<&str>, group: &str| {
        let told = bench.take_on(run, plan_in(above, Some((group, OnConflict::Queue)))).1;
        told.concat()
    };
    assert_eq!([begin("m", None, "g"), begin("n", None, "h")], ["m begins", "n begins"]);
    assert_eq!(begin("of_m", Some("m"), "h"), "of_m waits", "n may end by itself");
    assert_eq!(begin("of_n", Some("n"), "g"), "of_n begins", "m ends behind of_m alone, and that one behind n");
    assert_eq!(ends(&mut bench, "of_n"), ["n hears of of_n"]);
    assert_eq!(ends(&mut bench, "n"), ["of_m is released"]);
}

/// The same of those that a restart finds, whose groups are made out anew.
#[test]
fn after_a_restart_children_of_two_groups_wait_for_no_run_above_them() {
    let disk = Disk::new(MemoryStore::new());
    let readable = || -> ReadPlan {
        Box::new(|document| {
            let (above, group): (Option<&str>, _) = match document {
                b"m" => (None, "g"),
                b"n" => (None, "h"),
                b"of_m" => (Some("m"), "h"),
                _ => (Some("n"), "g"),
            };
            Ok(Arc::unwrap_or_clone(plan_in(above, Some((group, OnConflict::Queue)))))
        })
    };
    let (mut bench, _) = load::open(&disk, readable());
    for run in ["m", "n", "of_m", "of_n"] {
        let plan = Arc::new(readable()(run.as_bytes()).expect("a plan"));
        let submission = Submission { plan, document: run.as_bytes().into(), ..submission("p", run, None, 0) };
        bench.handle(vec![Command::Submit { submission: Box::new(submission), reply: reply_to(0) }]);
        if run.len() == 1 {
            bench.say(run, vec![started()]);
        }
    }
    let (_, outcome) = load::open(&disk, readable());
    assert_eq!(told(&outcome), ["m goes on", "n goes on", "of_m waits on", "of_n goes on"]);
}
