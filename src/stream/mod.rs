//! The heart: who watches what, and how each of them gets every message of it.
//!
//! A [`ConnectionManager`] holds the streams in a slab and, for each project that is watched, one [`Backlog`] of encoded
//! frames. What streams watch is a [`Channel`]: the set of their keys, and a source that they are written from, which is a
//! project's backlog, one that is made of it, or a [`Bundle`] of several. A stream owns no queue: it is a [`Cursor`]. No
//! clock and no poll in here, and sockets are whatever can be written to; the loop brings readiness and `now`, and carries
//! out the [`Effect`]s.
//!
//! [`Bundle`]: bundle::Bundle

mod backlog;
mod bundle;
mod channel;
mod control;
mod manager;
mod paging;
mod project;
mod retold;
mod subscriber;
mod sweep;
#[cfg(test)]
mod tests;
mod watched;
mod with_items;

pub use bundle::BundleSubscription;
#[cfg(test)]
pub(crate) use manager::BACKLOG_BYTES_MIN;
pub use manager::{ConnectionManager, Effect, Settings, Stats};
pub use paging::PAGES_IN_FLIGHT_MAX;
pub use subscriber::{CloseReason, Transport};
