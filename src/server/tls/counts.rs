//! Counters of TLS. The event loop counts connections; whoever reloads the certificate counts reloads.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why a TLS handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "nothing is counted without it"))]
pub(in crate::server) enum HandshakeFailure {
    /// The client closed the connection.
    Closed,
    /// No common protocol version or cipher, the client does not trust the certificate, or the input is not TLS.
    Protocol,
    /// The client speaks plain HTTP.
    PlainHttp,
    /// It took too long, or the server stopped meanwhile.
    Cut,
}

impl HandshakeFailure {
    const WORDS: [&str; 4] = ["closed", "protocol", "plain_http", "cut"];
}

/// Counters of handshakes and reloads.
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
    /// Completed handshakes, by version.
    pub(in crate::server) fn handshakes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        words_with(&["1.2", "1.3"], &self.handshakes)
    }

    /// Failed handshakes, by reason.
    pub(in crate::server) fn failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        words_with(&HandshakeFailure::WORDS, &self.failures)
    }

    /// Reloads of the certificate and key, by result.
    pub(in crate::server) fn reloads(&self) -> impl Iterator<Item = (&'static str, u64)> {
        words_with(&["failed", "loaded"], &self.reloads)
    }
}

fn words_with<'a>(words: &'a [&'static str], counts: &'a [AtomicU64]) -> impl Iterator<Item = (&'static str, u64)> {
    words.iter().copied().zip(counts.iter().map(|count| count.load(Relaxed)))
}
