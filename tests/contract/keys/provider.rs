//! An identity provider that the test plays: it changes its keys, delays its response, fails, or is absent.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use super::*;
use crate::common::wait_for;

const STREAM: &str = "/api/sse/projects/p";

/// What it answers, and how often it was asked.
struct State {
    answer: String,
    is_held_back: bool,
    asked: usize,
}

struct Provider {
    address: SocketAddr,
    state: Arc<(Mutex<State>, Condvar)>,
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

impl Provider {
    fn start(seeds: &[u8]) -> Self {
        Self::start_at(TcpListener::bind("127.0.0.1:0").expect("a port"), seeds)
    }

    fn start_at(listener: TcpListener, seeds: &[u8]) -> Self {
        let address = listener.local_addr().expect("bound");
        let state = State { answer: answer("200 OK", "", &set(seeds).to_string()), is_held_back: false, asked: 0 };
        let state = Arc::new((Mutex::new(state), Condvar::new()));
        let shared = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let shared = shared.clone();
                std::thread::spawn(move || serve(client.expect("a client"), &shared));
            }
        });
        Self { address, state }
    }

    fn url(&self) -> String {
        format!("http://{}/keys", self.address)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.0.lock().expect("nobody panics here"));
        self.state.1.notify_all();
    }

    fn publish(&self, seeds: &[u8]) {
        self.change(|state| state.answer = answer("200 OK", "", &set(seeds).to_string()));
    }

    fn asked(&self) -> usize {
        self.state.0.lock().expect("nobody panics here").asked
    }
}

fn serve(client: TcpStream, (state, changed): &(Mutex<State>, Condvar)) {
    let mut client = BufReader::new(client);
    let mut head = String::new();
    while client.read_line(&mut head).is_ok_and(|n| n > 2) {}
    let mut state = state.lock().expect("nobody panics here");
    state.asked += 1;
    while state.is_held_back {
        state = changed.wait(state).expect("nobody panics here");
    }
    // It may have given up waiting.
    let _ = client.get_mut().write_all(state.answer.as_bytes());
}

#[test]
fn streams_of_a_key_that_is_gone_go_on_until_their_tokens_end() {
    let provider = Provider::start(&[1]);
    let server = trusting(&provider.url(), "").start();
    let ends_at = unix_now() + 4;
    let mut ends = admin();
    ends["exp"] = json!(ends_at);
    let old = named(1, &ends);
    let mut stream = server.stream_of(Request::get(STREAM).token(&old));
    assert_eq!(stream.next().expect("connected").kind(), "connected");
    provider.publish(&[2]);
    let new = named(2, &admin());
    let event = json!({"type": "note", "payload": {}});
    let publish = |token: &str| server.call(Request::post("/api/projects/p/events", &event).token(token));
    assert_eq!(publish(&new).status, 202, "the key is fetched for it");
    assert_eq!(publish(&old).code(), "token_key_unknown");
    let rest = stream.rest();
    let kinds: Vec<&str> = rest.iter().map(|event| event.kind()).collect();
    assert_eq!(kinds, ["note", "stream_closing"]);
    assert_eq!(rest[1].message["payload"]["reason"], "token_expired");
    assert!(unix_now() >= ends_at && provider.asked() == 2);
}

#[test]
fn whoever_asks_with_an_unknown_key_it_is_fetched_once() {
    let provider = Provider::start(&[1]);
    let server = trusting(&provider.url(), "").start();
    let unknown = |seed| named(seed, &admin());
    provider.change(|state| state.is_held_back = true);
    std::thread::scope(|scope| {
        let ask = |seed| Request::get(RUNS).token(&unknown(seed));
        let storm = (2..42).map(|seed| (ask(seed), server.address));
        let storm: Vec<_> = storm.map(|(ask, at)| scope.spawn(move || ask.send(at))).collect();
        wait_for("the fetch", || (provider.asked() == 2).then_some(()));
        assert_eq!(status(&server, &unknown(1)), is(200, ""), "nobody else waits");
        wait_for("all of them", || (server.metric("stepcast_connections") > 40.0).then_some(()));
        provider.change(|state| state.is_held_back = false);
        for one in storm {
            assert_eq!(one.join().expect("no panic").code(), "token_key_unknown");
        }
    });
    for seed in 2..42 {
        assert_eq!(status(&server, &unknown(seed)), is(401, "token_key_unknown"));
    }
    assert_eq!(provider.asked(), 2, "one at the start, one for all of them");
}

