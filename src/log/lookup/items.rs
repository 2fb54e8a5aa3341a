//! The items of a step as a list, page by page.

use serde::Serialize;

use crate::http::sse;
use crate::log::frames::Page as StreamPage;
use crate::log::protocol::{Answer, Refusal, WantedItems};
use crate::log::store::{Flow, History, RunNumber, StoreError};
use crate::model::{
    ITEM_SHOWN_BYTES_MAX, ItemState, ItemsSnapshot, ProjectId, RunId, RunState, StepId, StepItems, json_bytes,
    write_message_of,
};

/// A page ends after the item that makes it this large, even if more items were asked for.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// The most steps whose items are shown together; the number of further steps is shown.
pub(in crate::log) const STEPS_SHOWN_MAX: usize = 4096;

/// What is shown of the items of several steps together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    items: usize,
    /// Of their JSON. While more than half of them are left, items are shown with their outputs and errors.
    bytes: u64,
    /// Of what is kept of them: it is read whole, however little of it is shown.
    read_bytes: u64,
}

/// 10,000 items, about 4 MiB of them, out of 32 MiB: 10,000 with outputs of 64 KiB would be 640 MiB.
const ROOM: Room = Room { items: 10_000, bytes: 4 * 1024 * 1024, read_bytes: 32 * 1024 * 1024 };

impl Room {
    fn is_full(&self) -> bool {
        self.items == 0 || self.bytes == 0 || self.read_bytes == 0
    }

    /// The first items of a step, as many as there is room for. Where there is none at all, nothing is read.
    fn take<'a>(
        &mut self,
        history: &dyn History,
        number: RunNumber,
        step_id: &'a StepId,
    ) -> Result<StepItems<'a>, StoreError> {
        let (mut items, mut truncated, mut next) = (Vec::new(), self.is_full(), None);
        if truncated {
            return Ok(StepItems { step_id, items, truncated, next });
        }
        each(history, number, step_id, 0, &mut |row| {
            if self.is_full() {
                truncated = true;
                return Ok(Flow::Stop);
            }
            let item = from_row(row)?;
            let shown_max = if self.bytes > ROOM.bytes / 2 { ITEM_SHOWN_BYTES_MAX } else { 0 };
            let shown = item.shown(step_id, shown_max);
            self.items -= 1;
            self.bytes = self.bytes.saturating_sub(json_bytes(&shown));
            self.read_bytes = self.read_bytes.saturating_sub(row.len() as u64);
            next = Some(item.item);
            items.push(shown);
            Ok(Flow::More)
        })?;
        Ok(StepItems { step_id, items, truncated, next: next.filter(|_| truncated) })
    }
}

/// Steps in progress whose items are to be shown to a stream.
#[derive(Debug)]
pub(in crate::log) struct InProgress {
    pub(in crate::log) project: ProjectId,
    /// The position at which the stream is.
    pub(in crate::log) after: u64,
    /// [`STEPS_SHOWN_MAX`] at most.
    pub(in crate::log) steps: Vec<(RunNumber, RunId, StepId)>,
    /// How many more there are.
    pub(in crate::log) omitted_steps: usize,
}

impl InProgress {
    /// One `workflow_items_snapshot` a step, and together no more than a stream is sent at once.
    pub(in crate::log) fn page(&self, history: &dyn History) -> Result<StreamPage, StoreError> {
        self.page_within(ROOM, history)
    }

    fn page_within(&self, mut room: Room, history: &dyn History) -> Result<StreamPage, StoreError> {
        let (mut bytes, mut json) = (Vec::new(), Vec::new());
        for (place, (number, run_id, step_id)) in self.steps.iter().enumerate() {
            let items = room.take(history, *number, step_id)?;
            let omitted_steps = if place + 1 == self.steps.len() { self.omitted_steps } else { 0 };
            json.clear();
            let snapshot = ItemsSnapshot { run_id, items, omitted_steps };
            write_message_of(&mut json, "workflow_items_snapshot", &self.project, self.after, &snapshot)
                .map_err(|error| StoreError(error.to_string()))?;
            sse::write_event(&mut bytes, None, None, &json);
        }
        Ok(StreamPage { bytes: bytes.into(), messages: self.steps.len(), up_to: self.after, has_last: false })
    }
}

