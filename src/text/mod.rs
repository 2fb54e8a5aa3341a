//! Text for people: the messages of runs as lines, durations and counts, and the removal of control characters from
//! text from elsewhere.

mod escapes;
mod event;
mod format;
mod harmless;
mod message;

pub use escapes::without_escapes;
pub use event::{described, handler_text, label, output_line, progress_line};
pub use format::{ERROR_CHARS_MAX, clock, count, duration, names, step_counts, usage_text};
pub use harmless::{last_state, neutral, one_line, says_something, shortened};
pub use message::{heartbeat, tell};
