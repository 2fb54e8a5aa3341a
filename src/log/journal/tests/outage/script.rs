//! What is done while the store fails, and what is asked afterwards.

use super::*;

pub(super) fn says(run: &str, kinds: Vec<RunEventKind>) -> Command {
    let at = Timestamp::from_millis(1_700_000_000_000);
    Command::Records(kinds.into_iter().map(|kind| event(run, kind, at)).collect())
}

pub(super) fn whole(run: &str) -> Command {
    let (project, run, step) = (p(), run_id(run), step_id("a"));
    Command::Records(vec![Record::Whole { project, run, step, output: Arc::new(json!("whole ".repeat(20))) }])
}

pub(super) fn note(to: u64) -> Command {
    let note = json!({"nonce": "AAAAAAAAAAAAAAAAAAAAAA", "kind": "spent", "until": "2033-01-01T00:00:00.000Z"});
    let note = serde_json::from_value(note).expect("a note");
    Command::Note { note, reply: Some(reply_to(to)) }
}

pub(super) fn read(query: Query, to: u64) -> Command {
    Command::Read { query, reply: reply_to(to) }
}

pub(super) fn attach(project: ProjectId, resume: Option<u64>, to: u64) -> Command {
    let resume = resume.map(ResumeFrom::Seq);
    subscribe(Subscription { resume, ..everything(project) }, to)
}

pub(super) fn page(project: ProjectId, after: u64, to: u64) -> Command {
    read(Query::Page { project, after, run: None, view: View::Events, bytes_max: 1 << 20 }, to)
}

pub(super) fn cancel(run: &str, to: u64) -> Command {
    Command::Cancel { project: p(), run: run_id(run), reply: Some(reply_to(to)) }
}

pub(super) fn the_run(run: &str, to: u64) -> Command {
    read(Query::Run { project: p(), run: run_id(run), wanted: WantedRun::WHOLE }, to)
}

/// Something of everything; no two wait under the same number.
pub(super) fn script() -> Vec<Vec<Command>> {
    let q = || project("q");
    let cut = progress("a", done(json!("whole wh"), true));
    let written = Record::Output {
        project: p(),
        run: run_id("r1"),
        step: step_id("a"),
        attempt: 1,
        stream: OutputStream::Stdout,
        bytes: b"said".to_vec(),
    };
    vec![
        vec![attach(p(), None, 1), publish(&p(), 2, 2)],
        vec![submit("r1", Some("k1"), 1, 3)],
        vec![says("r1", vec![started(), progress("a", running())]), publish(&q(), 1, 4), the_run("r1", 5)],
        vec![submit("r2", Some("k2"), 2, 6), submit("r1", Some("k1"), 1, 7), publish(&p(), 1, 8), page(p(), 0, 9)],
        vec![Command::Records(vec![written]), says("r1", vec![output_chunk("said")]), cancel("r2", 10)],
        vec![whole("r1"), says("r1", vec![cut]), attach(q(), Some(0), 11), note(12)],
        vec![says("r2", vec![started()]), submit("r3", None, 3, 13), the_run("r1", 14), the_run("r2", 15)],
        vec![says("r2", vec![failed(EndReason::Cancelled)]), cancel("r1", 16), Command::Barrier(reply_to(17))],
        vec![says("r3", vec![started(), progress("a", running())]), publish(&p(), 2, 18), attach(p(), Some(3), 19)],
        vec![says("r1", vec![progress("b", running()), completed()]), publish(&q(), 3, 20), cancel("r1", 21)],
        vec![Command::Unwatch(q()), publish(&q(), 1, 22), cancel("unknown", 23)],
        vec![submit("r1", Some("k1"), 9, 24), submit("r2", Some("k2"), 2, 25), note(26), publish(&p(), 1, 27)],
        vec![says("r3", vec![output_chunk("more"), progress("a", done(json!(1), false))]), page(p(), 4, 28)],
        vec![submit("r4", Some("k4"), 4, 29), publish(&p(), 1, 30), attach(p(), None, 31)],
    ]
}

/// Everything that can be looked up, and the calls with keys once more.
pub(super) fn questions() -> Vec<Command> {
    let mut questions = vec![
        submit("r1", Some("k1"), 1, 101),
        submit("r9", Some("k2"), 2, 102),
        submit("r3", None, 3, 103),
        submit("r4", Some("k4"), 4, 104),
        publish(&p(), 1, 105),
        publish(&project("q"), 1, 106),
        page(p(), 0, 107),
        page(project("q"), 0, 108),
        attach(p(), None, 109),
        attach(project("q"), None, 110),
        read(Query::Runs { project: p(), status: None, before: None, limit: 10 }, 111),
        read(Query::Projects { visible: None, after: None, limit: 10 }, 112),
    ];
    for (n, run) in (1..).zip(["r1", "r2", "r3", "r4"]) {
        let (project, run, step) = (p(), run_id(run), step_id("a"));
        questions.push(read(Query::Run { project: p(), run: run.clone(), wanted: WantedRun::WHOLE }, 200 + n));
        questions.push(read(
            Query::RunEvents { project: p(), run: run.clone(), after: 0, limit: 100, list: EventList::Messages },
            210 + n,
        ));
        let wanted = WantedOutput { item: None, stream: None, asked: Conditions::default(), bytes_max: 1000 };
        questions.push(read(Query::Output { project, run: run.clone(), step, wanted }, 220 + n));
        questions.push(subscribe(Subscription { run: Some(run), ..everything(p()) }, 230 + n));
    }
    questions
}
