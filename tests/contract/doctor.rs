//! `stepcast doctor`, through real proxies that are configured well or badly.

use serde_json::json;

use crate::common::client::Request;
use crate::common::server::{Setup, run};
use crate::common::token;
use crate::proxies::{Proxied, TRUSTED, each};

const HELD_BACK: &str = "PROBLEM  the proxy buffers streams: no event arrived within 1s";

const OLD_VERSION: &str = "PROBLEM  the proxy uses HTTP/1.0 to the server: every call opens a new connection";

/// What the doctor says of an address, and what it exits with.
fn examined(address: &str, flags: &[&str]) -> (i32, String) {
    let url = format!("http://{address}");
    let token = token::token(&["doctor"], "admin");
    let args = [&["doctor", &url, "--wait", "1s"], flags].concat();
    let (status, said, complained) = run(&args, &[("STEPCAST_TOKEN", &token)], "");
    (status, format!("{said}{complained}"))
}

/// A bad configuration of a proxy, with what is said of it.
fn check(name: &str, setup: Setup, changes: &[(&str, &str)], flags: &[&str], expected: &[&str]) {
    let Some(proxied) = Proxied::start(name, setup, changes) else { return };
    let (status, said) = examined(&proxied.address.to_string(), flags);
    assert_eq!(status, 1, "{said}");
    for line in expected {
        assert!(said.lines().any(|it| it.trim().starts_with(line)), "{line:?} is not in {said}");
    }
    assert_eq!(
        said.matches("PROBLEM").count(),
        expected.iter().filter(|line| line.starts_with("PROBLEM")).count(),
        "{said}"
    );
}

fn quiet() -> Setup {
    Setup::default().flags(&["--sse-heartbeat", "1h"])
}

fn trusting() -> Setup {
    quiet().flags(&TRUSTED)
}

#[test]
fn nothing_is_wrong_with_the_recipes() {
    for proxied in each(&["--sse-heartbeat", "200ms"]) {
        let (status, said) = examined(&proxied.address.to_string(), &["--watch", "2s"]);
        assert_eq!(status, 0, "{}: {said}", proxied.name);
        for expected in [
            &*format!("behind {}", if proxied.name == "nginx" { "nginx" } else { "Caddy" }),
            "ok       requests arrive as they were sent, by HTTP/1.1",
            "ok       a body of 1048576 bytes arrives whole",
            "ok       an event arrives within ",
            "ok       a stream resumes where it was interrupted",
            "ok       the server learns at once that a client has left",
            "note     no TLS, hence no HTTP/2",
            "ok       an idle stream stays open (watched for 2s)",
            "no problem found",
        ] {
            assert!(said.contains(expected), "{}: {expected:?} is not in {said}", proxied.name);
        }
    }
}

#[test]
fn nothing_is_wrong_without_a_proxy() {
    let server = Setup::default().with_tokens().flags(&["--limits-trusted-proxies", "10.0.0.0/8"]).start();
    let (status, said) = examined(&server.address.to_string(), &["--watch", "0s"]);
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("not behind a proxy") && said.contains("you are 127.0.0.1 to the server"), "{said}");
}

#[test]
fn each_mistake_in_nginx_is_told_with_the_line_to_change() {
    let changes = [
        ("proxy_http_version 1.1;", "proxy_http_version 1.0; proxy_set_header Last-Event-ID \"\";"),
        ("proxy_set_header Host $http_host;", "proxy_set_header Host inner.example;"),
        ("proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;", "proxy_ignore_client_abort on;"),
        ("proxy_read_timeout 1s;", "gzip on; gzip_proxied any; gzip_types text/event-stream; client_max_body_size 1k;"),
    ];
    let expected = [
        OLD_VERSION,
        "nginx: proxy_http_version 1.1; proxy_set_header Connection \"\";",
        "nginx: proxy_set_header Host $http_host;",
        "PROBLEM  the proxy drops Last-Event-ID: a client that reconnects misses messages",
        "PROBLEM  the proxy sends no X-Forwarded-For: limits of one address count all clients as one, or none",
        "nginx: proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
        "PROBLEM  a body of 1048576 bytes, which the server accepts (limits.body_bytes), was answered 413",
        "nginx: client_max_body_size 1048576;",
        "PROBLEM  the proxy compresses streams (gzip): events can be delayed",
        "PROBLEM  the proxy keeps the stream of a client that has left: it was still open after 1s",
        "nginx: proxy_ignore_client_abort off;",
    ];
    let Some(proxied) = Proxied::start("nginx", trusting().with_tokens(), &changes) else { return };
    let address = proxied.address.to_string();
    let (status, said) = examined(&address, &["--watch", "0s"]);
    let host = format!(
        "PROBLEM  the proxy changes Host from {address} to inner.example: the server refuses calls of its own pages"
    );
    for line in expected.into_iter().chain([host.as_str()]) {
        assert!(said.lines().any(|it| it.trim() == line), "{line:?} is not in {said}");
    }
    assert_eq!((status, said.lines().last()), (1, Some("7 problems")), "{said}");
}

