//! The core: which stream follows what, and how each stream gets all of its messages.
//!
//! A [`ConnectionManager`] holds the streams in a slab and, for each followed project, one [`Backlog`] of encoded
//! frames. Streams follow a [`Channel`]: the set of their keys, and a source that they are written from, which is the
//! backlog of a project, one derived from it, or a [`Bundle`] of several. A stream owns no queue: it is a [`Cursor`].
//! There is no clock and no poll here, and a socket is anything that can be written to; the loop passes readiness and
//! `now`, and carries out the [`Effect`]s.
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
