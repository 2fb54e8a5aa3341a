//! The messages of a run as a list, page by page: as they are, or as CloudEvents.

use crate::auth::IdSigner;
use crate::formats::cloudevents;
use crate::log::protocol::{Answer, EventList, Refusal};
use crate::log::store::{Flow, History, StoreError, StoredMessage};
use crate::model::{ProjectId, RunId};

/// A page of a run's messages ends after the message that makes it this large, even if more messages were asked for.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// What is listed of a run's messages.
#[derive(Debug, Clone, Copy)]
pub(in crate::log) struct WantedRunEvents<'a> {
    pub(in crate::log) project: &'a ProjectId,
    pub(in crate::log) run: &'a RunId,
    /// Behind this message.
    pub(in crate::log) after: u64,
    /// The maximum number.
    pub(in crate::log) limit: usize,
    pub(in crate::log) list: EventList,
}

/// A page of them.
pub(in crate::log) fn list(
    history: &dyn History,
    signer: &IdSigner,
    wanted: &WantedRunEvents<'_>,
) -> Result<Answer, StoreError> {
    let WantedRunEvents { project, run, after, limit, list } = *wanted;
    let Some(number) = history.run_number(project, run)? else {
        return Ok(Answer::Refused(Refusal::UnknownRun));
    };
    let (mut items, mut shown, mut last, mut has_more) = (Vec::new(), 0, String::new(), false);
    let mut failure = None;
    history.messages(project, after, Some(number), &mut |message| {
        if shown == limit || items.len() >= BYTES_MAX {
            has_more = true;
            return Flow::Stop;
        }
        if shown > 0 {
            items.push(b',');
        }
        shown += 1;
        last = signer.text(project, message.seq);
        match write_item(&mut items, list, &last, message) {
            Ok(()) => Flow::More,
            Err(error) => {
                failure = Some(StoreError(format!("cannot read message {}: {error}", message.seq)));
                Flow::Stop
            }
        }
    })?;
    let next = has_more.then_some(last);
    failure.map_or_else(|| Ok(page(list, &items, next)), Err)
}

fn write_item(to: &mut Vec<u8>, list: EventList, id: &str, message: &StoredMessage) -> Result<(), serde_json::Error> {
    match list {
        EventList::Messages => {
            write_with_id(to, id, message);
            Ok(())
        }
        EventList::CloudEvents => cloudevents::write_event(to, id, &message.json),
    }
}

fn page(list: EventList, items: &[u8], next: Option<String>) -> Answer {
    match list {
        EventList::Messages => {
            let next = next.map_or(String::new(), |id| format!(",\"next\":\"{id}\""));
            Answer::Json([b"{\"events\":[", items, b"]", next.as_bytes(), b"}"].concat())
        }
        EventList::CloudEvents => Answer::Batch { body: [b"[", items, b"]"].concat(), next },
    }
}

/// Appends a message with its id as the first member.
pub(super) fn write_with_id(to: &mut Vec<u8>, id: &str, message: &StoredMessage) {
    to.extend_from_slice(b"{\"id\":\"");
    to.extend_from_slice(id.as_bytes());
    to.extend_from_slice(b"\",");
    // The message is an object with members; its own opening brace gives way to the id.
    to.extend_from_slice(message.json.get(1..).unwrap_or_default());
}
