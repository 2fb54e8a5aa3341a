//! The command line, parsed into a [`Command`]. The flags of settings come from the table of keys.

mod decide;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Arg, ArgAction, ArgMatches, value_parser};
use serde_json::{Map, Value};

use super::decide::DecideRequest;
use super::doctor::DoctorRequest;
use super::follow::ServerUrl;
use super::resume::{ResumeRequest, SERVER_URL};
use super::token::{TokenRequest, parse_project, parse_scopes, parse_sub, parse_ttl};
use super::watch::WatchRequest;
use crate::config::units::parse_duration;
use crate::config::{ConfigError, KEYS, Key, Loaded, Secret, Sources};
use crate::model::json::lost_number;
use crate::model::{ProjectId, RunId};

/// The path that stands for standard input.
const STDIN: &str = "-";

/// Keys that are set often enough to show in the short help of `serve`.
const COMMON_KEYS: [&str; 3] = ["listen", "data", "auth.mode"];

/// A parsed command line.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Serve until told to stop.
    Serve {
        /// The configuration file and the flags.
        settings: Settings,
        /// Allow a server without authentication on an address that is not loopback.
        insecure: bool,
    },
    /// Run a plan in this process.
    Run {
        /// The configuration file and the flags.
        settings: Settings,
        /// The plan.
        plan: PlanSource,
        /// Inputs that override the plan's.
        inputs: Map<String, Value>,
        /// Print messages as JSON lines instead of the progress display.
        json: bool,
    },
    /// Run again from a run that failed or was cancelled.
    Resume {
        /// The configuration file and the flags.
        settings: Settings,
        /// Which, and how.
        request: ResumeRequest,
    },
    /// Check a plan without running it.
    Check {
        /// The configuration file and the flags.
        settings: Settings,
        /// The plan.
        plan: PlanSource,
    },
    /// Follow runs on a server.
    Watch {
        /// Which, and how.
        request: WatchRequest,
    },
    /// Find out what the proxies in front of a server do to streams.
    Doctor {
        /// Which, and how.
        request: DoctorRequest,
    },
    /// Decide a step that waits for a decision, on a server.
    Decide {
        /// Which, and how.
        request: Box<DecideRequest>,
    },
    /// Print a signed token.
    Token {
        /// The configuration file and the flags.
        settings: Settings,
        /// What it says.
        request: TokenRequest,
    },
    /// Serve sample plans on loopback.
    Demo {
        /// The configuration file and the flags.
        settings: Settings,
    },
    /// Check the settings without starting anything.
    ConfigCheck {
        /// The configuration file and the flags.
        settings: Settings,
        /// Allow a server without authentication on an address that is not loopback.
        insecure: bool,
    },
    /// Print the effective settings, and where each was set.
    ConfigPrint {
        /// The configuration file and the flags.
        settings: Settings,
    },
    /// Print completions for a shell.
    #[cfg(feature = "packaging")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write manual pages.
    #[cfg(feature = "packaging")]
    Manual {
        /// The directory.
        directory: PathBuf,
    },
    /// Send a test event to a webhook.
    WebhookTest {
        /// The configuration file and the flags.
        settings: Settings,
        /// Its name.
        name: String,
    },
}

/// Sources of settings other than the environment.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// The file.
    pub file: Option<PathBuf>,
    /// Paths of keys with the values that flags gave them.
    pub flags: Vec<(&'static str, String)>,
}

impl Settings {
    /// Reads file and environment and lays the flags over them.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn load(self) -> Result<Loaded, ConfigError> {
        self.sources()?.resolve()
    }

    /// What they are made of.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn sources(self) -> Result<Sources, ConfigError> {
        Sources::read(self.file.as_deref(), self.flags)
    }

    /// Was this key set by a flag?
    pub fn has_flag(&self, path: &str) -> bool {
        self.flags.iter().any(|(set, _)| *set == path)
    }
}

/// Without the values of flags, for one may be a secret.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags: Vec<_> = self.flags.iter().map(|(path, _)| path).collect();
        f.debug_struct("Settings").field("file", &self.file).field("flags", &flags).finish()
    }
}

/// Where a plan is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanSource {
    /// Standard input.
    Stdin,
    /// This file.
    File(PathBuf),
}

/// Parses the arguments, the program's name first.
///
/// # Errors
/// What is wrong with them, or the help or version that was asked for; `exit` prints it and ends the program.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, clap::Error> {
    let matches = program().try_get_matches_from(args)?;
    let (name, matches) = matches.subcommand().expect("clap asks for a subcommand");
    Ok(command(name, matches))
}

