//! The manager with fake sockets.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind, Write};
use std::num::NonZeroU64;
use std::rc::Rc;
use std::time::Duration;

use super::manager::BACKLOG_BYTES_MIN;
use super::paging::PAGES_IN_FLIGHT_MAX;
use super::subscriber::Stream;
use super::{CloseReason, ConnectionManager, Effect, NewStream, Settings, StreamKey};
use crate::executor::testing::Rng;
use crate::http::{Coding, contents, sse};
use crate::log::{Frames, Page, RunNumber, View};
use crate::model::{Now, ProjectId, Timestamp};

/// The other side of a fake socket.
#[derive(Debug, Default)]
struct Wire {
    taken: Vec<u8>,
    /// Bytes that it still takes; then it would block.
    room: usize,
    is_broken: bool,
    writes: usize,
}

#[derive(Debug, Clone)]
struct FakeSocket(Rc<RefCell<Wire>>);

impl FakeSocket {
    fn with_room(room: usize) -> Self {
        Self(Rc::new(RefCell::new(Wire { room, ..Wire::default() })))
    }

    fn open() -> Self {
        Self::with_room(usize::MAX)
    }

    fn add_room(&self, room: usize) {
        let mut wire = self.0.borrow_mut();
        wire.room = wire.room.saturating_add(room);
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.borrow().taken).into_owned()
    }

    fn take_text(&self) -> String {
        let text = self.text();
        self.0.borrow_mut().taken.clear();
        text
    }

    fn writes(&self) -> usize {
        self.0.borrow().writes
    }
}

impl Write for FakeSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        wire.writes += 1;
        if wire.is_broken {
            return Err(ErrorKind::ConnectionReset.into());
        }
        let n = bytes.len().min(wire.room);
        if n == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        wire.room -= if wire.room == usize::MAX { 0 } else { n };
        wire.taken.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

type Manager = ConnectionManager<FakeSocket>;

const HEARTBEAT: Duration = Duration::from_secs(15);
const STALL: Duration = Duration::from_secs(30);
const LINGER: Duration = Duration::from_secs(60);
const RETRY_MS: u64 = 2000;

fn settings() -> Settings {
    Settings {
        heartbeat: HEARTBEAT,
        stall_timeout: STALL,
        retry_ms: RETRY_MS,
        backlog_bytes: BACKLOG_BYTES_MIN,
        backlogs_bytes: 1 << 20,
        linger: LINGER,
    }
}

fn id(text: &str) -> ProjectId {
    ProjectId::parse(text).expect("an id")
}

fn run(number: u64) -> RunNumber {
    RunNumber(NonZeroU64::new(number).expect("not 0"))
}

/// A log of one project: what a stream of it must be sent.
#[derive(Default)]
struct Log {
    messages: Vec<(Vec<u8>, Option<RunNumber>, bool)>,
}

impl Log {
    fn newest(&self) -> u64 {
        self.messages.len() as u64
    }

    /// Adds a message whose event has `size` bytes or a few more.
    fn add(&mut self, size: usize, run: Option<RunNumber>, is_last: bool) -> Frames {
        let seq = self.newest() + 1;
        let mut frames = Frames::starting_at(seq);
        let padding = "x".repeat(size.saturating_sub(28));
        sse::write_event(&mut frames.bytes, Some(&seq.to_string()), None, padding.as_bytes());
        frames.mark(run, is_last);
        self.messages.push((frames.bytes.clone(), run, is_last));
        frames
    }

    fn mine(&self, after: u64, only_run: Option<RunNumber>) -> impl Iterator<Item = (u64, &[u8], bool)> {
        self.messages.iter().zip(1..).skip(after as usize).filter_map(move |((bytes, run, is_last), seq)| {
            (only_run.is_none() || *run == only_run).then_some((seq, bytes.as_slice(), *is_last))
        })
    }

    fn bytes(&self, after: u64, only_run: Option<RunNumber>) -> Vec<u8> {
        self.mine(after, only_run).flat_map(|(_, bytes, _)| bytes.iter().copied()).collect()
    }

    fn text(&self, after: u64) -> String {
        String::from_utf8_lossy(&self.bytes(after, None)).into_owned()
    }

    fn page(&self, after: u64, only_run: Option<RunNumber>, view: View, bytes_max: usize) -> Page {
        let mut page = Page { up_to: self.newest(), ..Page::default() };
        let mut taken = Vec::new();
        for (seq, bytes, is_last) in self.mine(after, only_run) {
            if taken.len() >= bytes_max {
                page.up_to = seq - 1;
                break;
            }
            taken.append(&mut view.of_events(bytes.to_vec()));
            page.messages += 1;
            page.has_last = only_run.is_some() && is_last;
        }
        page.bytes = taken.into();
        page
    }
}

/// A manager, the time, and the logs of its projects.
struct Bench {
    manager: Manager,
    now: Now,
    logs: BTreeMap<ProjectId, Log>,
    /// What is in the log and has not been broadcast yet, though pages may have it.
    late: VecDeque<(ProjectId, Frames)>,
}

impl Bench {
    fn new() -> Self {
        Self::with(settings())
    }

    fn with(settings: Settings) -> Self {
        let now = Now { mono: Duration::from_secs(1), wall: Timestamp::from_millis(1_700_000_000_000) };
        Self { manager: Manager::new(settings, 7), now, logs: BTreeMap::new(), late: VecDeque::new() }
    }

    /// A bench with the project `p` open.
    fn with_project() -> (Self, ProjectId) {
        let mut bench = Self::new();
        let project = id("p");
        bench.open(&project);
        (bench, project)
    }

    fn open(&mut self, project: &ProjectId) {
        let newest = self.logs.entry(project.clone()).or_default().newest();
        self.manager.open_project(project, Frames::starting_at(newest + 1), self.now);
        self.manager.check_invariants();
    }

