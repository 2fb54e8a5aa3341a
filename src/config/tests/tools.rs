//! Tools of every kind, read whole.

use std::time::Duration;

use serde_json::json;

use super::from_file;
use crate::executor::tool::{
    Budget, CommandLimits, CommandSpec, Cost, HttpSpec, Price, ToolDeclaration, ToolKind, UsageSpec,
};

const TOOLS: &str = r#"
[tools.build]
kind = "command"
argv = ["make", "-C", "{{ inputs.dir }}"]
cwd = "/srv"
env = { CC = "clang", EMPTY = "" }
pass_env = ["PATH", "HOME"]
uid = 1000
gid = 0x64
limits = { cpu = "5m", memory = "256MiB", file_size = "0B", open_files = 64, processes = 20 }
timeout = "5m"
rerun = false
may_plan = true

[tools.build.inputs]
type = "object"
required = ["dir"]
properties.dir = { type = "string", maxLength = 80 }

[tools."ask.model-1"]
kind = "http"
method = "post"
url = "https://api.example/v1"
headers = { Authorization = "Bearer abcd" }
body = { model = "m", stream = true, temperature = 0.5, stop = ["a", 1], since = 1979-05-27 }
allow_redirects = true
allow_hosts = ["b.example:8080", "*.c.example"]
stream_text = "event.delta"
stream_error = "event.error"
inputs = '{"type": "object"}'
usage = "event.usage"
price = { input = 3, output = 15.0, cached = 0.3 }
provider = "Acme"
budget = { tokens = 100_000, cost = 2.5 }

[tools.ping]
kind = "http"
url = "https://ping.example/{{ inputs.of }}"
body = "plain"

[tools.true]
kind = "command"
argv = ["true"]
"#;

#[test]
fn tools_are_read_whole() {
    let build = CommandSpec {
        argv: ["make", "-C", "{{ inputs.dir }}"].map(Into::into).to_vec(),
        cwd: Some("/srv".into()),
        env: vec![("CC".into(), "clang".into()), ("EMPTY".into(), String::new())],
        pass_env: vec!["PATH".into(), "HOME".into()],
        uid: Some(1000),
        gid: Some(100),
        limits: CommandLimits {
            cpu_seconds: Some(300),
            memory_bytes: Some(1 << 28),
            file_bytes: Some(0),
            open_files: Some(64),
            processes: Some(20),
        },
    };
    let ask = HttpSpec {
        method: "POST".into(),
        url: "https://api.example/v1".into(),
        headers: vec![("Authorization".into(), "Bearer abcd".into())],
        body: Some(json!({"model": "m", "stream": true, "temperature": 0.5, "stop": ["a", 1], "since": "1979-05-27"})),
        allow_redirects: true,
        allow_hosts: vec!["b.example:8080".into(), "*.c.example".into()],
        stream_text: Some("event.delta".into()),
        stream_error: Some("event.error".into()),
    };
    let ping = HttpSpec {
        method: "GET".into(),
        url: "https://ping.example/{{ inputs.of }}".into(),
        body: Some(json!("plain")),
        ..HttpSpec::default()
    };
    let schema =
        json!({"type": "object", "required": ["dir"], "properties": {"dir": {"type": "string", "maxLength": 80}}});
    let tool = |name: &str, kind| {
        let (usage, budget) = Default::default();
        ToolDeclaration {
            name: name.into(),
            timeout: None,
            rerun: true,
            may_plan: false,
            inputs: None,
            usage,
            budget,
            kind,
        }
    };
    let cost = |units| Cost::of_units(units).expect("an amount");
    let price = Price { input: cost(3.0), output: cost(15.0), cached: Some(cost(0.3)) };
    let expected = vec![
        ToolDeclaration {
            timeout: Some(Duration::from_secs(300)),
            rerun: false,
            may_plan: true,
            inputs: Some(schema),
            ..tool("build", ToolKind::Command(build))
        },
        ToolDeclaration {
            inputs: Some(json!({"type": "object"})),
            usage: UsageSpec { pick: Some("event.usage".into()), price: Some(price), provider: Some("Acme".into()) },
            budget: Budget { tokens: Some(100_000), cost: Cost::of_units(2.5) },
            ..tool("ask.model-1", ToolKind::Http(ask))
        },
        tool("ping", ToolKind::Http(ping)),
        tool("true", ToolKind::Command(CommandSpec { argv: vec!["true".into()], ..CommandSpec::default() })),
    ];
    assert_eq!(from_file(TOOLS).map(|config| config.tools), Ok(expected));
}

