//! The server's own keys, all derived from one master secret.

use ring::hkdf::{HKDF_SHA256, Prk, Salt};
use ring::hmac::{HMAC_SHA256, Key};

use super::{IdSigner, Instance, TicketKey};

/// One key for ids of messages, one for ids of several positions, one for tickets, so that none can be passed off as another.
///
/// The same master secret gives the same keys, so a server that keeps its secret knows its ids and tickets again after
/// a restart.
pub struct ServerKeys {
    ids: Key,
    positions: Key,
    tickets: Key,
}

impl ServerKeys {
    /// Derives the keys from `master`: at least 32 bytes that nobody can guess. They are stored, made again at each
    /// start, or the HS256 secret.
    pub fn derive(master: &[u8]) -> Self {
        let master = Salt::new(HKDF_SHA256, b"stepcast").extract(master);
        let [ids, positions, tickets] =
            [&b"message ids 1"[..], b"positions 1", b"tickets 1"].map(|label| expand(&master, label));
        Self { ids, positions, tickets }
    }

    /// Signs and reads the message ids of `instance`.
    pub fn id_signer(&self, instance: Instance) -> IdSigner {
        IdSigner::new(self.ids.clone(), self.positions.clone(), instance)
    }

    /// Issues and opens tickets.
    pub fn ticket_key(&self) -> TicketKey {
        TicketKey::new(self.tickets.clone())
    }
}

fn expand(master: &Prk, label: &[u8]) -> Key {
    let label = [label];
    master.expand(&label, HMAC_SHA256).expect("a key is shorter than what HKDF can give").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_follow_from_the_master_and_differ_from_each_other() {
        let tags = |keys: &ServerKeys| {
            [&keys.ids, &keys.positions, &keys.tickets].map(|key| super::super::mac::tag::<16>(key, &[b"x"]))
        };
        let (one, again, other) =
            (ServerKeys::derive(&[1; 32]), ServerKeys::derive(&[1; 32]), ServerKeys::derive(&[2; 32]));
        assert_eq!(tags(&one), tags(&again));
        let [ids, positions, tickets] = tags(&one);
        assert!(ids != positions && positions != tickets && tickets != ids);
        assert_ne!(tags(&one), tags(&other));
    }
}
