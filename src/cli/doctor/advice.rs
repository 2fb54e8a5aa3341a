//! Identifies the proxy, and names the line of its configuration to change.

use std::fmt;

use super::finding::Finding;

/// A proxy whose configuration is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proxy {
    Nginx,
    Caddy,
    Apache,
    Haproxy,
    Cloudflare,
}

impl Proxy {
    const ALL: [Self; 5] = [Self::Nginx, Self::Caddy, Self::Apache, Self::Haproxy, Self::Cloudflare];

    /// The one that calls itself so in `Server` or `Via`. HAProxy says nothing of itself.
    pub(super) fn called(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let names = [
            ("nginx", Self::Nginx),
            ("openresty", Self::Nginx),
            ("caddy", Self::Caddy),
            ("apache", Self::Apache),
            ("haproxy", Self::Haproxy),
            ("cloudflare", Self::Cloudflare),
        ];
        names.into_iter().find(|(name, _)| text.contains(name)).map(|(_, proxy)| proxy)
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nginx => "nginx",
            Self::Caddy => "Caddy",
            Self::Apache => "Apache",
            Self::Haproxy => "HAProxy",
            Self::Cloudflare => "Cloudflare",
        })
    }
}

/// What to change, a line each: for the proxy that it is, or for all where that is not known.
pub(super) fn lines(finding: &Finding, proxy: Option<Proxy>) -> Vec<String> {
    if let Some(line) = of_server(finding) {
        return vec![format!("stepcast: {line}")];
    }
    let proxies = Proxy::ALL.into_iter().filter(|known| proxy.is_none_or(|it| it == *known));
    proxies.filter_map(|proxy| Some(format!("{proxy}: {}", of_proxy(finding, proxy)?))).collect()
}

/// Of what is for the server's configuration.
fn of_server(finding: &Finding) -> Option<String> {
    match finding {
        Finding::UntrustedProxy { address } => {
            Some(format!("add \"{address}\" to limits.trusted_proxies, and keep what is there"))
        }
        Finding::NoTls => Some("put a proxy with TLS in front of it".to_owned()),
        _ => None,
    }
}

