//! What `benches/` measure, each from its room. For nothing else: all of it may change at any time.

pub use crate::auth::{IdSigner, Instance, ServerKeys};
pub use crate::executor::check::check_plan;
pub use crate::executor::run::{Effects, Run};
pub use crate::executor::template::{Engine, Scope};
pub use crate::executor::tool::registry::Registry;
pub use crate::executor::{Context, Durations, NewRun, PlanLimits};
pub use crate::http::{Decoder, Limits as HttpLimits, Verdict, sse};
pub use crate::log::{
    Command, Frames, Journal, Limits as LogLimits, MemoryStore, PublishedEvent, ReplyTo, Resume, Retention,
    StartingPosition, Store, StoreError, Subscription,
};
#[cfg(feature = "postgres")]
pub use crate::log::{PostgresSettings, PostgresStore, PostgresWake};
#[cfg(feature = "sqlite")]
pub use crate::log::{Seed, SqliteStore, Synchronous};
pub use crate::model::{Now, Plan, SlabKey, Timestamp, write_message};
pub use crate::stream::{CloseReason, ConnectionManager, Settings as StreamSettings, Transport};
