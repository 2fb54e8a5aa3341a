//! Everything that reads what strangers send, as functions of bytes that panic where a property does not hold.
//!
//! Kept out of ordinary builds. The fuzzer in `tests/fuzz` calls these with what it makes up, and `cargo test` with what
//! it has found so far: the files in `tests/fuzz/corpus` and `tests/fuzz/regressions`, a directory for each target.

use crate::{api, auth, config, executor, http, server};

/// A target's name, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("request", http::fuzz::request),
    ("chunked", http::fuzz::chunked),
    ("headers", headers),
    ("message_id", auth::fuzz::message_id),
    ("ticket", auth::fuzz::ticket),
    ("jwt", auth::fuzz::jwt),
    ("key_set", auth::fuzz::key_set),
    ("call", api::fuzz::call),
    ("plan", api::fuzz::plan),
    ("stored", api::fuzz::stored),
    ("change", api::fuzz::change),
    ("retry", api::fuzz::retry),
    ("decision", api::fuzz::decision),
    ("publish", api::fuzz::publish),
    ("template", executor::fuzz::template),
    ("config", config::fuzz::config),
];

/// Gives `input` to the target of this name.
///
/// # Panics
/// Where there is no such target, or a property does not hold.
pub fn run(target: &str, input: &[u8]) {
    let (_, check) = TARGETS.iter().find(|(name, _)| *name == target).expect("there is such a target");
    check(input);
}

/// Values of headers that are read beyond the decoder: `Accept`, `Content-Type`, `Range`, `Origin`, `X-Forwarded-For`.
fn headers(bytes: &[u8]) {
    http::fuzz::values(bytes);
    auth::fuzz::origin(bytes);
    server::fuzz::forwarded(bytes);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    /// The files of a target, in a stable order.
    fn inputs(kind: &str, target: &str) -> Vec<PathBuf> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(kind).join(target);
        let Ok(entries) = fs::read_dir(&directory) else { return Vec::new() };
        let mut files: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
        files.sort();
        files
    }

    #[test]
    fn what_the_fuzzer_has_found_so_far_breaks_nothing() {
        for (target, check) in TARGETS {
            assert!(!inputs("corpus", target).is_empty(), "there is no corpus of {target}");
            for file in [inputs("corpus", target), inputs("regressions", target)].concat() {
                let input = fs::read(&file).expect("reads");
                if std::panic::catch_unwind(|| check(&input)).is_err() {
                    panic!("{} breaks it", file.display());
                }
            }
        }
    }
}