#[test]
fn a_provider_that_fails_takes_no_key_away() {
    for (broken, said) in [
        (answer("500 Oh", "", ""), "answered 500"),
        (answer("302 Found", "Location: http://127.0.0.1:1/\r\n", ""), "answered 302; redirects are not followed"),
        (answer("200 OK", "", "<html>"), "not a JSON Web Key Set"),
        (answer("200 OK", "", r#"{"keys": []}"#), "the key set has no usable key"),
        (answer("200 OK", "", &" ".repeat(300 * 1024)), "too large (limit 262144 bytes, not configurable)"),
        ("nonsense".to_owned(), "auth.jwks: "),
    ] {
        let provider = Provider::start(&[1]);
        let server = trusting(&provider.url(), "").start();
        provider.change(|state| state.answer = broken);
        assert_eq!(status(&server, &named(2, &admin())), is(401, "token_key_unknown"), "{said}");
        assert_eq!(status(&server, &named(1, &admin())), is(200, ""), "{said}");
        assert_eq!(server.get("/readyz").status, 200, "{said}");
        let lines = server.log();
        assert_eq!(server.metric("stepcast_key_fetches_total{outcome=\"failed\"}"), 1.0, "{said}");
        let kept = lines.iter().any(|line| line.contains(said) && line.ends_with("the previous keys stay in use"));
        assert!(kept, "{said}: {lines:?}");
    }
}

#[test]
fn a_server_whose_provider_is_not_there_starts_and_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let server = trusting(&format!("http://{address}/keys"), "").start();
    let token = named(1, &admin());
    let refused = server.call(Request::get(RUNS).token(&token));
    assert_eq!((refused.status, refused.code().as_str()), (503, "keys_unavailable"));
    assert!(refused.header("Retry-After").is_some(), "{refused:?}");
    let soft = server.stream_of(Request::get(STREAM).token(&token)).rest();
    assert_eq!(soft[0].message["payload"]["reason"], "busy");
    let ready = server.get("/readyz");
    assert_eq!((ready.status, ready.code().as_str()), (503, "keys_unavailable"));
    assert!(ready.text().contains(&address.to_string()), "{ready:?}");
    assert_eq!((server.get("/healthz").status, server.get(RUNS).status), (200, 401));
    let _provider = Provider::start_at(TcpListener::bind(address).expect("it is free"), &[1]);
    wait_for("keys", || (status(&server, &token).0 == 200).then_some(()));
    assert_eq!(server.get("/readyz").status, 200);
}

#[test]
fn a_provider_that_does_not_answer_holds_no_start_up() {
    let provider = Provider::start(&[1]);
    provider.change(|state| state.is_held_back = true);
    let server = trusting(&provider.url(), "").start();
    assert_eq!(status(&server, &named(1, &admin())), is(503, "keys_unavailable"));
    provider.change(|state| state.is_held_back = false);
    wait_for("keys", || (status(&server, &named(1, &admin())).0 == 200).then_some(()));
}

#[test]
fn what_is_ignored_of_a_set_is_said_and_a_missing_audience_too() {
    let provider = Provider::start(&[]);
    let mut keys = set(&[1]);
    let n = "qm-CpdsNN3yUwU2b0Lna8G6_ogXyrnfmuxAf7TDhosi60yDksRgAttjGFv7KA-abxlyrQeokMBpiFsd2CLZx0Q";
    let weak = json!({"kty": "RSA", "kid": "weak", "n": n, "e": "AQAB"});
    let encrypts = json!({"kty": "RSA", "kid": "enc", "use": "enc", "alg": "RSA-OAEP", "n": n, "e": "AQAB"});
    keys["keys"].as_array_mut().expect("a list").extend([weak, encrypts]);
    provider.change(|state| state.answer = answer("200 OK", "Cache-Control: max-age=60\r\n", &keys.to_string()));
    let server = trusting(&provider.url(), "").start();
    assert_eq!(status(&server, &named(1, &admin())), is(200, ""));
    let log = server.log().join("\n");
    for part in [
        "auth.jwks is set without auth.audience",
        "auth.jwks: 1 key: \"1\" (EdDSA)",
        "auth.jwks: the key \"weak\" is ignored: it has 512 bits; expected 2048 to 8192",
        "auth.jwks: the key \"enc\" is ignored: its use is \"enc\", not \"sig\"",
    ] {
        assert_eq!(log.matches(part).count(), 1, "{part}: {log}");
    }
}
