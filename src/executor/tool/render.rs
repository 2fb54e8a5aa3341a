//! Templates inside declared tools: Jinja over `inputs`, with what they yield kept where it was put.
//!
//! Undefined values are errors, a render's work is bounded, and nothing can be included or called. A value becomes text
//! as itself where it is a string, as JSON otherwise. What a value may not do at its place is said by [`Place`].

use std::borrow::Cow;
use std::sync::LazyLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};

/// What one render may cost: about 100,000 instructions, or 6 MiB of text.
const FUEL: u64 = 100_000;

/// What stands unencoded in a url's path and query: the unreserved characters of RFC 3986.
const URL_ENCODED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Does this text hold a template?
pub fn is_template(text: &str) -> bool {
    ["{{", "{%", "{#"].iter().any(|tag| text.contains(tag))
}

/// The expression inside, where `text` is one `{{ expression }}` whole.
pub(super) fn unwrapped(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    (!is_template(inner) && !inner.contains("}}")).then(|| inner.trim())
}

/// Where a template's text goes, and so what is done with the values filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Anywhere: values stay as they are.
    Text,
    /// A url's path and query: values are percent-encoded, so that none adds a segment or a parameter.
    Url,
    /// A url's authority: letters, digits and `-` alone, so that no value leads out of the domain written there.
    Authority,
    /// A file path: values are names, not paths.
    FileName,
}

/// A text that may hold templates, known to parse.
#[derive(Debug, Clone)]
pub(super) struct Template {
    source: String,
    place: Place,
}

impl Template {
    /// Checks that `source` parses.
    pub(super) fn compile(source: &str, place: Place) -> Result<Self, String> {
        let template = Self { source: source.to_owned(), place };
        template.environment().template_from_str(&template.source).map_err(|error| sentence(&error))?;
        Ok(template)
    }

    /// The text with everything filled in.
    pub(super) fn render(&self, scope: &Scope<'_>) -> Result<String, String> {
        if !is_template(&self.source) {
            return Ok(self.source.clone());
        }
        let template = self.environment().template_from_str(&self.source).map_err(|error| sentence(&error))?;
        template
            .render(scope.values.clone())
            .map_err(|error| explain(&error, scope, || template.undeclared_variables(true).into_iter().collect()))
    }

    /// The value: of any type where the text is one `{{ expression }}` whole, a string otherwise.
    pub(super) fn render_value(&self, scope: &Scope<'_>) -> Result<Value, String> {
        match unwrapped(&self.source) {
            Some(expression) => Expression::compile(expression, Missing::Fails)?.eval(scope),
            None => self.render(scope).map(Value::String),
        }
    }

    fn environment(&self) -> &'static Environment<'static> {
        static TEXT: LazyLock<Environment<'static>> = LazyLock::new(|| placed(|text| Ok(text.into())));
        static URL: LazyLock<Environment<'static>> =
            LazyLock::new(|| placed(|text| Ok(utf8_percent_encode(text, &URL_ENCODED).into())));
        static AUTHORITY: LazyLock<Environment<'static>> = LazyLock::new(|| placed(host_label));
        static FILE_NAME: LazyLock<Environment<'static>> = LazyLock::new(|| placed(file_name));
        match self.place {
            Place::Text => &TEXT,
            Place::Url => &URL,
            Place::Authority => &AUTHORITY,
            Place::FileName => &FILE_NAME,
        }
    }
}

/// What a missing value does to an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// The expression fails.
    Fails,
    /// It is null, and so are its own members.
    IsNull,
}

/// An expression, known to parse.
#[derive(Debug, Clone)]
pub(super) struct Expression {
    source: String,
    missing: Missing,
}

impl Expression {
    /// Checks that `source` parses.
    pub(super) fn compile(source: &str, missing: Missing) -> Result<Self, String> {
        let expression = Self { source: source.to_owned(), missing };
        expression.environment().compile_expression(source).map_err(|error| sentence(&error))?;
        Ok(expression)
    }

    /// Its value.
    pub(super) fn eval(&self, scope: &Scope<'_>) -> Result<Value, String> {
        let expression = self.environment().compile_expression(&self.source).map_err(|error| sentence(&error))?;
        let names = || expression.undeclared_variables(true).into_iter().collect();
        let value = expression.eval(scope.values.clone()).map_err(|error| explain(&error, scope, names))?;
        match self.missing {
            Missing::Fails if value.is_undefined() => Err(explain(&ErrorKind::UndefinedError.into(), scope, names)),
            Missing::IsNull if value.is_undefined() => Ok(Value::Null),
            _ => serde_json::to_value(&value).map_err(|error| error.to_string()),
        }
    }

