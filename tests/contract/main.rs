//! The wire contract, promise by promise, tested against the running program.

#[path = "../common/mod.rs"]
mod common;

mod access;
mod again;
mod answers;
mod approvals;
mod calls;
#[cfg(feature = "schedules")]
mod children;
mod cloudevents;
#[cfg(feature = "postgres")]
mod cluster;
mod deciding;
mod docs;
mod doctor;
#[cfg(feature = "sqlite")]
mod durability;
mod for_each;
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
mod openapi;
mod page;
mod plan_changes;
mod plans;
mod program;
mod proxies;
#[cfg(feature = "sqlite")]
mod queue;
#[cfg(feature = "sqlite")]
mod retry;
mod several;
mod shutdown;
#[cfg(feature = "sqlite")]
mod stdout;
mod store;
#[cfg(feature = "schedules")]
mod stored;
mod streams;
mod text_view;
#[cfg(feature = "tls")]
mod tls;
mod tools;
#[cfg(feature = "sqlite")]
mod upgrade;
#[cfg(feature = "http-tool")]
mod usage;
mod watch;
#[cfg(feature = "http-tool")]
mod webhooks;
