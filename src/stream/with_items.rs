//! The messages of a project with updates about items between them: the positions of such a channel, and its backlog.
//!
//! An update about an item has no number. Its place is after the message before it: a position consists of the number
//! of that message and, in its lower bits, the number of updates since. History holds only messages, so a stream that
//! comes from there is at the first place after one, and is sent the current state of the items.

use super::backlog::Backlog;
use crate::log::Frames;

/// The bits of a position that count updates about items between two messages. A step reports its counts in a message
/// four times a second, so this is never exceeded; further updates would be dropped.
const ITEM_BITS: u32 = 24;

/// The position right after a message.
pub(super) fn position_after(seq: u64) -> u64 {
    seq << ITEM_BITS
}

/// The number of the newest message at a position.
pub(super) fn seq_at(position: u64) -> u64 {
    position >> ITEM_BITS
}

/// Where a stream continues that has all messages up to `seq` and will be sent the state of the items.
pub(super) fn position_from(seq: u64, backlog: &Backlog) -> u64 {
    let (right_after, floor) = (position_after(seq), backlog.floor());
    if seq_at(floor) == seq { right_after.max(floor) } else { right_after }
}

/// Appends the next messages. Those that are there already are skipped, and after a gap the content is replaced, as in
/// any backlog.
pub(super) fn append(backlog: &mut Backlog, frames: &Frames) {
    let before = frames.first_seq.saturating_sub(1);
    if before > seq_at(backlog.newest()) {
        backlog.restart_after(position_after(before));
    }
    let mut items = frames.items.iter().peekable();
    for place in 0..=frames.marks.len() {
        let seq = before + place as u64;
        if let Some(last) = place.checked_sub(1)
            && seq > seq_at(backlog.newest())
        {
            let start = last.checked_sub(1).map_or(0, |before| frames.marks[before].end);
            let mark = &frames.marks[last];
            backlog.push(position_after(seq), &frames.bytes[start..mark.end], mark.run, mark.is_last);
        }
        while let Some(item) = items.next_if(|item| item.behind == place) {
            let position = backlog.newest() + 1;
            if seq_at(position) == seq {
                backlog.push(position, &item.bytes, Some(item.run), false);
            }
        }
    }
}
