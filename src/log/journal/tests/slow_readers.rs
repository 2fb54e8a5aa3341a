//! What those hold who read slowly.

use super::*;
use crate::log::Rest;

#[test]
fn whoever_read_a_large_run_or_output_slowly_held_a_copy_of_their_own() {
    let mut bench = Bench::new();
    bench.submit("r");
    bench.say("r", vec![started(), progress("a", done(json!("x".repeat(600_000)), false)), completed()]);
    let reader = bench.journal.store.reader().expect("readable").expect("there is a reader");
    let mut historian = Historian::new(reader, bench.signer.clone(), bench.journal.heads.clone());
    let (project, run) = (p(), run_id("r"));
    let wanted = WantedOutput { item: None, stream: None, asked: Conditions::default(), bytes_max: 1000 };
    let of_run = Query::Run { project: project.clone(), run: run.clone(), wanted: WantedRun::WHOLE };
    let of_step = Query::Output { project, run, step: step_id("a"), wanted };
    let mut rest = |query: &Query| match historian.answer(query, &Known::Untold) {
        Some(Answer::LongJson { rest: Some(rest), .. }) => *rest,
        Some(Answer::Output(output)) => *output.rest.expect("more than one piece"),
        answer => panic!("not the beginning of something large: {answer:?}"),
    };
    let (one, other) = (rest(&of_run), rest(&of_run));
    assert!(matches!((&one, &other), (Rest::Run(one), Rest::Run(other)) if Arc::ptr_eq(&one.state, &other.state)));
    let (one, other) = (rest(&of_step), rest(&of_step));
    assert!(matches!((&one, &other), (Rest::Made(one), Rest::Made(other)) if Arc::ptr_eq(&one.made, &other.made)));
}
