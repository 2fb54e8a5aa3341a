//! Time limits of a connection.

use std::time::Duration;

use crate::server::refused::Limit;

/// How long a connection that was refused is read from and not listened to, so that the refusal arrives before the
/// reset that unread bytes would cause.
pub(super) const LINGER: Duration = Duration::from_secs(2);

/// How long a connection may take.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a head, from its first byte, or from the connection's beginning.
    pub header: Duration,
    /// For a body, from the end of its head.
    pub body: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// For taking anything of what is written.
    pub output: Duration,
}

impl Timeouts {
    pub(super) fn of(&self, what: Overdue) -> Duration {
        match what {
            Overdue::Idle => self.idle,
            Overdue::Head => self.header,
            Overdue::Body => self.body,
            Overdue::Output => self.output,
            Overdue::Leave => LINGER,
        }
    }
}

/// What took a connection too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Overdue {
    /// No request came.
    Idle,
    /// A head began and did not end.
    Head,
    /// A body did not end.
    Body,
    /// Answers were not taken.
    Output,
    /// A client did not close after the last response.
    Leave,
}

impl Overdue {
    /// The limit that is counted.
    pub(in crate::server) fn limit(self) -> Option<Limit> {
        match self {
            Self::Idle => Some(Limit::IdleTimeout),
            Self::Output => Some(Limit::StallTimeout),
            Self::Head => Some(Limit::HeaderTimeout),
            Self::Body => Some(Limit::BodyTimeout),
            Self::Leave => None,
        }
    }
}