fn of_proxy(finding: &Finding, proxy: Proxy) -> Option<String> {
    use Proxy::{Apache, Caddy, Cloudflare, Haproxy, Nginx};
    let line = match (finding, proxy) {
        (Finding::OldVersion, Nginx) => "proxy_http_version 1.1; proxy_set_header Connection \"\";",
        (Finding::OldVersion, Apache) => "remove SetEnv force-proxy-request-1.0",
        (Finding::OldVersion, Caddy) => "transport http { versions 1.1 }",
        (Finding::OldVersion, _) => return None,
        (Finding::HostChanged { .. }, Nginx) => "proxy_set_header Host $http_host;",
        (Finding::HostChanged { .. }, Caddy) => "remove header_up Host",
        (Finding::HostChanged { .. }, Apache) => "ProxyPreserveHost On",
        (Finding::HostChanged { .. }, Haproxy) => "remove http-request set-header host",
        (Finding::HostChanged { .. }, Cloudflare) => "remove the Origin Rule that rewrites the Host header",
        (Finding::NoForwardedFor, Nginx) => "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
        (Finding::NoForwardedFor, Caddy) => "remove header_up -X-Forwarded-For",
        (Finding::NoForwardedFor, Apache) => "ProxyAddHeaders On",
        (Finding::NoForwardedFor, Haproxy) => "option forwardfor",
        (Finding::NoForwardedFor, Cloudflare) => "remove the Transform Rule that removes visitor IP headers",
        (Finding::ForgedForwardedFor, Nginx) => "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
        (Finding::ForgedForwardedFor, Caddy) => "remove header_up X-Forwarded-For, and trusted_proxies for clients",
        (Finding::ForgedForwardedFor, Apache) => "ProxyAddHeaders On",
        (Finding::ForgedForwardedFor, Haproxy) => "option forwardfor, without if-none",
        (Finding::ForgedForwardedFor, Cloudflare) => return None,
        (Finding::LastEventIdLost, Nginx) => "proxy_pass_request_headers on; and remove proxy_set_header Last-Event-ID",
        (Finding::LastEventIdLost, Caddy) => "remove header_up -Last-Event-ID",
        (Finding::LastEventIdLost, Apache) => "remove RequestHeader unset Last-Event-ID",
        (Finding::LastEventIdLost, Haproxy) => "remove http-request del-header last-event-id",
        (Finding::LastEventIdLost, Cloudflare) => "remove the Transform Rule that removes Last-Event-ID",
        (Finding::Compressed { .. }, Nginx) => "remove text/event-stream (or *) from gzip_types, or: gzip off;",
        (Finding::Compressed { .. }, Caddy) => "remove text/event-stream* from the match of encode",
        (Finding::Compressed { .. }, Apache) => "SetEnvIf Request_URI \"^/api/\" no-gzip=1 no-brotli=1",
        (Finding::Compressed { .. }, Haproxy) => "remove text/event-stream from compression type",
        (Finding::Compressed { .. }, Cloudflare) => "add a Compression Rule for /api/ with: Disable compression",
        (Finding::Buffered { .. } | Finding::NoHeartbeat { .. }, Nginx) => {
            "proxy_buffering off; (or remove proxy_ignore_headers X-Accel-Buffering)"
        }
        (Finding::Buffered { .. } | Finding::NoHeartbeat { .. }, Caddy) => {
            "remove response_buffers from reverse_proxy, and text/event-stream* from the match of encode"
        }
        (Finding::Buffered { .. } | Finding::NoHeartbeat { .. }, Apache) => {
            "ProxyPass / http://127.0.0.1:8080/ flushpackets=on"
        }
        (Finding::Buffered { .. } | Finding::NoHeartbeat { .. }, Haproxy) => "option http-no-delay",
        (Finding::Buffered { .. } | Finding::NoHeartbeat { .. }, Cloudflare) => "turn Response Buffering off",
        (Finding::BodyRefused { bytes, .. }, Nginx) => return Some(format!("client_max_body_size {bytes};")),
        (Finding::BodyRefused { bytes, .. }, Caddy) => {
            return Some(format!("request_body {{ max_size {bytes} }}"));
        }
        (Finding::BodyRefused { bytes, .. }, Apache) => return Some(format!("LimitRequestBody {bytes}")),
        (Finding::BodyRefused { .. }, Haproxy) => "remove the http-request deny that looks at the body's size",
        (Finding::BodyRefused { .. }, Cloudflare) => "the largest body depends on the plan (100 MB and up)",
        (Finding::IdleCut { .. }, Nginx) => "proxy_read_timeout 60s; (more than sse.heartbeat, 15 s by default)",
        (Finding::IdleCut { .. }, Caddy) => "remove read_timeout from transport http, or raise it above sse.heartbeat",
        (Finding::IdleCut { .. }, Apache) => "ProxyTimeout 60 (more than sse.heartbeat, 15 s by default)",
        (Finding::IdleCut { .. }, Haproxy) => "timeout server 60s, timeout client 60s (more than sse.heartbeat)",
        (Finding::IdleCut { .. }, Cloudflare) => "lower sse.heartbeat of stepcast below 100 s",
        (Finding::Cut { .. }, Nginx) => "remove whatever bounds an answer as a whole, such as a second proxy's timeout",
        (Finding::Cut { .. }, Caddy) => "remove write from servers { timeouts }, and stream_timeout from reverse_proxy",
        (Finding::Cut { .. }, Apache) => "raise Timeout and ProxyTimeout",
        (Finding::Cut { .. }, Haproxy) => "remove timeout tunnel, and whatever bounds an answer as a whole",
        (Finding::Cut { .. }, Cloudflare) => return None,
        (Finding::StreamsStayOpen { .. }, Nginx) => "proxy_ignore_client_abort off;",
        (Finding::StreamsStayOpen { .. }, Caddy) => "remove flush_interval -1 from reverse_proxy",
        (Finding::StreamsStayOpen { .. }, Apache | Haproxy) => {
            "it learns that when it next sends something: lower sse.heartbeat of stepcast (15 s by default)"
        }
        (Finding::StreamsStayOpen { .. }, Cloudflare) => return None,
        (Finding::NoHttp2, Nginx) => "http2 on; (before 1.25: listen 443 ssl http2;)",
        (Finding::NoHttp2, Caddy) => "add h2 to protocols in servers",
        (Finding::NoHttp2, Apache) => "Protocols h2 http/1.1",
        (Finding::NoHttp2, Haproxy) => "bind :443 ssl crt FILE alpn h2,http/1.1",
        (Finding::NoHttp2, Cloudflare) => "turn HTTP/2 on (Speed, Protocol Optimization)",
        (Finding::UntrustedProxy { .. } | Finding::NoTls, _) => return None,
    };
    Some(line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_known_by_what_they_call_themselves() {
        for (text, expected) in [
            ("nginx/1.22.1", Some(Proxy::Nginx)),
            ("1.1 Caddy", Some(Proxy::Caddy)),
            ("Apache/2.4.62 (Debian)", Some(Proxy::Apache)),
            ("cloudflare", Some(Proxy::Cloudflare)),
            ("gws", None),
        ] {
            assert_eq!(Proxy::called(text), expected, "{text}");
        }
    }

    #[test]
    fn the_line_of_the_proxy_that_it_is_is_told_alone() {
        let lines_of = |finding: Finding, proxy| lines(&finding, proxy);
        assert_eq!(lines_of(Finding::NoForwardedFor, Some(Proxy::Haproxy)), ["HAProxy: option forwardfor"]);
        assert_eq!(lines_of(Finding::NoForwardedFor, None).len(), 5);
        let untrusted = Finding::UntrustedProxy { address: "10.0.0.2".to_owned() };
        let expected = "stepcast: add \"10.0.0.2\" to limits.trusted_proxies, and keep what is there";
        assert_eq!(lines_of(untrusted, Some(Proxy::Nginx)), [expected]);
    }
}
