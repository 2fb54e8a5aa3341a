//! The stream: how it begins, resumes, follows one run, survives slow readers, and ends.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::common::client::{Connection, Request};
use crate::common::server::{Server, Setup};
use crate::common::stream::{Block, Event, Sse};
use crate::common::wait_for;

const STREAM: &str = "/api/sse/projects/p";

fn note(n: u64) -> Value {
    json!({"type": "note", "payload": {"n": n}})
}

/// Publishes notes, one call each; their ids.
fn publish(server: &Server, project: &str, count: u64) -> Vec<String> {
    (0..count)
        .map(|n| {
            let answer = server.post(&format!("/api/projects/{project}/events"), &note(n));
            assert_eq!(answer.status, 202, "{answer:?}");
            answer.json()["ids"][0].as_str().expect("an id").to_owned()
        })
        .collect()
}

fn resumed(server: &Server, path: &str, id: &str) -> Sse {
    server.stream_of(Request::get(path).header("Last-Event-ID", id))
}

fn kinds(events: &[Event]) -> Vec<&str> {
    events.iter().map(Event::kind).collect()
}

fn echo_plan() -> Value {
    json!({"name": "one", "steps": [{"id": "a", "tool": "echo"}]})
}

#[test]
fn the_first_block_is_retry_id_and_connected_together() {
    let server = Setup::default().flags(&["--sse-retry", "3s", "--sse-heartbeat", "7s"]).start();
    let first = server.stream(STREAM).next().expect("a message");
    let id = first.id();
    let payload = r#"{"resume":"fresh","heartbeat":7000}"#;
    let data = format!(r#"{{"type":"connected","projectId":"p","seq":0,"payload":{payload}}}"#);
    assert_eq!(first.raw, format!("retry: 3000\nid: {id}\ndata: {data}"));
}

#[test]
fn head_gives_the_head_alone() {
    let head = Server::open().call(Request::new("HEAD", STREAM));
    assert_eq!((head.status, head.header("Content-Type")), (200, Some("text/event-stream")));
}

#[test]
fn a_message_comes_as_an_id_and_one_line_of_data() {
    let server = Server::open();
    let mut stream = server.stream(STREAM);
    stream.next();
    let spread =
        "{\"type\": \"note\",\n \"payload\": {\n\"big\": 12345678901234567890123, \"f\": 1.0, \"t\": \"a\\nb\"}}";
    let answer = server.call(Request::new("POST", "/api/projects/p/events").body(spread));
    assert_eq!(answer.json()["subscribers"], 1);
    let event = stream.next().expect("a message");
    let id = answer.json()["ids"][0].as_str().expect("an id").to_owned();
    let payload = r#"{"big":12345678901234567890123,"f":1.0,"t":"a\nb"}"#;
    let data = format!(r#"{{"type":"note","projectId":"p","seq":1,"payload":{payload}}}"#);
    assert_eq!(event.raw, format!("id: {id}\ndata: {data}"));
}

#[test]
fn everything_later_than_the_shown_id_follows_once() {
    let server = Server::open();
    let mut first = server.stream(STREAM);
    let start = first.next().expect("connected").id().to_owned();
    let ids = publish(&server, "p", 5);
    assert_eq!(first.take(5).iter().map(Event::id).collect::<Vec<_>>(), ids);
    for (shown, seqs) in [(&start, 0..6), (&ids[1], 2..6), (&ids[4], 5..6)] {
        let mut stream = resumed(&server, STREAM, shown);
        let events = stream.take(seqs.clone().count());
        assert_eq!(events[0].message["payload"]["resume"], "resumed");
        assert_eq!(events[0].id(), shown);
        assert_eq!(events.iter().map(Event::seq).collect::<Vec<_>>(), seqs.collect::<Vec<_>>());
    }
}

#[test]
fn the_header_wins_over_the_query_and_an_empty_id_is_none() {
    let server = Server::open();
    let ids = publish(&server, "p", 3);
    let table = [
        (Some(ids[0].as_str()), None, "resumed", 1),
        (None, Some(ids[1].as_str()), "resumed", 2),
        (Some(ids[0].as_str()), Some(ids[1].as_str()), "resumed", 1),
        (Some(ids[0].as_str()), Some("garbage"), "resumed", 1),
        (Some(""), Some(ids[1].as_str()), "resumed", 2),
        (Some(""), None, "fresh", 3),
        (None, Some(""), "fresh", 3),
    ];
    for (header, query, resume, seq) in table {
        let path = query.map_or(STREAM.to_owned(), |id| format!("{STREAM}?lastEventId={id}"));
        let request = Request::get(&path);
        let request = if let Some(id) = header { request.header("Last-Event-ID", id) } else { request };
        let connected = server.stream_of(request).next().expect("connected");
        assert_eq!(connected.message["payload"]["resume"], resume, "{header:?} {query:?}");
        assert_eq!(connected.seq(), seq, "{header:?} {query:?}");
    }
}

#[test]
fn an_id_that_is_no_visible_ascii_is_unknown_and_not_none() {
    let server = Server::open();
    let good = publish(&server, "p", 2).remove(1);
    let with_byte = |byte: u8| [good.as_bytes(), &[byte]].concat();
    let headers =
        [b"\xff".to_vec(), b"\xc3\xa9".to_vec(), b"a b".to_vec(), b"a\tb".to_vec(), with_byte(0xff), with_byte(b'=')];
    for id in headers {
        for query in ["", &format!("?lastEventId={good}")] {
            let request = Request::get(&format!("{STREAM}{query}")).header_bytes("Last-Event-ID", &id);
            let events = server.stream_of(request).take(2);
            assert_eq!(kinds(&events), ["connected", "stream_reset"], "{id:?}");
            assert_eq!(events[1].message["payload"]["reason"], "unknown_id", "{id:?}");
        }
    }
    for id in ["%FF", "%zz", "%C3%A9", "a%20b", "%00", "+", &format!("{good}%7F")] {
        let events = server.stream(&format!("{STREAM}?lastEventId={id}")).take(2);
        assert_eq!(events[1].message["payload"]["reason"], "unknown_id", "{id}");
    }
    assert_eq!(server.get(&format!("{STREAM}?lastEventId={good}&runId=%FF")).code(), "bad_encoding", "of any other");
}

#[test]
fn an_id_that_is_none_of_the_projects_own_resets_the_stream() {
    let server = Server::open();
    let ids = publish(&server, "p", 2);
    let foreign = publish(&server, "q", 1).remove(0);
    let run = server.submit("p", &echo_plan());
    server.messages("p", &run);
    let newest = server.get(&format!("/api/projects/p/workflows/{run}")).json()["lastEventId"].clone();
    let forged = format!("{}{}", &ids[0][..ids[0].len() - 1], if ids[0].ends_with('A') { 'B' } else { 'A' });
    let long = "a".repeat(4000);
    for id in ["garbage", "1", &forged, &foreign, &long] {
        let mut stream = resumed(&server, STREAM, id);
        let events = stream.take(3);
        assert_eq!(kinds(&events), ["connected", "stream_reset", "workflow_snapshot"], "{id}");
        assert_eq!(events[0].message["payload"]["resume"], "reset");
        assert_eq!(events[1].message["payload"]["reason"], "unknown_id");
        assert_eq!(newest, events[0].id(), "the stream goes on from the newest");
        assert!(events[1].id.is_none() && events[2].id.is_none(), "{events:?}");
    }
}

#[test]
fn an_id_whose_successors_are_gone_is_expired() {
    let server = Setup::default().flags(&["--history-messages", "5"]).start();
    let ids = publish(&server, "p", 10);
    let events = resumed(&server, STREAM, &ids[1]).take(2);
    assert_eq!(kinds(&events), ["connected", "stream_reset"]);
    assert_eq!(events[1].message["payload"]["reason"], "expired");
    let kept = resumed(&server, STREAM, &ids[7]).take(3);
    assert_eq!(kept.iter().map(Event::seq).collect::<Vec<_>>(), [8, 9, 10]);
}

#[test]
fn a_fresh_stream_begins_with_what_is_active_and_the_newest_that_ended() {
    let server = Server::open();
    let (older, newer) = (server.submit("p", &echo_plan()), server.submit("p", &echo_plan()));
    server.messages("p", &older);
    server.messages("p", &newer);
    let waits = json!({"name": "w", "steps": [{"id": "a", "tool": "delay", "inputs": {"ms": 600_000}}]});
    let active = server.submit("p", &waits);
    server.stream(&format!("{STREAM}?runId={active}")).until(|message| message["payload"]["status"] == "running");

    let events = server.stream(STREAM).take(3);
    let shown: Vec<&Value> = events[1..].iter().map(|event| &event.message["payload"]["runId"]).collect();
    assert!(shown.len() == 2 && shown.contains(&&json!(active)) && shown.contains(&&json!(newer)), "{shown:?}");
    let listed = server.get(&format!("/api/projects/p/workflows/{newer}")).json();
    let snapshot = events.iter().find(|event| event.message["payload"]["runId"] == newer.as_str()).expect("shown");
    for (key, value) in listed.as_object().expect("an object") {
        assert_eq!(&snapshot.message["payload"][key], value, "{key}");
    }
    assert!(events[1..].iter().all(|event| event.id.is_none() && event.kind() == "workflow_snapshot"));

    let mut bare = server.stream(&format!("{STREAM}?snapshot=0"));
    bare.next();
    publish(&server, "p", 1);
    assert_eq!(bare.next().expect("live").kind(), "note");
}

#[test]
fn a_stream_of_one_run_has_all_of_it_and_ends_and_is_not_resumed() {
    let server = Server::open();
    publish(&server, "p", 1);
    let run = server.submit("p", &echo_plan());
    let path = format!("{STREAM}?runId={run}");
    let events = server.stream(&path).rest();
    let expected = [
        "connected",
        "workflow_started",
        "workflow_level_started",
        "workflow_progress",
        "workflow_progress",
        "workflow_level_completed",
        "workflow_completed",
    ];
    assert_eq!(kinds(&events), expected);
    assert!(events[1..].iter().all(|event| event.message["payload"]["runId"] == run.as_str()));

    let later = resumed(&server, &path, events[3].id()).rest();
    assert_eq!(kinds(&later)[1..], expected[4..]);
    let last = events[6].id();
    assert_eq!(server.call(Request::get(&path).header("Last-Event-ID", last)).status, 204);
    assert_eq!(server.get(&format!("{path}&lastEventId={last}")).status, 204);
    let beyond = publish(&server, "p", 1).remove(0);
    assert_eq!(server.call(Request::get(&path).header("Last-Event-ID", &beyond)).status, 204);
    for (shown, status) in [(Some(last), 204), (Some(events[3].id()), 200), (None, 200)] {
        let head = Request::new("HEAD", &path);
        let head = shown.into_iter().fold(head, |head, id| head.header("Last-Event-ID", id));
        assert_eq!(server.call(head).status, status, "HEAD answers as GET does: {shown:?}");
    }
    assert_eq!(server.call(Request::new("HEAD", &format!("{STREAM}?runId=nope"))).status, 404);
    let lost = resumed(&server, &path, "garbage").rest();
    assert_eq!(kinds(&lost)[..2], ["connected", "stream_reset"]);
    assert_eq!(kinds(&lost).last(), Some(&"workflow_completed"));
    assert_eq!(server.get(&format!("{STREAM}?runId=nope")).code(), "unknown_run");
    assert_eq!(server.get("/api/sse/projects/q?runId=nope").status, 404);
}

#[test]
fn parameters_that_mean_nothing_are_400() {
    let server = Server::open();
    for query in ["runId=a%20b", "runId=", "snapshot=2", "heartbeat=x", "view=%zz"] {
        assert_eq!(server.get(&format!("{STREAM}?{query}")).status, 400, "{query}");
    }
}

#[test]
fn an_idle_stream_beats_as_comment_or_as_message() {
    let server = Setup::default().flags(&["--sse-heartbeat", "50ms"]).start();
    let mut comments = server.stream(STREAM);
    comments.next();
    assert!(matches!(comments.block(), Some(Block::Comment)));
    let mut messages = server.stream(&format!("{STREAM}?heartbeat=message"));
    messages.next();
    let Some(Block::Event(beat)) = messages.block() else { panic!("a comment where a message was asked for") };
    assert_eq!((beat.kind(), beat.seq(), &beat.id), ("heartbeat", 0, &None));
}

#[test]
fn all_see_the_same_order_live_and_in_history() {
    let server = Server::open();
    let start = server.stream(STREAM).next().expect("connected").id().to_owned();
    let mut live: Vec<Sse> = (0..3).map(|_| server.stream(STREAM)).collect();
    live.iter_mut().for_each(|stream| drop(stream.next()));
    let runs: Vec<String> = (0..4).map(|_| server.submit("p", &echo_plan())).collect();
    publish(&server, "p", 20);
    runs.iter().for_each(|run| drop(server.messages("p", run)));
    let total = 4 * 6 + 20;
    let seen: Vec<Vec<String>> =
        live.iter_mut().map(|stream| stream.take(total).into_iter().map(|event| event.raw).collect()).collect();
    let replayed = resumed(&server, STREAM, &start).take(total + 1).split_off(1);
    assert_eq!(replayed.iter().map(Event::seq).collect::<Vec<_>>(), (1..=total as u64).collect::<Vec<_>>());
    let replayed: Vec<String> = replayed.into_iter().map(|event| event.raw).collect();
    assert!(seen.iter().all(|one| *one == replayed));
}

/// Fills the project with far more than sockets and queues hold.
fn flood(server: &Server) -> u64 {
    const CALLS: u64 = 40;
    let text = "x".repeat(1000);
    let batch: Vec<Value> = (0..100).map(|_| json!({"type": "bulk", "payload": {"text": text}})).collect();
    for _ in 0..CALLS {
        assert_eq!(server.post("/api/projects/p/events", &json!(batch)).status, 202);
    }
    CALLS * 100
}

#[test]
fn a_slow_reader_gets_everything_whole_and_in_order_and_slows_nobody() {
    let server = Setup::default().flags(&["--sse-queue-bytes", "16KiB"]).start();
    let mut slow = Sse::open_narrow(server.address, Request::get(STREAM));
    let mut quick = server.stream(STREAM);
    quick.next();
    let total = std::thread::scope(|scope| {
        let reader = scope.spawn(move || quick.until(|message| message["seq"] == 4000).len() as u64);
        let total = flood(&server);
        assert_eq!(reader.join().expect("it reads"), total);
        total
    });
    slow.next();
    let seqs: Vec<u64> = slow.take(total as usize).iter().map(Event::seq).collect();
    assert_eq!(seqs, (1..=total).collect::<Vec<_>>());
}

#[test]
fn a_reader_that_takes_nothing_is_closed_and_resumes() {
    let server = Setup::default().flags(&["--sse-queue-bytes", "16KiB", "--sse-stall-timeout", "100ms"]).start();
    let mut stuck = Sse::open_narrow(server.address, Request::get(STREAM));
    let total = flood(&server);
    wait_for("the stalled stream's end", || {
        (server.metric(r#"stepcast_streams_closed_total{reason="stalled"}"#) == 1.0).then_some(())
    });
    let taken: Vec<Event> = stuck.rest().into_iter().filter(|event| event.kind() != "stream_closing").collect();
    let (first, last) = (&taken[0], taken.last().expect("connected at least"));
    assert_eq!(first.kind(), "connected");
    assert!(last.seq() < total, "it was closed for taking nothing");
    assert_eq!(taken.iter().map(Event::seq).collect::<Vec<_>>(), (0..=last.seq()).collect::<Vec<_>>());
    let (mut id, mut seq) = (last.id().to_owned(), last.seq());
    while seq < total {
        // It is closed again where this test is not given a processor for so long, and resumes again.
        let mut again = resumed(&server, STREAM, &id);
        let messages = std::iter::from_fn(|| again.next()).filter(|event| event.id.is_some()).skip(1);
        for event in messages.take((total - seq) as usize) {
            assert_eq!(event.seq(), seq + 1);
            (id, seq) = (event.id().to_owned(), event.seq());
        }
    }
}

#[test]
fn the_end_that_the_server_means_is_told_by_the_last_chunk_and_no_other_end() {
    let server = Server::open();
    let run = server.submit("p", &echo_plan());
    let mut of_run = server.stream(&format!("{STREAM}?runId={run}"));
    assert!(!of_run.rest().is_empty() && of_run.is_at_its_end(), "the run is over");
    let mut stopped = server.stream(STREAM);
    stopped.next();
    server.signal(Signal::TERM);
    assert_eq!(stopped.rest().last().map(Event::kind), Some("stream_closing"));
    assert!(stopped.is_at_its_end(), "the server has stopped");
    let server = Server::open();
    let mut killed = server.stream(STREAM);
    killed.next();
    server.kill();
    assert!(killed.rest().is_empty() && !killed.is_at_its_end(), "the server was killed");
}

#[test]
fn a_client_of_1_0_gets_the_same_blocks_without_chunks() {
    let server = Setup::default().flags(&["--sse-heartbeat", "50ms"]).start();
    let run = server.submit("p", &echo_plan());
    let path = format!("{STREAM}?runId={run}");
    let blocks = |mut stream: Sse| stream.rest().into_iter().map(|event| event.raw).collect::<Vec<_>>();
    let chunked = blocks(server.stream(&path));
    let mut connection = Connection::open(server.address);
    connection.write(format!("GET {path} HTTP/1.0\r\nAccept: text/event-stream\r\n\r\n").as_bytes());
    let head = connection.head().expect("an answer");
    assert_eq!((head.header("Transfer-Encoding"), head.header("Connection")), (None, Some("close")), "{head:?}");
    let plain = String::from_utf8(connection.rest()).expect("text");
    assert_eq!(plain, chunked.iter().map(|block| format!("{block}\n\n")).collect::<String>());

    let mut silent = Connection::open(server.address);
    silent.write(format!("GET {STREAM}?snapshot=0 HTTP/1.0\r\n\r\n").as_bytes());
    silent.head().expect("an answer");
    let lines: Vec<_> = (0..6).map(|_| silent.line().expect("a line")).collect();
    assert!(lines[2].starts_with("data: ") && lines[3..] == ["", ":", ":"], "{lines:?}");
}

#[test]
fn a_full_server_sends_watchers_away_softly_and_others_hard() {
    let server = Setup::default().flags(&["--limits-connections", "3"]).start();
    let mut watching: Vec<Sse> = (0..3).map(|_| server.stream(STREAM)).collect();
    watching.iter_mut().for_each(|stream| drop(stream.next()));
    let mut turned_away = server.stream(STREAM);
    let events = turned_away.rest();
    assert_eq!(kinds(&events), ["stream_closing"]);
    assert!(events[0].retry.is_some() && events[0].id.is_none() && events[0].seq() == 0, "{events:?}");
    assert_eq!(events[0].message["payload"]["reason"], "busy");
    assert!(turned_away.is_at_its_end());
    for path in [STREAM, "/api/projects"] {
        let hard = server.get(path);
        assert!(hard.status == 503 && hard.header("Retry-After").is_some(), "{hard:?}");
    }
    drop(watching);
    wait_for("room", || (server.get("/api/projects").status == 200).then_some(()));
}

#[test]
fn a_connection_counts_for_the_address_that_a_trusted_proxy_forwards() {
    let from = |server: &Server, forwarded: &str| {
        server.call(Request::get("/api/projects").header("X-Forwarded-For", forwarded)).status
    };
    let server = Setup::default().flags(&["--limits-connections-per-address", "2"]).start();
    let request = || Request::get(STREAM).header("X-Forwarded-For", "192.0.2.1");
    let _held = [server.stream_of(request()), server.stream_of(request())];
    assert_eq!(from(&server, "9.9.9.9, 192.0.2.1"), 503);
    assert_eq!(from(&server, "192.0.2.1, 127.0.0.1"), 503);
    assert_eq!(from(&server, "192.0.2.1, 192.0.2.2"), 200);
    assert_eq!(server.get("/api/projects").status, 200, "what a proxy forwards for nobody counts for nobody");

    let flags = ["--limits-connections-per-address", "2", "--limits-trusted-proxies", "10.0.0.0/8"];
    let server = Setup::default().flags(&flags).start();
    let _held = [server.stream(STREAM), server.stream(STREAM)];
    assert_eq!(from(&server, "192.0.2.9"), 503, "anyone else's word is not taken");
}
