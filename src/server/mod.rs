//! The server: one thread that owns every socket.
//!
//! [`Server`] is the whole of it without the operating system: connections, streams, calls and what they wait for, fed
//! with sockets, readiness, answers and `now`. `event_loop` is the thin shell that polls, `intake` checks plans off
//! the loop, and [`Builder`] puts the threads together.

mod admission;
mod connections;
mod core;
mod date;
mod error;
mod event_loop;
mod exchange;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod handle;
mod inbox;
mod intake;
mod listen;
mod metrics;
mod refused;
mod replies;
mod settings;
#[cfg(test)]
mod simulation;
mod socket;
mod sockets;
mod start;
mod storage;
#[cfg(test)]
mod tests;
mod waiting;

pub use admission::{Cidr, ConnectionLimits};
pub use connections::Timeouts;
pub use core::{Server, ServerSettings};
pub use error::StartError;
pub use handle::{Handle, HandleError};
pub use inbox::{Inbox, InboxSender};
pub use replies::Outbox;
pub use settings::declare_tools;
pub use socket::Socket;
pub use sockets::Token;
pub use start::{Builder, RunningServer, Stopper};
