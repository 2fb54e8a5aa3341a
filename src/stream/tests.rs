//! The manager with fake sockets: here what its tests have in common.

mod broadcasts;
mod bundle_simulation;
mod bundles;
mod ends;
mod lines;
mod paging;
mod projects;
mod retelling;
mod simulation;
mod with_items;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind, Write};
use std::num::NonZeroU64;
use std::rc::Rc;
use std::time::Duration;

use super::manager::BACKLOG_BYTES_MIN;
use super::paging::PAGES_IN_FLIGHT_MAX;
use super::subscriber::Stream;
use super::{CloseReason, ConnectionManager, Effect, Settings, Transport, control};
use crate::auth::{IdSigner, Instance, ServerKeys};
use crate::executor::testing::Rng;
use crate::formats::{Format, closing};
use crate::http::{Coding, contents, sse};
use crate::log::{Frames, Page, ResetReason, Resume, Row, RunNumber, StartingPosition, Subscription, View};
use crate::model::{Now, ProjectId, SlabKey, Timestamp};

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

fn signer() -> IdSigner {
    ServerKeys::derive(&[1; 32]).id_signer(Instance::from_random([1; 6]))
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
            let is_format = view.format().is_some();
            // What a format makes of a message is of no concern here.
            taken.append(&mut if is_format { bytes.to_vec() } else { view.of_events(bytes.to_vec()) });
            page.messages += 1;
            page.has_last = only_run.is_some() && is_last;
        }
        page.bytes = taken.into();
        page
    }
}

impl Log {
    /// What a run says after a position.
    fn row(&self, after: u64, run: RunNumber, bytes_max: usize) -> Row {
        let mut row = Row::after(after);
        for (seq, bytes, is_last) in self.mine(after, Some(run)) {
            row.bytes.extend_from_slice(bytes);
            row.mark(seq, is_last);
            if row.bytes.len() >= bytes_max {
                return row;
            }
        }
        row.up_to = self.newest().max(after);
        row
    }
}

/// A stream to be added.
#[derive(Default)]
struct NewStream {
    after: u64,
    preface: Vec<u8>,
    only_run: Option<RunNumber>,
    heartbeat_as_message: bool,
    view: View,
    coding: Coding,
    expires_at: Option<Timestamp>,
}

impl NewStream {
    fn parts(
        self,
        project: &ProjectId,
        socket: &FakeSocket,
    ) -> (Transport<FakeSocket>, Subscription, StartingPosition) {
        let Self { after, preface, only_run: run, heartbeat_as_message, view, coding, expires_at } = self;
        let transport = Transport { coding, preface, ..Transport::new(socket.clone()) };
        let wanted = Subscription { heartbeat_as_message, view, expires_at, ..Subscription::to(project.clone()) };
        let mut start = StartingPosition::new(project, after, Resume::Fresh);
        start.run = run;
        (transport, wanted, start)
    }
}

/// Where a stream begins again whose history is gone.
fn reset(project: &ProjectId, after: u64) -> StartingPosition {
    StartingPosition::new(project, after, Resume::Reset(ResetReason::Expired))
}

/// A manager, the time, and the logs of its projects.
struct Bench {
    manager: Manager,
    now: Now,
    logs: BTreeMap<ProjectId, Log>,
    /// What is in the log and has not been broadcast yet, though pages may have it.
    late: VecDeque<(ProjectId, Frames)>,
    /// What channels have asked for.
    rows: VecDeque<AskedRow>,
}

/// What a channel has asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct AskedRow {
    channel: SlabKey,
    project: ProjectId,
    run: RunNumber,
    after: u64,
}

impl Bench {
    fn new() -> Self {
        Self::with(settings())
    }

    fn with(settings: Settings) -> Self {
        let now = Now { mono: Duration::from_secs(1), wall: Timestamp::from_millis(1_700_000_000_000) };
        Self {
            manager: Manager::new(settings, signer(), 7),
            now,
            logs: BTreeMap::new(),
            late: VecDeque::new(),
            rows: VecDeque::new(),
        }
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

    fn add(&mut self, project: &ProjectId, socket: &FakeSocket, new: NewStream) -> SlabKey {
        let (transport, wanted, start) = new.parts(project, socket);
        let key = self.manager.add_sse(transport, &wanted, &start, self.now).expect("the project is open");
        self.manager.check_invariants();
        key
    }

    /// A stream after everything so far.
    fn join(&mut self, project: &ProjectId, socket: &FakeSocket) -> SlabKey {
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

    fn make_room(&mut self, key: SlabKey, socket: &FakeSocket, room: usize) {
        socket.add_room(room);
        self.manager.writable(key.index(), self.now);
        self.manager.check_invariants();
    }

    /// Answers every page asked for; how many those were.
    fn turn_pages(&mut self, bytes_max: usize) -> usize {
        let mut pages = 0;
        for effect in self.manager.take_effects(PAGES_IN_FLIGHT_MAX) {
            match effect {
                Effect::ReadPage { stream, project, after, only_run, view, bytes_max: granted } => {
                    pages += 1;
                    let page = self.logs[&project].page(after, only_run, view, bytes_max.min(granted));
                    self.manager.page(stream, page, self.now);
                    self.manager.check_invariants();
                }
                Effect::ReadRow { channel, project, run, after, .. } => {
                    self.rows.push_back(AskedRow { channel, project, run, after });
                }
                Effect::ReadItems { stream, project, after, .. } => {
                    pages += 1;
                    let page = items_page(&project, after);
                    self.manager.page(stream, page, self.now);
                    self.manager.check_invariants();
                }
                Effect::Unwatch(_) | Effect::IgnoreItems(_) => {}
            }
        }
        pages
    }

    /// Answers up to so many of the channels that have asked for something; how many those were.
    fn turn_rows(&mut self, count: usize, bytes_max: usize) -> usize {
        self.turn_pages(bytes_max);
        let asked: Vec<_> = self.rows.drain(..count.min(self.rows.len())).collect();
        for AskedRow { channel, project, run, after } in &asked {
            let row = self.logs[project].row(*after, *run, bytes_max);
            self.manager.row(*channel, &row, self.now);
            self.manager.check_invariants();
        }
        asked.len()
    }

    /// Until nobody lacks anything that can be had.
    fn catch_up(&mut self) {
        loop {
            self.flush();
            if self.turn_pages(1 << 20) + self.turn_rows(usize::MAX, 1 << 20) == 0 {
                return;
            }
        }
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

/// How the items are, as a stream is told.
fn items_page(project: &ProjectId, after: u64) -> Page {
    let mut bytes = Vec::new();
    sse::write_event(&mut bytes, None, None, format!("items of {project} at {after}").as_bytes());
    Page { bytes: bytes.into(), messages: 1, up_to: after, has_last: false }
}

/// A heartbeat, as a stream is sent it.
fn comment(coding: Coding) -> &'static str {
    match coding {
        Coding::Chunked => "2\r\n:\n\r\n",
        Coding::UntilClose => ":\n",
    }
}