#[test]
fn an_http_tool_that_can_not_be_is_refused_with_its_line() {
    const HTTP: &str = "[tools.t]\nkind = 'http'\nurl = 'http://x'\n";
    let table = [
        (
            format!("{HTTP}body = {{ a = '{{{{ x }}}}' }}"),
            "4: tools.t.body.a: unknown name `x`; available here: inputs".to_owned(),
        ),
        (
            "[tools.t]\nkind = 'http'\nurl = 'http://u:hunter2@x'".to_owned(),
            "3: tools.t.url: must not contain credentials; put them in a header".to_owned(),
        ),
        (
            format!("{HTTP}\ninputs = {{ type = 'text' }}"),
            "5: tools.t.inputs: #/type must be one of, or a list of: null, boolean, integer, number, string, array, object".to_owned(),
        ),
        (
            format!("{HTTP}inputs = '{{\"properties\": {{\"n\": {{\"maximum\": 18446744073709551616}}}}}}'"),
            "4: tools.t.inputs: properties.n.maximum: 18446744073709551616 is an integer of more than 64 bits and would be rounded; write it as a string".to_owned(),
        ),
        (
            format!("{HTTP}inputs = '{{\"properties\": {{\"n\": {{\"maximum\": 1e400}}}}}}'"),
            "4: tools.t.inputs: properties.n.maximum: 1e400 is beyond the range of a double (about 1.8e308); write it as a string".to_owned(),
        ),
        (
            format!("{HTTP}inputs = {{ properties.n.maximum = 1e400 }}"),
            "4: tools.t.inputs: properties.n.maximum: 1e400 is beyond the range of a double (about 1.8e308); write it as a string".to_owned(),
        ),
        (
            format!("{HTTP}inputs = {{ properties.n.enum = [1, 123456789012345678901234567890] }}"),
            "4: tools.t.inputs: properties.n.enum[1]: 123456789012345678901234567890 is an integer of more than 64 bits and would be rounded; write it as a string".to_owned(),
        ),
        (
            format!("{HTTP}stream_error = 'event.'"),
            "4: tools.t.stream_error: `event.`: unexpected end of input, expected identifier or integer".to_owned(),
        ),
    ];
    for (text, expected) in table {
        assert_eq!(from_file(&text), Err(vec![format!("stepcast.toml:{expected}")]), "{text}");
    }
}

#[test]
fn limits_that_can_not_be_are_refused_with_their_line() {
    const TOOL: &str = "[tools.t]\nkind = 'command'\nargv = ['x']\n";
    let table = [
        (
            "limits = 1",
            "4: tools.t.limits: expected a table such as { cpu = \"10s\", memory = \"256MiB\" }, found an integer",
        ),
        (
            "[tools.t.limits]\n\ncpu = 10",
            "6: tools.t.limits.cpu: expected a duration of whole seconds such as 10s or 5m",
        ),
        ("limits.cpu = '1500ms'", "4: tools.t.limits.cpu: expected a duration of whole seconds such as 10s or 5m"),
        ("limits.cpu = '0s'", "4: tools.t.limits.cpu: expected a duration of whole seconds such as 10s or 5m"),
        ("limits.memory = '1KiB'", "4: tools.t.limits.memory: expected a size of at least 1MiB such as 256MiB"),
        ("limits.file_size = 'big'", "4: tools.t.limits.file_size: expected a size such as 10MiB"),
        ("limits.open_files = 3", "4: tools.t.limits.open_files: expected a whole number of at least 4"),
        ("limits.processes = -1", "4: tools.t.limits.processes: expected a whole number greater than 0"),
        ("limits.memry = '1MiB'", "4: unknown key tools.t.limits.memry; did you mean tools.t.limits.memory?"),
        (
            "[tools.t.limits]\nopen_files = 9\nprocesses = 9",
            "6: tools.t.limits.processes: requires a uid other than 0, because the limit counts all processes of a user",
        ),
        ("uid = 1", "4: tools.t.uid: requires gid; without it the program would keep the server's group"),
    ];
    for (text, expected) in table {
        assert_eq!(from_file(&format!("{TOOL}{text}")), Err(vec![format!("stepcast.toml:{expected}")]), "{text}");
    }
}

