//! Opens a stream: sends the request, and interprets the answer of the server.
//!
//! Plain HTTP uses version 1.0, in which no proxy splits a response into chunks: a stream ends with its connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use super::server_url::ServerUrl;
use crate::config::Secret;
use crate::random;

/// How long connecting may take, and the head of an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// The largest head of an answer, and of a refusal's body what is read.
const HEAD_BYTES_MAX: u64 = 64 * 1024;

/// The largest body of an answer that is read: the outline of the largest plan has less.
const BODY_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What the server said to the request.
pub(super) enum Answer {
    /// The stream begins.
    Stream(Source),
    /// Everything that there was to see was seen.
    Over,
    /// No, by this status, with what it said of it.
    Refused { status: u16, detail: String },
}

/// A stream, byte by byte.
pub(super) struct Source {
    pub(super) lines: Box<dyn BufRead + Send>,
    /// The connection, where its patience can be set.
    socket: Option<TcpStream>,
}

impl Source {
    /// Gives the stream up where nothing at all came for so long; never, for zero.
    pub(super) fn be_patient_for(&self, silence: Duration) {
        if let Some(socket) = &self.socket {
            // A socket that is gone fails at the next read.
            let _ = socket.set_read_timeout((!silence.is_zero()).then_some(silence));
        }
    }
}

/// Asks for the stream at `path`.
pub(super) fn open(
    server: &ServerUrl,
    path: &str,
    token: Option<&Secret>,
    last_id: Option<&str>,
) -> io::Result<Answer> {
    let mut headers = vec![("Accept", "text/event-stream".to_owned())];
    headers.extend(token.map(|token| ("Authorization", format!("Bearer {}", token.expose()))));
    headers.extend(last_id.map(|id| ("Last-Event-ID", id.to_owned())));
    let target = server.target(path);
    if server.is_secure { tls::open(server, &target, &headers) } else { open_plain(server, &target, &headers) }
}

/// Sends a JSON body to `path`: the answer's status and body. Where no answer comes it is sent once more: by its key the
/// server knows the call again, and does nothing twice.
pub(in crate::cli) fn post(
    server: &ServerUrl,
    path: &str,
    token: Option<&Secret>,
    body: &str,
) -> io::Result<(u16, Vec<u8>)> {
    let key = URL_SAFE_NO_PAD.encode(random::bits::<16>().map_err(io::Error::other)?);
    let mut headers = vec![("Content-Type", "application/json".to_owned()), ("Idempotency-Key", key)];
    headers.extend(token.map(|token| ("Authorization", format!("Bearer {}", token.expose()))));
    let target = server.target(path);
    let send = || match server.is_secure {
        true => tls::post(server, &target, &headers, body),
        false => post_plain(server, &target, &headers, body),
    };
    send().or_else(|_| send())
}

/// Why a call was refused, in a sentence.
pub(in crate::cli) fn refusal(server: &ServerUrl, status: u16, body: &[u8]) -> String {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let detail = problem["detail"].as_str().map_or_else(|| format!("{server} answered {status}"), str::to_owned);
    let issues = problem["issues"].as_array().into_iter().flatten();
    let issues =
        issues.filter_map(|issue| Some(format!("{}: {}", issue["path"].as_str()?, issue["message"].as_str()?)));
    // The first of them may be the whole of the detail.
    let further = issues.filter(|issue| !detail.contains(issue)).map(|issue| format!("; {issue}"));
    format!("{detail}{}", further.collect::<String>())
}

fn post_plain(server: &ServerUrl, target: &str, headers: &[(&str, String)], body: &str) -> io::Result<(u16, Vec<u8>)> {
    let mut socket = connect(&server.host_and_port())?;
    let mut request = format!("POST {target} HTTP/1.0\r\nHost: {}\r\n", server.authority);
    headers.iter().for_each(|(name, value)| request.push_str(&format!("{name}: {value}\r\n")));
    request.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    socket.write_all(request.as_bytes())?;
    let mut lines = BufReader::new(socket);
    let head = read_head(&mut lines)?;
    let mut answer = Vec::new();
    lines.take(BODY_BYTES_MAX).read_to_end(&mut answer)?;
    Ok((head.status, answer))
}

fn open_plain(server: &ServerUrl, target: &str, headers: &[(&str, String)]) -> io::Result<Answer> {
    let mut socket = connect(&server.host_and_port())?;
    let mut request = format!("GET {target} HTTP/1.0\r\nHost: {}\r\n", server.authority);
    headers.iter().for_each(|(name, value)| request.push_str(&format!("{name}: {value}\r\n")));
    request.push_str("\r\n");
    socket.write_all(request.as_bytes())?;
    let mut lines = BufReader::new(socket.try_clone()?);
    let head = read_head(&mut lines)?;
    answer(head.status, head.is_event_stream, Source { lines: Box::new(lines), socket: Some(socket) })
}

