//! Sends an HTTP request as a tool.
//!
//! An answer that is a stream (SSE, NDJSON) is told live, event by event, and its output is what was told; of any other
//! the output is the body. The url is no secret and may show; what is one belongs into a header.

mod body;
mod events;
mod exchange;
mod hosts;
mod url;

use std::time::Duration;

use serde_json::{Map, Value};

use self::body::{Pick, ValueTemplate};
use self::events::{EventReader, Framing};
use self::exchange::{Client, Exchange, Head, Request};
use self::hosts::Hosts;
use self::url::UrlTemplate;
use super::mask::{Mask, MaskStream, secret_parts};
use super::output::Kept;
use super::render::{Template, inputs_scope};
use super::{Call, HttpSpec, Outcome, Tool, ToolError, ToolSettings};
use crate::executor::template::{Place, Scope};
use crate::model::OutputStream;

/// How long an attempt may take where nothing says so.
const TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// How much of a refusal's body an error quotes, in bytes.
const QUOTED_BYTES: usize = 1024;

/// How much of a refusal's body is read, so that its connection can be used again.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// Headers whose values are no secrets: they would be found all over an honest answer.
const PUBLIC_HEADERS: [&str; 7] =
    ["accept", "accept-encoding", "accept-language", "cache-control", "content-type", "host", "user-agent"];

/// What a streamed answer of the usual language models ends with.
const DONE: &str = "[DONE]";

/// A tool that sends an HTTP request.
#[derive(Debug)]
pub struct HttpTool {
    method: String,
    url: UrlTemplate,
    headers: Vec<(String, Template)>,
    body: Option<ValueTemplate>,
    stream_text: Option<Pick>,
    hosts: Hosts,
    client: Client,
    mask: Mask,
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
        if !exchange::is_method(&spec.method) {
            return Err("method: must be a method, as `GET`".to_owned());
        }
        let url = UrlTemplate::compile(&spec.url).map_err(|problem| format!("url: {problem}"))?;
        if !url.has_templates() && !exchange::is_url(&spec.url) {
            return Err("url: is no url".to_owned());
        }
        let hosts = Hosts::compile(&spec.allow_hosts)?;
        if url.is_host_open() && hosts.is_empty() {
            return Err(
                "url: a template in its host or port lets a plan choose the server, so expected allow_hosts".to_owned()
            );
        }
        let headers = spec.headers.iter().map(|(name, value)| Ok((name.clone(), header(name, value)?)));
        let pick = spec.stream_text.as_deref().map(Pick::compile);
        Ok(Self {
            headers: headers.collect::<Result<_, String>>()?,
            body: spec.body.as_ref().map(|body| ValueTemplate::compile(body, "body")).transpose()?,
            stream_text: pick.transpose().map_err(|problem| format!("stream_text: {problem}"))?,
            client: Client::new(spec.allow_redirects.then(|| hosts.clone()), settings.proxy_from_env),
            hosts,
            mask,
            method: spec.method.to_ascii_uppercase(),
            url,
            settings,
        })
    }

    fn run(&self, call: &Call<'_>) -> Result<Outcome, ToolError> {
        let (head, mut exchange) = self.client.send(self.request(call.inputs)?, call.cancel)?;
        if let Some(coding) = &head.content_encoding {
            return Err(format!("the answer is compressed ({coding}), which was not asked for").into());
        }
        if !head.is_success() {
            return Err(self.refusal(&head, &mut exchange, call));
        }
        match Framing::of(&head.content_type) {
            Some(framing) => self.read_stream(framing, &mut exchange, call),
            None => self.read_body(&mut exchange, call),
        }
        .map(Outcome::Output)
    }

    fn request(&self, inputs: &Map<String, Value>) -> Result<Request, String> {
        let scope = inputs_scope(inputs);
        let url = self.url.render(&scope).map_err(|problem| format!("url: {problem}"))?;
        if !exchange::is_url(&url) {
            return Err("url: a value makes it no url".to_owned());
        }
        if self.url.is_host_open() && !self.hosts.allow(&url) {
            return Err(format!("url: a value leads to {}, which allow_hosts does not name", url::origin(&url)));
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
        // Masked before it is cut, so that no half of a secret is left.
        let text = String::from_utf8_lossy(&body);
        let text = self.mask.text(text.trim());
        let end = text.floor_char_boundary(QUOTED_BYTES);
        match text.get(..end) {
            Some("") | None => error.into(),
            Some(quoted) => format!("{error}: {quoted}{}", if end < text.len() { "…" } else { "" }).into(),
        }
    }

    fn read_body(&self, exchange: &mut Exchange<'_>, call: &Call<'_>) -> Result<Value, ToolError> {
        let mut kept = Kept::new(self.settings.output_bytes);
        while let Some(bytes) = exchange.next(call.cancel)? {
            kept.push(&bytes);
            if kept.is_cut() {
                break;
            }
        }
        Ok(kept.into_value(&self.mask))
    }

    fn read_stream(&self, framing: Framing, exchange: &mut Exchange<'_>, call: &Call<'_>) -> Result<Value, ToolError> {
        let mut reader = EventReader::new(framing);
        let mut told = Told {
            call,
            pick: self.stream_text.as_ref(),
            kept: Kept::new(self.settings.output_bytes),
            masked: self.mask.stream(),
            done_held: false,
        };
        while let Some(bytes) = exchange.next(call.cancel)? {
            for event in reader.push(&bytes)? {
                told.event(&event)?;
            }
        }
        if let Some(event) = reader.finish() {
            told.event(&event)?;
        }
        told.flush();
        Ok(told.kept.into_text(&self.mask))
    }
}

