//! Events as they are sent. The events of one message go into one chunk, and the last of them has the message's id. So
//! a client that sends the last id that it saw has seen complete messages only.

use serde::Serialize;

use crate::http::{contents, split_last_chunk, write_chunk};
use crate::model::push_on_one_line;

/// What stands before the thread of a run that has ended. Nothing else reads so: within an event no line ends.
const BEFORE_THREAD: &[u8] = b"\ndata: {\"type\":\"RUN_FINISHED\",\"threadId\":";

/// The bytes between its thread and its own name.
const BEFORE_RUN: &[u8] = b",\"runId\":";

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

/// What a client of AG-UI calls the thread and the run, where it calls them otherwise than the server does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// The thread.
    pub thread: Option<Box<str>>,
    /// The run.
    pub run: Option<Box<str>>,
}

impl Names {
    /// Is nothing called otherwise?
    pub fn is_empty(&self) -> bool {
        self.thread.is_none() && self.run.is_none()
    }

    /// A run's last frames, whole chunks, for a client that has these names: what AG-UI's events of a run's beginning and
    /// end say must be the same. What tells no such end stays as it is, and so do all chunks but the last.
    pub fn put_into(&self, chunks: Vec<u8>) -> Vec<u8> {
        let Some((before, last)) = split_last_chunk(&chunks) else { return chunks };
        let Some(told) = self.put_into_last(last) else { return chunks };
        let mut chunks = before.to_vec();
        write_chunk(&mut chunks, &told);
        chunks
    }

    fn put_into_last(&self, last: &[u8]) -> Option<Vec<u8>> {
        // The first event of a chunk has no line before it here.
        let text = [b"\n", last].concat();
        let thread = memchr::memmem::rfind(&text, BEFORE_THREAD)? + BEFORE_THREAD.len();
        let behind_thread = end_of_name(&text, thread)?;
        let run = text[behind_thread..].starts_with(BEFORE_RUN).then_some(behind_thread + BEFORE_RUN.len())?;
        let behind_run = end_of_name(&text, run)?;
        let mut told = text[1..thread].to_vec();
        push_name(&mut told, self.thread.as_deref(), &text[thread..behind_thread]);
        told.extend_from_slice(BEFORE_RUN);
        push_name(&mut told, self.run.as_deref(), &text[run..behind_run]);
        told.extend_from_slice(&text[behind_run..]);
        Some(told)
    }
}

/// Where the string ends that begins here. The server's own names have nothing in them that is escaped.
fn end_of_name(text: &[u8], from: usize) -> Option<usize> {
    text[from..].iter().skip(1).position(|&byte| byte == b'"').map(|length| from + length + 2)
}

fn push_name(to: &mut Vec<u8>, name: Option<&str>, otherwise: &[u8]) {
    match name {
        Some(name) => push_on_one_line(to, serde_json::json!(name).to_string().as_bytes()),
        None => to.extend_from_slice(otherwise),
    }
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
    fn the_names_in_the_last_event_are_the_clients() {
        let called = |thread: &str, run: &str, result: &str| serde_json::json!({"type": "RUN_FINISHED", "threadId": thread, "runId": run, "result": result});
        let end = |thread: &str, result: &str| called(thread, "r", result);
        let in_thread =
            |chunks: Vec<u8>, thread: &str| Names { thread: Some(thread.into()), run: None }.put_into(chunks);
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
        let names = Names { thread: None, run: Some("another".into()) };
        assert_eq!(names.put_into(frames(&[end("p", hostile)])), frames(&[called("p", "another", hostile)]));
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
