//! Ids of streams of several projects: `<instance>.~<positions>.<mac>`, opaque to clients.
//!
//! Such an id holds a position in each of the stream's projects, so that each resumes exactly where it was, even if the
//! client returns with a changed list: projects in the id resume, others start fresh. A project is identified by a
//! [`ProjectTag`], which is short and reveals nothing without the key. One signature covers all positions.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac::Key;

use super::mac;
use super::message_id::{ForeignId, Instance, MAC_BYTES, MAC_TEXT_BYTES, MessageId};
use crate::model::ProjectId;

/// The most projects of one stream.
pub const PROJECTS_PER_STREAM_MAX: usize = 32;

/// Before the positions: no id of a single message has it there.
const MARKER: u8 = b'~';

const TAG_BYTES: usize = 4;
/// Seven bits a byte.
const NUMBER_BYTES_MAX: usize = 10;
const POSITIONS_BYTES_MAX: usize = PROJECTS_PER_STREAM_MAX * (TAG_BYTES + NUMBER_BYTES_MAX);
const POSITIONS_TEXT_BYTES_MAX: usize = (POSITIONS_BYTES_MAX * 4).div_ceil(3);

/// What is signed begins with what it is, so that no tag is taken for a signature.
const OF_TAG: &[u8] = b"t";
const OF_POSITIONS: &[u8] = b"p";

/// Stands for a project in ids. Two projects of a stream have the same one once in ten million streams; then the id does
/// not say which is where, and both begin again.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProjectTag([u8; TAG_BYTES]);

/// The positions of several projects, read from a genuine id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Positions {
    entries: Vec<(ProjectTag, u64)>,
    is_ours: bool,
}

/// Writes and reads such ids, of one instance.
#[derive(Clone)]
pub(super) struct PositionsSigner {
    key: Key,
    instance: Instance,
}

impl Positions {
    /// Where the project of this tag was; nothing where it was none of the stream's. Two of the same tag were nowhere that
    /// this instance knows.
    pub fn of(&self, tag: ProjectTag) -> Option<MessageId> {
        let mut named = self.entries.iter().filter(|(named, _)| *named == tag);
        let (_, seq) = named.next()?;
        Some(MessageId { seq: *seq, is_ours: self.is_ours && named.next().is_none() })
    }
}

#[cfg(any(test, feature = "fuzzing"))]
impl Positions {
    pub(super) fn entries(&self) -> impl Iterator<Item = (ProjectTag, u64)> {
        self.entries.iter().copied()
    }

    pub(super) fn is_ours(&self) -> bool {
        self.is_ours
    }
}

impl PositionsSigner {
    pub(super) fn new(key: Key, instance: Instance) -> Self {
        Self { key, instance }
    }

    pub(super) fn tag(&self, project: &ProjectId) -> ProjectTag {
        let [a, b, c, d, ..] = mac::tag::<MAC_BYTES>(&self.key, &[OF_TAG, project.as_str().as_bytes()]);
        ProjectTag([a, b, c, d])
    }

    /// Appends the id of these positions to `to`. Takes no more of them than a stream has projects.
    pub(super) fn write(&self, to: &mut Vec<u8>, entries: impl Iterator<Item = (ProjectTag, u64)>) {
        let mut bytes = [0; POSITIONS_BYTES_MAX];
        let mut length = 0;
        for (tag, seq) in entries.take(PROJECTS_PER_STREAM_MAX) {
            bytes[length..length + TAG_BYTES].copy_from_slice(&tag.0);
            length = write_number(&mut bytes, length + TAG_BYTES, seq);
        }
        let bytes = &bytes[..length];
        to.extend_from_slice(self.instance.as_bytes());
        to.extend_from_slice(&[b'.', MARKER]);
        write_base64::<POSITIONS_TEXT_BYTES_MAX>(to, bytes);
        to.push(b'.');
        write_base64::<MAC_TEXT_BYTES>(to, &self.mac(self.instance, bytes));
    }

    /// The positions that `text` names; nothing where it is an id of another kind, or none of this server's.
    pub(super) fn read(&self, text: &str) -> Option<Positions> {
        let (instance, rest) = text.split_once('.')?;
        let (positions, mac_text) = rest.strip_prefix(char::from(MARKER))?.split_once('.')?;
        let instance = Instance::parse(instance)?;
        let mut bytes = [0; POSITIONS_BYTES_MAX];
        let length = URL_SAFE_NO_PAD.decode_slice(positions, &mut bytes).ok()?;
        let mut mac = [0; MAC_BYTES];
        let mac_length = URL_SAFE_NO_PAD.decode_slice(mac_text, &mut mac).ok()?;
        let bytes = &bytes[..length];
        let is_genuine = mac_length == MAC_BYTES && mac::same(&mac, &self.mac(instance, bytes));
        let entries = if is_genuine { read_entries(bytes)? } else { return None };
        Some(Positions { entries, is_ours: instance == self.instance })
    }

    /// The position that `text` names in `project`.
    pub(super) fn read_of(&self, text: &str, project: &ProjectId) -> Result<MessageId, ForeignId> {
        self.read(text).and_then(|positions| positions.of(self.tag(project))).ok_or(ForeignId)
    }

    fn mac(&self, instance: Instance, positions: &[u8]) -> [u8; MAC_BYTES] {
        mac::tag(&self.key, &[OF_POSITIONS, instance.as_bytes(), positions])
    }
}

impl fmt::Debug for ProjectTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

fn write_base64<const N: usize>(to: &mut Vec<u8>, bytes: &[u8]) {
    let mut text = [0; N];
    let length = URL_SAFE_NO_PAD.encode_slice(bytes, &mut text).expect("it has room for the longest");
    to.extend_from_slice(&text[..length]);
}

/// Seven bits a byte, the lowest first, the highest bit where more follow. The place after it.
fn write_number(to: &mut [u8], mut at: usize, mut number: u64) -> usize {
    while number >= 0x80 {
        to[at] = number as u8 | 0x80;
        number >>= 7;
        at += 1;
    }
    to[at] = number as u8;
    at + 1
}

/// What [`PositionsSigner::write`] wrote, and nothing else.
fn read_entries(mut bytes: &[u8]) -> Option<Vec<(ProjectTag, u64)>> {
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let (tag, rest) = bytes.split_first_chunk()?;
        let (seq, rest) = read_number(rest)?;
        entries.push((ProjectTag(*tag), seq));
        bytes = rest;
    }
    (entries.len() <= PROJECTS_PER_STREAM_MAX).then_some(entries)
}

fn read_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let end = bytes.iter().position(|byte| byte & 0x80 == 0)?;
    let (digits, rest) = bytes.split_at(end + 1);
    let is_plain = digits.len() == 1 || digits.last() != Some(&0);
    let fits = digits.len() < NUMBER_BYTES_MAX || (digits.len() == NUMBER_BYTES_MAX && digits[end] <= 1);
    let number = digits.iter().rev().fold(0, |number, digit| number << 7 | u64::from(digit & 0x7f));
    (is_plain && fits).then_some((number, rest))
}

#[cfg(test)]
#[path = "positions_tests.rs"]
mod tests;
