//! Parses requests, writes responses, and writes the frames of Server-Sent Events. Pure: no socket, no clock.
//!
//! A connection owns a [`Decoder`] and an input buffer. It passes all bytes read so far to the decoder and acts on the
//! [`Verdict`]: wait for more, serve the [`Request`], or send the [`Problem`] and close. A [`Response`] is appended to
//! the connection's output as bytes.
//!
//! The parser is strict on purpose (RFC 9112, section 11.2): if two programs on one path could read the same bytes as
//! different messages, the message is refused, not repaired.

mod body;
mod chunked;
mod coding;
mod condition;
mod decoder;
mod encoding;
pub mod events;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod head;
mod host;
mod lines;
pub mod media;
mod path;
mod problem;
mod query;
pub mod range;
mod request;
mod response;
pub mod sse;
mod status;
mod target;

pub use body::{Body, Next};
pub use chunked::Chunks;
pub use coding::{Coding, contents, split_last_chunk, write_chunk};
pub use condition::{Conditions, Preconditions, list_of, without_coding};
pub use decoder::{Decoder, Limits, Phase, Verdict};
pub use head::peek_origin;
pub use path::{SEGMENTS_MAX, Segments};
pub use problem::Problem;
pub use query::Query;
pub use request::{Headers, Method, Request, Version};
pub use response::{Response, write_stream_head};
