//! Tokens of an identity provider: what waits for keys, and for how long.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::json;

use super::bench::{Bench, Client, limits};
use super::statuses;
use crate::auth::{ClaimRules, KeySet, Verifier};
use crate::server::{Inbox, KeyNews};

const RUNS: &str = "/api/projects/p/workflows";

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("any seed will do")
}

/// The set of these keys, each named as its seed.
fn set(seeds: &[u8]) -> KeySet {
    let jwk = |seed: &u8| {
        let x = URL_SAFE_NO_PAD.encode(pair(*seed).public_key());
        json!({"kty": "OKP", "crv": "Ed25519", "kid": seed.to_string(), "x": x})
    };
    let keys: Vec<_> = seeds.iter().map(jwk).collect();
    KeySet::read(json!({"keys": keys}).to_string().as_bytes()).expect("a good set").keys
}

fn request(seed: u8, method: &str, target: &str, more: &str) -> String {
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = part(json!({"alg": "EdDSA", "kid": seed.to_string()}));
    let claims = part(json!({"sub": "ann", "exp": 4_102_444_800_u64, "projects": ["*"], "scope": "admin"}));
    let message = format!("{header}.{claims}");
    let signature = URL_SAFE_NO_PAD.encode(pair(seed).sign(message.as_bytes()));
    format!("{method} {target} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {message}.{signature}\r\n{more}")
}

fn get(seed: u8) -> String {
    request(seed, "GET", RUNS, "\r\n")
}

fn bench() -> Bench {
    Bench::guarded_by(limits(), Some(Verifier::awaiting_keys(ClaimRules::default())))
}

/// The keys come, in answer to this wish.
fn tell(bench: &mut Bench, answers: u64, keys: Result<KeySet, &str>) {
    let keys = keys.map_err(str::to_owned);
    bench.server.receive(Inbox::Keys(KeyNews { answers, keys }), bench.now);
    bench.turns();
}

fn waits(bench: &mut Bench, client: &Client, text: &str) {
    assert_eq!(bench.ask(client, text), "", "it waits");
}

#[test]
fn a_request_with_an_unknown_key_waits_until_keys_have_come_and_is_then_judged() {
    let mut bench = bench();
    tell(&mut bench, 0, Ok(set(&[1])));
    let [good, bad, whole] = [bench.connect(), bench.connect(), bench.connect()];
    assert_eq!(statuses(&bench.ask(&good, &get(1))), [200]);
    waits(&mut bench, &good, &format!("{}{}", get(2), get(1)));
    waits(&mut bench, &bad, &get(3));
    let event = "{\"type\":\"note\",\"payload\":{}}";
    let chunked = format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{event}\r\n0\r\n\r\n", event.len());
    waits(&mut bench, &whole, &request(2, "POST", "/api/projects/p/events", &chunked));
    assert_eq!(bench.wishes, [1], "one for all");
    tell(&mut bench, 0, Ok(set(&[1])));
    assert_eq!(good.take(), "", "that fetch began before");
    tell(&mut bench, 1, Ok(set(&[1, 2])));
    assert_eq!(statuses(&good.take()), [200, 200], "and what was sent behind it");
    assert_eq!(statuses(&whole.take()), [202], "with its body");
    let refused = bad.take();
    assert!(statuses(&refused) == [401] && refused.contains("token_key_unknown"), "{refused}");
    assert_eq!(bench.server.metrics.requests, 5, "each is counted once");
}

#[test]
fn a_storm_of_unknown_keys_fetches_once_a_minute() {
    let mut bench = bench();
    tell(&mut bench, 0, Ok(set(&[1])));
    let clients: Vec<Client> = (0..50).map(|_| bench.connect()).collect();
    clients.iter().for_each(|client| waits(&mut bench, client, &get(9)));
    tell(&mut bench, 1, Err("it is down"));
    clients.iter().for_each(|client| assert_eq!(statuses(&client.take()), [401]));
    for client in &clients {
        assert_eq!(statuses(&bench.ask(client, &get(9))), [401], "at once");
    }
    assert_eq!(statuses(&bench.ask(&clients[0], &get(1))), [200], "old keys stay");
    assert_eq!(bench.wishes, [1]);
    bench.wait(Duration::from_secs(59));
    let client = bench.connect();
    assert_eq!(statuses(&bench.ask(&client, &get(9))), [401]);
    bench.wait(Duration::from_secs(1));
    waits(&mut bench, &client, &get(9));
    assert_eq!(bench.wishes, [1, 2]);
}

#[test]
fn a_request_waits_no_longer_than_it_may_nor_for_a_client_that_left() {
    let mut bench = bench();
    tell(&mut bench, 0, Ok(set(&[1])));
    let [stays, leaves] = [bench.connect(), bench.connect()];
    waits(&mut bench, &stays, &get(2));
    waits(&mut bench, &leaves, &get(2));
    bench.abandon(&leaves);
    bench.turns();
    assert!(leaves.is_dropped());
    bench.wait(Duration::from_millis(7_999));
    assert_eq!(stays.take(), "");
    bench.wait(Duration::from_millis(1));
    assert_eq!(statuses(&stays.take()), [401]);
    tell(&mut bench, 1, Ok(set(&[2])));
    assert_eq!(statuses(&bench.ask(&stays, &get(2))), [200], "late keys are keys");
}

#[test]
fn what_asks_for_no_token_waits_for_no_key() {
    let mut bench = bench();
    tell(&mut bench, 0, Ok(set(&[1])));
    let client = bench.connect();
    for target in ["/healthz", "/readyz", "/openapi.json"] {
        assert_eq!(statuses(&bench.ask(&client, &request(2, "GET", target, "\r\n"))), [200], "{target}");
    }
    assert_eq!(bench.wishes, [] as [u64; 0]);
}

#[test]
fn without_any_keys_the_server_says_so_and_is_not_ready() {
    let mut bench = bench();
    let client = bench.connect();
    let refused = bench.ask(&client, &get(1));
    assert!(statuses(&refused) == [503] && refused.contains("keys_unavailable"), "{refused}");
    assert!(refused.contains("Retry-After: 5"), "{refused}");
    tell(&mut bench, 0, Err("GET https://id.example.com: it is down"));
    let refused = bench.ask(&client, &request(1, "GET", "/readyz", "\r\n"));
    assert!(statuses(&refused) == [503] && refused.contains("https://id.example.com: it is down"), "{refused}");
    let stream = "/api/sse/projects/p";
    let soft = bench.ask(&client, &request(1, "GET", stream, "Accept: text/event-stream\r\n\r\n"));
    assert!(statuses(&soft) == [200] && soft.contains("\"busy\""), "{soft}");
    let hard = bench.connect();
    assert_eq!(statuses(&bench.ask(&hard, &request(1, "GET", stream, "Accept: text/plain\r\n\r\n"))), [503]);
    assert_eq!(statuses(&bench.ask(&hard, "GET /api/projects HTTP/1.1\r\nHost: h\r\n\r\n")), [401], "no token at all");
    tell(&mut bench, 0, Ok(set(&[1])));
    assert_eq!(statuses(&bench.ask(&hard, &format!("{}GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n", get(1)))), [200, 200]);
    assert_eq!(bench.wishes, [] as [u64; 0], "they are fetched without anyone's wish");
}
