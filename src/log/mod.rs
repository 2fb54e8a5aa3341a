//! The log: every message is numbered, stored and made durable here before anyone receives it.
//!
//! One thread writes. It takes commands in batches and commits each batch as a whole, so that its answers stay true.
//! Replays for subscribers, the states of runs, and what a restart continues from are all read from here, so they
//! cannot contradict what was sent live.
//!
//! Reads run on threads of their own wherever the store, and the state of a run that the writer publishes, are enough
//! to answer them: large reads do not delay writes.
//!
//! [`Journal`] is the pure part: commands and `now` in, [`Delivery`]s and [`Order`]s out. [`Store`] is the storage
//! interface, with one implementation for each kind of storage.
//!
//! Each part uses only those above it:
//!
//! | part | what it is |
//! |---|---|
//! | `store` | the storage interface and its rows; `memory`, `sqlite` and `postgres` use nothing else of this module |
//! | `frames`, `views` | messages and runs as they are shown |
//! | `protocol` | commands to the log and its answers |
//! | `lookup` | answers made from what is stored |
//! | `journal` | the writer |
//! | `thread`, `history_thread` | the threads |

#[cfg(test)]
pub(crate) mod beside;
#[cfg(all(test, feature = "sqlite"))]
mod conformance;
#[cfg(test)]
pub(crate) mod fake_engine;
#[cfg(test)]
pub(crate) mod faulty;
mod frames;
#[cfg(all(test, feature = "sqlite"))]
mod history_tests;
mod history_thread;
mod journal;
mod lookup;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
mod protocol;
#[cfg(feature = "sqlite")]
mod sqlite;
mod store;
// The store on disk has tests that need more of it.
#[cfg(test)]
#[cfg_attr(not(feature = "sqlite"), expect(dead_code))]
mod testing;
mod thread;
mod views;
mod work;

#[cfg(test)]
pub(crate) use frames::ItemFrame;
pub use frames::{Frames, Page, Row, SharedBytes, View};
pub use journal::{Journal, Limits, Outcome, STATE_OUTPUTS_BYTES_MAX, Standings, WaitingWishes};
#[cfg(test)]
pub(crate) use lookup::Question;
pub use lookup::Watchers;
pub use memory::MemoryStore;
#[cfg(feature = "postgres")]
pub use postgres::{Opened, PostgresSettings, PostgresStore, PostgresWake};
pub use protocol::{
    Answer, ChildEnd, ChildResult, Claim, ClientSaid, Command, Delivery, DueEvent, DuePage, EventList, Fingerprint,
    FiringNote, NewPlan, Order, Origin, Output, PlanCommand, PlanLimits, PublishedEvent, Query, Refusal, ReplyTo,
    ResetReason, Rest, Resume, ResumeFrom, Resumed, Retold, RunAtItsEnd, ScheduledPlan, Spends, StartingPosition,
    SteerRequest, Submission, Subscription, WantedDue, WantedEvents, WantedItems, WantedOutput, WantedRun,
    WebhookFilter, Webhooks,
};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteStore, Synchronous};
pub use store::{
    Beat, BeatError, DueId, DueTimes, FOLLOWED_MAX, Followed, Hints, Lease, OutboxChange, Retention, RunNumber,
    Standing, Store, StoreCounts, StoreError, Tail, WishId,
};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use store::{Identity, Seed};
#[cfg(test)]
pub(crate) use store::{Outgoing, PlaceInRun, StoredMessage, Wishes};
pub use thread::{LogHandle, WAITING_BATCHES_MAX, start};
pub use work::WorkCounts;
