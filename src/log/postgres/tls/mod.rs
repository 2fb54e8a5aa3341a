//! TLS to PostgreSQL: the options of the URL ([`asked`]), the trusted certificates ([`trust`]), and the handshake
//! ([`connector`]). [`der`] reads parts of a certificate that no library provides.
//!
//! The options mean the same as in libpq: `require` encrypts and accepts any server, unless trusted certificates are
//! given; `verify-ca` requires a certificate signed by a trusted authority, and `verify-full` one that is also valid
//! for the host.

mod asked;
mod connector;
mod der;
mod trust;

pub(super) use self::asked::Asked;
pub(super) use self::connector::{Secured, Tls, TlsError};
