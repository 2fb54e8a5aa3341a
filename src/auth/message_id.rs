//! Message ids: `<instance>.<seq>.<mac>`, opaque to clients.
//!
//! `seq` makes an id seekable, `instance` identifies the data directory that counted it, and `mac` proves that this
//! server wrote the id for this project. Therefore an id in a `Last-Event-ID` header proves that its bearer has once
//! read the project's stream. Streams of several projects use a different kind of id, see [`Positions`]; both kinds are
//! accepted where an id is read.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac::Key;

use super::mac;
use super::positions::{Positions, PositionsSigner, ProjectTag};
use crate::model::{ProjectId, decimal};

/// The longest message id of a stream of one project, in bytes, as clients may rely on.
pub const MESSAGE_ID_BYTES_MAX: usize = 64;

/// Characters of an instance: 48 bits in base64.
const INSTANCE_BYTES: usize = 8;

/// 96 bits of signature, and its characters in base64.
pub(super) const MAC_BYTES: usize = 12;
pub(super) const MAC_TEXT_BYTES: usize = 16;

/// The digits of the largest `seq`.
const SEQ_DIGITS_MAX: usize = 20;

const _: () = assert!(INSTANCE_BYTES + 1 + SEQ_DIGITS_MAX + 1 + MAC_TEXT_BYTES <= MESSAGE_ID_BYTES_MAX);

/// Names what counts the messages: a data directory, or a process that has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instance([u8; INSTANCE_BYTES]);

/// A position in a project, read from a genuine id of that project.
///
/// Only [`IdSigner::read`] makes one, so holding it is the proof. It does not say which project: keep it with the one
/// that it was read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageId {
    pub(super) seq: u64,
    pub(super) is_ours: bool,
}

/// A text that is no message id of this server and project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForeignId;

/// Writes and reads the ids of one instance.
#[derive(Clone)]
pub struct IdSigner {
    key: Key,
    instance: Instance,
    positions: PositionsSigner,
}

impl Instance {
    /// A new name.
    pub fn from_random(bits: [u8; 6]) -> Self {
        let mut text = [0; INSTANCE_BYTES];
        let written = URL_SAFE_NO_PAD.encode_slice(bits, &mut text);
        debug_assert_eq!(written, Ok(INSTANCE_BYTES), "8 characters hold 6 bytes");
        Self(text)
    }

    /// As text.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A name that was kept: 8 characters of URL-safe base64.
    pub fn parse(text: &str) -> Option<Self> {
        let text: [u8; INSTANCE_BYTES] = text.as_bytes().try_into().ok()?;
        text.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')).then_some(Self(text))
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{}", char::from(*b)))
    }
}

impl MessageId {
    /// The message's number in its project; 0 is the position before the first one.
    pub fn seq(self) -> u64 {
        self.seq
    }

    /// Did this instance count it? Otherwise the id is genuine and its position means nothing here.
    pub fn is_ours(self) -> bool {
        self.is_ours
    }
}

impl IdSigner {
    pub(super) fn new(key: Key, positions_key: Key, instance: Instance) -> Self {
        Self { key, instance, positions: PositionsSigner::new(positions_key, instance) }
    }

    /// The id of message `seq` of `project`, which needs no escapes in JSON.
    pub fn text(&self, project: &ProjectId, seq: u64) -> String {
        let mut id = Vec::with_capacity(64);
        self.write(&mut id, project, seq);
        id.into_iter().map(char::from).collect()
    }

    /// Appends the id of message `seq` of `project` to `to`.
    ///
    /// Called for every message: two rounds of SHA-256 for a project id of up to 39 characters, and no allocation
    /// beyond `to`'s own.
    pub fn write(&self, to: &mut Vec<u8>, project: &ProjectId, seq: u64) {
        let mut mac_text = [0; MAC_TEXT_BYTES];
        let written = URL_SAFE_NO_PAD.encode_slice(self.mac(&self.instance, project, seq), &mut mac_text);
        debug_assert_eq!(written, Ok(MAC_TEXT_BYTES), "16 characters hold 12 bytes");
        to.extend_from_slice(&self.instance.0);
        to.push(b'.');
        to.extend_from_slice(decimal(seq, &mut [0; SEQ_DIGITS_MAX]));
        to.push(b'.');
        to.extend_from_slice(&mac_text);
    }

    /// The position that `text` names in `project`: in that alone, or in that among others.
    ///
    /// # Errors
    /// [`ForeignId`]: it is no id, or was not signed with this key for this project.
    pub fn read(&self, text: &str, project: &ProjectId) -> Result<MessageId, ForeignId> {
        let Some((instance, seq, mac)) = split(text) else { return self.positions.read_of(text, project) };
        if !mac::same(&mac, &self.mac(&instance, project, seq)) {
            return Err(ForeignId);
        }
        Ok(MessageId { seq, is_ours: instance == self.instance })
    }

