//! The story of a ticket.

use super::*;
use crate::auth::{Instance, Projects, Rights, Scope, Scopes, ServerKeys};

const TTL_MS: u64 = 15_000;
const ISSUED: Timestamp = Timestamp::from_millis(1_000_000);
const JWT_END: Timestamp = Timestamp::from_millis(10_000_000);

fn asked(of: &str, proof: Option<MessageId>) -> Asked {
    Asked { project: project(of), proof }
}

/// A server that may be restarted: its keys stay, its book is new.
struct Server {
    keys: ServerKeys,
    book: TicketBook,
}

impl Server {
    fn started(memory: TicketMemory) -> Self {
        let keys = ServerKeys::derive(&[7; 32]);
        let book = TicketBook::new(keys.ticket_key(), Duration::from_millis(TTL_MS), memory);
        Self { keys, book }
    }

    fn ticket(&self, nonce: u8) -> String {
        self.ticket_of("ann", nonce)
    }

    fn ticket_of(&self, sub: &str, nonce: u8) -> String {
        let principal = self.principal(sub);
        self.keys.ticket_key().issue(&principal, &[project("p")], ISSUED, self.book.nonce([nonce; 16])).expect("issued")
    }

    fn principal(&self, sub: &str) -> Principal {
        let rights = Rights { scopes: Scopes::ALL, projects: Projects::only(vec![project("p"), project("q")]) };
        Principal::new(sub.to_owned(), Some(JWT_END), rights, Some(1))
    }

    fn message_id(&self, of: &str) -> MessageId {
        // Of an instance before this one, as after a restart without a data directory.
        let signer = self.keys.id_signer(Instance::from_random([1; 6]));
        let mut text = Vec::new();
        signer.write(&mut text, &project(of), 5);
        let text = String::from_utf8(text).expect("ids are ASCII");
        self.keys.id_signer(Instance::from_random([2; 6])).read(&text, &project(of)).expect("genuine")
    }

    fn first(&mut self, ticket: &str, now: Timestamp) -> Result<TicketNote, TicketError> {
        let admission = self.book.admit(ticket, &[asked("p", None)], now)?;
        let spends = admission.spends.expect("a first use spends");
        let note = spends.note().expect("it is not kept so far").clone();
        spends.keep();
        Ok(note)
    }

    fn again(&mut self, ticket: &str, now: Timestamp) -> Result<(), TicketError> {
        let id = self.message_id("p");
        let admission = self.book.admit(ticket, &[asked("p", Some(id))], now)?;
        assert_eq!(admission.spends, None, "opened again, not spent again");
        Ok(())
    }
}

fn project(text: &str) -> ProjectId {
    ProjectId::parse(text).expect("an id")
}

fn after(ms: u64) -> Timestamp {
    ISSUED.plus_millis(ms)
}

fn server() -> Server {
    Server::started(TicketMemory::All)
}

#[test]
fn the_first_use_admits_a_subscriber_and_spends() {
    let mut server = server();
    let ticket = server.ticket(1);
    let admission = server.book.admit(&ticket, &[asked("p", None)], after(0)).expect("admitted");
    assert!(admission.principal.require_in(Scope::Subscribe, &project("p")).is_ok());
    assert!(!admission.principal.has_scope(Scope::Run), "a ticket grants subscribe alone");
    assert!(!admission.principal.sees(&project("q")), "bound to p");
    assert_eq!((admission.principal.expires_at(), admission.principal.token_key()), (Some(JWT_END), Some(1)));
    let spends = admission.spends.expect("spent");
    let note = spends.note().expect("it is not kept so far");
    assert_eq!((note.kind, note.until), (TicketNoteKind::Spent, JWT_END));
}

#[test]
fn a_second_use_is_refused_even_before_the_note_is_durable() {
    let mut server = server();
    let ticket = server.ticket(1);
    let note = server.first(&ticket, after(0)).expect("admitted");
    assert_eq!(server.first(&ticket, after(1)), Err(TicketError::Spent));
    server.book.apply(&note);
    assert_eq!(server.first(&ticket, after(2)), Err(TicketError::Spent));
    assert_eq!(server.first(&ticket, after(TTL_MS * 2)), Err(TicketError::Spent));
    assert!(server.first(&server.ticket(2), after(2)).is_ok(), "another ticket is another matter");
}

