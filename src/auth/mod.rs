//! Who may: JWTs, one-time tickets, signed message ids, and browser origins. Pure: `now` and randomness are passed in.
//!
//! A credential comes in as text and leaves as a [`Principal`], which answers what its bearer may do. JWTs are checked
//! by the [`Verifier`]; tickets are issued by the [`TicketKey`] and admitted by the [`TicketBook`], which remembers
//! which were used; ids of messages and positions are signed by the [`IdSigner`], so that one is proof of having watched the
//! project.
//! Nothing here speaks HTTP: errors tell their status, origins their headers.

mod bearer;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod hosts;
mod jwt;
mod jwt_key;
mod keys;
mod mac;
mod message_id;
mod origin;
mod positions;
mod principal;
mod provider;
mod ticket;
mod ticket_book;
mod token_cache;

pub use bearer::bearer;
pub use error::{AuthError, TicketError};
pub use hosts::Hosts;
pub use jwt::{Verifier, sign_hs256};
pub use jwt_key::{JWT_SECRET_BYTES_MIN, JwtKey, KeyError};
pub use keys::ServerKeys;
pub use message_id::{IdSigner, Instance, MessageId};
pub use origin::{Origins, Verdict};
pub use positions::{PROJECTS_PER_STREAM_MAX, ProjectTag};
pub use principal::{Principal, Projects, Rights, Scope, Scopes};
pub use ticket::{TicketKey, TicketNonce};
pub use ticket_book::{Asked, Spending, TICKETS_REMEMBERED_MAX, TicketBook, TicketNote};
