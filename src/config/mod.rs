//! Settings, parsed and checked once: file, environment and flags, through one table of keys.
//!
//! A program that embeds the server fills in a [`Config`] itself, or [loads](load) it as `stepcast serve` does.
//!
//! `KEYS` is that table: each key's path, its kind of value, one line of documentation and the place in [`Config`]
//! that it sets. The reader of the file, the names of environment variables and the flags of the command line all come
//! out of it, so that no key can exist in one and lack in another. Tools (`tools.NAME`) and webhooks (`[[webhooks]]`) are declared in the file
//! alone.
//!
//! Every mistake is found before anything starts, all of them are reported at once, and none of the reports shows a
//! secret.

mod address;
mod check;
mod cidr;
mod file;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod hosts;
mod jwks;
mod keys;
mod load;
mod origins;
mod places;
mod postgres;
mod printed;
mod report;
mod setting;
mod settings;
mod suggest;
mod tools;
pub(crate) mod units;
mod webhooks;

pub use address::ListenAddress;
pub use cidr::Cidr;
pub use hosts::Hosts;
pub use jwks::KeyLocation;
pub(crate) use keys::{KEYS, Key};
pub(crate) use load::Sources;
pub use load::{ConfigError, Loaded, load};
pub use origins::Origins;
pub use postgres::PostgresUrl;
pub use settings::{
    AuthConfig, AuthMode, ClusterConfig, Config, CorsConfig, DataLocation, ExecutorConfig, HistoryConfig, JwtAlgorithm,
    LimitsConfig, LogConfig, MetricsConfig, ServerConfig, SseConfig, StoreConfig, Synchronous, TlsConfig, Wake,
};

pub use crate::model::{Notable, Secret};
pub use crate::webhooks::WebhookDeclaration;

#[cfg(test)]
mod documented;
#[cfg(test)]
mod tests;
