//! The address of a server, as users write it.

use std::fmt;
use std::str::FromStr;

/// `http://HOST[:PORT][/PREFIX]`, or the same with `https`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl {
    /// Over TLS?
    pub(in crate::cli) is_secure: bool,
    /// Host, and port where one is given.
    pub(in crate::cli) authority: String,
    /// What the server's paths begin with behind a proxy; empty or `/...` without a slash at its end.
    prefix: String,
}

impl ServerUrl {
    /// Of a server that listens here.
    pub(crate) fn of(address: std::net::SocketAddr) -> Self {
        Self { is_secure: false, authority: address.to_string(), prefix: String::new() }
    }

    /// What to connect to: host and port.
    pub(in crate::cli) fn host_and_port(&self) -> String {
        let behind_host = self.authority.rfind(']').unwrap_or(0);
        let has_port = self.authority[behind_host..].contains(':');
        let port = if self.is_secure { 443 } else { 80 };
        if has_port { self.authority.clone() } else { format!("{}:{port}", self.authority) }
    }

    /// The host alone, an IPv6 address without its brackets.
    pub(in crate::cli) fn host(&self) -> &str {
        match self.authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, _)) => address,
            None => self.authority.split(':').next().unwrap_or_default(),
        }
    }

    /// The target of a request for `path`.
    pub(in crate::cli) fn target(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.prefix)
    }
}

impl FromStr for ServerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected an address such as http://127.0.0.1:8080";
        let (is_secure, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            _ => return Err(expected.to_owned()),
        };
        let at = rest.find('/').unwrap_or(rest.len());
        let (authority, prefix) = rest.split_at(at);
        // What would end the request line, or be read as something else than a host and a path.
        let is_plain = |c: char| c.is_ascii_graphic() && !"@?#\\\"<>".contains(c);
        if authority.is_empty() || !rest.chars().all(is_plain) {
            return Err(expected.to_owned());
        }
        let prefix = prefix.trim_end_matches('/').to_owned();
        Ok(Self { is_secure, authority: authority.to_owned(), prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        for (text, connect, target) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080", "/x"),
            ("http://example.com/", "example.com:80", "/x"),
            ("http://[::1]", "[::1]:80", "/x"),
            ("http://[::1]:81/a/b/", "[::1]:81", "/a/b/x"),
            ("https://example.com", "example.com:443", "/x"),
        ] {
            let url: ServerUrl = text.parse().expect("is one");
            assert_eq!((url.host_and_port().as_str(), url.target("/x").as_str()), (connect, target));
            assert_eq!(url.to_string(), text.trim_end_matches('/'));
        }
        assert!("https://example.com".parse::<ServerUrl>().is_ok_and(|url| url.is_secure));
        for (text, host) in [("http://a.b:1/x", "a.b"), ("http://[::1]:81", "::1"), ("http://[::1]", "::1")] {
            assert_eq!(text.parse::<ServerUrl>().expect("is one").host(), host);
        }
        let bad = [
            "",
            "localhost:8080",
            "ftp://x",
            "http://",
            "http:///x",
            "http://a b",
            "http://a/?q",
            "http://u@h",
            "http://a\r\n",
        ];
        for text in bad {
            assert!(text.parse::<ServerUrl>().is_err(), "{text:?}");
        }
    }
}
