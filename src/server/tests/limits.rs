//! What of everything there may be, and what is said at the limit.

use std::sync::Arc;
use std::time::Duration;

use super::bench::{Bench, Client, RETRY_MS, limits};
use super::{HEALTH, publish, statuses, stream};
use crate::cluster::Vitals;
use crate::http::contents;
use crate::log::Delivery;
use crate::server::core::Node;
use crate::server::{ConnectionLimits, Inbox};

/// Is this the soft refusal that an `EventSource` comes back from?
fn assert_busy(text: &str) {
    assert_eq!(statuses(text), [200], "{text}");
    let (_, body) = text.split_once("\r\n\r\n").expect("a body");
    let chunks = body.strip_suffix("0\r\n\r\n").expect("the last chunk tells the end");
    let event = String::from_utf8(contents(chunks.as_bytes())).expect("text");
    let (retry, data) = event.split_once('\n').expect("two fields");
    let retry: u64 = retry.strip_prefix("retry: ").expect("a time").parse().expect("a number");
    assert!((RETRY_MS..2 * RETRY_MS).contains(&retry), "{retry}");
    let closing = "{\"type\":\"stream_closing\",\"projectId\":\"p\",\"seq\":0,\"payload\":{\"reason\":\"busy\"}}";
    assert_eq!(data, format!("data: {closing}\n\n"));
}

fn assert_refused(text: &str, status: u16, code: &str) {
    assert_eq!(statuses(text), [status], "{text}");
    assert!(text.contains("Retry-After: ") && text.contains(&format!("\"code\":\"{code}\"")), "{text}");
}

#[test]
fn connections_beyond_the_limit_are_told_so_and_beyond_the_reserve_dropped() {
    let mut bench = Bench::with(ConnectionLimits { connections: 2, reserve: 2, ..limits() }, false);
    let [first, _second] = [bench.connect(), bench.connect()];
    let third = bench.connect();
    assert_refused(&bench.ask(&third, &format!("{HEALTH}{HEALTH}")), 503, "too_many_connections");
    assert!(third.wire.borrow().is_finished);
    let fourth = bench.connect();
    assert_busy(&bench.ask(&fourth, &stream("p")));
    assert!(bench.connect_from("198.51.100.1").is_none(), "there is no room even to say so");
    bench.half_close(&first);
    bench.half_close(&third);
    bench.half_close(&fourth);
    let next = bench.connect();
    assert_eq!(statuses(&bench.ask(&next, HEALTH)), [200]);
}

#[test]
fn an_address_with_too_many_silent_connections_takes_no_place_of_the_others() {
    let mut bench = Bench::with(ConnectionLimits { connections: 10, reserve: 2, per_address: 3, ..limits() }, false);
    let silent: Vec<Client> = (0..20).filter_map(|_| bench.connect_from("198.51.100.1")).collect();
    assert_eq!(silent.len(), 3 + 2, "its share and the reserve, though there are places left");
    let others: Vec<_> = (2..8).map(|n| bench.connect_from(&format!("198.51.100.{n}")).expect("a place")).collect();
    for client in &others {
        assert_eq!(statuses(&bench.ask(client, HEALTH)), [200]);
    }
    bench.wait(std::time::Duration::from_secs(3));
    assert!(silent[3..].iter().all(Client::is_dropped) && !silent[0].is_dropped(), "the reserve is free again soon");
    let late = bench.connect_from("198.51.100.1").expect("a place in the reserve");
    assert_refused(&bench.ask(&late, HEALTH), 503, "too_many_connections");
    let metrics = bench.ask(&others[0], &HEALTH.replace("healthz", "metrics"));
    for line in ["{limit=\"connections_per_address\"} 3", "{limit=\"reserve\"} 15", "{limit=\"connections\"} 0"] {
        assert!(metrics.contains(&format!("stepcast_refused_total{line}\n")), "{line} in {metrics}");
    }
}

#[test]
fn a_connection_is_closed_behind_the_last_request_that_it_may_make() {
    let mut bench = Bench::with(ConnectionLimits { requests_per_connection: 3, ..limits() }, false);
    let client = bench.connect();
    let text = bench.ask(&client, &HEALTH.repeat(5));
    assert_eq!((statuses(&text), text.matches("Connection: close").count()), (vec![200; 3], 1), "{text}");
    assert!(client.wire.borrow().is_finished);
    let client = bench.connect();
    let metrics = bench.ask(&client, &HEALTH.replace("healthz", "metrics"));
    assert!(metrics.contains("stepcast_refused_total{limit=\"requests_per_connection\"} 1\n"), "{metrics}");
}

