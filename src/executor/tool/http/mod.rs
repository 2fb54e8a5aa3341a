//! The http tool: sends an HTTP request.
//!
//! A streamed response (SSE, NDJSON) becomes live output, event by event, and the step's output is all of it joined.
//! For any other response the output is the body. URLs are not secret and may be shown; secrets belong in headers.

mod body;
mod events;
mod exchange;
mod idle;
mod url;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use self::body::ValueTemplate;
use self::events::{Framing, Rest, StreamEvent, StreamReader};
use self::exchange::{Client, Exchange, Head};
use self::url::UrlTemplate;
use super::kept::Kept;
use super::mask::{Mask, MaskStream, check_length, check_secret, secret_parts};
use super::pick::Pick;
use super::render::{Template, inputs_scope};
use super::usage::{Meter, Tally};
use super::{Call, Failure, HttpSpec, Outcome, Tool, ToolError, ToolSettings};
use crate::clock;
use crate::executor::template::{Escaping, Scope};
use crate::http::media::is_json;
use crate::model::OutputStream;
use crate::model::json::{LostNumber, lost_number};
use crate::outbound::wire::{self, Request};
use crate::outbound::{Hosts, origin, retry_after};

/// How long an attempt may take where nothing says so.
const TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// How much of a refusal's body an error quotes, in bytes.
const QUOTED_BYTES: usize = 1024;

/// How much of a refusal's body is read, so that its connection can be used again.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// Headers whose values are no secrets: they would be found all over an honest answer.
const PUBLIC_HEADERS: [&str; 7] =
    ["accept", "accept-encoding", "accept-language", "cache-control", "content-type", "host", "user-agent"];

/// Headers that hold nothing but a secret, though their names do not say so.
const SECRET_HEADERS: [&str; 3] = ["authorization", "proxy-authorization", "cookie"];

/// What a streamed answer of the usual language models ends with.
const DONE: &str = "[DONE]";

/// What the error begins with of a streamed answer that ends in the middle.
const CUT: &str = "stream_cut";

/// What the error begins with of a streamed answer that tells of an error.
const ERROR: &str = "stream_error";

/// The statuses whose `Retry-After` lengthens the wait before the next attempt.
const RETRY_LATER: [u16; 2] = [429, 503];

/// A tool that sends an HTTP request.
#[derive(Debug)]
pub struct HttpTool {
    method: String,
    url: UrlTemplate,
    headers: Vec<(String, Template)>,
    body: Option<ValueTemplate>,
    stream_text: Option<Pick>,
    stream_error: Option<Pick>,
    hosts: Hosts,
    client: Client,
    mask: Mask,
    meter: Option<Meter>,
    settings: ToolSettings,
}

impl HttpTool {
    /// Compiles `spec`. Redirects, where allowed, are followed on the same server and to those of `allow_hosts`.
    ///
    /// # Errors
    /// One sentence that names the field and what is wrong with it.
    pub fn new(spec: HttpSpec, settings: ToolSettings) -> Result<Self, String> {
        let secrets = mask(&spec);
        Self::compile(spec, settings, secrets.clone()).map_err(|problem| secrets.text(&problem).into_owned())
    }

    fn compile(spec: HttpSpec, settings: ToolSettings, mask: Mask) -> Result<Self, String> {
        if !wire::is_method(&spec.method) {
            return Err("method: must be an HTTP method, such as `GET`".to_owned());
        }
        let url = UrlTemplate::compile(&spec.url).map_err(|problem| format!("url: {problem}"))?;
        if !url.has_templates() && !wire::is_url(&spec.url) {
            return Err("url: must be a valid URL".to_owned());
        }
        let hosts = Hosts::compile(&spec.allow_hosts)?;
        if url.is_host_open() && hosts.is_empty() {
            return Err(
                "url: a template in the host or port requires allow_hosts, because it lets a plan choose the server"
                    .to_owned(),
            );
        }
        let headers = spec.headers.iter().map(|(name, value)| Ok((name.clone(), header(name, value)?)));
        Ok(Self {
            headers: headers.collect::<Result<_, String>>()?,
            body: spec.body.as_ref().map(|body| ValueTemplate::compile(body, "body")).transpose()?,
            stream_text: pick("stream_text", spec.stream_text.as_deref())?,
            stream_error: pick("stream_error", spec.stream_error.as_deref())?,
            client: Client::new(spec.allow_redirects.then(|| hosts.clone()), settings.proxy_from_env, settings.idle),
            hosts,
            mask,
            meter: None,
            method: spec.method.to_ascii_uppercase(),
            url,
            settings,
        })
    }

