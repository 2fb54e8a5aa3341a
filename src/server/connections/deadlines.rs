//! Time limits of a connection.

use std::time::Duration;

use crate::server::refused::Limit;

/// How long input of a refused connection is read and dropped, so that the refusal arrives before the reset that unread
/// bytes would cause.
pub(super) const LINGER: Duration = Duration::from_secs(2);

/// The time limits of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a head, from its first byte or from the start of the connection.
    pub header: Duration,
    /// For a body, from the end of its head.
    pub body: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// For the client to take any part of the output.
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

/// The time limit that a connection has exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Overdue {
    /// No request arrived.
    Idle,
    /// A head was not completed.
    Head,
    /// A body was not completed.
    Body,
    /// Responses were not taken.
    Output,
    /// The client did not close after the last response.
    Leave,
}

impl Overdue {
    /// The limit that is counted in metrics.
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
