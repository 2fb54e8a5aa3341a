//! One attempt: the request for an event, and the meaning of its response.

use std::net::IpAddr;

use super::declaration::WebhookDeclaration;
use super::post::Sent;
use super::signature::{SigningSecret, sign};
use crate::formats::cloudevents::{MEDIA_TYPE, write_ping};
use crate::model::Timestamp;
use crate::outbound::wire::{is_header_name, is_header_value};
use crate::outbound::{Client, Hosts, Reach, Request, Settings, Url, retry_after};

/// Headers that a declaration can't set: they are the standard's, or the event's.
const OWN_HEADERS: [&str; 5] = ["content-type", "host", "webhook-id", "webhook-timestamp", "webhook-signature"];

/// Where a webhook's events are sent, and what with.
#[derive(Debug)]
pub(super) struct Target {
    url: Url,
    headers: Vec<(String, String)>,
    secrets: Vec<SigningSecret>,
    client: Client,
}

impl Target {
    /// Reads what `declaration` says of its requests.
    ///
    /// # Errors
    /// One sentence that begins with the field.
    pub(super) fn compile(declaration: &WebhookDeclaration) -> Result<Self, String> {
        let url = Url::parse(declaration.url.expose()).map_err(|problem| format!("url: {problem}"))?;
        let hosts = Hosts::compile(&declaration.allow_hosts)?;
        let reach = reach(&url, &hosts)?;
        let secrets = declaration.secrets.iter().map(|secret| SigningSecret::parse(secret.expose()));
        let secrets = secrets.collect::<Option<_>>();
        let settings = Settings { timeout: declaration.timeout, body_bytes_max: 0, proxy_from_env: false };
        Ok(Self {
            url,
            headers: declaration
                .headers
                .iter()
                .map(|(name, value)| header(name, value.expose()))
                .collect::<Result<_, _>>()?,
            secrets: secrets.ok_or("secret: expected whsec_ followed by 24 to 64 bytes in base64")?,
            client: Client::within(reach, settings),
        })
    }

    /// Sends an event. Blocks, as long as the webhook's timeout at most.
    pub(super) fn send(&self, id: &str, body: Vec<u8>, now: Timestamp) -> Sent {
        let seconds = now.as_secs();
        let own = [
            ("content-type", MEDIA_TYPE.to_owned()),
            ("webhook-id", id.to_owned()),
            ("webhook-timestamp", seconds.to_string()),
            ("webhook-signature", sign(&self.secrets, id, seconds, &body)),
        ];
        let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
        let headers = own.chain(self.headers.iter().cloned()).collect();
        let url = self.url.as_str().to_owned();
        let request = Request { method: "POST".to_owned(), url, headers, body: Some(body) };
        match self.client.send(&request) {
            Ok(answer) => {
                let asked = answer.header("retry-after");
                let retry_after = asked.and_then(|asked| retry_after::wait(asked, answer.header("date"), now));
                Sent::Answered { status: answer.status, retry_after }
            }
            Err(why) => Sent::Failed(why),
        }
    }

    /// Ends what is on its way.
    pub(super) fn shut_down(&self) {
        self.client.shut_down();
    }
}

/// Sends an event that says nothing but that it could be sent. Blocks.
///
/// # Errors
/// What is wrong with the declaration.
pub(crate) fn ping(declaration: &WebhookDeclaration, id: &str, now: Timestamp) -> Result<Sent, String> {
    let target = Target::compile(declaration)?;
    let mut body = Vec::new();
    write_ping(&mut body, id, &declaration.name, now).map_err(|error| error.to_string())?;
    Ok(target.send(id, body, now))
}

/// Which addresses the requests to this URL may reach. The operator has configured the URL, so its server is allowed.
/// But a name may resolve to an address of a private network, which has to be allowed explicitly.
fn reach(url: &Url, hosts: &Hosts) -> Result<Reach, String> {
    const EXPECTED: &str = "or its server listed in allow_hosts";
    if hosts.allow(url.as_str()) {
        return Ok(Reach::Any);
    }
    if !url.is_guarded() {
        return Err(format!("url: expected https://, or http:// to this machine, {EXPECTED}"));
    }
    let reach = if url.is_loopback() { Reach::Loopback } else { Reach::Public };
    let address = url.host().parse::<IpAddr>().ok();
    match address.is_none_or(|address| reach.includes(address)) {
        true => Ok(reach),
        false => Err(format!("url: expected a public address, {EXPECTED}")),
    }
}

fn header(name: &str, value: &str) -> Result<(String, String), String> {
    let field = format!("headers.{}", name.escape_debug());
    if !is_header_name(name) || OWN_HEADERS.iter().any(|own| name.eq_ignore_ascii_case(own)) {
        return Err(format!("{field}: this header cannot be set"));
    }
    if !is_header_value(value) {
        return Err(format!("{field}: expected a value without control characters"));
    }
    Ok((name.to_owned(), value.to_owned()))
}
