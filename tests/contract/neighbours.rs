//! Neighbours: a client that asks for much does not delay one that asks for little.
//!
//! Nothing here is measured in time. If a client does not read what it asked for, the response never ends, and
//! everything that others want must be done meanwhile. If it does read, the order shows it: what is small and was asked
//! for later is answered before the last of what is large. And the [system tells](threads) which thread has read how
//! much for it.

mod outage;
mod threads;

use rustix::process::Signal;
use serde_json::{Value, json};

use self::threads::Threads;
use crate::common::client::{Connection, Request, Response};
use crate::common::server::{Server, Setup, TempDirectory};
use crate::common::wait_for;

const MEBIBYTE: u64 = 1 << 20;

/// Bytes of a large output: more than all buffers on the way to a client hold. Its last line does not end, for a newline
/// there is none of the output.
const OUTPUT_BYTES: u64 = 8 * MEBIBYTE - 1;

/// Bytes of a line of it.
const LINE_BYTES: u64 = 64;

/// What others do meanwhile makes the writer read so much at most: not a part of any large thing.
const LITTLE_BYTES: u64 = MEBIBYTE;

/// Tools that print lines of 64 bytes, so many bytes of them; and one that does nothing for as long as it may.
const TOOLS: &str = r#"
[tools.print]
kind = "command"
argv = ["sh", "-c", "yes '...............................................................' | head -c $1", "print", "{{ inputs.bytes }}"]

[tools.print_and_stay]
kind = "command"
argv = ["sh", "-c", "yes '...............................................................' | head -c $1; exec sleep 600", "print", "{{ inputs.bytes }}"]

[tools.wait]
kind = "command"
argv = ["sleep", "600"]
"#;

fn start(directory: &TempDirectory, flags: &[&str]) -> Server {
    let long = ["--sse-stall-timeout", "1h", "--executor-grace", "100ms"];
    Setup::default().data(&directory.join("data")).config(TOOLS).flags(&[&long[..], flags].concat()).start()
}

fn publish(server: &Server, project: &str) -> Response {
    server.post(&format!("/api/projects/{project}/events"), &json!({"type": "note", "payload": {}}))
}

fn run_path(project: &str, run: &str) -> String {
    format!("/api/projects/{project}/workflows/{run}")
}

/// Has `steps` steps print a large output each, and waits until that is kept; the path of the run.
fn print(server: &Server, tool: &str, steps: usize, bytes: u64) -> String {
    let step = |n| json!({"id": format!("s{n}"), "tool": tool, "inputs": {"bytes": bytes}});
    let steps: Vec<Value> = (0..steps).map(step).collect();
    let run = server.submit("large", &json!({"name": "large", "steps": steps}));
    let path = run_path("large", &run);
    let whole = format!("bytes {}-{}/{bytes}", bytes - 1, bytes - 1);
    for n in 0..steps.len() {
        let last = Request::get(&format!("{path}/steps/s{n}/output")).header("Range", "bytes=-1");
        wait_for(&whole, || (server.call(last.clone()).header("Content-Range") == Some(&whole)).then_some(()));
    }
    path
}

/// A server over a run that has ended, with large outputs of so many steps, and the path of the run. It was started anew, so
/// that nothing of them is in anyone's memory, or is still to be moved to its place on disk.
fn start_behind_outputs(directory: &TempDirectory, steps: usize) -> (Server, String) {
    let mut server = start(directory, &[]);
    let path = print(&server, "print", steps, OUTPUT_BYTES);
    wait_for("the run's end", || {
        (server.get(&format!("{path}?outputs=cut")).json()["status"] == "completed").then_some(())
    });
    server.signal(Signal::TERM);
    assert_eq!(server.wait(), Some(0));
    (start(directory, &[]), path)
}

/// Asks for the same on so many connections, none of which is read.
fn ask(server: &Server, count: usize, request: &Request) -> Vec<Connection> {
    let asked = (0..count).map(|_| {
        let mut connection = Connection::open_narrow(server.address);
        connection.write(&request.bytes(server.address));
        connection
    });
    asked.collect()
}

