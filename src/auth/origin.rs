//! Browser origins: which pages may make calls, and the CORS headers for their browser.

use std::borrow::Cow;
use std::fmt;

use super::Hosts;

/// A response header: its name and value.
type Header<'a> = (&'static str, Cow<'a, str>);

/// The list entry for all origins.
const ANY: &str = "*";

/// The methods of all calls.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, QUERY, OPTIONS";

/// The request headers that calls read, in addition to those that browsers always allow.
const REQUEST_HEADERS: &str = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Cache-Control, Range, \
    If-Match, If-Range, If-None-Match, User-Agent";

/// The response headers that scripts need, in addition to those that browsers always expose.
const EXPOSED_HEADERS: &str = "Accept-Ranges, Allow, Content-Range, ETag, Idempotent-Replay, Link, Retry-After, Stepcast-Attempt, \
    WWW-Authenticate";

/// How long a browser may cache a preflight, in seconds: the maximum of Chromium.
const PREFLIGHT_MAX_AGE: &str = "7200";

/// The origins whose pages may make calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins {
    listed: Vec<String>,
    any: bool,
}

/// A list entry that is not an origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginError(String);

/// The verdict on the `Origin` of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// The request has no `Origin`: no page of another origin made it, or it changes nothing.
    NoOrigin,
    /// A page of this server.
    SameOrigin,
    /// A page of this listed origin, which is echoed and may send credentials.
    Listed(&'a str),
    /// A page of an unlisted origin, if `*` allows every origin to make calls without credentials.
    Any,
    /// A page that may not make calls.
    Denied,
}

impl Origins {
    /// The origins of `list`: `scheme://host` or `scheme://host:port` each, or `*` for every one, which is answered
    /// without `Access-Control-Allow-Credentials`. By default none but the server's own.
    ///
    /// # Errors
    /// [`OriginError`] names the entry that is none of these.
    pub fn new<S: AsRef<str>>(list: &[S]) -> Result<Self, OriginError> {
        let mut origins = Self::default();
        for entry in list.iter().map(AsRef::as_ref) {
            if entry == ANY {
                origins.any = true;
            } else {
                origins.listed.push(normal_form(entry).ok_or_else(|| OriginError(entry.to_owned()))?);
            }
        }
        Ok(origins)
    }

    /// What the headers `Origin` and `Host` of a request to a server of these `hosts` mean.
    pub fn judge<'a>(&self, origin: Option<&'a str>, host: Option<&str>, hosts: &Hosts) -> Verdict<'a> {
        let Some(origin) = origin else { return Verdict::NoOrigin };
        if hosts.is_own_origin(origin, host) {
            Verdict::SameOrigin
        } else if self.listed.iter().any(|listed| listed.eq_ignore_ascii_case(origin)) {
            Verdict::Listed(origin)
        } else if self.any {
            Verdict::Any
        } else {
            Verdict::Denied
        }
    }

    /// The headers for a response, including errors and streams.
    pub fn headers<'a>(&self, verdict: Verdict<'a>) -> Vec<Header<'a>> {
        let mut headers = self.permission(verdict);
        if matches!(verdict, Verdict::Listed(_) | Verdict::Any) {
            headers.push(("Access-Control-Expose-Headers", EXPOSED_HEADERS.into()));
        }
        headers
    }

    /// The headers that the answer to a preflight gets. Without permission in them, the browser takes it for a no.
    pub fn preflight_headers<'a>(&self, verdict: Verdict<'a>) -> Vec<Header<'a>> {
        let mut headers = self.permission(verdict);
        if matches!(verdict, Verdict::Listed(_) | Verdict::Any) {
            headers.push(("Access-Control-Allow-Methods", METHODS.into()));
            headers.push(("Access-Control-Allow-Headers", REQUEST_HEADERS.into()));
            headers.push(("Access-Control-Max-Age", PREFLIGHT_MAX_AGE.into()));
        }
        headers
    }

    fn permission<'a>(&self, verdict: Verdict<'a>) -> Vec<Header<'a>> {
        let mut headers: Vec<Header<'a>> = Vec::new();
        if self.any || !self.listed.is_empty() {
            // Also where this request names no origin: one that does gets another answer.
            headers.push(("Vary", "Origin".into()));
        }
        match verdict {
            Verdict::Listed(origin) => {
                headers.push(("Access-Control-Allow-Origin", origin.into()));
                headers.push(("Access-Control-Allow-Credentials", "true".into()));
            }
            Verdict::Any => headers.push(("Access-Control-Allow-Origin", ANY.into())),
            Verdict::NoOrigin | Verdict::SameOrigin | Verdict::Denied => {}
        }
        headers
    }
}

impl Verdict<'_> {
    /// Is the call to be refused with 403? Only where it `changes_state`: what a page may not read, its browser keeps
    /// from it.
    pub fn refuses(self, changes_state: bool) -> bool {
        changes_state && self == Self::Denied
    }
}

impl fmt::Display for OriginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not an origin; expected scheme://host, scheme://host:port or *", self.0)
    }
}

impl std::error::Error for OriginError {}

/// The origin as a browser writes it: in lower case, without the scheme's own port. None if it is no origin, as
/// `null` is none: every sandboxed page of the world shares it.
fn normal_form(entry: &str) -> Option<String> {
    let entry = entry.to_ascii_lowercase();
    let (scheme, authority) = entry.split_once("://")?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    let authority = without_default_port(scheme, authority);
    let is_authority = !authority.is_empty()
        && authority.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']'));
    (is_scheme && is_authority).then(|| format!("{scheme}://{authority}"))
}