    fn add(&mut self, project: &ProjectId, socket: &FakeSocket, new: NewStream) -> StreamKey {
        let key = self.manager.add_sse(project, socket.clone(), new, self.now).expect("the project is open");
        self.manager.check_invariants();
        key
    }

    /// A stream behind everything so far.
    fn join(&mut self, project: &ProjectId, socket: &FakeSocket) -> StreamKey {
        let after = self.logs[project].newest();
        self.add(project, socket, NewStream { after, ..NewStream::default() })
    }

    fn say(&mut self, project: &ProjectId, size: usize) {
        self.say_of(project, size, None, false);
    }

    fn say_of(&mut self, project: &ProjectId, size: usize, run: Option<RunNumber>, is_last: bool) {
        self.keep(project, size, run, is_last);
        self.broadcast_kept(usize::MAX);
    }

    /// A message is in the log, and on its way to the manager.
    fn keep(&mut self, project: &ProjectId, size: usize, run: Option<RunNumber>, is_last: bool) {
        let frames = self.logs.get_mut(project).expect("open").add(size, run, is_last);
        self.late.push_back((project.clone(), frames));
    }

    /// Up to so many of those arrive.
    fn broadcast_kept(&mut self, count: usize) {
        for (project, frames) in self.late.drain(..count.min(self.late.len())) {
            self.manager.broadcast(&project, &frames, self.now);
            self.manager.check_invariants();
        }
    }

    /// The newest message that the manager knows of.
    fn newest_broadcast(&self, project: &ProjectId) -> u64 {
        self.logs[project].newest() - self.late.iter().filter(|(of, _)| of == project).count() as u64
    }

    fn flush(&mut self) {
        while self.manager.flush(512, self.now) {}
        self.manager.check_invariants();
    }

    fn make_room(&mut self, key: StreamKey, socket: &FakeSocket, room: usize) {
        socket.add_room(room);
        self.manager.writable(key.index(), self.now);
        self.manager.check_invariants();
    }

    /// Answers every page asked for; how many those were.
    fn turn_pages(&mut self, bytes_max: usize) -> usize {
        let mut pages = 0;
        for effect in self.manager.take_effects(PAGES_IN_FLIGHT_MAX) {
            if let Effect::ReadPage { stream, project, after, only_run, view, bytes_max: granted } = effect {
                pages += 1;
                let page = self.logs[&project].page(after, only_run, view, bytes_max.min(granted));
                self.manager.page(stream, page, self.now);
                self.manager.check_invariants();
            }
        }
        pages
    }

    fn reap(&mut self) -> Vec<CloseReason> {
        let reasons = self.manager.reap(self.now).into_iter().map(|(_, _, reason)| reason).collect();
        self.manager.check_invariants();
        reasons
    }

    /// Time passes, and everyone is looked after.
    fn wait(&mut self, by: Duration) {
        self.now = self.now.plus(by);
        while self.manager.tick(3, self.now) {}
        self.manager.check_invariants();
    }
}

/// A heartbeat, as a stream is sent it.
fn comment(coding: Coding) -> &'static str {
    match coding {
        Coding::Chunked => "2\r\n:\n\r\n",
        Coding::UntilClose => ":\n",
    }
}

#[test]
fn a_broadcast_reaches_each_stream_of_its_project_and_no_other() {
    let (mut bench, p) = Bench::with_project();
    let q = id("q");
    bench.open(&q);
    let [a, b, c] = std::array::from_fn(|_| FakeSocket::open());
    bench.join(&p, &a);
    bench.join(&p, &b);
    bench.join(&q, &c);
    bench.say(&p, 30);
    bench.say(&p, 40);
    assert_eq!(a.text(), "", "nothing is written before the flush");
    bench.flush();
    assert_eq!((a.text(), b.text(), c.text()), (bench.logs[&p].text(0), bench.logs[&p].text(0), String::new()));
    assert_eq!((a.writes(), bench.manager.stats().messages), (1, 4), "a burst is one write");
    assert_eq!((bench.manager.subscribers(&p), bench.manager.subscribers(&q)), (2, 1));
    assert_eq!(bench.manager.take_rounds_ended().len(), 1);
}

#[test]
fn a_project_that_is_not_open_gives_the_socket_back() {
    let (mut bench, _) = Bench::with_project();
    let socket = FakeSocket::open();
    assert!(bench.manager.add_sse(&id("q"), socket, NewStream::default(), bench.now).is_err());
    bench.manager.check_invariants();
}

#[test]
fn slices_of_any_size_miss_nobody_though_streams_join_and_leave_in_between() {
    for budget in 1..=9 {
        for leaver in 0..8 {
            let (mut bench, p) = Bench::with_project();
            let mut streams: Vec<_> = (0..8).map(|_| FakeSocket::open()).map(|s| (bench.join(&p, &s), s)).collect();
            let late = FakeSocket::open();
            bench.say(&p, 30);
            let has_more = bench.manager.flush(budget, bench.now);
            assert_eq!(has_more, budget < 8, "budget {budget}");
            let (key, _) = streams.remove(leaver);
            bench.manager.hangup(key.index());
            assert_eq!(bench.reap(), [CloseReason::ClientGone]);
            bench.add(&p, &late, NewStream { after: 0, ..NewStream::default() });
            bench.say(&p, 50);
            let mut rounds = 0;
            while bench.manager.flush(budget, bench.now) {
                rounds += 1;
                assert!(rounds < 100, "a round ends");
            }
            let all = bench.logs[&p].text(0);
            for (_, socket) in &streams {
                assert_eq!(socket.text(), all, "budget {budget}, leaver {leaver}");
            }
            assert_eq!(late.text(), all);
        }
    }
}

