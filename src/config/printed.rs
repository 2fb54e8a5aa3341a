//! The effective settings as a file that says where each of them was set.
//!
//! Tools and webhooks are shown as the file declares them. Their variables, headers, bodies and secrets are masked, the paths
//! of webhooks and the queries of tools. What stands in a command's `argv` or in the path of a tool's url is shown.

use std::fmt::Write;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::file::{TOOLS, WEBHOOKS};
use super::provenance::Provenance;
use super::report::{integer_of, line_of};
use super::setting::Kind;
use super::{Config, ConfigError, KEYS, Key, Sources};
use crate::outbound::origin;

/// What stands for a value that may not be shown.
const MASK: &str = "\"***\"";

/// The column at which it says where a setting comes from.
const PLACE_COLUMN: usize = 44;

/// Fields of tools and webhooks that hold secrets, or are near enough to them.
const SECRET_FIELDS: [&str; 4] = ["env", "headers", "body", "secret"];

impl Sources {
    /// The effective settings as text in the format of the file.
    ///
    /// # Errors
    /// All mistakes at once.
    pub(crate) fn print(&self) -> Result<String, ConfigError> {
        let (loaded, provenance) = self.resolve_with_provenance()?;
        let mut page = Page { config: loaded.config, provenance, text: String::new() };
        page.keys();
        if let Some((name, text)) = &self.file {
            // It was read just now, and no mistake was found.
            let (table, _) = DeTable::parse_recoverable(text);
            let declared = Declared { name, text };
            page.text.push_str(&declared.shown(table.get_ref()));
        }
        Ok(page.text)
    }
}

struct Page {
    config: Config,
    provenance: Provenance,
    text: String,
}

impl Page {
    /// What is in no section comes first, for whatever follows the head of a section is in it.
    fn keys(&mut self) {
        let (inside, outside): (Vec<&Key>, Vec<&Key>) = KEYS.iter().partition(|key| key.path.contains('.'));
        outside.into_iter().for_each(|key| self.line(key.path, key));
        let mut section = "";
        for key in inside {
            let (of, name) = key.path.split_once('.').unwrap_or(("", key.path));
            if of != section {
                self.text.push_str(&format!("\n[{of}]\n"));
                section = of;
            }
            self.line(name, key);
        }
    }

    fn line(&mut self, name: &str, key: &Key) {
        let place = self.provenance.of(key.path);
        let line = match value(key, &mut self.config) {
            Some(value) if key.is_secret() => format!("# {name} = {value}"),
            Some(value) => format!("{name} = {value}"),
            None => {
                let default = key.default_in_words().map_or_else(String::new, |default| format!(": {default}"));
                return self.text.push_str(&format!("# {name} is not set{default}\n"));
            }
        };
        self.text.push_str(&format!("{line:PLACE_COLUMN$} # {place}\n"));
    }
}

/// A setting's value as it is written in the file. `None` if it is not set.
fn value(key: &Key, config: &mut Config) -> Option<String> {
    match key.kind() {
        Kind::List(_) | Kind::Texts => {
            let items: Vec<_> = key.items(config).iter().map(|item| quoted(item)).collect();
            Some(format!("[{}]", items.join(", ")))
        }
        Kind::Secret => (!config.auth.jwt_secret.is_empty()).then(|| MASK.to_owned()),
        Kind::Count => key.show(config),
        Kind::Duration | Kind::Size | Kind::Word(_) | Kind::Text(_) => key.show(config).map(|text| quoted(&text)),
    }
}

/// What the file declares besides settings.
struct Declared<'a> {
    name: &'a str,
    text: &'a str,
}

