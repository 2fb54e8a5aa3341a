//! The server's own requests to others: one request, one answer, as plain as that.
//!
//! Blocking, so for threads and never for the loop. What tools ask for goes by [`wire`] too, but has its own ways:
//! streams, redirects, connections that are kept.

#[cfg(feature = "http-tool")]
mod client;
#[cfg(feature = "http-tool")]
mod guard;
#[cfg(feature = "http-tool")]
mod hosts;
pub(crate) mod retry_after;
mod url;
#[cfg(feature = "http-tool")]
pub(crate) mod wire;

#[cfg(feature = "http-tool")]
pub(crate) use client::{Answer, Client, Settings};
#[cfg(feature = "http-tool")]
pub(crate) use guard::Reach;
#[cfg(feature = "http-tool")]
pub(crate) use hosts::Hosts;
pub(crate) use url::{Url, origin, strip_scheme};
#[cfg(feature = "http-tool")]
pub(crate) use wire::Request;
