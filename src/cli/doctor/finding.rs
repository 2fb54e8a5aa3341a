//! The problems that the doctor can find.

use std::fmt;
use std::time::Duration;

use humantime::format_duration;

/// A behaviour of a proxy that harms streams or the server's limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finding {
    /// Requests reach the server as HTTP/1.0.
    OldVersion,
    /// Requests reach the server with another host than the client named.
    HostChanged { sent: String, arrived: Option<String> },
    /// The server does not learn who its clients are.
    NoForwardedFor,
    /// The server believes what the client itself says about its address.
    ForgedForwardedFor,
    /// The proxy names the client, but the server does not trust the proxy.
    UntrustedProxy { address: String },
    /// A client that reconnects can't say what it has received.
    LastEventIdLost,
    /// Streams are compressed, which holds events back.
    Compressed { coding: String },
    /// Events are held back.
    Buffered { waited: Duration },
    /// Bodies that the server takes do not reach it.
    BodyRefused { bytes: u64, answer: String },
    /// An idle stream is closed.
    IdleCut { after: Duration },
    /// A stream is closed even if it is busy.
    Cut { after: Duration },
    /// Not even heartbeats arrive while a stream is idle.
    NoHeartbeat { waited: Duration, heartbeat: Duration },
    /// Streams of clients that have left stay open at the server.
    StreamsStayOpen { waited: Duration },
    /// Browsers can open only a few streams at a time.
    NoHttp2,
    /// There is no TLS, and therefore no HTTP/2.
    NoTls,
}

impl Finding {
    /// Whether something does not work. Otherwise it could work better.
    pub(super) fn is_problem(&self) -> bool {
        !matches!(self, Self::NoHttp2 | Self::NoTls)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OldVersion => f.write_str("the proxy uses HTTP/1.0 to the server: every call opens a new connection"),
            Self::HostChanged { sent, arrived } => {
                let arrived = arrived.as_deref().unwrap_or("no host");
                write!(f, "the proxy changes Host from {sent} to {arrived}: the server refuses calls of its own pages")
            }
            Self::NoForwardedFor => f.write_str(
                "the proxy sends no X-Forwarded-For: limits of one address count all clients as one, or none",
            ),
            Self::ForgedForwardedFor => {
                f.write_str("the proxy passes on an X-Forwarded-For of the client's own: clients can evade limits")
            }
            Self::UntrustedProxy { address } => {
                write!(f, "the server does not trust the proxy at {address}: all its clients count as one address")
            }
            Self::LastEventIdLost => {
                f.write_str("the proxy drops Last-Event-ID: a client that reconnects misses messages")
            }
            Self::Compressed { coding } => write!(f, "the proxy compresses streams ({coding}): events can be delayed"),
            Self::Buffered { waited } => {
                write!(f, "the proxy buffers streams: no event arrived within {}", format_duration(*waited))
            }
            Self::BodyRefused { bytes, answer } => {
                write!(f, "a body of {bytes} bytes, which the server accepts (limits.body_bytes), {answer}")
            }
            Self::IdleCut { after } => {
                write!(f, "the stream was closed after {} without data", format_duration(*after))
            }
            Self::Cut { after } => write!(f, "the stream was closed after {}", format_duration(*after)),
            Self::NoHeartbeat { waited, heartbeat } => {
                let (waited, heartbeat) = (format_duration(*waited), format_duration(*heartbeat));
                write!(f, "no heartbeat arrived within {waited}, though the server sends one every {heartbeat}")
            }
            Self::StreamsStayOpen { waited } => write!(
                f,
                "the proxy keeps the stream of a client that has left: it was still open after {}",
                format_duration(*waited)
            ),
            Self::NoHttp2 => f.write_str("no HTTP/2: a browser opens at most six streams at a time, over all its tabs"),
            Self::NoTls => {
                f.write_str("no TLS, hence no HTTP/2: a browser opens at most six streams at a time, over all its tabs")
            }
        }
    }
}
