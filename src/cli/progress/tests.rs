//! A whole run through both displays.

use std::sync::{Arc, Mutex};

use indicatif::{ProgressDrawTarget, TermLike};
use serde_json::json;

use super::*;
use crate::model::{
    Cause, CauseKind, Cost, EndReason, HandlerKind, LevelCompleted, LevelStarted, OutputStream, PerformanceMetrics,
    Progress as Counts, RunCompleted, RunEventKind, RunFailed, RunId, RunStarted, RunStatus, StepId, StepOutput,
    StepProgress, StepStatus, StepUpdate, Usage,
};

/// What a hostile plan or tool would send to clear the screen, rename the window and forge a line.
const HOSTILE: &str = "\x1b[2J\x1b]0;title\x07owned\u{9b}1A\r\nforged";

/// Shared between a display and the test that reads what it wrote.
#[derive(Debug, Clone, Default)]
struct Written(Arc<Mutex<String>>);

impl Written {
    fn text(&self) -> String {
        self.0.lock().expect("no panic").clone()
    }

    fn add(&self, text: &str) -> io::Result<()> {
        self.0.lock().expect("no panic").push_str(text);
        Ok(())
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.add(&String::from_utf8_lossy(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A terminal of 100 columns whose cursor movements are no text.
impl TermLike for Written {
    fn width(&self) -> u16 {
        100
    }

    fn height(&self) -> u16 {
        40
    }

    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.add(text)?;
        self.add("\n")
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.add(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.add("\n")
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

fn id(text: &str) -> StepId {
    StepId::parse(text).expect("an id")
}

fn event(ms: u64, kind: RunEventKind) -> RunEvent {
    let timestamp = Timestamp::from_millis(1_700_000_000_000 + ms);
    RunEvent { run_id: RunId::parse("r1").expect("an id"), timestamp, kind }
}

fn started(name: &str, steps: usize) -> RunEvent {
    let started = RunStarted {
        parent: None,
        plan_name: name.into(),
        step_count: steps,
        total_levels: 2,
        estimated_duration: 0,
        parallelizable: true,
        ..RunStarted::empty(name.into())
    };
    event(0, RunEventKind::Started(started))
}

fn step(ms: u64, step: &str, attempt: u32, ended: usize, update: StepUpdate) -> RunEvent {
    let progress = Counts { completed: ended, total: 3, percent: (ended * 100 / 3) as u8, ..Counts::default() };
    let said = StepProgress::of(&id(step), &format!("Do {step}").into(), update, progress);
    let said = StepProgress { attempt, ..said };
    event(ms, RunEventKind::Progress(said))
}

fn output(ms: u64, step: &str, stream: OutputStream, chunk: &str, omitted_bytes: Option<u64>) -> RunEvent {
    let chunk = chunk.to_owned();
    event(
        ms,
        RunEventKind::StepOutput(StepOutput {
            step_id: id(step),
            item: None,
            attempt: 1,
            stream,
            chunk,
            omitted_bytes,
        }),
    )
}

fn running() -> StepUpdate {
    StepUpdate::Running { step_description: "".into(), message: String::new() }
}

fn retrying(error: &str) -> StepUpdate {
    StepUpdate::Retrying { error: error.into(), delay: 1500, max_retries: 2, next_retry_at: Timestamp::default() }
}

fn completed(duration: u64) -> StepUpdate {
    StepUpdate::Completed {
        output: Arc::new(json!("x")),
        duration,
        truncated: false,
        output_bytes: None,
        reused: false,
    }
}

fn failed(error: &str, continued: bool) -> StepUpdate {
    StepUpdate::Failed { error: error.into(), duration: 61_000, continued }
}

fn skipped(reason: &str) -> StepUpdate {
    StepUpdate::Skipped {
        reason: reason.into(),
        cause: Cause { kind: CauseKind::UpstreamFailed, step_id: Some(id("b")) },
    }
}

fn level_started() -> RunEvent {
    event(1, RunEventKind::LevelStarted(LevelStarted { level: 0, total_levels: 2, steps: vec![id("a"), id("b")] }))
}

/// `a` completes at its second attempt, `b` fails, `c` never runs.
fn failing_run() -> Vec<RunEvent> {
    let level = LevelCompleted {
        level: 0,
        total_levels: 2,
        completed_steps: vec![id("a")],
        failed_steps: vec![id("b")],
        skipped_steps: vec![],
        cancelled_steps: vec![],
        execution_time: 61_002,
        efficiency: 0.5,
    };
    let end = RunFailed {
        failed_handlers: vec![],
        plan_name: "Nightly".into(),
        error: "b failed".into(),
        reason: EndReason::StepFailed,
        failed_steps: vec![id("b")],
        cancelled_steps: vec![],
        usage: None,
    };
    let mut last = step(61_005, "c", 0, 3, skipped("b failed"));
    if let RunEventKind::Progress(last) = &mut last.kind {
        last.progress = Counts { completed: 1, failed: 1, skipped: 1, percent: 100, ..Counts::of(3) };
    }
    vec![
        started("Nightly", 3),
        level_started(),
        step(2, "a", 1, 0, running()),
        step(2, "b", 1, 0, running()),
        output(10, "a", OutputStream::Stdout, "one\ntw", None),
        output(11, "b", OutputStream::Stderr, "oh\n", Some(7)),
        output(12, "a", OutputStream::Stdout, "o\nthree", None),
        step(500, "a", 1, 0, retrying("exit status 1\nlast words")),
        step(2000, "a", 2, 0, running()),
        step(3000, "a", 2, 1, completed(2998)),
        step(61_003, "b", 1, 2, failed("no such host", false)),
        event(61_004, RunEventKind::LevelCompleted(level)),
        last,
        event(61_006, RunEventKind::Failed(end)),
    ]
}

fn plain(events: &[RunEvent]) -> String {
    let written = Written::default();
    show(plain_on(written.clone()), events);
    written.text()
}

fn live(events: &[RunEvent], color: bool) -> String {
    let written = Written::default();
    show(live_on(&written, color), events);
    written.text()
}

fn plain_on(output: impl Write + Send + 'static) -> Progress {
    Progress::of(View::Plain(Plain::new(Box::new(output), None)))
}

fn live_on(written: &Written, color: bool) -> Progress {
    Screen::live(ProgressDrawTarget::term_like(Box::new(written.clone())), color).progress(None)
}

fn show(mut progress: Progress, events: &[RunEvent]) {
    events.iter().for_each(|event| progress.on_event(event));
    progress.finish().expect("writes");
}

#[test]
fn the_plain_display_is_one_line_per_event_and_a_summary() {
    let expected = "\
[    0.000s] run r1 started: Nightly, 3 steps in 2 levels
[    0.001s] level 1 of 2 started: a, b
[    0.002s] a: started: Do a
[    0.002s] b: started: Do b
[    0.010s] a | one
[    0.011s] b ! (7 bytes omitted)
[    0.011s] b ! oh
[    0.012s] a | two
[    0.500s] a | three
[    0.500s] a: attempt 1 of 3 failed, retrying in 1.5s: exit status 1 last words
[    2.000s] a: started again, attempt 2
[    3.000s] a: completed after 2.9s (1/3, 33%)
[   61.003s] b: failed after 1m 01s (2/3, 66%): no such host
[   61.004s] level 1 of 2 ended after 1m 01s: 1 completed, 1 failed, 0 skipped
[   61.005s] c: skipped (3/3, 100%): b failed
[   61.006s] run failed: b failed

Nightly failed after 1m 01s: b failed
  steps          1 completed, 1 failed, 1 skipped, of 3
  retries        1
  slowest        b 1m 01s, a 2.9s
  error b: no such host
";
    assert_eq!(plain(&failing_run()), expected);
}

#[test]
fn a_completed_run_tells_its_critical_path() {
    let end = RunCompleted {
        failed_handlers: vec![],
        plan_name: "Nightly".into(),
        outputs: serde_json::Map::new(),
        truncated: vec![],
        failed_steps: vec![],
        performance_metrics: PerformanceMetrics {
            total_execution_time: 1234,
            critical_path: vec![id("a"), id("b")],
            step_time: 2000,
        },
        usage: Some(Box::new(Usage {
            input_tokens: 12_000,
            output_tokens: 345,
            total_tokens: 12_345,
            cached_tokens: Some(9000),
            cost: Cost::of_units(0.0125),
            ..Usage::default()
        })),
    };
    let events = [
        started("Nightly", 3),
        step(5, "a", 1, 1, completed(5)),
        step(9, "c", 1, 2, failed("odd", true)),
        event(1234, RunEventKind::Completed(end)),
    ];
    let text = plain(&events);
    assert!(text.contains("c: failed after 1m 01s (2/3, 66%), the run continues: odd\n"), "{text}");
    assert!(text.contains("\nNightly completed after 1.2s\n  steps "), "{text}");
    assert!(text.contains("\n  critical path  a > b\n"), "{text}");
    let usage = "\n  usage          12,345 tokens (12,000 in, 9,000 of them cached, 345 out), cost 0.0125\n";
    assert!(text.contains(usage), "{text}");
}

#[test]
fn a_run_that_was_left_and_a_crowd_of_errors_are_summed_up() {
    assert!(
        plain(&[started("Nightly", 3), step(1500, "a", 1, 0, running())])
            .contains("\nNightly not finished after 1.5s\n")
    );
    let crowd = (0..25).map(|n| {
        let mut event = step(n, &format!("s{n}"), 1, 0, failed("x", false));
        if let RunEventKind::Progress(said) = &mut event.kind {
            said.progress.failed = n as usize + 1;
        }
        event
    });
    let text = plain(&crowd.collect::<Vec<_>>());
    assert!(text.ends_with("  error s19: x\n  and 5 more failed steps\n"), "{text}");
}

/// The state in the middle of a run of `a`, `b`, `c`: `a` has completed, `b` runs its second attempt, `c` waits.
fn half_a_run() -> RunState {
    let step = |id: &str, status: &str| json!({"id": id, "title": format!("Do {id}"), "tool": "t", "level": 0, "status": status, "attempt": 0});
    let mut state = json!({"runId": "r1", "planName": "Nightly", "status": "running", "levels": [["a", "b"], ["c"]],
        "steps": [step("a", "completed"), step("b", "running"), step("c", "pending")], "currentLevel": 0, "levelOpen": true,
        "progress": {"completed": 1, "failed": 0, "skipped": 0, "total": 3, "percent": 33},
        "createdAt": at(0), "startedAt": at(0), "levelStartedAt": at(1)});
    for (step, key, value) in [
        (0, "attempt", json!(1)),
        (0, "startedAt", json!(at(2))),
        (0, "finishedAt", json!(at(3000))),
        (0, "duration", json!(2998)),
        (1, "attempt", json!(2)),
        (1, "startedAt", json!(at(2))),
    ] {
        state["steps"][step][key] = value;
    }
    RunState::from_json(state.to_string().as_bytes()).expect("a state")
}

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + ms)
}

#[test]
fn who_comes_late_sees_the_run_as_it_is_and_nothing_twice() {
    let written = Written::default();
    let mut progress = Progress::of(View::Plain(Plain::new(Box::new(written.clone()), Some("r1".into()))));
    let state = half_a_run();
    progress.catch_up(&state, at(5000));
    let expected = "\
[    0.000s] r1 run r1 started: Nightly, 3 steps in 2 levels
[    0.001s] r1 level 1 of 2 started: a, b
[    0.002s] r1 b: started again, attempt 2
[    3.000s] r1 a: completed after 2.9s (1/3, 33%)
";
    assert_eq!(written.text(), expected);
    progress.catch_up(&state, at(5001));
    assert_eq!(written.text(), expected, "the same once more");
    progress.on_event(&step(6000, "b", 2, 2, completed(5998)));
    assert!(written.text().ends_with("r1 b: completed after 5.9s (2/3, 66%)\n"));

    let live = Written::default();
    let mut progress = live_on(&live, false);
    progress.catch_up(&state, at(62_000));
    // Drawn at the display's own pace.
    let began = std::time::Instant::now();
    while !live.text().contains("Do b (attempt 2)  1m 0") {
        assert!(began.elapsed().as_secs() < 60, "{}", live.text());
        std::thread::yield_now();
    }
    progress.finish().expect("writes");
    for line in ["Nightly: 3 steps in 2 levels", "✓ Do a  2.9s", "level 1 of 2", "Nightly not finished"] {
        assert!(live.text().contains(line), "{line} in {}", live.text());
    }
}

#[test]
fn an_ended_state_is_told_with_its_end() {
    for (status, word) in
        [(RunStatus::Completed, "completed after 9.0s"), (RunStatus::Cancelled, "cancelled after 9.0s: no")]
    {
        let mut state = half_a_run();
        (state.status, state.level_open, state.finished_at) = (status, false, Some(at(9000)));
        Arc::make_mut(&mut state.steps[1]).status = StepStatus::Completed;
        state.error = Some("no".into());
        let events = events_of(&state, at(9500));
        assert!(events.last().is_some_and(RunEvent::is_last));
        assert!(plain(&events).contains(&format!("\nNightly {word}\n")), "{}", plain(&events));
    }
    let mut waiting = half_a_run();
    (waiting.status, waiting.started_at) = (RunStatus::Queued, None);
    assert_eq!(events_of(&waiting, at(1)), []);
}

#[test]
fn errors_are_told_whole_at_the_end() {
    let long = format!("first\n\x1b[2Jsecond {}\n", "x".repeat(2000));
    let text = plain(&[started("Nightly", 3), step(1, "a", 1, 1, failed(&long, false))]);
    let expected = format!("  error a: first\n    second {}\n", "x".repeat(2000));
    assert!(text.ends_with(&expected), "{text}");
}

#[test]
fn the_live_display_leaves_what_ended_and_the_summary() {
    let text = live(&failing_run(), false);
    let lines = [
        "Nightly: 3 steps in 2 levels",
        "↻ Do a  attempt 1 failed, retrying in 1.5s: exit status 1 last words",
        "✓ Do a  2.9s",
        "✗ Do b  1m 01s: no such host",
        "- Do c  skipped: b failed",
        "Nightly failed after 1m 01s: b failed",
        "  steps          1 completed, 1 failed, 1 skipped, of 3",
        "(attempt 2)",
        "level 1 of 2",
        "three",
        "oh",
    ];
    for line in lines {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(!text.contains('\x1b'), "without colour there are no escape codes");
    assert!(live(&failing_run(), true).contains("\x1b[31m✗\x1b[0m Do b"));
}

#[test]
fn only_so_many_running_steps_have_a_line() {
    let mut events = vec![started("Wide", 13)];
    events.extend((0..13).map(|n| step(n, &format!("s{n:02}"), 1, 0, running())));
    let crowded = live(&events, false);
    assert!(crowded.contains("Do s09") && !crowded.contains("Do s10"), "{crowded}");
    assert!(crowded.contains("3 more running"), "{crowded}");
    events.push(step(20, "s00", 1, 1, completed(20)));
    let freed = live(&events, false);
    assert!(freed.contains("Do s10") && !freed.contains("Do s11") && freed.contains("2 more running"), "{freed}");
}

#[test]
fn no_text_from_elsewhere_drives_the_terminal() {
    let mut titled = step(1, "a", 1, 0, running());
    if let RunEventKind::Progress(said) = &mut titled.kind {
        said.step_title = HOSTILE.into();
    }
    let events = [
        started(HOSTILE, 3),
        titled,
        output(2, "a", OutputStream::Text, HOSTILE, None),
        output(3, "a", OutputStream::Text, "\x1b[2", None),
        output(4, "a", OutputStream::Text, "J\n", None),
        step(5, "a", 1, 0, retrying(HOSTILE)),
        step(6, "a", 2, 1, failed(HOSTILE, false)),
        step(7, "b", 0, 2, skipped(HOSTILE)),
    ];
    for text in [plain(&events), live(&events, false)] {
        let bad: Vec<_> = text.chars().filter(|c| c.is_control() && *c != '\n').collect();
        assert_eq!(bad, [], "{text:?}");
        assert!(text.contains("owned"), "it is shown all the same");
    }
    let forged = plain(&events).lines().filter(|line| line.starts_with("forged")).count();
    assert_eq!(forged, 0, "a line of the display begins as the display says");
}

#[test]
fn a_reader_that_is_gone_is_told_of_at_the_end() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut progress = plain_on(Gone);
    progress.on_event(&started("x", 1));
    assert_eq!(progress.finish().expect_err("broken").kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn the_log_is_written_above_the_display() {
    let written = Written::default();
    let progress = live_on(&written, false);
    progress.log_output().write_all(b"[WARN ] something\n").expect("writes");
    assert!(written.text().contains("[WARN ] something"));
}

#[test]
fn a_live_display_is_gone_while_someone_is_asked_and_shows_then_what_came_meanwhile() {
    let written = Written::default();
    let mut progress = live_on(&written, false);
    let done = |ms| {
        let update = StepUpdate::Completed {
            output: Arc::new(json!(null)),
            duration: ms,
            truncated: false,
            output_bytes: None,
            reused: false,
        };
        step(ms, "b", 1, 1, update)
    };
    let mut log = progress.log_output();
    [started("Nightly", 3), step(1, "a", 1, 0, running()), step(1, "b", 1, 0, running())]
        .iter()
        .for_each(|event| progress.on_event(event));
    progress.hold(true);
    progress.hold(true);
    let before = written.text();
    progress.on_event(&output(2, "b", OutputStream::Stdout, "busy", None));
    progress.on_event(&done(5));
    writeln!(log, "something is logged").expect("it is held");
    assert_eq!(written.text(), before);
    progress.hold(false);
    let after = written.text().split_off(before.len());
    assert!(after.contains("something is logged") && after.contains("✓ Do b  5ms"), "{after}");
    assert!(!after.contains("busy"), "live output of a step that has ended is over: {after}");
    progress.hold(true);
    progress.finish().expect("writes");
    assert!(
        written.text().split_off(before.len() + after.len()).contains("1 completed"),
        "a summary comes in any case"
    );
}

#[test]
fn a_handler_is_shown_as_one() {
    let mut event = step(1, "tidy", 1, 0, running());
    if let RunEventKind::Progress(said) = &mut event.kind {
        said.handler = Some(HandlerKind::Failure);
    }
    assert!(live(&[started("Nightly", 3), event], false).contains("Do tidy (on failure)"));
}
