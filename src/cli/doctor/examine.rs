//! The tests of the doctor, in order, each with its findings.

use std::io;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use super::advice::Proxy;
use super::finding::Finding;
use super::tls::Trust;
use super::wire::{Answer, Caller, Head, Incoming, is_late};
use crate::cli::follow::{Envelope, refusal};
use crate::http::events::EventReader;
use crate::model::ProjectId;

/// The path at which a server tells what it received of a request.
const ECHO: &str = "/api/sse/doctor";

/// An address reserved for documentation, which no client and no proxy has.
const NOBODY: &str = "192.0.2.1";

/// An id that no server has issued.
const NO_ID: &str = "doctor.0";

/// How late a heartbeat may be.
const HEARTBEAT_SLACK: Duration = Duration::from_secs(3);

/// How often to check whether a stream has ended.
const LOOK: Duration = Duration::from_millis(100);

/// The largest body to try.
const BODY_BYTES_MAX: u64 = 16 << 20;

/// The largest event, in bytes. The doctor's own events are small.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// The result of a test.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) findings: Vec<Finding>,
    /// What is as it should be, or could not be tested, in a few words each.
    pub(super) notes: Vec<String>,
}

/// What the server received of a request.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Echo {
    version: String,
    host: Option<String>,
    headers: serde_json::Map<String, Value>,
    body_bytes: u64,
    body_bytes_max: u64,
    is_trusted_proxy: bool,
    counts_for: Option<String>,
}

/// The tests of a connection to a server, with what they have found out about the proxy.
pub(super) struct Examination {
    caller: Caller,
    project: ProjectId,
    /// How long an event may take before it counts as held back.
    wait: Duration,
    /// The proxy, if it names itself.
    proxy: Option<Proxy>,
    is_proxied: bool,
}

impl Examination {
    pub(super) fn new(caller: Caller, project: ProjectId, wait: Duration) -> Self {
        Self { caller, project, wait, proxy: None, is_proxied: false }
    }

    /// The proxy, if it names itself.
    pub(super) fn proxy(&self) -> Option<Proxy> {
        self.proxy
    }

    /// Whether there is a proxy.
    pub(super) fn is_proxied(&self) -> bool {
        self.is_proxied
    }

    /// Tests what proxies do to a request.
    ///
    /// # Errors
    /// If no server answers that can tell.
    pub(super) fn look_at_requests(&mut self) -> Result<Found, String> {
        let sent = [("Connection", "keep-alive"), ("Accept-Encoding", "gzip, br, zstd"), ("Last-Event-ID", NO_ID)];
        let (head, echo) = self.echo("GET", &sent, &[])?;
        self.recognise(&head, &echo);
        let mut found = Found::default();
        let authority = &self.caller.server.authority;
        if echo.version == "HTTP/1.0" {
            found.findings.push(Finding::OldVersion);
        }
        // The default port of a scheme may be left out.
        if echo.host.as_deref().is_none_or(|host| !authority.starts_with(host)) {
            found.findings.push(Finding::HostChanged { sent: authority.clone(), arrived: echo.host.clone() });
        }
        if echo.header("last-event-id") != Some(NO_ID) {
            found.findings.push(Finding::LastEventIdLost);
        }
        if self.is_proxied {
            found.findings.extend(self.look_at_addresses(&echo)?);
        }
        if found.findings.is_empty() {
            let whose =
                echo.counts_for.map_or_else(String::new, |address| format!("; you are {address} to the server"));
            found.notes.push(format!("requests arrive as they were sent, by {}{whose}", echo.version));
        }
        Ok(found)
    }

    fn look_at_addresses(&self, echo: &Echo) -> Result<Option<Finding>, String> {
        if echo.header("x-forwarded-for").is_none() {
            return Ok(Some(Finding::NoForwardedFor));
        }
        if !echo.is_trusted_proxy {
            let address = echo.counts_for.clone().unwrap_or_default();
            return Ok(Some(Finding::UntrustedProxy { address }));
        }
        if echo.counts_for.is_none() {
            // A client at a trusted proxy's address is believed like that proxy.
            return Ok(None);
        }
        let (_, forged) = self.echo("GET", &[("X-Forwarded-For", NOBODY)], &[])?;
        Ok((forged.counts_for.as_deref() == Some(NOBODY)).then_some(Finding::ForgedForwardedFor))
    }

