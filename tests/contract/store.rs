//! The data directory: what is refused at the start, what happens if the disk is full, and how history is limited.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, Signal, prlimit};
use serde_json::{Value, json};

use crate::common::client::{Request, Response};
use crate::common::random::noise;
use crate::common::server::{Server, Setup, TempDirectory};
use crate::common::stream::{Event, Sse};
use crate::common::wait_for;

const STREAM: &str = "/api/sse/projects/p";
const EVENTS: &str = "/api/projects/p/events";

/// Where SQLite keeps the `user_version` of a file.
const USER_VERSION_AT: u64 = 60;

/// Calls until the disk counts as never full: far more than fit.
const CALLS_MAX: u64 = 1000;

pub fn kept(directory: &TempDirectory) -> Setup {
    Setup::default().data(&directory.join("data"))
}

fn database(directory: &TempDirectory) -> PathBuf {
    directory.join("data").join("stepcast.db")
}

fn stop(mut server: Server) {
    server.signal(Signal::TERM);
    assert_eq!(server.wait(), Some(0));
}

/// A directory with something in it, that no server uses.
fn used_directory() -> TempDirectory {
    let directory = TempDirectory::new();
    let server = kept(&directory).start();
    assert_eq!(publish(&server, 1, 10).status, 202);
    stop(server);
    directory
}

fn assert_refuses(data: &Path, names: &Path, why: &str) {
    let (status, said) = Setup::default().data(data).launch().refusal();
    assert_eq!(status, Some(1), "{said}");
    let path = names.to_str().expect("plain characters");
    assert!(said.contains(why) && said.contains(path), "{why:?} of {path} in {said:?}");
    assert_eq!(said.lines().filter(|line| line.starts_with("stepcast: ")).count(), 1, "one sentence: {said}");
    assert!(!said.contains("panicked"), "{said}");
}

/// Publishes a message that says `n` and is about so large.
fn publish(server: &Server, n: u64, bytes: usize) -> Response {
    server.post(EVENTS, &json!({"type": "note", "payload": {"n": n, "text": noise(n, bytes)}}))
}

fn id_of(answer: &Response) -> String {
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.json()["ids"][0].as_str().expect("an id").to_owned()
}

fn resumed(server: &Server, id: &str) -> Sse {
    server.stream_of(Request::get(STREAM).header("Last-Event-ID", id))
}

#[test]
fn a_directory_in_use_is_refused_and_its_user_goes_on() {
    let directory = TempDirectory::new();
    let data = directory.join("data");
    let server = kept(&directory).start();
    assert_refuses(&data, &data, "in use by another stepcast");
    assert_eq!(publish(&server, 1, 10).status, 202);
    server.kill();
    kept(&directory).start();
}

#[test]
fn what_is_no_directory_or_cannot_be_made_is_refused() {
    let directory = TempDirectory::new();
    let file = directory.join("file");
    fs::write(&file, "something of the user's").expect("a file");
    assert_refuses(&file, &file, "is not a directory");
    assert_eq!(fs::read(&file).expect("still there"), b"something of the user's");
    let below = file.join("below");
    assert_refuses(&below, &below, "cannot create the directory");
    let unmakeable = Path::new("/proc/stepcast-data");
    assert_refuses(unmakeable, unmakeable, "cannot create the directory");
}

#[test]
fn a_damaged_file_is_refused_and_left_as_it_is() {
    let directory = used_directory();
    let path = database(&directory);
    let whole = fs::read(&path).expect("the database");
    for damaged in [vec![b'?'; 8192], whole[..whole.len() / 2].to_vec()] {
        fs::write(&path, &damaged).expect("written");
        assert_refuses(&directory.join("data"), &path, "is damaged");
        assert_eq!(fs::read(&path).expect("the database"), damaged);
    }
    fs::write(&path, &whole).expect("written");
    let server = kept(&directory).start();
    assert_eq!(publish(&server, 2, 10).status, 202, "the backup in its place is good");
}

