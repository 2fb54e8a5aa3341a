//! Streams of several projects.

use std::sync::Arc;

use super::*;
use crate::stream::BundleSubscription;

/// The projects of a bench that a stream is of, by their names.
fn ids(names: &[&str]) -> Vec<ProjectId> {
    names.iter().map(|name| id(name)).collect()
}

/// A bench with these projects open.
pub(super) fn bench_of(projects: &[ProjectId]) -> Bench {
    let mut bench = Bench::new();
    projects.iter().for_each(|project| bench.open(project));
    bench
}

/// A stream of these projects, each from this position on.
pub(super) fn add(bench: &mut Bench, starts: &[(ProjectId, u64)], socket: &FakeSocket, coding: Coding) -> SlabKey {
    let transport = Transport { coding, ..Transport::new(socket.clone()) };
    let parts = starts.iter().map(|(project, _)| Arc::new(Subscription::to(project.clone()))).collect();
    let wanted = BundleSubscription { parts, forbidden: Vec::new() };
    let start = |(project, after): &(ProjectId, u64)| StartingPosition::new(project, *after, Resume::Resumed);
    let starts: Vec<_> = starts.iter().map(start).collect();
    let key = bench.manager.begin_bundle(transport, &wanted, &starts, bench.now).expect("all are open");
    bench.manager.check_invariants();
    key
}

/// One after everything so far.
fn join(bench: &mut Bench, projects: &[ProjectId], socket: &FakeSocket) -> SlabKey {
    let starts: Vec<_> = projects.iter().map(|project| (project.clone(), bench.logs[project].newest())).collect();
    let key = add(bench, &starts, socket, Coding::Chunked);
    socket.take_text();
    key
}

/// What a stream of several projects was sent: the data of each event, and where it is by the id of each.
pub(super) struct Told {
    /// Ids, each with its data.
    pub(super) events: Vec<(String, String)>,
}

impl Told {
    /// The whole events among the bytes that came.
    pub(super) fn read(text: &str, coding: Coding) -> Self {
        let text = match coding {
            Coding::Chunked => String::from_utf8(contents(text.as_bytes())).expect("text"),
            Coding::UntilClose => text.to_owned(),
        };
        let whole = text.rfind("\n\n").map_or("", |end| &text[..end]);
        let field = |event: &str, name: &str| {
            let line = event.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().to_owned()
        };
        let event = |event: &str| (field(event, "id: "), field(event, "data: "));
        Self { events: whole.split("\n\n").filter(|event| event.contains("data: ")).map(event).collect() }
    }

    /// Where the `n`th event leaves the stream in a project.
    fn position(&self, n: usize, project: &ProjectId) -> Option<u64> {
        signer().read(&self.events[n].0, project).ok().map(|id| id.seq())
    }
}

/// What a log's message says.
fn data(bench: &Bench, project: &ProjectId, seq: u64) -> String {
    let (bytes, ..) = &bench.logs[project].messages[seq as usize - 1];
    let block = contents(bytes);
    String::from_utf8_lossy(sse::data(&block)).into_owned()
}

/// How far what a stream was told has been checked.
pub(super) struct Checked {
    pub(super) bytes: usize,
    events: usize,
    /// Where that leaves it in each project.
    pub(super) at: Vec<u64>,
}

impl Checked {
    pub(super) fn before(starts: &[(ProjectId, u64)]) -> Self {
        Self { bytes: 0, events: 0, at: starts.iter().map(|(_, after)| *after).collect() }
    }

