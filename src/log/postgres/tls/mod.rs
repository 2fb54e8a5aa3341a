//! TLS to PostgreSQL: what a url asks for ([`asked`]), who a server's certificate is believed from ([`trust`]), and the
//! client's handshake over its sockets ([`connector`]). [`der`] reads what of a certificate none of the libraries tells.
//!
//! It means what libpq means by the same words: `require` encrypts and believes any server, unless it is told whom to believe;
//! `verify-ca` wants a certificate of somebody trusted, `verify-full` one for the host as well.

mod asked;
mod connector;
mod der;
mod trust;

pub(super) use self::asked::Asked;
pub(super) use self::connector::{Secured, Tls, TlsError};
