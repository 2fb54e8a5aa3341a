//! The arguments of `stepcast decide`.

use clap::builder::NonEmptyStringValueParser;
use clap::{Arg, ArgMatches};
use serde_json::value::RawValue;

use super::{option, parse_id};
use crate::cli::decide::DecideRequest;
use crate::cli::follow::ServerUrl;
use crate::cli::resume::SERVER_URL;
use crate::config::Secret;
use crate::model::{Choice, ProjectId, RunId, StepId};

pub(super) fn command() -> clap::Command {
    let named = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).value_name(value).help(help).required(true)
    };
    let payload = option("payload", "JSON", "Data for the decision, if the step asks for any");
    let url =
        option("url", "URL", "Address of the server").default_value(SERVER_URL).value_parser(parse_id::<ServerUrl>);
    let token = option(
        "token",
        "TOKEN",
        "Access token; other users of this machine can see it on the command line, so prefer the variable STEPCAST_TOKEN",
    );
    clap::Command::new("decide").about("Approve or reject a step that waits for a decision").args([
        named("project", "PROJECT", "Project of the run").value_parser(parse_id::<ProjectId>),
        named("run", "RUN", "ID of the run").value_parser(parse_id::<RunId>),
        named("step", "STEP", "ID of the step").value_parser(parse_id::<StepId>),
        named("decision", "DECISION", "approve or reject").value_parser(parse_choice),
        payload.value_parser(parse_json),
        url,
        token.value_parser(NonEmptyStringValueParser::new()),
    ])
}

fn parse_choice(text: &str) -> Result<Choice, String> {
    Choice::parse(text).ok_or_else(|| "expected approve or reject".to_owned())
}

fn parse_json(text: &str) -> Result<Box<RawValue>, String> {
    serde_json::from_str(text).map_err(|error| format!("expected JSON: {error}"))
}

pub(super) fn request(matches: &ArgMatches) -> DecideRequest {
    DecideRequest {
        project: matches.get_one::<ProjectId>("project").expect("clap asks for it").clone(),
        run: matches.get_one::<RunId>("run").expect("clap asks for it").clone(),
        step: matches.get_one::<StepId>("step").expect("clap asks for it").clone(),
        choice: *matches.get_one::<Choice>("decision").expect("clap asks for it"),
        payload: matches.get_one::<Box<RawValue>>("payload").cloned(),
        server: matches.get_one::<ServerUrl>("url").expect("it has a default").clone(),
        token: matches.get_one::<String>("token").map(Secret::new),
    }
}