fn command(name: &str, matches: &ArgMatches) -> Command {
    let settings = settings(matches);
    match name {
        "serve" => Command::Serve { settings, insecure: matches.get_flag("insecure") },
        "run" if matches.contains_id("resume") => Command::Resume { settings, request: resume_request(matches) },
        "run" => Command::Run {
            settings,
            plan: plan(matches),
            inputs: matches.get_one::<Map<String, Value>>("inputs").cloned().unwrap_or_default(),
            json: matches.get_flag("json"),
        },
        "check" => Command::Check { settings, plan: plan(matches) },
        "watch" => Command::Watch { request: watch_request(matches) },
        "doctor" => Command::Doctor { request: doctor_request(matches) },
        "decide" => Command::Decide { request: Box::new(decide::request(matches)) },
        "token" => Command::Token { settings, request: token_request(matches) },
        "demo" => Command::Demo { settings },
        #[cfg(feature = "packaging")]
        "completions" => Command::Completions { shell: *matches.get_one("shell").expect("clap asks for it") },
        #[cfg(feature = "packaging")]
        "manual" => {
            Command::Manual { directory: matches.get_one::<PathBuf>("directory").expect("clap asks for it").clone() }
        }
        "config" => {
            let (name, matches) = matches.subcommand().expect("clap asks for a subcommand");
            let settings = self::settings(matches);
            match name {
                "check" => Command::ConfigCheck { settings, insecure: matches.get_flag("insecure") },
                _ => Command::ConfigPrint { settings },
            }
        }
        "webhooks" => {
            let (_, matches) = matches.subcommand().expect("clap asks for a subcommand");
            let name = matches.get_one::<String>("name").expect("clap asks for it").clone();
            Command::WebhookTest { settings: self::settings(matches), name }
        }
        other => unreachable!("clap knows no subcommand {other}"),
    }
}

fn settings(matches: &ArgMatches) -> Settings {
    let value = |key: &'static Key| {
        let value = matches.try_get_one::<String>(key.path).ok().flatten()?;
        Some((key.path, value.clone()))
    };
    let file = matches.try_get_one("config").ok().flatten().cloned();
    Settings { file, flags: KEYS.iter().filter_map(value).collect() }
}

fn plan(matches: &ArgMatches) -> PlanSource {
    let path: &PathBuf = matches.get_one("plan").expect("clap asks for it");
    if path.as_os_str() == STDIN { PlanSource::Stdin } else { PlanSource::File(path.clone()) }
}

fn resume_request(matches: &ArgMatches) -> ResumeRequest {
    ResumeRequest {
        project: matches.get_one::<ProjectId>("project").expect("clap asks for it").clone(),
        run: matches.get_one::<RunId>("resume").expect("that is why this is called").clone(),
        server: matches.get_one::<ServerUrl>("url").expect("it has a default").clone(),
        token: matches.get_one::<String>("token").map(Secret::new),
        from: matches.get_many::<String>("from").into_iter().flatten().cloned().collect(),
        inputs: matches.get_one::<Map<String, Value>>("inputs").cloned().unwrap_or_default(),
        json: matches.get_flag("json"),
    }
}

fn watch_request(matches: &ArgMatches) -> WatchRequest {
    WatchRequest {
        project: matches.get_one::<ProjectId>("project").expect("clap asks for it").clone(),
        server: matches.get_one::<ServerUrl>("url").expect("it has a default").clone(),
        token: matches.get_one::<String>("token").map(Secret::new),
        run: matches.get_one("run").cloned(),
        json: matches.get_flag("json"),
    }
}

fn doctor_request(matches: &ArgMatches) -> DoctorRequest {
    DoctorRequest {
        server: matches.get_one::<ServerUrl>("url").expect("clap asks for it").clone(),
        token: matches.get_one::<String>("token").map(Secret::new),
        project: matches.get_one::<ProjectId>("project").expect("it has a default").clone(),
        watch: *matches.get_one("watch").expect("it has a default"),
        wait: *matches.get_one("wait").expect("it has a default"),
        authority: matches.get_one("ca").cloned(),
    }
}