#[test]
fn an_unused_ticket_is_good_for_its_ttl() {
    for (ms, expected) in [(0, true), (TTL_MS - 1, true), (TTL_MS, false), (TTL_MS + 1, false)] {
        let mut server = server();
        let ticket = server.ticket(1);
        assert_eq!(server.first(&ticket, after(ms)).is_ok(), expected, "after {ms} ms");
    }
}

#[test]
fn a_spent_ticket_and_a_genuine_id_open_again_until_the_jwt_ends() {
    let mut server = server();
    let ticket = server.ticket(1);
    server.first(&ticket, after(0)).expect("admitted");
    let last = Timestamp::from_millis(JWT_END.as_millis() - 1);
    for now in [after(1), after(TTL_MS * 10), last] {
        assert_eq!(server.again(&ticket, now), Ok(()));
        server.book.forget_expired(now);
    }
    assert_eq!(server.again(&ticket, JWT_END), Err(TicketError::TokenExpired));
}

#[test]
fn a_first_use_may_resume_as_well() {
    let mut server = server();
    let (ticket, id) = (server.ticket(1), server.message_id("p"));
    let admission = server.book.admit(&ticket, &[asked("p", Some(id))], after(0)).expect("admitted");
    assert!(admission.spends.is_some());
}

#[test]
fn what_is_no_ticket_or_for_another_project_is_refused() {
    let mut server = server();
    let ticket = server.ticket(1);
    let id = Some(server.message_id("q"));
    assert_eq!(server.book.admit(&ticket, &[asked("q", id)], after(0)), Err(TicketError::OtherProject));
    let stranger = ServerKeys::derive(&[8; 32]).ticket_key();
    let forged = stranger.issue(&Principal::anyone(), &[], ISSUED, [1; 16]).expect("issued");
    for bad in ["", "x", "é", &forged, &ticket[1..]] {
        assert_eq!(server.first(bad, after(0)), Err(TicketError::Unknown), "{bad}");
    }
    assert_eq!(server.book.len(), 0, "refusals leave no trace");
    assert!(server.first(&ticket, after(0)).is_ok(), "and spend nothing");
}

#[test]
fn an_expired_ticket_that_was_never_used_opens_nothing_even_with_an_id() {
    let mut server = server();
    let ticket = server.ticket(1);
    assert_eq!(server.again(&ticket, after(TTL_MS)), Err(TicketError::Expired));
    assert_eq!(server.first(&ticket, after(TTL_MS)), Err(TicketError::Expired));
}

#[test]
fn a_restart_with_notes_remembers_all() {
    let mut old = server();
    let (spent, unused, extended) = (old.ticket(1), old.ticket(2), old.ticket(3));
    let notes = [old.first(&spent, after(0)).expect("spent"), old.book.extend(&extended, after(10_000)).expect("more")];
    let stored = serde_json::to_string(&notes).expect("notes are JSON");
    let mut new = server();
    for note in serde_json::from_str::<Vec<TicketNote>>(&stored).expect("and back") {
        new.book.apply(&note);
        new.book.apply(&note);
    }
    assert_eq!(new.first(&spent, after(12_000)), Err(TicketError::Spent));
    assert_eq!(new.again(&spent, after(12_000)), Ok(()));
    assert!(new.first(&unused, after(12_000)).is_ok(), "an unused one is good after a restart");
    assert!(new.first(&extended, after(24_999)).is_ok(), "and so is the time that it was given");
    let mut late = server();
    assert_eq!(late.again(&late.ticket(4), after(TTL_MS)), Err(TicketError::Expired));
}

#[test]
fn a_restart_without_notes_lets_the_id_decide() {
    let mut same = Server::started(TicketMemory::SinceStart([1; 6]));
    let mut new = Server::started(TicketMemory::SinceStart([2; 6]));
    let ticket = same.ticket(1);
    assert_eq!(new.first(&ticket, after(60_000)), Err(TicketError::Expired));
    assert_eq!(new.again(&ticket, after(60_000)), Ok(()));
    assert_eq!(new.again(&ticket, JWT_END), Err(TicketError::TokenExpired));
    assert_eq!(same.again(&ticket, after(60_000)), Err(TicketError::Expired), "issued here, and never used");
}

