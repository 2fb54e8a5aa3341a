//! From a declaration in the configuration to a tool. Everything in it is compiled here once, so that a mistake
//! prevents the start of the server, not a step.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::command::CommandTool;
use super::command::check_limits;
use super::schema::Schema;
use super::usage::{Meter, UsageFaults};
use super::{Budget, Call, HttpSpec, Outcome, Registry, Tool, ToolDeclaration, ToolError, ToolKind};

/// What holds for every declared tool.
#[derive(Debug, Clone, Copy)]
pub struct ToolSettings {
    /// How many bytes of an attempt's output are kept; the output of one that writes more is cut there and says so.
    /// Held in memory, so at most this much for each worker.
    pub output_bytes: usize,
    /// What a command's process group has between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// What other processes of its group may still write after a command's own has ended. Then they are killed.
    pub linger: Duration,
    /// Use the proxies that `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` name.
    pub proxy_from_env: bool,
    /// How long a connection of an http tool stays open after a call, for the next one.
    pub idle: Duration,
}

impl Default for ToolSettings {
    /// 64 MiB, 5 s, 500 ms, with proxies, 15 s.
    fn default() -> Self {
        Self {
            output_bytes: 64 * 1024 * 1024,
            grace: Duration::from_secs(5),
            linger: Duration::from_millis(500),
            proxy_from_env: true,
            idle: Duration::from_secs(15),
        }
    }
}

impl Registry {
    /// Adds the tool that `declaration` describes; a tool of the same name is replaced.
    ///
    /// # Errors
    /// One sentence that names the tool, the field and what is wrong with it.
    pub fn declare(&mut self, declaration: ToolDeclaration, settings: ToolSettings) -> Result<(), String> {
        let name = declaration.name.clone();
        let can_start = match &declaration.kind {
            ToolKind::Command(spec) => check_limits(spec),
            ToolKind::Http(_) => Ok(()),
        };
        let tool = can_start.and_then(|()| Declared::compile(declaration, settings));
        let tool = tool.map_err(|problem| format!("tool `{name}`: {problem}"))?;
        let faults = tool.faults.clone();
        self.insert(&name, tool);
        if let Some(faults) = faults {
            self.note_faults(&name, faults);
        }
        Ok(())
    }
}

impl ToolDeclaration {
    /// Can it be made a tool?
    ///
    /// # Errors
    /// One sentence that begins with the field, as `argv[1]: ` or `env.HOME: `, and repeats none of its secrets.
    pub fn check(&self) -> Result<(), String> {
        Declared::compile(self.clone(), ToolSettings::default()).map(drop)
    }
}

/// A declared tool: what every kind has, around what it does.
struct Declared {
    tool: Box<dyn Tool>,
    inputs: Option<Schema>,
    timeout: Option<Duration>,
    rerun: bool,
    may_plan: bool,
    budget: Budget,
    /// There where it says what it uses.
    faults: Option<Arc<UsageFaults>>,
}

impl Declared {
    fn compile(declaration: ToolDeclaration, settings: ToolSettings) -> Result<Self, String> {
        let ToolDeclaration { name, timeout, rerun, may_plan, inputs, usage, budget, kind } = declaration;
        if name.is_empty() {
            return Err("a tool needs a name".to_owned());
        }
        let root = match &kind {
            ToolKind::Command(_) => "output",
            ToolKind::Http(_) => "event",
        };
        let meter = Meter::compile(&name, usage, root)?;
        if meter.is_none() && budget != Budget::default() {
            return Err("budget: requires usage".to_owned());
        }
        let faults = meter.as_ref().map(Meter::faults);
        let inputs = inputs.map(|schema| Schema::compile(&schema).map_err(|problem| format!("inputs: {problem}")));
        let tool: Box<dyn Tool> = match kind {
            ToolKind::Command(spec) => Box::new(CommandTool::new(spec, settings)?.metered(meter)),
            ToolKind::Http(spec) => http_tool(spec, settings, meter)?,
        };
        Ok(Self { timeout, inputs: inputs.transpose()?, tool, rerun, may_plan, budget, faults })
    }
}

