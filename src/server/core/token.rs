//! Who is meant: sockets to the poll, and those who wait for an answer to other threads.

use crate::stream::StreamKey;

/// Which socket: what the poll knows it by. It keeps its token when its connection becomes a stream, so that the poll
/// need not be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token(pub usize);

/// What a socket is now, and its place in that slab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Connection(u32),
    Stream(u32),
}

/// Who waits for an answer, as a number that other threads can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiter {
    Connection { index: u32, generation: u32 },
    Stream(StreamKey),
}

const STREAM_BIT: u64 = 1 << 63;

/// Generations are 31 bits wide, so that the bit that tells streams from connections has its place.
pub(super) const GENERATION_MASK: u32 = u32::MAX >> 1;

pub(super) fn reply_number(waiter: Waiter) -> u64 {
    let (bit, generation, index) = match waiter {
        Waiter::Connection { index, generation } => (0, generation, index),
        Waiter::Stream(key) => (STREAM_BIT, key.generation(), key.index() as u32),
    };
    bit | u64::from(generation & GENERATION_MASK) << 32 | u64::from(index)
}

pub(super) fn waiter(number: u64) -> Waiter {
    let index = number as u32;
    let generation = (number >> 32) as u32 & GENERATION_MASK;
    match number & STREAM_BIT {
        0 => Waiter::Connection { index, generation },
        _ => Waiter::Stream(StreamKey::new(index, generation)),
    }
}
