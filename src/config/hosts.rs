//! The host names that the server answers to: `events.example.com`, `events.example.com:8443`.

use std::net::IpAddr;

use super::address::is_host_name;

/// A list of hosts, each with or without a port, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// Reads the hosts; the first that is none comes back as the error.
    ///
    /// # Errors
    /// The text that is neither a host name nor an address (IPv6 in brackets), or has a port that is none. There are no
    /// patterns: a name that anyone could make up is what the list guards against.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, &'a str> {
        let normal = |text: &'a str| if is_host(text) { Ok(text.to_ascii_lowercase()) } else { Err(text) };
        texts.into_iter().map(normal).collect::<Result<_, _>>().map(Self)
    }

    /// The hosts.
    pub(crate) fn as_slice(&self) -> &[String] {
        &self.0
    }
}

fn is_host(text: &str) -> bool {
    let is_port = |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_address = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(v6) => v6.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()),
        None => host.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4()),
    };
    (is_address || is_host_name(host)) && port.is_none_or(is_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses_with_or_without_a_port() {
        let good =
            ["Events.Example.com", "a.example:8443", "stepcast", "192.0.2.1", "192.0.2.1:80", "[::1]", "[::1]:80"];
        let hosts = Hosts::parse(good).expect("hosts");
        assert_eq!(hosts.as_slice()[0], "events.example.com");
        for bad in [
            "",
            "*",
            "*.example.com",
            "https://a.example",
            "a.example/",
            "a.example:",
            "a:65536",
            "a:+1",
            "::1",
            "[a]",
            "1.2",
        ] {
            assert_eq!(Hosts::parse(["ok.example", bad]), Err(bad));
        }
    }
}