    /// Appends the id that names these positions to `to`.
    pub fn write_positions(&self, to: &mut Vec<u8>, positions: impl Iterator<Item = (ProjectTag, u64)>) {
        self.positions.write(to, positions);
    }

    /// The positions that `text` names, if it is a genuine id of a stream of several projects.
    pub fn read_positions(&self, text: &str) -> Option<Positions> {
        self.positions.read(text)
    }

    /// What stands for `project` in such an id.
    pub fn tag(&self, project: &ProjectId) -> ProjectTag {
        self.positions.tag(project)
    }

    fn mac(&self, instance: &Instance, project: &ProjectId, seq: u64) -> [u8; MAC_BYTES] {
        // Two fields of fixed length first, so that no two triples sign the same bytes.
        mac::tag(&self.key, &[&seq.to_be_bytes(), &instance.0, project.as_str().as_bytes()])
    }
}

impl fmt::Display for ForeignId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a message id of this server and project")
    }
}

impl std::error::Error for ForeignId {}

/// The parts of an id, written in the one way that [`IdSigner::write`] writes them.
fn split(text: &str) -> Option<(Instance, u64, [u8; MAC_BYTES])> {
    let mut parts = text.split('.');
    let (instance, seq, mac_text) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || mac_text.len() != MAC_TEXT_BYTES {
        return None;
    }
    let mut mac = [0; MAC_BYTES];
    URL_SAFE_NO_PAD.decode_slice(mac_text, &mut mac).ok()?;
    Some((Instance::parse(instance)?, parse_seq(seq)?, mac))
}

/// A number without the sign and the leading zeros that `parse` would let pass.
fn parse_seq(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if is_plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::ServerKeys;

    fn signer(master: u8, instance: u8) -> IdSigner {
        ServerKeys::derive(&[master; 32]).id_signer(Instance::from_random([instance; 6]))
    }

    fn project(text: &str) -> ProjectId {
        ProjectId::parse(text).expect("an id")
    }

    fn id(signer: &IdSigner, of: &str, seq: u64) -> String {
        let mut text = Vec::new();
        signer.write(&mut text, &project(of), seq);
        String::from_utf8(text).expect("ids are ASCII")
    }

    #[test]
    fn an_id_is_short_in_the_alphabet_and_read_back() {
        let ours = signer(1, 1);
        for seq in [0, 1, 9, 10, 12_345, u64::MAX] {
            let text = id(&ours, "p", seq);
            assert!(text.len() <= MESSAGE_ID_BYTES_MAX, "{text}");
            assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~-".contains(&b)), "{text}");
            assert_eq!(ours.read(&text, &project("p")), Ok(MessageId { seq, is_ours: true }));
        }
    }

    #[test]
    fn an_id_of_another_instance_is_genuine_and_not_ours() {
        let text = id(&signer(1, 2), "p", 7);
        assert_eq!(signer(1, 1).read(&text, &project("p")), Ok(MessageId { seq: 7, is_ours: false }));
    }

    #[test]
    fn an_id_of_another_project_or_key_is_foreign() {
        let ours = signer(1, 1);
        assert_eq!(ours.read(&id(&ours, "p", 7), &project("q")), Err(ForeignId));
        assert_eq!(ours.read(&id(&signer(2, 1), "p", 7), &project("p")), Err(ForeignId));
    }

    #[test]
    fn no_change_of_a_character_stays_genuine() {
        let ours = signer(1, 1);
        let text = id(&ours, "p", 100);
        for at in 0..text.len() {
            for other in ['A', '1', '0', '.', '+', '=', ' ', 'é'] {
                let mut changed: Vec<char> = text.chars().collect();
                if changed[at] == other {
                    continue;
                }
                changed[at] = other;
                let changed: String = changed.into_iter().collect();
                assert_eq!(ours.read(&changed, &project("p")), Err(ForeignId), "{changed}");
            }
        }
    }

    #[test]
    fn texts_of_another_form_are_foreign() {
        let ours = signer(1, 1);
        let text = id(&ours, "p", 7);
        let seven = ".7.";
        for bad in [
            String::new(),
            "7".to_owned(),
            "..".to_owned(),
            text.replace(seven, ".07."),
            text.replace(seven, ".+7."),
            text.replace(seven, ".."),
            text.replace(seven, ".18446744073709551623."),
            format!("{text}A"),
            format!("{text}="),
            format!("{text}.x"),
            format!(" {text}"),
            text[1..].to_owned(),
            text[..text.len() - 1].to_owned(),
        ] {
            assert_eq!(ours.read(&bad, &project("p")), Err(ForeignId), "{bad:?}");
        }
    }

    #[test]
    fn an_instance_can_be_kept_as_text() {
        let instance = Instance::from_random([0xfb; 6]);
        assert_eq!(Instance::parse(&instance.to_string()), Some(instance));
        for bad in ["", "short", "ninechars", "a.b.c.d."] {
            assert_eq!(Instance::parse(bad), None, "{bad}");
        }
    }
}