#[test]
fn each_mistake_in_caddy_is_told_with_the_line_to_change() {
    let changes = [
        (
            "reverse_proxy 127.0.0.1",
            "request_body {\n max_size 1KB\n}\nencode {\n gzip\n minimum_length 1\n match {\n \
             header Content-Type text/event-stream*\n }\n }\nreverse_proxy 127.0.0.1",
        ),
        (
            "transport http {",
            "header_up -X-Forwarded-For\nheader_up -Last-Event-ID\nflush_interval -1\ntransport http {",
        ),
    ];
    let expected = [
        "PROBLEM  the proxy drops Last-Event-ID: a client that reconnects misses messages",
        "Caddy: remove header_up -Last-Event-ID",
        "PROBLEM  the proxy sends no X-Forwarded-For: limits of one address count all clients as one, or none",
        "PROBLEM  a body of 1048576 bytes, which the server accepts (limits.body_bytes), was answered ",
        "PROBLEM  the proxy compresses streams (gzip): events can be delayed",
        "Caddy: remove text/event-stream* from the match of encode",
        "PROBLEM  the proxy keeps the stream of a client that has left: it was still open after 1s",
        "Caddy: remove flush_interval -1 from reverse_proxy",
    ];
    check("caddy", trusting(), &changes, &["--watch", "0s"], &expected);
}

#[test]
fn what_holds_events_back_is_told() {
    let changes = [
        ("proxy_read_timeout 1s;", "proxy_ignore_headers X-Accel-Buffering;"),
        // What comes in chunks nginx passes on at once all the same.
        ("proxy_http_version 1.1;", "proxy_http_version 1.0;"),
    ];
    let line = "nginx: proxy_buffering off; (or remove proxy_ignore_headers X-Accel-Buffering)";
    check("nginx", trusting(), &changes, &[], &[OLD_VERSION, HELD_BACK, line]);
}

#[test]
fn what_ends_an_idle_stream_is_told() {
    let expected = [
        "PROBLEM  the stream was closed after 1s without data",
        "nginx: proxy_read_timeout 60s; (more than sse.heartbeat, 15 s by default)",
    ];
    check("nginx", trusting(), &[], &["--watch", "20s"], &expected);
}

#[test]
fn a_proxy_that_the_server_does_not_trust_is_named() {
    let changes = [("proxy_read_timeout 1s;", "proxy_bind 127.0.0.9;")];
    let expected = [
        "PROBLEM  the server does not trust the proxy at 127.0.0.9: all its clients count as one address",
        "stepcast: add \"127.0.0.9\" to limits.trusted_proxies, and keep what is there",
    ];
    check("nginx", trusting(), &changes, &["--watch", "0s"], &expected);
}

#[test]
fn who_can_claim_any_address_is_told() {
    let changes = [
        ("proxy_read_timeout 1s;", "proxy_bind 127.0.0.9;"),
        ("$proxy_add_x_forwarded_for", "$whoever"),
        (
            "upstream stepcast {",
            "map $http_x_forwarded_for $whoever { default $http_x_forwarded_for; \"\" $remote_addr; }\n upstream stepcast {",
        ),
    ];
    let expected = [
        "PROBLEM  the proxy passes on an X-Forwarded-For of the client's own: clients can evade limits",
        "nginx: proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
    ];
    let setup = quiet().flags(&["--limits-trusted-proxies", "127.0.0.9/32"]);
    check("nginx", setup, &changes, &["--watch", "0s"], &expected);
}

#[test]
fn the_doctor_says_what_it_lacks() {
    let server = Setup::default().with_tokens().start();
    let url = format!("http://{}", server.address);
    let (status, _, said) = run(&["doctor", &url], &[], "");
    assert!(status == 1 && said.contains("pass a token with the scope admin"), "{said}");
    let token = token::token(&["doctor"], "publish");
    let (status, _, said) = run(&["doctor", &url, "--token", &token], &[], "");
    assert!(status == 1 && said.contains("the token needs the scope admin in project doctor"), "{said}");
    let (status, _, said) = run(&["doctor", "http://127.0.0.1:1"], &[], "");
    assert!(status == 1 && said.contains("http://127.0.0.1:1 does not answer"), "{said}");
}

#[test]
fn what_arrived_of_a_request_is_for_administrators_and_holds_no_credential() {
    let server = Setup::default().with_tokens().start();
    let ask = |scope: &str| {
        let bearer = format!("Bearer {}", token::token(&["p"], scope));
        Request::get("/api/sse/doctor").header("Authorization", &bearer).header("Via", "1.1 a").send(server.address)
    };
    assert_eq!(ask("publish").status, 403);
    let told = ask("admin").json();
    assert_eq!((&told["headers"], &told["version"]), (&json!({"via": "1.1 a"}), &json!("HTTP/1.1")));
    assert_eq!((&told["countsFor"], &told["isTrustedProxy"]), (&json!(null), &json!(true)), "loopback is trusted");
}