/// A request that takes so many bytes and has no end yet: its framing is heavier than what it frames.
fn half_a_body(bytes: usize) -> String {
    let head = "POST /api/projects/p/events HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    format!("{head}{}", "1;x\r\n \r\n".repeat(bytes / 8))
}

#[test]
fn whoever_holds_most_is_let_go_where_all_together_hold_too_much() {
    let mut bench = Bench::with(ConnectionLimits { buffer_bytes: 150_000, ..limits() }, false);
    let deaf = bench.connect();
    deaf.wire.borrow_mut().room = 0;
    bench.send(&deaf, &HEALTH.repeat(5000));
    let deaf_holds = bench.server.gauges().buffer_bytes;
    assert!((50_000..100_000).contains(&deaf_holds), "{deaf_holds}");
    let small = bench.connect();
    bench.send(&small, &half_a_body(4000));
    assert_eq!(bench.server.gauges().buffer_bytes, deaf_holds, "what is small is not counted");
    let others: Vec<Client> = (0..15).map(|_| bench.connect()).collect();
    for client in &others {
        bench.send(client, &half_a_body(12_000));
        assert!(bench.server.gauges().buffer_bytes <= 150_000);
    }
    assert!(deaf.is_dropped(), "it held most, and takes nothing that it could be told");
    assert!(others.iter().all(|client| client.take().is_empty()), "there was room for them then");
    assert_eq!(statuses(&bench.ask(&small, "0\r\n\r\n")), [400], "it was heard to its end");
    bench.half_close(&small);
    others.iter().for_each(|client| bench.half_close(client));
    assert_eq!(bench.server.gauges().buffer_bytes, 0);
}

#[test]
fn an_address_with_many_connections_took_the_memory_of_those_with_few() {
    let mut bench = Bench::with(ConnectionLimits { buffer_bytes: 150_000, ..limits() }, false);
    let other = bench.connect_from("203.0.113.7").expect("there is room");
    let through_a_proxy = bench.connect_from("127.0.0.1").expect("there is room");
    bench.ask(&through_a_proxy, &HEALTH.replace("Host", "X-Forwarded-For: 203.0.113.8\r\nHost"));
    for client in [&other, &through_a_proxy] {
        bench.send(client, &half_a_body(15_000));
    }
    let many: Vec<Client> = (0..20).map(|_| bench.connect()).collect();
    for client in &many {
        bench.send(client, &half_a_body(12_000));
        assert!(bench.server.gauges().buffer_bytes <= 150_000);
    }
    let told = many.iter().filter(|client| statuses(&client.take()) == [503]).count();
    assert!((5..20).contains(&told), "{told} of those that one address has were let go");
    for client in [&other, &through_a_proxy] {
        assert_eq!(client.take(), "", "each holds more than any of those, and its address less than theirs");
        assert!(!client.is_dropped());
    }
}

#[test]
fn a_request_that_is_too_much_to_hold_is_refused_with_a_time_to_come_back_at() {
    let mut bench = Bench::with(ConnectionLimits { buffer_bytes: 1000, ..limits() }, false);
    let client = bench.connect();
    let text = bench.ask(&client, &half_a_body(8000));
    assert_refused(&text, 503, "buffers_full");
    assert_eq!(bench.server.gauges().buffer_bytes, 0);
    let client = bench.connect();
    assert_eq!(statuses(&bench.ask(&client, &publish(1))), [202]);
}

