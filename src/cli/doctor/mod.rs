//! `stepcast doctor`: finds out what proxies between this machine and a server do to requests and streams, and says
//! what to change.
//!
//! It sends requests to which the server replies with what it received, and follows the stream of a project of its own.

mod advice;
mod examine;
mod finding;
mod tls;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use self::advice::lines;
use self::examine::{Examination, Found};
use self::finding::Finding;
use self::tls::Trust;
use self::wire::Caller;
use super::error::CommandError;
use super::follow::ServerUrl;
use super::output::say;
use super::watch::token_or_environment;
use crate::config::Secret;
use crate::model::ProjectId;

/// How long a response, or the head of a stream, may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The options of the command.
#[derive(Debug, Clone, PartialEq)]
pub struct DoctorRequest {
    pub(super) server: ServerUrl,
    pub(super) token: Option<Secret>,
    /// The project whose stream is followed.
    pub(super) project: ProjectId,
    /// How long to watch an idle stream.
    pub(super) watch: Duration,
    /// How long an event may take before it counts as held back.
    pub(super) wait: Duration,
    /// A file with the certificate of an authority to trust in addition to the usual ones.
    pub(super) authority: Option<PathBuf>,
}

pub(super) fn doctor(request: DoctorRequest) -> Result<ExitCode, CommandError> {
    let DoctorRequest { server, token, project, watch, wait, authority } = request;
    let trust = Trust::new(authority.as_deref()).map_err(CommandError::new)?;
    let bearer = token_or_environment(token)?.map(|token| ("Authorization", format!("Bearer {}", token.expose())));
    let agent = ("User-Agent", concat!("stepcast/", env!("CARGO_PKG_VERSION")).to_owned());
    let headers = [agent].into_iter().chain(bearer).collect();
    let shown = server.to_string();
    let mut examination = Examination::new(Caller { server, headers, trust, patience: PATIENCE }, project, wait);

    let requests = examination.look_at_requests().map_err(CommandError::new)?;
    let behind = match (examination.proxy(), examination.is_proxied()) {
        (Some(proxy), _) => format!("behind {proxy}"),
        (None, true) => "behind an unknown proxy".to_owned(),
        (None, false) => "not behind a proxy".to_owned(),
    };
    say(format_args!("{shown}: {behind}"))?;
    let mut report = Report { examination: &examination, findings: Vec::new() };
    report.tell(requests)?;
    report.tell(examination.look_at_bodies().map_err(CommandError::new)?)?;
    report.tell(examination.look_at_events().map_err(CommandError::new)?)?;
    report.tell(examination.look_at_leaving().map_err(CommandError::new)?)?;
    report.tell(examination.look_at_browsers().map_err(CommandError::new)?)?;
    if !watch.is_zero() && !report.findings.iter().any(|finding| matches!(finding, Finding::Buffered { .. })) {
        report.tell(examination.look_at_idling(watch).map_err(CommandError::new)?)?;
    }
    let problems = report.findings.iter().filter(|finding| finding.is_problem()).count();
    if problems == 0 {
        say("no problem found")?;
        return Ok(ExitCode::SUCCESS);
    }
    say(crate::text::count(problems, "problem"))?;
    Ok(ExitCode::FAILURE)
}

/// The findings so far.
struct Report<'e> {
    examination: &'e Examination,
    findings: Vec<Finding>,
}

impl Report<'_> {
    /// Prints new findings. A finding of two tests is printed once.
    fn tell(&mut self, found: Found) -> Result<(), CommandError> {
        for note in found.notes {
            say(format_args!("  ok       {note}"))?;
        }
        for finding in found.findings {
            if self.findings.contains(&finding) {
                continue;
            }
            let mark = if finding.is_problem() { "PROBLEM" } else { "note   " };
            say(format_args!("  {mark}  {finding}"))?;
            for line in lines(&finding, self.examination.proxy()) {
                say(format_args!("             {line}"))?;
            }
            self.findings.push(finding);
        }
        Ok(())
    }
}