    fn environment(&self) -> &'static Environment<'static> {
        static STRICT: LazyLock<Environment<'static>> = LazyLock::new(|| environment(UndefinedBehavior::Strict));
        static LENIENT: LazyLock<Environment<'static>> = LazyLock::new(|| environment(UndefinedBehavior::Chainable));
        match self.missing {
            Missing::Fails => &STRICT,
            Missing::IsNull => &LENIENT,
        }
    }
}

/// What templates see.
pub(super) struct Scope<'a> {
    root: (&'static str, &'a dyn Lookup),
    values: minijinja::Value,
}

impl<'a> Scope<'a> {
    /// `inputs`, and nothing else.
    pub(super) fn inputs(inputs: &'a Map<String, Value>) -> Self {
        let values = minijinja::Value::from_pairs([("inputs", minijinja::Value::from(Serde(inputs)))]);
        Self { root: ("inputs", inputs), values }
    }

    /// `event`, and nothing else.
    pub(super) fn event(event: &'a Value) -> Self {
        let values = minijinja::Value::from_pairs([("event", minijinja::Value::from(Serde(event)))]);
        Self { root: ("event", event), values }
    }

    /// Is there nothing of this dotted name?
    fn lacks(&self, name: &str) -> bool {
        let mut parts = name.split('.');
        if parts.next() != Some(self.root.0) {
            return true;
        }
        let Some(first) = parts.next() else { return false };
        let found = self.root.1.member(first);
        parts.fold(found, |value, part| value.and_then(|value| value.get(part))).is_none()
    }
}

/// Something whose members have names.
trait Lookup {
    fn member(&self, name: &str) -> Option<&Value>;
}

impl Lookup for Map<String, Value> {
    fn member(&self, name: &str) -> Option<&Value> {
        self.get(name)
    }
}

impl Lookup for Value {
    fn member(&self, name: &str) -> Option<&Value> {
        self.get(name)
    }
}

fn environment(undefined: UndefinedBehavior) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(undefined);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment
}

/// An environment that passes each value's text through `fit`.
fn placed(fit: fn(&str) -> Result<Cow<'_, str>, String>) -> Environment<'static> {
    let mut environment = environment(UndefinedBehavior::Strict);
    if let Ok(syntax) = SyntaxConfig::builder().keep_trailing_newline(true).build() {
        environment.set_syntax(syntax);
    }
    environment.set_formatter(move |out, _, value| {
        let text = text_of(value)?;
        let fitted = fit(&text).map_err(|problem| Error::new(ErrorKind::InvalidOperation, problem))?;
        out.write_str(&fitted).map_err(Error::from)
    });
    environment
}

fn text_of(value: &minijinja::Value) -> Result<Cow<'_, str>, Error> {
    if value.is_undefined() {
        return Ok("".into());
    }
    match value.as_str() {
        Some(text) => Ok(text.into()),
        None => serde_json::to_string(value)
            .map(Cow::from)
            .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string())),
    }
}

fn host_label(text: &str) -> Result<Cow<'_, str>, String> {
    let fits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if fits { Ok(text.into()) } else { Err("a value in a url's host must be letters, digits and `-`".to_owned()) }
}

fn file_name(text: &str) -> Result<Cow<'_, str>, String> {
    let fits = !text.is_empty() && text != "." && text != ".." && !text.contains(['/', '\0']);
    if fits { Ok(text.into()) } else { Err("a value in a path must be a file name".to_owned()) }
}

fn explain(error: &Error, scope: &Scope<'_>, names: impl FnOnce() -> Vec<String>) -> String {
    if error.kind() != ErrorKind::UndefinedError {
        return sentence(error);
    }
    let mut missing: Vec<_> = names().into_iter().filter(|name| scope.lacks(name)).collect();
    missing.sort_unstable();
    if missing.is_empty() { sentence(error) } else { format!("{} is undefined", missing.join(", ")) }
}

