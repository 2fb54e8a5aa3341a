//! What steps have written and returned, read whole, in part and with their run.

use super::*;

#[test]
fn a_steps_output_is_what_it_has_written_and_what_it_returned_where_it_wrote_nothing() {
    let text = |text: &str| Ok((text.to_owned(), false));
    let mut bench = Bench::new();
    assert_eq!(bench.output("a", None), Err(Refusal::UnknownRun));
    bench.submit("r");
    assert_eq!(bench.output("a", None), text(""));
    assert_eq!(bench.output("other", None), Err(Refusal::UnknownStep));
    bench.say("r", vec![started(), progress("a", running())]);
    bench.records(vec![written(OutputStream::Stdout, 1, "first")]);
    bench.records(vec![written(OutputStream::Stdout, 2, "one "), written(OutputStream::Stdout, 2, "two")]);
    bench.records(vec![written(OutputStream::Stderr, 2, "oh")]);
    assert_eq!(bench.output("a", None), text("one two"), "a further attempt begins anew");
    assert_eq!(bench.output("a", Some(OutputStream::Stderr)), text("oh"));
    assert_eq!(bench.output("a", Some(OutputStream::Text)), text(""));
    let returned = json!({"x": 1});
    bench.say("r", vec![progress("a", done(returned, false)), progress("b", done(json!("a text"), false))]);
    assert_eq!(bench.output("a", None), text("one two"));
    assert_eq!(bench.output("a", Some(OutputStream::Stdout)), text("one two"));
    assert_eq!(bench.output("b", None), text("a text"));
}

#[test]
fn a_run_is_read_beside_the_log_as_it_was_when_the_log_was_asked_and_copied_only_then() {
    let mut bench = Bench::new();
    bench.submit("r");
    bench.say("r", vec![started(), progress("a", running())]);
    let get = Query::Run { project: p(), run: run_id("r"), wanted: WantedRun::WHOLE };
    let before = bench.json(get.clone());
    let number = bench.journal.open_run(&p(), &run_id("r")).expect("it goes on");
    let held = Arc::as_ptr(&bench.journal.runs[&number].state);
    bench.say("r", vec![progress("b", running())]);
    assert_eq!(Arc::as_ptr(&bench.journal.runs[&number].state), held, "nobody else holds it");
    let between = bench.json(get.clone());
    assert_ne!(between, before);
    let Asked::Look(query, known) = bench.question(Command::Read { query: get.clone(), reply: reply_to(0) }) else {
        panic!("no look")
    };
    bench.say("r", vec![progress("a", done(json!("x"), false)), completed()]);
    assert_ne!(Arc::as_ptr(&bench.journal.runs[&number].state), held, "a reader holds it");
    let reader = bench.journal.store.reader().expect("readable").expect("there is a reader");
    let Some(Answer::Json(answer)) =
        Historian::new(reader, bench.signer.clone(), bench.journal.heads.clone()).answer(&query, &known)
    else {
        panic!("no answer");
    };
    assert_eq!(serde_json::from_slice::<Value>(&answer).expect("JSON"), between);
    assert_eq!(bench.json(get)["status"], "completed");
}

#[test]
fn what_was_read_of_an_output_stays_as_it_was_when_its_step_ends() {
    for (printed, output, shown) in [
        ("one\ntwo\n", json!("one\ntwo"), "one\ntwo"),
        ("one\r\ntwo\r\n", json!("one\r\ntwo"), "one\r\ntwo"),
        ("half\r", json!("half\r"), "half\r"),
        ("{ \"b\": 1.50,\n \"a\": [] }\n", json!({"b": 1.5, "a": []}), "{ \"b\": 1.50,\n \"a\": [] }"),
        ("long\nmore\n", json!("long\n[truncated: the output is larger than 5 bytes]"), "long\nmore"),
        ("", json!({"x": 1}), "{\"x\":1}"),
        ("", json!("made"), "made"),
        ("\"a text\"\n", json!("a text"), "\"a text\""),
        ("\u{feff}{\"x\": 1.50}\n", json!({"x": 1.5}), "\u{feff}{\"x\": 1.50}"),
    ] {
        let mut bench = Bench::new();
        bench.submit("r");
        bench.say("r", vec![started(), progress("a", running())]);
        let mut taken = String::new();
        for c in printed.chars() {
            bench.records(vec![written(OutputStream::Stdout, 1, &c.to_string())]);
            let (so_far, _) = bench.output("a", None).expect("an output");
            assert!(so_far.starts_with(&taken), "{printed:?}: {taken:?} became {so_far:?}");
            taken = so_far;
        }
        let is_json = !output.is_string() || printed.starts_with('"');
        bench.say("r", vec![progress("a", done(output, false))]);
        assert_eq!(bench.output("a", None), Ok((shown.to_owned(), is_json)));
        assert!(shown.starts_with(&taken), "{printed:?}: {taken:?} became {shown:?}");
        assert_eq!(bench.output("a", Some(OutputStream::Stdout)), Ok((printed.to_owned(), false)), "as it was printed");
    }
}

