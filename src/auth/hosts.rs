//! The host names that this server accepts.
//!
//! A web page of any host name can let that name resolve to this machine after it was loaded (DNS rebinding). The
//! browser then treats this server as the page's own origin. Only the `Host` header still shows the foreign name. IP
//! addresses can't be rebound, so every address is accepted.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::origin::is_of_host;

/// The accepted host names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts {
    /// In lower case, without port and trailing dot; none if every name is accepted.
    names: Option<Vec<String>>,
    /// The configured names, with their ports.
    listed: Vec<String>,
}

impl Hosts {
    /// Every name.
    pub fn any() -> Self {
        Self { names: None, listed: Vec::new() }
    }

    /// Addresses, `localhost`, what is `listed` (each with or without a port, which counts for [origins](super::Origins)
    /// alone), and the names `listened_at`.
    pub fn only<'a>(listed: &'a [String], listened_at: impl IntoIterator<Item = &'a str>) -> Self {
        let listed_names = listed.iter().map(String::as_str);
        let names = listed_names.chain(listened_at).chain(["localhost"]).map(|host| bare(host).to_ascii_lowercase());
        Self { names: Some(names.collect()), listed: listed.to_vec() }
    }

    /// Does this server go by the name in `host`, a `Host` that is one by its form? The port does not count: a proxy may
    /// have another one.
    pub fn knows(&self, host: &str) -> bool {
        let Some(names) = &self.names else { return true };
        let name = bare(host);
        is_address(name) || names.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    /// Is `origin` that of a page of this server, which was asked for as `host`? Where a proxy puts another `Host` in the
    /// place of the browser's, the page is known by the list alone.
    pub(super) fn is_own_origin(&self, origin: &str, host: Option<&str>) -> bool {
        host.is_some_and(|host| is_of_host(origin, host) && self.knows(host))
            || self.listed.iter().any(|listed| is_of_host(origin, listed))
    }
}

/// The name or address, without port and trailing dot.
fn bare(host: &str) -> &str {
    let end = match host.strip_prefix('[') {
        Some(bracketed) => bracketed.find(']').map_or(host.len(), |at| at + 2),
        None => host.find(':').unwrap_or(host.len()),
    };
    let name = &host[..end];
    name.strip_suffix('.').unwrap_or(name)
}

fn is_address(name: &str) -> bool {
    match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(v6) => v6.parse::<Ipv6Addr>().is_ok(),
        None => name.parse::<Ipv4Addr>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts() -> Hosts {
        Hosts::only(&["Events.example.com".to_owned(), "b.example:8443".to_owned()], ["box.internal"])
    }

    #[test]
    fn addresses_localhost_and_the_servers_names_are_known_and_no_other() {
        for known in [
            "127.0.0.1",
            "127.0.0.1:8080",
            "127.0.0.1.",
            "192.0.2.7:1",
            "[::1]",
            "[::1]:8080",
            "[2001:db8::1]:",
            "[::ffff:127.0.0.1]:80",
            "localhost",
            "LocalHost:8080",
            "localhost.",
            "localhost.:8080",
            "events.example.com",
            "EVENTS.example.com.:9",
            "b.example",
            "b.example:80",
            "box.internal:8080",
        ] {
            assert!(hosts().knows(known), "{known}");
        }
        for other in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1..",
            "localhost..",
            "xlocalhost",
            "a.events.example.com",
            "events.example",
            "127.0.0.256",
            "0x7f.1",
            "%6cocalhost",
            "",
            ".",
            ":80",
        ] {
            assert!(!hosts().knows(other), "{other}");
            assert!(Hosts::any().knows(other), "{other}");
        }
    }

    #[test]
    fn a_rebound_name_is_no_origin_of_this_server() {
        let own = |origin: &str, host| hosts().is_own_origin(origin, Some(host));
        assert!(own("http://127.0.0.1:8080", "127.0.0.1:8080") && own("http://localhost:1", "localhost:1"));
        assert!(!own("http://localhost:2", "localhost:1") && !own("http://127.0.0.1:2", "127.0.0.1:1"));
        assert!(!own("http://evil.example:8080", "evil.example:8080"));
        assert!(Hosts::any().is_own_origin("http://evil.example:8080", Some("evil.example:8080")));
    }

    #[test]
    fn a_listed_host_is_an_origin_of_this_server_whatever_host_its_proxy_asks_for() {
        let own = |origin: &str| hosts().is_own_origin(origin, Some("127.0.0.1:8080"));
        assert!(own("https://events.example.com") && own("http://events.example.com") && own("https://b.example:8443"));
        assert!(!own("https://events.example.com:3000") && !own("https://b.example") && !own("https://a.example"));
        assert!(hosts().is_own_origin("https://b.example:8443", None));
    }
}
