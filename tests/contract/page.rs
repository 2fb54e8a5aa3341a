//! What the page at `/` consists of, and what it requests beside the stream: the plan of a run, and a run without
//! outputs.

use serde_json::json;

use crate::common::client::Request;
use crate::common::server::{Server, Setup};
use crate::common::token::token;

/// Each file once in full, and then not again; nothing may be loaded from elsewhere.
#[cfg(feature = "dashboard")]
#[test]
fn the_page_and_the_client_are_files_with_validators() {
    let server = Server::open();
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/stepcast.js", "text/javascript; charset=utf-8"),
        ("/dashboard/app.js", "text/javascript; charset=utf-8"),
        ("/dashboard/style.css", "text/css; charset=utf-8"),
        ("/dashboard/icon.svg", "image/svg+xml"),
    ] {
        let file = server.get(path);
        assert_eq!((file.status, file.header("Content-Type")), (200, Some(content_type)), "{path}");
        let policy = file.header("Content-Security-Policy").expect("a policy");
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        let tag = file.header("ETag").expect("a validator").to_owned();
        for (known, status) in [
            (tag.clone(), 304),
            (format!("\"other\", W/{tag}"), 304),
            ("*".to_owned(), 304),
            ("\"other\"".to_owned(), 200),
            (tag.trim_matches('"').to_owned(), 200),
        ] {
            let again = server.call(Request::get(path).header("If-None-Match", &known));
            assert_eq!((again.status, again.header("ETag")), (status, Some(&*tag)), "{path} {known}");
            assert_eq!(again.text().is_empty(), status == 304);
        }
    }
    for nothing in ["/dashboard/", "/dashboard/nothing.js", "/dashboard/..%2Fdashboard.rs", "/dashboard/app.js/more"] {
        assert_eq!(server.get(nothing).status, 404, "{nothing}");
    }
}

#[cfg(not(feature = "dashboard"))]
#[test]
fn a_program_without_its_dashboard_has_none() {
    let server = Server::open();
    for path in ["/", "/stepcast.js", "/dashboard/app.js"] {
        assert_eq!(server.get(path).status, 404, "{path}");
    }
}

#[test]
fn the_plan_of_a_run_is_shown_without_its_secrets() {
    let server = Setup::default().with_tokens().start();
    let plan = json!({"name": "n", "inputs": {"region": "eu", "apiToken": "t0p-secret"}, "steps": [
        {"id": "a", "tool": "echo", "inputs": {"password": "hush-hush", "n": 1, "key": "{{ inputs.apiToken }}"}},
        {"id": "b", "tool": "delay", "inputs": {"ms": 600_000}, "dependencies": ["a"]},
    ]});
    let body = json!({"plan": plan, "inputs": {"region": "us"}, "runId": "r"});
    let submit = Request::post("/api/projects/p/workflows", &body).token(&token(&["p"], "run"));
    assert_eq!(server.call(submit).status, 202);
    let ask = |token: &str| server.call(Request::get("/api/projects/p/workflows/r/plan").token(token));
    let shown = ask(&token(&["p"], "subscribe"));
    assert_eq!(shown.status, 200);
    let mut expected = plan.clone();
    expected["inputs"]["apiToken"] = json!("***");
    expected["steps"][0]["inputs"]["password"] = json!("***");
    assert_eq!(
        shown.json(),
        json!({"plan": expected, "inputs": {"region": "us"}, "revision": 1,
            "masked": ["plan.inputs.apiToken", "plan.steps[0].inputs.password"]})
    );
    assert_eq!(ask(&token(&["p"], "publish")).status, 403);
    assert_eq!(ask(&token(&["q"], "subscribe")).status, 403);
    let other = Request::get("/api/projects/p/workflows/none/plan").token(&token(&["p"], "subscribe"));
    assert_eq!(server.call(other).code(), "unknown_run");
}

#[test]
fn a_run_can_be_read_without_its_large_outputs() {
    let server = Server::open();
    let text = "x".repeat(600 * 1024);
    let messages = server.carry_out(&json!({"name": "n", "steps": [
        {"id": "a", "tool": "echo", "inputs": {"text": text}},
        {"id": "b", "tool": "echo", "inputs": {"n": 1}},
    ]}));
    let run = messages[0]["payload"]["runId"].as_str().expect("an id");
    let project = messages[0]["projectId"].as_str().expect("an id");
    let read = |query: &str| server.get(&format!("/api/projects/{project}/workflows/{run}{query}"));
    for query in ["", "?outputs=whole"] {
        assert_eq!(read(query).json()["steps"][0]["output"]["text"], text);
    }
    let cut = read("?outputs=cut").json();
    assert_eq!((&cut["steps"][0]["truncated"], &cut["steps"][1]["output"]), (&json!(true), &json!({"n": 1})));
    assert!(cut.to_string().len() < 100 * 1024);
    assert_eq!(read("?outputs=some").code(), "invalid_parameter");
}
