//! The complete head of a request, parsed by `httparse`, with additional checks for what `httparse` accepts.

use std::mem::MaybeUninit;

use memchr::memchr;

use super::host::is_host;
use super::target::Target;
use super::{Headers, Method, Problem, Version};

/// The most header fields a request may have.
pub const HEADERS_MAX: usize = 100;

/// A head that has passed every check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head<'b> {
    pub(super) method: Method,
    pub(super) version: Version,
    pub(super) target: Target<'b>,
    pub(super) host: Option<&'b str>,
    pub(super) headers: Headers<'b>,
    pub(super) framing: Framing,
    pub(super) keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub(super) expects_continue: bool,
}

/// How the end of the body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes; none if the head says nothing.
    Length(u64),
    /// Chunked transfer coding.
    Chunked,
}

impl<'b> Head<'b> {
    /// Parses `bytes`, which begin with the request line and end with the empty line; every line ends in CRLF.
    ///
    /// # Errors
    /// The refusal, after which the connection can't be read any further.
    pub(super) fn parse(bytes: &'b [u8]) -> Result<Self, Problem> {
        let mut room = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let mut parsed = httparse::Request::new(&mut []);
        match parsed.parse_with_uninit_headers(bytes, &mut room) {
            // Both must see the head end at the same place.
            Ok(httparse::Status::Complete(end)) if end == bytes.len() => {}
            Ok(_) => return Err(Problem::malformed("the request head is malformed")),
            Err(error) => return Err(refusal(error, &parsed, request_line(bytes))),
        }
        let version = if parsed.version == Some(1) { Version::Http11 } else { Version::Http10 };
        let method = parsed.method.and_then(Method::parse).ok_or_else(unknown_method)?;
        let target = Target::parse(method, parsed.path.unwrap_or_default())?;
        let fields = Fields::collect(parsed.headers)?;
        Ok(Self {
            method,
            version,
            target,
            host: fields.host(version, target.authority)?,
            headers: Headers::of_checked(&bytes[request_line(bytes).len()..]),
            framing: fields.framing(version)?,
            keep_alive: fields.keep_alive(version),
            expects_continue: fields.expects_continue(version)?,
        })
    }
}

/// The values of `Origin` and `Host` in the head that `input` begins with, where all of it is there and can be told into
/// fields, whatever else may be wrong with the request. None of one that is there more than once.
pub fn peek_origin(input: &[u8]) -> (Option<&str>, Option<&str>) {
    let mut room = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    if !matches!(parsed.parse_with_uninit_headers(input, &mut room), Ok(httparse::Status::Complete(_))) {
        return (None, None);
    }
    let only = |name: &str| {
        let mut values = parsed.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        let first = values.next()?;
        if values.next().is_some() { None } else { str::from_utf8(first.value).ok() }
    };
    (only("origin"), only("host"))
}

/// The first line, with its end.
fn request_line(head: &[u8]) -> &[u8] {
    &head[..memchr(b'\n', head).map_or(head.len(), |line_feed| line_feed + 1)]
}

/// What to answer where `httparse` gave up.
fn refusal(error: httparse::Error, parsed: &httparse::Request<'_, '_>, request_line: &[u8]) -> Problem {
    match error {
        httparse::Error::TooManyHeaders => Problem::new(
            431,
            "head_too_large",
            format!("the request has too many header fields (limit {HEADERS_MAX}, not configurable)"),
        ),
        httparse::Error::HeaderName => {
            Problem::malformed("a header line is folded, has no valid name, or has whitespace before its colon")
        }
        httparse::Error::HeaderValue => Problem::malformed("a header value contains a control character"),
        _ if parsed.path.is_some() && names_other_version(request_line) => {
            Problem::new(505, "version_not_supported", "unsupported HTTP version; expected HTTP/1.1 or HTTP/1.0")
        }
        _ => Problem::malformed("the request line is malformed"),
    }
}

/// Does the request line end in a version of HTTP that this server does not speak?
fn names_other_version(request_line: &[u8]) -> bool {
    let last_word = request_line.trim_ascii_end().rsplit(|&b| b == b' ').next();
    let number = last_word.and_then(|word| word.strip_prefix(b"HTTP/")).unwrap_or_default();
    let is_number =
        number.first().is_some_and(u8::is_ascii_digit) && number.iter().all(|b| b.is_ascii_digit() || *b == b'.');
    is_number && !matches!(number, b"1.0" | b"1.1")
}

fn unknown_method() -> Problem {
    Problem::new(501, "unknown_method", "unsupported request method")
}

/// The fields that decide how a message is framed and whom it is for.
#[derive(Debug, Default)]
struct Fields<'b> {
    host: Option<&'b [u8]>,
    content_length: Option<u64>,
    transfer: Transfer,
    close: bool,
    keep_alive: bool,
    continues: bool,
    other_expectation: bool,
}