/// Connects to the first of the host's addresses that takes it.
pub(in crate::cli) fn connect(host_and_port: &str) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in host_and_port.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, ANSWER_TIMEOUT) {
            Ok(socket) => {
                socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
                return Ok(socket);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn answer(status: u16, is_event_stream: bool, source: Source) -> io::Result<Answer> {
    match status {
        200 if is_event_stream => Ok(Answer::Stream(source)),
        200 => Ok(Answer::Refused { status, detail: "it is not an event stream".to_owned() }),
        204 => Ok(Answer::Over),
        _ => {
            let mut body = Vec::new();
            // A refusal whose reason does not come is one all the same.
            let _ = source.lines.take(HEAD_BYTES_MAX).read_to_end(&mut body);
            Ok(Answer::Refused { status, detail: detail(&body) })
        }
    }
}

/// What a problem's body says in words; nothing where it is none.
fn detail(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Problem {
        detail: String,
    }
    serde_json::from_slice::<Problem>(body).map(|problem| problem.detail).unwrap_or_default()
}

#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    is_event_stream: bool,
}

fn read_head(from: &mut impl BufRead) -> io::Result<Head> {
    let broken = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut lines = from.take(HEAD_BYTES_MAX).lines();
    let first = lines.next().ok_or_else(|| broken("the server closed the connection without an answer"))??;
    let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| broken("the server does not speak HTTP"))?;
    let mut is_event_stream = false;
    for line in lines {
        let line = line?;
        if line.is_empty() {
            return Ok(Head { status, is_event_stream });
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        is_event_stream |= name.eq_ignore_ascii_case("content-type") && is_event_stream_type(value);
    }
    Err(broken("the answer ends in the middle of its head"))
}

fn is_event_stream_type(value: &str) -> bool {
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/event-stream")
}

#[cfg(feature = "http-tool")]
mod tls {
    use std::io;

    use super::*;
    use crate::outbound::wire;

    pub(super) fn open(server: &ServerUrl, target: &str, headers: &[(&str, String)]) -> io::Result<Answer> {
        let config = wire::config(true);
        let config = config.timeout_connect(Some(ANSWER_TIMEOUT)).timeout_recv_response(Some(ANSWER_TIMEOUT));
        let mut request = config.build().new_agent().get(format!("https://{}{target}", server.authority));
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let response = request.call().map_err(ureq::Error::into_io)?;
        let status = response.status().as_u16();
        let content_type = response.headers().get("content-type").and_then(|value| value.to_str().ok());
        let is_event_stream = content_type.is_some_and(is_event_stream_type);
        let lines = Box::new(BufReader::new(response.into_body().into_reader()));
        answer(status, is_event_stream, Source { lines, socket: None })
    }

    pub(super) fn post(
        server: &ServerUrl,
        target: &str,
        headers: &[(&str, String)],
        body: &str,
    ) -> io::Result<(u16, Vec<u8>)> {
        let config = wire::config(true);
        let config = config.timeout_connect(Some(ANSWER_TIMEOUT)).timeout_recv_response(Some(ANSWER_TIMEOUT));
        let mut request = config.build().new_agent().post(format!("https://{}{target}", server.authority));
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let response = request.send(body).map_err(ureq::Error::into_io)?;
        let (status, mut answer) = (response.status().as_u16(), Vec::new());
        response.into_body().into_reader().take(BODY_BYTES_MAX).read_to_end(&mut answer)?;
        Ok((status, answer))
    }
}

#[cfg(not(feature = "http-tool"))]
mod tls {
    use super::*;

    pub(super) fn open(_: &ServerUrl, _: &str, _: &[(&str, String)]) -> io::Result<Answer> {
        Err(unsupported())
    }

    pub(super) fn post(_: &ServerUrl, _: &str, _: &[(&str, String)], _: &str) -> io::Result<(u16, Vec<u8>)> {
        Err(unsupported())
    }

    fn unsupported() -> io::Error {
        io::Error::new(
            io::ErrorKind::Unsupported,
            "https is not supported: this program was built without the feature http-tool",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read() {
        let head = |status, is_event_stream| Some(Head { status, is_event_stream });
        for (text, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nrest", head(200, true)),
            ("HTTP/1.0 200 \r\ncontent-type:Text/Event-Stream; charset=utf-8\r\n\r\n", head(200, true)),
            ("HTTP/1.1 403 Forbidden\r\nContent-Type: application/problem+json\r\n\r\n", head(403, false)),
            ("HTTP/1.1 204\r\n\r\n", head(204, false)),
            ("HTTP/1.1 200 OK\r\nContent-Type: text/ev", None),
            ("SSH-2.0-x\r\n\r\n", None),
            ("HTTP/1.1 \u{e9}\u{e9}\u{e9}\r\n\r\n", None),
            ("", None),
        ] {
            assert_eq!(read_head(&mut text.as_bytes()).ok(), expected, "{text:?}");
        }
        assert_eq!(detail(br#"{"status": 403, "detail": "no"}"#), "no");
        assert_eq!(detail(b"<html>"), "");
    }

    #[test]
    fn what_was_wrong_with_a_payload_was_said_twice() {
        let server: ServerUrl = "http://127.0.0.1:8080".parse().expect("an address");
        let issue = |path: &str| serde_json::json!({"path": path, "message": "no"});
        let said = |detail: &str, paths: &[&str]| {
            let issues: Vec<Value> = paths.iter().map(|path| issue(path)).collect();
            refusal(&server, 422, serde_json::json!({"detail": detail, "issues": issues}).to_string().as_bytes())
        };
        assert_eq!(said("payload.n: no", &["payload.n"]), "payload.n: no");
        assert_eq!(said("a: no (and 1 more)", &["a", "b"]), "a: no (and 1 more); b: no");
        assert_eq!(refusal(&server, 502, b"<html>"), format!("{server} answered 502"));
    }
}
