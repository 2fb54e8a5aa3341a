//! The page at `/`, where the program is built with the feature `dashboard`.

use crate::http::{Problem, Response};

/// The page.
#[cfg(feature = "dashboard")]
const HOME: &[u8] = include_bytes!("home.html");

/// What it may load and talk to: itself and this server.
#[cfg(feature = "dashboard")]
const HOME_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page.
#[cfg(feature = "dashboard")]
pub(super) fn page() -> Result<Response, Problem> {
    let page = Response::new(200).content("text/html; charset=utf-8", HOME);
    Ok(page.header("Content-Security-Policy", HOME_POLICY).header("Referrer-Policy", "no-referrer"))
}

/// There is none.
#[cfg(not(feature = "dashboard"))]
pub(super) fn page() -> Result<Response, Problem> {
    Err(Problem::not_found("this program was built without its dashboard"))
}
