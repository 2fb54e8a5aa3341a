//! Runs plans: state machines of runs, the worker pool, and the tools that steps call.

pub mod check;
pub mod template;
pub mod tool;
