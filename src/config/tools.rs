//! The tools that the file declares: `tools.NAME` into [`ToolDeclaration`].
//!
//! No error here repeats a value, because variables and headers hold secrets and other values may contain some.

mod limits;
mod usage;

use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::{Report, integer_of, kind_of, strings};
use super::units::parse_duration;
use crate::executor::tool::{CommandSpec, HttpSpec, ToolDeclaration, ToolKind};
use crate::model::json::{LostNumber, lost_number};

/// The longest name of a tool, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// Tools that are there without being declared; their names are taken.
const BUILT_IN: [&str; 3] = ["echo", "delay", "fail"];

/// Methods that a request may have.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

const COMMON_KEYS: [&str; 9] =
    ["kind", "timeout", "rerun", "may_plan", "inputs", "usage", "price", "provider", "budget"];
const COMMAND_KEYS: [&str; 7] = ["argv", "cwd", "env", "pass_env", "uid", "gid", "limits"];
const HTTP_KEYS: [&str; 8] =
    ["method", "url", "headers", "body", "allow_redirects", "allow_hosts", "stream_text", "stream_error"];

/// Reads the table of tools. A tool with a mistake is left out and its mistakes are reported.
pub(super) fn read(value: &Spanned<DeValue<'_>>, report: &mut Report<'_>) -> Vec<ToolDeclaration> {
    let DeValue::Table(tools) = value.get_ref() else {
        report.issue(value.span().start, &format!("tools: expected a table, found {}", kind_of(value.get_ref())));
        return Vec::new();
    };
    tools.iter().filter_map(|(name, value)| read_tool(name, value, report)).collect()
}

fn read_tool(
    name: &Spanned<impl AsRef<str>>,
    value: &Spanned<DeValue<'_>>,
    report: &mut Report<'_>,
) -> Option<ToolDeclaration> {
    let (at, name) = (name.span().start, name.get_ref().as_ref());
    if let Some(wrong) = wrong_name(name) {
        report.issue(at, &format!("tools.{}: {wrong}", name.escape_debug()));
        return None;
    }
    let DeValue::Table(table) = value.get_ref() else {
        report.issue(at, &format!("tools.{name}: expected a table, found {}", kind_of(value.get_ref())));
        return None;
    };
    Fields { name, at, table, report }.declaration()
}

fn wrong_name(name: &str) -> Option<&'static str> {
    let is_name_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if !(1..=NAME_BYTES_MAX).contains(&name.len()) || !name.bytes().all(is_name_byte) {
        Some("expected a tool name of 1 to 128 characters out of A-Z a-z 0-9 _ . -")
    } else if BUILT_IN.contains(&name) {
        Some("this is the name of a built-in tool; choose another name")
    } else {
        None
    }
}

/// One tool's table, and where its mistakes go. Each reader reports what it can't take and then answers nothing.
struct Fields<'a, 'r, 'i> {
    name: &'a str,
    /// Where the tool's name stands.
    at: usize,
    table: &'a DeTable<'i>,
    report: &'a mut Report<'r>,
}

impl<'a> Fields<'a, '_, '_> {
    fn declaration(mut self) -> Option<ToolDeclaration> {
        let issues_before = self.report.count();
        let kind = match self.text("kind") {
            Some("command") => Some(ToolKind::Command(self.command())),
            Some("http") => Some(ToolKind::Http(self.http())),
            Some(_) => self.reject("kind", "expected command or http"),
            None if self.table.contains_key("kind") => None,
            None => self.missing("kind", "command or http"),
        };
        let declaration = ToolDeclaration {
            name: self.name.to_owned(),
            timeout: self.timeout(),
            rerun: self.flag("rerun").unwrap_or(true),
            may_plan: self.flag("may_plan").unwrap_or(false),
            inputs: self.schema(),
            usage: self.usage(),
            budget: self.budget(),
            kind: kind?,
        };
        if self.report.count() == issues_before
            && let Err(problem) = declaration.check()
        {
            self.report.issue(self.place_of(&problem), &format!("tools.{}.{problem}", self.name));
        }
        (self.report.count() == issues_before).then_some(declaration)
    }

    /// Where the field stands that a problem begins with, as `env.HOME: ` or `argv[1]: `.
    fn place_of(&self, problem: &str) -> usize {
        let field = problem.split(':').next().unwrap_or_default();
        let (key, inside) = field.split_at(field.find(['.', '[']).unwrap_or(field.len()));
        let Some(value) = self.table.get(key) else { return self.at };
        let inside = match (value.get_ref(), inside.split_at_checked(1)) {
            (DeValue::Table(table), Some((".", name))) => table.get(name).map(|value| value.span().start),
            (DeValue::Array(items), Some(("[", index))) => {
                let index = index.trim_end_matches(']').parse::<usize>().ok();
                index.and_then(|index| items.get(index)).map(|item| item.span().start)
            }
            _ => None,
        };
        inside.unwrap_or(value.span().start)
    }

