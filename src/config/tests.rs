//! Tests of the configuration as users see it: files, variables and flags in; settings or errors out.

use super::*;

#[cfg(feature = "http-tool")]
mod tools;
#[cfg(feature = "http-tool")]
mod webhooks;

fn from_file(text: &str) -> Result<Config, Vec<String>> {
    resolve(Some(text), &[], &[]).map(|loaded| loaded.config)
}

fn resolve(
    file: Option<&str>,
    variables: &[(&str, &str)],
    flags: &[(&'static str, &str)],
) -> Result<Loaded, Vec<String>> {
    let sources = Sources {
        file: file.map(|text| ("stepcast.toml".to_owned(), text.to_owned())),
        environment: variables.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        flags: flags.iter().map(|(path, value)| (*path, (*value).to_owned())).collect(),
    };
    sources.resolve().map_err(|error| error.issues)
}

/// All keys with the defaults that the wire contract gives them, and one with what its kind takes where it gives none.
#[cfg(feature = "sqlite")]
const SAMPLE: &str = r#"
listen = "127.0.0.1:8080"
data = "./stepcast-data"

[server]
hosts = []

[auth]
mode = "jwt"
jwt_algorithm = "HS256"
issuer = []
audience = []
projects_claim = "projects"
scope_claim = "scope"
leeway = "0s"
ticket_ttl = "15s"

[cors]
allowed_origins = []

[sse]
heartbeat = "15s"
retry = "2s"
queue_bytes = "256KiB"
stall_timeout = "30s"

[history]
messages = 10000
bytes = "1GiB"
age = "7d"
runs = 1000

[store]
synchronous = "normal"

[cluster]
node_ttl = "15s"
wake = "notify"
poll = "200ms"

[limits]
connections_per_address = 1000
requests_per_connection = 1000000
buffer_bytes = "64MiB"
trusted_proxies = ["127.0.0.0/8", "::1"]
streams_per_token = 256
header_bytes = "16KiB"
target_bytes = "8KiB"
body_bytes = "1MiB"
header_timeout = "10s"
body_timeout = "30s"
idle_timeout = "60s"
plan_steps = 10000
output_bytes = "64KiB"
step_output_bytes = "64MiB"
active_runs = 256
queued_runs = 1024
runs_per_project = 0
projects = 100000
idempotency_bytes = "256MiB"
webhook_events = 10000
webhook_body_bytes = "256KiB"
stored_plans = 1000
stored_plan_bytes = "256MiB"
schedules = 1000
tickets = 100000
publish_rate = 1000

[executor]
grace = "10s"
interruptions = 3

[log]
level = "info"
"#;

#[cfg(feature = "sqlite")]
#[test]
fn the_defaults_are_the_contracts() {
    assert_eq!(from_file(SAMPLE), Ok(Config::default()));
    assert_eq!(from_file(""), Ok(Config::default()));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let Config { executor, limits, metrics, auth, tools, .. } = Config::default();
    assert_eq!(executor.workers, 4 * cores);
    assert_eq!((limits.connections, metrics.listen, tools), (None, None, vec![]));
    assert_eq!((auth.jwt_secret, auth.jwt_public_key, auth.jwks), (vec![], None, None));
}

#[test]
fn every_key_is_set_by_file_variable_and_flag_alike() {
    // Without sqlite there is nothing else that `data` could be.
    let is_set = |key: &&Key| key.path != "data" || cfg!(feature = "sqlite");
    let values = |key: &Key| match key.path {
        "listen" | "tls.listen" | "metrics.listen" => "[::1]:1".to_owned(),
        "data" => "none".to_owned(),
        "auth.mode" => "none".to_owned(),
        "auth.jwt_algorithm" => "EdDSA".to_owned(),
        "auth.jwt_secret" | "auth.jwt_public_key" | "tls.cert" | "tls.key" => "some.pem".to_owned(),
        "auth.jwks" => "https://id.example.com/keys".to_owned(),
        "auth.issuer" | "auth.audience" => "https://id.example.com/,app".to_owned(),
        "auth.projects_claim" | "auth.scope_claim" => "/app/x".to_owned(),
        "cors.allowed_origins" => "https://a.example,http://b:1".to_owned(),
        "server.hosts" => "events.example.com,b.example:8443".to_owned(),
        "limits.trusted_proxies" => "10.0.0.0/8,fd00::/8".to_owned(),
        "store.synchronous" => "full".to_owned(),
        "cluster.wake" => "poll".to_owned(),
        "cluster.poll" => "2s".to_owned(),
        "log.level" => "trace".to_owned(),
        _ => match key.value_name() {
            "DURATION" => "90s".to_owned(),
            "SIZE" => "100KiB".to_owned(),
            name => {
                assert_eq!(name, "N", "{}", key.path);
                "7".to_owned()
            }
        },
    };
    for key in KEYS.iter().filter(is_set) {
        let value = values(key);
        let written = match key.value_name() {
            "N" => value.clone(),
            "LIST" => format!("{:?}", value.split(',').collect::<Vec<_>>()),
            _ => format!("{value:?}"),
        };
        let file = from_file(&format!("{} = {written}", key.path)).expect(key.path);
        let variable = resolve(None, &[(&key.variable, &value)], &[]).expect(key.path);
        let flag = resolve(None, &[], &[(key.path, &value)]).expect(key.path);
        assert_ne!(file, Config::default(), "{}", key.path);
        assert_eq!(file, variable.config, "{}", key.path);
        assert_eq!(file, flag.config, "{}", key.path);
        assert_eq!(variable.warnings, Vec::<String>::new());
    }
}

#[test]
fn a_database_is_named_by_its_url_wherever_data_is_set_and_its_password_is_not_shown() {
    let url = "postgresql://app:hunter2@db/stepcast";
    for loaded in [
        resolve(Some(&format!("data = '{url}'")), &[], &[]),
        resolve(None, &[("STEPCAST_DATA", url)], &[]),
        resolve(None, &[], &[("data", url)]),
    ] {
        let config = loaded.expect("resolves").config;
        let DataLocation::Postgres(location) = &config.data else { panic!("{:?}", config.data) };
        assert_eq!(location.expose(), url);
        assert!(!format!("{config:?}").contains("hunter2"));
        let key = Key::at("data").expect("a key");
        assert_eq!(key.show(&mut config.clone()).as_deref(), Some("postgresql://app@db/stepcast"));
    }
}

#[test]
fn a_byte_order_mark_before_the_file_is_no_part_of_it() {
    let config = from_file("\u{feff}listen = \"127.0.0.1:1\"\n").expect("a good file");
    assert_eq!(config, from_file("listen = \"127.0.0.1:1\"\n").expect("a good file"));
}

#[test]
fn a_flag_beats_the_environment_and_the_environment_beats_the_file() {
    let file = "sse = { heartbeat = '1s', retry = '1s', stall_timeout = '1s' }";
    let variables = [("STEPCAST_SSE_HEARTBEAT", "2s"), ("STEPCAST_SSE_RETRY", "2s"), ("STEPCAST_SSE_QUEUE_BYTES", "")];
    let Loaded { config, .. } = resolve(Some(file), &variables, &[("sse.heartbeat", "3s")]).expect("resolves");
    let seconds = [config.sse.heartbeat, config.sse.retry, config.sse.stall_timeout].map(|d| d.as_secs());
    assert_eq!(seconds, [3, 2, 1]);
    assert_eq!(config.sse.queue_bytes, Config::default().sse.queue_bytes, "an empty variable counts as unset");
}

#[test]
fn a_lone_comma_is_the_empty_list() {
    let Loaded { config, .. } = resolve(None, &[("STEPCAST_LIMITS_TRUSTED_PROXIES", ",")], &[]).expect("resolves");
    assert_eq!(config.limits.trusted_proxies, []);
}

#[test]
fn the_secret_has_a_short_variable_and_its_full_one_wins() {
    let secret = |variables: &[(&str, &str)]| {
        let Loaded { config, .. } = resolve(None, variables, &[]).expect("resolves");
        config.auth.jwt_secret
    };
    let of = |text: &str| vec![Secret::new(text)];
    assert_eq!(secret(&[("STEPCAST_JWT_SECRET", "a")]), of("a"));
    assert_eq!(secret(&[("STEPCAST_AUTH_JWT_SECRET", "b"), ("STEPCAST_JWT_SECRET", "a")]), of("b"));
    assert_eq!(secret(&[("STEPCAST_JWT_SECRET", "a,b")]), of("a,b"), "a secret may have commas");
}

#[test]
fn the_file_takes_one_text_or_a_list_where_either_makes_sense() {
    let auth = |text: &str| from_file(text).expect(text).auth;
    let secrets = |texts: &[&str]| texts.iter().map(|&text| Secret::new(text)).collect::<Vec<_>>();
    assert_eq!(auth("auth.jwt_secret = 'a,b'").jwt_secret, secrets(&["a,b"]));
    assert_eq!(auth("auth.jwt_secret = ['new', 'old']").jwt_secret, secrets(&["new", "old"]));
    assert_eq!(auth("auth.issuer = 'https://a/?x=1,2'").issuer, ["https://a/?x=1,2"]);
    assert_eq!(auth("auth.audience = ['a', 'b,c']").audience, ["a", "b,c"]);
    let Loaded { config, .. } = resolve(None, &[("STEPCAST_AUTH_AUDIENCE", "a, b")], &[]).expect("resolves");
    assert_eq!(config.auth.audience, ["a", "b"]);
}

/// What is wrong in a file, and what is said of it.
const BAD_VALUES: &[(&str, &str)] = &[
    (
        "sse.heartbeat = '5 parsecs'",
        "1: sse.heartbeat: expected a duration such as 500ms, 15s, 5m or 7d, at most 1d, found \"5 parsecs\"",
    ),
    (
        "\n\n[sse]\nheartbeat = -1",
        "4: sse.heartbeat: expected a duration such as 500ms, 15s, 5m or 7d, at most 1d, found an integer",
    ),
    (
        "sse.heartbeat = '-1s'",
        "1: sse.heartbeat: expected a duration such as 500ms, 15s, 5m or 7d, at most 1d, found \"-1s\"",
    ),
    (
        "sse.retry = '0s'",
        "1: sse.retry: expected a duration such as 500ms, 15s, 5m or 7d, from 1ms to 1h, found \"0s\"",
    ),
    (
        "history.age = '99999999999999999999d'",
        "1: history.age: expected a duration such as 500ms, 15s, 5m or 7d, at least 1s, found \"99999999999999999999d\"",
    ),
    (
        "history.bytes = '1GB'",
        "1: history.bytes: expected a size such as 256KiB, 1GiB or a number of bytes, at least 64KiB, found \"1GB\"",
    ),
    (
        "limits.body_bytes = 12",
        "1: limits.body_bytes: expected a size such as 256KiB, 1GiB or a number of bytes, from 1KiB to 1GiB, found \"12\"",
    ),
    ("executor.workers = 0", "1: executor.workers: expected a whole number, from 1 to 4096, found \"0\""),
    ("executor.workers = '8'", "1: executor.workers: expected a whole number, from 1 to 4096, found a string"),
    ("executor.workers = 1.5", "1: executor.workers: expected a whole number, from 1 to 4096, found a float"),
    ("limits.plan_steps = -3", "1: limits.plan_steps: expected a whole number, at least 1, found \"-3\""),
    (
        "limits.connections = 4294967296",
        "1: limits.connections: expected a whole number, from 1 to 4294967295, found \"4294967296\"",
    ),
    ("auth.mode = 'basic'", "1: auth.mode: expected one of jwt, none, found \"basic\""),
    ("auth.mode = false", "1: auth.mode: expected one of jwt, none, found a boolean"),
    ("auth.jwt_secret = 12", "1: auth.jwt_secret: expected a string, or a list of strings, found an integer"),
    ("auth.jwt_secret = ['a', 12]", "1: auth.jwt_secret: expected a string, or a list of strings, found a list"),
    ("auth.issuer = ['a', '']", "1: auth.issuer: expected a string, or a list of strings, found \"\""),
    (
        "auth.jwks = 'http://id.example.com/keys'",
        "1: auth.jwks: expected the path of a file, or an https:// URL (http:// only on loopback), found \"http://id.example.com/keys\"",
    ),
    (
        "auth.scope_claim = ''",
        "1: auth.scope_claim: expected the name of a claim, or a JSON pointer such as /realm_access/roles, found \"\"",
    ),
    (
        "listen = 8080",
        "1: listen: expected an address such as 127.0.0.1:8080, [::]:8080 or localhost:8080, found an integer",
    ),
    (
        "listen = ':8080'",
        "1: listen: expected an address such as 127.0.0.1:8080, [::]:8080 or localhost:8080, found \":8080\"",
    ),
    #[cfg(feature = "sqlite")]
    (
        "data = ''",
        "1: data: expected a directory, none to keep everything in memory, or a URL such as postgres://user@host/db, found \"\"",
    ),
    #[cfg(feature = "sqlite")]
    (
        "data = 'postgres://a:hunter@2@db/x'",
        "1: data: expected a directory, none to keep everything in memory, or a URL such as postgres://user@host/db, found \"postgres://***\"",
    ),
    #[cfg(not(feature = "sqlite"))]
    (
        "\ndata = './x'",
        "2: data: expected none, or a URL such as postgres://user@host/db, because this program was built without the feature sqlite, found \"./x\"",
    ),
    (
        "cluster.node_ttl = '2s'",
        "1: cluster.node_ttl: expected a duration such as 500ms, 15s, 5m or 7d, from 3s to 5m, found \"2s\"",
    ),
    ("cluster.wake = 'listen'", "1: cluster.wake: expected one of notify, poll, found \"listen\""),
    (
        "cors.allowed_origins = '*'",
        "1: cors.allowed_origins: expected a list of origins such as https://app.example or http://localhost:3000, found a string",
    ),
    (
        "cors.allowed_origins = ['https://ok', '*']",
        "1: cors.allowed_origins: expected a list of origins such as https://app.example or http://localhost:3000, found \"*\"",
    ),
    (
        "server.hosts = ['*.example.com']",
        "1: server.hosts: expected a list of host names such as events.example.com, found \"*.example.com\"",
    ),
    (
        "limits.trusted_proxies = [1]",
        "1: limits.trusted_proxies: expected a list of address ranges such as 10.0.0.0/8 or ::1, found a list",
    ),
    (
        "limits.trusted_proxies = ['10.0.0.0/33']",
        "1: limits.trusted_proxies: expected a list of address ranges such as 10.0.0.0/8 or ::1, found \"10.0.0.0/33\"",
    ),
    ("sse = 1", "1: sse: expected a table, found an integer"),
    (
        "log.level = 'loud\\u001b'",
        "1: log.level: expected one of off, error, warn, info, debug, trace, found \"loud\\\\u001b\"",
    ),
    ("\n[sse]\nhartbeat = '1s'", "3: unknown key sse.hartbeat; did you mean sse.heartbeat?"),
    (
        "sse.colour = 1",
        "1: unknown key sse.colour; expected one of sse.heartbeat, sse.retry, sse.queue_bytes, sse.stall_timeout",
    ),
    ("lisen = 'x'", "1: unknown key lisen; did you mean listen?"),
    (
        "zzz.a = 'x'",
        "1: unknown key zzz; expected one of listen, server, data, auth, cors, sse, history, store, cluster, limits, executor, tls, metrics, log, tools, webhooks",
    ),
    (
        "\"a\\u001b\" = 1",
        "1: unknown key a\\u{1b}; expected one of listen, server, data, auth, cors, sse, history, store, cluster, limits, executor, tls, metrics, log, tools, webhooks",
    ),
    (
        "sse.heartbeat.x = 1",
        "1: sse.heartbeat: expected a duration such as 500ms, 15s, 5m or 7d, at most 1d, found a table",
    ),
    ("listen = 'a:1'\nlisten = 'b:2'", "2: duplicate key"),
];

#[test]
fn bad_values_in_the_file_name_file_line_and_what_was_expected() {
    for (text, expected) in BAD_VALUES {
        assert_eq!(from_file(text), Err(vec![format!("stepcast.toml:{expected}")]), "{text}");
    }
}

#[test]
fn bad_variables_and_flags_are_named() {
    let expected = "expected a size such as 256KiB, 1GiB or a number of bytes, from 1KiB to 1GiB, found \"huge\"";
    let issues = resolve(
        Some("a = 1"),
        &[("STEPCAST_SSE_QUEUE_BYTES", "huge")],
        &[("sse.queue_bytes", "huge"), ("limits.trusted_proxies", "::1,x")],
    );
    let list = "--limits-trusted-proxies: expected a list of address ranges such as 10.0.0.0/8 or ::1, found \"x\"";
    let issues = issues.expect_err("four mistakes");
    assert!(issues[0].starts_with("stepcast.toml:1: unknown key a;"), "{issues:?}");
    let others =
        [format!("STEPCAST_SSE_QUEUE_BYTES: {expected}"), format!("--sse-queue-bytes: {expected}"), list.to_owned()];
    assert_eq!(issues[1..], others);
}

#[test]
fn a_long_value_is_cut_in_its_error() {
    let issues = from_file(&format!("auth.mode = '{}'", "x".repeat(10_000))).expect_err("no mode");
    assert!(issues[0].ends_with(&format!("found \"{}\"...", "x".repeat(60))), "{issues:?}");
}

#[test]
fn a_variable_that_is_nearly_a_keys_is_warned_of() {
    let variables = [
        ("STEPCAST_SSE_HARTBEAT", "1s"),
        ("STEPCAST_PROJECT_ID", "p"),
        ("STEPCAST_RUN_ID", "r"),
        ("STEPCAST_STEP_ID", "s"),
        ("STEPCAST_ATTEMPT", "1"),
        ("STEPCAST_PORT", "tcp://10.0.0.1:80"),
        ("STEPCAST_SERVICE_HOST", "10.0.0.1"),
        ("STEPCAST_CONFIG", "x.toml"),
        ("PATH", "/bin"),
    ];
    let Loaded { warnings, config } = resolve(None, &variables, &[]).expect("resolves");
    let expected = "unknown environment variable STEPCAST_SSE_HARTBEAT; did you mean STEPCAST_SSE_HEARTBEAT?";
    assert_eq!((warnings, config), (vec![expected.to_owned()], Config::default()));
}

#[test]
fn a_secret_shows_in_no_debug_output_and_no_error() {
    const TEXT: &str = r#"
        auth.jwt_secret = "hunter2"
        [tools.t]
        kind = "command"
        argv = ["true"]
        env = { TOKEN = "hunter2" }
    "#;
    const HTTP: &str = r#"
        [tools.u]
        kind = "http"
        url = "http://localhost"
        headers = { Authorization = "hunter2" }
    "#;
    let texts = [TEXT, HTTP];
    for text in &texts[..if cfg!(feature = "http-tool") { 2 } else { 1 }] {
        let config = from_file(text).expect("resolves");
        assert!(!format!("{config:?}").contains("hunter2"));
    }
    let list = from_file("auth.jwt_secret = ['hunter2', 'hunter2']").expect("resolves");
    assert!(!format!("{list:?}").contains("hunter2"));
    let broken = [
        "auth.jwt_secret = [['hunter2']]",
        "auth.jwks = 'https://u:hunter2@id.example.com/'",
        "auth.jwt_secret = \"hunter2",
        "auth.jwt_secret = hunter2",
    ];
    let tools = [
        "[tools.t]\nkind = 'command'\nargv = ['x']\nenv = { A = \"hunter2\\u0000\" }",
        "[tools.t]\nkind = 'http'\nurl = 'http://x'\nheaders = { A = \"hunter2\\n\" }",
        "[tools.t]\nkind = 'http'\nurl = 'http://x'\nheaders = 'hunter2'",
    ];
    for text in broken.iter().chain(&tools) {
        let issues = from_file(text).expect_err(text);
        assert!(!issues.concat().contains("hunter2"), "{issues:?}");
    }
}

#[cfg(not(feature = "http-tool"))]
#[test]
fn a_tool_that_is_not_built_in_is_refused_with_its_line() {
    let expected = "stepcast.toml:3: tools.t.kind: this program was built without http tools (feature `http-tool`)";
    assert_eq!(from_file("\n[tools.t]\nkind = 'http'\nurl = 'http://x'"), Err(vec![expected.to_owned()]));
}

/// The beginnings of tools that nothing is wrong with.
const COMMAND: &str = "[tools.t]\nkind = 'command'\nargv = ['x']\n";
const HTTP: &str = "[tools.t]\nkind = 'http'\nurl = 'http://x'\n";

/// Each text is refused with one line of its file.
fn assert_refused(table: &[(&str, String)]) {
    for (text, expected) in table {
        assert_eq!(from_file(text), Err(vec![format!("stepcast.toml:{expected}")]), "{text}");
    }
}

#[test]
fn a_bad_tool_is_refused_with_its_line() {
    let argv = "tools.t.argv: expected a list of strings whose first item is the program to run";
    let table = [
        ("tools = 1", "1: tools: expected a table, found an integer".to_owned()),
        ("tools.t = 1", "1: tools.t: expected a table, found an integer".to_owned()),
        ("\n[tools.t]\n", "2: tools.t.kind: missing; expected command or http".to_owned()),
        ("[tools.t]\nkind = 'shell'", "2: tools.t.kind: expected command or http".to_owned()),
        ("[tools.t]\nkind = 1", "2: tools.t.kind: expected a string, found an integer".to_owned()),
        (
            "[tools.echo]\nkind = 'http'",
            "1: tools.echo: this is the name of a built-in tool; choose another name".to_owned(),
        ),
        (
            "[tools.'a b']",
            "1: tools.a b: expected a tool name of 1 to 128 characters out of A-Z a-z 0-9 _ . -".to_owned(),
        ),
        ("[tools.'']", "1: tools.: expected a tool name of 1 to 128 characters out of A-Z a-z 0-9 _ . -".to_owned()),
        (
            "[tools.t]\nkind = 'command'",
            "1: tools.t.argv: missing; expected a list of strings whose first item is the program to run".to_owned(),
        ),
        ("[tools.t]\nkind = 'command'\nargv = []", format!("3: {argv}")),
        ("[tools.t]\nkind = 'command'\nargv = ['']", format!("3: {argv}")),
        ("[tools.t]\nkind = 'command'\nargv = 'ls -l'", format!("3: {argv}")),
        ("[tools.t]\nkind = 'command'\nargv = ['ls', 1]", format!("3: {argv}")),
        ("[tools.t]\nkind = 'command'\nargv = [\"a\\u0000\"]", format!("3: {argv}")),
    ];
    assert_refused(&table);
}

#[test]
fn a_bad_command_is_refused_with_its_line() {
    let table: [(&str, String); _] = [
        (&format!("{COMMAND}env = {{ A = 1 }}"), "4: tools.t.env.A: expected a string, found an integer".to_owned()),
        (
            &format!("{COMMAND}env = {{ 'A=B' = '' }}"),
            "4: tools.t.env.A=B: expected the name of an environment variable".to_owned(),
        ),
        (
            &format!("{COMMAND}pass_env = 'PATH'"),
            "4: tools.t.pass_env: expected a list of names of environment variables".to_owned(),
        ),
        (
            &format!("{COMMAND}pass_env = ['']"),
            "4: tools.t.pass_env: expected a list of names of environment variables".to_owned(),
        ),
        (&format!("{COMMAND}uid = -1"), "4: tools.t.uid: expected a whole number below 4294967295".to_owned()),
        (&format!("{COMMAND}gid = 4294967295"), "4: tools.t.gid: expected a whole number below 4294967295".to_owned()),
        (&format!("{COMMAND}uid = 'root'"), "4: tools.t.uid: expected a whole number below 4294967295".to_owned()),
        (&format!("{COMMAND}timeout = 5"), "4: tools.t.timeout: expected a string, found an integer".to_owned()),
        (
            &format!("{COMMAND}timeout = '0s'"),
            "4: tools.t.timeout: expected a duration greater than zero such as 500ms, 15s, 5m or 7d".to_owned(),
        ),
        (&format!("{COMMAND}rerun = 'no'"), "4: tools.t.rerun: expected true or false, found a string".to_owned()),
        (
            &format!("{COMMAND}inputs = '{{'"),
            "4: tools.t.inputs: expected a JSON Schema, as a table or as JSON in a string".to_owned(),
        ),
        (
            &format!("{COMMAND}inputs = [1]"),
            "4: tools.t.inputs: expected a JSON Schema, as a table or as JSON in a string".to_owned(),
        ),
        (&format!("{COMMAND}cmd = 'x'"), "4: unknown key tools.t.cmd; did you mean tools.t.cwd?".to_owned()),
        (
            "[tools.t]\nkind = 'command'\nargv = [\n'x',\n'{{ inputs.a',\n]",
            "5: tools.t.argv[1]: `{{` is not closed by `}}`; to write two literal braces, use `{{ \"{{\" }}`"
                .to_owned(),
        ),
        (
            &format!("{COMMAND}[tools.t.env]\nA = ''\nB = '{{{{ inputs.a | nothing }}}}'"),
            "6: tools.t.env.B: unknown filter `nothing`".to_owned(),
        ),
    ];
    assert_refused(&table);
}

#[test]
fn a_bad_http_tool_is_refused_with_its_line() {
    let table: [(&str, String); _] = [
        (&format!("{HTTP}ulr = 'x'"), "4: unknown key tools.t.ulr; did you mean tools.t.url?".to_owned()),
        (
            &format!("{HTTP}method = 'TRACE'"),
            "4: tools.t.method: expected one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS".to_owned(),
        ),
        (
            &format!("{HTTP}headers = {{ 'a b' = '' }}"),
            "4: tools.t.headers.a b: expected the name of an HTTP header".to_owned(),
        ),
        (
            &format!("{HTTP}headers = {{ a = \"x\\r\\ny: z\" }}"),
            "4: tools.t.headers.a: expected a string without control characters".to_owned(),
        ),
        (&format!("{HTTP}headers = []"), "4: tools.t.headers: expected a table of strings, found a list".to_owned()),
        (&format!("{HTTP}body = inf"), "4: tools.t.body: inf is not a valid JSON number".to_owned()),
        (
            "[tools.t]\nkind = 'http'",
            "1: tools.t.url: missing; expected a URL that begins with http:// or https://".to_owned(),
        ),
        (
            "[tools.t]\nkind = 'http'\nurl = 'ftp://x'",
            "3: tools.t.url: expected a URL that begins with http:// or https://".to_owned(),
        ),
        ("[tools.t]\nkind = 'http'\nurl = 1", "3: tools.t.url: expected a string, found an integer".to_owned()),
    ];
    assert_refused(&table);
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let text = "lisen = 1\nsse.retry = 1\n[tools.t]\nkind = 'http'\nuid = 1\nmethod = 'x'\n";
    let lines: Vec<_> =
        from_file(text).expect_err("mistakes").iter().map(|issue| issue.split(':').nth(1).map(str::to_owned)).collect();
    assert_eq!(lines, ["1", "2", "5", "6", "3"].map(|line| Some(line.to_owned())));
}
