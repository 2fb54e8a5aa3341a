//! Keys that identity providers publish, and keys that change.

use std::fs;

use serde_json::{Value, json};

use crate::common::client::Request;
#[cfg(feature = "sqlite")]
use crate::common::server::TempDirectory;
use crate::common::server::{Server, Setup, TempFile, run};
#[cfg(feature = "sqlite")]
use crate::common::stream::Sse;
use crate::common::token::{SECRET, claims, jwk, named, private_key_and_jwk, signed_as, unix_now};

#[cfg(feature = "http-tool")]
mod provider;

const RUNS: &str = "/api/projects/p/workflows";

/// Another secret, as long as it must be.
const NEWER: &str = "newer newer newer newer newer 32";

fn set(seeds: &[u8]) -> Value {
    json!({"keys": seeds.iter().map(|&seed| jwk(seed)).collect::<Vec<_>>()})
}

/// A server that trusts the keys of this file or url, and what else the section `auth` says.
fn trusting(jwks: &str, more: &str) -> Setup {
    let config = format!("[auth]\nmode = \"jwt\"\njwks = \"{jwks}\"\n{more}\n");
    Setup::default().config(&config).keeping_auth()
}

fn admin() -> Value {
    claims(&["p"], "admin")
}

fn status(server: &Server, token: &str) -> (u16, String) {
    let answer = server.call(Request::get(RUNS).token(token));
    (answer.status, if answer.status == 200 { String::new() } else { answer.code() })
}

