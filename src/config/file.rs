//! Reads the configuration file: TOML into [`Config`]; every mistake is reported with its line.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::provenance::Provenance;
use super::report::{Report, integer_of, kind_of, strings};
use super::setting::{Kind, Raw};
use super::{Config, KEYS, Key, tools, webhooks};

/// The table whose content is not settings but tools.
pub(super) const TOOLS: &str = "tools";

/// The list whose items are webhooks.
pub(super) const WEBHOOKS: &str = "webhooks";

/// Reads `text`, the content of the file `name`, into `config`, and notes the place of each setting; what is wrong with it
/// goes to `issues`.
pub(super) fn apply(
    name: &str,
    text: &str,
    config: &mut Config,
    provenance: &mut Provenance,
    issues: &mut Vec<String>,
) {
    let mut report = Report { name, text, provenance, issues };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        // The error's own text would repeat the line, which may hold a secret.
        report.issue(error.span().map_or(0, |span| span.start), error.message());
    }
    if errors.is_empty() {
        apply_table("", table.get_ref(), config, &mut report);
    }
}

fn apply_table(prefix: &str, table: &DeTable<'_>, config: &mut Config, report: &mut Report<'_>) {
    for (name, value) in table {
        let path = if prefix.is_empty() { name.get_ref().to_string() } else { format!("{prefix}.{}", name.get_ref()) };
        if path == TOOLS {
            config.tools = tools::read(value, report);
        } else if path == WEBHOOKS {
            config.webhooks = webhooks::read(value, report);
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
        names.extend([TOOLS, WEBHOOKS]);
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
        (Kind::List(_) | Kind::Texts | Kind::Secret, DeValue::Array(items)) => strings(items).map(Raw::List),
        (Kind::Texts, DeValue::String(text)) => Some(Raw::List(vec![text])),
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
    match key.set(config, &raw) {
        Ok(()) => report.note(key.path, at),
        Err(found) => report.issue(at, &format!("{}: {}", key.path, key.mismatch(&found))),
    }
}
