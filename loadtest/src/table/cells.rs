//! What the table is made of: each cell is a scenario's command line, carried out with each server in turn, and gives one
//! row or several.

use super::figure::show;

/// What our own server is called.
pub(super) const OURS: &str = "stepcast";

/// A scenario as it is carried out for the table.
#[derive(Debug)]
pub struct Cell {
    /// What it is called, for `--only`.
    pub name: &'static str,
    /// Its scenario.
    pub scenario: &'static str,
    /// What it is given always.
    pub arguments: &'static str,
    /// What it is given besides where time is not short.
    pub full: &'static str,
    /// What it is given besides in a quick table.
    pub quick: &'static str,
    /// The floors that it is compared with, the one that ratios are counted by first.
    pub floors: &'static [&'static str],
    /// It is of plans: those take part that run some.
    pub is_of_plans: bool,
    /// What is shown of it.
    pub rows: &'static [Row],
}

/// One line of the table.
#[derive(Debug)]
pub struct Row {
    pub name: &'static str,
    pub unit: &'static str,
    /// The value of the report that it shows.
    pub source: ReportRef,
    /// What is to be reached.
    pub target: Target,
}

/// Refers to a value of a report.
#[derive(Debug)]
pub enum ReportRef {
    /// A figure, by name.
    Figure(&'static str),
    /// The table of this title, its row of this number, this column.
    Cell(&'static str, usize, &'static str),
}

/// What is to be reached, and which way is better.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// At least so much.
    AtLeast(f64),
    /// At most so much.
    AtMost(f64),
    /// At least so many times what this one does in the same run.
    AtLeastTimes(f64, &'static str),
    /// At most so many times what this one does in the same run.
    AtMostTimes(f64, &'static str),
    /// Nothing, but less is better.
    Less,
}

impl Target {
    /// More is better.
    pub fn is_more_better(self) -> bool {
        matches!(self, Self::AtLeast(_) | Self::AtLeastTimes(..))
    }

    /// In words.
    pub fn text(self) -> String {
        match self {
            Self::AtLeast(n) => format!(">= {}", show(n)),
            Self::AtMost(n) => format!("<= {}", show(n)),
            Self::AtLeastTimes(n, other) => format!(">= {n} x {other}"),
            Self::AtMostTimes(n, other) => format!("<= {n} x {other}"),
            Self::Less => String::new(),
        }
    }

    /// Whether `value` reaches it; none where there is nothing to reach, or to compare with.
    pub fn is_met(self, value: f64, of: impl Fn(&str) -> Option<f64>) -> Option<bool> {
        match self {
            Self::AtLeast(n) => Some(value >= n),
            Self::AtMost(n) => Some(value <= n),
            Self::AtLeastTimes(n, other) => of(other).map(|other| value >= n * other),
            Self::AtMostTimes(n, other) => of(other).map(|other| value <= n * other),
            Self::Less => None,
        }
    }
}

const BURST: &str = "bursts";
const STEADY: &str = "at a steady rate";
const IDLE: &str = "idle streams";
const HTTP: &str = "plain requests";

const fn burst(name: &'static str, target: Target) -> Row {
    Row { name, unit: "deliveries/s", source: ReportRef::Cell(BURST, 0, "deliveries/s"), target }
}

/// Deliveries are bounded by the generator too; processor time is the server's own.
const fn burst_cpu(name: &'static str) -> Row {
    let source = ReportRef::Cell(BURST, 0, "CPU s/million");
    Row { name, unit: "CPU s per million", source, target: Target::Less }
}

const fn steady(name: &'static str, target: Target) -> Row {
    Row { name, unit: "CPU s per million", source: ReportRef::Cell(STEADY, 0, "CPU s/million"), target }
}

const BURST_FULL: &str = "--seconds 4";
const BURST_QUICK: &str = "--seconds 1";
const STEADY_FULL: &str = "--seconds 8";
const STEADY_QUICK: &str = "--seconds 2";

/// All of it.
pub const ALL: &[Cell] = &[
    Cell {
        name: "burst-1000",
        scenario: "burst",
        arguments: "--projects 1 --subscribers 1000 --in-flight 8",
        full: BURST_FULL,
        quick: BURST_QUICK,
        floors: &["floor", "floor-8"],
        is_of_plans: false,
        rows: &[
            burst("burst, 1 project x 1,000", Target::AtLeastTimes(1.0, "floor-8")),
            burst_cpu("burst, 1 project x 1,000: CPU"),
        ],
    },
    Cell {
        name: "burst-10000",
        scenario: "burst",
        arguments: "--projects 1 --subscribers 10000 --in-flight 8",
        full: BURST_FULL,
        quick: BURST_QUICK,
        floors: &["floor", "floor-8"],
        is_of_plans: false,
        rows: &[
            burst("burst, 1 project x 10,000", Target::AtLeastTimes(1.0, "floor-8")),
            burst_cpu("burst, 1 project x 10,000: CPU"),
        ],
    },
    Cell {
        name: "burst-1000x10",
        scenario: "burst",
        arguments: "--projects 1000 --subscribers 10000 --in-flight 8",
        full: BURST_FULL,
        quick: BURST_QUICK,
        floors: &["floor", "floor-8"],
        is_of_plans: false,
        rows: &[
            burst("burst, 1,000 projects x 10", Target::AtLeastTimes(0.95, "floor")),
            burst_cpu("burst, 1,000 projects x 10: CPU"),
        ],
    },
    Cell {
        name: "burst-64",
        scenario: "burst",
        arguments: "--projects 1 --subscribers 1000 --in-flight 64",
        full: BURST_FULL,
        quick: BURST_QUICK,
        floors: &["floor", "floor-64"],
        is_of_plans: false,
        rows: &[
            burst("burst, 1 x 1,000, 64 in flight", Target::AtLeast(2_500_000.0)),
            burst_cpu("burst, 1 x 1,000, 64 in flight: CPU"),
        ],
    },
    Cell {
        name: "steady-1000",
        scenario: "steady",
        arguments: "--projects 1 --subscribers 1000",
        full: STEADY_FULL,
        quick: STEADY_QUICK,
        floors: &["floor", "floor-8"],
        is_of_plans: false,
        rows: &[steady("50k deliveries/s, 1 project x 1,000", Target::AtMostTimes(1.05, "floor"))],
    },
    Cell {
        name: "steady-10000",
        scenario: "steady",
        arguments: "--projects 1 --subscribers 10000",
        full: STEADY_FULL,
        quick: STEADY_QUICK,
        floors: &["floor", "floor-8"],
        is_of_plans: false,
        rows: &[
            steady("50k deliveries/s, 1 project x 10,000", Target::AtMostTimes(1.05, "floor")),
            Row {
                name: "50k deliveries/s, 1 project x 10,000: latency p50",
                unit: "ms",
                source: ReportRef::Cell(STEADY, 0, "p50 ms"),
                target: Target::AtMostTimes(1.1, "floor"),
            },
            Row {
                name: "50k deliveries/s, 1 project x 10,000: latency p99",
                unit: "ms",
                source: ReportRef::Cell(STEADY, 0, "p99 ms"),
                target: Target::AtMostTimes(1.1, "floor"),
            },
        ],
    },
    Cell {
        name: "steady-1000x10",
        scenario: "steady",
        arguments: "--projects 1000 --subscribers 10000",
        full: STEADY_FULL,
        quick: STEADY_QUICK,
        floors: &["floor", "floor-8"],
        is_of_plans: false,
        rows: &[steady("50k deliveries/s, 1,000 projects x 10", Target::AtMostTimes(1.2, "floor"))],
    },
    Cell {
        name: "idle",
        scenario: "idle",
        arguments: "--streams 10000 --heartbeat 0",
        full: "--seconds 10",
        quick: "--seconds 2",
        floors: &["floor"],
        is_of_plans: false,
        rows: &[
            Row {
                name: "memory of an idle stream, 10,000",
                unit: "KiB",
                source: ReportRef::Cell(IDLE, 0, "KiB/stream"),
                target: Target::AtMost(0.2),
            },
            Row {
                name: "memory of a stream once all 10,000 have left",
                unit: "KiB",
                source: ReportRef::Cell(IDLE, 0, "KiB/stream once all left"),
                target: Target::Less,
            },
            Row {
                name: "resident at start",
                unit: "MiB",
                source: ReportRef::Cell(IDLE, 0, "resident at start MiB"),
                target: Target::AtMost(8.0),
            },
            Row {
                name: "10,000 idle, no heartbeats: CPU in 10 s",
                unit: "s",
                source: ReportRef::Cell(IDLE, 0, "CPU s in 10 s"),
                target: Target::AtMost(0.0),
            },
        ],
    },
    Cell {
        name: "heartbeat",
        scenario: "idle",
        arguments: "--streams 10000 --heartbeat 5 --seconds 10",
        full: "",
        quick: "",
        floors: &[],
        is_of_plans: false,
        rows: &[Row {
            name: "10,000 idle, heartbeats every 5 s: CPU in 10 s",
            unit: "s",
            source: ReportRef::Cell(IDLE, 0, "CPU s in 10 s"),
            target: Target::AtMost(0.15),
        }],
    },
    Cell {
        name: "connect",
        scenario: "connect",
        arguments: "--streams 10000",
        full: "",
        quick: "",
        floors: &["floor"],
        is_of_plans: false,
        rows: &[
            Row {
                name: "10,000 connects (stepcast: token checked)",
                unit: "per second",
                source: ReportRef::Figure("streams opened"),
                target: Target::AtLeastTimes(0.9, "floor"),
            },
            Row {
                name: "10,000 connects: CPU",
                unit: "ms per 1,000",
                source: ReportRef::Figure("server's processor time"),
                target: Target::Less,
            },
        ],
    },
    Cell {
        name: "storm",
        scenario: "storm",
        arguments: "--subscribers 10000 --messages 10",
        full: "",
        quick: "",
        floors: &[],
        is_of_plans: false,
        rows: &[Row {
            name: "10,000 drop, miss 10, come back: until all have all",
            unit: "s",
            source: ReportRef::Figure("until all have all"),
            target: Target::AtMost(0.5),
        }],
    },
    Cell {
        name: "http",
        scenario: "http",
        arguments: "--connections 64",
        full: "--seconds 4",
        quick: "--seconds 1",
        floors: &["floor"],
        is_of_plans: false,
        rows: &[
            Row {
                name: "GET /healthz, 64 connections",
                unit: "requests/s",
                source: ReportRef::Cell(HTTP, 0, "requests/s"),
                target: Target::AtLeast(125_000.0),
            },
            Row {
                name: "POST events, nobody watching",
                unit: "requests/s",
                source: ReportRef::Cell(HTTP, 1, "requests/s"),
                target: Target::AtLeast(100_000.0),
            },
        ],
    },
    Cell {
        name: "workflow",
        scenario: "workflow",
        arguments: "--data temp --submitters 64 --viewers 10 --lines 6",
        full: "--seconds 4 --starts 500",
        quick: "--seconds 2 --starts 100",
        floors: &[],
        is_of_plans: true,
        rows: &[
            Row {
                name: "runs of three steps, 64 callers (on disk)",
                unit: "runs/s",
                source: ReportRef::Figure("runs of three steps"),
                target: Target::AtLeastTimes(15.0, "restate"),
            },
            Row {
                name: "a run of three steps: CPU",
                unit: "µs",
                source: ReportRef::Figure("server's processor time"),
                target: Target::Less,
            },
            Row {
                name: "a run of three steps, one at a time: p50",
                unit: "ms",
                source: ReportRef::Cell("plans", 0, "p50 ms"),
                target: Target::Less,
            },
        ],
    },
];
