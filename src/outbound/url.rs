//! URLs that the server itself requests, parsed once when they are configured.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The longest url, in bytes.
const URL_BYTES_MAX: usize = 2048;

/// `https://` or `http://`, a host, perhaps a port, path and query. No credentials and no fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    text: String,
    /// Without brackets.
    host: String,
    is_https: bool,
}

impl Url {
    /// Reads a url. So strict that no other reader can see another host in it.
    ///
    /// # Errors
    /// What is wrong with it; its text is not repeated.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let rest = strip_scheme(text).ok_or("a URL must begin with https:// or http://")?;
        if text.len() > URL_BYTES_MAX {
            return Err("a URL must not be longer than 2048 bytes");
        }
        if !text.bytes().all(|b| b.is_ascii_graphic() && !b"\"#<>\\^`{|}".contains(&b)) {
            return Err("a URL must not contain spaces, a fragment, or characters that need percent-encoding");
        }
        let authority = &rest[..authority_len(rest)];
        if authority.contains('@') {
            return Err("a URL must not contain credentials");
        }
        let host = host(authority).ok_or("a URL must contain a host, such as https://id.example.com/keys")?;
        let is_https = text.len() - rest.len() == "https://".len();
        Ok(Self { text: text.to_owned(), host: host.to_ascii_lowercase(), is_https })
    }

    /// The url as it was written.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The host, without brackets, in lower case.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Is the connection safe from others on the way: is it TLS, or a server on this machine?
    pub(crate) fn is_guarded(&self) -> bool {
        self.is_https || self.is_loopback()
    }

    /// Is it a server on this machine, by its address or as `localhost`?
    pub(crate) fn is_loopback(&self) -> bool {
        let v4 = self.host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback());
        let v6 = self.host.parse::<Ipv6Addr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
        v4 || v6 || self.host == "localhost"
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The part after `http://` or `https://`; none if it begins with neither.
pub(crate) fn strip_scheme(url: &str) -> Option<&str> {
    let strip = |scheme: &str| url.get(..scheme.len())?.eq_ignore_ascii_case(scheme).then(|| &url[scheme.len()..]);
    strip("http://").or_else(|| strip("https://"))
}

/// Scheme and authority of a url: what of it an error may show, for path and query may hold secrets.
pub(crate) fn origin(url: &str) -> &str {
    match strip_scheme(url) {
        Some(rest) => &url[..url.len() - rest.len() + authority_len(rest)],
        None => url,
    }
}

fn authority_len(text: &str) -> usize {
    text.find(['/', '?', '#']).unwrap_or(text.len())
}

/// The host of an authority, without brackets. `None` if the host or the port is invalid.
fn host(authority: &str) -> Option<&str> {
    let is_port = |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
    if let Some(bracketed) = authority.strip_prefix('[') {
        let (host, port) = bracketed.split_once(']')?;
        let is_good =
            host.parse::<Ipv6Addr>().is_ok() && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
        return is_good.then_some(host);
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let is_plain = host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    let has_labels = host.split('.').all(|label| !label.is_empty());
    (is_plain && has_labels && port.is_none_or(is_port)).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_whether_anyone_on_the_way_can_change_the_answer() {
        for (text, guarded, loopback) in [
            ("https://id.example.com/.well-known/jwks.json", true, false),
            ("HTTPS://id.example.com:8443?x=1", true, false),
            ("http://id.example.com/keys", false, false),
            ("http://127.0.0.1:9/keys", true, true),
            ("http://127.9.9.9", true, true),
            ("http://LocalHost:1", true, true),
            ("http://[::1]:9/keys", true, true),
            ("http://[::ffff:127.0.0.1]/", true, true),
            ("http://localhost.example.com/", false, false),
            ("http://127.0.0.1.example.com/", false, false),
            ("http://2130706433/", false, false),
            ("http://127.1/", false, false),
        ] {
            let url = Url::parse(text).expect(text);
            assert_eq!((url.is_guarded(), url.is_loopback(), url.as_str()), (guarded, loopback, text));
        }
    }

    #[test]
    fn what_readers_could_take_for_different_hosts_is_no_url() {
        let long = format!("https://a/{}", "x".repeat(URL_BYTES_MAX));
        for bad in [
            "",
            "id.example.com",
            "ftp://id.example.com",
            "https://",
            "https:///x",
            "https://?x",
            "https://user:pw@id.example.com/",
            "https://good.example\\@evil.example/",
            "https://good.example#@evil.example/",
            "https://a b/",
            "https://a/ b",
            "https://a/{x}",
            "https://a..b/",
            "https://.a/",
            "https://a:65536/",
            "https://a:+1/",
            "https://a:1:2/",
            "https://[::1/",
            "https://[a]/",
            "https://[::1]x/",
            "https://ex\u{e4}mple.com/",
            &long,
        ] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_origin_has_no_path_and_no_query() {
        assert_eq!(origin("https://a.example:1/x?token=1"), "https://a.example:1");
        assert_eq!(origin("http://a.example?x"), "http://a.example");
        assert_eq!(origin("x"), "x");
    }
}
