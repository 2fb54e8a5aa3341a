//! Of an output no more is read than is asked for, and what is read piece by piece is what is read at once.

use std::cell::Cell;
use std::ops::Range;

use super::*;
use crate::executor::testing::plan;
use crate::http::range::Selection;
use crate::http::{Conditions, Decoder, Verdict};
use crate::log::MemoryStore;
use crate::log::conformance::{commit, open};
use crate::log::protocol::Output;
use crate::log::store::{
    DueRow, DueTimes, PlanCounts, PlanRow, RunNumber, Store, StoredMessage, StoredOutput, WantedPlans, Write,
};
use crate::log::testing::{TempDir, created, number, run_id, step};
use crate::model::{OutputStream, PlanName, RunStatus, StepStatus, Timestamp};

/// Counts the bytes of outputs that are read from a store.
struct Counting<'a> {
    store: &'a dyn Store,
    bytes: Cell<u64>,
}

impl History for Counting<'_> {
    fn newest(&self, project: &ProjectId) -> Result<u64, StoreError> {
        self.store.newest(project)
    }

    fn floor(&self, project: &ProjectId) -> Result<u64, StoreError> {
        self.store.floor(project)
    }

    fn messages(
        &self,
        project: &ProjectId,
        after: u64,
        run: Option<RunNumber>,
        each: &mut dyn FnMut(&StoredMessage) -> Flow,
    ) -> Result<(), StoreError> {
        self.store.messages(project, after, run, each)
    }

    fn messages_before(
        &self,
        project: &ProjectId,
        before: u64,
        each: &mut dyn FnMut(&StoredMessage) -> Flow,
    ) -> Result<(), StoreError> {
        self.store.messages_before(project, before, each)
    }

    fn run_number(&self, project: &ProjectId, run: &RunId) -> Result<Option<RunNumber>, StoreError> {
        self.store.run_number(project, run)
    }

    fn ends(&self, number: RunNumber) -> Result<Option<Ends>, StoreError> {
        self.store.ends(number)
    }

    fn ended_state(&self, number: RunNumber) -> Result<Option<Arc<[u8]>>, StoreError> {
        self.store.ended_state(number)
    }

    fn ended_summary(&self, number: RunNumber) -> Result<Option<Arc<[u8]>>, StoreError> {
        self.store.ended_summary(number)
    }

    fn runs(
        &self,
        project: &ProjectId,
        before: Option<RunNumber>,
        ended_as: Option<RunStatus>,
        each: &mut dyn FnMut(RunNumber) -> Flow,
    ) -> Result<(), StoreError> {
        self.store.runs(project, before, ended_as, each)
    }

    fn document(&self, number: RunNumber) -> Result<Option<Arc<[u8]>>, StoreError> {
        self.store.document(number)
    }

    fn output(&self, number: RunNumber, step: &StepId) -> Result<Option<StoredOutput>, StoreError> {
        self.store.output(number, step)
    }

    fn output_bytes(
        &self,
        number: RunNumber,
        step: &StepId,
        stream: OutputStream,
        range: Range<u64>,
        to: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let before = to.len();
        self.store.output_bytes(number, step, stream, range, to)?;
        self.bytes.set(self.bytes.get() + (to.len() - before) as u64);
        Ok(())
    }

    fn whole_length(&self, number: RunNumber, step: &StepId) -> Result<Option<u64>, StoreError> {
        self.store.whole_length(number, step)
    }

    fn whole_bytes(
        &self,
        number: RunNumber,
        step: &StepId,
        range: Range<u64>,
        to: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let before = to.len();
        self.store.whole_bytes(number, step, range, to)?;
        self.bytes.set(self.bytes.get() + (to.len() - before) as u64);
        Ok(())
    }

    fn items(
        &self,
        number: RunNumber,
        step: &StepId,
        from: u32,
        each: &mut dyn FnMut(u32, &[u8]) -> Flow,
    ) -> Result<(), StoreError> {
        self.store.items(number, step, from, each)
    }

    fn outbox(&self) -> Result<Vec<(Arc<str>, u64)>, StoreError> {
        self.store.outbox()
    }

    fn due(&self, webhook: &str, times: DueTimes, each: &mut dyn FnMut(&DueRow) -> Flow) -> Result<(), StoreError> {
        self.store.due(webhook, times, each)
    }

    fn next_due(&self, webhook: &str, times: DueTimes) -> Result<Option<Timestamp>, StoreError> {
        self.store.next_due(webhook, times)
    }

    fn plans(&self, wanted: WantedPlans<'_>, each: &mut dyn FnMut(&PlanRow) -> Flow) -> Result<(), StoreError> {
        self.store.plans(wanted, each)
    }

    fn plan_document(&self, project: &ProjectId, name: &PlanName) -> Result<Option<Arc<[u8]>>, StoreError> {
        self.store.plan_document(project, name)
    }

    fn plan_counts(&self, project: &ProjectId) -> Result<PlanCounts, StoreError> {
        self.store.plan_counts(project)
    }
}

