//! The commands: what `stepcast serve`, `run`, `check`, `token` and `demo` do.

pub mod args;
pub mod logging;
pub mod progress;
mod text;
pub mod token;