    /// The tool, telling what its attempts use.
    pub(super) fn metered(self, meter: Option<Meter>) -> Self {
        Self { meter, ..self }
    }

    fn run(&self, call: &Call<'_>) -> Result<Outcome, ToolError> {
        let (head, mut exchange) = self.client.send(self.request(call.inputs)?, call.cancel)?;
        if let Some(coding) = &head.content_encoding {
            return Err(format!("the response is compressed ({coding}), which was not requested").into());
        }
        if !head.is_success() {
            return Err(self.refusal(&head, &mut exchange, call));
        }
        match Framing::of(&head.content_type) {
            Some(framing) => self.read_stream(framing, &head, &mut exchange, call),
            None => self.read_body(&head, &mut exchange, call),
        }
        .map(Outcome::Output)
    }

    fn request(&self, inputs: &Map<String, Value>) -> Result<Request, String> {
        let scope = inputs_scope(inputs);
        let url = self.url.render(&scope).map_err(|problem| format!("url: {problem}"))?;
        if !wire::is_url(&url) {
            return Err("url: is not a valid URL once its templates are filled in".to_owned());
        }
        if self.url.is_host_open() && !self.hosts.allow(&url) {
            return Err(format!("url: {} is not allowed (allow_hosts)", origin(&url)));
        }
        let mut headers = Vec::with_capacity(self.headers.len() + 1);
        for (name, value) in &self.headers {
            headers.push((name.clone(), render_header(name, value, &scope)?));
        }
        let body = match &self.body {
            Some(body) => Some(body.render(&scope)?.to_string().into_bytes()),
            None if matches!(self.method.as_str(), "POST" | "PUT" | "PATCH") => {
                Some(serde_json::to_vec(inputs).map_err(|error| format!("body: {error}"))?)
            }
            None => None,
        };
        if body.is_some() && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            headers.push(("content-type".to_owned(), "application/json".to_owned()));
        }
        Ok(Request { method: self.method.clone(), url, headers, body })
    }

    /// The error that a status other than 2xx is.
    fn refusal(&self, head: &Head, exchange: &mut Exchange<'_>, call: &Call<'_>) -> ToolError {
        let mut body = Vec::new();
        while body.len() < REFUSAL_BYTES_MAX {
            match exchange.next(call.cancel) {
                Ok(Some(bytes)) => body.extend(bytes),
                Ok(None) => break,
                Err(error) if call.cancel.is_cancelled() => return error,
                Err(_) => break,
            }
        }
        let mut error = format!("answered {}", head.status_text);
        if let Some(after) = &head.retry_after {
            error.push_str(&format!(" (Retry-After: {after})"));
        }
        let quoted = self.quote(&String::from_utf8_lossy(&body));
        let error = ToolError::new(if quoted.is_empty() { error } else { format!("{error}: {quoted}") })
            .with_failure(Failure::Status(head.status));
        let after = head.retry_after.as_deref().filter(|_| RETRY_LATER.contains(&head.status));
        match after.and_then(|after| retry_after::wait(after, head.date.as_deref(), clock::wall())) {
            Some(wait) => error.with_retry_after(wait),
            None => error,
        }
    }

    /// What an error says of a server's own words.
    fn quote(&self, words: &str) -> String {
        // Masked before it is cut, so that no half of a secret is left.
        let text = self.mask.text(words.trim());
        let end = text.floor_char_boundary(QUOTED_BYTES);
        format!("{}{}", &text[..end], if end < text.len() { "…" } else { "" })
    }

    fn read_body(&self, head: &Head, exchange: &mut Exchange<'_>, call: &Call<'_>) -> Result<Value, ToolError> {
        let mut kept = Kept::new(self.settings.output_bytes);
        while let Some(bytes) = exchange.next(call.cancel)? {
            kept.push(&bytes);
            if kept.is_cut() {
                break;
            }
        }
        if !head.is_delimited && !kept.is_cut() && is_json(&head.content_type) && kept.is_json_cut_short() {
            return Err("the response was cut off in the middle of its JSON".into());
        }
        let body = kept.into_value(&self.mask)?;
        let Some(meter) = &self.meter else { return Ok(body) };
        let (body, mut tally) = (Arc::new(body), meter.start(&self.mask, call.output));
        tally.read(&body);
        tally.finish();
        Ok(Arc::unwrap_or_clone(body))
    }

    fn read_stream(
        &self,
        framing: Framing,
        head: &Head,
        exchange: &mut Exchange<'_>,
        call: &Call<'_>,
    ) -> Result<Value, ToolError> {
        let mut told = Told {
            call,
            tool: self,
            kept: Kept::new(self.settings.output_bytes),
            masked: self.mask.stream(),
            tally: self.meter.as_ref().map(|meter| meter.start(&self.mask, call.output)),
            done_held: false,
        };
        let read = self.tell_stream(framing, head, exchange, &mut told);
        // Also where it fails: what came before the failure is shown whole.
        told.flush();
        read?;
        if let Some(tally) = &told.tally {
            tally.finish();
        }
        Ok(told.kept.into_text(&self.mask))
    }

    fn tell_stream(
        &self,
        framing: Framing,
        head: &Head,
        exchange: &mut Exchange<'_>,
        told: &mut Told<'_>,
    ) -> Result<(), ToolError> {
        let cancel = told.call.cancel;
        let cut = |error: ToolError| match cancel.is_cancelled() {
            true => error,
            false => ToolError::new(format!("{CUT}: {error}")).with_failure(Failure::Connection),
        };
        let mut reader = StreamReader::new(framing);
        while let Some(bytes) = exchange.next(cancel).map_err(cut)? {
            for event in reader.push(&bytes)? {
                told.event(&event)?;
            }
        }
        match reader.finish(head.is_delimited) {
            Rest::Nothing => Ok(()),
            Rest::Line(line) => Ok(told.event(&StreamEvent::Data(line))?),
            Rest::Cut(data) if data.trim() == DONE => Ok(()),
            Rest::Cut(_) => {
                let error = ToolError::new(format!("{CUT}: {}", what_is_missing(framing)));
                Err(error.with_failure(Failure::Connection))
            }
        }
    }
}

