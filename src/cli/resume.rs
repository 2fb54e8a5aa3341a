//! `stepcast run --resume`: runs again from a run that failed or was cancelled, on a server or, with `--data`, on a server
//! that this process starts over that directory until the new run has ended.

use std::process::ExitCode;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::args::Settings;
use super::error::CommandError;
use super::follow::{ServerUrl, post, refusal};
use super::load;
use super::watch::{WatchRequest, token_or_environment, watch};
use crate::config::{AuthMode, ListenAddress, Secret, TlsConfig};
use crate::model::{ProjectId, RunId};
use crate::server::{Builder, RunningServer};

/// The default address of the server.
pub(super) const SERVER_URL: &str = "http://127.0.0.1:8080";

/// Which run to start from, and how to show the new one.
#[derive(Debug, Clone, PartialEq)]
pub struct ResumeRequest {
    /// The run's project.
    pub project: ProjectId,
    /// The run.
    pub run: RunId,
    /// The server that has it.
    pub server: ServerUrl,
    /// The access token; if there is none, the environment may have one.
    pub token: Option<Secret>,
    /// Steps to run again, together with all that depend on them.
    pub from: Vec<String>,
    /// Inputs that override the run's.
    pub inputs: Map<String, Value>,
    /// Print messages as JSON lines instead of the progress display.
    pub json: bool,
}

pub(super) fn resume(settings: Settings, request: ResumeRequest) -> Result<ExitCode, CommandError> {
    if !settings.has_flag("data") {
        return go_on(request);
    }
    let server = start(settings)?;
    let address = server.addresses().first().copied();
    let address = address.ok_or_else(|| CommandError::new("the server has no address"))?;
    let shown = go_on(ResumeRequest { server: ServerUrl::of(address), token: None, ..request });
    server.stop().map_err(|error| CommandError::io("stop the server", &error))?;
    shown
}

/// A server over the directory that is named, for this process alone.
fn start(settings: Settings) -> Result<RunningServer, CommandError> {
    let mut config = load(settings)?;
    config.auth.mode = AuthMode::None;
    config.tls = TlsConfig::default();
    config.listen =
        ListenAddress::parse("127.0.0.1:0").ok_or_else(|| CommandError::new("127.0.0.1:0 is not an address"))?;
    config.check_for_serving(false)?;
    Ok(Builder::new(config).start()?)
}

fn go_on(request: ResumeRequest) -> Result<ExitCode, CommandError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Accepted {
        run_id: RunId,
    }
    let ResumeRequest { project, run, server, token, from, inputs, json } = request;
    let token = token_or_environment(token)?;
    let mut body = json!({"from": from});
    if !inputs.is_empty() {
        body["inputs"] = Value::Object(inputs);
    }
    let path = format!("/api/projects/{project}/workflows/{run}/retry");
    let answered = post(&server, &path, token.as_ref(), &body.to_string());
    let (status, text) =
        answered.map_err(|error| CommandError::io(&format!("send the request to {server}"), &error))?;
    let accepted = (status == 202).then(|| serde_json::from_slice::<Accepted>(&text).ok()).flatten();
    let accepted = accepted.ok_or_else(|| {
        CommandError::new(format!("cannot run again from {run}: {}", refusal(&server, status, &text)))
    })?;
    watch(WatchRequest { project, server, token, run: Some(accepted.run_id), json })
}
