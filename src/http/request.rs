//! A validated request, as handlers see it. It borrows from the connection's input buffer.

use std::borrow::Cow;
use std::fmt;

use memchr::memchr;

/// A complete request. Its head has passed all checks of RFC 9112, sections 3 to 7, that concern framing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'b> {
    /// The method.
    pub method: Method,
    /// The HTTP version.
    pub version: Version,
    /// The path as received, not percent-decoded: begins with `/`, or is `*` (only with [`Method::Options`]).
    pub path: &'b str,
    /// The query after the `?`, as received.
    pub query: Option<&'b str>,
    /// The `Host`, or the host of an absolute target; none if an HTTP/1.0 request has neither.
    pub host: Option<&'b str>,
    /// The header fields.
    pub headers: Headers<'b>,
    /// The content without its framing; owned only if it arrived in several chunks.
    pub body: Cow<'b, [u8]>,
    /// Whether the client allows another request on this connection.
    pub keep_alive: bool,
}

/// The methods that this server knows. `CONNECT` is refused like an unknown one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// `GET`
    Get,
    /// `HEAD`
    Head,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `PATCH`
    Patch,
    /// `DELETE`
    Delete,
    /// `OPTIONS`
    Options,
    /// `TRACE`
    Trace,
    /// `QUERY`: a safe method with a body (draft-ietf-httpbis-safe-method-w-body)
    Query,
}

impl Method {
    const ALL: [Self; 9] = [
        Self::Get,
        Self::Head,
        Self::Post,
        Self::Put,
        Self::Patch,
        Self::Delete,
        Self::Options,
        Self::Trace,
        Self::Query,
    ];

    /// The method of this name, which is case-sensitive.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == name)
    }

    /// Its name in the wire format.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Query => "QUERY",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The HTTP versions that this server supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// `HTTP/1.0`
    Http10,
    /// `HTTP/1.1`
    Http11,
}

/// Header fields in the order of the request. Names are case-insensitive.
///
/// They are stored as the validated lines: handlers read only a few names, and scanning some ten short lines is cheaper
/// than moving a table of a hundred entries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Headers<'b> {
    block: &'b [u8],
}

impl<'b> Headers<'b> {
    /// `block` consists of valid field lines, each with its CRLF, optionally followed by the empty line.
    pub(super) fn of_checked(block: &'b [u8]) -> Self {
        Self { block }
    }

    /// The value of the first field with this name, without surrounding whitespace.
    pub fn first(self, name: &str) -> Option<&'b [u8]> {
        self.lines().find_map(|line| value_of(line, name))
    }

    /// The same as text; also `None` if it is not UTF-8.
    pub fn text(self, name: &str) -> Option<&'b str> {
        self.first(name).and_then(|value| str::from_utf8(value).ok())
    }

    /// The values of all fields with this name.
    pub fn all(self, name: &str) -> impl Iterator<Item = &'b [u8]> {
        self.lines().filter_map(move |line| value_of(line, name))
    }

    fn lines(self) -> impl Iterator<Item = &'b [u8]> {
        let mut rest = self.block;
        std::iter::from_fn(move || {
            let (line, after) = rest.split_at(memchr(b'\n', rest)? + 1);
            rest = after;
            Some(line)
        })
    }
}

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.lines().map(|line| line.trim_ascii().escape_ascii().to_string())).finish()
    }
}

/// The value in `line`, if it is a field with this name.
fn value_of<'b>(line: &'b [u8], name: &str) -> Option<&'b [u8]> {
    let (line_name, rest) = line.split_at_checked(name.len())?;
    let value = rest.strip_prefix(b":")?;
    // The value holds no control byte but HTAB, so that ASCII whitespace here is OWS and the line's end.
    line_name.eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_found_by_name_whatever_its_case() {
        let headers =
            Headers::of_checked(b"Host: a\r\nX-A:1\r\nx-a: \t2 3\t \r\nX-AB: no\r\nX-E:\r\nX-L: \xff\r\n\r\n");
        assert_eq!(headers.first("HOST"), Some(&b"a"[..]));
        assert_eq!(headers.all("X-a").collect::<Vec<_>>(), [&b"1"[..], b"2 3"]);
        assert_eq!(headers.text("x-e"), Some(""));
        assert_eq!((headers.first("x-l"), headers.text("x-l")), (Some(&b"\xff"[..]), None));
        assert_eq!((headers.first("x"), headers.first(""), headers.first("x-abc")), (None, None, None));
    }

    #[test]
    fn methods_know_their_names() {
        for method in Method::ALL {
            assert_eq!(Method::parse(method.as_str()), Some(method));
        }
        for unknown in ["get", "GETT", "", "CONNECT", "PRI"] {
            assert_eq!(Method::parse(unknown), None, "{unknown}");
        }
    }
}
