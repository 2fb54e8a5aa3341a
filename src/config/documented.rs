//! The table in `docs/configuration.md` is made of the table of keys.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::{Config, KEYS};

/// The lines before and after the table.
const BEGIN: &str = "<!-- keys: made by a test -->\n";
const END: &str = "<!-- /keys -->\n";

/// Set, the test writes the table in place of comparing it.
const WRITE: &str = "STEPCAST_WRITE_DOCS";

/// A default that depends on the machine.
const WORKERS: (&str, &str) = ("executor.workers", "4 for each core");

fn table() -> String {
    let mut table = "| key | value | default | what it sets |\n|---|---|---|---|\n".to_owned();
    for key in KEYS.iter() {
        let (doc, said) = key.help.split_once(" [default: ").unwrap_or((&key.help, ""));
        let default = match key.show(&mut Config::default()) {
            _ if key.path == WORKERS.0 => WORKERS.1.to_owned(),
            Some(value) => format!("`{value}`"),
            None => said.trim_end_matches(']').to_owned(),
        };
        let _ = writeln!(table, "| `{}` | {} | {default} | {doc} |", key.path, key.expected());
    }
    table
}

/// To write it anew: `STEPCAST_WRITE_DOCS=1 cargo test --lib config::documented`.
#[test]
#[cfg(feature = "sqlite")]
fn the_documentation_lists_all_keys() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let page = std::fs::read_to_string(&path).expect("the documentation");
    let (before, rest) = page.split_once(BEGIN).expect("where the table begins");
    let (found, after) = rest.split_once(END).expect("where it ends");
    let table = table();
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, [before, BEGIN, &table, END, after].concat()).expect("the documentation can be written");
    } else {
        assert!(found == table, "docs/configuration.md is out of date: {WRITE}=1 cargo test --lib config::documented");
    }
}
