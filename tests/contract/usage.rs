//! The language model usage of steps: reported by a small provider that the test plays, summed, and limited by budgets.

use std::io::Write;
use std::net::{TcpListener, TcpStream};

use serde_json::{Value, json};

use crate::common::client::{Connection, Request};
use crate::common::server::{Setup, TempDirectory};
use crate::common::wait_for;
use crate::tools::{end, plan};

/// The head of an answer that is streamed.
const STREAMED: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";

/// Answers in the shapes of several providers, by path; the address.
fn provider() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            std::thread::spawn(move || answer(socket.expect("a client")));
        }
    });
    address
}

fn answer(socket: TcpStream) {
    let mut writer = socket.try_clone().expect("a second handle");
    let mut connection = Connection::over(socket);
    let path = connection.line().and_then(|line| line.split(' ').nth(1).map(str::to_owned)).expect("a request");
    while connection.line().is_some_and(|line| !line.trim_end().is_empty()) {}
    let whole = |body: Value| {
        let body = body.to_string();
        let length = body.len();
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
    };
    let events = |events: &[Value]| {
        let lines = events.iter().map(|event| format!("data: {event}\n\n"));
        STREAMED.to_owned() + &lines.collect::<String>()
    };
    let said = |word: &str| json!({"choices": [{"delta": {"content": word}}], "usage": null});
    let used = |input: u64, output: u64| {
        json!({"choices": [], "model": "gpt-x", "usage": {"prompt_tokens": input, "completion_tokens": output,
            "total_tokens": input + output, "prompt_tokens_details": {"cached_tokens": 20}}})
    };
    let text = match path.as_str() {
        "/whole" => whole(json!({"model": "gpt-x", "text": "hi", "usage": {"prompt_tokens": 100,
            "completion_tokens": 10, "total_tokens": 110}})),
        "/stream" => events(&[said("He"), said("llo"), used(30, 5)]) + "data: [DONE]\n\n",
        "/claude" => events(&[
            json!({"message": {"model": "claude-z", "usage": {"input_tokens": 7, "output_tokens": 1,
                "cache_read_input_tokens": 3, "cache_creation_input_tokens": 0}}}),
            json!({"usage": {"output_tokens": 40}}),
        ]),
        "/breaks" => events(&[said("He"), used(30, 5)]) + "event: error\ndata: overloaded\n\n",
        "/odd" => whole(json!({"usage": "plenty"})),
        "/silent" => whole(json!({"text": "hi"})),
        "/endless" => {
            let _ = writer.write_all(events(&[said("He"), used(900, 100)]).as_bytes());
            // Until the other side has had enough.
            connection.rest();
            return;
        }
        other => panic!("nothing asks for {other}"),
    };
    let _ = writer.write_all(text.as_bytes());
}

fn config(address: &str, more: &str) -> String {
    format!(
        "[tools.ask]\nkind = \"http\"\nurl = \"{address}/{{{{ inputs.path }}}}\"\nprovider = \"Acme\"\n\
         stream_text = \"event.choices[0].delta.content\"\nusage = \"event.usage or event.message.usage\"\n\
         price = {{ input = 2.0, output = 10.0 }}\n{more}\n\
         [tools.agent]\nkind = \"command\"\nargv = [\"sh\", \"-c\", \"{{{{ inputs.script }}}}\"]\nusage = \"output.usage\"\n"
    )
}

fn ask(id: &str, path: &str, after: &[&str]) -> Value {
    json!({"id": id, "tool": "ask", "inputs": {"path": path}, "dependencies": after})
}

fn last(messages: &[Value]) -> &Value {
    &messages.last().expect("a last message")["payload"]
}

