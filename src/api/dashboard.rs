//! Serves the page at `/` and the client library at `/stepcast.js`, if the program is built with the feature
//! `dashboard`. The files of `dashboard/` are embedded unchanged. Each has an `ETag`, so that browsers load it again
//! only after the program has changed.

#[cfg(feature = "dashboard")]
use crate::http::Conditions;
use crate::http::{Problem, Request, Response};

/// A file.
#[cfg(feature = "dashboard")]
struct File {
    name: &'static str,
    content_type: &'static str,
    content: &'static [u8],
}

/// A file of `dashboard/`.
#[cfg(feature = "dashboard")]
macro_rules! file {
    ($name:literal, $content_type:expr) => {
        File { name: $name, content_type: $content_type, content: include_bytes!(concat!("dashboard/", $name)) }
    };
}

#[cfg(feature = "dashboard")]
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// All of them.
#[cfg(feature = "dashboard")]
const FILES: &[File] = &[
    file!("index.html", "text/html; charset=utf-8"),
    file!("style.css", "text/css; charset=utf-8"),
    file!("icon.svg", "image/svg+xml"),
    file!("stepcast.js", SCRIPT),
    file!("app.js", SCRIPT),
    file!("api.js", SCRIPT),
    file!("approval.js", SCRIPT),
    file!("calls.js", SCRIPT),
    file!("dom.js", SCRIPT),
    file!("estimate.js", SCRIPT),
    file!("follow.js", SCRIPT),
    file!("form.js", SCRIPT),
    file!("format.js", SCRIPT),
    file!("glance.js", SCRIPT),
    file!("graph.js", SCRIPT),
    file!("hub.js", SCRIPT),
    file!("items.js", SCRIPT),
    file!("json.js", SCRIPT),
    file!("layout.js", SCRIPT),
    file!("lines.js", SCRIPT),
    file!("live.js", SCRIPT),
    file!("locate.js", SCRIPT),
    file!("messages.js", SCRIPT),
    file!("output.js", SCRIPT),
    file!("overview.js", SCRIPT),
    file!("plans.js", SCRIPT),
    file!("run.js", SCRIPT),
    file!("runs.js", SCRIPT),
    file!("schema.js", SCRIPT),
    file!("state.js", SCRIPT),
    file!("step.js", SCRIPT),
    file!("submit.js", SCRIPT),
    file!("timeline.js", SCRIPT),
    file!("worker.js", SCRIPT),
];

/// What they may load and talk to: themselves and this server.
#[cfg(feature = "dashboard")]
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The name of a file, if there is one of this name.
#[cfg(feature = "dashboard")]
pub(super) fn find(name: &str) -> Option<&'static str> {
    FILES.iter().map(|file| file.name).find(|known| *known == name)
}

/// A file; 304 without it where the browser has it.
#[cfg(feature = "dashboard")]
pub(super) fn asset(name: &'static str, request: &Request) -> Result<Response, Problem> {
    let at = FILES.iter().position(|file| file.name == name);
    let Some(file) = at.map(|at| &FILES[at]) else { return Err(Problem::not_found("file not found")) };
    let tag = &tags()[at.unwrap_or_default()];
    let response = match Conditions::of(request).is_known(Some(tag)) {
        true => Response::new(304),
        false => Response::new(200).content(file.content_type, file.content),
    };
    Ok(response
        .header("ETag", tag.as_str())
        .header("Cache-Control", "no-cache")
        .header("Content-Security-Policy", POLICY)
        .header("Referrer-Policy", "no-referrer")
        .header("X-Content-Type-Options", "nosniff"))
}

/// The validators of the files: the beginnings of their digests.
#[cfg(feature = "dashboard")]
fn tags() -> &'static [String] {
    static TAGS: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
    let tag = |file: &File| {
        let digest = ring::digest::digest(&ring::digest::SHA256, file.content);
        let digits: String = digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("\"{digits}\"")
    };
    TAGS.get_or_init(|| FILES.iter().map(tag).collect())
}

/// There is none.
#[cfg(not(feature = "dashboard"))]
pub(super) fn find(_: &str) -> Option<&'static str> {
    None
}

/// There is none.
#[cfg(not(feature = "dashboard"))]
pub(super) fn asset(_: &'static str, _: &Request) -> Result<Response, Problem> {
    Err(Problem::not_found("this program was built without the dashboard (feature `dashboard`)"))
}
