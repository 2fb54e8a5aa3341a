//! Requests in, frames out.

use std::io::{self, Write};
use std::time::Duration;

use stepcast::ProjectId;
use stepcast::bench::{
    CloseReason, ConnectionManager, Decoder, Frames, HttpLimits, IdSigner, Instance, Now, Resume, ServerKeys,
    StartingPosition, StreamSettings, Subscription, Transport, Verdict, sse, write_message,
};

use super::work::{Done, Work, used};

/// What a browser sends to open a stream.
pub const OPEN_STREAM: &str = "GET /api/sse/projects/demo?ticket=3q2-7wAAAAAAAAAAAAAAAAAAAAAAAAAA HTTP/1.1\r\n\
    Host: stepcast.example\r\nConnection: keep-alive\r\nCache-Control: no-store\r\nAccept: text/event-stream\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
    Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\nReferer: https://stepcast.example/\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9\r\n\r\n";

/// What a backend sends to publish.
pub const PUBLISH: &str = "POST /api/projects/demo/events HTTP/1.1\r\nHost: stepcast.example\r\nAccept: */*\r\n\
    Content-Type: application/json\r\nContent-Length: 66\r\n\r\n\
    {\"type\":\"note\",\"payload\":{\"text\":\"what a backend has to say....\"}}";

/// The messages that a returning stream has missed, out of those that are kept.
const MISSED: u64 = 10;
const KEPT: u64 = 1000;

/// Decodes one request.
pub fn request(text: &'static str) -> Done<Work> {
    let limits = HttpLimits::default();
    Ok(Box::new(move || match Decoder::new().decode(text.as_bytes(), &limits) {
        Verdict::Complete { request, consumed } if consumed == text.len() => used(request),
        other => Err(format!("{other:?}").into()),
    }))
}

/// Encodes one message of 250 bytes as the log does: signed id, envelope, event.
pub fn frame() -> Done<Work> {
    let (signer, project, payload) = (signer(), project()?, payload());
    let (mut id, mut json, mut to, mut seq) = (Vec::new(), Vec::new(), Vec::new(), 0);
    Ok(Box::new(move || {
        seq += 1;
        [&mut id, &mut json, &mut to].into_iter().for_each(Vec::clear);
        signer.write(&mut id, &project, seq);
        write_message(&mut json, "note", &project, seq, &payload);
        sse::write_event(&mut to, Some(std::str::from_utf8(&id)?), None, &json);
        used(to.len())
    }))
}

/// One message to everyone who watches: appended, and written to each socket.
pub fn broadcast(subscribers: usize) -> Done<Work> {
    let project = project()?;
    let mut manager = manager(&project, 0);
    let (wanted, start) = (Subscription::to(project.clone()), StartingPosition::new(&project, 0, Resume::Fresh));
    for _ in 0..subscribers {
        manager.add_sse(Transport::new(Sink::default()), &wanted, &start, Now::default()).map_err(|_| "no project")?;
    }
    let mut seq = 0;
    Ok(Box::new(move || {
        seq += 1;
        manager.broadcast(&project, &frames(seq..seq + 1), Now::default());
        while manager.flush(512, Now::default()) {}
        manager.take_rounds_ended();
        used(manager.reap(Now::default()))
    }))
}

/// A stream that comes back with its last id, gets what it missed in one write, and leaves.
pub fn resume() -> Done<Work> {
    let (signer, project) = (signer(), project()?);
    let mut manager = manager(&project, KEPT);
    let wanted = Subscription::to(project.clone());
    let mut id = Vec::new();
    signer.write(&mut id, &project, KEPT - MISSED);
    let id = String::from_utf8(id)?;
    Ok(Box::new(move || {
        let after = signer.read(&id, &project).map_err(|_| "a foreign id")?.seq();
        if !manager.reaches(&project, after) {
            return Err("not in the backlog".into());
        }
        let start = StartingPosition::new(&project, after, Resume::Resumed);
        let transport = Transport::new(Sink::default());
        let key = manager.add_sse(transport, &wanted, &start, Now::default()).map_err(|_| "no project")?;
        let written = manager.socket(key.index()).map(|sink| sink.bytes);
        manager.remove_sse(key, CloseReason::ClientGone);
        used((written, manager.reap(Now::default())))
    }))
}

/// Takes everything, and keeps none of it.
#[derive(Debug, Default)]
struct Sink {
    bytes: usize,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn manager(project: &ProjectId, kept: u64) -> ConnectionManager<Sink> {
    let settings = StreamSettings {
        heartbeat: Duration::from_secs(15),
        stall_timeout: Duration::from_secs(30),
        retry_ms: 2000,
        backlog_bytes: 1 << 20,
        backlogs_bytes: 64 << 20,
        linger: Duration::from_secs(30),
    };
    let mut manager = ConnectionManager::new(settings, signer(), 7);
    manager.open_project(project, frames(1..kept + 1), Now::default());
    manager
}

fn frames(seqs: std::ops::Range<u64>) -> Frames {
    let mut frames = Frames::starting_at(seqs.start);
    let payload = payload();
    for _ in seqs {
        sse::write_event(&mut frames.bytes, Some("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), None, &payload);
        frames.mark(None, false);
    }
    frames
}

fn signer() -> IdSigner {
    ServerKeys::derive(&[7; 32]).id_signer(Instance::from_random([7; 6]))
}

pub fn project() -> Done<ProjectId> {
    Ok("bench".parse()?)
}

/// 250 bytes.
pub fn payload() -> Vec<u8> {
    format!("{{\"text\":\"{}\"}}", "x".repeat(239)).into_bytes()
}
