//! Requests of the server to other servers: one request, one response.
//!
//! They block, so they are for threads and never for the loop. HTTP tools use [`wire`] too, but handle streams,
//! redirects and kept connections themselves.

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
