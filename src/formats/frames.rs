//! Events as they are sent: those of one message together, in one chunk, the last of them with the message's id. So a
//! client that shows the id it saw last has seen whole messages, and never a part of one.

use serde::Serialize;

use crate::http::write_chunk;
use crate::model::push_on_one_line;

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
