//! Scenarios of what steps say and return, and of what runs say of their time.

use super::*;

#[test]
fn a_large_output_is_cut_in_messages_preceded_by_the_whole_one_and_whole_for_templates() {
    let mut stage = Stage::started(plan(&["a", "b: a"]));
    let whole = Arc::new(json!("x".repeat(65)));
    stage.finish("a", Ok(Outcome::Output(Value::clone(&whole))));
    assert_eq!(stage.workers[0].scope.outputs(), [(step_id("a"), whole)]);
    let state = stage.run.state().steps[0].clone();
    assert_eq!((state.output.clone(), state.output_bytes), (Some(Arc::new(json!("x".repeat(64)))), Some(65)));
    assert!(state.truncated);
    assert_eq!(stage.log()[3..5], ["(a whole)", "a completed 1"]);
    stage.ok("b");
    assert_eq!(stage.completed().truncated, [step_id("a")]);
}

#[test]
fn what_an_attempt_said_was_kept_without_end() {
    let mut stage = Stage::started(with(plan(&["a"]), "a", |step| step.retry = retries(1, 1000)));
    let said = |stage: &mut Stage, attempt: u32, bytes: usize| {
        stage.run.output(
            (Unit::of_step(0), attempt),
            OutputStream::Stdout,
            vec![b'x'; bytes],
            stage.now,
            &mut stage.effects,
        );
        let records = std::mem::take(&mut stage.effects.records).into_iter();
        let kept = records.filter_map(|record| match record {
            Record::Output { bytes, .. } => Some(String::from_utf8(bytes).expect("text")),
            _ => None,
        });
        kept.collect::<Vec<_>>()
    };
    let cut = "\n[truncated: the output is larger than 1000 bytes]";
    assert_eq!(said(&mut stage, 1, 1000), ["x".repeat(1000)]);
    assert_eq!(said(&mut stage, 1, 1), [cut]);
    assert_eq!(said(&mut stage, 1, 1), Vec::<String>::new());
    stage.fail("a");
    stage.wait(60_000);
    assert_eq!(said(&mut stage, 2, 1001), [format!("{}{cut}", "x".repeat(1000))], "each attempt anew");
}

#[test]
fn the_outputs_of_workflow_completed_are_bounded_together() {
    let mut stage = Stage::started(plan(&["a", "b", "c", "d"]));
    for id in ["a", "b", "c"] {
        stage.finish(id, Ok(Outcome::Output(json!("x".repeat(60)))));
    }
    stage.finish("d", Ok(Outcome::Output(json!([1]))));
    let (outputs, truncated) = cut::run_outputs(stage.run.state(), 100);
    assert_eq!(json!(outputs), json!({"a": "x".repeat(60), "b": "x".repeat(40), "c": "", "d": ""}));
    assert_eq!(truncated, [step_id("b"), step_id("c"), step_id("d")]);
}

#[test]
fn live_output_comes_before_the_steps_last_message_and_at_its_pace() {
    let mut stage = Stage::started(plan(&["a"]));
    let write = |stage: &mut Stage, text: &[u8]| {
        stage.run.output((Unit::of_step(0), 1), OutputStream::Stdout, text.to_vec(), stage.now, &mut stage.effects);
    };
    write(&mut stage, b"1");
    assert_eq!(stage.log()[3..], ["(a wrote)", "a says 1"]);
    write(&mut stage, b"2");
    write(&mut stage, b"3");
    assert_eq!(stage.log(), ["(a wrote)", "(a wrote)"]);
    stage.now.mono = stage.run.next_deadline().expect("a message is due");
    stage.wait(0);
    assert_eq!(stage.log(), ["a says 23"]);
    write(&mut stage, b"4\xe2\x82");
    stage.ok("a");
    assert_eq!(stage.log(), ["(a wrote)", "a says 4\u{fffd}", "a completed 1", "0]", "completed"]);
}

#[test]
fn what_a_step_left_out_last_was_never_told() {
    let mut stage = Stage::started(with(plan(&["a"]), "a", |step| step.retry = retries(1, 0)));
    let flood = |stage: &mut Stage, attempt: u32, result: Result<Outcome, AttemptError>| {
        for _ in 0..30 {
            let bytes = vec![b'x'; 16 * 1024];
            stage.run.output((Unit::of_step(0), attempt), OutputStream::Stdout, bytes, stage.now, &mut stage.effects);
        }
        stage.finish("a", result);
        stage.wait(0);
        let (mut shown, mut told) = (0, 0);
        for record in stage.effects.records.drain(..) {
            let Record::Event { event, .. } = record else { continue };
            match event.kind {
                RunEventKind::StepOutput(said) => {
                    shown += said.chunk.len() as u64;
                    told += said.omitted_bytes.unwrap_or(0);
                }
                RunEventKind::Progress(said) => told += said.omitted_bytes.unwrap_or(0),
                _ => {}
            }
        }
        (shown, told)
    };
    let (shown, told) = flood(&mut stage, 1, Err(AttemptError::Passing("no".to_owned())));
    assert!(shown >= 10 * 16_000, "a burst: {shown}");
    assert_eq!(shown + told, 30 * 16 * 1024, "told where the attempt failed");
    let (shown, told) = flood(&mut stage, 2, Ok(Outcome::Output(json!(null))));
    assert_eq!((shown, told), (0, 30 * 16 * 1024), "the burst is used up");
    assert!(stage.run.is_ended());
}

#[test]
fn where_the_time_went() {
    let mut stage = Stage::started(plan(&["a", "b", "c: a", "d: b", "e: c"]));
    stage.wait(100);
    stage.ok("a");
    stage.wait(100);
    stage.ok("b");
    let Some(Record::Event { event, .. }) = stage.effects.records.iter().find(|record| in_short(record) == "0]") else {
        panic!("no level");
    };
    let RunEventKind::LevelCompleted(level) = &event.kind else { panic!("no level") };
    assert_eq!((level.execution_time, level.efficiency), (200, 0.75));
    stage.wait(150);
    stage.ok("c");
    stage.ok("d");
    stage.ok("e");
    let metrics = &stage.completed().performance_metrics;
    assert_eq!((metrics.total_execution_time, metrics.step_time), (350, 600));
    assert_eq!(metrics.critical_path, [step_id("b"), step_id("d")], "350 ms; by way of a it is 250");
}
