//! Error responses: `application/problem+json` (RFC 9457).

use std::borrow::Cow;

use serde::Serialize;

use super::{Response, status};
use crate::model::Issue;

/// An error response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The status, 400 to 599.
    pub status: u16,
    /// A stable code in snake_case for programs.
    pub code: &'static str,
    /// A description for people.
    pub detail: Cow<'static, str>,
    /// The problems of a plan.
    pub issues: Option<Vec<Issue>>,
    /// Seconds to wait before trying again.
    pub retry_after: Option<u32>,
    /// The methods that are allowed, as in `Allow`.
    pub allow: Option<&'static str>,
    /// The required credentials, as in `WWW-Authenticate`.
    pub challenge: Option<&'static str>,
    /// The current revision of a plan, if the call was for a different one.
    pub revision: Option<u32>,
}

impl Problem {
    /// A problem with only these members.
    pub(crate) fn new(status: u16, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        debug_assert!((400..600).contains(&status), "{status} is no error");
        Self {
            status,
            code,
            detail: detail.into(),
            issues: None,
            retry_after: None,
            allow: None,
            challenge: None,
            revision: None,
        }
    }

    /// 400: the bytes are not a valid HTTP message.
    pub(crate) fn malformed(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, "malformed_request", detail)
    }

    /// 403: the credentials are insufficient.
    pub(crate) fn forbidden(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(403, code, detail)
    }

    /// 404: the resource does not exist.
    pub(crate) fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(404, "not_found", detail)
    }

    /// 405: `allow` lists the methods that this path takes.
    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        let detail = format!("method not allowed; this path supports {allow}");
        Self { allow: Some(allow), ..Self::new(405, "method_not_allowed", detail) }
    }

    /// 408: the request did not come in time.
    pub(crate) fn timeout(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(408, "request_timeout", detail)
    }

    /// 409: it is too late, or too early, for that.
    pub(crate) fn conflict(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(409, code, detail)
    }

    /// 413: the body has more than `body_bytes` bytes.
    pub(crate) fn body_too_large(body_bytes: usize) -> Self {
        Self::new(413, "body_too_large", format!("the body is too large (limit {body_bytes} bytes, limits.body_bytes)"))
    }

    /// 415: the body is of a type that this call does not take.
    pub(crate) fn unsupported_media_type(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(415, "unsupported_media_type", detail)
    }

    /// 422: the plan can't be run, for these reasons.
    pub(crate) fn invalid_plan(issues: Vec<Issue>) -> Self {
        let detail = match issues.as_slice() {
            [only] => only.to_string(),
            [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
            [] => "the plan is invalid".to_owned(),
        };
        Self { issues: Some(issues), ..Self::new(422, "invalid_plan", detail) }
    }

    /// 429: more than the caller may; `retry_after` in seconds.
    pub(crate) fn too_many(code: &'static str, detail: impl Into<Cow<'static, str>>, retry_after: u32) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(429, code, detail) }
    }

    /// 500: a fault of the server.
    pub(crate) fn internal(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(500, "internal", detail)
    }

    /// 503: not just now; `retry_after` in seconds.
    pub(crate) fn unavailable(code: &'static str, detail: impl Into<Cow<'static, str>>, retry_after: u32) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(503, code, detail) }
    }

    /// What the status is called.
    pub(crate) fn title(&self) -> &'static str {
        status::reason(self.status)
    }

    fn to_json(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Document<'a> {
            status: u16,
            title: &'a str,
            detail: &'a str,
            code: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            issues: Option<&'a [Issue]>,
            #[serde(skip_serializing_if = "Option::is_none")]
            revision: Option<u32>,
        }
        let Self { status, code, detail, issues, revision, .. } = self;
        let (title, issues, revision) = (self.title(), issues.as_deref(), *revision);
        let document = Document { status: *status, title, detail, code, issues, revision };
        serde_json::to_vec(&document).expect("numbers and strings always serialize")
    }
}

impl From<&Problem> for Response {
    fn from(problem: &Problem) -> Self {
        let mut response = Self::new(problem.status)
            .content("application/problem+json", problem.to_json())
            .header("Cache-Control", "no-store");
        if let Some(challenge) = problem.challenge {
            response = response.header("WWW-Authenticate", challenge);
        }
        if let Some(seconds) = problem.retry_after {
            response = response.header("Retry-After", seconds.to_string());
        }
        if let Some(methods) = problem.allow {
            response = response.header("Allow", methods);
        }
        response
    }
}

impl From<Problem> for Response {
    fn from(problem: Problem) -> Self {
        Self::from(&problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Version;

    fn text(problem: Problem) -> String {
        let mut out = Vec::new();
        let left = Response::from(problem).write_to(&mut out, "D", Version::Http11, true, false);
        assert!(left.is_empty());
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_problem_is_a_document_with_its_headers() {
        assert_eq!(
            text(Problem::too_many("busy", "wait a \"bit\"", 3)),
            "HTTP/1.1 429 Too Many Requests\r\nDate: D\r\nContent-Type: application/problem+json\r\n\
             Content-Length: 82\r\nCache-Control: no-store\r\nRetry-After: 3\r\n\r\n\
             {\"status\":429,\"title\":\"Too Many Requests\",\"detail\":\"wait a \\\"bit\\\"\",\"code\":\"busy\"}"
        );
        assert!(text(Problem::method_not_allowed("GET, HEAD")).contains("\r\nAllow: GET, HEAD\r\n"));
        let problem = Problem { challenge: Some("Bearer"), ..Problem::new(401, "no_token", "") };
        assert!(text(problem).contains("\r\nWWW-Authenticate: Bearer\r\n"));
    }

    #[test]
    fn issues_come_with_their_paths() {
        let issue = |path: &str| Issue { path: path.into(), message: "bad".into(), step_id: None };
        let problem = Problem::invalid_plan(vec![issue("steps[0]"), issue("name")]);
        assert_eq!(problem.detail, "steps[0]: bad (and 1 more)");
        let document = text(problem);
        assert!(
            document.ends_with(r#""issues":[{"path":"steps[0]","message":"bad"},{"path":"name","message":"bad"}]}"#)
        );
    }
}