#[test]
fn an_address_has_its_own_limit_and_a_proxys_clients_have_theirs() {
    let mut bench = Bench::with(ConnectionLimits { per_address: 1, ..limits() }, false);
    let connect = |bench: &mut Bench, from: &str| bench.connect_from(from).expect("there is room");
    let forwarded = |of: &str| HEALTH.replace("Host", &format!("X-Forwarded-For: {of}\r\nHost"));
    let one = connect(&mut bench, "198.51.100.1");
    assert_eq!(statuses(&bench.ask(&one, HEALTH)), [200]);
    let same = connect(&mut bench, "198.51.100.1");
    assert_refused(&bench.ask(&same, HEALTH), 503, "too_many_connections");
    let liar = connect(&mut bench, "198.51.100.1");
    assert_eq!(statuses(&bench.ask(&liar, &forwarded("203.0.113.5"))), [503], "what others forward is not believed");

    let plain = [connect(&mut bench, "127.0.0.1"), connect(&mut bench, "127.0.0.1")];
    for client in &plain {
        assert_eq!(statuses(&bench.ask(client, HEALTH)), [200], "a proxy itself counts for nobody");
    }
    assert_eq!(statuses(&bench.ask(&plain[0], &forwarded("203.0.113.9"))), [200]);
    assert_eq!(statuses(&bench.ask(&plain[0], &forwarded("203.0.113.9"))), [200], "one connection counts once");
    assert_eq!(statuses(&bench.ask(&plain[1], &forwarded("198.51.100.1"))), [503]);
    let third = connect(&mut bench, "127.0.0.1");
    assert_eq!(statuses(&bench.ask(&third, &forwarded("203.0.113.9, 127.0.0.9"))), [503]);
    bench.half_close(&plain[0]);
    let fourth = connect(&mut bench, "127.0.0.1");
    assert_eq!(statuses(&bench.ask(&fourth, &forwarded("203.0.113.9"))), [200], "whoever has left is not counted");
}

fn with_token(request: &str, token: &str) -> String {
    request.replacen("Host", &format!("Authorization: Bearer {token}\r\nHost"), 1)
}

#[test]
fn a_token_has_so_many_streams_and_gets_them_back() {
    let mut bench = Bench::with(limits(), true);
    let [token, other] = [bench.token("one"), bench.token("other")];
    let open = |bench: &mut Bench, token: &str| {
        let client = bench.connect();
        bench.send(&client, &with_token(&stream("p"), token));
        client
    };
    let streams: Vec<Client> = (0..2).map(|_| open(&mut bench, &token)).collect();
    assert!(streams.iter().all(|client| client.take().contains("\"connected\"")));
    let third = open(&mut bench, &token);
    assert_busy(&third.take());
    let plain = bench.connect();
    let request = with_token(&stream("p"), &token).replace("text/event-stream", "*/*");
    assert_refused(&bench.ask(&plain, &request), 429, "too_many_streams");
    assert!(open(&mut bench, &other).take().contains("\"connected\""));
    bench.half_close(&streams[0]);
    assert!(open(&mut bench, &token).take().contains("\"connected\""));
}

#[test]
fn a_stream_that_does_not_begin_gives_its_place_back() {
    let mut bench = Bench::with(limits(), true);
    let token = bench.token("one");
    let seen_or_unknown = with_token(&stream("p?runId=nobody"), &token);
    for _ in 0..5 {
        let client = bench.connect();
        assert_eq!(statuses(&bench.ask(&client, &seen_or_unknown)), [404]);
        bench.is_log_held_up = true;
        let left = bench.connect();
        bench.send(&left, &with_token(&stream("p"), &token));
        bench.half_close(&left);
        bench.is_log_held_up = false;
        bench.turns();
        assert!(left.is_dropped());
    }
    let client = bench.connect();
    assert!(bench.ask(&client, &with_token(&stream("p"), &token)).contains("\"connected\""));
}

#[test]
fn a_soft_refusal_spends_no_ticket_and_gives_it_its_time_anew() {
    let mut bench = Bench::with(limits(), true);
    let client = bench.connect();
    let request = "POST /api/sse/ticket HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n";
    let answer = bench.ask(&client, &with_token(request, &bench.token("one")));
    let ticket = answer.split("\"ticket\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a ticket");
    let request = stream(&format!("p?ticket={ticket}"));
    bench.server.set_log_full(true);
    for _ in 0..3 {
        bench.wait(std::time::Duration::from_secs(10));
        let client = bench.connect();
        assert_busy(&bench.ask(&client, &request));
    }
    bench.server.set_log_full(false);
    let client = bench.connect();
    assert!(bench.ask(&client, &request).contains("\"connected\""), "it is older than its 15 s by now");
    let client = bench.connect();
    assert_eq!(statuses(&bench.ask(&client, &request)), [403], "and spent by now");
}