#[test]
fn what_steps_use_is_told_priced_and_summed() {
    let server = Setup::default().config(&config(&provider(), "")).start();
    let script = |script: &str| json!({"script": script});
    let messages = server.carry_out(&plan(json!([
        ask("whole", "whole", &[]),
        ask("stream", "stream", &[]),
        ask("claude", "claude", &[]),
        {"id": "breaks", "tool": "ask", "inputs": {"path": "breaks"}, "retryPolicy": {"maxRetries": 1, "initialDelay": 1}},
        {"id": "agent", "tool": "agent", "inputs": script(r#"echo '{"usage": {"inputTokens": 1, "cost": 0.25}}'"#)},
        {"id": "dies", "tool": "agent", "inputs": script(r#"echo '{"usage": {"inputTokens": 2}}'; exit 3"#)},
        {"id": "free", "tool": "echo"},
    ])));
    for (step, status, usage) in [
        (
            "whole",
            "completed",
            json!({"inputTokens": 100, "outputTokens": 10, "totalTokens": 110, "cost": 0.0003,
            "model": "gpt-x", "provider": "Acme"}),
        ),
        (
            "stream",
            "completed",
            json!({"inputTokens": 30, "outputTokens": 5, "totalTokens": 35, "cachedTokens": 20,
            "cost": 0.00011, "model": "gpt-x", "provider": "Acme"}),
        ),
        (
            "claude",
            "completed",
            json!({"inputTokens": 10, "outputTokens": 40, "totalTokens": 50, "cachedTokens": 3,
            "cost": 0.00042, "model": "claude-z", "provider": "Acme"}),
        ),
        (
            "breaks",
            "failed",
            json!({"inputTokens": 30, "outputTokens": 5, "totalTokens": 35, "cachedTokens": 20,
            "cost": 0.00011, "model": "gpt-x", "provider": "Acme"}),
        ),
        ("agent", "completed", json!({"inputTokens": 1, "outputTokens": 0, "totalTokens": 1, "cost": 0.25})),
        ("dies", "failed", json!({"inputTokens": 2, "outputTokens": 0, "totalTokens": 2})),
        ("free", "completed", Value::Null),
    ] {
        let payload = end(&messages, step);
        assert_eq!((&payload["status"], &payload["usage"]), (&json!(status), &usage), "{step}");
    }
    assert_eq!(end(&messages, "stream")["output"], "Hello");
    let retrying = messages.iter().find(|message| message["payload"]["status"] == "retrying").expect("a retry");
    assert_eq!(retrying["payload"]["usage"]["totalTokens"], 35);

    let sum = json!({"inputTokens": 203, "outputTokens": 65, "totalTokens": 268, "cachedTokens": 63, "cost": 0.25105});
    assert_eq!(last(&messages)["usage"], sum);
    let run = last(&messages)["runId"].as_str().expect("an id").to_owned();
    let state = server.get(&format!("/api/projects/p/workflows/{run}")).json();
    assert_eq!(state["usage"], sum);
    let breaks = state["steps"].as_array().and_then(|steps| steps.iter().find(|step| step["id"] == "breaks"));
    assert_eq!(breaks.expect("a step")["usage"]["totalTokens"], 70, "of both attempts");
    assert_eq!(server.get("/api/projects/p/workflows").json()["workflows"][0]["usage"], sum);
    for (metric, value) in [
        (r#"stepcast_usage_tokens_total{tool="ask",kind="input"}"#, 200.0),
        (r#"stepcast_usage_tokens_total{tool="ask",kind="output"}"#, 65.0),
        (r#"stepcast_usage_tokens_total{tool="agent",kind="input"}"#, 3.0),
        (r#"stepcast_usage_cost_total{tool="ask"}"#, 0.00105),
        (r#"stepcast_usage_unread_total{tool="ask",reason="malformed"}"#, 0.0),
    ] {
        assert_eq!(server.metric(metric), value, "{metric}");
    }
}

#[test]
fn usage_that_can_not_be_read_fails_nothing_and_is_counted() {
    let server = Setup::default().config(&config(&provider(), "")).start();
    let steps = json!([ask("odd", "odd", &[]), ask("again", "odd", &["odd"]), ask("silent", "silent", &[])]);
    let messages = server.carry_out(&plan(steps));
    assert_eq!(messages.last().expect("a message")["type"], "workflow_completed");
    assert_eq!((&last(&messages)["usage"], &end(&messages, "odd")["usage"]), (&Value::Null, &Value::Null));
    assert_eq!(server.metric(r#"stepcast_usage_unread_total{tool="ask",reason="malformed"}"#), 2.0);
    assert_eq!(server.metric(r#"stepcast_usage_unread_total{tool="ask",reason="missing"}"#), 1.0);
    let told = |server: &crate::common::server::Server, what: &str| {
        server.log().iter().filter(|line| line.contains(what)).count()
    };
    assert_eq!(
        told(&server, "tool ask: the usage in a response can't be read: the expression does not select an object"),
        1,
        "once"
    );
    assert_eq!(told(&server, "tool ask: the expression in `usage` selected nothing from a response"), 1);
}

#[test]
fn a_run_that_has_used_up_its_budget_ends_and_its_running_steps_with_it() {
    let server = Setup::default().config(&config(&provider(), "")).start();
    let mut document = plan(json!([
        ask("whole", "whole", &[]),
        ask("endless", "endless", &["whole"]),
        {"id": "beside", "tool": "agent", "inputs": {"script": "sleep 60"}, "dependencies": ["whole"]},
        ask("never", "whole", &["endless"]),
    ]));
    document["budget"] = json!({"tokens": 1000});
    let messages = server.carry_out(&document);
    let failed = last(&messages);
    assert_eq!(messages.last().expect("a message")["type"], "workflow_failed");
    assert_eq!(failed["reason"], "budget");
    assert_eq!(failed["error"], "the run has used 1,110 tokens of a budget of 1,000 tokens (the plan's budget)");
    assert_eq!(
        (&failed["usage"]["totalTokens"], &failed["cancelledSteps"]),
        (&json!(1110), &json!(["endless", "beside"]))
    );
    assert_eq!(end(&messages, "endless")["usage"]["totalTokens"], 1000, "while it was streamed");
    assert_eq!(end(&messages, "beside")["cause"], json!({"kind": "budget"}));
    assert_eq!(
        (&end(&messages, "never")["status"], &end(&messages, "never")["cause"]),
        (&json!("skipped"), &json!({"kind": "budget"}))
    );
}

#[test]
fn a_budget_of_a_tool_holds_for_each_run() {
    let server = Setup::default().config(&config(&provider(), "budget = { cost = 0.0004 }")).start();
    for path in ["whole", "stream"] {
        let messages = server.carry_out(&plan(json!([ask("a", path, &[])])));
        assert_eq!(messages.last().expect("a message")["type"], "workflow_completed", "{path}");
    }
    let messages =
        server.carry_out(&plan(json!([ask("a", "whole", &[]), ask("b", "stream", &["a"]), ask("c", "whole", &["b"])])));
    let error = "the run has used a cost of 0.00041 of a budget of 0.0004 (tools.ask.budget)";
    assert_eq!((&last(&messages)["reason"], &last(&messages)["error"]), (&json!("budget"), &json!(error)));
    assert_eq!(end(&messages, "b")["output"], "Hello", "what was paid for is kept");
}

#[test]
fn what_a_child_has_used_counts_in_its_parents_sum_and_budget_also_where_it_fails() {
    let server = Setup::default().config(&config(&provider(), "")).start();
    let dies = json!({"id": "a", "tool": "agent",
        "inputs": {"script": r#"echo '{"usage": {"inputTokens": 2}}'; exit 3"#}});
    for (name, step) in [("good", ask("a", "whole", &[])), ("bad", dies)] {
        let stored = Request::new("PUT", &format!("/api/projects/p/plans/{name}"));
        let body = plan(json!([step])).to_string();
        assert_eq!(server.call(stored.header("Content-Type", "application/json").body(body)).status, 201);
    }
    let call = |name: &str, after: &[&str]| json!({"id": name, "tool": "plan", "inputs": {"name": name}, "dependencies": after, "continueOnFailure": true});
    let mut document = plan(json!([call("good", &[]), call("bad", &["good"]), ask("never", "whole", &["bad"])]));
    document["budget"] = json!({"tokens": 112});
    let run = server.submit("p", &document);
    let messages = server.messages("p", &run);
    for (step, status, tokens) in [("good", "completed", json!(110)), ("bad", "failed", json!(2))] {
        let payload = end(&messages, step);
        assert_eq!((&payload["status"], &payload["usage"]["totalTokens"]), (&json!(status), &tokens), "{step}");
    }
    assert_eq!((&last(&messages)["reason"], &last(&messages)["usage"]["totalTokens"]), (&json!("budget"), &json!(112)));
    assert_eq!(end(&messages, "never")["status"], "skipped");
    assert_eq!(server.metric(r#"stepcast_usage_tokens_total{tool="ask",kind="input"}"#), 100.0, "counted once");
    assert!(!server.get("/metrics").text().contains(r#"stepcast_usage_tokens_total{tool="plan""#));
}

#[cfg(feature = "sqlite")]
#[test]
fn a_budget_holds_over_a_kill() {
    let directory = TempDirectory::new();
    let setup = Setup::default().config(&config(&provider(), "")).data(&directory.join("data"));
    let server = setup.clone().start();
    let steps = json!([ask("a", "whole", &[]), {"id": "wait", "tool": "delay", "inputs": {"ms": 1500}, "dependencies": ["a"]},
        ask("b", "stream", &["wait"]), ask("c", "whole", &["b"])]);
    let run = server.submit("p", &json!({"name": "n", "steps": steps, "budget": {"tokens": 145}}));
    let state = format!("/api/projects/p/workflows/{run}");
    wait_for("a to be done", || (server.get(&state).json()["usage"]["totalTokens"] == 110).then_some(()));
    server.kill();
    let server = setup.start();
    let messages = server.messages("p", &run);
    let error = "the run has used 145 tokens of a budget of 145 tokens (the plan's budget)";
    assert_eq!((&last(&messages)["reason"], &last(&messages)["error"]), (&json!("budget"), &json!(error)));
    assert_eq!(end(&messages, "c")["status"], "skipped");
}

#[test]
fn a_budget_that_is_none_is_refused() {
    let server = Setup::default().start();
    let check = |budget: Value| {
        let plan = json!({"name": "n", "steps": [{"id": "a", "tool": "echo"}], "budget": budget});
        server.post("/api/workflow/check", &plan).json()["issues"].clone()
    };
    for (budget, path, message) in [
        (json!({}), "budget", "must have tokens or cost"),
        (json!({"tokens": 0}), "budget.tokens", "must be an integer from 1 to 9007199254740991, not 0"),
        (json!({"cost": -1}), "budget.cost", "must be a number greater than 0 and at most 1000000"),
        (json!({"tokens": 5, "cost": 1e7}), "budget.cost", "must be a number greater than 0 and at most 1000000"),
        (json!(7), "budget", "must be an object, not a number"),
    ] {
        assert_eq!(check(budget), json!([{"path": path, "message": message}]));
    }
    assert_eq!(check(json!({"tokens": 5, "cost": 0.5})), Value::Null);
}
