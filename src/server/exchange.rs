//! A request that has not been answered yet.

use crate::http::{Coding, Method, Request, Version};

/// A request whose answer is owed: to whom, and how it is to be written.
#[derive(Debug)]
pub(super) struct Exchange {
    /// The connection that it came by.
    pub(super) index: usize,
    /// How its answer is framed.
    pub(super) framing: Framing,
    /// What its answer gets beside its own headers.
    pub(super) headers: Vec<(&'static str, String)>,
}

/// What of a request decides how its answer is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Framing {
    pub(super) version: Version,
    pub(super) keep_alive: bool,
    pub(super) head_only: bool,
}

impl Framing {
    /// Of a request, behind whose answer the connection closes if it is the last.
    pub(super) fn of(request: &Request, is_last: bool) -> Self {
        Self {
            version: request.version,
            keep_alive: request.keep_alive && !is_last,
            head_only: request.method == Method::Head,
        }
    }

    /// Of what is no request: the connection closes behind the answer.
    pub(super) const OF_NO_REQUEST: Self = Self { version: Version::Http11, keep_alive: false, head_only: false };

    /// How the content of a stream is framed.
    pub(super) fn coding(self) -> Coding {
        Coding::of(self.version)
    }
}
