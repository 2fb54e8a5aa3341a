//! The request target (RFC 9112, section 3.2): origin-form, absolute-form, or `*`.

use super::host::is_host;
use super::{Method, Problem};

/// A request target, taken apart but not percent-decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target<'b> {
    /// Host and port of an absolute-form.
    pub(super) authority: Option<&'b str>,
    pub(super) path: &'b str,
    pub(super) query: Option<&'b str>,
}

impl<'b> Target<'b> {
    /// Takes `raw` apart.
    ///
    /// # Errors
    /// 400 where it is none of the three forms, or holds a byte that no URI holds.
    pub(super) fn parse(method: Method, raw: &'b str) -> Result<Self, Problem> {
        if !raw.bytes().all(is_target_byte) {
            return Err(Problem::malformed("the request target contains an invalid character"));
        }
        if raw == "*" && method == Method::Options {
            return Ok(Self { authority: None, path: raw, query: None });
        }
        if raw.starts_with('/') {
            return Ok(Self::below(None, raw));
        }
        let (authority, rest) = split_absolute(raw)
            .filter(|(authority, _)| is_host(authority.as_bytes()))
            .ok_or_else(|| Problem::malformed("the request target is neither a path nor an http URL"))?;
        Ok(Self::below(Some(authority), rest))
    }

    fn below(authority: Option<&'b str>, path_and_query: &'b str) -> Self {
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path_and_query, None),
        };
        Self { authority, path: if path.is_empty() { "/" } else { path }, query }
    }
}

/// A visible ASCII character, but not the `#` of a fragment, which is never sent.
fn is_target_byte(b: u8) -> bool {
    b.is_ascii_graphic() && b != b'#'
}

/// The authority of an absolute-form, and all that follows it.
fn split_absolute(raw: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = raw.split_once("://")?;
    let is_http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    is_http.then(|| rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let target = |authority, path, query| Some(Target { authority, path, query });
        for (raw, expected) in [
            ("/", target(None, "/", None)),
            ("/a/b?c=d?e", target(None, "/a/b", Some("c=d?e"))),
            ("/?", target(None, "/", Some(""))),
            ("//a/b", target(None, "//a/b", None)),
            ("/a://b", target(None, "/a://b", None)),
            ("http://h", target(Some("h"), "/", None)),
            ("HTTPS://h:1/a?b", target(Some("h:1"), "/a", Some("b"))),
            ("http://h?q", target(Some("h"), "/", Some("q"))),
            ("http://[::1]:80/", target(Some("[::1]:80"), "/", None)),
            ("", None),
            ("*", None),
            ("a", None),
            ("a/b", None),
            ("h:80", None),
            ("ftp://h/", None),
            ("http://", None),
            ("http:///a", None),
            ("http://u@h/", None),
            ("http://h,i/", None),
            ("?a", None),
            ("/#f", None),
            ("/é", None),
            ("/a\u{7f}", None),
        ] {
            assert_eq!(Target::parse(Method::Get, raw).ok(), expected, "{raw}");
        }
        let star = Target::parse(Method::Options, "*").expect("the server as a whole");
        assert_eq!((star.path, star.query), ("*", None));
    }
}
