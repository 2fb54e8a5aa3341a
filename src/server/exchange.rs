//! A request that has not been answered yet.

use crate::http::{Coding, Method, Request, Version};

/// A request to be answered: its connection, and how to write the response.
#[derive(Debug)]
pub(super) struct Exchange {
    /// The connection of the request.
    pub(super) index: usize,
    /// How the response is framed.
    pub(super) framing: Framing,
    /// Additional headers of the response.
    pub(super) headers: Vec<(&'static str, String)>,
}

/// The properties of a request that decide how its response is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Framing {
    pub(super) version: Version,
    pub(super) keep_alive: bool,
    pub(super) head_only: bool,
}

impl Framing {
    /// The framing for a request. The connection closes after the response if this is the last request.
    pub(super) fn of(request: &Request, is_last: bool) -> Self {
        Self {
            version: request.version,
            keep_alive: request.keep_alive && !is_last,
            head_only: request.method == Method::Head,
        }
    }

    /// The framing for an invalid request: the connection closes after the response.
    pub(super) const OF_NO_REQUEST: Self = Self { version: Version::Http11, keep_alive: false, head_only: false };

    /// How the content of a stream is framed.
    pub(super) fn coding(self) -> Coding {
        Coding::of(self.version)
    }
}
