//! The command line, parsed once: what every scenario has, and the parameters of the one that is asked for.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;

use crate::failure::{Outcome, failure};
use crate::loopback::Target;
use crate::options::{Options, Scenario};
use crate::peers::Peer;
use crate::scenario;
use crate::server::{Choice, Data};

/// What is to be done.
pub enum Request {
    /// A scenario is to be carried out.
    Run(Box<Options>),
    /// The table is to be made.
    Table(Vec<OsString>),
    /// A table is to be drawn.
    Draw(Vec<OsString>),
    /// How to use this is to be shown.
    Help,
}

/// Reads the command line.
///
/// # Errors
/// Where it makes no sense.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Outcome<Request> {
    let mut arguments = arguments.into_iter().peekable();
    match arguments.peek().and_then(|first| first.to_str()) {
        Some("table") => return Ok(Request::Table(arguments.skip(1).collect())),
        Some("draw") => return Ok(Request::Draw(arguments.skip(1).collect())),
        _ => {}
    }
    let mut parser = lexopt::Parser::from_args(arguments);
    let mut draft = Draft::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Request::Help),
            Long("json") => draft.is_json = true,
            Long("pin") => draft.is_pinned = true,
            Long("tls") => draft.is_tls = true,
            Long("server") => draft.path = Some(parser.value()?.into()),
            Long("url") => draft.url = Some(Target::parse(&parser.value()?.string()?)?),
            Long("peer") => draft.peer = Some(Peer::find(&parser.value()?.string()?)?),
            Long("pid") => draft.pid = Some(parser.value()?.parse()?),
            Long("data") => draft.data = parser.value()?.parse_with(parse_data)?,
            Long("limit") => draft.limit_s = Some(parser.value()?.parse()?),
            Long(name) => {
                let name = name.to_owned();
                let value = parser.value()?.string()?;
                draft.values.push((name, value));
            }
            Value(value) if draft.scenario.is_none() => draft.scenario = Some(value.string()?),
            Value(value) => draft.flags.push(value.string()?),
            Short(_) => return Err(argument.unexpected().into()),
        }
    }
    draft.finish()
}

#[derive(Default)]
struct Draft {
    scenario: Option<String>,
    path: Option<PathBuf>,
    url: Option<Target>,
    peer: Option<Peer>,
    pid: Option<u32>,
    data: Vec<Data>,
    is_json: bool,
    is_pinned: bool,
    is_tls: bool,
    limit_s: Option<u64>,
    values: Vec<(String, String)>,
    flags: Vec<String>,
}

impl Draft {
    fn finish(self) -> Outcome<Request> {
        let Some(name) = self.scenario else { return Ok(Request::Help) };
        let Some(scenario) = scenario::ALL.iter().find(|scenario| scenario.name == name) else {
            let names: Vec<&str> = scenario::ALL.iter().map(|scenario| scenario.name).collect();
            return failure(format!("unknown scenario {name}; expected one of {}", names.join(", ")));
        };
        let path = self.path.unwrap_or_else(|| PathBuf::from("target/release/stepcast"));
        let (is_pinned, is_tls) = (self.is_pinned, self.is_tls);
        let server = match (self.url, self.peer) {
            (Some(target), _) => Choice::Running { target, pid: self.pid },
            (None, Some(peer)) => Choice::Peer { peer, is_pinned },
            (None, None) => Choice::Program { path, flags: self.flags, is_pinned, is_tls },
        };
        let data = if self.data.is_empty() { scenario.data.to_vec() } else { self.data };
        let limit = Duration::from_secs(self.limit_s.unwrap_or(scenario.limit_s));
        let values = values(scenario, self.values)?;
        let options = Options { scenario, server, data, is_json: self.is_json, limit, values };
        Ok(Request::Run(Box::new(options)))
    }
}

fn values(scenario: &Scenario, given: Vec<(String, String)>) -> Outcome<BTreeMap<&'static str, String>> {
    let defaults = scenario.parameters.iter().map(|parameter| (parameter.name, parameter.default.to_owned()));
    let mut values: BTreeMap<_, _> = defaults.collect();
    for (name, value) in given {
        let Some(slot) = values.get_mut(name.as_str()) else {
            return failure(format!("unknown option --{name} for {}; see --help", scenario.name));
        };
        let is_number = |item: &str| item.trim().parse::<f64>().is_ok_and(|number| number >= 0.0 && number.is_finite());
        if !value.split(',').all(is_number) {
            return failure(format!("--{name} {value}: expected a number, or several separated by commas"));
        }
        *slot = value;
    }
    Ok(values)
}

fn parse_data(text: &str) -> Result<Vec<Data>, String> {
    let data = |word: &str| match word.trim() {
        "none" => Ok(Data::None),
        "temp" => Ok(Data::Temporary),
        other => Err(format!("{other}: expected none or temp")),
    };
    text.split(',').map(data).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Outcome<Box<Options>> {
        match parse(line.split_whitespace().map(OsString::from))? {
            Request::Run(options) => Ok(options),
            _ => failure("help"),
        }
    }

    #[test]
    fn a_command_line_is_checked_once() {
        let options = options("replay --clients 7 --data none,temp --json -- --log-level debug").expect("good");
        assert_eq!(options.scenario.name, "replay");
        assert_eq!(options.number::<usize>("clients").expect("a number"), 7);
        assert_eq!(options.number::<u64>("messages").expect("a default"), 100_000);
        assert_eq!(options.data, [Data::None, Data::Temporary]);
        assert!(options.is_json);
        let Choice::Program { flags, .. } = options.server else { panic!("a program") };
        assert_eq!(flags, ["--log-level", "debug"]);
    }

    #[test]
    fn nonsense_is_refused_with_a_sentence() {
        for (line, expected) in [
            ("juggle", "unknown scenario juggle"),
            ("replay --balls 3", "unknown option --balls for replay"),
            ("replay --clients many", "--clients many: expected a number"),
            ("replay --clients -3", "--clients -3: expected a number"),
            ("replay --data disk", "expected none or temp"),
            ("replay --url http://192.168.0.1:80", "not a loopback address"),
            ("replay -x", "invalid option '-x'"),
            ("", "help"),
        ] {
            let text = options(line).map(|_| ()).expect_err(line).to_string();
            assert!(text.contains(expected), "{line}: {text}");
        }
    }
}