impl Declared<'_> {
    fn shown(&self, file: &DeTable<'_>) -> String {
        let mut shown = String::new();
        for (name, value) in file {
            match (name.get_ref().as_ref(), value.get_ref()) {
                (TOOLS, DeValue::Table(tools)) => {
                    for (name, tool) in tools {
                        let head = format!("[{TOOLS}.{}]", bare(name.get_ref()));
                        self.declaration(&head, name.span().start, tool, shown_of_tool, &mut shown);
                    }
                }
                (WEBHOOKS, DeValue::Array(webhooks)) => {
                    for webhook in webhooks.iter() {
                        let head = format!("[[{WEBHOOKS}]]");
                        self.declaration(&head, webhook.span().start, webhook, shown_of_webhook, &mut shown);
                    }
                }
                _ => {}
            }
        }
        shown
    }

    fn declaration(
        &self,
        head: &str,
        at: usize,
        value: &Spanned<DeValue<'_>>,
        show: fn(&str, &DeValue<'_>) -> String,
        to: &mut String,
    ) {
        let place = format!("{}:{}", self.name, line_of(self.text, at));
        let _ = writeln!(to, "\n{head:PLACE_COLUMN$} # {place}");
        for (field, value) in value.get_ref().as_table().into_iter().flatten() {
            let field = field.get_ref();
            let _ = writeln!(to, "{} = {}", bare(field), show(field, value.get_ref()));
        }
    }
}

fn shown_of_tool(field: &str, value: &DeValue<'_>) -> String {
    match (field, value) {
        ("url", DeValue::String(url)) => quoted(&without_query(url)),
        _ => shown_field(field, value),
    }
}

/// The path of a webhook's url is often all that its receiver asks for.
fn shown_of_webhook(field: &str, value: &DeValue<'_>) -> String {
    match (field, value) {
        ("url", DeValue::String(url)) => quoted(&format!("{}/***", origin(url))),
        _ => shown_field(field, value),
    }
}

fn shown_field(field: &str, value: &DeValue<'_>) -> String {
    match value {
        DeValue::Table(table) if SECRET_FIELDS.contains(&field) => {
            let names: Vec<_> = table.keys().map(|name| format!("{} = {MASK}", bare(name.get_ref()))).collect();
            inline(&names)
        }
        _ if SECRET_FIELDS.contains(&field) => MASK.to_owned(),
        value => written(value),
    }
}

/// A query may hold a key. User and password are in no url: they are refused there.
fn without_query(url: &str) -> String {
    url.split_once('?').map_or_else(|| url.to_owned(), |(before, _)| format!("{before}?***"))
}

/// A value as it could stand in the file.
fn written(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(_) => integer_of(value).map_or_else(|| MASK.to_owned(), |integer| integer.to_string()),
        DeValue::Float(float) => float.as_str().to_owned(),
        DeValue::Boolean(is) => is.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| written(item.get_ref())).collect();
            format!("[{}]", items.join(", "))
        }
        DeValue::Table(table) => {
            let pair = |(name, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
                format!("{} = {}", bare(AsRef::<str>::as_ref(name.get_ref())), written(value.get_ref()))
            };
            inline(&table.iter().map(pair).collect::<Vec<_>>())
        }
    }
}

fn inline(pairs: &[String]) -> String {
    if pairs.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", pairs.join(", ")) }
}

/// A key, in quotes where it needs them.
fn bare(name: &str) -> String {
    let is_bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if is_bare { name.to_owned() } else { quoted(name) }
}