    /// The law of such a stream: each event moves it on by one message of one project and has what that says; none of
    /// another, none twice, none left out.
    pub(super) fn go_on(&mut self, bench: &Bench, told: &Told, starts: &[(ProjectId, u64)], why: &str) {
        let signer = signer();
        let tags: Vec<_> = starts.iter().map(|(project, _)| signer.tag(project)).collect();
        for (n, (event_id, event)) in told.events.iter().enumerate().skip(self.events) {
            self.events = n + 1;
            if event.contains("\"type\":") {
                assert!(event_id.is_empty() || n == 0, "{why}: only the first of what is told of the stream has an id");
                continue;
            }
            let id = signer.read_positions(event_id).expect("a genuine id");
            let now: Vec<_> = tags.iter().map(|tag| id.of(*tag).expect("all are named").seq()).collect();
            let moved: Vec<_> = (0..tags.len()).filter(|&part| now[part] != self.at[part]).collect();
            assert_eq!(moved.len(), 1, "{why}: event {n} moves one project on: {:?} to {now:?}", self.at);
            let (part, project) = (moved[0], &starts[moved[0]].0);
            assert_eq!(now[part], self.at[part] + 1, "{why}: event {n} of {project}");
            assert_eq!(*event, data(bench, project, now[part]), "{why}: event {n}");
            self.at = now;
        }
    }
}

/// Checks all that a stream was told. Where it is in the end.
fn check_told(bench: &Bench, told: &Told, starts: &[(ProjectId, u64)], why: &str) -> Vec<u64> {
    let mut checked = Checked::before(starts);
    checked.go_on(bench, told, starts, why);
    checked.at
}

#[test]
fn each_project_is_announced_and_the_first_id_names_all_positions() {
    let projects = ids(&["a", "b", "c"]);
    let mut bench = bench_of(&projects);
    bench.say(&projects[1], 30);
    let socket = FakeSocket::open();
    let parts = projects.iter().map(|project| Arc::new(Subscription::to(project.clone()))).collect();
    let wanted = BundleSubscription { parts, forbidden: vec![id("z")] };
    let starts = [
        StartingPosition::new(&projects[0], 0, Resume::Fresh),
        StartingPosition::new(&projects[1], 1, Resume::Resumed),
        reset(&projects[2], 0),
    ];
    bench.manager.begin_bundle(Transport::new(socket.clone()), &wanted, &starts, bench.now).expect("open");
    let told = Told::read(&socket.text(), Coding::Chunked);
    let said: Vec<_> = told.events.iter().map(|(_, data)| data.as_str()).collect();
    assert_eq!(
        said,
        [
            r#"{"type":"connected","projectId":"a","seq":0,"payload":{"resume":"fresh","heartbeat":15000}}"#,
            r#"{"type":"connected","projectId":"b","seq":1,"payload":{"resume":"resumed","heartbeat":15000}}"#,
            r#"{"type":"connected","projectId":"c","seq":0,"payload":{"resume":"reset","heartbeat":15000}}"#,
            r#"{"type":"stream_reset","projectId":"c","seq":0,"payload":{"reason":"expired"}}"#,
            r#"{"type":"stream_closing","projectId":"z","seq":0,"payload":{"reason":"forbidden"}}"#,
        ]
    );
    assert_eq!(told.position(0, &projects[0]), Some(0));
    assert_eq!(told.position(0, &projects[1]), Some(1));
    assert!(told.events[1..].iter().all(|(id, _)| id.is_empty()));
    assert!(socket.text().contains("retry: 2000\nid: "), "the first block has all");
}

#[test]
fn what_any_project_says_goes_to_all_who_watch_it_by_the_same_bytes() {
    let projects = ids(&["a", "b"]);
    let mut bench = bench_of(&projects);
    let sockets: Vec<_> = (0..3).map(|_| FakeSocket::open()).collect();
    let keys: Vec<_> = sockets.iter().map(|socket| join(&mut bench, &projects, socket)).collect();
    assert!(keys.iter().all(|key| bench.manager.is_bare(*key)), "they weigh their slab entry alone");
    bench.say(&projects[0], 30);
    bench.say(&projects[1], 30);
    bench.say(&projects[0], 30);
    bench.flush();
    let text = sockets[0].text();
    let starts: Vec<_> = projects.iter().map(|project| (project.clone(), 0)).collect();
    assert_eq!(check_told(&bench, &Told::read(&text, Coding::Chunked), &starts, "first"), [2, 1]);
    assert!(sockets.iter().all(|socket| socket.text() == text));
    assert!(sockets.iter().all(|socket| socket.writes() == 2), "one write for all that there was");
    assert!(keys.iter().all(|key| bench.manager.is_bare(*key)));
}