#[test]
fn a_token_may_publish_so_much_a_second() {
    let mut bench = Bench::with(limits(), true);
    let [token, other] = [bench.token("one"), bench.token("other")];
    let client = bench.connect();
    for n in 0..10 {
        assert_eq!(statuses(&bench.ask(&client, &with_token(&publish(n), &token))), [202]);
    }
    assert_refused(&bench.ask(&client, &with_token(&publish(10), &token)), 429, "publish_rate");
    assert_eq!(statuses(&bench.ask(&client, &with_token(&publish(11), &other))), [202]);
    bench.wait(std::time::Duration::from_millis(100));
    assert_eq!(statuses(&bench.ask(&client, &with_token(&publish(12), &token))), [202]);
}

#[test]
fn a_server_that_drains_says_so_and_ends_its_streams() {
    let mut bench = Bench::new();
    let [watcher, client] = [bench.connect(), bench.connect()];
    bench.send(&watcher, &stream("p"));
    watcher.take();
    bench.drain();
    assert_refused(&bench.ask(&client, &publish(1)), 503, "draining");
    assert_refused(&bench.ask(&client, &HEALTH.replace("healthz", "readyz")), 503, "draining");
    assert_eq!(statuses(&bench.ask(&client, HEALTH)), [200]);
    assert_eq!(statuses(&bench.ask(&client, &HEALTH.replace("healthz", "metrics"))), [200]);
    let late = bench.connect();
    assert_busy(&bench.ask(&late, &stream("p")));
    bench.server.set_log_full(false);
    assert_eq!(statuses(&bench.ask(&client, &publish(1))), [503], "there is no way back");
    bench.server.end_streams(bench.now);
    bench.turns();
    let told = watcher.take();
    let told = told.strip_suffix("0\r\n\r\n").expect("the last chunk tells the end");
    let told = String::from_utf8(contents(told.as_bytes())).expect("text");
    assert!(
        told.starts_with("retry: ") && told.contains("{\"reason\":\"shutdown\"}") && watcher.is_dropped(),
        "{told}"
    );
    assert!(!bench.server.owes_answers());
}

#[test]
fn a_stream_that_began_while_the_server_ended_was_cut_off_without_a_word() {
    let mut bench = Bench::new();
    let client = bench.connect();
    bench.is_log_held_up = true;
    assert_eq!(bench.ask(&client, &stream("p")), "");
    bench.drain();
    bench.server.end_streams(bench.now);
    bench.is_log_held_up = false;
    bench.turns();
    let text = client.take();
    assert!(text.contains("\"connected\"") && text.contains("\"reason\":\"shutdown\""), "{text}");
    assert!(text.ends_with("0\r\n\r\n") && client.is_dropped(), "{text}");
}

#[test]
fn a_server_that_is_behind_takes_no_work_and_stays_ready() {
    let mut bench = Bench::new();
    let client = bench.connect();
    bench.server.set_log_full(true);
    assert_refused(&bench.ask(&client, &publish(1)), 503, "overloaded");
    assert_eq!(statuses(&bench.ask(&client, &HEALTH.replace("healthz", "readyz"))), [200]);
    bench.server.set_log_full(false);
    assert_eq!(statuses(&bench.ask(&client, &publish(1))), [202]);
}

#[test]
fn a_node_that_hears_nothing_of_what_it_writes_is_not_ready_and_serves_whoever_comes_all_the_same() {
    let mut bench = Bench::new();
    let vitals = Arc::new(Vitals::new(bench.now.mono));
    bench.server.show_node(Node { vitals, counts: Arc::default() });
    let (client, ready) = (bench.connect(), HEALTH.replace("healthz", "readyz"));
    assert_eq!(statuses(&bench.ask(&client, &ready)), [200]);
    bench.now.mono += Duration::from_secs(15);
    assert_refused(&bench.ask(&client, &ready), 503, "store_unavailable");
    assert_eq!(statuses(&bench.ask(&client, &publish(1))), [202]);
    assert!(bench.ask(&client, &HEALTH.replace("healthz", "metrics")).contains("stepcast_round_trip_age_seconds 15"));
}

