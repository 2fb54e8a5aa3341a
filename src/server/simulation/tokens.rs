//! The server's keys, the tokens that clients hold, and the tickets that they got for them.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::laws::Laws;
use crate::api::{Api, ApiSettings};
use crate::auth::{
    ClaimRules, Hosts, IdSigner, Instance, JwtKey, Origins, Principal, Projects, Rights, Scope, Scopes, ServerKeys,
    TicketBook, TicketMemory, TicketNote, Verifier, sign_hs256,
};
use crate::executor::testing::Rng;
use crate::model::{ProjectId, Timestamp};

const SECRET: &[u8] = b"a secret of 32 bytes and no less";

pub(super) const TICKET_TTL: Duration = Duration::from_secs(15);

/// See the [module](self).
pub(super) struct Tokens {
    keys: ServerKeys,
    pub(super) signer: IdSigner,
    /// Signs ids of another data directory.
    pub(super) foreign: IdSigner,
    pub(super) all: Vec<IssuedToken>,
    pub(super) tickets: Vec<Ticket>,
}

/// A token that was issued to clients.
pub(super) struct IssuedToken {
    pub(super) text: String,
    principal: Principal,
    pub(super) expires_at: Timestamp,
}

/// A ticket.
pub(super) struct Ticket {
    pub(super) text: String,
    pub(super) project: ProjectId,
    /// The token that it stands for.
    pub(super) token: usize,
    pub(super) issued_at: Timestamp,
    /// Streams were asked for with it.
    pub(super) uses: u32,
    /// A stream was opened with it.
    pub(super) is_spent: bool,
}

impl Tokens {
    /// Keys, and where tokens are asked for, the first of them.
    pub(super) fn new(laws: &Laws, now: Timestamp) -> Self {
        let keys = ServerKeys::derive(SECRET);
        let signer = keys.id_signer(Instance::from_random([1; 6]));
        let foreign = keys.id_signer(Instance::from_random([2; 6]));
        let mut tokens = Self { keys, signer, foreign, all: Vec::new(), tickets: Vec::new() };
        if laws.is_jwt {
            let everything = Rights { scopes: Scopes::ALL, projects: Projects::All };
            tokens.issue("first", everything, now.plus_millis(3_600_000));
        }
        tokens
    }

    /// One token more, with random rights and a random end.
    pub(super) fn issue_any(&mut self, rng: &mut Rng, now: Timestamp) {
        let scopes = match rng.below(3) {
            0 => Scopes::ALL,
            1 => Scopes::of(&[Scope::Subscribe]),
            _ => Scopes::of(&[Scope::Subscribe, Scope::Publish, Scope::Run]),
        };
        let projects = match rng.below(3) {
            0 => Projects::only([ProjectId::parse("p0").expect("an id")]),
            _ => Projects::All,
        };
        let name = format!("n{}", self.all.len());
        self.issue(&name, Rights { scopes, projects }, now.plus_millis(1000 + rng.below(60_000) as u64));
    }

    fn issue(&mut self, sub: &str, rights: Rights, end: Timestamp) {
        let expires_at = Timestamp::from_millis(end.as_secs() * 1000);
        let text = sign_hs256(sub, expires_at, &rights, &ClaimRules::default(), SECRET).expect("signs");
        let principal = Principal::new(sub.to_owned(), None, rights, None);
        self.all.push(IssuedToken { text, principal, expires_at });
    }

    /// Does this token give what a call needs?
    pub(super) fn may(&self, who: Option<usize>, scope: Scope, project: &ProjectId) -> bool {
        who.is_none_or(|who| self.all[who].principal.require_in(scope, project).is_ok())
    }

    /// Whose it is.
    pub(super) fn sub(&self, who: Option<usize>) -> &str {
        who.map_or("anonymous", |who| self.all[who].principal.sub())
    }

    /// When the token ends.
    pub(super) fn expires_at(&self, who: Option<usize>) -> Option<Timestamp> {
        who.map(|who| self.all[who].expires_at)
    }

    /// The handlers of the `n`th server with these keys; `notes` tell what became of tickets before it.
    pub(super) fn api(&self, laws: &Laws, n: u64, notes: &[TicketNote]) -> Api {
        let key = JwtKey::Hs256 { secret: SECRET.to_vec() };
        let memory = match laws.storms {
            Some(_) => TicketMemory::All,
            None => TicketMemory::SinceStart(n.to_be_bytes()[2..].try_into().expect("six of eight bytes")),
        };
        let mut tickets = TicketBook::new(self.keys.ticket_key(), TICKET_TTL, memory);
        notes.iter().for_each(|note| tickets.apply(note));
        let settings = ApiSettings {
            verifier: laws.is_jwt.then(|| Verifier::new(&key, Duration::ZERO).expect("a key")),
            hosts: Hosts::only(&["h".to_owned()], []),
            origins: Origins::new(&["https://listed.example"]).expect("origins"),
            signer: self.signer.clone(),
            ticket_key: self.keys.ticket_key(),
            tickets,
            ticket_ttl: TICKET_TTL,
            serves_metrics: true,
        };
        let mut count = u128::from(n) << 64;
        let random = move || {
            count += 1;
            count.to_be_bytes()
        };
        Api::new(settings, Box::new(random))
    }
}

/// When a ticket was issued, as it says itself: after its version and its nonce.
pub(super) fn issued_at(ticket: &str) -> Timestamp {
    let bytes = URL_SAFE_NO_PAD.decode(ticket).expect("a ticket");
    Timestamp::from_millis(u64::from_be_bytes(bytes[17..25].try_into().expect("eight bytes")))
}