#[test]
fn a_stream_counts_for_each_of_its_projects_while_it_is_there() {
    let projects = ids(&["a", "b"]);
    let mut bench = bench_of(&projects);
    let key = join(&mut bench, &projects, &FakeSocket::open());
    assert_eq!(bench.manager.take_recounted(), [(id("a"), 1), (id("b"), 1)]);
    bench.wait(2 * LINGER);
    assert!(bench.manager.is_open(&projects[1]), "watched");
    bench.manager.hangup(key.index());
    assert_eq!(bench.reap(), [CloseReason::ClientGone]);
    assert_eq!((bench.manager.subscribers(&projects[0]), bench.manager.subscribers(&projects[1])), (0, 0));
    bench.wait(2 * LINGER);
    assert!(!bench.manager.is_open(&projects[1]));
}

#[test]
fn one_that_takes_nothing_is_behind_in_each_of_its_projects() {
    let projects = ids(&["a", "b"]);
    let mut bench = bench_of(&projects);
    let socket = FakeSocket::open();
    let key = join(&mut bench, &projects, &socket);
    socket.0.borrow_mut().room = 0;
    bench.say(&projects[0], 1000);
    bench.flush();
    assert!(projects.iter().all(|project| bench.manager.is_congested(project, bench.now)));
    bench.make_room(key, &socket, 1 << 20);
    assert!(projects.iter().all(|project| !bench.manager.is_congested(project, bench.now)));
}

#[test]
fn one_that_was_slow_gets_all_of_it_later() {
    let projects = ids(&["a", "b"]);
    let mut bench = bench_of(&projects);
    let (slow, quick) = (FakeSocket::with_room(1000), FakeSocket::open());
    let starts: Vec<_> = projects.iter().map(|project| (project.clone(), 0)).collect();
    let key = add(&mut bench, &starts, &slow, Coding::Chunked);
    join(&mut bench, &projects, &quick);
    slow.0.borrow_mut().room = 0;
    for _ in 0..40 {
        bench.say(&projects[0], 1000);
        bench.say(&projects[1], 1000);
        bench.flush();
    }
    for _ in 0..1000 {
        bench.make_room(key, &slow, 3000);
        bench.turn_pages(5000);
    }
    let at = check_told(&bench, &Told::read(&slow.text(), Coding::Chunked), &starts, "slow");
    assert_eq!(at, [40, 40], "also what had left the backlogs");
    assert!(bench.manager.is_bare(key), "it has joined the others again");
}

#[test]
fn who_comes_from_elsewhere_joins_the_others_in_mid_round() {
    let projects = ids(&["a", "b"]);
    let mut bench = bench_of(&projects);
    let sockets: Vec<_> = (0..3).map(|_| FakeSocket::open()).collect();
    for socket in &sockets {
        join(&mut bench, &projects, socket);
    }
    bench.say(&projects[0], 30);
    assert!(bench.manager.flush(1, bench.now), "one of three has had its turn");
    bench.say(&projects[1], 30);
    let starts = [(id("a"), 0), (id("b"), 1)];
    let late = FakeSocket::open();
    let key = add(&mut bench, &starts, &late, Coding::Chunked);
    bench.flush();
    assert_eq!(check_told(&bench, &Told::read(&late.text(), Coding::Chunked), &starts, "late"), [1, 1]);
    assert!(bench.manager.is_bare(key));
    let at_first = [(id("a"), 0), (id("b"), 0)];
    for socket in &sockets {
        assert_eq!(check_told(&bench, &Told::read(&socket.text(), Coding::Chunked), &at_first, "others"), [1, 1]);
    }
}

/// Nobody had joined when it came, so that no round had to bring it; but who was apart and had had its turn was to have it.
#[test]
fn what_came_in_mid_round_was_kept_from_who_was_ahead_of_the_others() {
    let projects = ids(&["a", "b"]);
    let mut bench = bench_of(&projects);
    let (joined, ahead) = (FakeSocket::open(), FakeSocket::open());
    let gone = join(&mut bench, &projects, &joined);
    bench.say(&projects[0], 30);
    let starts = [(id("a"), 1), (id("b"), 0)];
    add(&mut bench, &starts, &ahead, Coding::Chunked);
    assert!(bench.manager.flush(1, bench.now));
    bench.manager.hangup(gone.index());
    bench.reap();
    bench.say(&projects[1], 30);
    bench.flush();
    assert_eq!(check_told(&bench, &Told::read(&ahead.text(), Coding::Chunked), &starts, "ahead"), [1, 1]);
}