    fn command(&mut self) -> CommandSpec {
        self.refuse_unknown(&COMMAND_KEYS);
        CommandSpec {
            argv: self.argv(),
            cwd: self.text("cwd").map(str::to_owned),
            env: self.pairs("env", is_variable_name, "the name of an environment variable", no_nul),
            pass_env: self.pass_env(),
            uid: self.id("uid"),
            gid: self.id("gid"),
            limits: self.limits(),
        }
    }

    fn http(&mut self) -> HttpSpec {
        self.refuse_unknown(&HTTP_KEYS);
        HttpSpec {
            method: self.method(),
            url: self.url(),
            headers: self.pairs("headers", is_token, "the name of an HTTP header", is_header_value),
            body: self.body(),
            allow_redirects: self.flag("allow_redirects").unwrap_or(false),
            allow_hosts: self.list("allow_hosts", "a list of host names").unwrap_or_default(),
            stream_text: self.text("stream_text").map(str::to_owned),
            stream_error: self.text("stream_error").map(str::to_owned),
        }
    }

    fn timeout(&mut self) -> Option<std::time::Duration> {
        let duration = parse_duration(self.text("timeout")?).filter(|timeout| !timeout.is_zero());
        duration
            .or_else(|| self.reject("timeout", "expected a duration greater than zero such as 500ms, 15s, 5m or 7d"))
    }

    fn argv(&mut self) -> Vec<String> {
        const EXPECTED: &str = "a list of strings whose first item is the program to run";
        let Some(argv) = self.list("argv", EXPECTED) else {
            if !self.table.contains_key("argv") {
                self.missing::<()>("argv", EXPECTED);
            }
            return Vec::new();
        };
        let runs = argv.first().is_some_and(|program| !program.is_empty()) && argv.iter().all(|arg| no_nul(arg));
        if !runs {
            self.reject::<()>("argv", &format!("expected {EXPECTED}"));
        }
        argv
    }

    fn pass_env(&mut self) -> Vec<String> {
        let names = self.list("pass_env", "a list of names of environment variables").unwrap_or_default();
        if !names.iter().all(|name| is_variable_name(name)) {
            self.reject::<()>("pass_env", "expected a list of names of environment variables");
        }
        names
    }

    fn method(&mut self) -> String {
        let method = self.text("method").unwrap_or("GET").to_ascii_uppercase();
        if !METHODS.contains(&method.as_str()) {
            self.reject::<()>("method", &format!("expected one of {}", METHODS.join(", ")));
        }
        method
    }

    fn url(&mut self) -> String {
        const EXPECTED: &str = "a URL that begins with http:// or https://";
        match self.text("url") {
            Some(url) if ["http://", "https://"].iter().any(|start| url.starts_with(start)) => url.to_owned(),
            Some(_) => self.reject("url", &format!("expected {EXPECTED}")).unwrap_or_default(),
            None if self.table.contains_key("url") => String::new(),
            None => self.missing("url", EXPECTED).unwrap_or_default(),
        }
    }

    fn body(&mut self) -> Option<Value> {
        let value = self.table.get("body")?;
        if let Some(lost) = lost_in(value.get_ref(), "") {
            return self.reject("body", &lost.to_string());
        }
        let json = to_json(value.get_ref());
        json.or_else(|| {
            self.reject(
                "body",
                "expected a value that JSON can represent (no infinity, no NaN, no integer of more than 64 bits)",
            )
        })
    }

    /// A table, or the JSON text of an object (or of `true`/`false`, which are schemas too).
    fn schema(&mut self) -> Option<Value> {
        let value = self.table.get("inputs")?;
        if let Some(lost) = lost_in(value.get_ref(), "") {
            return self.reject("inputs", &lost.to_string());
        }
        let schema = match value.get_ref() {
            DeValue::String(json) => match lost_number(json.as_bytes()) {
                Some(lost) => return self.reject("inputs", &lost.to_string()),
                None => serde_json::from_str(json).ok(),
            },
            table @ DeValue::Table(_) => to_json(table),
            _ => None,
        };
        let schema = schema.filter(|schema: &Value| schema.is_object() || schema.is_boolean());
        schema.or_else(|| self.reject("inputs", "expected a JSON Schema, as a table or as JSON in a string"))
    }

