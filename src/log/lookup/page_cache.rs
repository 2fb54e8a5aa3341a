//! Pages that were encoded recently, for streams that read the same history.
//!
//! Many streams replay the same messages at the same time. A block is what one of them was sent. Another stream whose
//! position lies anywhere within it takes the rest of the block and continues at its end, like all others that took it.
//! So streams that started at different positions soon ask for the same blocks.
//!
//! A stored message never changes, and no number of a message or a run is used again, so a full block stays valid; the
//! caller makes sure that its messages have not been deleted from history in the meantime.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::log::frames::{Page, SharedBytes, View};
use crate::log::store::RunNumber;
use crate::model::ProjectId;

/// A block that weighs more than this part of the cache, which is one large message, is not held: it would drive all
/// others out.
const BLOCK_PART_MAX: usize = 8;

/// The overhead of a block.
const BLOCK_OVERHEAD_BYTES: usize = 256;

/// Where a page begins, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::log) struct Stretch {
    pub(in crate::log) project: ProjectId,
    /// This run's messages alone.
    pub(in crate::log) run: Option<RunNumber>,
    pub(in crate::log) view: View,
    /// Behind this message.
    pub(in crate::log) after: u64,
}

/// Consecutive messages of one project, or of one run of it, encoded.
#[derive(Debug)]
pub(in crate::log) struct Block {
    bytes: Arc<[u8]>,
    /// Of each message its `seq` and the offset just after it.
    marks: Vec<(u64, usize)>,
    up_to: u64,
    has_last: bool,
}

impl Block {
    /// What most blocks hold at most.
    pub(in crate::log) const BYTES_USUAL: usize = 64 * 1024;

    /// A block of what `marks` say is in `bytes`. See [`Page`] for the rest.
    pub(in crate::log) fn new(bytes: Vec<u8>, marks: Vec<(u64, usize)>, up_to: u64, has_last: bool) -> Self {
        Self { bytes: bytes.into(), marks, up_to, has_last }
    }

    /// The messages after `after`, up to `bytes_max` bytes, but at least one.
    pub(in crate::log) fn cut(&self, after: u64, bytes_max: usize) -> Page {
        let from = self.marks.partition_point(|(seq, _)| *seq <= after);
        let start = self.end_of(from);
        let fitting = self.marks.partition_point(|(_, end)| end.saturating_sub(start) <= bytes_max);
        let to = fitting.max(from + 1).min(self.marks.len()).max(from);
        let is_tail = to == self.marks.len();
        let up_to = self.marks.get(to).map_or(self.up_to, |(seq, _)| seq - 1);
        Page {
            bytes: self.stretch(start, self.end_of(to)),
            messages: to - from,
            up_to,
            has_last: is_tail && self.has_last && to > from,
        }
    }

    /// Shared where that holds on to little more than is wanted, copied where it would hold on to much.
    fn stretch(&self, start: usize, end: usize) -> SharedBytes {
        match (end - start) * 4 >= self.bytes.len() * 3 {
            true => SharedBytes::of(&self.bytes, start..end),
            false => self.bytes[start..end].to_vec().into(),
        }
    }

    /// Where the first `messages` of it end.
    fn end_of(&self, messages: usize) -> usize {
        messages.checked_sub(1).and_then(|last| self.marks.get(last)).map_or(0, |(_, end)| *end)
    }

    fn weight(&self) -> usize {
        self.bytes.len() + self.marks.len() * size_of::<(u64, usize)>() + BLOCK_OVERHEAD_BYTES
    }
}

/// Blocks by where they begin; the one that was not used for the longest time goes first.
#[derive(Debug)]
pub(in crate::log) struct PageCache {
    bytes_max: usize,
    blocks: BTreeMap<Stretch, (Block, u64)>,
    /// The same by their last use.
    by_use: BTreeMap<u64, Stretch>,
    bytes: usize,
    uses: u64,
}

