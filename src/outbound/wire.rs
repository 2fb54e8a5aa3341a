//! The only file that uses the HTTP client library: it configures it, sends requests, and describes its errors.

use std::io::{self, ErrorKind};
use std::time::Duration;

use ureq::Agent;
use ureq::config::ConfigBuilder;
use ureq::http::{HeaderName, HeaderValue, Method, Response, Uri, header};
use ureq::typestate::AgentScope;

use super::origin;

/// How long looking up a name may take, and then connecting.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A request, ready to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Option<Vec<u8>>,
}

/// Is this a method as it stands on the wire?
pub(crate) fn is_method(method: &str) -> bool {
    Method::from_bytes(method.as_bytes()).is_ok()
}

/// Is this a url that can be asked?
pub(crate) fn is_url(url: &str) -> bool {
    url.parse::<Uri>().is_ok_and(|url| url.host().is_some_and(|host| !host.is_empty()))
}

/// Is this the name of a header that a request may set itself?
pub(crate) fn is_header_name(name: &str) -> bool {
    let framing = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION, header::UPGRADE];
    HeaderName::from_bytes(name.as_bytes()).is_ok_and(|name| !framing.contains(&name))
}

/// Is this a value that a header may have: no line break or other control character?
pub(crate) fn is_header_value(value: &str) -> bool {
    HeaderValue::from_bytes(value.as_bytes()).is_ok()
}

/// The common configuration of all clients: any status is an answer, redirects are not followed, and connecting times
/// out. The proxy is that of the environment (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`), if wanted.
pub(crate) fn config(proxy_from_env: bool) -> ConfigBuilder<AgentScope> {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .allow_non_standard_methods(true)
        .timeout_resolve(Some(CONNECT_TIMEOUT))
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .user_agent(concat!("stepcast/", env!("CARGO_PKG_VERSION")));
    if proxy_from_env { config } else { config.proxy(None) }
}

/// Sends `request` and waits for the head of the answer. No header's value shows in a log.
pub(crate) fn send(agent: &Agent, request: &Request) -> Result<Response<ureq::Body>, ureq::Error> {
    let mut builder = ureq::http::Request::builder().method(request.method.as_str()).uri(&request.url);
    for (name, value) in &request.headers {
        let mut value = HeaderValue::from_bytes(value.as_bytes()).map_err(ureq::http::Error::from)?;
        value.set_sensitive(true);
        builder = builder.header(name, value);
    }
    match &request.body {
        Some(body) => agent.run(builder.body(body)?),
        None => agent.run(builder.body(())?),
    }
}

/// The error of a failed request. It shows only the origin of the URL: the rest may hold secrets.
pub(crate) fn describe(request: &Request, reason: &str) -> String {
    format!("{} {}: {reason}", request.method, origin(&request.url))
}

/// The error of a response that broke off.
pub(crate) fn broke_off(request: &Request, error: &io::Error) -> String {
    let asked = format!("{} {}", request.method, origin(&request.url));
    match error.kind() {
        ErrorKind::UnexpectedEof => {
            format!("the server closed the connection before its response to {asked} was complete")
        }
        _ => format!("the response to {asked} was cut off: {error}"),
    }
}

/// The error in words that hold no url.
pub(crate) fn reason(error: &ureq::Error) -> String {
    match error {
        ureq::Error::BadUri(_) => "the URL is not valid".to_owned(),
        ureq::Error::Io(error) if error.kind() == ErrorKind::UnexpectedEof => {
            "the server closed the connection without a response".to_owned()
        }
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
            format!("could not connect within {} s", CONNECT_TIMEOUT.as_secs())
        }
        other => other.to_string(),
    }
}
