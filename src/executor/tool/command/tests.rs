use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::CancelToken;
use super::super::fixture::{Recorder, call, call_until};
use super::*;
use crate::model::OutputStream;

fn sh(script: &str) -> CommandSpec {
    CommandSpec { argv: ["sh", "-c", script].map(str::to_owned).into(), ..CommandSpec::default() }
}

fn argv(argv: &[&str]) -> CommandSpec {
    CommandSpec { argv: argv.iter().map(|&arg| arg.to_owned()).collect(), ..CommandSpec::default() }
}

fn tool(spec: CommandSpec) -> CommandTool {
    CommandTool::new(spec, ToolSettings::default()).expect("a good declaration")
}

fn output(spec: CommandSpec, inputs: Value) -> Result<Value, String> {
    match call(&tool(spec), inputs, &Recorder::default()) {
        Ok(Outcome::Output(value)) => Ok(value),
        Ok(other) => panic!("a command has an output at once, not {other:?}"),
        Err(error) => Err(error.to_string()),
    }
}

/// Is there a process of this id that is not a zombie?
fn is_alive(pid: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    status.is_ok_and(|stat| !stat.contains(") Z "))
}

/// Waits for what is about to happen by itself.
fn wait_until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "it never happened");
        std::thread::yield_now();
    }
}

#[test]
fn output_is_text_or_json() {
    assert_eq!(output(argv(&["printf", "hello\n"]), json!({})), Ok(json!("hello")));
    assert_eq!(output(argv(&["printf", "{\"a\": [1]}\n"]), json!({})), Ok(json!({"a": [1]})));
    assert_eq!(output(argv(&["printf", "a\\377b"]), json!({})), Ok(json!("a\u{fffd}b")));
    assert_eq!(output(argv(&["true"]), json!({})), Ok(json!("")));
}

#[test]
fn inputs_come_on_stdin_and_in_templates() {
    let inputs = json!({"text": "a; $(rm -rf /) 'b' \"c\" *", "n": [1, {"x": null}]});
    assert_eq!(output(argv(&["cat"]), inputs.clone()), Ok(inputs.clone()));
    assert_eq!(output(argv(&["printf", "%s|", "{{ inputs.text }}", ""]), inputs.clone()), {
        Ok(json!("a; $(rm -rf /) 'b' \"c\" *||"))
    });
    assert_eq!(output(argv(&["printf", "%s", "n={{ inputs.n }}"]), inputs), Ok(json!("n=[1,{\"x\":null}]")));
}

#[test]
fn large_inputs_and_outputs_do_not_block_each_other() {
    let text = "x".repeat(1024 * 1024);
    let inputs = json!({"text": text});
    assert_eq!(output(argv(&["cat"]), inputs.clone()), Ok(inputs.clone()));
    assert_eq!(output(argv(&["true"]), inputs.clone()), Ok(json!("")), "nobody reads stdin");
    assert_eq!(output(sh("cat >/dev/null; head -c 1000000 /dev/zero >&2; echo ok"), inputs), Ok(json!("ok")));
}

#[test]
fn the_environment_is_what_was_declared() {
    let is_plain =
        |(name, value): &(String, String)| name != "PATH" && !value.contains('\n') && !name.starts_with("STEPCAST");
    let (own, _) = std::env::vars().find(is_plain).expect("a test has some environment");
    let spec = CommandSpec {
        env: vec![("GREETING".to_owned(), "hi {{ inputs.name }}".to_owned())],
        pass_env: vec![own.clone(), "NO_SUCH_VARIABLE_HERE".to_owned()],
        ..argv(&["env"])
    };
    let Ok(Value::String(text)) = output(spec, json!({"name": "you"})) else { panic!("env prints text") };
    let mut names: Vec<_> = text.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    names.sort_unstable();
    let given = ["STEPCAST_ATTEMPT", "STEPCAST_PROJECT_ID", "STEPCAST_RUN_ID", "STEPCAST_STEP_ID"];
    let mut expected = [[own.as_str(), "GREETING", "PATH"].as_slice(), &given].concat();
    expected.sort_unstable();
    assert_eq!(names, expected);
    for line in ["GREETING=hi you", "STEPCAST_PROJECT_ID=p:1", "STEPCAST_STEP_ID=build", "STEPCAST_ATTEMPT=2"] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
}