#[test]
fn a_round_ends_though_someone_leaves_in_every_slice() {
    let (mut bench, p) = Bench::with_project();
    let mut streams: Vec<_> = (0..100).map(|_| FakeSocket::open()).map(|s| (bench.join(&p, &s), s)).collect();
    bench.say(&p, 30);
    while bench.manager.flush(5, bench.now) {
        let (first, _) = streams.remove(0);
        bench.manager.hangup(first.index());
        bench.reap();
    }
    assert!(streams.len() >= 80, "{} are left", streams.len());
    for (_, socket) in &streams {
        assert_eq!((socket.text(), socket.writes()), (bench.logs[&p].text(0), 1));
    }
}

#[test]
fn a_large_project_does_not_keep_a_small_one_waiting() {
    let (mut bench, large) = Bench::with_project();
    let small = id("small");
    bench.open(&small);
    for _ in 0..100 {
        bench.join(&large, &FakeSocket::open());
    }
    let socket = FakeSocket::open();
    bench.join(&small, &socket);
    bench.say(&large, 30);
    bench.say(&small, 30);
    assert!(bench.manager.flush(10, bench.now) && bench.manager.flush(10, bench.now));
    assert_eq!(socket.text(), bench.logs[&small].text(0));
}

#[test]
fn a_write_may_end_at_any_byte() {
    let (mut bench, p) = Bench::with_project();
    for size in [25, 1, 60] {
        bench.say(&p, size);
    }
    let all = bench.logs[&p].text(0);
    for first in 0..all.len() {
        let socket = FakeSocket::with_room(first);
        let key = bench.add(&p, &socket, NewStream::default());
        assert_eq!(socket.text(), all[..first]);
        bench.make_room(key, &socket, 1);
        assert_eq!(socket.text(), all[..first + 1]);
        bench.make_room(key, &socket, usize::MAX);
        assert_eq!(socket.text(), all, "after {first}");
        bench.manager.remove_sse(key, CloseReason::ClientGone);
        bench.reap();
    }
}

#[test]
fn a_preface_goes_before_everything_at_any_pace() {
    let (mut bench, p) = Bench::with_project();
    let socket = FakeSocket::with_room(0);
    let key = bench.add(&p, &socket, NewStream { preface: b"HEAD\n\n".to_vec(), ..NewStream::default() });
    bench.say(&p, 30);
    bench.flush();
    let expected = format!("HEAD\n\n{}", bench.logs[&p].text(0));
    for _ in 0..expected.len() {
        bench.make_room(key, &socket, 1);
    }
    assert_eq!(socket.text(), expected);
}

#[test]
fn a_stream_that_falls_behind_is_paged_and_goes_on_live_from_within_an_event() {
    for cut in [0, 1, 29, 31, 45] {
        let (mut bench, p) = Bench::with_project();
        let socket = FakeSocket::with_room(cut);
        let key = bench.join(&p, &socket);
        (0..2).for_each(|_| bench.say(&p, 30));
        bench.flush();
        (0..40).for_each(|_| bench.say(&p, 1000));
        bench.flush();
        assert!(!bench.manager.reaches(&p, 2), "the backlog has moved on");
        bench.make_room(key, &socket, usize::MAX);
        let mut pages = 0;
        while bench.turn_pages(5000) > 0 {
            pages += 1;
        }
        assert!((3..10).contains(&pages), "{pages} pages");
        assert_eq!(socket.text(), bench.logs[&p].text(0), "cut at {cut}");
        bench.say(&p, 30);
        bench.flush();
        assert_eq!((socket.text(), bench.turn_pages(5000)), (bench.logs[&p].text(0), 0), "live again");
    }
}

#[test]
fn a_stream_asks_for_one_page_at_a_time() {
    let (mut bench, p) = Bench::with_project();
    (0..40).for_each(|_| bench.say(&p, 1000));
    let socket = FakeSocket::open();
    let key = bench.add(&p, &socket, NewStream::default());
    bench.say(&p, 30);
    bench.flush();
    bench.manager.writable(key.index(), bench.now);
    assert_eq!(bench.manager.take_effects(PAGES_IN_FLIGHT_MAX).len(), 1);
    let page = bench.logs[&p].page(0, None, View::Events, 1 << 20);
    bench.manager.page(key, page.clone(), bench.now);
    assert_eq!(socket.text(), bench.logs[&p].text(0));
    bench.manager.remove_sse(key, CloseReason::ClientGone);
    bench.reap();
    bench.manager.page(key, page, bench.now);
    bench.manager.skip(key, Vec::new(), 3, bench.now);
    bench.manager.remove_sse(key, CloseReason::ClientGone);
    assert_eq!(bench.reap(), [], "a page for a stream that is gone changes nothing");
}

#[test]
fn a_page_may_be_ahead_of_what_was_broadcast() {
    for only_run in [None, Some(run(1))] {
        let (mut bench, p) = Bench::with_project();
        (0..40).for_each(|_| bench.say_of(&p, 1000, Some(run(1)), false));
        let socket = FakeSocket::open();
        bench.add(&p, &socket, NewStream { only_run, ..NewStream::default() });
        (0..3).for_each(|_| bench.keep(&p, 30, Some(run(1)), false));
        while bench.turn_pages(1 << 20) > 0 {}
        assert_eq!(socket.text(), bench.logs[&p].text(0), "the page had them all");
        (0..3).for_each(|_| bench.broadcast_kept(1));
        bench.flush();
        bench.say_of(&p, 30, Some(run(1)), false);
        bench.flush();
        assert_eq!((socket.text(), bench.turn_pages(1)), (bench.logs[&p].text(0), 0), "none comes twice");
    }
}

