//! Tickets, which an `EventSource` sends in the query instead of a JWT, because it can't send headers.
//!
//! A ticket is signed and contains everything that is needed to verify it. Nothing is stored when it is issued, and it
//! stays valid after a restart. Whether it was used is known to the [`TicketBook`](super::TicketBook).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac::Key;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{AuthError, Principal, Projects, Rights, Scope, Scopes, mac};
use crate::model::{ProjectId, Timestamp};

/// The longest ticket, in bytes: half of what a request's target may have by default. Room for a `sub` and some 20
/// project ids of full length.
pub const TICKET_BYTES_MAX: usize = 4 * 1024;

/// The size of the signature in bytes.
const MAC_BYTES: usize = 16;

/// The first byte of a ticket in this encoding.
const VERSION: u8 = 1;

/// Stands for all projects, in place of their number.
const ALL_PROJECTS: u16 = u16::MAX;

/// The unique part of a ticket: 128 random bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TicketNonce([u8; 16]);

/// Issues and verifies tickets.
#[derive(Clone)]
pub struct TicketKey {
    key: Key,
    /// Older keys, which no longer issue tickets.
    older: Vec<Key>,
}

/// The content of a valid ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) nonce: TicketNonce,
    pub(super) issued_at: Timestamp,
    /// Its bearer, who may only subscribe, until the JWT expires.
    pub(super) principal: Principal,
}

impl TicketKey {
    pub(super) fn new(key: Key) -> Self {
        Self { key, older: Vec::new() }
    }

    /// This key, which also verifies tickets that were issued with `older`.
    #[must_use]
    pub fn or(mut self, older: Self) -> Self {
        self.older.push(older.key);
        self.older.extend(older.older);
        self
    }

    /// Issues a ticket for `projects`, or for all projects of `principal` if there are none. `nonce` is random.
    ///
    /// # Errors
    /// [`AuthError::NoProject`] and [`AuthError::NoScope`] where `principal` may not watch;
    /// [`AuthError::TicketTooLong`] where `projects` must be named, or fewer, because all of them don't fit into
    /// [`TICKET_BYTES_MAX`].
    pub fn issue(
        &self,
        principal: &Principal,
        projects: &[ProjectId],
        now: Timestamp,
        nonce: [u8; 16],
    ) -> Result<String, AuthError> {
        principal.require_all(Scope::Subscribe, projects)?;
        let mut bytes = encode(principal, projects, now, nonce).ok_or(AuthError::TicketTooLong)?;
        bytes.extend(mac::tag::<MAC_BYTES>(&self.key, &[&bytes]));
        let text = URL_SAFE_NO_PAD.encode(bytes);
        if text.len() > TICKET_BYTES_MAX { Err(AuthError::TicketTooLong) } else { Ok(text) }
    }

    /// The content of the ticket `text`, if it was issued with this key or an older one.
    pub(super) fn open(&self, text: &str) -> Option<Ticket> {
        if text.len() > TICKET_BYTES_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (bytes, mac) = bytes.split_last_chunk::<MAC_BYTES>()?;
        let mut keys = [&self.key].into_iter().chain(&self.older);
        keys.any(|key| mac::same(mac, &mac::tag(key, &[bytes]))).then(|| decode(bytes))?
    }
}

/// The identity that a ticket is counted for: derived from the `sub` of its token, and stable across restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Subject(u64);

impl TicketKey {
    /// The identity of `principal`. Nobody can choose a `sub` that counts as another's.
    pub(super) fn subject(&self, principal: &Principal) -> Subject {
        let tag: [u8; MAC_BYTES] = mac::tag(&self.key, &[b"subject", principal.sub().as_bytes()]);
        let (first, _) = tag.split_first_chunk().expect("16 bytes begin with 8");
        Subject(u64::from_be_bytes(*first))
    }
}

impl Ticket {
    /// When the JWT expires, and with it the ticket; the maximum time if there is no JWT.
    pub(super) fn ends_at(&self) -> Timestamp {
        self.principal.expires_at().unwrap_or(FOREVER)
    }
}

