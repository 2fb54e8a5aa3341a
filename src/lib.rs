//! stepcast runs a plan of steps on a worker pool, level by level, and streams every moment of it over Server-Sent
//! Events to everyone who watches the project.
//!
//! A program that embeds it makes a [`Config`](config::Config), gives it with its own [tools](tool::Tool) to a
//! [`Builder`](server::Builder), and broadcasts and submits plans through a [`Handle`](server::Handle). What stands here
//! is all that it needs; the rest of the crate is closed.

// The smaller builds leave out what alone calls some of the rest.
#![cfg_attr(
    not(all(feature = "http-tool", feature = "postgres", feature = "sqlite")),
    allow(dead_code, unused_imports)
)]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "stepcast runs on Linux alone: it goes by Linux's own epoll events, eventfds, socket options and process limits"
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