#[test]
fn only_so_many_pages_are_on_their_way_and_those_who_left_are_passed_over() {
    let (mut bench, p) = Bench::with_project();
    (0..40).for_each(|_| bench.say(&p, 1000));
    let sockets: Vec<_> = (0..3 * PAGES_IN_FLIGHT_MAX).map(|_| FakeSocket::open()).collect();
    let keys: Vec<_> = sockets.iter().map(|socket| bench.add(&p, socket, NewStream::default())).collect();
    let asked = |bench: &mut Bench| -> Vec<StreamKey> {
        let effects = bench.manager.take_effects(PAGES_IN_FLIGHT_MAX).into_iter();
        let stream = |effect| if let Effect::ReadPage { stream, .. } = effect { Some(stream) } else { None };
        effects.filter_map(stream).collect()
    };
    assert_eq!((asked(&mut bench), asked(&mut bench)), (keys[..PAGES_IN_FLIGHT_MAX].to_vec(), vec![]));
    for key in &keys[..PAGES_IN_FLIGHT_MAX + 4] {
        bench.manager.hangup(key.index());
    }
    bench.reap();
    assert_eq!(asked(&mut bench), [], "those that left are still on their way");
    let page = bench.logs[&p].page(0, None, View::Events, 1 << 20);
    bench.manager.page(keys[0], page, bench.now);
    bench.manager.skip(keys[1], Vec::new(), 3, bench.now);
    bench.manager.page_refused(keys[2]);
    assert_eq!(asked(&mut bench), keys[PAGES_IN_FLIGHT_MAX + 4..][..3], "one for each that was answered");
}

#[test]
fn a_stream_whose_history_cant_be_read_ends() {
    let (mut bench, p) = Bench::with_project();
    (0..40).for_each(|_| bench.say(&p, 1000));
    let key = bench.add(&p, &FakeSocket::open(), NewStream::default());
    assert_eq!(bench.manager.take_effects(PAGES_IN_FLIGHT_MAX).len(), 1);
    bench.manager.page_refused(key);
    assert_eq!((bench.reap(), bench.manager.pages()), (vec![CloseReason::Stalled], (0, 0, 0)));
}

#[test]
fn readers_that_take_nothing_hold_a_bounded_sum_and_are_in_nobodys_way() {
    const STALLED: usize = 1000;
    let (mut bench, p) = Bench::with_project();
    (0..200).for_each(|_| bench.say(&p, 1000));
    let stalled: Vec<_> = (0..STALLED).map(|_| FakeSocket::with_room(0)).collect();
    let streams: Vec<_> = stalled.iter().map(|socket| bench.add(&p, socket, NewStream::default())).collect();
    while bench.turn_pages(1 << 20) > 0 {}
    let held = bench.manager.pages().2;
    assert!(held > 4 << 20 && held < 20 << 20, "{held} bytes");
    let socket = FakeSocket::open();
    bench.add(&p, &socket, NewStream::default());
    while bench.turn_pages(1 << 20) > 0 {}
    assert_eq!(socket.text(), bench.logs[&p].text(0), "everything, though the others take nothing");
    assert_eq!(bench.manager.pages(), (0, 0, held));
    streams.iter().for_each(|key| bench.manager.hangup(key.index()));
    bench.reap();
    assert_eq!(bench.manager.pages(), (0, 0, 0), "all of it is given back");
}

#[test]
fn a_page_that_comes_for_an_earlier_tenant_of_the_place_changes_nothing() {
    let (mut bench, p) = Bench::with_project();
    let [old, new] = std::array::from_fn(|_| FakeSocket::open());
    let old_key = bench.join(&p, &old);
    bench.manager.remove_sse(old_key, CloseReason::ClientGone);
    bench.reap();
    let new_key = bench.join(&p, &new);
    assert_eq!(old_key.index(), new_key.index());
    bench.manager.page(old_key, Page { bytes: b"old".to_vec().into(), up_to: 9, ..Page::default() }, bench.now);
    bench.manager.remove_sse(old_key, CloseReason::Shutdown);
    assert_eq!((bench.reap().len(), new.text()), (0, String::new()));
    assert!(bench.manager.socket_of(old_key).is_none() && bench.manager.socket_of(new_key).is_some());
}

#[test]
fn history_that_is_gone_is_skipped_between_events_and_ends_the_stream_within_one() {
    for (cut, survives) in [(0, true), (7, false)] {
        let (mut bench, p) = Bench::with_project();
        let socket = FakeSocket::with_room(cut);
        let key = bench.join(&p, &socket);
        bench.say(&p, 1000);
        bench.flush();
        (0..40).for_each(|_| bench.say(&p, 1000));
        bench.make_room(key, &socket, usize::MAX);
        assert_eq!(bench.manager.take_effects(PAGES_IN_FLIGHT_MAX).len(), 1);
        let newest = bench.logs[&p].newest();
        bench.manager.skip(key, b"RESET\n\n".to_vec(), newest, bench.now);
        bench.say(&p, 30);
        bench.flush();
        if survives {
            assert_eq!(socket.text(), format!("RESET\n\n{}", bench.logs[&p].text(newest)));
        } else {
            assert_eq!(bench.reap(), [CloseReason::Stalled]);
        }
    }
}

#[test]
fn a_stream_of_one_run_gets_that_run_alone_and_ends_behind_its_last_message() {
    for room in [usize::MAX, 0, 10] {
        let (mut bench, p) = Bench::with_project();
        let socket = FakeSocket::with_room(room);
        let key = bench.add(&p, &socket, NewStream { only_run: Some(run(1)), ..NewStream::default() });
        for (of, is_last) in [(Some(1), false), (None, false), (Some(2), true), (Some(1), true)] {
            bench.say_of(&p, 30, of.map(run), is_last);
        }
        bench.say(&p, 30);
        bench.flush();
        for _ in 0..200 {
            bench.make_room(key, &socket, 1);
        }
        let expected = [bench.logs[&p].bytes(0, Some(run(1))), b"0\r\n\r\n".to_vec()].concat();
        assert_eq!(socket.text().as_bytes(), expected, "room {room}");
        assert_eq!(bench.reap(), [CloseReason::RunOver]);
    }
}