#[test]
fn a_spent_ticket_opened_a_second_stream_after_a_restart_that_nothing_was_noted_over() {
    let mut old = Server::started(TicketMemory::SinceStart([1; 6]));
    let ticket = old.ticket(1);
    assert!(old.first(&ticket, after(0)).is_ok());
    let mut new = Server::started(TicketMemory::SinceStart([2; 6]));
    assert_eq!(new.first(&ticket, after(1)), Err(TicketError::Expired));
    assert_eq!(new.book.extend(&ticket, after(1)), None);
    assert_eq!(new.book.peek(&ticket, &[asked("p", None)], after(1)).err(), Some(TicketError::Expired));
    assert_eq!(new.again(&ticket, after(1)), Ok(()));
}

#[test]
fn an_extension_gives_an_unused_ticket_its_time_anew() {
    let mut server = server();
    let ticket = server.ticket(1);
    let note = server.book.extend(&ticket, after(14_000)).expect("unused");
    assert_eq!((note.kind, note.until), (TicketNoteKind::Extended, after(14_000 + TTL_MS)));
    let again = server.book.extend(&ticket, after(28_000)).expect("and again");
    server.book.apply(&note);
    assert_eq!(
        server.book.peek(&ticket, &[asked("p", None)], after(42_999)).map(|ann| ann.sub().to_owned()),
        Ok("ann".into())
    );
    assert_eq!(server.first(&ticket, after(28_000 + TTL_MS)), Err(TicketError::Expired));
    let spent = server.first(&ticket, after(42_999)).expect("in time");
    server.book.apply(&again);
    assert_eq!(server.first(&ticket, after(42_999)), Err(TicketError::Spent), "an old extension brings nothing back");
    assert_eq!(spent.until, JWT_END);
}

#[test]
fn what_is_spent_expired_or_no_ticket_is_not_extended() {
    let mut server = server();
    let (spent, unused) = (server.ticket(1), server.ticket(2));
    server.first(&spent, after(0)).expect("spent");
    assert_eq!(server.book.extend(&spent, after(1)), None);
    assert_eq!(server.book.extend(&unused, after(TTL_MS)), None);
    assert_eq!(server.book.extend("x", after(0)), None);
    assert_eq!(server.book.extend(&unused, JWT_END), None);
}

#[test]
fn an_extension_ends_with_the_jwt() {
    let server = server();
    let ends_soon = after(20_000);
    let rights = Rights { scopes: Scopes::ALL, projects: Projects::All };
    let ann = Principal::new("ann".into(), Some(ends_soon), rights, None);
    let ticket = server.keys.ticket_key().issue(&ann, &[], ISSUED, [1; 16]).expect("issued");
    let mut book = server.book;
    assert_eq!(book.extend(&ticket, after(14_000)).map(|note| note.until), Some(ends_soon));
    assert_eq!(book.admit(&ticket, &[asked("p", None)], ends_soon), Err(TicketError::TokenExpired));
}

#[test]
fn peeking_spends_nothing_and_sees_what_admit_sees() {
    let mut server = server();
    let ticket = server.ticket(1);
    for _ in 0..2 {
        assert!(server.book.peek(&ticket, &[asked("p", None)], after(0)).is_ok());
    }
    server.first(&ticket, after(0)).expect("still unused");
    assert_eq!(server.book.peek(&ticket, &[asked("p", None)], after(0)), Err(TicketError::Spent));
    let id = server.message_id("p");
    assert!(server.book.peek(&ticket, &[asked("p", Some(id))], after(0)).is_ok());
}

#[test]
fn a_postponed_ticket_is_unused_again_and_has_its_time_anew() {
    let mut server = server();
    let ticket = server.ticket(1);
    let admission = server.book.admit(&ticket, &[asked("p", None)], after(14_000)).expect("admitted");
    let note = server.book.postpone(admission.spends.expect("spent"), after(20_000));
    assert_eq!((note.kind, note.until), (TicketNoteKind::Extended, after(20_000 + TTL_MS)));
    assert!(server.first(&ticket, after(20_000 + TTL_MS - 1)).is_ok());
    assert_eq!(server.first(&ticket, after(20_000 + TTL_MS - 1)), Err(TicketError::Spent));
}

