//! Lists of server names: those that may be contacted in addition to the one in a URL, or although they are not public.

use ureq::http::Uri;

/// Hosts, compared with the url as the client itself reads it, so that no two readers can differ.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hosts(Vec<Entry>);

#[derive(Debug, Clone)]
struct Entry {
    /// In lower case; of `*.domain` what follows the star, with its dot.
    name: String,
    is_suffix: bool,
    /// The scheme's own where none is given.
    port: Option<u16>,
}

impl Hosts {
    /// Reads `allow_hosts`.
    ///
    /// # Errors
    /// Names the entry that is no host.
    pub(crate) fn compile(entries: &[String]) -> Result<Self, String> {
        let read = entries.iter().enumerate().map(|(at, entry)| {
            Entry::read(entry).ok_or_else(|| {
                format!(
                    "allow_hosts[{at}]: must be a host such as `api.example.com`, `*.example.com` or `localhost:8080`"
                )
            })
        });
        read.collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Is the server of `url` one of these?
    pub(crate) fn allow(&self, url: &str) -> bool {
        let Ok(uri) = url.parse::<Uri>() else { return false };
        let (Some(host), Some(own_port)) = (uri.host(), own_port(&uri)) else { return false };
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return false;
        }
        let host = host.to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        let port = uri.port_u16().unwrap_or(own_port);
        self.0.iter().any(|entry| entry.has(host) && entry.port.unwrap_or(own_port) == port)
    }
}

impl Entry {
    fn read(entry: &str) -> Option<Self> {
        let (rest, is_suffix) = match entry.strip_prefix('*') {
            Some(rest) if rest.starts_with('.') => (&rest[1..], true),
            _ => (entry, false),
        };
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
        if rest.is_empty() || !rest.bytes().all(is_plain) {
            return None;
        }
        let uri = format!("http://{rest}/").parse::<Uri>().ok()?;
        let host = uri.host().filter(|host| !host.is_empty() && !host.starts_with('.'))?.to_ascii_lowercase();
        let port = uri.port_u16();
        if uri.authority()?.as_str().len() != host.len() + port.map_or(0, |port| format!(":{port}").len()) {
            return None;
        }
        Some(Self { name: if is_suffix { format!(".{host}") } else { host }, is_suffix, port })
    }

    fn has(&self, host: &str) -> bool {
        if self.is_suffix { host.len() > self.name.len() && host.ends_with(&self.name) } else { host == self.name }
    }
}

fn own_port(uri: &Uri) -> Option<u16> {
    match uri.scheme_str()? {
        "https" => Some(443),
        "http" => Some(80),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(entries: &[&str]) -> Result<Hosts, String> {
        Hosts::compile(&entries.iter().map(|&entry| entry.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_server_is_allowed_by_name_and_port() {
        let hosts = hosts(&["api.example", "*.b.example:8080", "[::1]:9", "127.0.0.1:1"]).expect("hosts");
        for (url, expected) in [
            ("https://api.example/x", true),
            ("http://API.example./x", true),
            ("https://api.example:443/x", true),
            ("https://api.example:80/x", false),
            ("https://api.example:8443/x", false),
            ("https://api.example.evil/x", false),
            ("https://evil.example/api.example", false),
            ("https://api.example@evil.example/", false),
            ("https://user:password@api.example/", false),
            ("https://evil.example#@api.example", false),
            ("https://evil.example\\@api.example/", false),
            ("http://x.y.b.example:8080", true),
            ("http://b.example:8080", false),
            ("http://.b.example:8080", false),
            ("http://evilb.example:8080", false),
            ("http://x.b.example", false),
            ("http://[::1]:9/", true),
            ("http://127.0.0.1:1/", true),
            ("http://2130706433:1/", false),
            ("ftp://api.example/", false),
            ("/x", false),
        ] {
            assert_eq!(hosts.allow(url), expected, "{url}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for entry in
            ["", "*", "*.", "a*.b", "http://a", "a/b", "a b", "u@a", "a:", "a:99999", "a:x", "{{ inputs.x }}", ".a"]
        {
            let refused = hosts(&["ok", entry]).expect_err(entry);
            assert!(refused.starts_with("allow_hosts[1]: "), "{refused}");
        }
    }
}