#[test]
fn a_stream_of_one_run_that_falls_behind_is_paged_to_its_end() {
    let (mut bench, p) = Bench::with_project();
    let socket = FakeSocket::with_room(0);
    let key = bench.add(&p, &socket, NewStream { only_run: Some(run(1)), ..NewStream::default() });
    for n in 0..60 {
        bench.say_of(&p, 1000, (n % 3 == 0).then(|| run(1)), false);
        bench.flush();
    }
    bench.make_room(key, &socket, usize::MAX);
    bench.say_of(&p, 30, Some(run(1)), true);
    bench.flush();
    while bench.turn_pages(3000) > 0 {}
    let expected = [bench.logs[&p].bytes(0, Some(run(1))), b"0\r\n\r\n".to_vec()].concat();
    assert_eq!(socket.text().as_bytes(), expected);
    assert_eq!(bench.reap(), [CloseReason::RunOver]);
}

/// A message that says something to people.
fn note(seq: u64) -> Frames {
    let mut frames = Frames::starting_at(seq);
    let message = format!(r#"{{"type":"note","projectId":"p","seq":{seq},"payload":{{"n":{seq}}}}}"#);
    sse::write_event(&mut frames.bytes, Some("i"), None, message.as_bytes());
    frames.mark(Some(run(1)), false);
    frames
}

fn told(seqs: std::ops::RangeInclusive<u64>) -> String {
    seqs.map(|seq| format!("{:width$} note {{\"n\":{seq}}}\n", "", width = "22:13:20.042".len())).collect()
}

#[test]
fn messages_are_put_into_lines_once_for_all_who_are_shown_them_so() {
    let (mut bench, p) = Bench::with_project();
    let text = NewStream { view: View::Text, ..NewStream::default() };
    let [events, first, second, old, of_run] = std::array::from_fn(|_| FakeSocket::open());
    bench.join(&p, &events);
    let before = bench.manager.backlog_memory().1;
    let first_key = bench.add(&p, &first, text);
    bench.add(&p, &second, NewStream { view: View::Text, ..NewStream::default() });
    let coding = Coding::UntilClose;
    let old_key = bench.add(&p, &old, NewStream { view: View::Text, coding, ..NewStream::default() });
    let only_run = Some(run(1));
    bench.add(&p, &of_run, NewStream { view: View::Text, only_run, ..NewStream::default() });
    bench.manager.broadcast(&p, &note(1), bench.now);
    bench.manager.broadcast(&p, &note(2), bench.now);
    bench.flush();
    for socket in [&first, &second, &of_run] {
        assert_eq!(String::from_utf8_lossy(&contents(socket.text().as_bytes())), told(1..=2));
        assert_eq!(socket.writes(), 1, "from a backlog of their own");
    }
    assert_eq!(old.text(), told(1..=2));
    assert_eq!(events.text().as_bytes(), [note(1).bytes, note(2).bytes].concat());

    bench.manager.hangup(old_key.index());
    bench.manager.hangup(first_key.index());
    bench.reap();
    bench.manager.broadcast(&p, &note(3), bench.now);
    bench.flush();
    assert!(second.text().contains("{\"n\":3}"));
    assert!(bench.manager.backlog_memory().1 > before);
}

#[test]
fn whoever_is_shown_lines_and_falls_behind_or_begins_in_the_past_reads_on_from_the_log() {
    let (mut bench, p) = Bench::with_project();
    bench.say(&p, 100);
    bench.say(&p, 100);
    let socket = FakeSocket::open();
    bench.add(&p, &socket, NewStream { view: View::Text, ..NewStream::default() });
    assert_eq!(bench.manager.pages().0, 1, "nobody was shown lines until now: it waits for a page");
    assert_eq!(bench.turn_pages(1 << 20), 1);
    bench.manager.broadcast(&p, &note(3), bench.now);
    bench.flush();
    assert_eq!(String::from_utf8_lossy(&contents(socket.text().as_bytes())), told(3..=3));
}

#[test]
fn lines_arrive_whole_and_in_order_however_little_a_socket_takes() {
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let (mut bench, p) = Bench::with_project();
        let socket = FakeSocket::with_room(0);
        let coding = if rng.one_in(4) { Coding::UntilClose } else { Coding::Chunked };
        let key = bench.add(&p, &socket, NewStream { view: View::Text, coding, ..NewStream::default() });
        let mut expected = Vec::new();
        for _ in 0..400 {
            match rng.below(6) {
                0..=2 => {
                    let frames = note_or_nothing(bench.logs[&p].newest() + 1, &mut rng);
                    expected.append(&mut View::Text.of_events(frames.bytes.clone()));
                    bench.logs.get_mut(&p).expect("open").messages.push((frames.bytes.clone(), None, false));
                    bench.manager.broadcast(&p, &frames, bench.now);
                }
                3 => bench.flush(),
                4 => bench.make_room(key, &socket, [1, 7, 500, 20_000][rng.below(4)]),
                _ => drop(bench.turn_pages([1, 2000, 1 << 20][rng.below(3)])),
            }
        }
        bench.make_room(key, &socket, usize::MAX);
        bench.flush();
        while bench.turn_pages(1 << 20) > 0 {}
        let expected = coding.encoded(expected);
        assert_eq!(socket.text(), String::from_utf8_lossy(&expected), "seed {seed}");
    }
}

