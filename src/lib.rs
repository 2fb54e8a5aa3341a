//! stepcast runs plans of steps on a worker pool, level by level, and streams their progress over Server-Sent Events to
//! all subscribers of a project.
//!
//! A program that embeds it creates a [`Config`](config::Config), passes it with its own [tools](tool::Tool) to a
//! [`Builder`](server::Builder), and publishes messages and submits plans through a [`Handle`](server::Handle). The items
//! listed here are the public API; the rest of the crate is private.

// Builds with fewer features leave out the only callers of some functions.
#![cfg_attr(
    not(all(feature = "http-tool", feature = "postgres", feature = "sqlite")),
    allow(dead_code, unused_imports)
)]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "stepcast only runs on Linux: it uses epoll, eventfds, and the socket options and process limits of Linux"
);

mod api;
mod auth;
#[cfg(not(doc))]
pub mod bench;
#[doc(hidden)]
pub mod cli;
mod clock;
mod cluster;
pub mod config;
mod executor;
mod formats;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzz;
mod http;
mod log;
mod model;
mod outbound;
mod random;
mod schedules;
pub mod server;
mod stream;
mod text;
mod webhooks;

pub use executor::tool;
pub use model::{IdError, ProjectId, RunId, StepId};

/// The examples of the documentation are doc tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Documentation;
