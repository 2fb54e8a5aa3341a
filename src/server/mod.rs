//! The server: one thread that owns every socket.
//!
//! To a program that embeds it this is a [`Builder`], which starts it, the [`RunningServer`] that comes of that, and a
//! [`Handle`] for whoever has something to broadcast or to run.
//!
//! `Server` is the whole of it without the operating system: connections, streams, calls and what they wait for, fed
//! with sockets, readiness, answers and `now`. `event_loop` is the thin shell that polls, `intake` checks plans off
//! the loop, and `start` puts the threads together.

mod attach;
mod connection;
mod core;
mod error;
mod event_loop;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod handle;
mod inbox;
mod intake;
mod limits;
mod listen;
mod metrics;
mod refused;
mod settings;
#[cfg(test)]
mod simulation;
mod socket;
mod start;
mod storage;
#[cfg(test)]
mod tests;

#[cfg(test)]
use connection::Timeouts;
#[cfg(test)]
use core::{Server, ServerSettings, Token};
pub use error::StartError;
pub use handle::{Handle, HandleError};
#[cfg(test)]
use inbox::Inbox;
#[cfg(test)]
use limits::{Cidr, ConnectionLimits};
pub(crate) use settings::declare_tools;
#[cfg(test)]
use socket::Socket;
pub use start::{Builder, RunningServer, Stopper};

pub use crate::http::Problem;
pub use crate::model::Issue;