/// A message that says much to people, or nothing.
fn note_or_nothing(seq: u64, rng: &mut Rng) -> Frames {
    let mut frames = Frames::starting_at(seq);
    let padding = "x".repeat(rng.below(900));
    let message = match rng.one_in(3) {
        true => "nothing".to_owned(),
        false => format!(r#"{{"type":"note","projectId":"p","seq":{seq},"payload":"{seq} {padding}"}}"#),
    };
    sse::write_event(&mut frames.bytes, Some("i"), None, message.as_bytes());
    frames.mark(None, false);
    frames
}

#[test]
fn a_silent_stream_of_lines_gets_a_line_because_proxies_end_what_is_silent() {
    let (mut bench, p) = Bench::with_project();
    let socket = FakeSocket::open();
    bench.add(&p, &socket, NewStream { view: View::Text, ..NewStream::default() });
    bench.wait(HEARTBEAT);
    assert_eq!(String::from_utf8_lossy(&contents(socket.text().as_bytes())), "22:13:35.000 heartbeat\n");
}

#[test]
fn a_silent_stream_gets_a_heartbeat_and_one_that_is_not_silent_gets_none() {
    let (mut bench, p) = Bench::with_project();
    let [plain, message] = std::array::from_fn(|_| FakeSocket::open());
    bench.join(&p, &plain);
    bench.add(&p, &message, NewStream { heartbeat_as_message: true, ..NewStream::default() });
    bench.wait(HEARTBEAT - Duration::from_millis(1));
    assert_eq!((plain.text(), message.text()), (String::new(), String::new()));
    bench.wait(Duration::from_secs(1));
    assert_eq!(plain.take_text(), comment(Coding::Chunked));
    let beat = message.take_text();
    let beat = String::from_utf8(contents(beat.as_bytes())).expect("text");
    assert!(beat.starts_with("data: {\"type\":\"heartbeat\",\"projectId\":\"p\",\"seq\":0,\"payload\":{"), "{beat}");
    assert!(beat.ends_with("}\n\n") && beat.matches('\n').count() == 2, "one event: {beat}");
    bench.wait(HEARTBEAT / 2);
    bench.say(&p, 30);
    bench.flush();
    plain.take_text();
    bench.wait(HEARTBEAT - Duration::from_secs(1));
    assert_eq!(plain.text(), "", "silence counts from the last write");
    bench.wait(Duration::from_secs(2));
    assert_eq!(plain.take_text(), comment(Coding::Chunked));
}

#[test]
fn no_heartbeats_where_they_are_off_and_none_into_a_stream_that_waits_for_history() {
    let mut bench = Bench::with(Settings { heartbeat: Duration::ZERO, ..settings() });
    let p = id("p");
    bench.open(&p);
    let off = FakeSocket::open();
    bench.join(&p, &off);
    bench.wait(HEARTBEAT * 10);
    assert_eq!(off.text(), "");

    let (mut bench, p) = Bench::with_project();
    (0..40).for_each(|_| bench.say(&p, 1000));
    let behind = FakeSocket::open();
    bench.add(&p, &behind, NewStream::default());
    bench.wait(HEARTBEAT * 2);
    assert_eq!(behind.text(), "");
    bench.turn_pages(1 << 20);
    assert_eq!(behind.text(), bench.logs[&p].text(0));
}

#[test]
fn a_stream_that_takes_nothing_is_closed_and_one_that_takes_a_little_is_not() {
    let (mut bench, p) = Bench::with_project();
    let [stuck, slow] = std::array::from_fn(|_| FakeSocket::with_room(5));
    let stuck_key = bench.join(&p, &stuck);
    let slow_key = bench.join(&p, &slow);
    bench.say(&p, 3000);
    bench.flush();
    for _ in 0..5 {
        bench.wait(STALL / 2);
        bench.make_room(stuck_key, &stuck, 0);
        bench.make_room(slow_key, &slow, 1);
    }
    assert_eq!(bench.reap(), [CloseReason::Stalled]);
    assert_eq!((stuck.text().len(), slow.text().len(), bench.manager.len()), (5, 10, 1));
}

#[test]
fn a_stream_ends_with_its_token_and_is_told_so() {
    let (mut bench, p) = Bench::with_project();
    let [short, long] = std::array::from_fn(|_| FakeSocket::open());
    let expires_at = Some(bench.now.wall.plus_millis(5_500));
    bench.add(&p, &short, NewStream { expires_at, ..NewStream::default() });
    bench.join(&p, &long);
    bench.wait(Duration::from_millis(5_499));
    assert_eq!(bench.reap(), []);
    bench.wait(Duration::from_millis(1_501));
    assert_eq!(bench.reap(), [CloseReason::TokenExpired]);
    let told = short.text();
    let told = told.strip_suffix("0\r\n\r\n").expect("the last chunk tells the end");
    let told = String::from_utf8(contents(told.as_bytes())).expect("text");
    assert!(told.starts_with("retry: ") && told.contains("\"payload\":{\"reason\":\"token_expired\"}"), "{told}");
    assert_eq!(long.text(), "");
}

#[test]
fn a_stream_without_a_token_goes_on_by_a_clock_that_is_set_beyond_2106() {
    let (mut bench, p) = Bench::with_project();
    let socket = FakeSocket::open();
    bench.join(&p, &socket);
    bench.now.wall = Timestamp::from_millis(1000 * (u64::from(u32::MAX) + 1));
    bench.wait(Duration::from_secs(2));
    assert_eq!((bench.reap(), socket.text()), (vec![], String::new()));
}

fn retry_of(text: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix("retry: ")).expect("a retry field");
    line.parse().expect("a number")
}