impl PageCache {
    /// A cache that holds up to `bytes_max`.
    pub(in crate::log) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, blocks: BTreeMap::new(), by_use: BTreeMap::new(), bytes: 0, uses: 0 }
    }

    /// Lets everything go.
    pub(in crate::log) fn clear(&mut self) {
        *self = Self::new(self.bytes_max);
    }

    /// A page of this stretch, out of the block that it begins in.
    pub(in crate::log) fn page(&mut self, stretch: &Stretch, bytes_max: usize) -> Option<Page> {
        let first = Stretch { after: 0, ..stretch.clone() };
        let (begin, (block, used)) =
            self.blocks.range_mut((Bound::Included(&first), Bound::Included(stretch))).next_back()?;
        if block.up_to <= stretch.after {
            return None;
        }
        self.uses += 1;
        self.by_use.remove(used);
        self.by_use.insert(self.uses, begin.clone());
        *used = self.uses;
        Some(block.cut(stretch.after, bytes_max))
    }

    /// Keeps a full block for other streams that follow.
    pub(in crate::log) fn insert(&mut self, stretch: Stretch, block: Block) {
        if block.weight() > self.bytes_max / BLOCK_PART_MAX {
            return;
        }
        self.remove(&stretch);
        self.uses += 1;
        self.bytes += block.weight();
        self.by_use.insert(self.uses, stretch.clone());
        self.blocks.insert(stretch, (block, self.uses));
        while self.bytes > self.bytes_max
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, stretch: &Stretch) {
        if let Some((block, used)) = self.blocks.remove(stretch) {
            self.by_use.remove(&used);
            self.bytes -= block.weight();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CACHE_BYTES_MAX: usize = 1024 * 1024;

    /// Messages after `after`, each of ten bytes, up to `last`.
    fn block(after: u64, last: u64) -> Block {
        let bytes: Vec<u8> = (after + 1..=last).flat_map(|seq| format!("{seq:>9}\n").into_bytes()).collect();
        let marks = (after + 1..=last).map(|seq| (seq, (seq - after) as usize * 10)).collect();
        Block::new(bytes, marks, last, false)
    }

    fn stretch(project: &str, run: Option<u64>, after: u64) -> Stretch {
        let run = run.and_then(std::num::NonZeroU64::new).map(RunNumber);
        Stretch { project: ProjectId::parse(project).expect("an id"), run, view: View::Events, after }
    }

    fn seqs(page: &Page) -> Vec<u64> {
        let text = String::from_utf8_lossy(&page.bytes).into_owned();
        text.lines().map(|line| line.trim().parse().expect("a number")).collect()
    }

    #[test]
    fn a_block_is_cut_at_messages_and_gives_one_at_least() {
        let block = block(10, 20);
        for (after, bytes_max, expected, up_to) in [
            (10, usize::MAX, (11..=20).collect::<Vec<_>>(), 20),
            (10, 35, vec![11, 12, 13], 13),
            (10, 30, vec![11, 12, 13], 13),
            (10, 1, vec![11], 11),
            (18, 15, vec![19], 19),
            (18, 20, vec![19, 20], 20),
            (19, 0, vec![20], 20),
            (20, 100, vec![], 20),
        ] {
            let page = block.cut(after, bytes_max);
            assert_eq!((seqs(&page), page.up_to), (expected.clone(), up_to), "behind {after}, {bytes_max} bytes");
            assert_eq!(page.messages, expected.len());
        }
    }

    #[test]
    fn only_the_tail_of_a_block_has_its_last_message_and_a_gap_belongs_to_the_page_before_it() {
        let block = Block::new(b"aabb".to_vec(), vec![(3, 2), (7, 4)], 9, true);
        let whole = block.cut(0, 100);
        assert_eq!((whole.up_to, whole.has_last, whole.messages), (9, true, 2));
        let head = block.cut(0, 2);
        assert_eq!((head.up_to, head.has_last, &*head.bytes), (6, false, &b"aa"[..]));
        let tail = block.cut(6, 2);
        assert_eq!((tail.up_to, tail.has_last, &*tail.bytes), (9, true, &b"bb"[..]));
    }

    #[test]
    fn a_page_held_by_many_is_there_once_and_a_small_piece_holds_on_to_nothing_large() {
        let block = block(0, 100);
        let held = Arc::strong_count(&block.bytes);
        let pages: Vec<Page> = (0..100).map(|_| block.cut(10, usize::MAX)).collect();
        assert_eq!(Arc::strong_count(&block.bytes), held + 100);
        assert_eq!(pages.iter().map(|page| page.bytes.len()).max(), Some(900));
        let small: Vec<Page> = (0..100).map(|_| block.cut(50, 100)).collect();
        assert_eq!((Arc::strong_count(&block.bytes), seqs(&small[0]).len()), (held + 100, 10));
    }

    #[test]
    fn whoever_stands_within_a_block_takes_its_tail() {
        let mut cache = PageCache::new(CACHE_BYTES_MAX);
        cache.insert(stretch("p", None, 10), block(10, 20));
        cache.insert(stretch("p", None, 20), block(20, 30));
        cache.insert(stretch("p", Some(1), 10), block(10, 12));
        let page = |cache: &mut PageCache, of: Stretch| cache.page(&of, usize::MAX).map(|page| seqs(&page));
        assert_eq!(page(&mut cache, stretch("p", None, 9)), None);
        assert_eq!(page(&mut cache, stretch("p", None, 17)), Some(vec![18, 19, 20]));
        assert_eq!(page(&mut cache, stretch("p", None, 20)), Some((21..=30).collect()));
        assert_eq!(page(&mut cache, stretch("p", None, 30)), None);
        assert_eq!(page(&mut cache, stretch("p", Some(1), 11)), Some(vec![12]));
        assert_eq!(page(&mut cache, stretch("p", Some(1), 12)), None);
        assert_eq!(page(&mut cache, stretch("p", Some(2), 11)), None, "another run's");
        assert_eq!(page(&mut cache, stretch("q", None, 15)), None, "another project's");
    }

    #[test]
    fn the_cache_is_bounded_and_keeps_what_is_used() {
        let mut cache = PageCache::new(CACHE_BYTES_MAX);
        let size = 2000;
        cache.insert(stretch("p", None, 0), block(0, size));
        for n in 1..1000 {
            assert!(cache.page(&stretch("p", None, 5), 100).is_some(), "used all the time");
            cache.insert(stretch("p", None, n * size), block(n * size, (n + 1) * size));
            assert!(cache.bytes <= CACHE_BYTES_MAX && cache.blocks.len() == cache.by_use.len());
        }
        assert!(cache.page(&stretch("p", None, size), 100).is_none(), "not used");
        let weight: usize = cache.blocks.values().map(|(block, _)| block.weight()).sum();
        assert_eq!(weight, cache.bytes);
        cache.clear();
        assert_eq!((cache.bytes, cache.blocks.len(), cache.by_use.len()), (0, 0, 0));
    }

    #[test]
    fn one_large_message_does_not_drive_all_others_out() {
        let mut cache = PageCache::new(CACHE_BYTES_MAX);
        cache.insert(stretch("p", None, 0), block(0, 10));
        let size = CACHE_BYTES_MAX / BLOCK_PART_MAX;
        let large = Block::new(vec![b'x'; size], vec![(11, size)], 11, false);
        cache.insert(stretch("p", None, 10), large);
        assert!(cache.page(&stretch("p", None, 10), 1).is_none() && cache.page(&stretch("p", None, 0), 1).is_some());
    }
}