    /// A proxy replaces `Connection`, which is for one connection only (RFC 9110, section 7.6.1). A proxy that does not
    /// is noticed by other signs.
    fn recognise(&mut self, head: &Head, echo: &Echo) {
        let names = [head.header("server"), head.header("via"), echo.header("via")];
        self.proxy = names.into_iter().flatten().find_map(Proxy::called);
        let has_cloudflare = head.header("cf-ray").is_some();
        self.proxy = if has_cloudflare { Some(Proxy::Cloudflare) } else { self.proxy };
        let added = ["via", "forwarded", "x-forwarded-for", "x-forwarded-proto", "x-real-ip"];
        self.is_proxied = names.iter().any(Option::is_some)
            || echo.version != "HTTP/1.1"
            || echo.header("connection") != Some("keep-alive")
            || added.iter().any(|name| echo.header(name).is_some());
    }

    /// Tests whether a body arrives that the server would take.
    pub(super) fn look_at_bodies(&self) -> Result<Found, String> {
        let (_, echo) = self.echo("GET", &[], &[])?;
        let bytes = echo.body_bytes_max.min(BODY_BYTES_MAX);
        let body = vec![b' '; usize::try_from(bytes).unwrap_or_default()];
        let sent = self.caller.ask("POST", ECHO, &[("Content-Type", "application/octet-stream")], &body);
        let refused =
            |answer: String| Found { findings: vec![Finding::BodyRefused { bytes, answer }], ..Found::default() };
        Ok(match sent {
            Ok(answer) if answer.head.status == 200 && Echo::read(&answer)?.body_bytes == bytes => {
                Found { notes: vec![format!("a body of {bytes} bytes arrives whole")], ..Found::default() }
            }
            Ok(answer) => refused(format!("was answered {}", answer.head.status)),
            Err(error) => refused(format!("got no answer: {error}")),
        })
    }

    /// Tests whether events arrive at once and unchanged, and whether a stream resumes where it was left.
    ///
    /// # Errors
    /// If no stream can be opened.
    pub(super) fn look_at_events(&self) -> Result<Found, String> {
        let mut found = Found::default();
        let head = self.open_stream(&[("Accept-Encoding", "gzip, br, zstd")])?.map(|stream| stream.incoming.head);
        if let Some(coding) = head.as_ref().and_then(|head| head.header("content-encoding")) {
            found.findings.push(Finding::Compressed { coding: coding.to_owned() });
        }
        let Some((delay, last_id)) = self.time_event()? else {
            found.findings.push(Finding::Buffered { waited: self.wait });
            found.notes.push("resuming a stream was not tested, because no event arrived".to_owned());
            return Ok(found);
        };
        found.notes.push(format!("an event arrives within {} ms", delay.as_millis().max(1)));
        match self.resumes(&last_id)? {
            true => found.notes.push("a stream resumes where it was interrupted".to_owned()),
            false => found.findings.push(Finding::LastEventIdLost),
        }
        Ok(found)
    }

    /// How long an event takes from its publisher to a stream, and its id. `None` if it is held back.
    fn time_event(&self) -> Result<Option<(Duration, String)>, String> {
        let Some(mut stream) = self.open_stream(&[])? else { return Ok(None) };
        if stream.wait_for("connected", self.wait)?.is_none() {
            return Ok(None);
        }
        let since = Instant::now();
        self.publish()?;
        let event = stream.wait_for("doctor", self.wait)?;
        Ok(event.map(|_| (since.elapsed(), stream.reader.last_event_id().to_owned())))
    }

    fn resumes(&self, last_id: &str) -> Result<bool, String> {
        let Some(mut stream) = self.open_stream(&[("Last-Event-ID", last_id)])? else { return Ok(false) };
        let connected = stream.wait_for("connected", self.wait)?.unwrap_or_default();
        Ok(connected["resume"] == "resumed")
    }