#[test]
fn a_directory_is_what_was_declared() {
    let within = |cwd: &str, inputs| output(CommandSpec { cwd: Some(cwd.to_owned()), ..argv(&["pwd"]) }, inputs);
    assert_eq!(within("/usr/{{ inputs.d }}", json!({"d": "bin"})).map(|at| at.to_string().contains("bin")), Ok(true));
    assert!(within("/usr/{{ inputs.d }}", json!({"d": "../etc"})).is_err_and(|e| e.starts_with("cwd: ")));
    assert_eq!(within("/no/such", json!({})), Err("cwd `/no/such` is not a directory".to_owned()));
}

#[test]
fn a_user_is_what_was_declared() {
    let me = rustix::process::getuid();
    let (uid, gid) = match me.is_root() {
        true => (65534, 65533),
        false => (me.as_raw(), rustix::process::getgid().as_raw()),
    };
    let spec = CommandSpec { uid: Some(uid), gid: Some(gid), ..sh("echo $(id -u) $(id -g) all: $(id -G)") };
    let Ok(Value::String(said)) = output(spec, json!({})) else { panic!("id prints text") };
    assert!(said.starts_with(&format!("{uid} {gid} all:")), "{said}");
    assert!(!me.is_root() || said.ends_with(&format!("all: {gid}")), "root's groups are dropped: {said}");
    let half = CommandSpec { uid: Some(uid), ..argv(&["true"]) };
    assert!(CommandTool::new(half, ToolSettings::default()).is_err_and(|problem| problem.starts_with("uid: ")));
}

#[test]
fn a_failure_names_its_status_and_the_last_words() {
    let table = [
        (sh("echo one >&2; echo 'the last' >&2; echo >&2; exit 3"), "exit status 3: the last"),
        (sh("exit 1"), "exit status 1"),
        (sh("echo bye >&2; kill -9 $$"), "killed by signal 9 (SIGKILL): bye"),
        (argv(&["no-such-program-here"]), "program `no-such-program-here` not found"),
        (argv(&["printf", "{{ inputs.gone }}"]), "argv[1]: inputs.gone is undefined"),
        (argv(&["printf", "{{ inputs.nul }}"]), "argv[1]: must not contain a NUL byte"),
    ];
    for (spec, expected) in table {
        assert_eq!(output(spec, json!({"nul": "a\0b"})), Err(expected.to_owned()));
    }
    assert!(output(argv(&["/"]), json!({})).is_err_and(|error| error.starts_with("program `/` can't be run: ")));
}

#[test]
fn live_output_comes_as_it_is_written() {
    let recorder = Recorder::default();
    call(&tool(sh("printf 'a\\nb'; printf 'c' >&2")), json!({}), &recorder).expect("succeeds");
    assert_eq!(recorder.text(OutputStream::Stdout), "a\nb");
    assert_eq!(recorder.text(OutputStream::Stderr), "c");
}

#[test]
fn a_flood_is_cut_and_harms_nothing() {
    let settings = ToolSettings { output_bytes: 1000, ..ToolSettings::default() };
    let tool = CommandTool::new(sh("head -c 20000000 /dev/zero | tr '\\0' x"), settings).expect("good");
    struct Null;
    impl super::super::OutputSink for Null {
        fn write(&self, _: OutputStream, _: &[u8]) {}
    }
    let ids = (
        crate::model::ProjectId::parse("p").expect("an id"),
        crate::model::RunId::parse("r").expect("an id"),
        crate::model::StepId::parse("s").expect("an id"),
    );
    let outcome = tool.call(&Call {
        project: &ids.0,
        run: &ids.1,
        step: &ids.2,
        item: None,
        attempt: 1,
        inputs: &serde_json::Map::new(),
        output: &Null,
        cancel: &CancelToken::new(),
    });
    let expected = format!("{}\n[truncated: the output is larger than 1000 bytes]", "x".repeat(1000));
    assert_eq!(outcome, Ok(Outcome::Output(json!(expected))));
}

