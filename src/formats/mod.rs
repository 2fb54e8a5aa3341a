//! A run, retold in the formats that agent frontends read: AG-UI 1.0, and version 1 of the UI message stream of the Vercel
//! AI SDK.
//!
//! Pure: the messages of a run go in, one after another, and the events for a frontend come out. An [`Encoder`] is one
//! run in one format. The events of a message are the same for all streams, so they are encoded once; a later stream
//! begins with a [`prelude`](Encoder::prelude), after which that client's state is what it would be had it seen every
//! event. No stream, no project and no ticket is known here.
//!
//! | part | what it is |
//! |---|---|
//! | `head` | what a format needs to know of a run that its messages don't say |
//! | `halt` | when a run goes on no further until someone decides |
//! | `story`, `part` | the fold: what clients were told and keep, bounded |
//! | `state_document`, `patch` | the run as AG-UI's shared state, and what changes of it |
//! | `agui`, `ai_sdk` | the two formats |
//! | `interrupt` | what a step asks, as AG-UI puts the question |
//! | `frames` | events as they are sent |
//!
//! Beside these stand single messages as [`cloudevents`], which need no fold.
//!
//! # Turns
//! A frontend asks for a turn of its agent and lets people answer once that has ended. So a stream [in turns](Format) ends
//! where the run is halted: a step waits for a decision, and nothing else goes on. With the answer the frontend begins the
//! next turn, of the same run. Who only watches is not sent away: a stream that is not in turns goes on over all halts.
//!
//! # Bounds
//! Frontends keep what they are told and post all of it back with their next call, and AG-UI's own client copies all of it
//! at each event. So what a run leaves with them is bounded, the same for whoever was there from the beginning and for
//! whoever came late: [`KEPT_BYTES_MAX`], [`LOG_BYTES_MAX`], [`OUTPUT_BYTES_MAX`], [`STATE_STEPS_MAX`] and
//! [`STATE_OUTPUTS_BYTES_MAX`]. Whatever is left out is said to be, with the path where it can be read whole.
//!
//! # A run whose first messages are gone
//! History is bounded. Of a run whose first messages were let go only its state is known:
//! [`Encoder::from_state`]. Of each step that has run there is then its newest attempt alone, with how it ended; attempts
//! before it, streamed text and logs are lost, and text that is still streamed begins in its midst.

mod agui;
mod ai_sdk;
mod budget;
pub mod cloudevents;
mod encoder;
mod frames;
mod had;
mod halt;
mod head;
mod interrupt;
mod part;
mod patch;
mod state_document;
mod story;
#[cfg(test)]
mod tests;
mod usage;

pub use encoder::{Encoder, Opening, closing};
pub use frames::{Names, with_retry};
pub use had::{CallHad, Had};
pub use head::RunHead;

/// What a run leaves with a client as messages: the inputs and outputs of its calls, and its streamed texts. A text that
/// is too long for it ends with a mark; further calls and texts are not told, and what becomes of their steps is.
pub const KEPT_BYTES_MAX: usize = 512 * 1024;

/// The memory for the output of a run's commands. The oldest output is dropped first.
pub const LOG_BYTES_MAX: usize = 128 * 1024;

/// Larger outputs and inputs are cut, with a note that says where the whole can be read.
pub const OUTPUT_BYTES_MAX: usize = 4 * 1024;

/// The steps of a larger plan are not in AG-UI's state, and are no parts of the AI SDK's message; their counts and calls are.
pub const STATE_STEPS_MAX: usize = 1_000;

/// The outputs in AG-UI's state together take at most this; further ones are left out and marked as cut.
pub const STATE_OUTPUTS_BYTES_MAX: usize = 64 * 1024;

/// A format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// AG-UI.
    AgUi {
        /// The client knows that a run may end as cancelled: all of 1.0 do. For others that is an error.
        knows_cancelled: bool,
        /// A stream ends where the run is halted.
        in_turns: bool,
    },
    /// The UI message stream of the AI SDK.
    AiSdk {
        /// A stream ends where the run is halted.
        in_turns: bool,
    },
}

impl Format {
    /// What `format=` in a query may say.
    pub const WORDS: [(&str, Self); 2] =
        [("agui", Self::AgUi { knows_cancelled: true, in_turns: false }), ("ai", Self::AiSdk { in_turns: false })];

    /// Its word there.
    pub fn word(self) -> &'static str {
        match self {
            Self::AgUi { .. } => "agui",
            Self::AiSdk { .. } => "ai",
        }
    }

    /// Does a stream of it end where the run is halted?
    pub fn is_in_turns(self) -> bool {
        match self {
            Self::AgUi { in_turns, .. } | Self::AiSdk { in_turns } => in_turns,
        }
    }

    /// What the head of its streams says besides what every stream's does. The content type is that of all event streams.
    pub fn headers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::AgUi { .. } => &[],
            Self::AiSdk { .. } => &[("x-vercel-ai-ui-message-stream", "v1")],
        }
    }
}
