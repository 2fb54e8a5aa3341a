//! The log comes first: every message is numbered, kept and made durable here, and only then reaches anyone.
//!
//! One thread writes. It takes commands in batches and commits each batch as one, so that what it answers is true for
//! good. What a subscriber is replayed, what a run's state is and what a restart goes on from are all read from here,
//! so that they cannot disagree with what was sent live.
//!
//! What is read is read beside the writer, on threads of their own, wherever a store and what the writer tells of a run
//! that goes on are enough: who reads much does not keep those waiting who write.
//!
//! [`Journal`] is the pure part: commands and `now` in, [`Delivery`]s and [`Order`]s out. [`Store`] is what keeps; one
//! file for each kind.
//!
//! Each of these uses those above it alone:
//!
//! | part | what it is |
//! |---|---|
//! | `store` | what a store is, and what it keeps; `memory`, `sqlite` and `postgres` use nothing else of this room |
//! | `frames`, `views` | messages and runs as they are shown |
//! | `protocol` | what the log is asked, and what it answers |
//! | `lookup` | answers that are made of what is kept |
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
pub(crate) use store::{Outgoing, Place, StoredMessage, Wishes};
pub use thread::{LogHandle, start};
pub use work::WorkCounts;
