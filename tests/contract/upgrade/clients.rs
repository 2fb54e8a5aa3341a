//! What clients see of an upgrade.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::{STREAM, ask, gated, open_gate, publish, run_to_the_gate, upgrade};
use crate::common::client::{Connection, Request};
use crate::common::server::{Server, Setup, Successor, TempDirectory};
use crate::common::stream::Sse;
#[cfg(feature = "http-tool")]
use crate::common::wait_for;

const UPGRADES: usize = 2;
const STREAMS: usize = 20;

/// Upgrades again and again.
fn upgrade_all(server: &Server) -> Successor {
    upgrade(server);
    let first = server.until_upgraded(1);
    first.signal(rustix::process::Signal::USR2);
    let second = server.until_upgraded(UPGRADES);
    first.until_ended();
    second
}

/// Reads messages up to the last one, and comes back at once whenever the server ends the stream.
fn follow(server: &Server, mut stream: Sse, until: impl Fn(u64) -> bool) -> Vec<u64> {
    let mut last_id = stream.next().expect("connected").id().to_owned();
    let mut seen = Vec::new();
    loop {
        match stream.next() {
            Some(event) if event.kind() == "stream_closing" => {
                assert_eq!(event.message["payload"]["reason"], "shutdown");
                assert!(event.retry.expect("when to come back") < 1000, "{event:?}");
            }
            Some(event) => {
                last_id = event.id().to_owned();
                seen.push(event.seq());
                if until(event.seq()) {
                    return seen;
                }
            }
            None => {
                stream = server.stream_of(Request::get(STREAM).header("Last-Event-ID", &last_id));
                assert_eq!(stream.next().expect("connected").message["payload"]["resume"], "resumed");
            }
        }
    }
}

#[test]
fn over_upgrades_no_stream_loses_or_repeats_anything_and_no_publisher_is_refused() {
    let directory = TempDirectory::new();
    nothing_is_lost(Setup::default().data(&directory.join("data")));
}

#[cfg(feature = "postgres")]
#[test]
fn over_upgrades_of_a_node_neither() {
    // Where there is no PostgreSQL, whoever brought us here has been told so.
    let Some(engine) = crate::common::postgres::Postgres::shared() else { return };
    nothing_is_lost(Setup::default().data_url(&engine.database()));
}

fn nothing_is_lost(setup: Setup) {
    let server = setup.flags(&["--limits-publish-rate", "1000000"]).start();
    let streams: Vec<Sse> = (0..STREAMS).map(|_| server.stream(STREAM)).collect();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let publishers: Vec<_> = [true, false]
            .map(|keeps| {
                let (server, is_over) = (&server, &is_over);
                scope.spawn(move || {
                    let mut connection = Connection::open(server.address);
                    let mut count = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        if !keeps {
                            connection = Connection::open(server.address);
                        }
                        let answer = ask(&mut connection, server, &publish(count));
                        assert_eq!(answer.status, 202, "{answer:?}");
                        count += 1;
                    }
                    count
                })
            })
            .into();
        let followers: Vec<_> = streams
            .into_iter()
            .map(|stream| scope.spawn(|| follow(&server, stream, |_| is_over.load(Ordering::Relaxed))))
            .collect();
        let _serves = upgrade_all(&server);
        is_over.store(true, Ordering::Relaxed);
        let published: u64 = publishers.into_iter().map(|it| it.join().expect("202 each")).sum();
        // For those who have seen all of the others by now.
        assert_eq!(server.call(publish(0)).status, 202);
        for follower in followers {
            let seen = follower.join().expect("a whole stream");
            let wanted: Vec<u64> = (1..=seen.len() as u64).collect();
            assert_eq!(seen, wanted);
            assert!(seen.len() as u64 <= published + 1);
        }
    });
}

