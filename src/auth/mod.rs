//! Who may: JWTs, one-time tickets, signed message ids, and browser origins. Pure: `now` and randomness are passed in.
//!
//! A credential comes in as text and leaves as a [`Principal`], which answers what its bearer may do. JWTs are checked
//! by the [`Verifier`], with the operator's keys or with a [`KeySet`] that an identity provider publishes; tickets are
//! issued by the [`TicketKey`] and admitted by the [`TicketBook`], which remembers which were used; ids of messages and
//! positions are signed by the [`IdSigner`], so that one is proof of having watched the project.
//! Nothing here speaks HTTP: errors tell their status, origins their headers.

mod bearer;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod hosts;
mod jwt;
mod keys;
mod mac;
mod message_id;
mod origin;
mod positions;
mod principal;
mod ticket;
mod ticket_book;

pub use bearer::bearer;
pub use error::{AuthError, KEY_UNKNOWN, KEYS_UNAVAILABLE, TicketError};
pub use hosts::Hosts;
#[cfg(test)]
pub use jwt::sign_hs256;
pub use jwt::{
    ClaimPath, ClaimRules, JWKS_BYTES_MAX, JWT_SECRET_BYTES_MIN, JwtKey, KeyError, KeySet, ReadKeySet, SigningKey,
    Verifier,
};
pub use keys::ServerKeys;
pub use message_id::{IdSigner, Instance, MessageId};
pub use origin::{Origins, Verdict};
pub use positions::{PROJECTS_PER_STREAM_MAX, ProjectTag};
pub use principal::{Principal, Projects, Rights, Scope, Scopes};
pub use ticket::{TicketKey, TicketNonce};
pub use ticket_book::{Asked, Spending, TICKETS_REMEMBERED_MAX, TicketBook, TicketMemory, TicketNote};
