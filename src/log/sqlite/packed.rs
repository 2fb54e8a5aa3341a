//! Compression of large columns: messages and JSON repeat themselves, and take a fifth of the pages when compressed.
//!
//! A column begins with a byte that says how the rest is encoded: as it is, or as LZ4 (block format) after its length.
//! Small values repeat little within themselves but share common text with all others: that is in a dictionary.

use lz4_flex::block::{
    CompressTable, compress_into_with_dict, compress_into_with_table, decompress, decompress_with_dict,
    get_maximum_output_size,
};

use crate::log::RunNumber;
use crate::log::store::{PlaceInRun, StoredMessage};
use crate::model::Timestamp;

const PLAIN: u8 = 0;
const LZ4: u8 = 1;
const LZ4_WITH_DICTIONARY_1: u8 = 2;

/// What messages and runs have in common. It stays as it is as long as there are files that were written with it: another
/// has another number.
const DICTIONARY_1: &[u8] = include_bytes!("dictionary_1.txt");

/// What is larger has the same in it again and again, and needs no dictionary.
const DICTIONARY_INPUT_MAX: usize = 8 * 1024;

/// That, and the length.
const HEAD_BYTES: usize = 5;

/// Shorter values are not compressed.
const SHORT: usize = 64;

/// No LZ4 block becomes larger by more than this factor: one that says so is damaged.
const FACTOR_MAX: usize = 256;

/// Room that is kept for the next column; what a larger one took is given back.
const ROOM_KEPT: usize = 256 * 1024;

/// Packs columns, one after the other.
#[derive(Default)]
pub(super) struct Packer {
    table: CompressTable,
    packed: Vec<u8>,
}

impl Packer {
    /// `bytes` as a column holds them.
    pub(super) fn pack(&mut self, bytes: &[u8]) -> &[u8] {
        match self.compress(bytes) {
            Some(length) => &self.packed[..length],
            None => {
                self.packed.clear();
                self.packed.push(PLAIN);
                self.packed.extend_from_slice(bytes);
                &self.packed
            }
        }
    }

    /// How long the column is, where that is worth it.
    fn compress(&mut self, bytes: &[u8]) -> Option<usize> {
        let length = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() >= SHORT)?;
        let room = HEAD_BYTES + get_maximum_output_size(bytes.len());
        if self.packed.len() < room || self.packed.len() > ROOM_KEPT.max(room) {
            self.packed = vec![0; room];
        }
        let (head, block) = self.packed.split_at_mut(HEAD_BYTES);
        let has_dictionary = bytes.len() <= DICTIONARY_INPUT_MAX;
        head[0] = if has_dictionary { LZ4_WITH_DICTIONARY_1 } else { LZ4 };
        head[1..].copy_from_slice(&length.to_le_bytes());
        let packed = match has_dictionary {
            true => compress_into_with_dict(bytes, block, DICTIONARY_1),
            false => compress_into_with_table(bytes, block, &mut self.table),
        };
        packed.ok().map(|length| HEAD_BYTES + length).filter(|&length| length <= bytes.len())
    }
}

/// What a [`Packer`] has packed; nothing where it is damaged.
pub(super) fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    match packed.split_first()? {
        (&PLAIN, bytes) => Some(bytes.to_vec()),
        (&kind @ (LZ4 | LZ4_WITH_DICTIONARY_1), rest) => {
            let (length, block) = rest.split_first_chunk()?;
            let length = u32::from_le_bytes(*length) as usize;
            if length > block.len().saturating_mul(FACTOR_MAX) {
                return None;
            }
            let bytes = match kind {
                LZ4 => decompress(block, length),
                _ => decompress_with_dict(block, length, DICTIONARY_1),
            };
            bytes.ok().filter(|bytes| bytes.len() == length)
        }
        _ => None,
    }
}

/// A message where it lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lying<'a> {
    pub(super) at: Timestamp,
    pub(super) run: Option<RunNumber>,
    pub(super) place: PlaceInRun,
    pub(super) json: &'a [u8],
}

impl Lying<'_> {
    pub(super) fn to_stored(self, seq: u64) -> StoredMessage {
        let Self { at, run, place, json } = self;
        StoredMessage { seq, at, run, place, json: json.into() }
    }
}

