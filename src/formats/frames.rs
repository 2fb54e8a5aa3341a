//! Events as they are sent: those of one message together, in one chunk, the last of them with the message's id. So a
//! client that shows the id it saw last has seen whole messages, and never a part of one.

use serde::Serialize;

use crate::http::{contents, split_last_chunk, write_chunk};
use crate::model::push_on_one_line;

/// What stands before the thread of a run that has ended. Nothing else reads so: within an event no line ends.
const BEFORE_THREAD: &[u8] = b"\ndata: {\"type\":\"RUN_FINISHED\",\"threadId\":";

/// The events that tell of one message.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The data of each, one line.
    data: Vec<Vec<u8>>,
}

impl Frames {
    pub(super) fn push(&mut self, event: &impl Serialize) {
        let json = serde_json::to_vec(event).expect("events are maps with names, and memory takes them");
        let mut line = Vec::with_capacity(json.len());
        push_on_one_line(&mut line, &json);
        self.data.push(line);
    }

    /// What is no JSON.
    pub(super) fn push_text(&mut self, line: &str) {
        self.data.push(line.as_bytes().to_vec());
    }

    /// Appends them as one chunk. Nothing is appended where there are none.
    pub(super) fn write(self, id: Option<&str>, to: &mut Vec<u8>) {
        let Some((last, others)) = self.data.split_last() else { return };
        let mut block = Vec::with_capacity(self.data.iter().map(|line| line.len() + "data: \n\n".len()).sum());
        others.iter().for_each(|line| push_event(&mut block, line));
        if let Some(id) = id {
            block.extend_from_slice(format!("id: {id}\n").as_bytes());
        }
        push_event(&mut block, last);
        write_chunk(to, &block);
    }
}

fn push_event(to: &mut Vec<u8>, line: &[u8]) {
    for part in [b"data: ", line, b"\n\n"] {
        to.extend_from_slice(part);
    }
}

/// A run's last frames, whole chunks, for a client that takes the run for a part of this thread: what AG-UI's events of a
/// run's beginning and end say must be the same. What tells no such end stays as it is, and so do all chunks but the last.
pub fn in_thread(chunks: Vec<u8>, thread: &str) -> Vec<u8> {
    let Some((before, last)) = split_last_chunk(&chunks) else { return chunks };
    // The first event of a chunk has no line before it here.
    let text = [b"\n", last].concat();
    let Some(at) = memchr::memmem::rfind(&text, BEFORE_THREAD).map(|at| at + BEFORE_THREAD.len()) else {
        return chunks;
    };
    let Some(end) = text[at..].iter().skip(1).position(|&byte| byte == b'"').map(|length| at + length + 2) else {
        return chunks;
    };
    let mut told = text[1..at].to_vec();
    push_on_one_line(&mut told, serde_json::json!(thread).to_string().as_bytes());
    told.extend_from_slice(&text[end..]);
    let mut chunks = before.to_vec();
    write_chunk(&mut chunks, &told);
    chunks
}

/// What a stream begins with, one chunk, with the time after which an `EventSource` is to come back, in milliseconds.
pub fn with_retry(prelude: &[u8], retry_ms: u64) -> Vec<u8> {
    let mut chunk = Vec::new();
    write_chunk(&mut chunk, &[format!("retry: {retry_ms}\n").as_bytes(), &contents(prelude)].concat());
    chunk
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(events: &[serde_json::Value]) -> Vec<u8> {
        let (mut frames, mut to) = (Frames::default(), Vec::new());
        events.iter().for_each(|event| frames.push(event));
        frames.write(Some("id"), &mut to);
        to
    }

    #[test]
    fn the_thread_of_the_last_event_is_the_clients() {
        let end = |thread: &str, result: &str| serde_json::json!({"type": "RUN_FINISHED", "threadId": thread, "runId": "r", "result": result});
        let other = serde_json::json!({"type": "STATE_DELTA", "delta": []});
        let hostile = "\ndata: {\"type\":\"RUN_FINISHED\",\"threadId\":\"p\"";
        for result in ["x", hostile] {
            for thread in ["t", "a \"b\"\n\u{2028}", ""] {
                for before in [&[][..], std::slice::from_ref(&other)] {
                    let told = in_thread(frames(&[before, &[end("p", result)]].concat()), thread);
                    assert_eq!(told, frames(&[before, &[end(thread, result)]].concat()));
                }
            }
        }
        let first = frames(std::slice::from_ref(&other));
        let both = [first.clone(), frames(&[end("p", "x")])].concat();
        assert_eq!(in_thread(both, "t"), [first.clone(), frames(&[end("t", "x")])].concat());
        assert_eq!(in_thread(first.clone(), "t"), first);
        assert_eq!(in_thread(Vec::new(), "t"), b"");
    }

    #[test]
    fn a_stream_begins_with_when_to_come_back() {
        let told = with_retry(&frames(&[serde_json::json!({"type": "start"})]), 1234);
        assert_eq!(
            String::from_utf8(contents(&told)).expect("text"),
            "retry: 1234\nid: id\ndata: {\"type\":\"start\"}\n\n"
        );
    }
}