#[test]
fn a_file_of_a_later_format_is_refused() {
    let directory = used_directory();
    let path = database(&directory);
    let file = fs::OpenOptions::new().write(true).open(&path).expect("the database");
    file.write_all_at(&999_u32.to_be_bytes(), USER_VERSION_AT).expect("written");
    assert_refuses(&directory.join("data"), &path, "was written by a newer stepcast");
}

/// The files of the process may grow so far; none is as far as they like.
pub fn limit_files(server: &Server, bytes: Option<u64>) {
    let limit = Rlimit { current: bytes, maximum: None };
    prlimit(Some(server.pid()), Resource::Fsize, limit).expect("a limit for a process of one's own");
}

fn bytes_of(directory: &TempDirectory, name: &str) -> u64 {
    fs::metadata(directory.join("data").join(name)).map_or(0, |file| file.len())
}

/// Lets no file of the data directory grow.
pub fn fill_disk(server: &Server, directory: &TempDirectory) {
    let largest = ["stepcast.db", "stepcast.db-wal"].iter().map(|name| bytes_of(directory, name)).max();
    limit_files(server, largest);
}

/// Publishes until it is refused; the ids of what was taken, and the number that was refused.
pub fn publish_until_full(server: &Server, taken: &mut Vec<(u64, String)>) -> u64 {
    for n in 1..CALLS_MAX {
        let answer = publish(server, n, 20_000);
        if answer.status == 503 {
            assert_eq!(answer.code(), "store_unavailable");
            return n;
        }
        taken.push((n, id_of(&answer)));
    }
    panic!("the disk is never full");
}

fn told(events: &[Event]) -> Vec<(u64, String)> {
    let notes = events.iter().filter(|event| event.kind() == "note");
    notes.map(|event| (event.message["payload"]["n"].as_u64().expect("a number"), event.id().to_owned())).collect()
}

#[test]
fn a_full_disk_refuses_what_is_new_keeps_what_is_there_and_heals() {
    let directory = TempDirectory::new();
    let server = kept(&directory).flags(&["--sse-heartbeat", "50ms"]).start();
    let mut watching = server.stream(STREAM);
    let start = watching.next().expect("connected").id().to_owned();
    let mut taken = vec![(0, id_of(&publish(&server, 0, 10)))];
    fill_disk(&server, &directory);
    let refused = publish_until_full(&server, &mut taken);

    assert_eq!(server.get("/readyz").status, 503);
    assert_eq!(server.get("/healthz").status, 200);
    assert_eq!(told(&watching.take(taken.len())), taken, "streams go on");
    assert!(watching.block().is_some(), "a heartbeat comes");
    let replayed = resumed(&server, &start).take(taken.len() + 1);
    assert_eq!(told(&replayed), taken, "what was taken can be read, and nothing that was not");
    assert_eq!(server.get("/api/projects/p/workflows").status, 200);

    limit_files(&server, None);
    wait_for("room", || (server.get("/readyz").status == 200).then_some(()));
    for n in refused + 1..refused + 4 {
        taken.push((n, id_of(&publish(&server, n, 10))));
    }
    server.kill();
    let server = kept(&directory).start();
    let all = resumed(&server, &start).take(taken.len() + 1);
    assert_eq!(told(&all), taken, "in history is what was taken, once");
    let seqs: Vec<u64> = all.iter().map(Event::seq).collect();
    assert_eq!(seqs, (0..=taken.len() as u64).collect::<Vec<_>>(), "a refused message leaves no gap");
}