    /// Tests whether the server notices that a client has left, by the server's count of streams.
    pub(super) fn look_at_leaving(&self) -> Result<Found, String> {
        let path = format!("/api/projects/{}/subscribers", self.project);
        let count = || {
            let answer = self.caller.ask("GET", &path, &[], &[]).map_err(|error| self.unanswered(&error))?;
            let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            body["count"].as_u64().ok_or_else(|| self.refused(&answer))
        };
        let Some(stream) = self.open_stream(&[])? else { return Ok(Found::default()) };
        let with_it = count()?;
        drop(stream);
        let until = Instant::now() + self.wait;
        while count()? >= with_it.max(1) {
            if Instant::now() > until {
                let finding = Finding::StreamsStayOpen { waited: self.wait };
                return Ok(Found { findings: vec![finding], ..Found::default() });
            }
            std::thread::sleep(LOOK);
        }
        Ok(Found { notes: vec!["the server learns at once that a client has left".to_owned()], ..Found::default() })
    }

    /// Tests whether a stream stays open without events.
    pub(super) fn look_at_idling(&self, watch: Duration) -> Result<Found, String> {
        let Some(mut stream) = self.open_stream(&[])? else { return Ok(Found::default()) };
        let Some(connected) = stream.wait_for("connected", self.wait)? else { return Ok(Found::default()) };
        let heartbeat = Duration::from_millis(connected["heartbeat"].as_u64().unwrap_or_default());
        let began = Instant::now();
        let (mut last, mut longest) = (began, Duration::ZERO);
        let until = began + watch;
        while Instant::now() < until {
            let due = (!heartbeat.is_zero()).then(|| last + heartbeat + HEARTBEAT_SLACK);
            let piece = stream.next_piece(due.map_or(until, |due| due.min(until)));
            let quiet = last.elapsed();
            match piece {
                Ok(Some(_)) => (last, longest) = (Instant::now(), longest.max(quiet)),
                Ok(None) if stream.has_farewell => {
                    return Err("the server ended the stream: is it shutting down?".to_owned());
                }
                // The stream has survived a longer silence, so it was not closed for being idle.
                Ok(None) if !longest.is_zero() && quiet + LOOK < longest => {
                    return Ok(Found::of(Finding::Cut { after: began.elapsed() }));
                }
                Ok(None) => return Ok(Found::of(Finding::IdleCut { after: round(quiet) })),
                Err(error) if is_late(&error) && due.is_some_and(|due| due <= Instant::now()) => {
                    return Ok(Found::of(Finding::NoHeartbeat { waited: round(quiet), heartbeat }));
                }
                Err(error) if is_late(&error) => break,
                Err(_) => return Ok(Found::of(Finding::IdleCut { after: round(quiet) })),
            }
        }
        let watched = humantime::format_duration(watch);
        Ok(Found { notes: vec![format!("an idle stream stays open (watched for {watched})")], ..Found::default() })
    }

    /// Tests whether a browser would get HTTP/2.
    pub(super) fn look_at_browsers(&self) -> Result<Found, String> {
        let server = &self.caller.server;
        if !server.is_secure {
            return Ok(Found::of(Finding::NoTls));
        }
        match self.caller.trust.has_http2(server).map_err(|error| self.unanswered(&error))? {
            true => Ok(Found { notes: vec!["browsers get HTTP/2".to_owned()], ..Found::default() }),
            false => Ok(Found::of(Finding::NoHttp2)),
        }
    }

