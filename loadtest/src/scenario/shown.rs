//! What several reports show in the same way.

use serde_json::{Value, json};

use crate::latency::Latencies;
use crate::options::Options;
use crate::proc;
use crate::report::Report;
use crate::server::{Choice, Data};

/// The beginning of every report.
pub(super) fn report(options: &Options, data: Data) -> Report {
    let mut report = Report::new(options.scenario.name);
    report.condition("store", data.name());
    options.values().for_each(|(name, value)| report.condition(name, value));
    match &options.server {
        Choice::Program { flags, is_pinned, is_tls, .. } => {
            let flags = if flags.is_empty() { "none besides".to_owned() } else { flags.join(" ") };
            report.condition("server's flags", flags);
            report.condition("pinned", *is_pinned);
            report.condition("TLS", *is_tls);
        }
        Choice::Peer { peer, is_pinned } => {
            report.condition("server", peer.name.clone());
            report.condition("pinned", *is_pinned);
        }
        Choice::Running { .. } => {}
    }
    report.condition("processors", std::thread::available_parallelism().map_or(0, usize::from));
    // Figures that were taken beside other work are worth less, and only this tells.
    report.condition(
        "load average before",
        proc::load_average().map_or_else(|| "unknown".to_owned(), |load| load.to_string()),
    );
    report
}

/// The cells of a table that shows latencies: median, 99th percentile, longest.
pub(super) fn latency_cells(latencies: &Latencies) -> [Value; 3] {
    [json!(latencies.ms(0.5)), json!(latencies.ms(0.99)), json!(latencies.max_ms())]
}

pub(super) const LATENCY_COLUMNS: [&str; 3] = ["p50 ms", "p99 ms", "max ms"];

/// KiB as MiB, where known.
pub(super) fn mib(kib: Option<f64>) -> Value {
    json!(kib.map(|kib| kib / 1024.0))
}
