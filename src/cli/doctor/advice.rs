//! Identifies the proxy, and names the line of its configuration to change.

use std::fmt;

use super::finding::Finding;

/// A proxy whose configuration is known.
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

    /// The proxy that names itself in `Server` or `Via`. HAProxy does not.
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

/// The changes to make, one per line: for this proxy, or for all proxies if it is unknown.
pub(super) fn lines(finding: &Finding, proxy: Option<Proxy>) -> Vec<String> {
    if let Some(line) = of_server(finding) {
        return vec![format!("stepcast: {line}")];
    }
    let proxies = Proxy::ALL.into_iter().filter(|known| proxy.is_none_or(|it| it == *known));
    proxies.filter_map(|proxy| Some(format!("{proxy}: {}", of_proxy(finding, proxy)?))).collect()
}

/// A change of the server's configuration.
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
    if let Finding::BodyRefused { bytes, .. } = finding {
        return Some(of_body(*bytes, proxy));
    }
    let line = match proxy {
        Proxy::Nginx => of_nginx(finding),
        Proxy::Caddy => of_caddy(finding),
        Proxy::Apache => of_apache(finding),
        Proxy::Haproxy => of_haproxy(finding),
        Proxy::Cloudflare => of_cloudflare(finding),
    };
    line.map(str::to_owned)
}

fn of_nginx(finding: &Finding) -> Option<&'static str> {
    Some(match finding {
        Finding::OldVersion => "proxy_http_version 1.1; proxy_set_header Connection \"\";",
        Finding::HostChanged { .. } => "proxy_set_header Host $http_host;",
        Finding::NoForwardedFor => "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
        Finding::ForgedForwardedFor => "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
        Finding::LastEventIdLost => "proxy_pass_request_headers on; and remove proxy_set_header Last-Event-ID",
        Finding::Compressed { .. } => "remove text/event-stream (or *) from gzip_types, or: gzip off;",
        Finding::Buffered { .. } | Finding::NoHeartbeat { .. } => {
            "proxy_buffering off; (or remove proxy_ignore_headers X-Accel-Buffering)"
        }
        Finding::IdleCut { .. } => "proxy_read_timeout 60s; (more than sse.heartbeat, 15 s by default)",
        Finding::Cut { .. } => "remove whatever bounds an answer as a whole, such as a second proxy's timeout",
        Finding::StreamsStayOpen { .. } => "proxy_ignore_client_abort off;",
        Finding::NoHttp2 => "http2 on; (before 1.25: listen 443 ssl http2;)",
        Finding::UntrustedProxy { .. } | Finding::NoTls | Finding::BodyRefused { .. } => return None,
    })
}

fn of_caddy(finding: &Finding) -> Option<&'static str> {
    Some(match finding {
        Finding::OldVersion => "transport http { versions 1.1 }",
        Finding::HostChanged { .. } => "remove header_up Host",
        Finding::NoForwardedFor => "remove header_up -X-Forwarded-For",
        Finding::ForgedForwardedFor => "remove header_up X-Forwarded-For, and trusted_proxies for clients",
        Finding::LastEventIdLost => "remove header_up -Last-Event-ID",
        Finding::Compressed { .. } => "remove text/event-stream* from the match of encode",
        Finding::Buffered { .. } | Finding::NoHeartbeat { .. } => {
            "remove response_buffers from reverse_proxy, and text/event-stream* from the match of encode"
        }
        Finding::IdleCut { .. } => "remove read_timeout from transport http, or raise it above sse.heartbeat",
        Finding::Cut { .. } => "remove write from servers { timeouts }, and stream_timeout from reverse_proxy",
        Finding::StreamsStayOpen { .. } => "remove flush_interval -1 from reverse_proxy",
        Finding::NoHttp2 => "add h2 to protocols in servers",
        Finding::UntrustedProxy { .. } | Finding::NoTls | Finding::BodyRefused { .. } => return None,
    })
}

/// For a proxy that notices that a client has left only when it sends to it.
const LEARNS_LATE: &str =
    "it learns that when it next sends something: lower sse.heartbeat of stepcast (15 s by default)";