/// What others want meanwhile is done: a publish, a question how the server is, the end of a step that has taken its time,
/// a cancel, a read.
fn assert_others_are_served(server: &Server) {
    assert_eq!(publish(server, "other").status, 202);
    assert_eq!(server.get("/healthz").status, 200);
    let begin = |step: Value| run_path("other", &server.submit("other", &json!({"name": "other", "steps": [step]})));
    let wait_until = |path: &str, status: &str| {
        wait_for(status, || (server.get(path).json()["steps"][0]["status"] == status).then_some(()));
    };
    let late = begin(json!({"id": "a", "tool": "wait", "timeout": 1}));
    wait_until(&late, "failed");
    let unwanted = begin(json!({"id": "a", "tool": "wait"}));
    wait_until(&unwanted, "running");
    let cancel = server.post(&format!("{unwanted}/cancel"), &Value::Null);
    assert_eq!(cancel.status, 202, "{cancel:?}");
    wait_until(&unwanted, "cancelled");
}

/// Two publishes, one after the other, are both answered before the last of `asked` is. The second one comes after
/// everything that the writing thread did before it took it.
fn assert_publishes_go_ahead(server: &Server, asked: &[Connection]) {
    // The loop has read what it was asked for before.
    assert_eq!(server.get("/healthz").status, 200);
    for _ in 0..2 {
        assert_eq!(publish(server, "other").status, 202);
    }
    // And has written what it was handed before the answer to the last publish.
    assert_eq!(server.get("/healthz").status, 200);
    let answered = asked.iter().filter(|connection| connection.has_news()).count();
    assert!(answered < asked.len(), "two publishes took their turn behind {answered} large answers");
}

#[test]
fn ranges_of_a_running_output_are_read_alone_and_not_by_whoever_writes() {
    const RANGES: u64 = 16;
    // More than whoever wrote it still has in memory.
    const RUNNING_BYTES: u64 = 40 * MEBIBYTE - 1;
    let directory = TempDirectory::new();
    let server = start(&directory, &[]);
    let path = print(&server, "print_and_stay", 1, RUNNING_BYTES) + "/steps/s0/output";
    let threads = Threads::watch(&server);
    for n in 0..RANGES {
        let from = n * (RUNNING_BYTES / RANGES / LINE_BYTES) * LINE_BYTES;
        let range = format!("bytes={}-{}", from + LINE_BYTES - 4, from + LINE_BYTES + 3);
        let part = server.call(Request::get(&path).header("Range", &range));
        assert_eq!((part.status, part.text().as_str()), (206, "...\n...."), "{range}");
    }
    let (writer, all) = (threads.read_by_writer(), threads.read_by_all());
    assert!(writer < LITTLE_BYTES, "whoever writes has read {writer} bytes for {RANGES} ranges");
    assert!(all < RUNNING_BYTES, "{all} bytes were read for {RANGES} ranges of 8");
}

#[test]
fn a_run_with_large_outputs_is_not_read_by_whoever_writes_and_others_are_served_while_it_is_not_taken() {
    const STEPS: usize = 3;
    let directory = TempDirectory::new();
    let (server, path) = start_behind_outputs(&directory, STEPS);
    let threads = Threads::watch(&server);
    let mut asked = ask(&server, 2, &Request::get(&path));
    assert_others_are_served(&server);
    for connection in &mut asked {
        let run = connection.response(false).expect("an answer");
        let run = run.json();
        let output = run["steps"][1]["output"].as_str().expect("a text");
        assert_eq!((run["status"].as_str(), output.len() as u64), (Some("completed"), OUTPUT_BYTES));
    }
    let writer = threads.read_by_writer();
    assert!(writer < LITTLE_BYTES, "whoever writes has read {writer} bytes");
}