#[test]
fn an_output_that_was_cut_for_its_message_is_read_whole() {
    let mut bench = Bench::new();
    bench.submit("r");
    let whole = json!({"long": "x".repeat(1000)});
    let at = bench.now.wall;
    bench.records(vec![
        event("r", started(), at),
        Record::Whole { project: p(), run: run_id("r"), step: step_id("a"), output: Arc::new(whole.clone()) },
        event("r", progress("a", done(json!("{\"long\":\"xx"), true)), at),
    ]);
    for is_ended in [false, true] {
        assert_eq!(bench.output("a", None), Ok((whole.to_string(), true)), "ended: {is_ended}");
        let run = bench.json(Query::Run { project: p(), run: run_id("r"), wanted: WantedRun::WHOLE });
        let step = &run["steps"][0];
        assert_eq!((&step["output"], &step["truncated"], &step["outputBytes"]), (&whole, &Value::Null, &Value::Null));
        bench.say("r", vec![completed()]);
        bench.wait_ms(100_000);
    }
}

/// A run of two steps, the first of which returned something large that is cut in its message.
fn large_run(bench: &mut Bench, whole: &Value) {
    bench.submit("r");
    let at = bench.now.wall;
    bench.records(vec![
        event("r", started(), at),
        Record::Whole { project: p(), run: run_id("r"), step: step_id("a"), output: Arc::new(whole.clone()) },
        event("r", progress("a", done(json!("\"output\":null"), true)), at),
        event("r", progress("b", running()), at),
        event("r", progress("b", done(json!({"output": null}), false)), at),
    ]);
}

#[test]
fn a_large_run_is_answered_piece_by_piece_as_long_as_was_promised() {
    let whole = json!(["\"steps\":[]", "\"output\":null", "x".repeat(900_000)]);
    let mut bench = Bench::new();
    large_run(&mut bench, &whole);
    let cut = bench.json(Query::Run { project: p(), run: run_id("r"), wanted: WantedRun::CUT });
    for is_ended in [false, true] {
        let get = Query::Run { project: p(), run: run_id("r"), wanted: WantedRun::WHOLE };
        let Answer::LongJson { length, mut bytes, mut rest } = bench.read(get) else { panic!("it is large") };
        bench.say("r", vec![completed()]);
        bench.wait_ms(100_000);
        while let Some(more) = rest.take() {
            let query = Query::OutputRest { rest: more, bytes_max: 100_000 };
            let Answer::OutputRest { bytes: piece, rest: left } = bench.read(query) else { panic!("no piece") };
            assert!((1..=100_000 + 4096).contains(&piece.len()), "{} bytes", piece.len());
            bytes.extend(piece);
            rest = left;
        }
        assert_eq!(bytes.len() as u64, length);
        let run: Value = serde_json::from_slice(&bytes).expect("JSON");
        let names = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
        let step = &run["steps"][0];
        assert_eq!((&step["output"], &step["truncated"], &step["outputBytes"]), (&whole, &Value::Null, &Value::Null));
        assert_eq!(run["steps"][1]["output"], json!({"output": null}));
        if !is_ended {
            assert_eq!((names(&run), &run["steps"][1]), (names(&cut), &cut["steps"][1]));
        }
    }
}

#[test]
fn what_is_left_of_a_large_run_is_refused_once_the_run_was_let_go() {
    let mut bench = Bench::with(keeping(Retention { runs: 0, ..KEEP_ALL }));
    large_run(&mut bench, &json!("x".repeat(900_000)));
    let get = Query::Run { project: p(), run: run_id("r"), wanted: WantedRun::WHOLE };
    let Answer::LongJson { rest: Some(rest), .. } = bench.read(get) else { panic!("it is large") };
    bench.say("r", vec![completed()]);
    bench.wait_ms(DAY_MS);
    bench.handle(Vec::new());
    let answer = bench.read(Query::OutputRest { rest, bytes_max: 100_000 });
    assert!(matches!(answer, Answer::Refused(Refusal::OutputReplaced)), "{answer:?}");
}