/// Appends a message.
pub(super) fn put_message(to: &mut Vec<u8>, message: &StoredMessage) {
    put_number(to, message.run.map_or(0, |run| run.0.get()));
    to.push(place_code(message.place));
    put_number(to, message.at.as_millis());
    put_bytes(to, &message.json);
}

/// Appends a message that stands by itself, with its `seq`.
pub(super) fn put_outer(to: &mut Vec<u8>, message: &StoredMessage) {
    put_number(to, message.seq);
    put_message(to, message);
}

pub(super) fn take_outer(from: &mut &[u8]) -> Option<StoredMessage> {
    let seq = take_number(from)?;
    take_message(from).map(|message| message.to_stored(seq))
}

/// Takes a message off the front, if there is one.
pub(super) fn take_message<'a>(from: &mut &'a [u8]) -> Option<Lying<'a>> {
    let run = std::num::NonZeroU64::new(take_number(from)?).map(RunNumber);
    let (&code, rest) = from.split_first()?;
    *from = rest;
    let at = Timestamp::from_millis(take_number(from)?);
    Some(Lying { at, run, place: place_of(code)?, json: take_bytes(from)? })
}

/// Appends the length of `bytes`, and then `bytes`.
pub(super) fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    put_number(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

pub(super) fn take_bytes<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_number(from)?).ok()?;
    let (bytes, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(bytes)
}

/// Appends a number, seven bits a byte, the lowest first.
pub(super) fn put_number(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

pub(super) fn take_number(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = from.split_first()?;
        *from = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// A place as a message holds it.
pub(super) fn place_code(place: PlaceInRun) -> u8 {
    match place {
        PlaceInRun::Middle => 0,
        PlaceInRun::First => 1,
        PlaceInRun::Turn => 2,
        PlaceInRun::Last => 3,
    }
}

pub(super) fn place_of(code: u8) -> Option<PlaceInRun> {
    match code {
        0 => Some(PlaceInRun::Middle),
        1 => Some(PlaceInRun::First),
        2 => Some(PlaceInRun::Turn),
        3 => Some(PlaceInRun::Last),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_is_unpacked_and_what_is_damaged_is_not() {
        let mut packer = Packer::default();
        let incompressible: Vec<u8> = (0..5000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let columns = [vec![], b"short".to_vec(), vec![b'x'; 100], vec![b'y'; 300_000], incompressible];
        for bytes in columns {
            let packed = packer.pack(&bytes).to_vec();
            assert!(packed.len() <= bytes.len() + 1);
            assert_eq!(unpack(&packed), Some(bytes));
        }
        let packed = packer.pack(&[b'x'; 100]).to_vec();
        for damaged in
            [&[][..], &[3, 3], &[2, 3], &packed[..4], &packed[..packed.len() - 1], &[LZ4, 255, 255, 255, 255, 0]]
        {
            assert_eq!(unpack(damaged), None, "{damaged:?}");
        }
    }

    #[test]
    fn messages_are_taken_off_as_they_were_put() {
        let message = |seq: u64, run: Option<u64>, place| StoredMessage {
            seq,
            at: Timestamp::from_millis(seq << 40),
            run: run.and_then(std::num::NonZeroU64::new).map(RunNumber),
            place,
            json: vec![b'x'; seq as usize].into(),
        };
        let messages = [
            message(1, None, PlaceInRun::Middle),
            message(2, Some(1), PlaceInRun::First),
            message(300, Some(u64::MAX), PlaceInRun::Turn),
            message(4, Some(1 << 35), PlaceInRun::Last),
        ];
        let mut bytes = Vec::new();
        messages.iter().for_each(|message| put_message(&mut bytes, message));
        let mut left = bytes.as_slice();
        for message in &messages {
            assert_eq!(take_message(&mut left).map(|lying| lying.to_stored(message.seq)), Some(message.clone()));
        }
        assert!(left.is_empty() && take_message(&mut left).is_none());
        let whole = |mut bytes: &[u8]| std::iter::from_fn(|| take_message(&mut bytes)).count();
        assert_eq!((whole(&bytes), whole(&bytes[..bytes.len() - 1]), whole(&bytes[..3])), (4, 3, 0));
    }
}
