//! What happens when the system itself runs out of descriptors.

use std::net::TcpStream;

use rustix::process::{Resource, Rlimit, prlimit};
use serde_json::json;

use crate::common::client::{Connection, Request};
#[cfg(feature = "sqlite")]
use crate::common::server::TempDirectory;
use crate::common::server::{Server, Setup};
use crate::common::wait_for;

const HEALTH: &str = "/healthz";

/// A connection that has been answered, and stays.
fn connect(server: &Server) -> Connection {
    let mut connection = Connection::open(server.address);
    assert_eq!(ask(server, &mut connection), Some(200));
    connection
}

/// The status of an answer; none where the connection is closed without one.
fn ask(server: &Server, connection: &mut Connection) -> Option<u16> {
    connection.write(&Request::get(HEALTH).bytes(server.address));
    connection.response_if_whole().map(|response| response.status)
}

fn descriptors(server: &Server) -> u64 {
    let path = format!("/proc/{}/fd", server.pid().as_raw_nonzero());
    std::fs::read_dir(path).expect("it runs").count() as u64
}

#[test]
fn without_descriptors_nobody_hangs_and_with_them_it_serves_again() {
    let server = Server::open();
    let mut stream = server.stream("/api/sse/projects/p");
    assert_eq!(stream.next().expect("connected").kind(), "connected");
    let mut publisher = connect(&server);
    let before = descriptors(&server);
    let limit = prlimit(Some(server.pid()), Resource::Nofile, Rlimit { current: Some(before + 5), maximum: None });
    let limit = match limit {
        Ok(limit) => limit,
        // The hard limit can't be raised to none by everyone: keep it.
        Err(_) => {
            let hard = rustix::process::getrlimit(Resource::Nofile).maximum;
            let lowered = Rlimit { current: Some(before + 5), maximum: hard };
            prlimit(Some(server.pid()), Resource::Nofile, lowered).expect("our own child")
        }
    };
    let mut kept = Vec::new();
    let mut refused = 0;
    for _ in 0..300 {
        let mut connection = Connection::over(TcpStream::connect(server.address).expect("the server listens"));
        match ask(&server, &mut connection) {
            Some(200) => kept.push(connection),
            // Closed, with or without a word: no hang, or the read would have run into its deadline.
            Some(503) | None => refused += 1,
            status => panic!("{status:?}"),
        }
    }
    assert!((1..=10).contains(&kept.len()) && refused >= 290, "{} kept, {refused} refused", kept.len());
    publisher
        .write(&Request::post("/api/projects/p/events", &json!({"type": "t", "payload": {}})).bytes(server.address));
    assert_eq!(publisher.response(false).expect("an answer").status, 202, "those who are there are served");
    assert_eq!(stream.next().expect("a message").kind(), "t");
    drop(kept);
    wait_for("service", || Request::get(HEALTH).try_send(server.address).filter(|answer| answer.status == 200));
    prlimit(Some(server.pid()), Resource::Nofile, limit).expect("our own child");
    assert!(server.metric("stepcast_refused_total{limit=\"descriptors\"}") > 0.0);
    wait_for("the descriptors", || (descriptors(&server) <= before + 1).then_some(()));
}

#[cfg(feature = "sqlite")]
#[test]
fn as_many_connections_as_may_be_leave_room_for_files_and_tools() {
    const TOOLS: &str = "[tools.work]\nkind = \"command\"\nargv = [\"echo\", \"done\"]\n";
    let data = TempDirectory::new();
    let setup = Setup::default().config(TOOLS).data(data.path()).flags(&["--executor-workers", "4"]);
    let server = setup.descriptors(400).start();
    let max = server.metric("stepcast_connections_max") as usize;
    assert_eq!(max, 400 - 256 - 64 - 4 * 4, "what is left besides files, tools and the reserve");
    let mut kept: Vec<Connection> = (0..max - 1).map(|_| connect(&server)).collect();
    // Its page of metrics was a connection, too, which may not be gone yet.
    wait_for("the last place", || {
        let mut last = Connection::open(server.address);
        (ask(&server, &mut last) == Some(200)).then(|| kept.push(last))
    });
    let mut beyond = Connection::open(server.address);
    beyond.write(&Request::get(HEALTH).bytes(server.address));
    let refusal = beyond.response(false).expect("an answer");
    assert_eq!((refusal.status, refusal.code()), (503, "too_many_connections".to_owned()));
    assert!(refusal.header("Retry-After").is_some());

    let step = |id: usize| json!({"id": format!("s{id}"), "tool": "work"});
    let plan = json!({"name": "four at once", "steps": (0..4).map(step).collect::<Vec<_>>()});
    let first = &mut kept[0];
    first.write(&Request::post("/api/projects/p/workflows", &plan).bytes(server.address));
    let accepted = first.response(false).expect("an answer");
    assert_eq!(accepted.status, 202, "{accepted:?}");
    let path = format!("/api/projects/p/workflows/{}", accepted.json()["runId"].as_str().expect("a run"));
    let state = wait_for("the end of the run", || {
        first.write(&Request::get(&path).bytes(server.address));
        let state = first.response(false).expect("an answer").json();
        (state["status"] != "running" && state["status"] != "queued").then_some(state)
    });
    assert_eq!(state["status"], "completed", "{state}");
}

#[test]
fn a_refusal_did_not_name_the_setting_that_refused_it() {
    const WAIT: &str = "[tools.wait]\nkind = \"command\"\nargv = [\"sleep\", \"1000\"]\n";
    let flags = "--limits-active-runs 2 --limits-queued-runs 0 --limits-runs-per-project 1 --limits-projects 2 \
        --limits-plan-steps 2 --limits-body-bytes 2KiB --limits-target-bytes 256 --limits-header-bytes 1KiB";
    let server = Setup::default().config(WAIT).flags(&flags.split_whitespace().collect::<Vec<_>>()).start();
    let plan = |steps: usize| {
        let step = |n: usize| json!({"id": format!("s{n}"), "tool": "wait"});
        json!({"name": "n", "steps": (0..steps).map(step).collect::<Vec<_>>()})
    };
    let submit = |project: &str, steps| server.post(&format!("/api/projects/{project}/workflows"), &plan(steps));
    assert_eq!(submit("p", 1).status, 202);
    let second = submit("p", 1);
    assert_eq!(submit("q", 1).status, 202);
    let event = |bytes: usize| json!({"type": "t", "payload": {"x": "x".repeat(bytes)}});
    for (answer, code, said) in [
        (second, "too_many_project_runs", "(limit 1, limits.runs_per_project)"),
        (submit("r", 1), "too_many_runs", "(limit 2, limits.active_runs + limits.queued_runs)"),
        (submit("r", 3), "invalid_plan", "too many steps: 3 (limit 2, limits.plan_steps)"),
        (server.post("/api/projects/r/events", &event(1)), "too_many_projects", "(limit 2, limits.projects)"),
        (
            server.post("/api/projects/r/events", &event(3000)),
            "body_too_large",
            "(limit 2048 bytes, limits.body_bytes)",
        ),
        (server.get(&"/x".repeat(200)), "target_too_long", "(limit 256 bytes, limits.target_bytes)"),
        (
            server.call(Request::get(HEALTH).header("X", &"x".repeat(2000))),
            "head_too_large",
            "(limit 1024 bytes, limits.header_bytes)",
        ),
    ] {
        assert_eq!(answer.code(), code);
        assert!(answer.text().contains(said), "{}", answer.text());
    }
}