#[test]
fn what_is_spent_for_a_stream_that_does_not_begin_is_as_it_was() {
    let mut server = server();
    let (ticket, extended) = (server.ticket(1), server.ticket(2));
    let until = server.book.extend(&extended, after(10_000)).expect("unused").until();
    for ticket in [&ticket, &extended] {
        drop(server.book.admit(ticket, &[asked("p", None)], after(11_000)).expect("admitted"));
        assert!(server.book.peek(ticket, &[asked("p", None)], after(11_000)).is_ok());
        drop(server.book.admit(ticket, &[asked("p", None)], after(11_000)).expect("admitted"));
    }
    assert_eq!(server.first(&ticket, after(TTL_MS)), Err(TicketError::Expired), "it has no more time than before");
    assert_eq!(server.first(&extended, until), Err(TicketError::Expired));
    assert!(server.first(&extended, after(10_000 + TTL_MS - 1)).is_ok());
    let held = server.book.admit(&server.ticket(3), &[asked("p", None)], after(1)).expect("admitted");
    assert_eq!(server.first(&server.ticket(3), after(1)), Err(TicketError::Spent), "while its stream may still begin");
    held.spends.expect("spent").keep();
    assert_eq!(server.first(&server.ticket(3), after(1)), Err(TicketError::Spent));
}

#[test]
fn what_makes_no_difference_any_more_is_forgotten() {
    let mut server = server();
    let (spent, extended) = (server.ticket(1), server.ticket(2));
    server.first(&spent, after(0)).expect("spent");
    server.book.extend(&extended, after(0)).expect("extended");
    server.book.forget_expired(after(TTL_MS - 1));
    assert_eq!(server.book.len(), 2);
    server.book.forget_expired(after(TTL_MS));
    assert_eq!(server.book.len(), 1);
    server.book.forget_expired(JWT_END);
    assert_eq!(server.book.len(), 0);
}

#[test]
fn the_book_is_bounded_for_each_subject_and_forgets_nothing_that_lives() {
    let mut server = server();
    server.book = server.book.remembering(3);
    let tickets: Vec<String> = (0..5).map(|nonce| server.ticket(nonce)).collect();
    server.book.extend(&tickets[0], after(0)).expect("it has room");
    for ticket in &tickets[1..3] {
        server.first(ticket, after(0)).expect("spent");
    }
    let ann = server.principal("ann");
    assert_eq!(server.book.check_room(&ann), Err(TicketError::TooMany(3)));
    assert_eq!(server.first(&tickets[3], after(0)), Err(TicketError::TooMany(3)));
    assert_eq!(server.book.extend(&tickets[3], after(0)), None);
    assert_eq!((server.book.len(), server.book.refused()), (3, 2));

    let bob = server.ticket_of("bob", 9);
    assert!(server.first(&bob, after(0)).is_ok(), "another subject has room of its own");
    assert_eq!(server.first(&bob, after(0)), Err(TicketError::Spent));
    for ticket in &tickets[1..3] {
        assert_eq!(server.first(ticket, after(0)), Err(TicketError::Spent), "what is remembered stays");
        assert_eq!(server.again(ticket, after(0)), Ok(()));
    }
    assert!(server.first(&tickets[0], after(1)).is_ok(), "what is remembered already takes no further room");
    assert_eq!(server.first(&tickets[3], after(1)), Err(TicketError::TooMany(3)), "and is still the subject's own");
    server.book.forget_expired(JWT_END);
    assert!(server.book.len() == 0 && server.book.check_room(&ann).is_ok());
}

#[test]
fn a_ticket_that_is_given_back_makes_room() {
    let mut server = server();
    server.book = server.book.remembering(1);
    let held = server.book.admit(&server.ticket(1), &[asked("p", None)], after(0)).expect("admitted");
    assert_eq!(server.first(&server.ticket(2), after(0)), Err(TicketError::TooMany(1)));
    drop(held);
    assert!(server.first(&server.ticket(2), after(0)).is_ok());
}

