//! `tools.NAME.limits`: what a command may use up.

use toml::Spanned;
use toml::de::DeValue;

use super::Fields;
use crate::config::report::{integer_of, kind_of};
use crate::config::units::{parse_duration, parse_size};
use crate::executor::tool::CommandLimits;

const KEYS: [&str; 5] = ["cpu", "memory", "file_size", "open_files", "processes"];

/// The least memory that can be asked for, in bytes: with less no program would even be loaded.
const MEMORY_MIN: u64 = 1024 * 1024;

/// The fewest open files: those that every program starts with, and one to load libraries from.
const OPEN_FILES_MIN: u64 = 4;

impl Fields<'_, '_, '_> {
    pub(super) fn limits(&mut self) -> CommandLimits {
        let Some(value) = self.table.get("limits") else { return CommandLimits::default() };
        let DeValue::Table(table) = value.get_ref() else {
            let found = kind_of(value.get_ref());
            let expected = format!("expected a table such as {{ cpu = \"10s\", memory = \"256MiB\" }}, found {found}");
            return self.reject("limits", &expected).unwrap_or_default();
        };
        let known = KEYS.map(|key| format!("tools.{}.limits.{key}", self.name));
        for key in table.keys() {
            let path = format!("tools.{}.limits.{}", self.name, key.get_ref());
            if !known.contains(&path) {
                self.report.unknown_key(key.span().start, &path, known.iter().map(String::as_str));
            }
        }
        let mut limit = |key: &str, read: fn(&DeValue<'_>) -> Option<u64>, expected: &str| {
            let value: &Spanned<DeValue<'_>> = table.get(key)?;
            let limit = read(value.get_ref());
            if limit.is_none() {
                let problem = format!("tools.{}.limits.{key}: expected {expected}", self.name);
                self.report.issue(value.span().start, &problem);
            }
            limit
        };
        CommandLimits {
            cpu_seconds: limit("cpu", seconds, "a duration of whole seconds such as 10s or 5m"),
            memory_bytes: limit("memory", memory, "a size of at least 1MiB such as 256MiB"),
            file_bytes: limit("file_size", bytes, "a size such as 10MiB"),
            open_files: limit("open_files", open_files, "a whole number of at least 4"),
            processes: limit("processes", processes, "a whole number greater than 0"),
        }
    }
}

fn seconds(value: &DeValue<'_>) -> Option<u64> {
    let duration = parse_duration(value.as_str()?)?;
    (duration.subsec_nanos() == 0 && !duration.is_zero()).then_some(duration.as_secs())
}

fn bytes(value: &DeValue<'_>) -> Option<u64> {
    parse_size(value.as_str()?)
}

fn memory(value: &DeValue<'_>) -> Option<u64> {
    bytes(value).filter(|bytes| *bytes >= MEMORY_MIN)
}

fn open_files(value: &DeValue<'_>) -> Option<u64> {
    processes(value).filter(|count| *count >= OPEN_FILES_MIN)
}

fn processes(value: &DeValue<'_>) -> Option<u64> {
    integer_of(value).and_then(|count| u64::try_from(count).ok()).filter(|count| *count > 0)
}