/// The items of a run in this state, of all its steps, as the members of an object.
pub(super) fn of_run(history: &dyn History, number: RunNumber, state: &RunState) -> Result<Vec<u8>, StoreError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Members<'a> {
        items: Vec<StepItems<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        omitted_steps: Option<usize>,
    }
    let mut room = ROOM;
    let mut steps = state.steps.iter().filter(|step| step.items.is_some());
    let shown = steps.by_ref().take(STEPS_SHOWN_MAX);
    let items = shown.map(|step| room.take(history, number, &step.id)).collect::<Result<_, _>>()?;
    let omitted_steps = Some(steps.count()).filter(|count| *count > 0);
    serde_json::to_vec(&Members { items, omitted_steps }).map_err(|error| StoreError(error.to_string()))
}

/// All that is kept of a step's items.
pub(in crate::log) fn read(
    history: &dyn History,
    number: RunNumber,
    step: &StepId,
) -> Result<Vec<ItemState>, StoreError> {
    let mut items = Vec::new();
    each(history, number, step, 0, &mut |row| {
        items.push(from_row(row)?);
        Ok(Flow::More)
    })?;
    Ok(items)
}

/// Calls `look` with what is kept of the items of a step, from this one on, until it says stop or fails.
fn each(
    history: &dyn History,
    number: RunNumber,
    step: &StepId,
    from: u32,
    look: &mut dyn FnMut(&[u8]) -> Result<Flow, StoreError>,
) -> Result<(), StoreError> {
    let mut failure = None;
    history.items(number, step, from, &mut |_, row| {
        look(row).unwrap_or_else(|error| {
            failure = Some(error);
            Flow::Stop
        })
    })?;
    failure.map_or(Ok(()), Err)
}

/// What is stored of one item.
pub(super) fn one(
    history: &dyn History,
    number: RunNumber,
    step: &StepId,
    wanted: u32,
) -> Result<Option<ItemState>, StoreError> {
    let mut found = None;
    history.items(number, step, wanted, &mut |item, row| {
        found = (item == wanted).then(|| from_row(row));
        Flow::Stop
    })?;
    found.transpose()
}

/// A page of the items of a step, of a run in this state.
pub(in crate::log) fn list(
    history: &dyn History,
    number: RunNumber,
    state: &RunState,
    step: &StepId,
    wanted: WantedItems,
) -> Result<Answer, StoreError> {
    if state.step(step).is_none() {
        return Ok(Answer::Refused(Refusal::UnknownStep));
    }
    let from = wanted.after.map_or(Some(0), |after| after.checked_add(1));
    let mut page = Page { step, wanted, body: b"{\"items\":[".to_vec(), shown: 0, last: 0, has_more: false };
    if let Some(from) = from {
        each(history, number, step, from, &mut |row| page.add(row))?;
    }
    Ok(Answer::Json(page.finish()))
}

struct Page<'a> {
    step: &'a StepId,
    wanted: WantedItems,
    body: Vec<u8>,
    shown: usize,
    last: u32,
    has_more: bool,
}

impl Page<'_> {
    fn add(&mut self, row: &[u8]) -> Result<Flow, StoreError> {
        let item = from_row(row)?;
        if self.wanted.status.is_some_and(|status| status != item.status) {
            return Ok(Flow::More);
        }
        if self.shown == self.wanted.limit || self.body.len() >= BYTES_MAX {
            self.has_more = true;
            return Ok(Flow::Stop);
        }
        let head = format!("{}{{\"id\":\"{}\",", if self.shown > 0 { "," } else { "" }, item.id(self.step));
        self.body.extend_from_slice(head.as_bytes());
        let shown = serde_json::to_vec(&item).map_err(|error| StoreError(error.to_string()))?;
        // The item is an object with members; its own opening brace gives way to the id.
        self.body.extend_from_slice(&shown[1..]);
        (self.shown, self.last) = (self.shown + 1, item.item);
        Ok(Flow::More)
    }

    fn finish(mut self) -> Vec<u8> {
        self.body.push(b']');
        if self.has_more {
            self.body.extend_from_slice(format!(",\"next\":{}", self.last).as_bytes());
        }
        self.body.push(b'}');
        self.body
    }
}