#[test]
fn history_that_is_gone_resets_that_project_alone() {
    let projects = ids(&["a", "b"]);
    let mut bench = bench_of(&projects);
    (0..40).for_each(|_| bench.say(&projects[0], 1000));
    bench.say(&projects[1], 30);
    let socket = FakeSocket::open();
    let starts = [(id("a"), 0), (id("b"), 0)];
    let key = add(&mut bench, &starts, &socket, Coding::Chunked);
    let effects = bench.manager.take_effects(PAGES_IN_FLIGHT_MAX);
    let [Effect::ReadPage { project, after: 0, .. }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(*project, projects[0]);
    bench.manager.skip(key, &reset(&projects[0], 40), bench.now);
    let told = Told::read(&socket.text(), Coding::Chunked);
    let resets: Vec<_> = told.events.iter().filter(|(_, event)| event.contains("stream_reset")).collect();
    assert!(matches!(resets[..], [(id, event)] if id.is_empty() && event.contains(r#""projectId":"a","seq":40"#)));
    bench.say(&projects[1], 30);
    bench.flush();
    let told = Told::read(&socket.text(), Coding::Chunked);
    let last = told.events.len() - 1;
    assert_eq!((told.position(last, &projects[0]), told.position(last, &projects[1])), (Some(40), Some(2)));
    assert!(bench.manager.is_bare(key));
}

#[test]
fn a_shutdown_tells_of_each_project_with_one_time_to_come_back() {
    let projects = ids(&["a", "b"]);
    let mut bench = bench_of(&projects);
    bench.say(&projects[1], 30);
    let socket = FakeSocket::open();
    join(&mut bench, &projects, &socket);
    bench.manager.close_all(CloseReason::Shutdown, bench.now);
    let text = socket.text();
    let told = Told::read(&text, Coding::Chunked);
    let said: Vec<_> = told.events.iter().map(|(_, data)| data.as_str()).collect();
    assert_eq!(
        said,
        [
            r#"{"type":"stream_closing","projectId":"a","seq":0,"payload":{"reason":"shutdown"}}"#,
            r#"{"type":"stream_closing","projectId":"b","seq":1,"payload":{"reason":"shutdown"}}"#,
        ]
    );
    assert!(text.ends_with("0\r\n\r\n") && text.matches("retry: ").count() == 1);
}

#[test]
fn streams_of_the_same_projects_share_whatever_their_number() {
    let projects: Vec<_> = (0..32).map(|n| id(&format!("p{n}"))).collect();
    let mut bench = bench_of(&projects);
    let sockets: Vec<_> = (0..20).map(|_| FakeSocket::open()).collect();
    for socket in &sockets {
        join(&mut bench, &projects, socket);
    }
    for project in &projects {
        bench.say(project, 30);
    }
    bench.flush();
    let back: Vec<_> = (0..20).map(|_| FakeSocket::open()).collect();
    let starts: Vec<_> = projects.iter().map(|project| (project.clone(), 0)).collect();
    for socket in &back {
        add(&mut bench, &starts, socket, Coding::Chunked);
        assert_eq!(check_told(&bench, &Told::read(&socket.text(), Coding::Chunked), &starts, "back"), [1; 32]);
    }
    bench.wait(Duration::from_secs(2));
    assert_eq!(bench.manager.backlog_memory().0, 32);
}

/// Where each of many streams is of other projects, each has a channel, its 32 projects' places there, and its own place
/// among the channels of each of these: 96 + 8 + 144 + 32 + 144 + 28 bytes on 80 for the stream are half a KiB.
#[test]
fn a_channel_is_small() {
    use crate::stream::channel::Channel;
    assert!(size_of::<Channel>() <= 96, "{}", size_of::<Channel>());
}