#[test]
fn a_store_that_takes_nothing_still_answers_and_streams_begin() {
    let mut bench = Bench::with(limits(), true);
    let client = bench.connect();
    let token = bench.token("one");
    let issue = with_token("POST /api/sse/ticket HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", &token);
    let answer = bench.ask(&client, &issue);
    let ticket = answer.split("\"ticket\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a ticket");
    let ready = HEALTH.replace("healthz", "readyz");

    bench.server.receive(Inbox::Log(vec![Delivery::StoreIsDown(true)]), bench.now);
    assert_refused(&bench.ask(&client, &ready), 503, "store_unavailable");
    assert_refused(&bench.ask(&client, &with_token(&publish(1), &token)), 503, "store_unavailable");
    let list = "GET /api/projects/p/workflows HTTP/1.1\r\nHost: h\r\n\r\n";
    assert_eq!(statuses(&bench.ask(&client, &with_token(list, &token))), [200]);
    let watcher = bench.connect();
    assert!(bench.ask(&watcher, &with_token(&stream("p"), &token)).contains("\"connected\""));
    let watcher = bench.connect();
    let with_ticket = stream(&format!("p?ticket={ticket}"));
    assert_busy(&bench.ask(&watcher, &with_ticket));

    bench.server.receive(Inbox::Log(vec![Delivery::StoreIsDown(false)]), bench.now);
    assert_eq!(statuses(&bench.ask(&client, &ready)), [200]);
    assert_eq!(statuses(&bench.ask(&client, &with_token(&publish(1), &token))), [202]);
    let watcher = bench.connect();
    assert!(bench.ask(&watcher, &with_ticket).contains("\"connected\""), "it was not spent");
}

#[test]
fn a_stream_that_the_log_refuses_is_put_off_softly_only_where_an_event_source_asks() {
    let mut bench = Bench::new();
    let client = bench.connect();
    for n in 0..100 {
        let answer = bench.ask(&client, &publish(1).replace("/projects/p/", &format!("/projects/p{n}/")));
        assert_eq!(statuses(&answer), [202], "as many projects as may be");
    }
    assert_busy(&bench.ask(&client, &stream("p")));
    let client = bench.connect();
    let no_event_source = "GET /api/sse/projects/p HTTP/1.1\r\nHost: h\r\n\r\n";
    assert_refused(&bench.ask(&client, no_event_source), 503, "too_many_projects");
}

#[test]
fn a_socket_that_can_not_be_watched_any_further_is_given_up_alone() {
    let mut bench = Bench::new();
    let (watcher, other, idle) = (bench.connect(), bench.connect(), bench.connect());
    for client in [&watcher, &other] {
        assert!(bench.ask(client, &stream("p")).contains("\"connected\""));
    }
    for client in [&watcher, &idle] {
        bench.abandon(client);
    }
    bench.turns();
    assert!(watcher.is_dropped() && idle.is_dropped() && !other.is_dropped());
    let publisher = bench.connect();
    assert_eq!(statuses(&bench.ask(&publisher, &publish(7))), [202]);
    assert!(other.take().contains("\"n\":7"), "whoever can be watched is served");
}

#[test]
fn a_refusal_did_not_name_the_setting_that_refused_it() {
    let small = ConnectionLimits { connections: 2, buffer_bytes: 1000, ..limits() };
    let mut bench = Bench::with(small, false);
    let clients = [(); 3].map(|()| bench.connect());
    let text = bench.ask(&clients[2], HEALTH);
    assert!(text.contains("too many connections are open (limit 2, limits.connections)"), "{text}");
    let head = "POST /api/projects/p/events HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    let text = bench.ask(&clients[0], &format!("{head}{}", "1;x\r\n \r\n".repeat(1000)));
    assert!(text.contains("too much memory (limit 1000 bytes, limits.buffer_bytes)"), "{text}");

    let mut bench = Bench::with(ConnectionLimits { per_address: 1, ..limits() }, false);
    let clients = [(); 2].map(|()| bench.connect_from("198.51.100.1").expect("a place"));
    let text = bench.ask(&clients[1], HEALTH);
    assert!(text.contains("are open from this address (limit 1, limits.connections_per_address)"), "{text}");

    let mut bench = Bench::with(limits(), true);
    let token = bench.token("one");
    let client = bench.connect();
    let text = (0..11).map(|n| bench.ask(&client, &with_token(&publish(n), &token))).last().expect("an answer");
    assert!(text.contains("with this token (limit 10 per second, limits.publish_rate)"), "{text}");
    let watch = with_token(&stream("p"), &token).replace("text/event-stream", "*/*");
    let clients = [(); 3].map(|()| bench.connect());
    let [_, _, text] = clients.each_ref().map(|client| bench.ask(client, &watch));
    assert!(text.contains("streams are open with this token (limit 2, limits.streams_per_token)"), "{text}");
}