fn from_row(row: &[u8]) -> Result<ItemState, StoreError> {
    ItemState::from_row(row).map_err(|error| StoreError(format!("cannot read an item: {error}")))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::log::MemoryStore;
    use crate::log::store::{Store, Write};
    use crate::log::testing::{created, number, project, run_id};
    use crate::model::StepUpdate;

    fn step(id: &str) -> StepId {
        StepId::parse(id).expect("an id")
    }

    /// A store with a run whose steps each have this many items with outputs of 2,000 bytes.
    fn store(steps: &[&str], items: u32) -> MemoryStore {
        let mut store = MemoryStore::new();
        let at = crate::model::Timestamp::from_millis(1);
        let done = StepUpdate::Completed {
            output: std::sync::Arc::new("x".repeat(2000).into()),
            duration: 1,
            truncated: false,
            output_bytes: None,
            reused: false,
        };
        let row = |item: u32| {
            let mut state = ItemState::pending(item);
            state.apply(1, &done, at);
            state.to_row().expect("JSON").into()
        };
        let mut writes = vec![created(1, 0)];
        for id in steps {
            let write = |item| Write::Item { number: number(1), step: step(id), item, row: row(item) };
            writes.extend((0..items).map(write));
        }
        assert_eq!(store.append(&[], &writes, at), Ok(()));
        store
    }

    /// What each snapshot says, in short: its step, how many items, how long the first one's output, what is left out.
    fn snapshots(page: &StreamPage) -> Vec<Value> {
        let text = str::from_utf8(&page.bytes).expect("text");
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        let in_short = |json: &str| {
            let payload = serde_json::from_str::<Value>(json).expect("JSON")["payload"].take();
            let items = payload["items"].as_array().expect("items");
            let first = items.first().and_then(|item| item["output"].as_str()).map_or(0, str::len);
            json!([
                payload["stepId"],
                items.len(),
                first,
                payload["truncated"],
                payload["next"],
                payload["omittedSteps"]
            ])
        };
        data.map(in_short).collect()
    }

    /// However many rows there were, all of them were read for whoever subscribed.
    #[test]
    fn snapshots_of_items_were_as_large_as_all_items_together() {
        let store = store(&["a", "b", "c"], 10);
        let steps = ["a", "b", "c"].map(|id| (number(1), run_id(1), step(id)));
        let wanted = InProgress { project: project(), after: 7, steps: steps.into(), omitted_steps: 5 };
        let show =
            |items, bytes| snapshots(&wanted.page_within(Room { items, bytes, ..ROOM }, &store).expect("is read"));
        let whole = ["a", "b"].map(|id| json!([id, 10, 1024, null, null, null]));
        assert_eq!(show(30, ROOM.bytes), [&whole[..], &[json!(["c", 10, 1024, null, null, 5])]].concat());
        let rows = show(13, ROOM.bytes);
        assert_eq!(rows[1..], [json!(["b", 3, 1024, true, 2, null]), json!(["c", 0, 0, true, null, 5])]);
        let bytes = show(30, 3000);
        let shown = bytes[0][1].as_u64().expect("a number");
        assert!(shown > 1 && shown < 30 && bytes[0][2] == 0, "without outputs, for less than half is left: {bytes:?}");
        assert_eq!(bytes[2], json!(["c", 0, 0, true, null, 5]));
    }

    /// However little of them was shown, all of what is kept of 10,000 items was read.
    #[test]
    fn snapshots_of_items_read_outputs_of_which_they_show_nothing() {
        let store = store(&["a", "b"], 10);
        let mut room = Room { read_bytes: 5000, ..ROOM };
        let (a, b) = (step("a"), step("b"));
        let taken = room.take(&store, number(1), &a).expect("is read");
        assert_eq!(
            (taken.items.len(), taken.truncated, taken.next),
            (3, true, Some(2)),
            "of 2,000 bytes and more each"
        );
        assert_eq!(room.read_bytes, 0);
        let taken = room.take(&store, number(1), &b).expect("is read");
        assert_eq!((taken.items.len(), taken.truncated, taken.next), (0, true, None));
    }
}