fn of_apache(finding: &Finding) -> Option<&'static str> {
    Some(match finding {
        Finding::OldVersion => "remove SetEnv force-proxy-request-1.0",
        Finding::HostChanged { .. } => "ProxyPreserveHost On",
        Finding::NoForwardedFor => "ProxyAddHeaders On",
        Finding::ForgedForwardedFor => "ProxyAddHeaders On",
        Finding::LastEventIdLost => "remove RequestHeader unset Last-Event-ID",
        Finding::Compressed { .. } => "SetEnvIf Request_URI \"^/api/\" no-gzip=1 no-brotli=1",
        Finding::Buffered { .. } | Finding::NoHeartbeat { .. } => "ProxyPass / http://127.0.0.1:8080/ flushpackets=on",
        Finding::IdleCut { .. } => "ProxyTimeout 60 (more than sse.heartbeat, 15 s by default)",
        Finding::Cut { .. } => "raise Timeout and ProxyTimeout",
        Finding::StreamsStayOpen { .. } => LEARNS_LATE,
        Finding::NoHttp2 => "Protocols h2 http/1.1",
        Finding::UntrustedProxy { .. } | Finding::NoTls | Finding::BodyRefused { .. } => return None,
    })
}

fn of_haproxy(finding: &Finding) -> Option<&'static str> {
    Some(match finding {
        Finding::HostChanged { .. } => "remove http-request set-header host",
        Finding::NoForwardedFor => "option forwardfor",
        Finding::ForgedForwardedFor => "option forwardfor, without if-none",
        Finding::LastEventIdLost => "remove http-request del-header last-event-id",
        Finding::Compressed { .. } => "remove text/event-stream from compression type",
        Finding::Buffered { .. } | Finding::NoHeartbeat { .. } => "option http-no-delay",
        Finding::IdleCut { .. } => "timeout server 60s, timeout client 60s (more than sse.heartbeat)",
        Finding::Cut { .. } => "remove timeout tunnel, and whatever bounds an answer as a whole",
        Finding::StreamsStayOpen { .. } => LEARNS_LATE,
        Finding::NoHttp2 => "bind :443 ssl crt FILE alpn h2,http/1.1",
        Finding::UntrustedProxy { .. } | Finding::NoTls | Finding::BodyRefused { .. } | Finding::OldVersion => {
            return None;
        }
    })
}

fn of_cloudflare(finding: &Finding) -> Option<&'static str> {
    Some(match finding {
        Finding::HostChanged { .. } => "remove the Origin Rule that rewrites the Host header",
        Finding::NoForwardedFor => "remove the Transform Rule that removes visitor IP headers",
        Finding::LastEventIdLost => "remove the Transform Rule that removes Last-Event-ID",
        Finding::Compressed { .. } => "add a Compression Rule for /api/ with: Disable compression",
        Finding::Buffered { .. } | Finding::NoHeartbeat { .. } => "turn Response Buffering off",
        Finding::IdleCut { .. } => "lower sse.heartbeat of stepcast below 100 s",
        Finding::NoHttp2 => "turn HTTP/2 on (Speed, Protocol Optimization)",
        Finding::UntrustedProxy { .. }
        | Finding::NoTls
        | Finding::BodyRefused { .. }
        | Finding::OldVersion
        | Finding::ForgedForwardedFor
        | Finding::Cut { .. }
        | Finding::StreamsStayOpen { .. } => return None,
    })
}

/// How to let a body of this size pass.
fn of_body(bytes: u64, proxy: Proxy) -> String {
    match proxy {
        Proxy::Nginx => format!("client_max_body_size {bytes};"),
        Proxy::Caddy => format!("request_body {{ max_size {bytes} }}"),
        Proxy::Apache => format!("LimitRequestBody {bytes}"),
        Proxy::Haproxy => "remove the http-request deny that looks at the body's size".to_owned(),
        Proxy::Cloudflare => "the largest body depends on the plan (100 MB and up)".to_owned(),
    }
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