#[test]
fn a_download_is_read_as_it_is_taken_and_others_are_served_while_it_is_not() {
    const CLIENTS: usize = 6;
    let directory = TempDirectory::new();
    let (server, run) = start_behind_outputs(&directory, 1);
    let path = run + "/steps/s0/output";
    let threads = Threads::watch(&server);
    let mut asked = ask(&server, CLIENTS, &Request::get(&path));
    let heads: Vec<Response> = asked.iter_mut().map(|connection| connection.head().expect("an answer")).collect();
    assert_others_are_served(&server);
    let all = threads.read_by_all();
    let most = CLIENTS as u64 * OUTPUT_BYTES / 2;
    assert!(all < most, "{all} bytes were read for {CLIENTS} who take nothing");
    for (head, connection) in heads.iter().zip(&mut asked) {
        assert_eq!(head.header("Content-Length"), Some(OUTPUT_BYTES.to_string().as_str()), "{head:?}");
        let body = connection.exactly(OUTPUT_BYTES as usize);
        assert!(body.chunks_exact(LINE_BYTES as usize).all(|line| line.ends_with(b".\n") && line[0] == b'.'));
    }
    let writer = threads.read_by_writer();
    assert!(writer < LITTLE_BYTES, "whoever writes has read {writer} bytes");
}

#[test]
fn attaches_to_long_runs_let_publishes_go_ahead() {
    const RUNS: usize = 16;
    const STEPS: usize = 5000;
    let directory = TempDirectory::new();
    let server = start(&directory, &["--limits-body-bytes", "4MiB", "--executor-workers", "20"]);
    let waiting = |n| json!({"id": format!("s{n}"), "tool": "echo", "dependencies": ["s0"]});
    let first = json!({"id": "s0", "tool": "wait"});
    let steps: Vec<Value> = std::iter::once(first).chain((1..STEPS).map(waiting)).collect();
    let plan = json!({"name": "long", "steps": steps});
    for n in 0..RUNS {
        let run = server.submit(&format!("long{n}"), &plan);
        let path = run_path(&format!("long{n}"), &run) + "/events?limit=9";
        wait_for("its first step", || {
            let events = server.get(&path).json();
            events["events"]
                .as_array()
                .expect("a list")
                .iter()
                .any(|it| it["payload"]["status"] == "running")
                .then_some(())
        });
    }
    let attach = |n| Request::get(&format!("/api/sse/projects/long{n}"));
    let asked: Vec<Connection> = (0..RUNS).flat_map(|n| ask(&server, 1, &attach(n))).collect();
    assert_publishes_go_ahead(&server, &asked);
    assert_others_are_served(&server);
    let snapshot = server.stream("/api/sse/projects/long0").take(2).pop().expect("a snapshot");
    assert_eq!(snapshot.message["payload"]["steps"].as_array().map(Vec::len), Some(STEPS));
}

#[test]
fn a_replay_that_is_not_taken_is_not_read_on_and_others_are_served_meanwhile() {
    const CLIENTS: usize = 16;
    const ARRAYS: u64 = 100;
    const NOTES: u64 = 40;
    let directory = TempDirectory::new();
    let server = start(&directory, &[]);
    let first = publish(&server, "replayed").json()["ids"][0].as_str().expect("an id").to_owned();
    let text = "x".repeat(2000);
    for n in 0..ARRAYS {
        let note = |at| json!({"type": "note", "payload": {"n": n * NOTES + at, "text": text}});
        let notes: Vec<Value> = (0..NOTES).map(note).collect();
        assert_eq!(server.post("/api/projects/replayed/events", &json!(notes)).status, 202);
    }
    let threads = Threads::watch(&server);
    let resume = || Request::get("/api/sse/projects/replayed").header("Last-Event-ID", &first);
    let mut replays = ask(&server, CLIENTS, &resume());
    assert!(replays.iter_mut().all(|replay| replay.head().expect("an answer").status == 200));
    assert_others_are_served(&server);
    let (writer, all, history) = (threads.read_by_writer(), threads.read_by_all(), ARRAYS * NOTES * 2000);
    assert!(all < history, "{all} bytes of {history} were read for {CLIENTS} who take nothing");
    assert!(writer < LITTLE_BYTES, "whoever writes has read {writer} bytes");
    let notes = server.stream_of(resume()).until(|message| message["payload"]["n"] == ARRAYS * NOTES - 1);
    let seqs: Vec<u64> = notes.iter().map(|note| note.seq()).collect();
    assert_eq!(seqs, (1..=ARRAYS * NOTES + 1).collect::<Vec<_>>(), "each once, in order");
}

