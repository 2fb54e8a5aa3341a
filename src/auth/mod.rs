//! Authentication and authorization: JWTs, one-time tickets, signed message ids, and browser origins. Pure: `now` and
//! randomness are passed in.
//!
//! A credential comes in as text and results in a [`Principal`], which knows what its bearer may do. The [`Verifier`]
//! checks JWTs with the operator's keys or with the [`KeySet`] of an identity provider. The [`TicketKey`] issues
//! tickets, and the [`TicketBook`] admits them and remembers which were used. The [`IdSigner`] signs the ids of
//! messages and positions, so that an id proves that its bearer has watched the project. Nothing here depends on HTTP;
//! errors know their status and origins their headers.

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