impl TicketNonce {
    /// Whether it begins with this text.
    pub(super) fn is_of(&self, mark: &[u8]) -> bool {
        self.0.starts_with(mark)
    }
}

impl fmt::Display for TicketNonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl Serialize for TicketNonce {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TicketNonce {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        let bytes = URL_SAFE_NO_PAD.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| serde::de::Error::custom("a ticket's nonce is 16 bytes in URL-safe base64"))
    }
}

/// Stands for "no expiry".
const FOREVER: Timestamp = Timestamp::from_millis(u64::MAX);

/// Version, nonce, times, token key (a flag, then the key), sub and project ids with their lengths before them. None
/// where a length does not fit.
fn encode(principal: &Principal, projects: &[ProjectId], now: Timestamp, nonce: [u8; 16]) -> Option<Vec<u8>> {
    let mut to = vec![VERSION];
    to.extend(nonce);
    to.extend(now.as_millis().to_be_bytes());
    to.extend(principal.expires_at().unwrap_or(FOREVER).as_millis().to_be_bytes());
    to.push(principal.token_key().is_some().into());
    to.extend(principal.token_key().unwrap_or_default().to_be_bytes());
    to.extend(u16::try_from(principal.sub().len()).ok()?.to_be_bytes());
    to.extend(principal.sub().as_bytes());
    match (projects, principal.projects()) {
        ([_, ..], _) => write_projects(&mut to, projects.iter())?,
        ([], Projects::Only(ids)) => write_projects(&mut to, ids.iter())?,
        ([], Projects::All) => to.extend(ALL_PROJECTS.to_be_bytes()),
    }
    Some(to)
}

fn write_projects<'a>(to: &mut Vec<u8>, ids: impl ExactSizeIterator<Item = &'a ProjectId>) -> Option<()> {
    let count = u16::try_from(ids.len()).ok().filter(|count| *count != ALL_PROJECTS)?;
    to.extend(count.to_be_bytes());
    for id in ids {
        to.push(u8::try_from(id.as_str().len()).ok()?);
        to.extend(id.as_str().as_bytes());
    }
    Some(())
}

/// Reads what [`encode`] wrote, and nothing else.
fn decode(bytes: &[u8]) -> Option<Ticket> {
    let mut from = Reader(bytes);
    let [VERSION] = from.array()? else { return None };
    let nonce = TicketNonce(from.array()?);
    let issued_at = Timestamp::from_millis(from.u64()?);
    let expires_at = Some(Timestamp::from_millis(from.u64()?)).filter(|end| *end != FOREVER);
    let [has_token_key] = from.array()?;
    let token_key = Some(from.u64()?).filter(|_| has_token_key == 1);
    let sub_bytes = from.u16()?;
    let sub = from.text(sub_bytes.into())?.to_owned();
    let rights = Rights { scopes: Scopes::of(&[Scope::Subscribe]), projects: read_projects(&mut from)? };
    let principal = Principal::new(sub, expires_at, rights, token_key);
    from.0.is_empty().then_some(Ticket { nonce, issued_at, principal })
}

fn read_projects(from: &mut Reader<'_>) -> Option<Projects> {
    let count = from.u16()?;
    if count == ALL_PROJECTS {
        return Some(Projects::All);
    }
    let read_one = |_| {
        let [length] = from.array()?;
        ProjectId::parse(from.text(length.into())?).ok()
    };
    (0..count).map(read_one).collect::<Option<_>>().map(Projects::Only)
}