#[test]
fn tickets_count_for_their_subject_after_a_restart_too() {
    let mut old = server();
    let notes: Vec<_> = (0..2).map(|n| old.first(&old.ticket(n), after(0)).expect("spent")).collect();
    let stored = serde_json::to_string(&notes).expect("notes are JSON");
    let mut new = server();
    new.book = new.book.remembering(2);
    serde_json::from_str::<Vec<TicketNote>>(&stored).expect("and back").iter().for_each(|note| new.book.apply(note));
    assert_eq!(new.first(&new.ticket(2), after(0)), Err(TicketError::TooMany(2)));
    assert!(new.first(&new.ticket_of("bob", 3), after(0)).is_ok());
    let of_before = r#"{"nonce": "BwcHBwcHBwcHBwcHBwcHBw", "kind": "spent", "until": "2033-01-01T00:00:00.000Z"}"#;
    new.book.apply(&serde_json::from_str(of_before).expect("a note without a subject"));
    assert_eq!(new.book.len(), 4);
}

#[test]
fn a_clock_that_was_set_back_gives_an_unused_ticket_no_more_time() {
    let mut server = server();
    let before = |ms| Timestamp::from_millis(ISSUED.as_millis() - ms);
    let ticket = server.ticket(1);
    assert!(server.first(&ticket, before(3_600_000 / 4)).is_err(), "a quarter of an hour back");
    assert!(server.first(&ticket, before(TTL_MS + 1)).is_err());
    assert!(server.first(&ticket, before(TTL_MS)).is_ok(), "as far as a correction of the clock may go");
}

/// Whatever the clock said, a ticket of this start is none of the unknown past.
#[test]
fn a_ticket_issued_after_the_clock_was_set_back_behind_the_servers_start_was_of_an_unknown_past() {
    let mut server = Server::started(TicketMemory::SinceStart([1; 6]));
    assert!(server.first(&server.ticket(1), after(0)).is_ok());
    let marked = server.book.nonce([9; 16]);
    assert_eq!((marked[..6].to_vec(), marked[6..].to_vec()), (vec![1; 6], vec![9; 10]), "the rest is random");
}

#[test]
fn a_ticket_that_another_node_may_have_spent_opens_again_with_an_id_alone_and_the_store_decides_the_first_time() {
    let mut node = Server::started(TicketMemory::Shared);
    let (ticket, id) = (node.ticket(1), node.message_id("p"));
    let admission = node.book.admit(&ticket, &[asked("p", Some(id))], after(0)).expect("admitted");
    let spends = admission.spends.expect("the store is asked");
    assert!(spends.is_proven(), "and does not refuse who has watched");
    // It was spent elsewhere, and refused.
    drop(spends);
    let admission = node.book.admit(&ticket, &[asked("p", None)], after(1)).expect("admitted");
    assert!(!admission.spends.expect("asked again").is_proven());
    assert_eq!(node.first(&ticket, after(TTL_MS)), Err(TicketError::Expired));
    assert_eq!(node.again(&ticket, after(TTL_MS)), Ok(()), "it was spent elsewhere, or else nobody has an id");
}

#[test]
fn a_ticket_that_a_node_asks_for_twice_itself_is_noted_once() {
    let mut node = Server::started(TicketMemory::Shared);
    let ticket = node.ticket(1);
    let admission = node.book.admit(&ticket, &[asked("p", None)], after(0)).expect("admitted");
    let mut spends = admission.spends.expect("the store is asked");
    assert!(spends.note().is_some());
    spends.note_kept();
    assert_eq!(spends.note(), None, "it would seem to be spent by another");
}

#[test]
fn a_ticket_that_another_node_has_given_more_time_is_good_here_once_that_is_learnt() {
    let (mut one, mut other) = (Server::started(TicketMemory::Shared), Server::started(TicketMemory::Shared));
    let ticket = one.ticket(1);
    let note = other.book.extend(&ticket, after(14_000)).expect("unused");
    assert_eq!(one.first(&ticket, after(TTL_MS)), Err(TicketError::Expired));
    one.book.apply(&note);
    assert!(one.first(&ticket, after(TTL_MS)).is_ok());
}