fn token_request(matches: &ArgMatches) -> TokenRequest {
    let scopes = matches.get_many::<Vec<String>>("scope").expect("it has a default");
    TokenRequest {
        projects: matches.get_many("project").expect("clap asks for it").cloned().collect(),
        sub: matches.get_one::<String>("sub").expect("clap asks for it").clone(),
        ttl: *matches.get_one("ttl").expect("it has a default"),
        scope: scopes.flatten().cloned().collect(),
        key: matches.get_one("key").cloned(),
        kid: matches.get_one("kid").cloned(),
    }
}

fn program() -> clap::Command {
    #[cfg(feature = "packaging")]
    return commands().subcommands(super::packaging::commands());
    #[cfg(not(feature = "packaging"))]
    commands()
}

/// The commands of every build.
pub(super) fn commands() -> clap::Command {
    clap::Command::new("stepcast")
        .bin_name("stepcast")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Runs plans of steps on a worker pool and streams their progress over Server-Sent Events")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([
            serve(),
            run(),
            check(),
            watch(),
            decide::command(),
            doctor(),
            token(),
            demo(),
            webhooks(),
            settings_command(),
        ])
}

fn insecure() -> Arg {
    switch(
        "insecure",
        "Allow --auth none on an address that other machines can reach; everyone who reaches it has full access",
    )
}

fn serve() -> clap::Command {
    let common = |key: &Key| COMMON_KEYS.contains(&key.path);
    clap::Command::new("serve")
        .about("Run the server until it is told to stop")
        .args([config(), insecure()])
        .args(key_flags(common))
}

fn run() -> clap::Command {
    let inputs = option("inputs", "JSON", "Inputs as a JSON object; they override the plan's own inputs key by key")
        .value_parser(parse_inputs);
    let json = switch("json", "Print each message as one line of JSON instead of the progress display");
    clap::Command::new("run")
        .about(
            "Run a plan in this process and show its progress; the exit status is 0 if it completes, 1 if it does not",
        )
        .args([
            plan_arg().required(false).required_unless_present("resume").conflicts_with("resume"),
            config(),
            inputs,
            json,
        ])
        .args(resume_args())
        .args(key_flags(|_| false))
}

/// What `run --resume` takes besides.
fn resume_args() -> [Arg; 5] {
    let resume = option(
        "resume",
        "ID",
        "Run again from a run that failed or was cancelled: on the server at --url, or in this process if --data is given",
    );
    let project = option("project", "PROJECT", "Project of the run").requires("resume");
    let url = option("url", "URL", "Server that has the run of --resume").default_value(SERVER_URL);
    let token = option(
        "token",
        "TOKEN",
        "Access token; other users of this machine can see it on the command line, so prefer the variable STEPCAST_TOKEN",
    );
    let from =
        option("from", "STEPS", "Steps to run again, together with all steps that depend on them").requires("resume");
    [
        resume.requires("project").value_parser(parse_id::<RunId>),
        project.value_parser(parse_id::<ProjectId>),
        url.requires("resume").value_parser(parse_id::<ServerUrl>),
        token.requires("resume"),
        from.value_delimiter(','),
    ]
}

fn check() -> clap::Command {
    clap::Command::new("check")
        .about("Check a plan without running it")
        .args([plan_arg(), config()])
        .args(key_flags(|_| false))
}

fn watch() -> clap::Command {
    let project = Arg::new("project")
        .value_name("PROJECT")
        .help("Project to watch")
        .required(true)
        .value_parser(parse_id::<ProjectId>);
    let url =
        option("url", "URL", "Address of the server").default_value(SERVER_URL).value_parser(parse_id::<ServerUrl>);
    let token = option(
        "token",
        "TOKEN",
        "Access token; other users of this machine can see it on the command line, so prefer the variable STEPCAST_TOKEN",
    );
    let run = option(
        "run",
        "ID",
        "Watch only this run, until it ends; the exit status is 0 if it completes, 1 if it does not",
    );
    let json = switch("json", "Print each message as one line of JSON instead of the progress display");
    clap::Command::new("watch")
        .about("Follow the runs of a project on a server and show their progress, until Ctrl-C")
        .args([
            project,
            url,
            token.value_parser(NonEmptyStringValueParser::new()),
            run.value_parser(parse_id::<RunId>),
            json,
        ])
}

