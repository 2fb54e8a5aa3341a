//! Why a caller is rejected, and with which status.

use std::fmt;

use super::Scope;
use super::jwt::TOKEN_BYTES_MAX;
use crate::model::ProjectId;

/// The code of [`AuthError::TokenKeyUnknown`].
pub const KEY_UNKNOWN: &str = "token_key_unknown";

/// The code of [`AuthError::KeysUnavailable`].
pub const KEYS_UNAVAILABLE: &str = "keys_unavailable";

/// Why a call is rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthError {
    /// The call has neither a JWT nor a ticket.
    NoCredentials,
    /// The JWT is longer than [`TOKEN_BYTES_MAX`](super::TOKEN_BYTES_MAX).
    TokenTooLong,
    /// The token is not a JWT.
    TokenMalformed,
    /// The JWT is signed with another algorithm than the configured one, or with none.
    TokenAlgorithm,
    /// The JWT's signature does not match the key.
    TokenSignature,
    /// The JWT names a key that is not one of the identity provider's.
    TokenKeyUnknown,
    /// The JWT names no key, and several keys are possible.
    TokenKeyUnnamed,
    /// A claim is missing or of the wrong type; the text says which.
    TokenClaims(String),
    /// The JWT's `nbf` is in the future.
    TokenNotYetValid,
    /// The JWT's `exp` has passed.
    TokenExpired,
    /// The JWT is valid but lacks this scope.
    NoScope(Scope),
    /// The JWT is valid but not for the project.
    NoProject,
    /// The JWT is valid but not for this one of several projects.
    NoProjectOf(ProjectId),
    /// The ticket does not open this stream.
    Ticket(TicketError),
    /// A ticket for all projects of the JWT would be too long for a URL.
    TicketTooLong,
    /// The identity provider's keys have not been fetched yet.
    KeysUnavailable,
}

/// Why a ticket does not open a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TicketError {
    /// It was not issued by this server.
    Unknown,
    /// It was used, and no message id of the project came with it.
    Spent,
    /// It was not used within its lifetime.
    Expired,
    /// It is for another project.
    OtherProject,
    /// The JWT that it was issued for has expired.
    TokenExpired,
    /// Its subject has used the maximum number of tickets.
    TooMany(usize),
}

impl AuthError {
    /// The HTTP status: 401 if the credentials are missing or invalid, 403 if they are insufficient, 400 if the call
    /// must change, 429 if it is made too often, 503 if it is made too early.
    pub fn status(&self) -> u16 {
        match self {
            Self::NoCredentials
            | Self::TokenTooLong
            | Self::TokenMalformed
            | Self::TokenAlgorithm
            | Self::TokenSignature
            | Self::TokenKeyUnknown
            | Self::TokenKeyUnnamed
            | Self::TokenClaims(_)
            | Self::TokenNotYetValid
            | Self::TokenExpired => 401,
            Self::Ticket(TicketError::TooMany(_)) => 429,
            Self::NoScope(_) | Self::NoProject | Self::NoProjectOf(_) | Self::Ticket(_) => 403,
            Self::TicketTooLong => 400,
            Self::KeysUnavailable => 503,
        }
    }