fn with_each(scenario: impl Fn(&mut dyn Store)) {
    scenario(&mut MemoryStore::new());
    let directory = TempDir::new();
    scenario(&mut open(&directory, 0).0);
}

/// The one run, with its step under way.
fn running() -> RunState {
    let plan = plan(&["s"]);
    let mut state = RunState::new(run_id(1), &plan, Timestamp::from_millis(1));
    let step = Arc::make_mut(&mut state.steps[0]);
    (step.status, step.attempt) = (StepStatus::Running, 1);
    state
}

/// The same, with it done.
fn completed(output: serde_json::Value) -> RunState {
    let mut state = running();
    let step = Arc::make_mut(&mut state.steps[0]);
    (step.status, step.output) = (StepStatus::Completed, Some(Arc::new(output)));
    state
}

fn asked(headers: &str) -> Conditions {
    let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{headers}\r\n");
    match Decoder::default().decode(head.as_bytes(), &crate::http::Limits::default()) {
        Verdict::Complete { request, .. } => Conditions::of(&request),
        other => panic!("{other:?}"),
    }
}

fn wanted(headers: &str, bytes_max: usize) -> WantedOutput {
    WantedOutput { item: None, stream: None, asked: asked(headers), bytes_max }
}

fn piece(bytes: Vec<u8>) -> Write {
    Write::Output { number: number(1), step: step(), attempt: 1, stream: OutputStream::Stdout, bytes }
}