    fn echo(&self, method: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<(Head, Echo), String> {
        let answer = self.caller.ask(method, ECHO, headers, body).map_err(|error| self.unanswered(&error))?;
        match answer.head.status {
            200 => Echo::read(&answer).map(|echo| (answer.head, echo)),
            _ => Err(self.refused(&answer)),
        }
    }

    fn publish(&self) -> Result<(), String> {
        let path = format!("/api/projects/{}/events", self.project);
        let event = br#"{"type":"doctor","payload":{}}"#;
        let answer = self.caller.ask("POST", &path, &[("Content-Type", "application/json")], event);
        let answer = answer.map_err(|error| self.unanswered(&error))?;
        if answer.head.status == 202 { Ok(()) } else { Err(self.refused(&answer)) }
    }

    /// Opens a stream. `None` if not even the head of the response arrives.
    fn open_stream(&self, headers: &[(&str, &str)]) -> Result<Option<Stream>, String> {
        let path = format!("/api/sse/projects/{}?snapshot=0", self.project);
        let headers: Vec<_> = [("Accept", "text/event-stream")].into_iter().chain(headers.iter().copied()).collect();
        match self.caller.open("GET", &path, &headers, &[]) {
            Ok(incoming) if incoming.head.status == 200 => Ok(Some(Stream::of(incoming))),
            Ok(incoming) => Err(format!("{} answered {} to a stream", self.caller.server, incoming.head.status)),
            Err(error) if is_late(&error) => Ok(None),
            Err(error) => Err(self.unanswered(&error)),
        }
    }

    fn unanswered(&self, error: &io::Error) -> String {
        let server = &self.caller.server;
        if is_late(error) {
            return format!("{server} does not answer within {}", humantime::format_duration(self.caller.patience));
        }
        let advice = Trust::advice(error).map_or_else(String::new, |advice| format!("; {advice}"));
        format!("{server} does not answer: {error}{advice}")
    }

    fn refused(&self, answer: &Answer) -> String {
        let server = &self.caller.server;
        let (status, said) = (answer.head.status, refusal(server, answer.head.status, &answer.body));
        match status {
            401 => format!("{said}; pass a token with the scope admin: --token, or STEPCAST_TOKEN"),
            403 => format!("{said}; the token needs the scope admin in project {}", self.project),
            421 => {
                let asked = &server.authority;
                format!(
                    "{said}; {asked} was asked for: does the proxy keep Host (nginx: proxy_set_header Host $http_host;)?"
                )
            }
            404 => format!("{said}; is {server} a stepcast server, of a version that knows the doctor?"),
            _ => said,
        }
    }
}

impl Found {
    fn of(finding: Finding) -> Self {
        Self { findings: vec![finding], notes: Vec::new() }
    }
}

impl Echo {
    fn read(answer: &Answer) -> Result<Self, String> {
        serde_json::from_slice(&answer.body)
            .map_err(|error| format!("the server that answers is not stepcast: {error}"))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.as_str()
    }
}

/// A stream, and what was received of it.
struct Stream {
    incoming: Incoming,
    reader: EventReader,
    /// Whether the server has said that it ends the stream.
    has_farewell: bool,
}

impl Stream {
    fn of(incoming: Incoming) -> Self {
        Self { incoming, reader: EventReader::new(EVENT_BYTES_MAX), has_farewell: false }
    }

    /// The payload of the next message of this type. `None` if it does not arrive in time or the stream ends.
    fn wait_for(&mut self, message_type: &str, wait: Duration) -> Result<Option<Value>, String> {
        let deadline = Instant::now() + wait;
        loop {
            let payloads = match self.next_piece(deadline) {
                Ok(Some(payloads)) => payloads,
                Ok(None) => return Ok(None),
                Err(error) if is_late(&error) => return Ok(None),
                Err(error) => return Err(format!("a stream was cut off: {error}")),
            };
            if let Some((_, payload)) = payloads.into_iter().find(|(it, _)| it == message_type) {
                return Ok(Some(payload));
            }
        }
    }

    /// The messages that are complete with the next input, perhaps none, each as type and payload. `None` at the end.
    fn next_piece(&mut self, deadline: Instant) -> io::Result<Option<Vec<(String, Value)>>> {
        let piece = self.incoming.next(deadline)?;
        let mut messages = Vec::new();
        let mut rest = &piece[..];
        while !rest.is_empty() {
            let (used, event) = self.reader.take(rest).map_err(io::Error::other)?;
            rest = &rest[used..];
            let message = event.as_ref().and_then(|event| Envelope::read(&event.data));
            messages.extend(message.map(|message| {
                let payload = serde_json::from_str(message.payload.get()).unwrap_or_default();
                (message.message_type.to_owned(), payload)
            }));
        }
        self.has_farewell |= messages.iter().any(|(message_type, _)| message_type == "stream_closing");
        Ok((!piece.is_empty()).then_some(messages))
    }
}

/// Rounded to seconds, if the time is about a second or longer.
fn round(duration: Duration) -> Duration {
    match duration + Duration::from_millis(500) {
        seconds if seconds.as_secs() > 0 => Duration::from_secs(seconds.as_secs()),
        _ => duration,
    }
}
