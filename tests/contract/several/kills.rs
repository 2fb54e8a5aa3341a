//! A stream of several projects whose server is killed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::project;
use crate::common::client::Request;
use crate::common::server::{Setup, TempDirectory};
use crate::common::stream::Sse;

/// Publishers of 20 projects; a stream of all of them that is cut by kill -9 again and again, and comes back.
#[test]
fn twenty_projects_on_one_stream_over_kills_have_each_message_once() {
    const PROJECTS: usize = 20;
    const KILLS: usize = 4;
    let directory = TempDirectory::new();
    let names: Vec<_> = (0..PROJECTS).map(|n| format!("p{n}")).collect();
    let path = format!("/api/sse?projects={}&snapshot=0", names.join(","));
    let mut server = Setup::default().data(directory.path()).start();
    let address = server.address;
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let mut last_id: Option<String> = None;
    for round in 0..=KILLS {
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Also where an assertion fails: the scope waits for its threads.
            let _end = Raises(&is_over);
            for part in names.chunks(PROJECTS / 4) {
                let is_over = &is_over;
                scope.spawn(move || publish_on(address, part, is_over));
            }
            let request = Request::get(&path);
            let request = last_id.iter().fold(request, |request, id| request.header("Last-Event-ID", id));
            let mut stream = Sse::open(address, request);
            let connected = stream.take(PROJECTS);
            let resume = if last_id.is_some() { "resumed" } else { "fresh" };
            assert!(connected.iter().all(|event| event.message["payload"]["resume"] == resume), "{connected:#?}");
            last_id = Some(connected[0].id().to_owned());
            for event in &connected {
                let before = seen.insert(project(event).to_owned(), event.seq());
                assert!(round == 0 || before == Some(event.seq()), "round {round}: it goes on where it was");
            }
            for _ in 0..300 {
                let event = stream.next().expect("publishers go on");
                let seq = seen.get_mut(project(&event)).expect("one of them");
                assert_eq!(event.seq(), *seq + 1, "round {round}: {}", event.raw);
                *seq = event.seq();
                last_id = Some(event.id().to_owned());
            }
        });
        server.kill();
        server = Setup::default().data(directory.path()).listen(address).start();
    }
    assert!(seen.values().all(|&seq| seq > 0), "each had its share: {seen:?}");
}

/// Raises a flag in the end.
struct Raises<'f>(&'f AtomicBool);

impl Drop for Raises<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn publish_on(address: SocketAddr, projects: &[String], is_over: &AtomicBool) {
    let note = json!({"type": "note", "payload": {"text": "x".repeat(100)}});
    while !is_over.load(Ordering::Relaxed) {
        for name in projects {
            Request::post(&format!("/api/projects/{name}/events"), &note).try_send(address);
        }
    }
}