fn what_is_missing(framing: Framing) -> &'static str {
    match framing {
        Framing::Sse => "the response ended in the middle of an event: no blank line follows it",
        Framing::Lines => {
            "the response ended in the middle of a line: no line end follows it, and it is not complete JSON"
        }
    }
}

impl Tool for HttpTool {
    fn call(&self, call: &Call<'_>) -> Result<Outcome, ToolError> {
        self.run(call).map_err(|error| error.map_text(|text| self.mask.text(text).into_owned()))
    }

    fn default_timeout(&self) -> Option<Duration> {
        Some(TIMEOUT)
    }
}

/// A streamed answer as it is told.
struct Told<'a> {
    call: &'a Call<'a>,
    tool: &'a HttpTool,
    kept: Kept,
    masked: MaskStream<'a>,
    tally: Option<Tally<'a>>,
    /// A `[DONE]` came: part of the text only if more follows.
    done_held: bool,
}

impl Told<'_> {
    fn event(&mut self, event: &StreamEvent) -> Result<(), String> {
        if std::mem::take(&mut self.done_held) {
            self.data(DONE)?;
        }
        match event {
            StreamEvent::Error(data) => Err(self.error(data)),
            StreamEvent::Data(data) if data.trim() == DONE => {
                self.done_held = true;
                Ok(())
            }
            StreamEvent::Data(data) => self.data(data),
        }
    }

    fn data(&mut self, data: &str) -> Result<(), String> {
        let HttpTool { stream_text, stream_error, .. } = self.tool;
        let picks = stream_text.is_some() || stream_error.is_some();
        if !picks && self.tally.is_none() {
            self.text(data);
            return Ok(());
        }
        // Data that is no JSON holds nothing to pick.
        let event = serde_json::from_str::<Value>(data).ok().map(Arc::new);
        if let Some((tally, event)) = self.tally.as_mut().zip(event.as_ref()) {
            tally.read(event);
        }
        if event.is_none()
            && picks
            && let Some(lost) = lost_number(data.as_bytes())
        {
            return Err(not_picked(&lost));
        }
        if let Some((pick, event)) = stream_error.as_ref().zip(event.as_ref()) {
            match pick.of(event).map_err(|problem| format!("stream_error: {problem}"))? {
                picked if is_nothing(&picked) => {}
                Value::Bool(_) => return Err(self.error(data)),
                picked => return Err(self.error(&as_text(picked))),
            }
        }
        match (stream_text, event) {
            (None, _) => self.text(data),
            (Some(_), None) => {}
            (Some(pick), Some(event)) => match pick.of(&event).map_err(|problem| format!("stream_text: {problem}"))? {
                Value::Null => {}
                picked => match lost_number(data.as_bytes()).filter(|_| may_be_lost(&picked)) {
                    Some(lost) => return Err(not_picked(&lost)),
                    None => self.text(&as_text(picked)),
                },
            },
        }
        Ok(())
    }

    fn error(&self, words: &str) -> String {
        format!("{ERROR}: {}", self.tool.quote(words))
    }

    fn text(&mut self, text: &str) {
        self.kept.push(text.as_bytes());
        let shown = self.masked.push(text.as_bytes());
        self.write(&shown);
    }

    fn flush(&mut self) {
        let shown = self.masked.finish();
        self.write(&shown);
    }

    fn write(&self, shown: &[u8]) {
        if !shown.is_empty() {
            self.call.output.write(OutputStream::Text, shown);
        }
    }
}