/// The unread rest.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn text(&mut self, length: usize) -> Option<&'a str> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(head).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::ServerKeys;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);
    const END: Timestamp = Timestamp::from_millis(2_000_000);

    fn project(text: &str) -> ProjectId {
        ProjectId::parse(text).expect("an id")
    }

    fn principal(scope: Scope, projects: Projects) -> Principal {
        Principal::new("änn".into(), Some(END), Rights { scopes: Scopes::of(&[scope]), projects }, Some(42))
    }

    fn key(master: u8) -> TicketKey {
        ServerKeys::derive(&[master; 32]).ticket_key()
    }

    #[test]
    fn a_ticket_says_whose_it_is_and_grants_subscribe_alone() {
        let projects = Projects::only(vec![project("b"), project("a")]);
        for (name, caller, bound_to, expected) in [
            ("all it sees", principal(Scope::Admin, projects.clone()), None, projects),
            ("one of two", principal(Scope::Subscribe, Projects::All), Some("a"), Projects::only(vec![project("a")])),
            ("all there are", principal(Scope::Subscribe, Projects::All), None, Projects::All),
            ("none", principal(Scope::Subscribe, Projects::only(vec![])), None, Projects::only(vec![])),
        ] {
            let bound_to = bound_to.map(project);
            let text = key(1).issue(&caller, bound_to.as_slice(), NOW, [9; 16]).expect(name);
            assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)), "{text}");
            let ticket = key(1).open(&text).expect(name);
            assert_eq!((ticket.nonce, ticket.issued_at), (TicketNonce([9; 16]), NOW), "{name}");
            assert_eq!(ticket.principal, principal(Scope::Subscribe, expected), "{name}");
        }
    }

    #[test]
    fn a_ticket_of_anyone_has_no_end_and_no_token() {
        let text = key(1).issue(&Principal::anyone(), &[], NOW, [0; 16]).expect("issued");
        let ticket = key(1).open(&text).expect("opens");
        assert_eq!((ticket.principal.expires_at(), ticket.principal.token_key()), (None, None));
        assert_eq!(ticket.ends_at(), FOREVER);
    }

    #[test]
    fn only_who_may_watch_gets_a_ticket() {
        let publisher = principal(Scope::Publish, Projects::All);
        assert_eq!(key(1).issue(&publisher, &[], NOW, [0; 16]), Err(AuthError::NoScope(Scope::Subscribe)));
        let elsewhere = principal(Scope::Subscribe, Projects::only(vec![project("q")]));
        assert_eq!(key(1).issue(&elsewhere, &[project("p")], NOW, [0; 16]), Err(AuthError::NoProject));
    }

    #[test]
    fn a_ticket_is_bounded_unless_it_names_one_project() {
        let many = (0..100).map(|n| project(&format!("{n:0>128}")));
        let caller = principal(Scope::Subscribe, Projects::only(many));
        assert_eq!(key(1).issue(&caller, &[], NOW, [0; 16]), Err(AuthError::TicketTooLong));
        let bound = project(&format!("{:0>128}", 7));
        assert!(key(1).issue(&caller, &[bound], NOW, [0; 16]).is_ok_and(|text| text.len() <= TICKET_BYTES_MAX));
    }

    #[test]
    fn what_is_not_wholly_ours_does_not_open() {
        let caller = principal(Scope::Subscribe, Projects::All);
        let text = key(1).issue(&caller, &[], NOW, [0; 16]).expect("issued");
        assert!(key(2).open(&text).is_none(), "another server's");
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("ASCII");
            assert!(key(1).open(&changed).is_none(), "{changed}");
            assert!(key(1).open(&text[..at]).is_none(), "cut at {at}");
        }
        for bad in ["é", "=", &format!("{text}="), &"A".repeat(TICKET_BYTES_MAX + 1)] {
            assert!(key(1).open(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_signed_ticket_of_another_form_does_not_open() {
        let caller = principal(Scope::Subscribe, Projects::only(vec![project("p")]));
        let bytes = encode(&caller, &[], NOW, [0; 16]).expect("fits");
        assert!(decode(&bytes).is_some());
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_none(), "cut at {length}");
        }
        let of_version_2: Vec<u8> = std::iter::once(2).chain(bytes[1..].iter().copied()).collect();
        assert!(decode(&of_version_2).is_none() && decode(&[&bytes[..], &[0]].concat()).is_none());
    }
}