/// The error without the names of templates, which are all called `<string>`.
fn sentence(error: &Error) -> String {
    match error.detail() {
        Some(detail) if error.kind() == ErrorKind::InvalidOperation => detail.to_owned(),
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(source: &str, place: Place, inputs: &Value) -> Result<String, String> {
        let inputs = inputs.as_object().expect("an object");
        Template::compile(source, place)?.render(&Scope::inputs(inputs))
    }

    #[test]
    fn values_become_text_as_themselves_or_as_json() {
        let inputs = json!({"s": "a <b> \"c\"", "n": 3, "list": [1, "x"], "nil": null, "yes": true});
        for (source, expected) in [
            ("plain $HOME `x`\n", "plain $HOME `x`\n"),
            ("{{ inputs.s }}\n", "a <b> \"c\"\n"),
            ("{{ inputs.n }}/{{ inputs.list }}/{{ inputs.nil }}/{{ inputs.yes }}", "3/[1,\"x\"]/null/true"),
            ("{{ inputs.none | default('d') }}", "d"),
            ("{{ inputs.s | upper }}", "A <B> \"C\""),
        ] {
            assert_eq!(render(source, Place::Text, &inputs).as_deref(), Ok(expected), "{source}");
        }
    }

    #[test]
    fn a_missing_value_is_an_error_that_names_it() {
        let error = render("{{ inputs.here }}{{ inputs.gone }}", Place::Text, &json!({"here": 1}));
        assert_eq!(error.as_deref().map_err(String::as_str), Err("inputs.gone is undefined"));
        let error = render("{{ inputs.a.b }}", Place::Text, &json!({}));
        assert_eq!(error.as_deref().map_err(String::as_str), Err("inputs.a.b is undefined"));
        assert!(render("{{ steps.a.output }}", Place::Text, &json!({})).is_err(), "only inputs are seen");
        assert!(render("{{ inputs.", Place::Text, &json!({})).is_err(), "a template that does not parse");
    }

    #[test]
    fn a_template_can_not_run_for_ever() {
        let endless = "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
        assert!(render(endless, Place::Text, &json!({})).is_err());
        assert!(render("{{ 'x' * 100000000 }}", Place::Text, &json!({})).is_err());
    }

    #[test]
    fn a_value_can_not_leave_its_place() {
        let inputs =
            json!({"x": "../a b?c=d&e#f@g:1%2f", "host": "evil.example", "sub": "eu-1", "up": "..", "none": ""});
        let encoded = "..%2Fa%20b%3Fc%3Dd%26e%23f%40g%3A1%252f";
        assert_eq!(render("/{{ inputs.x }}", Place::Url, &inputs), Ok(format!("/{encoded}")));
        assert_eq!(render("/{{ inputs.x | safe }}", Place::Url, &inputs), Ok(format!("/{encoded}")));
        assert_eq!(render("{{ inputs.sub }}.a.example", Place::Authority, &inputs), Ok("eu-1.a.example".to_owned()));
        for (source, place) in [
            ("{{ inputs.host }}", Place::Authority),
            ("{{ inputs.none }}", Place::Authority),
            ("/tmp/{{ inputs.x }}", Place::FileName),
            ("/tmp/{{ inputs.up }}", Place::FileName),
            ("/tmp/{{ inputs.none }}", Place::FileName),
        ] {
            assert!(render(source, place, &inputs).is_err(), "{source}");
        }
    }

    #[test]
    fn one_whole_template_keeps_its_type() {
        let inputs = json!({"list": [1, {"a": null}], "n": 2});
        let scope = Scope::inputs(inputs.as_object().expect("an object"));
        for (source, expected) in [
            ("{{ inputs.list }}", Ok(json!([1, {"a": null}]))),
            (" {{ inputs.n + 1 }} ", Ok(json!(3))),
            ("{{ inputs.n }}{{ inputs.n }}", Ok(json!("22"))),
            ("n={{ inputs.n }}", Ok(json!("n=2"))),
            ("{{ inputs.gone }}", Err("inputs.gone is undefined".to_owned())),
        ] {
            let template = Template::compile(source, Place::Text).expect("parses");
            assert_eq!(template.render_value(&scope), expected, "{source}");
        }
    }

    #[test]
    fn a_lenient_expression_takes_missing_members_as_null() {
        let event = json!({"choices": [{"delta": {"content": "hi"}}]});
        let pick = |source| {
            let expression = Expression::compile(source, Missing::IsNull).expect("parses");
            expression.eval(&Scope::event(&event))
        };
        assert_eq!(pick("event.choices[0].delta.content"), Ok(json!("hi")));
        assert_eq!(pick("event.choices[3].delta.content"), Ok(Value::Null));
        assert!(Expression::compile("event..x", Missing::IsNull).is_err());
    }
}
