//! Runs in a format: what whoever comes is told first, what their channel lacks, pages, and what is gone.

use super::*;
use crate::formats::Format;
use crate::log::lookup::Lookup;
use crate::log::{Retold, Row};
use crate::model::{Approval, OnExpire, OnReject};

const FORMAT: Format = Format::AiSdk { in_turns: false };

fn query_row(run: u64, after: u64, bytes_max: usize) -> Query {
    Query::Row { project: p(), run: number(run), format: FORMAT, after, bytes_max }
}

impl Bench {
    fn retold(&mut self, run: &str, resume: Option<ResumeFrom>) -> StartingPosition {
        let wanted =
            Subscription { resume, run: Some(run_id(run)), view: View::Format(FORMAT), ..Subscription::to(p()) };
        match self.ask(subscribe(wanted, 0)) {
            Answer::StartsAt(start) => *start,
            other => panic!("no start: {other:?}"),
        }
    }

    fn row(&mut self, run: u64, after: u64, bytes_max: usize) -> Row {
        match self.read(query_row(run, after, bytes_max)) {
            Answer::Row(row) => row,
            other => panic!("no row: {other:?}"),
        }
    }

    fn page_of_format(&mut self, run: u64, after: u64, bytes_max: usize) -> Answer {
        let view = View::Format(FORMAT);
        self.read(Query::Page { project: p(), after, run: Some(number(run)), view, bytes_max })
    }

    /// Everything that a run says, by its messages: of each its number and how it is told.
    fn told(&mut self, run: u64) -> Vec<(u64, Vec<u8>)> {
        self.journal.lookup = Lookup::default();
        let row = self.row(run, 0, usize::MAX);
        let starts = std::iter::once(0).chain(row.marks.iter().map(|mark| mark.end));
        starts.zip(&row.marks).map(|(start, mark)| (mark.seq, row.bytes[start..mark.end].to_vec())).collect()
    }

    /// A run that has said something, between messages of others.
    fn busy_run(&mut self) {
        self.submit("r");
        self.publish(&p(), 3);
        self.say("r", vec![started(), output_chunk("one")]);
        self.publish(&p(), 2);
        self.say("r", vec![output_chunk("two"), output_chunk("three")]);
        self.publish(&p(), 1);
    }
}

fn retold(start: &mut StartingPosition) -> Retold {
    *start.retold.take().expect("it is told the run so far")
}

fn bytes_after(told: &[(u64, Vec<u8>)], after: u64) -> Vec<u8> {
    told.iter().filter(|(seq, _)| *seq > after).flat_map(|(_, bytes)| bytes.clone()).collect()
}

#[test]
fn a_run_is_told_the_same_from_any_position_and_in_pieces_of_any_size() {
    let mut bench = Bench::new();
    bench.busy_run();
    bench.say("r", vec![completed()]);
    bench.publish(&p(), 2);
    let told = bench.told(1);
    assert_eq!(told.len(), 5);
    for after in 0..=told[4].0 {
        bench.journal.lookup = Lookup::default();
        for bytes_max in [1, 200, usize::MAX] {
            let (mut at, mut bytes) = (after, Vec::new());
            while at < told[4].0 {
                let Answer::Page(page) = bench.page_of_format(1, at, bytes_max) else { panic!("no page") };
                bytes.extend_from_slice(&page.bytes);
                assert_eq!(page.has_last, page.up_to >= told[4].0);
                at = page.up_to;
            }
            assert_eq!(bytes, bytes_after(&told, after), "behind {after}, {bytes_max} bytes");
        }
        bench.journal.lookup = Lookup::default();
        assert_eq!(bench.row(1, after, usize::MAX).bytes, bytes_after(&told, after), "folded anew behind {after}");
    }
}

