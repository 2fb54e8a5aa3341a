//! Events of a stream about the stream itself: where it starts, that it is alive, and how it ends. They are not stored.

use std::time::Duration;

use crate::http::sse;
use crate::log::{Resume, StartingPosition};
use crate::model::{ProjectId, Timestamp, write_message};

/// `connected`, and what the first of them in a stream is in one block with: `retry:`, and the id of the position that the
/// stream goes on from.
pub(super) fn write_connected(
    to: &mut Vec<u8>,
    start: &StartingPosition,
    heartbeat: Duration,
    first: Option<(u64, &[u8])>,
) {
    let resume = match start.resume {
        Resume::Fresh => "fresh",
        Resume::Resumed => "resumed",
        Resume::Reset(_) => "reset",
    };
    let heartbeat_ms = u64::try_from(heartbeat.as_millis()).unwrap_or(u64::MAX);
    let payload = format!("{{\"resume\":\"{resume}\",\"heartbeat\":{heartbeat_ms}}}");
    let mut message = Vec::with_capacity(160);
    write_message(&mut message, "connected", &start.project, start.after, payload.as_bytes());
    let id = first.and_then(|(_, id)| str::from_utf8(id).ok());
    sse::write_event(to, id, first.map(|(retry_ms, _)| retry_ms), &message);
}

/// `stream_reset`, where the stream can't go on from where the subscriber was, and the snapshots.
pub(super) fn write_reset(to: &mut Vec<u8>, start: &StartingPosition) {
    if let Resume::Reset(reason) = start.resume {
        let payload = format!("{{\"reason\":\"{}\"}}", reason.as_str());
        write_plain(to, "stream_reset", &start.project, start.after, &payload);
    }
    for snapshot in &start.snapshots {
        sse::write_event(to, None, None, snapshot);
    }
}

/// `heartbeat`, as a message.
pub(super) fn write_heartbeat(to: &mut Vec<u8>, project: &ProjectId, seq: u64, now: Timestamp) {
    write_plain(to, "heartbeat", project, seq, &format!("{{\"timestamp\":\"{now}\"}}"));
}

/// `stream_closing`, and when to come back, where that is told.
pub(super) fn write_closing(to: &mut Vec<u8>, project: &ProjectId, seq: u64, reason: &str, retry_ms: Option<u64>) {
    let payload = format!("{{\"reason\":\"{reason}\"}}");
    let mut message = Vec::new();
    write_message(&mut message, "stream_closing", project, seq, payload.as_bytes());
    sse::write_event(to, None, retry_ms, &message);
}

fn write_plain(to: &mut Vec<u8>, message_type: &str, project: &ProjectId, seq: u64, payload: &str) {
    let mut message = Vec::new();
    write_message(&mut message, message_type, project, seq, payload.as_bytes());
    sse::write_event(to, None, None, &message);
}
