//! stepcast runs a plan of steps on a worker pool, level by level, and streams every moment of it over Server-Sent
//! Events to everyone who watches the project.

pub mod api;
pub mod auth;
pub mod cli;
pub mod config;
pub mod executor;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzz;
pub mod http;
pub mod log;
pub mod model;
pub mod server;
pub mod stream;
mod text;
