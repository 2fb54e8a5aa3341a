//! The wire contract, promise by promise, held against the running program.

#[path = "../common/mod.rs"]
mod common;

mod access;
mod calls;
mod durability;
mod framing;
mod plans;
mod program;
mod shutdown;
mod store;
mod streams;
mod tools;