/// What is answered, and how many bytes were read for it.
fn output(store: &dyn Store, lookup: &mut Lookup, state: &RunState, wanted: &WantedOutput) -> (Output, u64) {
    let counting = Counting { store, bytes: Cell::new(0) };
    match lookup.shown.output(&counting, number(1), state, &step(), wanted) {
        Ok(Answer::Output(output)) => (*output, counting.bytes.get()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn ten_bytes_of_a_large_output_of_a_running_step_are_ten_bytes_read() {
    with_each(|store| {
        commit(store, &[created(1, 0)]);
        for n in 0..1000_u32 {
            commit(store, &[piece(n.to_be_bytes().repeat(1024))]);
        }
        let length = 1000 * 4096;
        let lookup = &mut Lookup::default();
        for (range, part) in [("0-9", 0..10), ("2048000-2048009", 2_048_000..2_048_010), ("-10", length - 10..length)] {
            let headers = format!("Range: bytes={range}\r\n");
            let (got, read) = output(store, lookup, &running(), &wanted(&headers, usize::MAX));
            assert_eq!((got.length, got.selected, got.rest), (length, Some(Selection::Part(part.clone())), None));
            let all: Vec<u8> = (0..1000_u32).flat_map(|n| n.to_be_bytes().repeat(1024)).collect();
            assert_eq!(got.bytes, all[part.start as usize..part.end as usize]);
            assert!(read <= 10 + 2, "{read} bytes read for {range}; two tell whether the last line has ended");
        }
        let (head, read) = output(store, lookup, &running(), &wanted("", 0));
        assert_eq!((head.length, head.selected, head.bytes.len()), (length, Some(Selection::Whole), 0));
        assert!(read <= 2, "{read} bytes read for the length");
        let (none, read) = output(store, lookup, &running(), &wanted("Range: bytes=99999999-\r\n", 100));
        assert_eq!((none.selected, none.bytes.len()), (Some(Selection::Unsatisfiable), 0));
        assert!(read <= 2);
    });
}

#[test]
fn a_completed_steps_output_is_looked_at_as_a_whole_once() {
    let printed = "a line\n".repeat(10_000);
    let text = printed.trim_end_matches('\n').to_owned();
    for (output_is, is_json) in [(serde_json::Value::from(text.clone()), false), (serde_json::json!({"a": 1}), true)] {
        with_each(|store| {
            let whole = serde_json::to_vec(&output_is).expect("JSON");
            let whole = Write::Whole { number: number(1), step: step(), json: whole.into() };
            let printed = if is_json { "{ \"a\": 1 }\n" } else { &printed };
            commit(store, &[created(1, 0), piece(printed.into()), whole]);
            let (state, lookup) = (completed(serde_json::json!("cut")), &mut Lookup::default());
            let part = wanted("Range: bytes=2-5\r\n", usize::MAX);
            let (first, _) = output(store, lookup, &state, &part);
            assert_eq!((first.is_json, &*first.bytes), (is_json, &printed.as_bytes()[2..6]));
            let (again, read) = output(store, lookup, &state, &part);
            assert_eq!(again, first);
            assert_eq!(read, 4);
            let tag = first.tag.expect("it stays as it is");
            let (known, read) = output(store, lookup, &state, &wanted(&format!("If-None-Match: {tag}\r\n"), 100));
            assert_eq!((known.selected, known.bytes.len(), read), (None, 0, 0));
        });
    }
}

#[test]
fn an_output_that_was_not_written_is_made() {
    with_each(|store| {
        commit(store, &[created(1, 0)]);
        let lookup = &mut Lookup::default();
        let state = completed(serde_json::json!({"a": [1, 2]}));
        for _ in 0..2 {
            let (got, _) = output(store, lookup, &state, &wanted("Range: bytes=1-3\r\n", 3));
            assert_eq!((&*got.bytes, got.length, got.is_json, got.rest), (&b"\"a\""[..], 11, true, None));
            assert_eq!(output(store, lookup, &state, &wanted("", 0)).0.bytes.len(), 0);
        }
        for (value, bytes, is_json) in
            [(serde_json::json!(null), "null", true), (serde_json::json!("a\n"), "a\n", false)]
        {
            let kept = serde_json::to_vec(&completed(value)).expect("JSON");
            let kept = RunState::from_json(&kept).expect("a state");
            let (got, _) = output(store, lookup, &kept, &wanted("", usize::MAX));
            assert_eq!((got.bytes.as_slice(), got.is_json), (bytes.as_bytes(), is_json), "null was nothing once kept");
        }
    });
}

#[test]
fn what_a_follower_had_of_printed_json_was_another_text_once_the_step_had_ended() {
    for (begins, goes_on, value, is_json) in [
        ("\"caf\u{e9} ", "more\"\n", serde_json::json!("caf\u{e9} more"), true),
        ("\u{feff}{\"a\":", "1}\r\n", serde_json::json!({"a": 1}), true),
        ("\u{feff}\"a", "\"", serde_json::json!("a"), true),
        ("\u{feff}te", "xt", serde_json::json!("\u{feff}text"), false),
        ("nu", "ll", serde_json::json!(null), true),
        ("1.", "10\n", serde_json::json!("1.10"), false),
        ("\"h\\u00", "65y\"", serde_json::json!("\"h\\u0065y\""), false),
        ("{\"a\": \"\\u0061", "\"}\n", serde_json::json!({"a": "***"}), true),
        ("123", "456", serde_json::json!("123\n[truncated: the output is larger than 3 bytes]"), false),
        ("", "\n", serde_json::json!(""), false),
    ] {
        with_each(|store| {
            commit(store, &[created(1, 0)]);
            if !begins.is_empty() {
                commit(store, &[piece(begins.into())]);
            }
            let lookup = &mut Lookup::default();
            let (begun, _) = output(store, lookup, &running(), &wanted("", usize::MAX));
            assert_eq!(begun.bytes, begins.as_bytes());
            commit(store, &[piece(goes_on.into())]);
            for _ in 0..2 {
                let (all, _) = output(store, lookup, &completed(value.clone()), &wanted("", usize::MAX));
                let printed = format!("{begins}{}", goes_on.trim_end());
                assert_eq!((all.bytes.as_slice(), all.is_json), (printed.as_bytes(), is_json), "{printed}");
            }
        });
    }
}

#[test]
fn an_attempt_that_has_written_nothing_yet_showed_what_the_one_before_had() {
    with_each(|store| {
        commit(store, &[created(1, 0), piece(b"first".to_vec())]);
        let lookup = &mut Lookup::default();
        let mut state = running();
        let (first, _) = output(store, lookup, &state, &wanted("", usize::MAX));
        assert_eq!((first.bytes.as_slice(), first.attempt), (&b"first"[..], 1));
        Arc::make_mut(&mut state.steps[0]).attempt = 2;
        let (second, _) = output(store, lookup, &state, &wanted("Range: bytes=5-\r\n", usize::MAX));
        assert_eq!((second.selected, second.length, second.attempt), (Some(Selection::Unsatisfiable), 0, 2));
        // Whoever reads beside the log may see what an attempt wrote before it is told that there is one.
        let step_wrote = |attempt, bytes| Write::Output {
            number: number(1),
            step: step(),
            attempt,
            stream: OutputStream::Stdout,
            bytes,
        };
        commit(store, &[step_wrote(3, b"third".to_vec())]);
        let (third, _) = output(store, lookup, &state, &wanted("", usize::MAX));
        assert_eq!((third.bytes.as_slice(), third.attempt), (&b"third"[..], 3));
    });
}

#[test]
fn an_output_is_read_piece_by_piece_as_it_is_at_once_and_not_on_into_another_attempt() {
    let all: Vec<u8> = (0..50_000_u32).flat_map(|n| n.to_string().into_bytes()).collect();
    with_each(|store| {
        commit(store, &[created(1, 0)]);
        for part in all.chunks(777) {
            commit(store, &[piece(part.to_vec())]);
        }
        let (mut got, mut left) = {
            let (first, read) = output(store, &mut Lookup::default(), &running(), &wanted("", 1000));
            assert!(read <= 1002);
            (first.bytes, first.rest)
        };
        // What comes meanwhile is none of it.
        commit(store, &[piece(b"more".to_vec())]);
        let mut one = None;
        while let Some(rest) = left {
            match rest.answer(&mut |look| look(store), 1000) {
                Ok(Answer::OutputRest { bytes, rest: next }) => {
                    assert!(bytes.len() == 1000 || next.is_none());
                    got.extend(bytes);
                    left = next;
                }
                other => panic!("{other:?}"),
            }
            one = Some(rest);
        }
        assert!(got == all, "{} bytes of {}", got.len(), all.len());
        let rest = one.expect("there was more than a piece");
        let later =
            Write::Output { number: number(1), step: step(), attempt: 2, stream: OutputStream::Stdout, bytes: vec![1] };
        commit(store, &[later]);
        let answer = rest.answer(&mut |look| look(store), 10);
        assert!(matches!(answer, Ok(Answer::Refused(Refusal::OutputReplaced))), "{answer:?}");
    });
}

#[test]
fn what_a_step_returned_and_did_not_write_was_one_piece_however_large() {
    let whole = serde_json::json!({"long": "x".repeat(50_000)});
    with_each(|store| {
        let json = serde_json::to_vec(&whole).expect("JSON");
        commit(store, &[created(1, 0), Write::Whole { number: number(1), step: step(), json: json.clone().into() }]);
        let state = completed(serde_json::json!("cut"));
        for (headers, expected) in [("", &json[..]), ("Range: bytes=7-40000\r\n", &json[7..=40_000])] {
            let (first, _) = output(store, &mut Lookup::default(), &state, &wanted(headers, 1000));
            assert_eq!((first.length, first.bytes.len()), (json.len() as u64, 1000));
            let (mut got, mut left) = (first.bytes, first.rest);
            while let Some(rest) = left {
                match rest.answer(&mut |_| panic!("it is made already"), 1000) {
                    Ok(Answer::OutputRest { bytes, rest: next }) => {
                        assert!(bytes.len() == 1000 || next.is_none());
                        got.extend(bytes);
                        left = next;
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert!(got == expected, "{} bytes of {}", got.len(), expected.len());
        }
        let (head, _) = output(store, &mut Lookup::default(), &state, &wanted("", 0));
        assert_eq!((head.length, head.bytes.len(), head.rest), (json.len() as u64, 0, None));
    });
}