#[test]
fn all_streams_are_told_to_come_back_each_at_its_own_time() {
    let (mut bench, p) = Bench::with_project();
    let sockets: Vec<_> = (0..50).map(|_| FakeSocket::open()).collect();
    for socket in &sockets {
        bench.join(&p, socket);
    }
    let stuck = FakeSocket::with_room(3);
    bench.join(&p, &stuck);
    bench.say(&p, 30);
    bench.flush();
    bench.manager.close_all(CloseReason::Shutdown, bench.now);
    assert_eq!(bench.reap(), [CloseReason::Shutdown; 51]);
    assert_eq!(stuck.text().len(), 3, "nothing is written into the middle of an event");
    let mut retries: Vec<u64> = Vec::new();
    for socket in &sockets {
        let text = socket.text().split_off(bench.logs[&p].text(0).len());
        let text = text.strip_suffix("0\r\n\r\n").expect("the last chunk tells the end");
        let text = String::from_utf8(contents(text.as_bytes())).expect("text");
        let closing = "data: {\"type\":\"stream_closing\",\"projectId\":\"p\",\"seq\":1,\
            \"payload\":{\"reason\":\"shutdown\"}}\n\n";
        assert!(text.ends_with(closing) && !text.contains("id: "), "{text}");
        retries.push(retry_of(&text));
    }
    assert!(retries.iter().all(|retry| (RETRY_MS..2 * RETRY_MS).contains(retry)), "{retries:?}");
    retries.sort_unstable();
    retries.dedup();
    assert!(retries.len() > 25, "spread: {retries:?}");
    assert!(bench.manager.is_empty());
}

#[test]
fn a_stream_that_was_about_to_end_when_all_were_ended_is_taken_out_once() {
    let (mut bench, p) = Bench::with_project();
    let sockets = [FakeSocket::open(), FakeSocket::open()];
    let [left, broken] = [0, 1].map(|at| bench.join(&p, &sockets[at]));
    sockets[1].0.borrow_mut().is_broken = true;
    bench.manager.hangup(left.index());
    bench.manager.close_all(CloseReason::Shutdown, bench.now);
    bench.manager.close_all(CloseReason::Shutdown, bench.now);
    bench.manager.remove_sse(broken, CloseReason::Stalled);
    assert_eq!(bench.reap(), [CloseReason::ClientGone; 2]);
}

#[test]
fn a_project_without_streams_lingers_and_is_then_let_go_and_may_come_back() {
    let (mut bench, p) = Bench::with_project();
    let socket = FakeSocket::open();
    let key = bench.join(&p, &socket);
    bench.say(&p, 30);
    bench.wait(LINGER * 2);
    assert_eq!(bench.manager.take_effects(PAGES_IN_FLIGHT_MAX), [], "it is watched");
    bench.manager.hangup(key.index());
    bench.reap();
    bench.wait(LINGER - Duration::from_secs(1));
    assert!(bench.manager.take_effects(PAGES_IN_FLIGHT_MAX).is_empty() && bench.manager.reaches(&p, 0), "it lingers");
    bench.wait(Duration::from_secs(2));
    assert_eq!(bench.manager.take_effects(PAGES_IN_FLIGHT_MAX), [Effect::Unwatch(p.clone())]);
    assert_eq!((bench.manager.backlog_memory(), bench.manager.next_deadline()), ((0, 0), None));
    assert!(!bench.manager.flush(1, bench.now), "its round is over");

    bench.open(&p);
    let again = FakeSocket::open();
    bench.join(&p, &again);
    bench.say(&p, 30);
    bench.flush();
    assert_eq!(again.text(), bench.logs[&p].text(1));
}

#[test]
fn a_project_that_is_open_takes_what_it_lacks_when_it_is_opened_again() {
    let (mut bench, p) = Bench::with_project();
    let socket = FakeSocket::open();
    bench.join(&p, &socket);
    bench.say(&p, 30);
    let mut newest = Frames::starting_at(1);
    for seq in 1..=2 {
        let known = (seq == 1).then(|| bench.logs[&p].messages[0].0.clone());
        let bytes = known.unwrap_or_else(|| bench.logs.get_mut(&p).expect("open").add(40, None, false).bytes);
        newest.bytes.extend_from_slice(&bytes);
        newest.mark(None, false);
    }
    bench.manager.open_project(&p, newest, bench.now);
    bench.flush();
    assert_eq!(socket.text(), bench.logs[&p].text(0));
}

#[test]
fn all_backlogs_together_keep_to_their_bound_however_many_projects_are_opened() {
    const TOGETHER: usize = 8 * BACKLOG_BYTES_MIN;
    let mut bench = Bench::with(Settings { backlog_bytes: TOGETHER, backlogs_bytes: TOGETHER, ..settings() });
    for n in 0..8 {
        let project = id(&n.to_string());
        let log = bench.logs.entry(project.clone()).or_default();
        let mut newest = Frames::starting_at(1);
        for _ in 0..200 {
            newest.bytes.extend_from_slice(&log.add(1000, None, false).bytes);
            newest.mark(None, false);
        }
        bench.manager.open_project(&project, newest, bench.now);
    }
    bench.wait(Duration::from_secs(2));
    let (projects, bytes) = bench.manager.backlog_memory();
    // Dead bytes at a backlog's front are cut off once they are as many as the live ones.
    assert!(projects == 8 && bytes <= 3 * TOGETHER, "{bytes} bytes");
}

#[test]
fn a_client_that_is_gone_is_noticed_by_its_write() {
    let (mut bench, p) = Bench::with_project();
    let socket = FakeSocket::open();
    bench.join(&p, &socket);
    socket.0.borrow_mut().is_broken = true;
    bench.say(&p, 30);
    bench.flush();
    bench.say(&p, 30);
    bench.flush();
    assert_eq!((bench.reap(), socket.writes()), (vec![CloseReason::ClientGone], 1));
    assert_eq!(bench.manager.stats().closed, [1, 0, 0, 0, 0]);
}

