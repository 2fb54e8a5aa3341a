//! The server: one thread that owns every socket.
//!
//! To a program that embeds it this is a [`Builder`], which starts it, the [`RunningServer`] that comes of that, and a
//! [`Handle`] for whoever has something to broadcast or to run.
//!
//! `Server` (`core`) is the whole of it without the operating system, fed with sockets, readiness, answers and `now`. It
//! is made of four parts that know nothing of one another: `admission` knows who may have how much, `connections` what
//! clients send and are sent, `replies` what other threads are asked, and the
//! `stream::ConnectionManager` who watches what. `sockets` tells which of them a socket is in,
//! and `core` holds the order of things: a turn, a request, an answer, the beginning of a stream.
//!
//! `event_loop` is the thin shell that polls, `intake` checks plans off the loop, `jwks` fetches an
//! identity provider's keys, and `start` puts the threads
//! together.

mod admission;
mod allowance;
mod children;
mod connections;
mod core;
mod date;
mod distribution;
mod error;
mod event_loop;
mod exchange;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod handle;
mod inbox;
mod intake;
mod jwks;
mod key_wait;
mod listen;
mod listener;
mod membership;
mod metrics;
mod passed;
mod refused;
mod replies;
mod running;
mod settings;
#[cfg(test)]
mod simulation;
mod socket;
mod sockets;
mod start;
mod storage;
#[cfg(test)]
mod tests;
mod threads;
mod turns;
mod waiting;

#[cfg(test)]
use admission::{Cidr, ConnectionLimits};
#[cfg(test)]
use connections::Timeouts;
#[cfg(test)]
use core::{Server, ServerSettings};
pub use error::StartError;
pub use handle::{Handle, HandleError};
#[cfg(test)]
use inbox::Inbox;
#[cfg(test)]
use jwks::KeyNews;
pub use listener::Listener;
pub(crate) use listener::Origin;
pub(crate) use passed::PassedConnection;
pub(crate) use running::Legacy;
pub use running::{LoopWatch, RunningServer, Stopper};
pub(crate) use settings::{claim_rules, declare_tools};
#[cfg(test)]
use socket::Socket;
#[cfg(test)]
use sockets::Token;
pub use start::Builder;

pub use crate::http::Problem;
pub use crate::model::Issue;