#[test]
fn a_connection_goes_on_in_the_new_process_with_what_it_had_sent_of_a_request() {
    let directory = TempDirectory::new();
    let server = Setup::default().data(&directory.join("data")).start();
    let mut idle = Connection::open(server.address);
    assert_eq!(ask(&mut idle, &server, &publish(1)).status, 202);
    let mut halves: Vec<_> = [5, 60, 150]
        .into_iter()
        .map(|at| {
            let mut connection = Connection::open(server.address);
            // It was heard of before the upgrade, whatever else it sends.
            assert_eq!(ask(&mut connection, &server, &Request::get("/healthz")).status, 200);
            let bytes = publish(2).bytes(server.address);
            connection.write(&bytes[..at.min(bytes.len() - 1)]);
            (connection, bytes[at.min(bytes.len() - 1)..].to_vec())
        })
        .collect();
    upgrade(&server);
    let _serves = server.until_upgraded(1);
    assert_eq!(ask(&mut idle, &server, &publish(3)).status, 202);
    for (connection, rest) in &mut halves {
        connection.write(rest);
        assert_eq!(connection.response(false).expect("an answer").status, 202);
    }
    let answer = server.call(publish(4));
    assert_eq!((answer.status, answer.json()["ids"].as_array().map(Vec::len)), (202, Some(1)));
    let mut stream = server.stream(STREAM);
    assert_eq!(stream.next().expect("connected").seq(), 6);
}

#[test]
fn more_connections_go_on_than_the_process_may_have_descriptors_when_it_starts() {
    let directory = TempDirectory::new();
    let server = Setup::default().data(&directory.join("data")).after("ulimit -Sn 64").start();
    let mut connections: Vec<_> = (0..200).map(|_| Connection::open(server.address)).collect();
    for connection in &mut connections {
        assert_eq!(ask(connection, &server, &Request::get("/healthz")).status, 200);
    }
    upgrade(&server);
    let _serves = server.until_upgraded(1);
    for connection in &mut connections {
        assert_eq!(ask(connection, &server, &Request::get("/healthz")).status, 200);
    }
}

#[test]
fn a_tool_of_the_new_process_has_the_descriptor_limit_that_the_first_was_started_with() {
    let directory = TempDirectory::new();
    let config = "[tools.limit]\nkind = \"command\"\nargv = [\"sh\", \"-c\", \"ulimit -Sn\"]\n";
    let server = Setup::default().config(config).data(&directory.join("data")).after("ulimit -Sn 99").start();
    upgrade(&server);
    let _serves = server.until_upgraded(1);
    let plan = serde_json::json!({"name": "limit", "steps": [{"id": "a", "tool": "limit"}]});
    let messages = server.carry_out(&plan);
    assert_eq!(messages.last().expect("messages")["payload"]["outputs"]["a"], 99);
}

#[test]
fn while_steps_have_their_grace_everything_else_goes_on() {
    let directory = TempDirectory::new();
    let server = gated(&directory).flags(&["--executor-grace", "5m"]).start();
    run_to_the_gate(&server);
    let mut stream = server.stream(STREAM);
    stream.next();
    upgrade(&server);
    server.until_logged("is ready to take over", 1);
    assert_eq!(server.get("/readyz").status, 200);
    assert_eq!(server.call(publish(1)).status, 202);
    stream.until(|message| message["type"] == "n");
    let waiting = server.submit("p", &serde_json::json!({"name": "later", "steps": [{"id": "a", "tool": "echo"}]}));
    open_gate(&directory);
    let _serves = server.until_upgraded(1);
    let messages = server.messages("p", &waiting);
    assert_eq!(messages.last().expect("messages")["type"], "workflow_completed");
}

#[cfg(feature = "http-tool")]
#[test]
fn everybody_waited_for_a_webhook_that_did_not_answer() {
    use crate::common::receiver::{Answer, Receiver, SECRET};
    let directory = TempDirectory::new();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let receiver = Receiver::start(move |_| {
        let _ = released.recv();
        Answer::Status(200)
    });
    let config = format!("[[webhooks]]\nname = \"w\"\nurl = \"{}\"\nsecret = \"{SECRET}\"\n", receiver.url("/"));
    let server = Setup::default().config(&config).data(&directory.join("data")).start();
    let mut stream = server.stream(STREAM);
    stream.next();
    server.submit("p", &serde_json::json!({"name": "e", "steps": [{"id": "a", "tool": "echo"}]}));
    let sending = "stepcast_webhook_sending{webhook=\"w\"}";
    wait_for("the attempt", || (server.metric(sending) == 1.0).then_some(()));
    upgrade(&server);
    server.until_logged("is ready to take over", 1);
    for n in 0..10 {
        assert_eq!(server.call(publish(n)).status, 202);
    }
    // The same stream, which ends only when the webhook has its answer.
    for n in 0..10 {
        stream.until(|message| message["type"] == "n" && message["payload"]["n"] == n);
    }
    drop(release);
    let _serves = server.until_upgraded(1);
    receiver.next();
    assert_eq!(receiver.rest().len(), 0, "what came through is not sent again");
}
