//! Settings from file, environment and flags, parsed and checked once, through one table of keys.
//!
//! A program that embeds the server fills in a [`Config`] itself, or [loads](load) it as `stepcast serve` does.
//!
//! The table is `KEYS`: each key has a path, a kind of value, a line of help, and the field of [`Config`] that it sets.
//! The reader of the file, the names of environment variables and the flags of the command line all come from this
//! table, so no key can exist in one of them and be missing in another. Only tools (`tools.NAME`) and webhooks
//! (`[[webhooks]]`) can be set nowhere but in the file.
//!
//! All mistakes are found before anything starts and are reported together. No report shows a secret.

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
mod postgres;
mod printed;
mod provenance;
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