#[cfg(feature = "http-tool")]
fn http_tool(spec: HttpSpec, settings: ToolSettings, meter: Option<Meter>) -> Result<Box<dyn Tool>, String> {
    Ok(Box::new(super::http::HttpTool::new(spec, settings)?.metered(meter)))
}

#[cfg(not(feature = "http-tool"))]
fn http_tool(_: HttpSpec, _: ToolSettings, _: Option<Meter>) -> Result<Box<dyn Tool>, String> {
    Err("kind: this program was built without http tools (feature `http-tool`)".to_owned())
}

impl Tool for Declared {
    fn call(&self, call: &Call<'_>) -> Result<Outcome, ToolError> {
        self.tool.call(call)
    }

    fn check_inputs(&self, inputs: &Map<String, Value>, is_template: &dyn Fn(&str) -> bool) -> Vec<(String, String)> {
        match &self.inputs {
            Some(schema) => schema.validate(&Value::Object(inputs.clone()), is_template),
            None => Vec::new(),
        }
    }

    fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    fn default_timeout(&self) -> Option<Duration> {
        self.tool.default_timeout()
    }

    fn rerun(&self) -> bool {
        self.rerun
    }

    fn may_plan(&self) -> bool {
        self.may_plan
    }

    fn budget(&self) -> Budget {
        self.budget
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::{Recorder, call};
    use super::super::{CommandSpec, HttpSpec};
    use super::*;
    use crate::executor::template::is_template;

    fn declaration(kind: ToolKind) -> ToolDeclaration {
        let (usage, budget) = Default::default();
        ToolDeclaration {
            name: "t".to_owned(),
            timeout: None,
            rerun: true,
            may_plan: false,
            inputs: None,
            usage,
            budget,
            kind,
        }
    }

    fn command(argv: &[&str]) -> CommandSpec {
        CommandSpec { argv: argv.iter().map(|&arg| arg.to_owned()).collect(), ..CommandSpec::default() }
    }

    fn http(method: &str, url: &str) -> HttpSpec {
        HttpSpec { method: method.to_owned(), url: url.to_owned(), ..HttpSpec::default() }
    }

    #[test]
    fn a_declared_tool_checks_runs_and_keeps_what_was_said_of_it() {
        let mut registry = Registry::with_builtins();
        let declared = ToolDeclaration {
            timeout: Some(Duration::from_secs(3)),
            rerun: false,
            may_plan: true,
            inputs: Some(json!({"required": ["x"], "properties": {"x": {"type": "integer"}}})),
            ..declaration(ToolKind::Command(command(&["printf", "%s", "{{ inputs.x }}"])))
        };
        registry.declare(declared, ToolSettings::default()).expect("is declared");
        assert_eq!(registry.names(), ["approval", "delay", "echo", "fail", "plan", "t"]);
        let tool = registry.tool("t").expect("is there");
        assert_eq!((tool.timeout(), tool.rerun()), (Some(Duration::from_secs(3)), false));
        assert!(tool.may_plan());
        let check = |inputs: Value| tool.check_inputs(inputs.as_object().expect("an object"), &is_template);
        assert_eq!(check(json!({"x": "{{ inputs.y }}"})), []);
        assert_eq!(check(json!({"x": "a"})), [("x".to_owned(), "must be of type integer, not string".to_owned())]);
        assert_eq!(call(tool.as_ref(), json!({"x": 7}), &Recorder::default()), Ok(Outcome::Output(json!(7))));
    }

    #[cfg(feature = "http-tool")]
    #[test]
    fn an_http_tool_has_a_timeout_even_where_none_is_declared() {
        let mut registry = Registry::new();
        registry
            .declare(declaration(ToolKind::Http(http("GET", "http://localhost/"))), ToolSettings::default())
            .expect("is declared");
        assert!(registry.timeout("t", None).is_some());
    }

    /// By the tool's name and the field.
    fn assert_refused(kind: ToolKind, part: &str) {
        let refused =
            Registry::new().declare(declaration(kind.clone()), ToolSettings::default()).expect_err("is refused");
        let start = format!("tool `t`: {part}");
        assert!(refused.starts_with(&start), "{kind:?}: {refused}");
        assert!(!refused.contains("hunter2"), "{refused}");
    }

    #[cfg(feature = "http-tool")]
    #[test]
    fn a_bad_http_tool_is_refused_by_name_and_field() {
        let with_header = |name: &str, value: &str| HttpSpec {
            headers: vec![(name.to_owned(), value.to_owned())],
            ..http("GET", "http://localhost/")
        };
        let with_body = HttpSpec { body: Some(json!({"a": ["{{ inputs. }}"]})), ..http("POST", "http://localhost/") };
        let with_pick = HttpSpec { stream_text: Some("event.".to_owned()), ..http("GET", "http://localhost/") };
        let with_error = HttpSpec { stream_error: Some("error".to_owned()), ..http("GET", "http://localhost/") };
        for (kind, part) in [
            (ToolKind::Http(http("", "http://localhost/")), "method"),
            (ToolKind::Http(http("GET ", "http://localhost/")), "method"),
            (ToolKind::Http(http("GET", "ftp://localhost/")), "url"),
            (ToolKind::Http(http("GET", "http://user:hunter2@localhost/")), "url"),
            (ToolKind::Http(http("GET", "{{ inputs.url }}")), "url"),
            (ToolKind::Http(http("GET", "http://{{ inputs.host }}/")), "url"),
            (ToolKind::Http(http("GET", "http://localhost:{{ inputs.port }}/")), "url"),
            (ToolKind::Http(http("GET", "http://localhost/{{ inputs.x")), "url"),
            (ToolKind::Http(http("GET", "http://local host/")), "url"),
            (ToolKind::Http(with_header("a b", "x")), "headers"),
            (ToolKind::Http(with_header("transfer-encoding", "x")), "headers"),
            (ToolKind::Http(with_header("a", "x\r\ny: z")), "headers.a"),
            (ToolKind::Http(with_header("x-api-key", "abc")), "headers.x-api-key"),
            (ToolKind::Http(with_header("Authorization", "Bearer abc")), "headers.Authorization"),
            (ToolKind::Http(with_header("Cookie", "abc")), "headers.Cookie"),
            (ToolKind::Http(with_body), "body.a[0]"),
            (ToolKind::Http(with_pick), "stream_text"),
            (ToolKind::Http(with_error), "stream_error"),
        ] {
            assert_refused(kind, part);
        }
    }

    #[cfg(not(feature = "http-tool"))]
    #[test]
    fn a_tool_that_is_not_built_in_is_refused() {
        assert_refused(ToolKind::Http(http("GET", "http://localhost/")), "kind: this program was built without");
    }

    #[test]
    fn a_bad_declaration_is_refused_by_name_and_field() {
        let with_env = |name: &str, value: &str| CommandSpec {
            env: vec![(name.to_owned(), value.to_owned())],
            ..command(&["true"])
        };
        let with_cwd = CommandSpec { cwd: Some("{{".to_owned()), ..command(&["true"]) };
        for (kind, part) in [
            (ToolKind::Command(command(&[])), "argv"),
            (ToolKind::Command(command(&[""])), "argv[0]"),
            (ToolKind::Command(command(&["{{ inputs.program }}"])), "argv[0]"),
            (ToolKind::Command(command(&["true", "{{ inputs.x"])), "argv[1]"),
            (ToolKind::Command(command(&["true", "a\0b"])), "argv[1]"),
            (ToolKind::Command(with_cwd), "cwd"),
            (ToolKind::Command(with_env("A=B", "x")), "env"),
            (ToolKind::Command(with_env("A", "{{ inputs.x | nothing }}")), "env.A"),
            (ToolKind::Command(with_env("API_KEY", "abc")), "env.API_KEY"),
            (ToolKind::Command(CommandSpec { pass_env: vec![String::new()], ..command(&["true"]) }), "pass_env"),
        ] {
            assert_refused(kind, part);
        }
        let schema = ToolDeclaration {
            inputs: Some(json!({"type": "text"})),
            ..declaration(ToolKind::Command(command(&["true"])))
        };
        assert!(
            Registry::new()
                .declare(schema, ToolSettings::default())
                .expect_err("is refused")
                .starts_with("tool `t`: inputs: #/type")
        );
    }
}
