//! Where each setting was set.

use std::collections::BTreeMap;

/// The provenance of a setting that nothing sets.
const DEFAULT: &str = "default";

/// Paths of keys with what set them last: `stepcast.toml:3`, `STEPCAST_LISTEN`, `--listen`.
#[derive(Debug, Default)]
pub(super) struct Provenance(BTreeMap<&'static str, String>);

impl Provenance {
    /// Notes where the setting at `path` was set. The last note wins.
    pub(super) fn note(&mut self, path: &'static str, place: &str) {
        self.0.insert(path, place.to_owned());
    }

    /// Where the setting at `path` was set.
    pub(super) fn of(&self, path: &str) -> &str {
        self.0.get(path).map_or(DEFAULT, String::as_str)
    }
}
