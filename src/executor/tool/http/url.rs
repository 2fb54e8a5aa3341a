//! URLs with templates, and the targets of redirects. An inserted value can change neither the server nor the structure
//! of the URL.

use super::super::render::Template;
use crate::executor::template::is_template;
use crate::executor::template::{Escaping, Scope};
use crate::outbound::{origin, strip_scheme};

/// A url whose scheme is literal, known to parse.
///
/// In its authority, values are letters, digits and `-`: a port or one label, never another domain. In path and query
/// they are percent-encoded, and none may make a segment `.` or `..`.
#[derive(Debug)]
pub(super) struct UrlTemplate {
    /// `https://example.com:8080`
    origin: Template,
    /// Path and query.
    rest: Template,
    has_templates: bool,
    is_host_open: bool,
}

impl UrlTemplate {
    pub(super) fn compile(source: &str) -> Result<Self, String> {
        let after_scheme = strip_scheme(source).ok_or("must begin with `http://` or `https://`")?;
        let end = source.len() - after_scheme.len() + authority_len(after_scheme);
        let (origin, rest) = source.split_at(end);
        if origin.contains('@') {
            return Err("must not contain credentials; put them in a header".to_owned());
        }
        Ok(Self {
            origin: Template::compile(origin, Escaping::Authority)?,
            rest: Template::compile(rest, Escaping::Url)?,
            has_templates: is_template(source),
            is_host_open: is_template(origin),
        })
    }

    /// Does it hold templates?
    pub(super) fn has_templates(&self) -> bool {
        self.has_templates
    }

    /// Do values decide which server is asked?
    pub(super) fn is_host_open(&self) -> bool {
        self.is_host_open
    }

    pub(super) fn render(&self, scope: &Scope) -> Result<String, String> {
        let rest = self.rest.render(scope)?;
        let path = rest.split(['?', '#']).next().unwrap_or_default();
        if self.has_templates && path.split('/').any(|segment| segment == "." || segment == "..") {
            return Err("a value must not turn a path segment into `.` or `..`".to_owned());
        }
        Ok(self.origin.render(scope)? + &rest)
    }
}

/// How long the authority at the beginning of `text` is. Templates are part of it, whatever is inside.
fn authority_len(text: &str) -> usize {
    let mut at = 0;
    while let Some(found) = text[at..].find(['/', '?', '#', '{']) {
        at += found;
        let close = match text[at..].get(..2) {
            Some("{{") => "}}",
            _ if text[at..].starts_with('{') => "{",
            _ => return at,
        };
        at += text[at..].find(close).map_or(text.len() - at, |end| end + close.len());
    }
    text.len()
}

/// Where `location`, as a redirect from `base` gives it, leads.
pub(super) fn join(base: &str, location: &str) -> String {
    let location = location.split('#').next().unwrap_or_default();
    let origin = origin(base);
    if strip_scheme(location).is_some() {
        return location.to_owned();
    }
    if location.starts_with("//") {
        let scheme = origin.split("//").next().unwrap_or_default();
        return format!("{scheme}{location}");
    }
    if location.starts_with('/') {
        return format!("{origin}{location}");
    }
    let path = base[origin.len()..].split(['?', '#']).next().unwrap_or_default();
    let kept = match location.chars().next() {
        Some('?') | None => path,
        Some(_) => path.rfind('/').map_or("/", |slash| &path[..=slash]),
    };
    format!("{origin}{kept}{location}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::render::inputs_scope;
    use super::*;

    #[test]
    fn values_stay_where_they_are_put() {
        let inputs = json!({"id": "a/b?c", "port": 8080, "tenant": "eu", "host": ".evil.example", "up": ".."});
        let scope = inputs_scope(inputs.as_object().expect("an object"));
        for (source, expected) in [
            ("http://a.example", Some("http://a.example")),
            (
                "HTTPS://a.example/x/{{ inputs.id }}?q={{ inputs.id }}",
                Some("HTTPS://a.example/x/a%2Fb%3Fc?q=a%2Fb%3Fc"),
            ),
            ("http://127.0.0.1:{{ inputs.port }}/x", Some("http://127.0.0.1:8080/x")),
            ("http://{{ inputs['tenant'] ~ '/'[:0] }}.a.example?x", Some("http://eu.a.example?x")),
            ("http://a.example{{ inputs.host }}/", None),
            ("http://a.example{{ inputs.id }}", None),
            ("http://a.example/x/{{ inputs.up }}/y", None),
            ("http://a.example/x/{{ inputs.up }}?y", None),
            ("http://a.example/x?y={{ inputs.up }}", Some("http://a.example/x?y=..")),
        ] {
            let rendered = UrlTemplate::compile(source).expect("compiles").render(&scope);
            assert_eq!(rendered.ok().as_deref(), expected, "{source}");
        }
        for bad in ["a.example", "{{ inputs.url }}", "ftp://a", "http://u:p@a/", "http://a/{{ x"] {
            assert!(UrlTemplate::compile(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_location_is_taken_from_where_it_was_given() {
        let base = "http://a.example:1/x/y?q#f";
        for (location, expected) in [
            ("https://b.example/z", "https://b.example/z"),
            ("//b.example/z", "http://b.example/z"),
            ("/z?r#f", "http://a.example:1/z?r"),
            ("z", "http://a.example:1/x/z"),
            ("?r", "http://a.example:1/x/y?r"),
            ("", "http://a.example:1/x/y"),
        ] {
            assert_eq!(join(base, location), expected, "{location}");
        }
        assert_eq!(join("http://a.example", "z"), "http://a.example/z");
        assert_eq!(origin(base), "http://a.example:1");
    }
}