#[test]
fn secrets_of_the_declaration_never_show() {
    let spec = CommandSpec {
        env: vec![
            ("API_KEY".to_owned(), "s3cr3t-value".to_owned()),
            ("PAIR_SECRET".to_owned(), "line-number-1\nline-2".to_owned()),
        ],
        ..sh("printf 's3cr3t'; printf '%s' '-value then'; env; echo \"no $API_KEY\" >&2; exit 1")
    };
    let recorder = Recorder::default();
    let error = call(&tool(spec.clone()), json!({}), &recorder).expect_err("exits with 1").to_string();
    assert_eq!(error, "exit status 1: no ***");
    for text in [recorder.text(OutputStream::Stdout), recorder.text(OutputStream::Stderr)] {
        assert!(!text.contains("s3cr3t-value") && !text.contains("line-number-1") && text.contains("***"), "{text}");
    }
    let json = CommandSpec { argv: sh("printf '{\"k\": \"%s\"}' \"$API_KEY\"").argv, ..spec };
    assert_eq!(output(json, json!({})), Ok(json!({"k": "***"})));
}

#[test]
fn ordinary_variables_were_cut_out_of_outputs() {
    let env = vec![("MODE".to_owned(), "test".to_owned()), ("TO".to_owned(), "somewhere".to_owned())];
    let spec = CommandSpec { env, ..sh("echo \"$MODE, $TO, the latest\"") };
    assert_eq!(output(spec, json!({})), Ok(json!("test, somewhere, the latest")));
}

#[test]
fn cancelling_ends_the_whole_group_at_once_where_it_listens() {
    let cancel = CancelToken::new();
    let token = cancel.clone();
    let recorder = Recorder::notifying(move || token.cancel());
    let settings = ToolSettings { grace: Duration::from_secs(3600), ..ToolSettings::default() };
    let tool = CommandTool::new(sh("sleep 3600 & echo $!; wait"), settings).expect("good");
    let error = call_until(&tool, json!({}), &recorder, &cancel).expect_err("is cancelled");
    assert_eq!(error.to_string(), "cancelled");
    let child = recorder.text(OutputStream::Stdout);
    wait_until(|| !is_alive(&child));
}

#[test]
fn cancelling_kills_what_does_not_listen() {
    let cancel = CancelToken::new();
    let token = cancel.clone();
    let recorder = Recorder::notifying(move || token.cancel());
    let settings = ToolSettings { grace: Duration::from_millis(50), ..ToolSettings::default() };
    let script = "trap 'echo no' TERM; echo $$; while :; do sleep 3600 & wait; done";
    let tool = CommandTool::new(sh(script), settings).expect("good");
    let error = call_until(&tool, json!({}), &recorder, &cancel).expect_err("is cancelled");
    assert_eq!(error.to_string(), "cancelled");
    let said = recorder.text(OutputStream::Stdout);
    assert!(!is_alive(said.lines().next().expect("its id")), "{said}");
}

#[test]
fn a_token_cancelled_before_the_start_starts_nothing() {
    let cancel = CancelToken::new();
    cancel.cancel();
    let marker = std::env::temp_dir().join(format!("stepcast-never-{}", std::process::id()));
    let tool = tool(argv(&["touch", marker.to_str().expect("text")]));
    assert!(call_until(&tool, json!({}), &Recorder::default(), &cancel).is_err());
    assert!(!Path::exists(&marker));
}

#[test]
fn what_is_left_of_a_group_is_killed_and_holds_nothing_up() {
    let settings = ToolSettings { linger: Duration::from_millis(50), ..ToolSettings::default() };
    let tool = CommandTool::new(sh("sleep 3600 & echo $!"), settings).expect("good");
    let outcome = call(&tool, json!({}), &Recorder::default()).expect("succeeds");
    let Outcome::Output(pid) = outcome else { panic!("an output") };
    wait_until(|| !is_alive(&pid.to_string()));
}

#[test]
fn descriptors_and_children_are_given_back() {
    let open = || {
        // Descriptors of the pipes and pidfds that a command makes; other tests in this process have their own.
        let paths = std::fs::read_dir("/proc/self/fd").expect("is there").flatten();
        paths.filter_map(|entry| std::fs::read_link(entry.path()).ok()).count()
    };
    let tool = tool(sh("exit 1"));
    let before = open();
    for _ in 0..100 {
        assert!(call(&tool, json!({}), &Recorder::default()).is_err());
    }
    assert!(open() < before + 100, "each of 100 calls would have left one");
    let stats = std::fs::read_dir("/proc").expect("is there").flatten();
    let me = std::process::id().to_string();
    let zombies = stats.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    let is_mine = |stat: &String| stat.split(") Z ").nth(1).is_some_and(|rest| rest.starts_with(&format!("{me} ")));
    assert!(zombies.filter(is_mine).count() < 50, "each of 100 calls would have left one");
}