#[test]
fn whoever_comes_brings_along_what_those_who_watch_lack_and_nothing_comes_twice() {
    let mut bench = Bench::new();
    bench.submit("r");
    let mut first = bench.retold("r", None);
    assert!(first.after == 0 && retold(&mut first).row.is_some_and(|row| row.bytes.is_empty()));
    bench.say("r", vec![started(), output_chunk("one")]);
    let mut second = bench.retold("r", None);
    let row = retold(&mut second).row.expect("little");
    assert_eq!((row.after, row.up_to, second.after), (0, 2, 2));
    bench.say("r", vec![output_chunk("two")]);
    let next = bench.row(1, 0, usize::MAX);
    assert_eq!((next.after, next.up_to), (2, 3), "what the channel was told meanwhile is not told again");
    let told = bench.told(1);
    assert_eq!([row.bytes, next.bytes].concat(), bytes_after(&told, 0));
}

#[test]
fn a_position_is_gone_on_from_where_it_is_one_of_the_run_and_nowhere_else() {
    let mut bench = Bench::new();
    bench.busy_run();
    let own: Vec<u64> = bench.told(1).iter().map(|(seq, _)| *seq).collect();
    for seq in 1..=10 {
        let start = bench.retold("r", Some(ResumeFrom::Seq(seq)));
        let is_own = own.contains(&seq);
        assert_eq!((start.resume == Resume::Resumed, start.retold.is_none()), (is_own, is_own), "{seq}");
        assert!(!is_own || start.after == seq);
    }
    for unknown in [ResumeFrom::Unknown, ResumeFrom::Seq(1000)] {
        assert!(bench.retold("r", Some(unknown)).retold.is_some());
    }
    bench.say("r", vec![completed()]);
    let end = bench.journal.newest(&p()).expect("readable");
    assert!(bench.retold("r", Some(ResumeFrom::Seq(end))).is_over);
    let mut start = bench.retold("r", None);
    assert!(start.is_told() && retold(&mut start).ended_at.is_some());
}

#[test]
fn a_run_whose_beginning_is_gone_is_told_from_its_state_and_who_lacks_what_is_gone_is_told_so() {
    let mut bench = Bench::with(keeping(Retention { messages: 8, ..KEEP_ALL }));
    bench.busy_run();
    let before = bench.retold("r", None).after;
    bench.publish(&p(), 50);
    bench.wait_ms(60_000);
    bench.handle(Vec::new());
    bench.say("r", vec![output_chunk("four")]);
    // The encoder that was there goes on only where nothing is missing.
    let row = bench.row(1, before, usize::MAX);
    assert!(row.after > before && row.up_to == bench.journal.newest(&p()).expect("readable"), "{row:?}");
    bench.journal.lookup = Lookup::default();
    let mut start = bench.retold("r", Some(ResumeFrom::Seq(before)));
    assert!(!retold(&mut start).prelude.is_empty() && start.after >= row.up_to);
    let Answer::StartsAt(reset) = bench.page_of_format(1, before, usize::MAX) else { panic!("a page of what is gone") };
    assert_eq!(reset.resume, Resume::Reset(ResetReason::Expired));
    bench.say("r", vec![completed()]);
    let last = bench.row(1, start.after, usize::MAX);
    assert!(last.has_last() && last.after == start.after, "from there on nothing is missing: {last:?}");
}

#[test]
fn a_long_run_is_folded_in_several_looks() {
    let mut bench = Bench::new();
    bench.submit("r");
    let said = 1500;
    bench.say("r", std::iter::once(started()).chain((0..said).map(|n| output_chunk(&n.to_string()))).collect());
    let told = bench.told(1);
    assert_eq!(told.len(), said + 1);
    bench.journal.lookup = Lookup::default();
    assert_eq!(bench.retold("r", None).after, said as u64 + 1);
    let Answer::Page(page) = bench.page_of_format(1, 1400, usize::MAX) else { panic!("no page") };
    assert_eq!(*page.bytes, *bytes_after(&told, 1400));
}