    /// A stable code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoCredentials => "credentials_required",
            Self::TokenExpired => "token_expired",
            Self::TokenKeyUnknown => KEY_UNKNOWN,
            Self::TokenTooLong
            | Self::TokenMalformed
            | Self::TokenAlgorithm
            | Self::TokenSignature
            | Self::TokenKeyUnnamed
            | Self::TokenClaims(_)
            | Self::TokenNotYetValid => "token_invalid",
            Self::NoScope(_) => "scope_missing",
            Self::NoProject | Self::NoProjectOf(_) => "project_forbidden",
            Self::Ticket(why) => why.code(),
            Self::TicketTooLong => "ticket_too_long",
            Self::KeysUnavailable => KEYS_UNAVAILABLE,
        }
    }

    /// The value of `WWW-Authenticate` (RFC 6750), if the response needs one.
    pub fn challenge(&self) -> Option<&'static str> {
        match self {
            Self::NoCredentials => Some(r#"Bearer realm="stepcast""#),
            Self::NoScope(_) => Some(r#"Bearer realm="stepcast", error="insufficient_scope""#),
            _ if self.status() == 401 => Some(r#"Bearer realm="stepcast", error="invalid_token""#),
            _ => None,
        }
    }
}

impl TicketError {
    /// A stable code for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::Unknown => "ticket_unknown",
            Self::Spent => "ticket_spent",
            Self::Expired => "ticket_expired",
            Self::OtherProject => "ticket_other_project",
            Self::TokenExpired => "ticket_token_expired",
            Self::TooMany(_) => "too_many_tickets",
        }
    }
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoCredentials => {
                "authentication required: send a JWT as Authorization: Bearer, or open a stream with a ticket"
            }
            Self::TokenTooLong => {
                return write!(f, "the token is too long (limit {TOKEN_BYTES_MAX} bytes, not configurable)");
            }
            Self::TokenMalformed => "the token is not a JWT",
            Self::TokenAlgorithm => "the token is signed with an algorithm that this server does not accept",
            Self::TokenSignature => "the token's signature is invalid",
            Self::TokenKeyUnknown => "the token's key id (kid) is unknown to the identity provider",
            Self::TokenKeyUnnamed => {
                "the token has no key id (kid), and the identity provider has several keys for its alg"
            }
            Self::TokenClaims(what) => return write!(f, "the token's claims are invalid: {what}"),
            Self::TokenNotYetValid => "the token is not valid yet",
            Self::TokenExpired => "the token has expired",
            Self::NoScope(scope) => return write!(f, "the token lacks the scope {scope}"),
            Self::NoProject => "the token does not allow access to this project",
            Self::NoProjectOf(project) => return write!(f, "the token does not allow access to the project {project}"),
            Self::Ticket(why) => return why.fmt(f),
            Self::KeysUnavailable => {
                "the identity provider's keys could not be fetched yet, so no token can be verified; try again later"
            }
            Self::TicketTooLong => "the ticket would cover too many projects; set projectId, or fewer projectIds",
        })
    }
}

impl fmt::Display for TicketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "the ticket is unknown",
            Self::Spent => "the ticket has already been used",
            Self::Expired => "the ticket has expired",
            Self::OtherProject => "the ticket is for another project",
            Self::TokenExpired => "the token that the ticket was issued for has expired",
            Self::TooMany(limit) => {
                return write!(
                    f,
                    "the token's subject has used too many tickets (limit {limit}, limits.tickets); each counts until its \
                     token expires"
                );
            }
        })
    }
}

impl std::error::Error for AuthError {}

impl std::error::Error for TicketError {}

impl From<TicketError> for AuthError {
    fn from(why: TicketError) -> Self {
        Self::Ticket(why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_credentials_are_401_and_good_ones_that_do_not_suffice_403() {
        for (error, status, challenged) in [
            (AuthError::NoCredentials, 401, true),
            (AuthError::TokenExpired, 401, true),
            (AuthError::TokenClaims("no sub".into()), 401, true),
            (AuthError::NoScope(Scope::Run), 403, true),
            (AuthError::NoProject, 403, false),
            (TicketError::Unknown.into(), 403, false),
            (TicketError::TokenExpired.into(), 403, false),
            (AuthError::TicketTooLong, 400, false),
            (TicketError::TooMany(1).into(), 429, false),
            (AuthError::TokenKeyUnknown, 401, true),
            (AuthError::KeysUnavailable, 503, false),
        ] {
            assert_eq!((error.status(), error.challenge().is_some()), (status, challenged), "{error:?}");
        }
        assert_eq!(AuthError::NoScope(Scope::Run).to_string(), "the token lacks the scope run");
        assert_eq!(AuthError::from(TicketError::Spent).code(), "ticket_spent");
    }
}