#[test]
fn a_run_outlasts_a_full_disk() {
    let directory = TempDirectory::new();
    let gate = directory.join("gate");
    let script = format!("until [ -e '{}' ]; do sleep 0.01; done; touch '{0}.passed'", gate.display());
    let config = format!("[tools.gated]\nkind = \"command\"\nargv = [\"sh\", \"-c\", \"{script}\"]\n");
    let server = kept(&directory).config(&config).start();
    let steps = json!([{"id": "a", "tool": "gated"}, {"id": "b", "tool": "echo", "dependencies": ["a"]}]);
    let run = server.submit("p", &json!({"name": "n", "steps": steps}));
    let mut stream = server.stream(&format!("{STREAM}?runId={run}"));
    stream.until(|message| message["payload"]["status"] == "running");
    fill_disk(&server, &directory);
    publish_until_full(&server, &mut Vec::new());

    fs::write(&gate, "").expect("a file");
    wait_for("the step's end", || gate.with_extension("passed").exists().then_some(()));
    let refused = server.post("/api/projects/p/workflows", &json!({"name": "n", "steps": steps}));
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(server.get(&format!("/api/projects/p/workflows/{run}")).json()["status"], "running");

    limit_files(&server, None);
    let rest = stream.rest();
    let kinds: Vec<&str> = rest.iter().map(Event::kind).collect();
    let expected = [
        "workflow_progress",
        "workflow_level_completed",
        "workflow_level_started",
        "workflow_progress",
        "workflow_progress",
        "workflow_level_completed",
        "workflow_completed",
    ];
    assert_eq!(kinds, expected);
}

#[test]
fn history_beyond_its_bounds_goes_but_a_listed_runs_first_and_last_message() {
    let directory = TempDirectory::new();
    let server = kept(&directory).flags(&["--history-messages", "100"]).start();
    let run = server.submit("p", &json!({"name": "n", "steps": [{"id": "a", "tool": "echo"}]}));
    let whole = server.messages("p", &run);
    let old = id_of(&publish(&server, 0, 10));
    for _ in 0..5 {
        let notes: Vec<Value> = (0..100).map(|n| json!({"type": "note", "payload": {"n": n}})).collect();
        assert_eq!(server.post(EVENTS, &json!(notes)).status, 202);
    }
    let check = |server: &Server| {
        let page = server.get(&format!("/api/projects/p/workflows/{run}/events")).json();
        let kinds: Vec<&Value> = page["events"].as_array().expect("a list").iter().map(|it| &it["type"]).collect();
        assert_eq!(kinds, ["workflow_started", "workflow_completed"]);
        let ended = server.get(&format!("/api/projects/p/workflows/{run}")).json();
        assert_eq!((&ended["status"], whole.len()), (&json!("completed"), 6));
    };
    check(&server);
    server.kill();
    let server = kept(&directory).flags(&["--history-messages", "100"]).start();
    check(&server);
    let events = resumed(&server, &old).take(3);
    let kinds: Vec<&str> = events.iter().map(Event::kind).collect();
    assert_eq!(kinds, ["connected", "stream_reset", "workflow_snapshot"], "{events:#?}");
    assert_eq!(events[1].message["payload"]["reason"], "expired");
    assert_eq!(events[2].message["payload"]["runId"], run.as_str());
}

#[test]
fn the_file_shrinks_when_history_does() {
    const LARGE: u64 = 8 << 20;
    let directory = TempDirectory::new();
    let server = kept(&directory).start();
    let ids: Vec<String> = (0..100).map(|n| id_of(&publish(&server, n, 100_000))).collect();
    stop(server);
    assert!(bytes_of(&directory, "stepcast.db") > LARGE);
    let server = kept(&directory).flags(&["--history-messages", "10"]).start();
    // It shrinks little by little, with each thing that is written.
    let newer: Vec<String> = (0..100).map(|n| id_of(&publish(&server, n, 10))).collect();
    assert_eq!(resumed(&server, &newer[98]).take(2)[1].seq(), 200);
    assert_eq!(resumed(&server, &ids[99]).take(2)[1].kind(), "stream_reset");
    stop(server);
    let left = bytes_of(&directory, "stepcast.db");
    assert!(left < LARGE / 4, "{left} bytes are left");
}