#[test]
fn a_stream_weighs_its_slab_entry_and_an_idle_one_nothing_more() {
    /// As the slab keeps it.
    #[expect(dead_code, reason = "only its size matters")]
    enum Entry<T> {
        Vacant(usize),
        Occupied(T),
    }
    assert!(size_of::<Entry<Stream<i32>>>() <= 80, "{}", size_of::<Entry<Stream<i32>>>());
    let (mut bench, p) = Bench::with_project();
    let socket = FakeSocket::open();
    let key = bench.add(&p, &socket, NewStream { preface: b"HEAD\n\n".to_vec(), ..NewStream::default() });
    assert!(bench.manager.is_bare(key), "its preface is spent");
    bench.say(&p, 30);
    bench.flush();
    bench.wait(HEARTBEAT * 2);
    assert!(socket.text().ends_with(comment(Coding::Chunked)) && bench.manager.is_bare(key), "its heartbeat is spent");
}

#[test]
fn memory_is_given_back_after_many_have_left() {
    let (mut bench, p) = Bench::with_project();
    let keys: Vec<_> = (0..1000).map(|_| bench.join(&p, &FakeSocket::open())).collect();
    let most = bench.manager.capacities(&p);
    for key in &keys[10..] {
        bench.manager.hangup(key.index());
    }
    bench.reap();
    let (streams, set) = bench.manager.capacities(&p);
    assert!(streams * 10 < most.0 && set * 10 < most.1, "{:?} of {most:?}", (streams, set));
}

/// Joins, leaves, broadcasts, slices, small rooms, late pages and time, in any order: each client has at every moment
/// the beginning of what it should have, heartbeats aside, and all of it in the end.
#[test]
fn whatever_happens_each_client_gets_everything_once_and_in_order() {
    for seed in 0..64 {
        simulate(seed);
    }
}

struct Client {
    key: StreamKey,
    socket: FakeSocket,
    project: ProjectId,
    after: u64,
    only_run: Option<RunNumber>,
    coding: Coding,
    /// Bytes that it had when it was last checked.
    checked: usize,
}

fn simulate(seed: u64) {
    let mut rng = Rng::new(seed);
    let mut bench = Bench::new();
    let projects = [id("p"), id("q")];
    projects.iter().for_each(|project| bench.open(project));
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..400 {
        let project = &projects[rng.below(2)];
        match rng.below(10) {
            0 if clients.len() < 12 => clients.push(join_somewhere(&mut bench, project, &mut rng)),
            1 if !clients.is_empty() => {
                let gone = clients.swap_remove(rng.below(clients.len()));
                bench.manager.hangup(gone.key.index());
            }
            2..=4 => {
                let of = [None, Some(run(1)), Some(run(2))][rng.below(3)];
                bench.keep(project, [20, 30, 400, 3000][rng.below(4)], of, false);
                bench.broadcast_kept(rng.below(4));
            }
            5 => drop(bench.manager.flush(rng.below(4), bench.now)),
            6 | 7 => {
                if let Some(client) = clients.get(rng.below(clients.len().max(1))) {
                    bench.make_room(client.key, &client.socket, [1, 7, 500, 20_000][rng.below(4)]);
                }
            }
            8 => drop(bench.turn_pages([1, 2000, 1 << 20][rng.below(3)])),
            _ => bench.wait(Duration::from_millis(rng.below(4000) as u64)),
        }
        let stalled = |client: &Client, bench: &mut Bench| bench.manager.socket_of(client.key).is_none();
        bench.reap();
        clients.retain(|client| !stalled(client, &mut bench));
        clients.iter_mut().for_each(|client| check_news(client, &bench, seed));
    }
    bench.broadcast_kept(usize::MAX);
    for _ in 0..10_000 {
        clients.iter().for_each(|client| bench.make_room(client.key, &client.socket, 1 << 20));
        bench.flush();
        if bench.turn_pages(1 << 20) == 0 {
            break;
        }
    }
    clients.iter().for_each(|client| check(client, &bench, seed, true));
}

fn join_somewhere(bench: &mut Bench, project: &ProjectId, rng: &mut Rng) -> Client {
    if !bench.manager.is_open(project) {
        // Nobody watched it for so long that it was let go.
        bench.open(project);
    }
    let newest = bench.newest_broadcast(project);
    let after = rng.below(newest as usize + 1) as u64;
    let only_run = rng.one_in(3).then(|| run(1));
    let coding = if rng.one_in(4) { Coding::UntilClose } else { Coding::Chunked };
    let socket = FakeSocket::with_room([0, 10, 1000, usize::MAX][rng.below(4)]);
    let key = bench.add(project, &socket, NewStream { after, only_run, coding, ..NewStream::default() });
    Client { key, socket, project: project.clone(), after, only_run, coding, checked: 0 }
}

fn check_news(client: &mut Client, bench: &Bench, seed: u64) {
    let length = client.socket.0.borrow().taken.len();
    if length != client.checked {
        client.checked = length;
        check(client, bench, seed, false);
    }
}

fn check(client: &Client, bench: &Bench, seed: u64, is_all: bool) {
    let expected = client.coding.encoded(bench.logs[&client.project].bytes(client.after, client.only_run));
    let expected = String::from_utf8_lossy(&expected);
    let comment = comment(client.coding);
    let got = client.socket.text().replace(comment, "");
    // The last heartbeat may not be whole.
    let is_begun = |n: &usize| got.ends_with(&comment[..*n]) && expected.starts_with(&got[..got.len() - n]);
    match is_all {
        true => assert!(got == expected, "seed {seed}: {} of {} bytes", got.len(), expected.len()),
        false => assert!((0..comment.len()).any(|n| is_begun(&n)), "seed {seed}: not what was said"),
    }
}
