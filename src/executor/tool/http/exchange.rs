//! One request and its response, received in pieces, which can be abandoned at any time.
//!
//! The client blocks, so an exchange runs on its own thread and passes the pieces through a short channel, where the
//! caller waits and checks its cancel token. An abandoned exchange must not occupy its thread until the server sends
//! something. Shutting an agent down ends its blocked reads, but for everyone who uses that agent. Therefore each call
//! has an agent of its own from a pool. Agents return to the pool after a successful call, and their connections are
//! reused or closed after a while.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use ureq::Agent;
use ureq::config::Config;
use ureq::http::{HeaderMap, HeaderName, Response, StatusCode, header};

use super::super::{CancelToken, Failure, ToolError};
use super::idle::Idle;
use super::url::join;
use crate::outbound::wire::{self, Request, broke_off, describe, reason};
use crate::outbound::{Hosts, origin};

/// How often a waiting caller looks at its cancel token.
const CANCEL_CHECK: Duration = Duration::from_millis(50);

/// How much of an answer is read at once.
const READ_BYTES: usize = 16 * 1024;

/// How many pieces wait between an exchange and its caller: 64 KiB.
const PIECES: usize = 4;

/// How many redirects are followed.
const REDIRECTS_MAX: usize = 10;

/// Headers that another server may see where a redirect leads there. All others are meant for the one that was declared.
const HEADERS_FOR_ALL: [HeaderName; 4] =
    [header::ACCEPT, header::ACCEPT_LANGUAGE, header::CONTENT_TYPE, header::USER_AGENT];

/// How many agents are kept for later calls, each with the connections it left open.
const IDLE_AGENTS_MAX: usize = 16;

/// What an answer begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    /// The status and what it is called: `404 Not Found`.
    pub(super) status_text: String,
    pub(super) content_type: String,
    pub(super) content_encoding: Option<String>,
    /// As it was sent.
    pub(super) retry_after: Option<String>,
    /// The server's clock.
    pub(super) date: Option<String>,
    /// Says where its body ends, so that a body that breaks off fails. Else the connection's end is all that tells.
    pub(super) is_delimited: bool,
}

impl Head {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Sends requests and reuses connections.
#[derive(Debug)]
pub(super) struct Client {
    config: Config,
    /// Where redirects may lead besides the same server; none are followed without.
    follow: Option<Arc<Hosts>>,
    idle: Idle<Agent>,
}

impl Client {
    pub(super) fn new(follow: Option<Hosts>, proxy_from_env: bool, idle: Duration) -> Self {
        let config = wire::config(proxy_from_env).max_idle_age(idle);
        Self { config: config.build(), follow: follow.map(Arc::new), idle: Idle::new(idle, IDLE_AGENTS_MAX) }
    }

    /// Sends `request`, and waits for the head of the answer.
    pub(super) fn send(&self, request: Request, cancel: &CancelToken) -> Result<(Head, Exchange<'_>), ToolError> {
        let (agent, is_used) = match self.idle.take() {
            Some(agent) => (agent, true),
            None => (self.config.new_agent(), false),
        };
        let (to, pieces) = bounded(PIECES);
        let (worker, follow) = (agent.clone(), self.follow.clone());
        let work = move || {
            let last = perform((&worker, is_used), request, follow.as_deref(), &to)
                .map_or_else(Piece::Failed, |()| Piece::End);
            // Nobody takes it where the exchange was given up.
            let _ = to.send(last);
        };
        let started = std::thread::Builder::new().name("stepcast-http".to_owned()).spawn(work);
        started.map_err(|error| format!("can't start a thread for the request: {error}"))?;
        let mut exchange = Exchange { client: self, agent: Some(agent), pieces, has_ended: false };
        match exchange.wait(cancel)? {
            Piece::Head(head) => Ok((head, exchange)),
            Piece::Body(_) | Piece::End | Piece::Failed(_) => Err(lost("the server sent no response head")),
        }
    }
}

/// There is no answer, or not all of it.
fn lost(error: impl Into<String>) -> ToolError {
    ToolError::new(error).with_failure(Failure::Connection)
}

/// An answer being read. Dropped before its end, it is given up.
pub(super) struct Exchange<'c> {
    client: &'c Client,
    /// There until dropped.
    agent: Option<Agent>,
    pieces: Receiver<Piece>,
    has_ended: bool,
}