#[test]
fn a_secret_that_was_too_short_to_be_masked_was_shown() {
    let table = [
        (
            "kind = 'command'\nargv = ['x']\nenv = { MODE = 'a', API_KEY = 'abc' }",
            "4: tools.t.env.API_KEY: a secret must have at least 4 bytes so that it can be masked in outputs; found 3 (it counts \
             as a secret because its name contains KEY)",
        ),
        (
            "kind = 'http'\nurl = 'http://x'\nheaders = { Authorization = 'Bearer abc' }",
            "4: tools.t.headers.Authorization: a secret must have at least 4 bytes so that it can be masked in outputs; found 3",
        ),
    ];
    for (text, expected) in table {
        if text.contains("http") && cfg!(not(feature = "http-tool")) {
            continue;
        }
        assert_eq!(from_file(&format!("[tools.t]\n{text}")), Err(vec![format!("stepcast.toml:{expected}")]), "{text}");
    }
}

#[cfg(feature = "http-tool")]
#[test]
fn a_host_out_of_a_template_needs_a_list_of_hosts() {
    const TOOL: &str = "[tools.t]\nkind = 'http'\nurl = 'http://{{ inputs.x }}.a.example/'\n";
    let table = [
        (
            "",
            "3: tools.t.url: a template in the host or port requires allow_hosts, because it lets a plan choose the server",
        ),
        (
            "allow_hosts = []",
            "3: tools.t.url: a template in the host or port requires allow_hosts, because it lets a plan choose the server",
        ),
        ("allow_hosts = 'a'", "4: tools.t.allow_hosts: expected a list of host names"),
        (
            "allow_hosts = ['*.a.example',\n'http://b']",
            "5: tools.t.allow_hosts[1]: must be a host such as `api.example.com`, `*.example.com` or `localhost:8080`",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(from_file(&format!("{TOOL}{text}")), Err(vec![format!("stepcast.toml:{expected}")]), "{text}");
    }
    assert!(from_file(&format!("{TOOL}allow_hosts = ['*.a.example']")).is_ok());
}

#[test]
fn a_mistake_in_what_a_tool_uses_is_told_with_its_line() {
    const TOOL: &str = "[tools.t]\nkind = 'command'\nargv = ['t']\nusage = 'output.usage'\n";
    for (text, expected) in [
        ("price = 3", "5: tools.t.price: expected a table such as { input = 3.0, output = 15.0 }, found an integer"),
        ("price = { input = 3 }", "5: tools.t.price: missing output: the price of one million tokens"),
        ("price = { input = -1, output = 1 }", "5: tools.t.price.input: expected a number from 0 to 1000000"),
        ("price = { input = 1, output = nan }", "5: tools.t.price.output: expected a number from 0 to 1000000"),
        ("budget = {}", "5: tools.t.budget: expected at least one of tokens and cost"),
        ("budget = { tokens = 0 }", "5: tools.t.budget.tokens: expected a whole number greater than 0"),
        ("budget = { cost = 0.0 }", "5: tools.t.budget.cost: expected a number greater than 0 and at most 1000000"),
        ("budget = { token = 1 }", "5: unknown key tools.t.budget.token; did you mean tools.t.budget.tokens?"),
        ("provider = ''", "5: tools.t.provider: expected a name of at most 128 bytes"),
    ] {
        let errors = from_file(&format!("{TOOL}{text}")).expect_err("is refused");
        assert!(errors.iter().any(|error| error.contains(expected)), "{text}: {errors:?}");
    }
    for (text, expected) in [
        ("budget = { tokens = 1 }", "4: tools.t.budget: requires usage"),
        ("price = { input = 1, output = 1 }", "4: tools.t.price: requires usage"),
        ("usage = 'event.usage'", "4: tools.t.usage: "),
    ] {
        let errors = from_file(&format!("[tools.t]\nkind = 'command'\nargv = ['t']\n{text}")).expect_err("is refused");
        assert!(errors.iter().any(|error| error.contains(expected)), "{text}: {errors:?}");
    }
}
