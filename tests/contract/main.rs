//! The wire contract, promise by promise, held against the running program.

#[path = "../common/mod.rs"]
mod common;

mod access;
mod again;
mod calls;
mod cloudevents;
#[cfg(feature = "sqlite")]
mod durability;
mod formats;
mod framing;
mod history;
#[cfg(feature = "http-tool")]
mod http_tools;
#[cfg(feature = "sqlite")]
mod interruptions;
mod isolation;
mod keys;
mod limits;
#[cfg(feature = "sqlite")]
mod neighbours;
mod page;
mod plans;
mod program;
mod proxies;
mod several;
mod shutdown;
#[cfg(feature = "sqlite")]
mod stdout;
mod store;
mod streams;
mod text_view;
mod tools;
mod watch;
#[cfg(feature = "http-tool")]
mod webhooks;