/// What the `Transfer-Encoding` fields list.
#[derive(Debug, Default)]
struct Transfer {
    is_present: bool,
    has_unknown: bool,
    chunked_count: usize,
}

impl<'b> Fields<'b> {
    fn collect(headers: &[httparse::Header<'b>]) -> Result<Self, Problem> {
        let mut fields = Self::default();
        for header in headers {
            fields.add(header.name, header.value)?;
        }
        Ok(fields)
    }

    fn add(&mut self, name: &str, value: &'b [u8]) -> Result<(), Problem> {
        if name.eq_ignore_ascii_case("host") {
            if self.host.replace(value).is_some() {
                return Err(bad_host("the request has more than one Host header"));
            }
        } else if name.eq_ignore_ascii_case("content-length") {
            if self.content_length.replace(parse_length(value)?).is_some() {
                return Err(bad_framing("the request has more than one Content-Length header"));
            }
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            self.transfer.add(value)?;
        } else if name.eq_ignore_ascii_case("connection") {
            let has = |option: &[u8]| elements(value).any(|element| element.eq_ignore_ascii_case(option));
            self.close |= has(b"close");
            self.keep_alive |= has(b"keep-alive");
        } else if name.eq_ignore_ascii_case("expect") {
            let is_continue = value.eq_ignore_ascii_case(b"100-continue");
            self.continues |= is_continue;
            self.other_expectation |= !is_continue;
        }
        Ok(())
    }

    /// An absolute target must name the same host: whichever of the two another program on the way went by, it meant
    /// this one.
    fn host(&self, version: Version, authority: Option<&'b str>) -> Result<Option<&'b str>, Problem> {
        match (self.host, authority) {
            (Some(host), _) if !is_host(host) => Err(bad_host("the Host header is not a valid host")),
            (Some(host), Some(authority)) if !host.eq_ignore_ascii_case(authority.as_bytes()) => {
                Err(bad_host("the Host header does not match the host of the request target"))
            }
            (None, _) if version == Version::Http11 => Err(bad_host("the Host header is missing")),
            (Some(host), _) => Ok(str::from_utf8(host).ok()),
            (None, authority) => Ok(authority),
        }
    }

    fn framing(&self, version: Version) -> Result<Framing, Problem> {
        if !self.transfer.is_present {
            return Ok(Framing::Length(self.content_length.unwrap_or(0)));
        }
        if version == Version::Http10 {
            return Err(bad_framing("Transfer-Encoding is not allowed in HTTP/1.0"));
        }
        if self.content_length.is_some() {
            return Err(bad_framing("the request has both Transfer-Encoding and Content-Length"));
        }
        if self.transfer.chunked_count > 1 {
            return Err(bad_framing("the Transfer-Encoding names chunked more than once"));
        }
        if self.transfer.has_unknown {
            return Err(Problem::new(
                501,
                "unknown_transfer_coding",
                "unsupported transfer coding; only chunked is supported",
            ));
        }
        Ok(Framing::Chunked)
    }

    fn keep_alive(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }

    fn expects_continue(&self, version: Version) -> Result<bool, Problem> {
        if version == Version::Http10 {
            return Ok(false);
        }
        if self.other_expectation {
            return Err(Problem::new(
                417,
                "expectation_failed",
                "unsupported Expect header; only 100-continue is supported",
            ));
        }
        Ok(self.continues)
    }
}

impl Transfer {
    fn add(&mut self, value: &[u8]) -> Result<(), Problem> {
        self.is_present = true;
        for coding in elements(value) {
            let name = coding.split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
            if name.is_empty() || !name.iter().all(|&b| is_token_byte(b)) {
                return Err(bad_framing("the Transfer-Encoding header is malformed"));
            }
            // A parameter makes it another coding: chunked has none.
            let is_chunked = coding.eq_ignore_ascii_case(b"chunked");
            self.chunked_count += usize::from(is_chunked);
            self.has_unknown |= !is_chunked;
        }
        Ok(())
    }
}

/// The elements of a list, without the whitespace around them; empty ones included.
fn elements(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&b| b == b',').map(<[u8]>::trim_ascii)
}

/// Digits alone: no sign, no list. A number that no integer holds is over any limit all the same.
fn parse_length(value: &[u8]) -> Result<u64, Problem> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(bad_framing("the Content-Length header is not a number"));
    }
    let grow = |length: u64, digit: &u8| length.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Ok(value.iter().fold(0, grow))
}

/// A byte of a `token` (RFC 9110, section 5.6.2).
pub(super) fn is_token_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

fn bad_framing(detail: &'static str) -> Problem {
    Problem::new(400, "bad_framing", detail)
}

fn bad_host(detail: &'static str) -> Problem {
    Problem::new(400, "bad_host", detail)
}
