//! The reader of the file: TOML into [`Config`], every mistake with its line.

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::load::mismatch;
use super::setting::{Kind, Raw};
use super::{Config, KEYS, Key, suggest, tools};

/// The table whose content is not settings but tools.
const TOOLS: &str = "tools";

/// Reads `text`, the content of the file `name`, into `config`; what is wrong with it goes to `issues`.
pub(super) fn apply(name: &str, text: &str, config: &mut Config, issues: &mut Vec<String>) {
    let mut report = Report { name, text, issues };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        // The error's own text would repeat the line, which may hold a secret.
        report.issue(error.span().map_or(0, |span| span.start), error.message());
    }
    if errors.is_empty() {
        apply_table("", table.get_ref(), config, &mut report);
    }
}

/// Where mistakes in the file go.
pub(super) struct Report<'a> {
    name: &'a str,
    text: &'a str,
    issues: &'a mut Vec<String>,
}

impl Report<'_> {
    /// Something is wrong at this byte of the file.
    pub(super) fn issue(&mut self, at: usize, what: &str) {
        let line = 1 + self.text.as_bytes().iter().take(at).filter(|b| **b == b'\n').count();
        self.issues.push(format!("{}:{line}: {what}", self.name));
    }

    /// Mistakes so far.
    pub(super) fn count(&self) -> usize {
        self.issues.len()
    }

    /// There is no such key; perhaps one of `known` was meant. `path` names the table that holds it.
    pub(super) fn unknown_key<'k>(&mut self, at: usize, path: &str, known: impl Iterator<Item = &'k str> + Clone) {
        let shown: String = path.chars().flat_map(char::escape_debug).collect();
        let hint = match suggest::closest(path, known.clone()) {
            Some(meant) => format!("did you mean {meant}?"),
            None => format!("expected one of {}", known.collect::<Vec<_>>().join(", ")),
        };
        self.issue(at, &format!("unknown key {shown}; {hint}"));
    }
}

fn apply_table(prefix: &str, table: &DeTable<'_>, config: &mut Config, report: &mut Report<'_>) {
    for (name, value) in table {
        let path = if prefix.is_empty() { name.get_ref().to_string() } else { format!("{prefix}.{}", name.get_ref()) };
        if path == TOOLS {
            config.tools = tools::read(value, report);
        } else if let Some(key) = Key::at(&path) {
            apply_value(key, value, config, report);
        } else if prefix.is_empty() && is_section(&path) {
            match value.get_ref() {
                DeValue::Table(section) => apply_table(&path, section, config, report),
                other => {
                    report.issue(value.span().start, &format!("{path}: expected a table, found {}", kind_of(other)))
                }
            }
        } else {
            unknown(&path, prefix, name.span().start, report);
        }
    }
}

fn is_section(path: &str) -> bool {
    KEYS.iter().any(|key| key.path.split_once('.').is_some_and(|(section, _)| section == path))
}

/// In a section, what is suggested or listed is of that section.
fn unknown(path: &str, section: &str, at: usize, report: &mut Report<'_>) {
    if section.is_empty() {
        let mut names: Vec<_> = KEYS.iter().map(|key| key.path.split('.').next().unwrap_or(key.path)).collect();
        names.push(TOOLS);
        names.dedup();
        report.unknown_key(at, path, names.into_iter());
    } else {
        let of_section = |key: &&Key| key.path.split_once('.').is_some_and(|(first, _)| first == section);
        let names: Vec<_> = KEYS.iter().filter(of_section).map(|key| key.path).collect();
        report.unknown_key(at, path, names.into_iter());
    }
}

fn apply_value(key: &Key, value: &Spanned<DeValue<'_>>, config: &mut Config, report: &mut Report<'_>) {
    let at = value.span().start;
    let number;
    let raw = match (key.kind(), value.get_ref()) {
        (Kind::List(_), DeValue::Array(items)) => strings(items).map(Raw::List),
        (Kind::List(_) | Kind::Count, DeValue::String(_)) => None,
        (_, DeValue::String(text)) => Some(Raw::Text(text)),
        (Kind::Count | Kind::Size, integer @ DeValue::Integer(_)) => {
            number = integer_of(integer).map(|n| n.to_string());
            number.as_deref().map(Raw::Text)
        }
        _ => None,
    };
    let Some(raw) = raw else {
        let expected = key.expected();
        return report.issue(at, &format!("{}: expected {expected}, found {}", key.path, kind_of(value.get_ref())));
    };
    if let Err(found) = key.set(config, &raw) {
        report.issue(at, &format!("{}: {}", key.path, mismatch(key, &found)));
    }
}

/// The items of a list of strings; nothing where one is something else.
pub(super) fn strings<'a>(items: &'a DeArray<'_>) -> Option<Vec<&'a str>> {
    items.iter().map(|item| item.get_ref().as_str()).collect()
}

/// The value of an integer, whatever its radix.
pub(super) fn integer_of(value: &DeValue<'_>) -> Option<i128> {
    let integer = value.as_integer()?;
    i128::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// What a value is, for an error that must not show it.
pub(super) fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