#[test]
fn those_who_read_beside_the_log_tell_the_same() {
    let mut bench = Bench::new();
    bench.busy_run();
    let query = query_row(1, 3, usize::MAX);
    let (Answer::Row(beside), row) = (bench.read_beside(&query), bench.row(1, 3, usize::MAX)) else { panic!("no row") };
    assert_eq!(beside, row);
    let wanted = Subscription { run: Some(run_id("r")), view: View::Format(FORMAT), ..Subscription::to(p()) };
    let Asked::Retold(start) = bench.question(subscribe(wanted, 0)) else { panic!("no question of a format") };
    let reader = bench.journal.store.reader().expect("readable").expect("there is a reader");
    let mut historian = Historian::new(reader, bench.signer.clone(), bench.journal.heads.clone());
    let Answer::StartsAt(mut start) = historian.begin_retold(start) else { panic!("no start") };
    assert_eq!(retold(&mut start).prelude, retold(&mut bench.retold("r", None)).prelude);
}

#[test]
fn a_run_that_is_not_there_is_refused() {
    let mut bench = Bench::new();
    bench.publish(&p(), 1);
    assert!(matches!(bench.read(query_row(7, 0, 100)), Answer::Refused(Refusal::UnknownRun)));
    let wanted = Subscription { run: Some(run_id("r")), view: View::Format(FORMAT), ..Subscription::to(p()) };
    assert!(matches!(bench.ask(subscribe(wanted, 0)), Answer::Refused(Refusal::UnknownRun)));
}

#[test]
fn who_watched_a_run_that_was_let_go_waited_for_ever_for_its_end() {
    let mut bench = Bench::with(keeping(Retention { runs: 0, ..KEEP_ALL }));
    bench.busy_run();
    let before = bench.retold("r", None).after;
    bench.say("r", vec![completed()]);
    bench.wait_ms(60_000);
    bench.handle(Vec::new());
    let answer = bench.read(query_row(1, before, usize::MAX));
    assert!(matches!(answer, Answer::Refused(Refusal::UnknownRun)), "{answer:?}");
}

#[test]
fn a_page_in_turns_goes_no_further_than_the_turn_and_what_a_channel_lacks_does() {
    let mut bench = Bench::new();
    let approval = Approval {
        message: "Go on?".to_owned(),
        schema: None,
        expires_at: None,
        on_expire: OnExpire::default(),
        on_reject: OnReject::default(),
        deciders: Vec::new(),
    };
    let running = StepUpdate::Running { step_description: "".into(), message: "".into() };
    let waiting = StepUpdate::Waiting { message: approval.message.clone(), approval: Box::new(approval) };
    bench.submit("r");
    bench.say("r", vec![started(), progress("a", running), progress("a", waiting)]);
    bench.say("r", vec![output_chunk("goes on"), completed()]);
    let ask = |bench: &mut Bench, in_turns: bool, after: u64| {
        let view = View::Format(Format::AiSdk { in_turns });
        match bench.read(Query::Page { project: p(), after, run: Some(number(1)), view, bytes_max: usize::MAX }) {
            Answer::Page(page) => (page.up_to, page.messages, page.has_last),
            other => panic!("no page: {other:?}"),
        }
    };
    assert_eq!(ask(&mut bench, true, 0), (3, 3, true));
    assert_eq!(ask(&mut bench, true, 3), (5, 2, true));
    assert_eq!(ask(&mut bench, false, 0), (5, 5, true));
    let format = Format::AiSdk { in_turns: true };
    let row = Query::Row { project: p(), run: number(1), format, after: 0, bytes_max: usize::MAX };
    let Answer::Row(row) = bench.read(row) else { panic!("no row") };
    let ends: Vec<_> = row.marks.iter().filter(|mark| mark.is_last).map(|mark| mark.seq).collect();
    assert_eq!((row.up_to, ends), (5, vec![3, 5]));
}