/// A text in quotes. What JSON escapes, TOML reads; DEL is the one control character that JSON lets stand.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007F")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(file: &str, variables: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Sources {
        Sources {
            file: Some(("stepcast.toml".to_owned(), file.to_owned())),
            environment: variables.iter().map(|(name, value)| (name.into(), value.into())).collect(),
            flags: flags.iter().map(|(path, value)| (*path, (*value).to_owned())).collect(),
        }
    }

    fn printed(file: &str, variables: &[(&str, &str)], flags: &[(&'static str, &str)]) -> String {
        sources(file, variables, flags).print().expect("resolves")
    }

    /// The line that begins so.
    fn line<'p>(page: &'p str, start: &str) -> &'p str {
        page.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start} is not in {page}"))
    }

    #[test]
    fn each_setting_says_what_set_it_last() {
        let file =
            "listen = \"127.0.0.1:1\"\n[sse]\nheartbeat = \"5s\"\nretry = \"3s\"\n[limits]\ntrusted_proxies = []\n";
        let variables = [("STEPCAST_SSE_RETRY", "4s"), ("STEPCAST_EXECUTOR_WORKERS", "3")];
        let page =
            printed(file, &variables, &[("executor.workers", "2"), ("cors.allowed_origins", "https://a.b,https://c")]);
        for (start, value, place) in [
            ("listen = ", "\"127.0.0.1:1\"", "stepcast.toml:1"),
            ("heartbeat = ", "\"5s\"", "stepcast.toml:3"),
            ("retry = ", "\"4s\"", "STEPCAST_SSE_RETRY"),
            ("trusted_proxies = ", "[]", "stepcast.toml:6"),
            ("workers = ", "2", "--executor-workers"),
            ("allowed_origins = ", "[\"https://a.b\", \"https://c\"]", "--cors-allowed-origins"),
            ("queue_bytes = ", "\"256KiB\"", "default"),
        ] {
            let line = line(&page, start);
            let (written, from) = line.split_once(" # ").expect("where from");
            assert_eq!((written.trim_end(), from), (format!("{start}{value}").as_str(), place));
        }
        assert!(page.contains("\n# connections is not set: derived from the file descriptor limit\n"), "{page}");
    }

    #[test]
    fn what_is_printed_is_read_as_the_same_settings() {
        let file =
            "data = \"none\"\n[auth]\nissuer = \"a,b\"\n[history]\nmessages = 7\n[metrics]\nlisten = \"[::1]:9\"\n";
        let declared = "[tools.\"a.b\"]\nkind = \"command\"\nargv = [\"echo\", \"a\\\"b\\u007f\"]\nlimits = { open_files = 64 }\n\
                        [tools.a.inputs]\ntype = \"object\"\nminProperties = 0x1\n";
        let declared = declared.replace("[tools.a.inputs]", "[tools.\"a.b\".inputs]");
        let sources = sources(&format!("{file}{declared}"), &[("STEPCAST_SSE_HEARTBEAT", "9s")], &[]);
        let page = sources.print().expect("resolves");
        let again = Sources { file: Some(("again.toml".to_owned(), page.clone())), ..Sources::default() };
        assert_eq!(again.resolve().expect(&page).config, sources.resolve().expect("resolves").config);
        assert!(page.contains("[tools.\"a.b\"]") && page.contains("# stepcast.toml:8\n"), "{page}");
    }

    #[cfg(feature = "http-tool")]
    #[test]
    fn nothing_secret_is_printed() {
        let file = r#"
            data = "none"
            [auth]
            jwt_secret = "hunter2-hunter2-hunter2-hunter2-"
            [tools.call]
            kind = "http"
            url = "https://h.example/path/x?key=hunter2"
            headers = { Authorization = "hunter2" }
            body = { password = "hunter2" }
            [tools.run]
            kind = "command"
            argv = ["true"]
            env = { PASSWORD = "hunter2" }
            [[webhooks]]
            name = "w"
            url = "https://h.example/hunter2?hunter2"
            secret = ["whsec_aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMmh1bnRlcjI="]
            headers = { X-Key = "hunter2" }
        "#;
        let page = printed(file, &[], &[]);
        assert!(!page.contains("hunter2") && !page.contains("aHVu"), "{page}");
        for expected in [
            "# jwt_secret = \"***\" ",
            "url = \"https://h.example/path/x?***\"",
            "headers = { Authorization = \"***\" }",
            "body = { password = \"***\" }",
            "env = { PASSWORD = \"***\" }",
            "url = \"https://h.example/***\"",
            "secret = \"***\"",
            "headers = { X-Key = \"***\" }",
        ] {
            assert!(page.contains(expected), "{expected} is not in {page}");
        }
    }

    #[test]
    fn mistakes_are_told_as_ever() {
        let error = sources("sse.heartbeat = 1", &[], &[("listen", "x")]).print().expect_err("two mistakes");
        assert_eq!(error.issues.len(), 2, "{error}");
    }
}
