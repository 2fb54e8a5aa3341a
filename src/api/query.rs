//! Reads the query parameters of calls into typed values.

use std::fmt::Display;
use std::str::FromStr;

use crate::http::{Problem, Query, Request};
use crate::log::WantedRun;
use crate::model::{OutputStream, RunStatus, StepStatus, TypeFilter};

/// Entries that a list holds where the call does not say, and at most.
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;

/// The query of a request.
pub(super) struct Parameters<'r>(Query<'r>);

impl<'r> Parameters<'r> {
    pub(super) fn read(request: &Request<'r>) -> Result<Self, Problem> {
        Ok(Self(Query::parse(request.query)?))
    }

    /// Those of a stream: an id that is no text is one that nobody knows, as any other that is none of ours.
    pub(super) fn of_stream(request: &Request<'r>) -> Result<Self, Problem> {
        Ok(Self(Query::parse_sparing(request.query, "lastEventId")?))
    }

    /// The text of a parameter that is there.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.first(name)
    }

    /// A parameter as a value of its type.
    pub(super) fn parsed<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, Problem> {
        self.text(name).map(str::parse).transpose().map_err(|error: T::Err| bad(name, &error.to_string()))
    }

    /// One of `words`, each with what it means.
    pub(super) fn word<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, meaning)) => Ok(Some(*meaning)),
            None => {
                let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
                Err(bad(name, &format!("expected one of {}", words.join(", "))))
            }
        }
    }

    /// What of a run is wanted.
    pub(super) fn run(&self) -> Result<WantedRun, Problem> {
        let whole_outputs = self.word("outputs", &[("whole", true), ("cut", false)])?.unwrap_or(true);
        let items = self.word("items", &[("1", true)])?.unwrap_or(false);
        Ok(WantedRun { whole_outputs, items })
    }

    pub(super) fn limit(&self) -> Result<usize, Problem> {
        let Some(text) = self.text("limit") else { return Ok(LIMIT_DEFAULT) };
        let limit = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
        limit.ok_or_else(|| bad("limit", &format!("expected a number from 1 to {LIMIT_MAX}")))
    }

    /// Which messages are meant, by all parameters of the name `type`.
    pub(super) fn types(&self) -> Result<TypeFilter, Problem> {
        let lists = self.0.pairs().filter(|(name, _)| *name == "type").map(|(_, list)| list);
        TypeFilter::parse(lists).map_err(|error| bad("type", &error))
    }

    pub(super) fn status(&self) -> Result<Option<RunStatus>, Problem> {
        let Some(text) = self.text("status") else { return Ok(None) };
        let expected = "expected queued, running, completed, failed or cancelled";
        RunStatus::parse(text).map(Some).ok_or_else(|| bad("status", expected))
    }

    /// The place of an item.
    pub(super) fn item(&self, name: &str) -> Result<Option<u32>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| bad(name, "expected the index of an item, counted from 0"))
    }

    pub(super) fn item_status(&self) -> Result<Option<StepStatus>, Problem> {
        let words = [
            ("running", StepStatus::Running),
            ("retrying", StepStatus::Retrying),
            ("waiting", StepStatus::Waiting),
            ("completed", StepStatus::Completed),
            ("failed", StepStatus::Failed),
            ("cancelled", StepStatus::Cancelled),
        ];
        self.word("status", &words)
    }

    pub(super) fn stream(&self) -> Result<Option<OutputStream>, Problem> {
        let words = [("stdout", OutputStream::Stdout), ("stderr", OutputStream::Stderr), ("text", OutputStream::Text)];
        self.word("stream", &words)
    }
}

pub(super) fn bad(name: &str, expected: &str) -> Problem {
    Problem::new(400, "invalid_parameter", format!("{name}: {expected}"))
}