impl Tool for HttpTool {
    fn call(&self, call: &Call<'_>) -> Result<Outcome, ToolError> {
        self.run(call).map_err(|error| self.mask.text(&error.to_string()).into_owned().into())
    }

    fn default_timeout(&self) -> Option<Duration> {
        Some(TIMEOUT)
    }
}

/// A streamed answer as it is told.
struct Told<'a> {
    call: &'a Call<'a>,
    pick: Option<&'a Pick>,
    kept: Kept,
    masked: MaskStream<'a>,
    /// A `[DONE]` came: part of the text only if more follows.
    done_held: bool,
}

impl Told<'_> {
    fn event(&mut self, data: &str) -> Result<(), String> {
        if std::mem::take(&mut self.done_held) {
            self.data(DONE)?;
        }
        if data.trim() == DONE {
            self.done_held = true;
            return Ok(());
        }
        self.data(data)
    }

    fn data(&mut self, data: &str) -> Result<(), String> {
        match self.pick {
            None => self.text(data),
            // Data that is no JSON holds nothing to pick.
            Some(pick) => {
                let Ok(event) = serde_json::from_str::<Value>(data) else { return Ok(()) };
                match pick.of(event).map_err(|problem| format!("stream_text: {problem}"))? {
                    Value::Null => {}
                    Value::String(text) => self.text(&text),
                    other => self.text(&other.to_string()),
                }
            }
        }
        Ok(())
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

fn header(name: &str, value: &str) -> Result<Template, String> {
    if !exchange::is_header_name(name) {
        return Err(format!("headers: `{}` is no header that can be set", name.escape_debug()));
    }
    if !exchange::is_header_value(value) {
        return Err(format!("headers.{name}: must hold no line break or other control character"));
    }
    Template::compile(value, Place::Text).map_err(|problem| format!("headers.{name}: {problem}"))
}

fn render_header(name: &str, value: &Template, scope: &Scope) -> Result<String, String> {
    let value = value.render(scope).map_err(|problem| format!("headers.{name}: {problem}"))?;
    if exchange::is_header_value(&value) {
        Ok(value)
    } else {
        Err(format!("headers.{name}: must hold no line break or other control character"))
    }
}

fn mask(spec: &HttpSpec) -> Mask {
    let is_secret = |name: &str| !PUBLIC_HEADERS.iter().any(|public| name.eq_ignore_ascii_case(public));
    let secret = spec.headers.iter().filter(|(name, _)| is_secret(name)).map(|(_, value)| value.as_str());
    Mask::new(secret.flat_map(secret_parts))
}

#[cfg(test)]
mod tests;