impl Exchange<'_> {
    /// The next piece of the body; nothing at its end.
    pub(super) fn next(&mut self, cancel: &CancelToken) -> Result<Option<Vec<u8>>, ToolError> {
        if self.has_ended {
            return Ok(None);
        }
        match self.wait(cancel)? {
            Piece::Body(bytes) => Ok(Some(bytes)),
            Piece::Head(_) | Piece::End | Piece::Failed(_) => Ok(None),
        }
    }

    fn wait(&mut self, cancel: &CancelToken) -> Result<Piece, ToolError> {
        loop {
            if cancel.is_cancelled() {
                return Err("cancelled".into());
            }
            match self.pieces.recv_timeout(CANCEL_CHECK) {
                Ok(Piece::Failed(error)) => return Err(lost(error)),
                Ok(piece) => {
                    self.has_ended = matches!(piece, Piece::End);
                    return Ok(piece);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(lost("the connection was lost")),
            }
        }
    }
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        let Some(agent) = self.agent.take() else { return };
        if self.has_ended { self.client.idle.put(agent) } else { agent.shutdown() }
    }
}

/// What an exchange hands over: `Head`, any number of `Body`, `End`; or `Failed` at any point, which is the last.
enum Piece {
    Head(Head),
    Body(Vec<u8>),
    End,
    Failed(String),
}

/// Sends the request, follows redirects, and hands the answer over. Ends early, and well, once nobody takes it. The agent
/// comes with whether it may have connections from earlier calls.
fn perform(
    (agent, is_used): (&Agent, bool),
    mut request: Request,
    follow: Option<&Hosts>,
    to: &Sender<Piece>,
) -> Result<(), String> {
    let mut redirects = 0;
    let response = loop {
        let sent = match wire::send(agent, &request) {
            // On a new connection: the old one is gone with its error.
            Err(error) if is_used && is_idempotent(&request.method) && has_hung_up(&error) => {
                wire::send(agent, &request)
            }
            sent => sent,
        };
        let response = sent.map_err(|error| describe(&request, &reason(&error)))?;
        let Some((location, hosts)) = location(&response).zip(follow) else { break response };
        if redirects == REDIRECTS_MAX {
            return Err(format!("too many redirects (limit {REDIRECTS_MAX}, not configurable)"));
        }
        redirect(&mut request, response.status(), &location, hosts)?;
        redirects += 1;
    };
    let (parts, body) = response.into_parts();
    if to.send(Piece::Head(head(parts.status, &parts.headers))).is_err() {
        return Ok(());
    }
    let mut body = body.into_reader();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let n = body.read(&mut buffer).map_err(|error| broke_off(&request, &error))?;
        if n == 0 || to.send(Piece::Body(buffer[..n].to_vec())).is_err() {
            return Ok(());
        }
    }
}

/// A server may end a connection that was kept just when the next request goes over it. A request that changes nothing by
/// coming twice is then sent again (RFC 9112, section 9.3.1); any other may have been carried out, so it fails.
fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE")
}

/// Did the connection end before the answer began?
fn has_hung_up(error: &ureq::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let ureq::Error::Io(error) = error else { return false };
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

fn location(response: &Response<ureq::Body>) -> Option<String> {
    let is_redirect = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let location = response.headers().get(header::LOCATION).filter(|_| is_redirect)?;
    Some(String::from_utf8_lossy(location.as_bytes()).into_owned())
}

/// Makes the request that follows a redirect. A redirect to another server is refused, unless the server is one of
/// `hosts` and TLS is not given up. Only headers that are for all servers are sent to it.
fn redirect(request: &mut Request, status: StatusCode, location: &str, hosts: &Hosts) -> Result<(), String> {
    let target = join(&request.url, location);
    if !origin(&target).eq_ignore_ascii_case(origin(&request.url)) {
        if !hosts.allow(&target) || (is_https(&request.url) && !is_https(&target)) {
            // Without what may be a password.
            let server = origin(&target).rsplit('@').next().unwrap_or_default();
            return Err(describe(request, &format!("redirects to another server, {server}, which is not allowed")));
        }
        request
            .headers
            .retain(|(name, _)| HEADERS_FOR_ALL.iter().any(|known| name.eq_ignore_ascii_case(known.as_str())));
    }
    request.url = target;
    let becomes_get = status == StatusCode::SEE_OTHER || (request.method == "POST" && status.as_u16() < 303);
    if becomes_get && request.method != "HEAD" {
        request.method = "GET".to_owned();
        request.body = None;
        request.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("content-type"));
    }
    Ok(())
}

fn is_https(url: &str) -> bool {
    url.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("https://"))
}

fn head(status: StatusCode, headers: &HeaderMap) -> Head {
    let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    Head {
        status: status.as_u16(),
        status_text: status.to_string(),
        content_type: text(header::CONTENT_TYPE).unwrap_or_default(),
        content_encoding: text(header::CONTENT_ENCODING).filter(|coding| !coding.eq_ignore_ascii_case("identity")),
        retry_after: text(header::RETRY_AFTER),
        date: text(header::DATE),
        is_delimited: headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING),
    }
}
