//! What is counted of TLS. The loop counts connections, and whoever reloads counts that.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why no connection came of one that was to speak TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "nothing is counted without it"))]
pub(in crate::server) enum HandshakeFailure {
    /// The client left.
    Closed,
    /// It and the server have no protocol in common, it does not trust the certificate, or what it says is no TLS.
    Protocol,
    /// It speaks plain HTTP.
    PlainHttp,
    /// It took too long, or the server ended meanwhile.
    Cut,
}

impl HandshakeFailure {
    const WORDS: [&str; 4] = ["closed", "protocol", "plain_http", "cut"];
}

/// See the top of this file.
#[derive(Debug, Default)]
pub(in crate::server) struct TlsCounts {
    handshakes: [AtomicU64; 2],
    failures: [AtomicU64; 4],
    reloads: [AtomicU64; 2],
}

#[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "nothing is counted without it"))]
impl TlsCounts {
    pub(super) fn count_handshake(&self, is_tls13: bool) {
        self.handshakes[usize::from(is_tls13)].fetch_add(1, Relaxed);
    }

    pub(super) fn count_failure(&self, failure: HandshakeFailure) {
        self.failures[failure as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn count_reload(&self, is_good: bool) {
        self.reloads[usize::from(is_good)].fetch_add(1, Relaxed);
    }
}

impl TlsCounts {
    /// Handshakes that came to their end, by version.
    pub(in crate::server) fn handshakes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        words_with(&["1.2", "1.3"], &self.handshakes)
    }

    /// Those that did not, by why.
    pub(in crate::server) fn failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        words_with(&HandshakeFailure::WORDS, &self.failures)
    }

    /// How often certificate and key were read anew, by what came of it.
    pub(in crate::server) fn reloads(&self) -> impl Iterator<Item = (&'static str, u64)> {
        words_with(&["failed", "loaded"], &self.reloads)
    }
}

fn words_with<'a>(words: &'a [&'static str], counts: &'a [AtomicU64]) -> impl Iterator<Item = (&'static str, u64)> {
    words.iter().copied().zip(counts.iter().map(|count| count.load(Relaxed)))
}