fn is(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[test]
fn a_file_of_keys_is_read_again_for_a_key_that_is_not_known() {
    let file = TempFile::new(".json", &set(&[1]).to_string());
    let server = trusting(file.text(), "").start();
    assert_eq!(status(&server, &named(1, &admin())), is(200, ""));
    fs::write(file.path(), set(&[2]).to_string()).expect("the file can be written");
    assert_eq!(status(&server, &named(2, &admin())), is(200, ""));
    assert_eq!(status(&server, &named(1, &admin())), is(401, "token_key_unknown"), "it is gone, and was remembered");
    fs::write(file.path(), "{").expect("the file can be written");
    assert_eq!(status(&server, &named(3, &admin())), is(401, "token_key_unknown"), "no second reading in a minute");
    assert_eq!(status(&server, &named(2, &admin())), is(200, ""));
}

#[test]
fn keys_that_no_start_can_use_are_named() {
    let short =
        json!({"keys": [{"kty": "RSA", "kid": "short", "n": "qm-CpdsNN3yUwU2b0Lna8A", "e": "AQAB"}]}).to_string();
    let private = json!({"keys": [{"kty": "oct", "kid": "s", "k": "c2VjcmV0"}]}).to_string();
    for (content, part) in [
        ("", "not a JSON Web Key Set"),
        (&*short, "the key \"short\" is ignored: it has 128 bits; expected 2048 to 8192"),
        (&*private, "the key \"s\" is ignored: it is a symmetric secret, which must not be published"),
    ] {
        let file = TempFile::new(".json", content);
        let (status, said) = trusting(file.text(), "").launch().refusal();
        assert!(status == Some(1) && said.contains("auth.jwks: ") && said.contains(part), "{status:?} {said}");
    }
    let (_, said) = trusting("/nowhere/keys.json", "").launch().refusal();
    assert!(said.contains("auth.jwks: /nowhere/keys.json: cannot be read: "), "{said}");
    let (_, said) = trusting("http://id.example.com/keys", "").launch().refusal();
    assert!(said.contains("auth.jwks: expected the path of a file, or an https:// URL"), "{said}");
    let file = TempFile::new(".json", &set(&[1]).to_string());
    let (_, said) = trusting(file.text(), "").environment("STEPCAST_JWT_SECRET", SECRET).launch().refusal();
    assert!(said.contains("auth.jwks: cannot be combined with auth.jwt_secret (STEPCAST_JWT_SECRET)"), "{said}");
}

#[test]
fn what_a_token_says_of_its_algorithm_or_key_decides_nothing_but_its_refusal() {
    let file = TempFile::new(".json", &set(&[1, 2]).to_string());
    let server = trusting(file.text(), "").start();
    let x = jwk(1)["x"].as_str().expect("a text").to_owned();
    let forged = |header: Value, secret: &str| signed_as(&header, &admin(), secret);
    for (token, code) in [
        (forged(json!({"alg": "HS256", "kid": "1"}), &x), "token_invalid"),
        (forged(json!({"alg": "HS256", "kid": "1"}), &set(&[1, 2]).to_string()), "token_invalid"),
        (forged(json!({"alg": "HS256"}), &x), "token_invalid"),
        (forged(json!({"alg": "none", "kid": "1"}), &x), "token_invalid"),
        (forged(json!({"alg": "RS256", "kid": "1"}), &x), "token_invalid"),
        (forged(json!({"alg": "EdDSA", "kid": "1"}), &x), "token_invalid"),
        (forged(json!({"alg": "EdDSA"}), &x), "token_invalid"),
        (forged(json!({"alg": "EdDSA", "kid": "../../1"}), &x), "token_key_unknown"),
        (forged(json!({"alg": "EdDSA", "kid": "3", "jwk": jwk(3)}), &x), "token_key_unknown"),
    ] {
        assert_eq!(status(&server, &token), is(401, code), "{token}");
    }
    assert_eq!(status(&server, &named(1, &admin())), is(200, ""));
}

#[test]
fn issuer_and_audience_are_asked_for_where_they_are_set_whatever_the_key() {
    let rules = "issuer = \"https://id.example.com/\"\naudience = [\"stepcast\", \"other\"]";
    let file = TempFile::new(".json", &set(&[1]).to_string());
    let by_set = trusting(file.text(), rules).start();
    let by_secret = Setup::default().config(&format!("[auth]\n{rules}\n")).with_tokens().start();
    let table = [
        (json!({"iss": "https://id.example.com/", "aud": "stepcast"}), 200),
        (json!({"iss": "https://id.example.com/", "aud": ["x", "other"]}), 200),
        (json!({"iss": "https://id.example.com/", "aud": "x"}), 401),
        (json!({"iss": "https://id.example.com/", "aud": []}), 401),
        (json!({"iss": "https://id.example.com/"}), 401),
        (json!({"iss": "https://id.example.com", "aud": "stepcast"}), 401),
        (json!({"aud": "stepcast"}), 401),
        (json!({}), 401),
    ];
    for (more, expected) in table {
        let mut claims = admin();
        claims.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let by_hmac = signed_as(&json!({"alg": "HS256"}), &claims, SECRET);
        assert_eq!(status(&by_set, &named(1, &claims)).0, expected, "{claims}");
        assert_eq!(status(&by_secret, &by_hmac).0, expected, "{claims}");
    }
}

#[test]
fn what_the_command_line_signs_is_what_the_server_asks_for() {
    let config = "[auth]\njwt_secret = [\"newer newer newer newer newer 32\", \"0123456789abcdef0123456789abcdef\"]\n\
        issuer = [\"me\", \"you\"]\naudience = \"stepcast\"\nprojects_claim = \"/app/projects\"\nscope_claim = \"x:scope\"\n";
    let file = TempFile::new(".toml", config);
    let arguments = ["token", "--config", file.text(), "--project", "p", "--sub", "ann", "--scope", "admin"];
    let (code, token, said) = run(&arguments, &[], "");
    assert_eq!(code, 0, "{said}");
    let server = Setup::default().config(config).keeping_auth().start();
    assert_eq!(status(&server, token.trim()), is(200, ""));

    let keys = TempFile::new(".json", &set(&[1]).to_string());
    let arguments = [&["token"], &arguments[3..]].concat();
    let (code, token, said) = run(&arguments, &[("STEPCAST_AUTH_JWKS", keys.text())], "");
    assert!(code != 0 && token.is_empty(), "{code} {token}");
    assert!(said.contains("auth.jwks: is set, so the identity provider signs tokens"), "{said}");
}

#[test]
fn a_private_key_signs_what_its_published_half_verifies() {
    let (pem, jwk) = private_key_and_jwk();
    let (pem, set) = (TempFile::new(".pem", &pem), TempFile::new(".json", &json!({"keys": [jwk]}).to_string()));
    let server = trusting(set.text(), "audience = \"stepcast\"").start();
    let signed = |more: &[&str]| {
        let arguments = ["token", "--project", "p", "--sub", "ann", "--key", pem.text()];
        let (code, token, said) = run(&[&arguments, more].concat(), &[("STEPCAST_AUTH_AUDIENCE", "stepcast")], "");
        assert_eq!(code, 0, "{said}");
        token.trim().to_owned()
    };
    assert_eq!(status(&server, &signed(&["--kid", "made"])), is(200, ""));
    assert_eq!(status(&server, &signed(&[])), is(200, ""), "one key can be meant");
    assert_eq!(status(&server, &signed(&["--kid", "other"])), is(401, "token_key_unknown"));
    let (code, _, said) = run(&["token", "--project", "p", "--sub", "ann", "--key", set.text()], &[], "");
    assert!(code != 0 && said.contains("contains no usable key"), "{said}");
}

fn with_secrets(secrets: &[&str]) -> Setup {
    Setup::default().config(&format!("[auth]\njwt_secret = {}\n", json!(secrets))).keeping_auth()
}

#[test]
fn each_listed_secret_verifies_and_one_with_commas_is_one() {
    let of = |secret: &str| signed_as(&json!({"alg": "HS256"}), &admin(), secret);
    let server = with_secrets(&[NEWER, SECRET]).start();
    for (secret, expected) in [(NEWER, is(200, "")), (SECRET, is(200, "")), ("x", is(401, "token_invalid"))] {
        assert_eq!(status(&server, &of(secret)), expected, "{secret}");
    }
    let commas = "a,b,c, a secret with commas: one, not four";
    let server = with_secrets(&[]).environment("STEPCAST_JWT_SECRET", commas).start();
    assert_eq!(status(&server, &of(commas)), is(200, ""));
    let (_, said) = with_secrets(&[NEWER, "short"]).launch().refusal();
    assert!(said.contains("auth.jwt_secret[1]: expected at least 32 bytes") && !said.contains("short"), "{said}");
}

#[cfg(feature = "sqlite")]
#[test]
fn a_secret_that_is_replaced_step_by_step_ends_no_stream() {
    let data = TempDirectory::new();
    let start = |secrets: &[&str]| with_secrets(secrets).data(data.path()).start();
    let server = start(&[SECRET]);
    let token = signed_as(&json!({"alg": "HS256"}), &admin(), SECRET);
    let ticket = server.call(Request::post("/api/sse/ticket", &json!({"projectId": "p"})).token(&token)).json();
    let path = ticket["sseUrl"].as_str().expect("a path").to_owned();
    let id = server.stream(&path).next().expect("connected").id().to_owned();
    let reconnected =
        |at: std::net::SocketAddr| Sse::open(at, Request::get(&path).header("Last-Event-ID", &id)).head.status;
    server.kill();
    let server = start(&[NEWER, SECRET]);
    assert_eq!((reconnected(server.address), status(&server, &token).0), (200, 200), "both are good");
    server.kill();
    let server = start(&[NEWER]);
    assert_eq!((reconnected(server.address), status(&server, &token).0), (403, 401), "the old one is gone");
}

#[test]
fn rights_stand_where_the_operator_says() {
    let file = TempFile::new(".json", &set(&[1]).to_string());
    let rules = "projects_claim = \"https://stepcast.example/projects\"\nscope_claim = \"/realm_access/roles\"";
    let server = trusting(file.text(), rules).start();
    let claims = |projects: Value, roles: Value| {
        json!({
            "sub": "ann", "exp": unix_now() + 3600, "scope": "openid profile",
            "https://stepcast.example/projects": projects, "realm_access": {"roles": roles}
        })
    };
    for (claims, expected) in [
        (claims(json!(["p"]), json!(["subscribe", "offline_access"])), is(200, "")),
        (claims(json!("q p"), json!(["subscribe"])), is(200, "")),
        (claims(json!(["p"]), json!(["offline_access"])), is(403, "scope_missing")),
        (claims(json!(["q"]), json!(["admin"])), is(403, "project_forbidden")),
        (claims(json!(null), json!(["admin"])), is(403, "project_forbidden")),
        (claims(json!(7), json!(["admin"])), is(401, "token_invalid")),
    ] {
        assert_eq!(status(&server, &named(1, &claims)), expected, "{claims}");
    }
}