fn doctor() -> clap::Command {
    let url = Arg::new("url")
        .value_name("URL")
        .help("Address at which clients reach the server, normally that of the proxy")
        .required(true)
        .value_parser(parse_id::<ServerUrl>);
    let token = option(
        "token",
        "TOKEN",
        "Access token with the scope admin; other users of this machine can see it on the command line, so prefer the variable STEPCAST_TOKEN",
    );
    let project = option("project", "PROJECT", "Project to use for the test; a few messages are published to it");
    let watch = option("watch", "DURATION", "How long to watch an idle stream; 0s skips this test");
    let wait = option("wait", "DURATION", "How long an event may take before it counts as delayed");
    let ca = option("ca", "FILE", "PEM file with the certificate of an additional authority to trust");
    clap::Command::new("doctor")
        .about(
            "Find out what the proxies in front of a server do to streams; the exit status is 1 if something must be changed",
        )
        .args([
            url,
            token.value_parser(NonEmptyStringValueParser::new()),
            project.default_value("doctor").value_parser(parse_id::<ProjectId>),
            watch.default_value("40s").value_parser(parse_wait),
            wait.default_value("5s").value_parser(parse_wait),
            ca.value_parser(value_parser!(PathBuf)),
        ])
}

fn parse_wait(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "expected a duration such as 40s or 2m".to_owned())
}

fn token() -> clap::Command {
    let project =
        option("project", "PROJECT", "Project that the token gives access to, or * for all projects; may be repeated");
    let sub =
        option("sub", "NAME", "Subject of the token: the name of its bearer").required(true).value_parser(parse_sub);
    let ttl = option("ttl", "DURATION", "How long the token is valid").default_value("1h").value_parser(parse_ttl);
    let scope = option(
        "scope",
        "SCOPE",
        "Scopes that the token grants: subscribe, publish, run, approve, admin; may be repeated",
    );
    let key = option(
        "key",
        "FILE",
        "PEM file with a private key (RSA, P-256 or Ed25519) that signs the token instead of auth.jwt_secret",
    );
    let kid = option("kid", "NAME", "Key ID (kid) to write into the token header").requires("key");
    clap::Command::new("token").about("Print an access token, signed with auth.jwt_secret (STEPCAST_JWT_SECRET)").args(
        [
            project.required(true).action(ArgAction::Append).value_parser(parse_project),
            sub,
            ttl,
            scope.action(ArgAction::Append).num_args(1..).default_value("subscribe").value_parser(parse_scopes),
            key.value_parser(value_parser!(PathBuf)),
            kid.value_parser(NonEmptyStringValueParser::new()),
            config(),
        ],
    )
}

fn demo() -> clap::Command {
    clap::Command::new("demo")
        .about("Run a server on loopback with sample plans, and print the address of its page")
        .arg(config())
        .args(key_flags(|_| false))
}

fn webhooks() -> clap::Command {
    let name = Arg::new("name").value_name("NAME").help("Name of the webhook").required(true);
    let test = clap::Command::new("test")
        .about("Send a test event to a webhook; the exit status is 0 if the receiver accepts it, 1 if it does not")
        .args([name, config()]);
    clap::Command::new("webhooks")
        .about("Test the webhooks that the configuration file declares")
        .subcommand_required(true)
        .subcommand(test)
}

fn settings_command() -> clap::Command {
    let check = clap::Command::new("check")
        .about(
            "Check the settings that serve would start with; the exit status is 0 if they are valid, 1 if they are not",
        )
        .args([config(), insecure()])
        .args(key_flags(|_| false));
    let print = clap::Command::new("print")
        .about("Print the effective settings in TOML, each with where it was set; secrets are masked, but not in argv and in the paths of tools")
        .arg(config())
        .args(key_flags(|_| false));
    clap::Command::new("config")
        .about("Check or print the settings")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([check, print])
}

fn config() -> Arg {
    option("config", "FILE", "Configuration file, in TOML (environment variable STEPCAST_CONFIG)")
        .value_parser(value_parser!(PathBuf))
}

fn plan_arg() -> Arg {
    Arg::new("plan")
        .value_name("PLAN.json")
        .help("Plan file; - reads the plan from standard input")
        .required(true)
        .value_parser(value_parser!(PathBuf))
}

/// A flag for each key. Only the `common` ones show in the short help. The flag of a secret shows in neither help, for
/// everyone on the machine can read a command line: the environment is the place for it.
fn key_flags(common: impl Fn(&Key) -> bool) -> impl Iterator<Item = Arg> {
    KEYS.iter().map(move |key| {
        let flag = option(key.path, key.value_name(), &key.help).long(key.flag.as_str());
        let flag = flag.value_parser(NonEmptyStringValueParser::new());
        let flag = if key.path == "auth.mode" { flag.visible_alias("auth") } else { flag };
        if common(key) {
            flag
        } else {
            flag.help_heading("Settings (also keys of the configuration file and environment variables: STEPCAST_SSE_RETRY for --sse-retry)")
                .hide_short_help(true)
                .hide(key.is_secret())
        }
    })
}

