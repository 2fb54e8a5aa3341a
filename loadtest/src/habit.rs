//! What hostile peers do: what they send first, what they drip after it, whether they read, and how they leave.

use crate::loopback::Target;

/// Bytes of a body that is sent but for its last byte: a little less than a server takes by default.
const HELD_BODY_BYTES: usize = 1_000_000;

/// Requests that are sent ahead by those who flood.
const FLOOD_REQUESTS: usize = 64;

/// Requests for a large answer that are sent ahead by those who then read nothing.
const UNREAD_REQUESTS: usize = 100;

/// What a peer does once what it opens with is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Stays until the server closes.
    Stay,
    /// Sends one more byte every now and then.
    Drip(u8),
    /// Sends the same again and again.
    Repeat,
    /// Says that it will send no more, and stays.
    HalfClose,
    /// Breaks the connection off.
    Reset,
    /// Leaves as soon as something has come back.
    Leave,
    /// Breaks the connection off as soon as something has come back.
    ResetAnswered,
}

/// How one kind of peer behaves.
#[derive(Debug, Clone)]
pub struct Habit {
    /// What it is called in reports.
    pub name: &'static str,
    /// What it sends first.
    pub opening: Vec<u8>,
    /// It reads what comes.
    pub reads: bool,
    /// What it does next.
    pub then: Then,
}

impl Habit {
    /// All of them that are out for harm. `project` has messages.
    pub fn hostile(target: Target, project: &str) -> Vec<Self> {
        let host = target.address();
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
        let post = |length: usize| {
            let head = format!("POST /api/projects/{project}/events HTTP/1.1\r\nHost: {host}\r\n");
            format!("{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n[").into_bytes()
        };
        let half_a_head = format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\nX-Slow: ").into_bytes();
        let stream = format!("/api/sse/projects/{project}?snapshot=0");
        let held_body = [post(HELD_BODY_BYTES), vec![b' '; HELD_BODY_BYTES - 2]].concat();
        let kind = |name, opening, reads, then| Self { name, opening, reads, then };
        vec![
            kind("silent", Vec::new(), true, Then::Stay),
            kind("slow head", half_a_head.clone(), true, Then::Drip(b'x')),
            kind("slow body", post(HELD_BODY_BYTES), true, Then::Drip(b' ')),
            kind("held body", held_body, true, Then::Stay),
            kind("unread stream", get(&stream), false, Then::Stay),
            kind("unread answers", get("/openapi.json").repeat(UNREAD_REQUESTS), false, Then::Stay),
            kind("half-closed", half_a_head.clone(), false, Then::HalfClose),
            kind("flood", get("/healthz").repeat(FLOOD_REQUESTS), true, Then::Repeat),
            kind("garbage", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(), true, Then::Stay),
            kind("churn", get(&stream), true, Then::Leave),
            kind("reset", half_a_head, false, Then::Reset),
        ]
    }

    /// Those that come and go: requests and streams, in order and broken off.
    pub fn passing(target: Target, project: &str) -> Vec<Self> {
        let host = target.address();
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
        let stream = format!("/api/sse/projects/{project}");
        let kind = |name, path: &str, then| Self { name, opening: get(path), reads: true, then };
        vec![
            kind("request", "/healthz", Then::Leave),
            kind("request, reset", "/healthz", Then::ResetAnswered),
            kind("request, reset unheard", "/healthz", Then::Reset),
            kind("stream", &stream, Then::Leave),
            kind("stream, reset", &stream, Then::ResetAnswered),
            kind("stream, reset unheard", &stream, Then::Reset),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_is_held_lacks_one_byte() {
        let target = Target::parse("http://127.0.0.1:1").expect("loopback");
        let habits = Habit::hostile(target, "p");
        let held = habits.iter().find(|habit| habit.name == "held body").expect("a kind");
        let body = memchr::memmem::find(&held.opening, b"\r\n\r\n").map(|at| held.opening.len() - at - 4);
        assert_eq!(body, Some(HELD_BODY_BYTES - 1));
    }
}