#[test]
fn a_watcher_that_reads_nothing_sets_nobodys_pace() {
    const IN_A_ROW: u64 = 40;
    const WATCHERS: usize = 3;
    let directory = TempDirectory::new();
    let server = start(&directory, &[]);
    let mut watchers = ask(&server, WATCHERS, &Request::get("/api/sse/projects/unread"));
    assert!(watchers.iter_mut().all(|watcher| watcher.head().expect("an answer").status == 200));
    let large = json!({"type": "note", "payload": {"text": "x".repeat(500_000)}});
    for _ in 0..4 {
        assert_eq!(server.post("/api/projects/unread/events", &large).status, 202);
    }
    let publish_to = |project: &str| {
        let request =
            Request::post(&format!("/api/projects/{project}/events"), &json!({"type": "note", "payload": {}}));
        (Connection::open(server.address), request.bytes(server.address))
    };
    let ((mut first, to_unread), (mut second, to_other)) = (publish_to("unread"), publish_to("other"));
    let mut is_first_ahead = || {
        first.write(&to_unread);
        second.write(&to_other);
        assert_eq!(second.response(false).expect("an answer").status, 202);
        let is_ahead = first.has_news();
        assert_eq!(first.response(false).expect("an answer").status, 202);
        is_ahead
    };
    // Whoever takes nothing does not count any more, once that is known of them.
    wait_for("a publisher who waits for nobody", || (0..IN_A_ROW).all(|_| is_first_ahead()).then_some(()));
    assert_others_are_served(&server);
    assert_eq!(server.metric("stepcast_streams") as usize, WATCHERS, "they watch still");
}

#[test]
fn a_run_with_large_outputs_is_read_as_it_is_taken() {
    const STEPS: usize = 3;
    const CLIENTS: usize = 4;
    let directory = TempDirectory::new();
    let (server, path) = start_behind_outputs(&directory, STEPS);
    let threads = Threads::watch(&server);
    let mut asked = ask(&server, CLIENTS, &Request::get(&path));
    assert!(asked.iter_mut().all(|connection| connection.head().expect("an answer").status == 200));
    assert_others_are_served(&server);
    let (all, most) = (threads.read_by_all(), CLIENTS as u64 * OUTPUT_BYTES);
    assert!(all < most, "{all} bytes were read for {CLIENTS} who take nothing of {STEPS} outputs");
}

#[test]
fn lists_of_many_projects_let_publishes_go_ahead() {
    const PROJECTS: usize = 1000;
    const LISTS: usize = 200;
    let directory = TempDirectory::new();
    let server = start(&directory, &[]);
    let mut publisher = Connection::open(server.address);
    for n in 0..PROJECTS {
        let request =
            Request::post(&format!("/api/projects/listed{n}/events"), &json!({"type": "note", "payload": {}}));
        publisher.write(&request.bytes(server.address));
        assert_eq!(publisher.response(false).expect("an answer").status, 202);
    }
    let mut asked = ask(&server, LISTS, &Request::get(&format!("/api/projects?limit={PROJECTS}")));
    assert_publishes_go_ahead(&server, &asked);
    assert_others_are_served(&server);
    let list = asked[0].response(false).expect("an answer").json();
    assert_eq!(list["projects"].as_array().map(Vec::len), Some(PROJECTS));
}