/// As conditions see it: empty text, 0, null, false, and empty arrays and objects.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
    }
}

/// Is there a number in it that no integer of 64 bits is, or a double that is 0?
fn may_be_lost(value: &Value) -> bool {
    match value {
        Value::Number(number) => {
            number.is_f64() && number.as_f64().is_some_and(|float| float == 0.0 || float.abs() >= 2f64.powi(63))
        }
        Value::Array(items) => items.iter().any(may_be_lost),
        Value::Object(members) => members.values().any(may_be_lost),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

fn not_picked(lost: &LostNumber) -> String {
    format!("stream_text: the event contains a number that can't be stored exactly: {lost}")
}

fn as_text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn pick(field: &str, source: Option<&str>) -> Result<Option<Pick>, String> {
    source.map(|source| Pick::compile(source, "event").map_err(|problem| format!("{field}: {problem}"))).transpose()
}

fn header(name: &str, value: &str) -> Result<Template, String> {
    if !wire::is_header_name(name) {
        return Err(format!("headers: `{}` is not a header that can be set", name.escape_debug()));
    }
    if !wire::is_header_value(value) {
        return Err(format!("headers.{name}: must not contain a line break or other control character"));
    }
    let template = Template::compile(value, Escaping::Text).map_err(|problem| format!("headers.{name}: {problem}"))?;
    let field = format!("headers.{name}");
    check_secret(&field, name, value)?;
    if SECRET_HEADERS.iter().any(|secret| name.eq_ignore_ascii_case(secret)) {
        let credentials = value.trim().split_once(' ').map_or(value, |(_scheme, credentials)| credentials);
        check_length(&field, credentials)?;
    }
    Ok(template)
}

fn render_header(name: &str, value: &Template, scope: &Scope) -> Result<String, String> {
    let value = value.render(scope).map_err(|problem| format!("headers.{name}: {problem}"))?;
    if wire::is_header_value(&value) {
        Ok(value)
    } else {
        Err(format!("headers.{name}: must not contain a line break or other control character"))
    }
}

fn mask(spec: &HttpSpec) -> Mask {
    let is_secret = |name: &str| !PUBLIC_HEADERS.iter().any(|public| name.eq_ignore_ascii_case(public));
    let secret = spec.headers.iter().filter(|(name, _)| is_secret(name)).map(|(_, value)| value.as_str());
    Mask::new(secret.flat_map(secret_parts))
}

#[cfg(test)]
mod tests;
