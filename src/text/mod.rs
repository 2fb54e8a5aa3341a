//! Text for people: what runs say, on lines; durations and counts; and what makes text from elsewhere harmless.

mod event;
mod format;
mod harmless;
mod message;

pub use event::{described, label, output_line, progress_line};
pub use format::{ERROR_CHARS_MAX, clock, count, duration, names};
pub use harmless::{neutral, one_line, shortened};
pub use message::{heartbeat, tell};
