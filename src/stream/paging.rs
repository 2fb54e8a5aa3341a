//! Which stream gets the next page of history, and how large the page may be.
//!
//! Streams that have fallen behind wait in line, first come, first served. A stream whose client reads nothing blocks
//! nobody, because it asks for nothing more. Only a few pages are requested at a time, so that live messages do not
//! wait behind a long queue of pages. The memory for pages of all streams together is bounded: the less of it is left,
//! and the more streams share it, the smaller the pages.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::model::SlabKey;

/// The most pages under way. This keeps the history thread busy during a turn of the loop; a turn hands out at most
/// this many: 1 MiB.
pub const PAGES_IN_FLIGHT_MAX: usize = 16;

/// Bytes of pages that streams hold before pages are as small as can be. Those come on top: 10,000 streams that all take
/// nothing hold 16 MiB + 10,000 x 4 KiB = 55 MiB at most, single messages larger than that aside.
const HELD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// No page is granted more than this part of what is left, so that the first to come do not take everything.
const LEFT_PART: usize = 16;

/// A page's least and most bytes.
const PAGE_BYTES_MIN: usize = 4 * 1024;
const PAGE_BYTES_MAX: usize = 64 * 1024;

/// See the top of this file.
#[derive(Debug, Default)]
pub(super) struct Paging {
    /// Each stream at most once; some may have ended since.
    waiting: VecDeque<SlabKey>,
    in_flight: usize,
    memory: Arc<PageMemory>,
}

/// The memory of the pages of all streams. The counters are atomic because the manager, which runs on one thread, may move
/// to another.
#[derive(Debug, Default)]
struct PageMemory {
    bytes: AtomicUsize,
    streams: AtomicUsize,
}

/// The part of a stream in that memory. Dropping it gives the part back, however the stream ends.
#[derive(Debug)]
pub(super) struct PageReservation {
    memory: Arc<PageMemory>,
    bytes: usize,
}

impl Paging {
    /// A stream is behind, and waits for a page.
    pub(super) fn wait(&mut self, stream: SlabKey) {
        self.waiting.push_back(stream);
    }

    /// Does any stream wait?
    pub(super) fn is_waited_for(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The stream whose turn it is, if fewer than `in_flight_max` pages are under way.
    pub(super) fn next(&mut self, in_flight_max: usize) -> Option<SlabKey> {
        let stream = (self.in_flight < in_flight_max).then(|| self.waiting.pop_front()).flatten();
        if self.waiting.is_empty() {
            self.waiting.shrink_to(PAGES_IN_FLIGHT_MAX);
        }
        stream
    }

    /// Reserves memory for the next page. The stream holds the reservation.
    pub(super) fn ask(&mut self) -> PageReservation {
        let bytes = self.page_bytes();
        self.in_flight += 1;
        self.memory.streams.fetch_add(1, Ordering::Relaxed);
        self.memory.bytes.fetch_add(bytes, Ordering::Relaxed);
        PageReservation { memory: self.memory.clone(), bytes }
    }

    /// A page has come, whether its stream is still there or not.
    pub(super) fn answered(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    fn page_bytes(&self) -> usize {
        let streams = self.memory.streams.load(Ordering::Relaxed) + self.waiting.len() + 1;
        let left = HELD_BYTES_MAX.saturating_sub(self.memory.bytes.load(Ordering::Relaxed));
        (HELD_BYTES_MAX / streams).min(left / LEFT_PART).clamp(PAGE_BYTES_MIN, PAGE_BYTES_MAX)
    }

    /// Streams that wait, pages on their way, bytes held.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        (self.waiting.len(), self.in_flight, self.memory.bytes.load(Ordering::Relaxed))
    }
}

impl PageReservation {
    /// The most bytes that the page may have.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sets the size to that of the page that has come.
    pub(super) fn resize(&mut self, bytes: usize) {
        self.memory.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.memory.bytes.fetch_sub(std::mem::replace(&mut self.bytes, bytes), Ordering::Relaxed);
    }
}

impl Drop for PageReservation {
    fn drop(&mut self) {
        self.memory.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.memory.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(index: usize) -> SlabKey {
        SlabKey::new(index as u32, 1)
    }

    #[test]
    fn whoever_came_first_is_first_and_few_are_on_their_way() {
        let mut paging = Paging::default();
        (0..3 * PAGES_IN_FLIGHT_MAX).for_each(|n| paging.wait(key(n)));
        let mut reservations: Vec<PageReservation> = Vec::new();
        let mut asked = Vec::new();
        while let Some(stream) = paging.next(PAGES_IN_FLIGHT_MAX) {
            asked.push(stream);
            reservations.push(paging.ask());
        }
        assert_eq!(asked, (0..PAGES_IN_FLIGHT_MAX).map(key).collect::<Vec<_>>());
        paging.answered();
        assert_eq!(
            (paging.next(PAGES_IN_FLIGHT_MAX), paging.counts().0),
            (Some(key(PAGES_IN_FLIGHT_MAX)), 2 * PAGES_IN_FLIGHT_MAX - 1)
        );
    }

    #[test]
    fn few_streams_get_large_pages_and_many_get_small_ones() {
        let mut paging = Paging::default();
        assert_eq!(paging.ask().bytes(), PAGE_BYTES_MAX);
        (0..100).for_each(|n| paging.wait(key(n)));
        assert_eq!(paging.ask().bytes(), PAGE_BYTES_MAX);
        (0..1000).for_each(|n| paging.wait(key(n)));
        let few = paging.ask().bytes();
        assert!(few < PAGE_BYTES_MAX && few > PAGE_BYTES_MIN, "{few}");
        (0..10_000).for_each(|n| paging.wait(key(n)));
        assert_eq!(paging.ask().bytes(), PAGE_BYTES_MIN);
    }

    #[test]
    fn streams_that_take_nothing_hold_a_bounded_sum_and_leave_something_for_the_next() {
        let mut paging = Paging::default();
        let reservations: Vec<PageReservation> = (0..10_000).map(|_| paging.ask()).collect();
        let held = paging.counts().2;
        assert_eq!(held, reservations.iter().map(PageReservation::bytes).sum::<usize>());
        assert!(held <= HELD_BYTES_MAX + 10_000 * PAGE_BYTES_MIN, "{held}");
        assert!(
            reservations.iter().all(|reservation| (PAGE_BYTES_MIN..=PAGE_BYTES_MAX).contains(&reservation.bytes()))
        );
        drop(reservations);
        assert_eq!((paging.counts().2, paging.ask().bytes()), (0, PAGE_BYTES_MAX), "all of it comes back");
    }

    #[test]
    fn what_is_held_is_what_came_and_not_what_was_asked_for() {
        let mut paging = Paging::default();
        let mut reservation = paging.ask();
        reservation.resize(100);
        assert_eq!(paging.counts().2, 100);
        reservation.resize(1 << 20);
        assert_eq!(paging.counts().2, 1 << 20, "one message may be larger than a page");
        drop(reservation);
        assert_eq!(paging.counts().2, 0);
    }
}