fn option(name: &'static str, value_name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value_name).help(help)
}

fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).action(ArgAction::SetTrue)
}

fn parse_id<T: FromStr<Err: fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

fn parse_inputs(text: &str) -> Result<Map<String, Value>, String> {
    match lost_number(text.as_bytes()) {
        None => serde_json::from_str(text).map_err(|error| format!("expected a JSON object: {error}")),
        Some(lost) => Err(lost.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;
    use serde_json::json;

    use super::*;

    fn parsed(line: &[&str]) -> Result<Command, clap::Error> {
        parse(["stepcast"].iter().chain(line).map(OsString::from))
    }

    fn settings(file: Option<&str>, flags: &[(&'static str, &str)]) -> Settings {
        let flags = flags.iter().map(|(path, value)| (*path, (*value).to_owned())).collect();
        Settings { file: file.map(Into::into), flags }
    }

    #[test]
    fn the_definition_holds_together() {
        program().debug_assert();
    }

    #[test]
    fn commands_are_parsed_whole() {
        let plan = PlanSource::File("p.json".into());
        let watch = WatchRequest {
            project: ProjectId::parse("p").expect("an id"),
            server: SERVER_URL.parse().expect("a url"),
            token: None,
            run: None,
            json: false,
        };
        let inputs = json!({"a": 1}).as_object().expect("an object").clone();
        let token = TokenRequest {
            projects: vec!["a".into(), "*".into()],
            sub: "u".into(),
            ttl: std::time::Duration::from_secs(60),
            scope: ["run", "publish", "subscribe", "run", "admin"].map(Into::into).to_vec(),
            key: None,
            kid: None,
        };

        let by_default = TokenRequest {
            projects: vec!["a".into()],
            ttl: std::time::Duration::from_secs(3600),
            scope: vec!["subscribe".into()],
            ..token.clone()
        };
        let by_key = TokenRequest { key: Some("k.pem".into()), kid: Some("k".into()), ..by_default.clone() };
        let empty = Settings::default;
        let all_flags = settings(Some("c.toml"), &[("listen", ":1"), ("data", "none"), ("auth.mode", "none")]);
        let table: Vec<(&[&str], Command)> = vec![
            (&["serve"], Command::Serve { settings: empty(), insecure: false }),
            (
                &["serve", "--auth", "none", "--config", "c.toml", "--listen", ":1", "--data=none", "--insecure"],
                Command::Serve { settings: all_flags, insecure: true },
            ),
            (
                &["serve", "--sse-heartbeat=-1s", "--auth-mode", "jwt"],
                Command::Serve {
                    settings: settings(None, &[("auth.mode", "jwt"), ("sse.heartbeat", "-1s")]),
                    insecure: false,
                },
            ),
            (
                &["run", "p.json", "--inputs", r#"{"a": 1}"#, "--json", "--executor-workers", "2"],
                Command::Run {
                    settings: settings(None, &[("executor.workers", "2")]),
                    plan: plan.clone(),
                    inputs,
                    json: true,
                },
            ),
            (
                &["run", "-"],
                Command::Run { settings: empty(), plan: PlanSource::Stdin, inputs: Map::new(), json: false },
            ),
            (
                &["run", "--resume", "r", "--project", "p", "--from", "a,b", "--data", "d"],
                Command::Resume {
                    settings: settings(None, &[("data", "d")]),
                    request: ResumeRequest {
                        project: ProjectId::parse("p").expect("an id"),
                        run: RunId::parse("r").expect("an id"),
                        server: SERVER_URL.parse().expect("a url"),
                        token: None,
                        from: ["a", "b"].map(Into::into).to_vec(),
                        inputs: Map::new(),
                        json: false,
                    },
                },
            ),
            (&["check", "p.json"], Command::Check { settings: empty(), plan }),
            (&["watch", "p"], Command::Watch { request: watch.clone() }),
            (
                &["watch", "p", "--url", "http://h:1/x/", "--token", "t", "--run", "r", "--json"],
                Command::Watch {
                    request: WatchRequest {
                        server: "http://h:1/x".parse().expect("a url"),
                        token: Some(Secret::new("t")),
                        run: Some(RunId::parse("r").expect("an id")),
                        json: true,
                        ..watch
                    },
                },
            ),
            (
                &[
                    "token",
                    "--project",
                    "a",
                    "--project",
                    "*",
                    "--sub",
                    "u",
                    "--ttl",
                    "1m",
                    "--scope",
                    "run,publish",
                    "subscribe run",
                    "--scope",
                    "admin",
                ],
                Command::Token { settings: empty(), request: token },
            ),
            (&["token", "--project", "a", "--sub", "u"], Command::Token { settings: empty(), request: by_default }),
            (
                &["token", "--project", "a", "--sub", "u", "--key", "k.pem", "--kid", "k"],
                Command::Token { settings: empty(), request: by_key },
            ),
            (
                &["doctor", "https://h/x", "--watch", "0s"],
                Command::Doctor {
                    request: DoctorRequest {
                        server: "https://h/x".parse().expect("a url"),
                        token: None,
                        project: ProjectId::parse("doctor").expect("an id"),
                        watch: Duration::ZERO,
                        wait: Duration::from_secs(5),
                        authority: None,
                    },
                },
            ),
            (&["demo"], Command::Demo { settings: empty() }),
            (
                &["config", "check", "--insecure", "--config", "c.toml"],
                Command::ConfigCheck { settings: settings(Some("c.toml"), &[]), insecure: true },
            ),
            (
                &["config", "print", "--sse-retry", "1s"],
                Command::ConfigPrint { settings: settings(None, &[("sse.retry", "1s")]) },
            ),
        ];
        for (line, expected) in table {
            assert_eq!(parsed(line).expect("parses"), expected, "{line:?}");
        }
    }

    #[test]
    fn bad_lines_are_refused() {
        let table: [(&[&str], ErrorKind); 21] = [
            (&["doctor"], ErrorKind::MissingRequiredArgument),
            (&["doctor", "http://h", "--watch", "long"], ErrorKind::ValueValidation),
            (&[], ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
            (&["--version"], ErrorKind::DisplayVersion),
            (&["--help"], ErrorKind::DisplayHelp),
            (&["sevre"], ErrorKind::InvalidSubcommand),
            (&["serve", "--sse-hartbeat", "1s"], ErrorKind::UnknownArgument),
            (&["serve", "--listen", ""], ErrorKind::InvalidValue),
            (&["run"], ErrorKind::MissingRequiredArgument),
            (&["run", "p.json", "--url", "http://h:1"], ErrorKind::MissingRequiredArgument),
            (&["run", "p", "--inputs", "[1]"], ErrorKind::ValueValidation),
            (&["run", "p", "--inputs", r#"{"n": 18446744073709551616}"#], ErrorKind::ValueValidation),
            (&["token", "--sub", "u"], ErrorKind::MissingRequiredArgument),
            (&["token", "--project", "a", "--sub", "u", "--kid", "k"], ErrorKind::MissingRequiredArgument),
            (&["token", "--project", "a b", "--sub", "u"], ErrorKind::ValueValidation),
            (&["token", "--project", "a", "--sub", "u", "--scope", "write"], ErrorKind::ValueValidation),
            (&["demo", "--insecure"], ErrorKind::UnknownArgument),
            (&["watch"], ErrorKind::MissingRequiredArgument),
            (&["watch", "a b"], ErrorKind::ValueValidation),
            (&["watch", "p", "--url", "localhost"], ErrorKind::ValueValidation),
            (&["watch", "p", "--run", "../x"], ErrorKind::ValueValidation),
        ];
        for (line, kind) in table {
            assert_eq!(parsed(line).expect_err("refused").kind(), kind, "{line:?}");
        }
    }

    #[test]
    fn the_short_help_is_short_and_the_long_one_whole_but_for_the_secret() {
        let short = parsed(&["serve", "-h"]).expect_err("help").to_string();
        let long = parsed(&["serve", "--help"]).expect_err("help").to_string();
        assert!(short.contains("--listen") && short.contains("--auth-mode") && !short.contains("--sse-heartbeat"));
        for key in KEYS.iter() {
            assert_eq!(long.contains(&format!("--{} ", key.flag)), !key.is_secret(), "{}", key.path);
        }
    }

    #[test]
    fn a_secret_given_as_a_flag_does_not_show_in_debug_output() {
        let command = parsed(&["serve", "--auth-jwt-secret", "hunter2"]).expect("parses");
        assert!(!format!("{command:?}").contains("hunter2"));
    }
}
