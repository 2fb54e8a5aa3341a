//! Webhooks: reports the ends of runs to other services, as CloudEvents signed according to Standard Webhooks.
//!
//! The log stores events together with their messages ([`log::Webhooks`](crate::log::Webhooks)). So a crash loses
//! nothing, and an event whose delivery was not recorded is sent again with the same id. This module sends them:
//!
//! | part | what it is |
//! |---|---|
//! | `declaration` | a webhook as the configuration has it |
//! | `signature` | what proves to a receiver who sent it |
//! | `schedule` | when what was not taken is tried again |
//! | `post` | one webhook: what is on its way, and what becomes of it; no clock, no thread, no socket |
//! | `request` | one attempt |
//! | `board` | how they stand, for whoever asks |
//! | `words` | what the courier is told |
//! | `courier` | the thread |

mod board;
#[cfg(feature = "http-tool")]
mod courier;
mod declaration;
mod post;
#[cfg(feature = "http-tool")]
mod request;
mod schedule;
mod signature;
mod words;

pub(crate) use self::board::Board;
#[cfg(feature = "http-tool")]
pub(crate) use self::courier::Courier;
pub use self::declaration::WebhookDeclaration;
pub(crate) use self::declaration::{check_all, words};
pub(crate) use self::post::Sent;
#[cfg(feature = "http-tool")]
pub(crate) use self::request::ping;
pub(crate) use self::words::{Bell, CourierHandle, Rung};

/// Webhooks that may be declared.
pub(crate) const WEBHOOKS_MAX: usize = 32;
