//! Groups of runs that must not run beside each other.

use super::*;

#[test]
fn runs_of_a_full_group_wait_and_begin_in_the_order_in_which_they_came() {
    let mut bench = Bench::new();
    let queue = |run: &str| grouped(run, 2, OnConflict::Queue);
    let outcome = bench.handle(["r1", "r2", "r3", "r4"].map(queue).into());
    assert_eq!(told(&outcome), ["r1 begins", "r2 begins", "r3 waits", "r4 waits"]);
    let alone = bench.handle(vec![grouped("r5", 9, OnConflict::Queue), submit("other", None, 0, 0)]);
    assert_eq!(told(&alone), ["r5 waits", "other begins"], "nobody passes those that wait by, but runs of no group");
    assert_eq!(ends(&mut bench, "r2"), ["r3 is released"]);
    assert_eq!(ends(&mut bench, "r4"), ["r5 is released"], "one that waited is gone; the next has a larger limit");
    assert_eq!(ends(&mut bench, "r1"), [""; 0]);
    let state = bench.journal.open_run(&p(), &run_id("r5")).and_then(|number| bench.journal.runs.get(&number));
    assert_eq!(state.and_then(|run| run.state.concurrency_group.as_deref()), Some("g"));
    assert_eq!([ends(&mut bench, "r3"), ends(&mut bench, "r5")].concat(), [""; 0]);
    assert_eq!(told(&bench.handle(vec![queue("r6")])), ["r6 begins"]);
}

#[test]
fn a_run_of_a_full_group_is_refused_or_takes_the_place_of_the_oldest() {
    let mut bench = Bench::new();
    let outcome = bench.handle(vec![
        grouped("r1", 1, OnConflict::Reject),
        grouped("r2", 1, OnConflict::Reject),
        grouped("r3", 2, OnConflict::Queue),
        grouped("r4", 2, OnConflict::Cancel),
    ]);
    assert_eq!(told(&outcome), ["r1 begins", "r3 begins", "r1 is cancelled", "r4 waits"]);
    let refused: Vec<Answer> = answers(outcome).into_iter().map(|(_, answer)| answer).collect();
    let Answer::Refused(Refusal::ConcurrencyConflict { group, runs }) = &refused[1] else { panic!("{refused:?}") };
    assert_eq!((&**group, runs.as_slice()), ("g", &[run_id("r1")][..]));
    let outcome = bench.handle(vec![grouped("r5", 1, OnConflict::Cancel)]);
    assert_eq!(told(&outcome), ["r3 is cancelled", "r4 is cancelled", "r5 waits"], "who was cancelled is not again");
    assert_eq!(ends(&mut bench, "r4"), [""; 0]);
    assert_eq!(ends(&mut bench, "r1"), [""; 0], "one goes on still");
    assert_eq!(ends(&mut bench, "r3"), ["r5 is released"]);
}
