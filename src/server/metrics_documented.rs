//! What `docs/` says of metrics, held against the names that are served.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use regex_lite::Regex;
use serde_json::Value;

use super::metrics::{Gauges, Metrics};
use super::tls::TlsCounts;
use crate::cluster::Vitals;
use crate::log::StoreCounts;
use crate::model::{Now, Timestamp};

/// Each name of a sample that `/metrics` can serve, whatever is configured.
fn served() -> BTreeSet<String> {
    let metrics = Metrics::default();
    let now = Now { mono: Duration::ZERO, wall: Timestamp::default() };
    let pages = [
        metrics.render(&Gauges::default()),
        metrics.render_usage(&BTreeMap::new()),
        metrics.render_webhooks(&[]),
        Metrics::render_tls(&TlsCounts::default()),
        Metrics::render_firings([0; 4]),
        Metrics::render_node(&Vitals::new(Duration::ZERO), &StoreCounts::default(), now),
    ];
    let heads = pages.iter().flat_map(|page| page.lines()).filter_map(|line| line.strip_prefix("# TYPE "));
    let names = heads.filter_map(|head| head.split_once(' ')).flat_map(|(name, kind)| match kind {
        "histogram" => ["_bucket", "_sum", "_count"].map(|part| format!("{name}{part}")).to_vec(),
        _ => vec![name.to_owned()],
    });
    names.collect()
}

/// What in `text` looks like the name of a metric.
fn names_in(text: &str) -> BTreeSet<String> {
    let name = Regex::new(r"\bstepcast_[a-z_]+[a-z]\b").expect("a pattern");
    name.find_iter(text).map(|found| found.as_str().to_owned()).collect()
}

fn documentation(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What the documentation calls it: a histogram has one name.
fn metric(name: &str) -> String {
    let whole = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
    whole.unwrap_or(name).to_owned()
}

#[test]
fn every_metric_is_documented_and_every_documented_one_is_served() {
    let served: BTreeSet<_> = served().iter().map(|name| metric(name)).collect();
    let documented: BTreeSet<_> = names_in(&documentation("operations.md")).iter().map(|name| metric(name)).collect();
    let unknown: Vec<_> = documented.difference(&served).collect();
    assert!(unknown.is_empty(), "docs/operations.md names {unknown:?}");
    let missing: Vec<_> = served.difference(&documented).collect();
    assert!(missing.is_empty(), "docs/operations.md does not name {missing:?}");
}

#[test]
fn the_grafana_dashboard_asks_for_metrics_that_are_served() {
    let text = documentation("grafana.json");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() > 5), "panels");
    let served = served();
    let asked = names_in(&text);
    let unknown: Vec<_> = asked.difference(&served).collect();
    assert!(unknown.is_empty(), "docs/grafana.json asks for {unknown:?}");
}
