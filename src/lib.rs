//! stepcast runs plans of steps on a worker pool, level by level, and streams their progress over Server-Sent Events to
//! all subscribers of a project.
//!
//! A program that embeds it passes a [`Config`](config::Config) and its own [tools](tool::Tool) to a
//! [`Builder`](server::Builder), and then broadcasts messages and submits plans through a [`Handle`](server::Handle).
//! The items here are the whole public interface.

// Builds with fewer features leave out the only callers of some functions.
#![cfg_attr(
    not(all(feature = "http-tool", feature = "postgres", feature = "sqlite")),
    allow(dead_code, unused_imports)
)]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "stepcast runs only on Linux: it uses epoll, eventfd, socket options and process limits that other systems do not have"
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
