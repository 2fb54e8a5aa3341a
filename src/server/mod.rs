//! The server: one thread that owns every socket.
//!
//! A program that embeds it uses a [`Builder`] to start it, the [`RunningServer`] that this returns to stop it, and a
//! [`Handle`] to broadcast messages and run plans.
//!
//! `Server` (in `core`) is the server without the operating system: its inputs are sockets, readiness, answers of other
//! threads, and `now`. It consists of four parts that do not know each other: `admission` enforces limits on
//! connections, streams and publishing; `connections` reads requests and writes responses; `replies` tracks the
//! questions that other threads have not answered yet; `stream::ConnectionManager` knows which stream follows which
//! project. `sockets` maps a socket to the part that owns it, and `core` defines the order of a turn, a request, an
//! answer and the start of a stream.
//!
//! `socket` is the interface that they read from and write to; `tls` implements it for https.
//!
//! `event_loop` polls the sockets, `intake` validates plans outside the loop, `jwks` fetches the keys of an identity
//! provider, and `start` creates the threads.

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
#[cfg(test)]
mod metrics_documented;
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
mod tls;
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
pub(crate) use listener::{ListenKey, Origin};
pub(crate) use passed::PassedConnection;
pub(crate) use running::Legacy;
pub use running::{LoopWatch, RunningServer, Stopper};
pub(crate) use settings::{check_settings, claim_rules, declare_tools};
#[cfg(test)]
use socket::Socket;
#[cfg(test)]
use sockets::PollToken;
pub use start::Builder;
pub use tls::Tls;

pub use crate::http::Problem;
pub use crate::model::Issue;