/// Is `origin` that of a page that came from `host`? The scheme is not known here, since a proxy may do the TLS.
pub(super) fn is_of_host(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let is_web = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    is_web && without_default_port(scheme, authority).eq_ignore_ascii_case(without_default_port(scheme, host))
}

fn without_default_port<'a>(scheme: &str, authority: &'a str) -> &'a str {
    let port = if scheme.eq_ignore_ascii_case("https") {
        ":443"
    } else if scheme.eq_ignore_ascii_case("http") {
        ":80"
    } else {
        return authority;
    };
    authority.strip_suffix(port).unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: &str = "https://app.example.com";

    fn names<'a>(headers: &'a [Header<'a>]) -> Vec<(&'a str, &'a str)> {
        headers.iter().map(|(name, value)| (*name, &**value)).collect()
    }

    #[test]
    fn an_origin_is_own_listed_or_denied() {
        let origins = Origins::new(&["HTTPS://App.Example.com:443", "http://localhost:3000"]).expect("origins");
        for (origin, host, verdict) in [
            (None, Some("h"), Verdict::NoOrigin),
            (Some("http://h"), Some("h"), Verdict::SameOrigin),
            (Some("https://h"), Some("H"), Verdict::SameOrigin),
            (Some("https://h"), Some("h:443"), Verdict::SameOrigin),
            (Some("http://h"), Some("h:443"), Verdict::Denied),
            (Some("http://h:8080"), Some("h:8080"), Verdict::SameOrigin),
            (Some("http://[::1]:8080"), Some("[::1]:8080"), Verdict::SameOrigin),
            (Some("http://h:8081"), Some("h:8080"), Verdict::Denied),
            (Some("http://h.evil"), Some("h"), Verdict::Denied),
            (Some("ftp://h"), Some("h"), Verdict::Denied),
            (Some("http://h"), None, Verdict::Denied),
            (Some("null"), Some("h"), Verdict::Denied),
            (Some(""), Some(""), Verdict::Denied),
            (Some(APP), Some("h"), Verdict::Listed(APP)),
            (Some("http://localhost:3000"), Some("h"), Verdict::Listed("http://localhost:3000")),
            (Some("http://localhost:3001"), Some("h"), Verdict::Denied),
            (Some("http://app.example.com"), Some("h"), Verdict::Denied),
            (Some("https://app.example.com.evil"), Some("h"), Verdict::Denied),
        ] {
            assert_eq!(origins.judge(origin, host, &Hosts::any()), verdict, "{origin:?} at {host:?}");
        }
    }

    #[test]
    fn only_a_denied_call_that_changes_state_is_refused() {
        assert!(Verdict::Denied.refuses(true) && !Verdict::Denied.refuses(false));
        for verdict in [Verdict::NoOrigin, Verdict::SameOrigin, Verdict::Listed(APP), Verdict::Any] {
            assert!(!verdict.refuses(true), "{verdict:?}");
        }
    }

    #[test]
    fn a_listed_origin_is_echoed_with_credentials() {
        let origins = Origins::new(&[APP]).expect("an origin");
        let permission =
            [("Vary", "Origin"), ("Access-Control-Allow-Origin", APP), ("Access-Control-Allow-Credentials", "true")];
        let headers = origins.headers(Verdict::Listed(APP));
        assert_eq!(names(&headers)[..3], permission);
        assert_eq!(names(&headers)[3..], [("Access-Control-Expose-Headers", EXPOSED_HEADERS)]);
        let preflight = origins.preflight_headers(Verdict::Listed(APP));
        assert_eq!(names(&preflight)[..3], permission);
        assert_eq!(names(&preflight)[3..].len(), 3);
        for other in [Verdict::NoOrigin, Verdict::SameOrigin, Verdict::Denied] {
            assert_eq!(names(&origins.headers(other)), [("Vary", "Origin")], "{other:?}");
            assert_eq!(names(&origins.preflight_headers(other)), [("Vary", "Origin")], "{other:?}");
        }
    }

    #[test]
    fn any_origin_may_call_without_credentials() {
        let origins = Origins::new(&["*", APP]).expect("origins");
        let judge = |origin| origins.judge(Some(origin), None, &Hosts::any());
        assert_eq!((judge(APP), judge("null")), (Verdict::Listed(APP), Verdict::Any));
        let headers = origins.headers(Verdict::Any);
        assert_eq!(names(&headers)[..2], [("Vary", "Origin"), ("Access-Control-Allow-Origin", "*")]);
        assert!(!names(&headers).iter().any(|(name, _)| name.ends_with("Credentials")));
    }

    #[test]
    fn without_a_list_no_answer_has_headers() {
        let origins = Origins::new::<&str>(&[]).expect("none");
        for verdict in [Verdict::NoOrigin, Verdict::SameOrigin, Verdict::Denied] {
            assert_eq!(origins.headers(verdict), []);
        }
    }

    #[test]
    fn an_entry_that_is_no_origin_is_named() {
        for good in ["http://h", "https://h:8443", "http://[::1]:3000", "tauri://localhost", "chrome-extension://abc"] {
            assert_eq!(Origins::new(&[good]).map(|origins| origins.listed), Ok(vec![good.to_owned()]));
        }
        for bad in [
            "",
            "null",
            "h",
            "https://",
            "https://:443",
            "https://h/",
            "https://h/x",
            "https://*.h",
            "a b://h",
            "1://h",
        ] {
            let error = Origins::new(&[bad]).expect_err(bad);
            assert!(error.to_string().starts_with(&format!("{bad:?} is not an origin")), "{error}");
        }
    }
}
