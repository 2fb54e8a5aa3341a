//! `GET` and `POST /api/sse/doctor`: tells what of a request has arrived, for `stepcast doctor`, which sent it and so knows
//! what was changed on the way.
//!
//! It is for administrators: what proxies add can tell of the network behind them. Only headers that say something
//! about proxies are repeated, and never a credential.

use std::net::IpAddr;

use serde::Serialize;
use serde_json::{Map, Value};

use super::handler::{Api, refused};
use super::{Action, Facts};
use crate::auth::Scope;
use crate::http::{Problem, Request, Response, Version};

/// Headers that are repeated.
const HEADERS: [&str; 13] = [
    "accept-encoding",
    "connection",
    "content-length",
    "forwarded",
    "last-event-id",
    "te",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
];

/// A request as it arrived, as far as it says so itself.
#[derive(Debug)]
pub struct Arrived {
    version: Version,
    host: Option<String>,
    headers: Map<String, Value>,
    body_bytes: usize,
}

/// What the server knows of where a request comes from.
#[derive(Debug, Clone, Copy)]
pub struct Sender {
    /// Is it among `limits.trusted_proxies`?
    pub is_trusted_proxy: bool,
    /// The address that its connection counts for.
    pub address: Option<IpAddr>,
    /// The largest body that it could have sent.
    pub body_bytes_max: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    headers: &'a Map<String, Value>,
    body_bytes: usize,
    body_bytes_max: usize,
    is_trusted_proxy: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    counts_for: Option<String>,
}

impl Arrived {
    fn of(request: &Request) -> Self {
        let values = |name: &str| {
            let values = request.headers.all(name).map(|value| String::from_utf8_lossy(value).into_owned());
            Some(values.collect::<Vec<_>>().join(", ")).filter(|_| request.headers.first(name).is_some())
        };
        let headers = HEADERS.iter().filter_map(|name| Some(((*name).to_owned(), Value::from(values(name)?))));
        Self {
            version: request.version,
            host: request.host.map(str::to_owned),
            headers: headers.collect(),
            body_bytes: request.body.len(),
        }
    }

    /// The answer to whoever sent it from there.
    pub fn answer(&self, from: Sender) -> Response {
        let told = Told {
            version: match self.version {
                Version::Http10 => "HTTP/1.0",
                Version::Http11 => "HTTP/1.1",
            },
            host: self.host.as_deref(),
            headers: &self.headers,
            body_bytes: self.body_bytes,
            body_bytes_max: from.body_bytes_max,
            is_trusted_proxy: from.is_trusted_proxy,
            counts_for: from.address.map(|address| address.to_string()),
        };
        let json = serde_json::to_vec(&told).expect("texts and numbers can be written");
        Response::json(200, json).header("Cache-Control", "no-store")
    }
}

impl Api {
    pub(super) fn doctor(&self, request: &Request, facts: &Facts) -> Result<Action, Problem> {
        let principal = self.principal(request, facts)?;
        principal.require(Scope::Admin).map_err(|error| refused(&error))?;
        Ok(Action::Echo(Box::new(Arrived::of(request))))
    }
}
