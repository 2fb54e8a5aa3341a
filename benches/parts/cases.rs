//! What is measured: the parts that decide what stepcast costs, each as a closure that does its work once.

use std::fmt;

use super::work::{Done, Work};
use super::{log, plans, streams};

/// One part, in one size.
pub struct Case {
    pub name: &'static str,
    /// How many operations one go is: figures are told for one of them.
    pub operations: u64,
    /// Makes everything that the work needs, which is not measured.
    pub prepare: fn() -> Done<Work>,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Every case, from the socket inwards.
pub const CASES: &[Case] = &[
    Case { name: "request/stream", operations: 1, prepare: || streams::request(streams::OPEN_STREAM) },
    Case { name: "request/publish", operations: 1, prepare: || streams::request(streams::PUBLISH) },
    Case { name: "frame", operations: 1, prepare: streams::frame },
    Case { name: "broadcast/1", operations: 1, prepare: || streams::broadcast(1) },
    Case { name: "broadcast/100", operations: 100, prepare: || streams::broadcast(100) },
    Case { name: "broadcast/10000", operations: 10_000, prepare: || streams::broadcast(10_000) },
    Case { name: "resume", operations: 1, prepare: streams::resume },
    Case { name: "log/memory/1", operations: 1, prepare: || log::memory(1) },
    Case { name: "log/memory/64", operations: 64, prepare: || log::memory(64) },
    #[cfg(feature = "sqlite")]
    Case { name: "log/sqlite/1", operations: 1, prepare: || log::sqlite(1) },
    #[cfg(feature = "sqlite")]
    Case { name: "log/sqlite/64", operations: 64, prepare: || log::sqlite(64) },
    Case { name: "plan/10", operations: 1, prepare: || plans::check(10) },
    Case { name: "plan/1000", operations: 1, prepare: || plans::check(1000) },
    Case { name: "plan/10000", operations: 1, prepare: || plans::check(10_000) },
    Case { name: "plan/chain-10000", operations: 1, prepare: || plans::check_chain(10_000) },
    Case { name: "template", operations: 1, prepare: plans::template },
    Case { name: "condition", operations: 1, prepare: plans::condition },
    Case { name: "run/wide-100", operations: 100, prepare: || plans::run(plans::layered(100, 100)) },
    Case { name: "run/chain-100", operations: 100, prepare: || plans::run(plans::layered(100, 1)) },
];