    fn text(&mut self, key: &str) -> Option<&'a str> {
        let value = self.table.get(key)?.get_ref();
        match value.as_str() {
            Some(text) if no_nul(text) => Some(text),
            Some(_) => self.reject(key, "expected a string without NUL bytes"),
            None => self.reject(key, &format!("expected a string, found {}", kind_of(value))),
        }
    }

    fn flag(&mut self, key: &str) -> Option<bool> {
        let value = self.table.get(key)?.get_ref();
        value.as_bool().or_else(|| self.reject(key, &format!("expected true or false, found {}", kind_of(value))))
    }

    fn id(&mut self, key: &str) -> Option<u32> {
        let value = self.table.get(key)?.get_ref();
        // The greatest id means "leave it as it is" to the system.
        let id = integer_of(value).and_then(|id| u32::try_from(id).ok()).filter(|id| *id != u32::MAX);
        id.or_else(|| self.reject(key, &format!("expected a whole number below {}", u32::MAX)))
    }

    fn list(&mut self, key: &str, expected: &str) -> Option<Vec<String>> {
        let items = self.table.get(key)?.get_ref().as_array().and_then(strings);
        let items = items.map(|items| items.into_iter().map(str::to_owned).collect());
        items.or_else(|| self.reject(key, &format!("expected {expected}")))
    }

    /// A table of strings by name.
    fn pairs(
        &mut self,
        key: &str,
        is_name: fn(&str) -> bool,
        name_is: &str,
        is_value: fn(&str) -> bool,
    ) -> Vec<(String, String)> {
        let Some(value) = self.table.get(key) else { return Vec::new() };
        let DeValue::Table(table) = value.get_ref() else {
            let found = kind_of(value.get_ref());
            return self.reject(key, &format!("expected a table of strings, found {found}")).unwrap_or_default();
        };
        let mut pairs = Vec::with_capacity(table.len());
        for (name, value) in table {
            let path = format!("tools.{}.{key}.{}", self.name, name.get_ref().escape_debug());
            if !is_name(name.get_ref()) {
                self.report.issue(name.span().start, &format!("{path}: expected {name_is}"));
            }
            match value.get_ref().as_str() {
                Some(text) if is_value(text) => pairs.push((name.get_ref().to_string(), text.to_owned())),
                Some(_) => self
                    .report
                    .issue(value.span().start, &format!("{path}: expected a string without control characters")),
                None => {
                    let found = kind_of(value.get_ref());
                    self.report.issue(value.span().start, &format!("{path}: expected a string, found {found}"));
                }
            }
        }
        pairs
    }

    fn refuse_unknown(&mut self, of_kind: &[&str]) {
        let known: Vec<String> =
            COMMON_KEYS.iter().chain(of_kind).map(|key| format!("tools.{}.{key}", self.name)).collect();
        for key in self.table.keys() {
            let path = format!("tools.{}.{}", self.name, key.get_ref());
            if !known.contains(&path) {
                self.report.unknown_key(key.span().start, &path, known.iter().map(String::as_str));
            }
        }
    }

    fn reject<T>(&mut self, key: &str, what: &str) -> Option<T> {
        let at = self.table.get(key).map_or(self.at, |value| value.span().start);
        self.report.issue(at, &format!("tools.{}.{key}: {what}", self.name));
        None
    }

    fn missing<T>(&mut self, key: &str, expected: &str) -> Option<T> {
        self.reject(key, &format!("missing; expected {expected}"))
    }
}

fn no_nul(text: &str) -> bool {
    !text.contains('\0')
}

fn is_variable_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

/// A token of RFC 9110.
fn is_token(name: &str) -> bool {
    let is_token_byte = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.bytes().all(is_token_byte)
}

fn is_header_value(value: &str) -> bool {
    value.chars().all(|c| c == '\t' || !c.is_control())
}

/// The first number of a value at `path` that JSON of ours does not hold.
fn lost_in(value: &DeValue<'_>, path: &str) -> Option<LostNumber> {
    let lost = |digits: String| Some(LostNumber { path: path.to_owned(), digits });
    match value {
        DeValue::Integer(integer) if to_json(value).is_none() => {
            lost(integer_of(value).map_or_else(|| integer.as_str().to_owned(), |integer| integer.to_string()))
        }
        DeValue::Float(float) => {
            let text = float.as_str().trim_start_matches('+');
            match lost_number(text.as_bytes()) {
                None if to_json(value).is_some() => None,
                _ => lost(text.to_owned()),
            }
        }
        DeValue::Array(items) => {
            items.iter().enumerate().find_map(|(at, item)| lost_in(item.get_ref(), &format!("{path}[{at}]")))
        }
        DeValue::Table(table) => table.iter().find_map(|(name, item)| {
            let dot = if path.is_empty() { "" } else { "." };
            lost_in(item.get_ref(), &format!("{path}{dot}{}", name.get_ref()))
        }),
        _ => None,
    }
}

/// TOML as JSON; a date becomes its text. Nothing for numbers that JSON lacks. The parser bounds the depth.
fn to_json(value: &DeValue<'_>) -> Option<Value> {
    Some(match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(_) => {
            let integer = integer_of(value)?;
            Value::Number(
                i64::try_from(integer).map(Number::from).or_else(|_| u64::try_from(integer).map(Number::from)).ok()?,
            )
        }
        DeValue::Float(float) => Value::Number(Number::from_f64(float.as_str().parse().ok()?)?),
        DeValue::Boolean(truth) => Value::Bool(*truth),
        DeValue::Datetime(date) => Value::String(date.to_string()),
        DeValue::Array(items) => Value::Array(items.iter().map(|item| to_json(item.get_ref())).collect::<Option<_>>()?),
        DeValue::Table(table) => {
            let entry = |(name, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
                Some((ToString::to_string(name.get_ref()), to_json(value.get_ref())?))
            };
            Value::Object(table.iter().map(entry).collect::<Option<Map<_, _>>>()?)
        }
    })
}
