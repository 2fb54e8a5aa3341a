//! Steps that call their tool for each item of an array.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

#[cfg(feature = "sqlite")]
use crate::common::client::Request;
use crate::common::server::{Server, Setup, TempDirectory};
use crate::common::stream::Event;
#[cfg(feature = "sqlite")]
use crate::common::wait_for;
use crate::tools::{end, error, plan};

/// Says which item it was called for and how many of its calls there were at that time, and notes each of its calls.
/// Fails for what is no number.
const WORK: &str = r#"
echo "$1" >> "$0/calls" && mkdir "$0/live/$1" && live=$(ls "$0/live" | wc -l) && sleep "$2"
rmdir "$0/live/$1" && printf '{"n": %d, "live": %d, "item": %d}' "$1" "$live" "$STEPCAST_ITEM"
"#;

/// A tool that may run twice, and one that must not, over one directory.
fn config(directory: &Path) -> String {
    std::fs::create_dir(directory.join("live")).expect("a directory");
    let directory = directory.display();
    let tool = |name: &str, more: &str| {
        format!(
            "[tools.{name}]\nkind = \"command\"\n{more}\nargv = [\"sh\", \"-c\", '''{WORK}''', \"{directory}\", \
             \"{{{{ inputs.n }}}}\", \"{{{{ inputs.seconds | default(0.02) }}}}\"]\n"
        )
    };
    tool("work", "") + &tool("once", "rerun = false")
}

fn setup(directory: &TempDirectory) -> Setup {
    Setup::default().config(&config(directory.path())).flags(&["--executor-workers", "16"])
}

/// How often the tool was called for each item.
fn calls(directory: &TempDirectory) -> BTreeMap<u64, usize> {
    let text = std::fs::read_to_string(directory.join("calls")).unwrap_or_default();
    let mut calls = BTreeMap::new();
    text.lines().filter_map(|line| line.parse().ok()).for_each(|item| *calls.entry(item).or_default() += 1);
    calls
}

fn state(server: &Server, run: &str) -> Value {
    server.get(&format!("/api/projects/p/workflows/{run}")).json()
}

fn items(server: &Server, run: &str, query: &str) -> Value {
    server.get(&format!("/api/projects/p/workflows/{run}/steps/each/items?{query}")).json()
}

fn numbers(list: &Value) -> Vec<u64> {
    list["items"].as_array().expect("a list").iter().map(|item| item["item"].as_u64().expect("a number")).collect()
}

fn each(count: u64, more: Value) -> Value {
    let mut step = json!({"id": "each", "tool": "work", "dependencies": ["list"],
        "forEach": "{{ steps.list.output.items }}", "inputs": {"n": "{{ item.n }}"}});
    step.as_object_mut().expect("an object").extend(more.as_object().cloned().expect("an object"));
    let list: Vec<_> = (0..count).map(|n| json!({"n": n})).collect();
    json!([{"id": "list", "tool": "echo", "inputs": {"items": list}}, step,
        {"id": "after", "tool": "echo", "dependencies": ["each"], "inputs": {"all": "{{ steps.each.output }}"}}])
}

#[test]
fn fifty_items_run_a_few_at_a_time_and_are_told_as_one_step() {
    let directory = TempDirectory::new();
    let server = setup(&directory).start();
    let run = server.submit("p", &plan(each(50, json!({"maxConcurrent": 5}))));
    let messages = server.messages("p", &run);
    assert_eq!(messages.last().expect("a message")["type"], "workflow_completed");
    let outputs = end(&messages, "each")["output"].as_array().expect("an array").clone();
    let said: Vec<_> = outputs.iter().map(|output| output["n"].as_u64()).collect();
    assert_eq!(said, (0..50).map(Some).collect::<Vec<_>>(), "in the order of the items");
    assert!(outputs.iter().all(|output| output["item"] == output["n"]), "a command knows its item");
    let live = outputs.iter().filter_map(|output| output["live"].as_u64()).max();
    assert!((2..=5).contains(&live.expect("a number")), "{live:?} at a time");
    assert_eq!(end(&messages, "after")["output"]["all"].as_array().map(Vec::len), Some(50));
    assert_eq!(end(&messages, "each")["items"], json!({"done": 50, "failed": 0, "running": 0, "total": 50}));
    let of_step = messages.iter().filter(|message| message["payload"]["stepId"] == "each");
    assert!(
        of_step.filter(|message| message["payload"]["attempt"] != 1).count() == 0,
        "items have attempts of their own"
    );
    assert_eq!(calls(&directory).into_values().collect::<Vec<_>>(), vec![1; 50]);

    let state = state(&server, &run);
    assert_eq!(state["steps"][1]["items"]["done"], 50);
    let first = items(&server, &run, "limit=20");
    assert_eq!((numbers(&first), &first["next"]), ((0..20).collect(), &json!(19)));
    assert_eq!(first["items"][3]["id"], "each[3]");
    assert_eq!((&first["items"][3]["status"], &first["items"][3]["output"]["n"]), (&json!("completed"), &json!(3)));
    let rest = items(&server, &run, "after=19");
    assert_eq!((numbers(&rest), rest.get("next")), ((20..50).collect(), None));
    assert!(numbers(&items(&server, &run, "status=failed")).is_empty());
    let path = format!("/api/projects/p/workflows/{run}/steps/each");
    assert_eq!(server.get(&format!("{path}/output?item=7")).json()["n"], 7);
    for (path, status, code) in [
        (format!("{path}/output?item=50"), 404, "unknown_item"),
        (format!("{path}/items?status=pending"), 400, "invalid_parameter"),
        (format!("{path}/items?after=x"), 400, "invalid_parameter"),
        (format!("/api/projects/p/workflows/{run}/steps/none/items"), 404, "unknown_step"),
        ("/api/projects/p/workflows/none/steps/each/items".to_owned(), 404, "unknown_run"),
    ] {
        let answer = server.get(&path);
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{path}");
    }
}

/// The items that a stream tells, each with all of its words in order.
fn told(events: &[Event]) -> BTreeMap<u64, Vec<String>> {
    let mut told = BTreeMap::<u64, Vec<String>>::new();
    for event in events.iter().filter(|event| event.kind() == "workflow_item") {
        let said = &event.message["payload"];
        assert_eq!(said["itemId"], format!("each[{}]", said["item"]));
        assert!(event.id.is_none(), "no id of its own");
        told.entry(said["item"].as_u64().expect("a number"))
            .or_default()
            .push(said["status"].as_str().expect("a word").to_owned());
    }
    told
}

#[test]
fn a_stream_with_items_tells_each_of_their_moves_and_others_have_no_gap() {
    let directory = TempDirectory::new();
    let server = setup(&directory).start();
    let mut plain = server.stream("/api/sse/projects/p");
    let mut asked = server.stream("/api/sse/projects/p?items=1");
    let run = server.submit("p", &plan(each(50, json!({"maxConcurrent": 5}))));
    let is_last = |message: &Value| message["type"] == "workflow_completed";
    // In the middle one more comes, which is shown how the items are and told the rest.
    let mut first = asked.until(|message| message["payload"]["item"] == 20);
    let last_id = first.iter().rev().find_map(|event| event.id.clone()).expect("an id");
    let mut late = server.stream(&format!("/api/sse/projects/p?runId={run}&items=1&lastEventId={last_id}"));
    let of_late = late.rest();
    first.extend(asked.until(is_last));
    let told_whole = told(&first);
    assert_eq!(told_whole.keys().copied().collect::<Vec<_>>(), (0..50).collect::<Vec<_>>());
    assert!(told_whole.values().all(|words| words == &["running", "completed"]), "{told_whole:?}");
    let mut newest = 0;
    for event in &first {
        match &event.id {
            Some(_) => newest = event.seq(),
            None => assert_eq!(event.seq(), newest, "behind the message before it"),
        }
    }
    let shown = of_late.iter().find(|event| event.kind() == "workflow_items_snapshot").expect("a snapshot");
    let shown = shown.message["payload"]["items"].as_array().expect("a list").clone();
    let mut known: BTreeMap<_, _> =
        shown.iter().map(|item| (item["item"].as_u64().expect("a number"), item["status"].clone())).collect();
    known.extend(told(&of_late).into_iter().map(|(item, words)| (item, json!(words.last()))));
    assert!(known.len() == 50 && known.values().all(|status| status == "completed"), "{known:?}");

    let whole = server.get(&format!("/api/projects/p/workflows/{run}?items=1")).json();
    let of_step = &whole["items"][0];
    let shown = of_step["items"].as_array().expect("a list");
    assert_eq!(
        (whole["items"].as_array().map(Vec::len), &of_step["stepId"], shown.len()),
        (Some(1), &json!("each"), 50)
    );
    assert_eq!((&shown[7]["itemId"], &shown[7]["status"]), (&json!("each[7]"), &json!("completed")));
    let plain_state = server.get(&format!("/api/projects/p/workflows/{run}")).json();
    assert_eq!((&plain_state["items"], &plain_state["steps"]), (&Value::Null, &whole["steps"]));
    assert_eq!(server.get(&format!("/api/projects/p/workflows/{run}?items=yes")).status, 400);

    let of_plain = plain.until(is_last);
    assert!(of_plain.iter().all(|event| !event.kind().contains("item")));
    let seqs: Vec<_> = of_plain[1..].iter().map(Event::seq).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "no gap");
    for query in ["items=0", "items=x", "items=1&view=text", &format!("items=1&runId={run}&format=agui")] {
        let answer = server.get(&format!("/api/sse/projects/p?{query}"));
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_parameter"), "{query}");
    }
    assert_eq!(server.get("/api/sse?projects=p,q&items=1").status, 400);
}

#[test]
fn a_failing_item_stops_the_step_or_is_null_among_the_outputs() {
    let directory = TempDirectory::new();
    let server = setup(&directory).start();
    let list = json!(["0", "1", "two", "3", "4"]);
    let with = |more: Value| {
        let mut step = json!({"id": "each", "tool": "work", "forEach": list, "maxConcurrent": 1,
            "inputs": {"n": "{{ item }}"}});
        step.as_object_mut().expect("an object").extend(more.as_object().cloned().expect("an object"));
        json!({"name": "n", "steps": [step]})
    };
    let stopped = server.carry_out(&with(json!({})));
    let said = error(&stopped, "each");
    assert!(said.starts_with("item 2 failed: ") && said.ends_with("(1 of 5 items failed, 2 completed)"), "{said}");
    let tried = server.carry_out(&with(json!({"continueOnFailure": true})));
    assert!(error(&tried, "each").ends_with("(1 of 5 items failed, 4 completed)"));
    assert_eq!(
        (&end(&tried, "each")["continued"], &tried.last().expect("one")["type"]),
        (&json!(true), &json!("workflow_completed"))
    );
    let tolerated = server.carry_out(&with(json!({"onItemFailure": "continue"})));
    let ended = end(&tolerated, "each");
    assert_eq!((&ended["status"], &ended["items"]["failed"]), (&json!("completed"), &json!(1)));
    let said: Vec<_> =
        ended["output"].as_array().expect("an array").iter().map(|output| output["n"].as_u64()).collect();
    assert_eq!(said, [Some(0), Some(1), None, Some(3), Some(4)]);
}

#[test]
fn too_many_items_fail_the_step_with_their_count_and_the_limit() {
    let step = |items: &str| json!({"id": "each", "tool": "echo", "forEach": items});
    let server = Server::open();
    let messages = server.carry_out(&plan(json!([step("range(1001)")])));
    assert_eq!(error(&messages, "each"), "forEach: too many items: 1001 (limit 1000, not configurable)");
    let messages = server.carry_out(&plan(json!([step("{{ inputs.none | default([]) }}")])));
    assert_eq!(end(&messages, "each")["output"], json!([]));
}

/// Kills a server in the middle of fifty items; the items that had completed by then, and what the next server says.
#[cfg(feature = "sqlite")]
fn killed_in_the_middle(directory: &TempDirectory, tool: &str) -> (Vec<u64>, Server, String) {
    let setup = setup(directory).data(&directory.join("data"));
    let server = setup.clone().start();
    let more = json!({"tool": tool, "maxConcurrent": 4, "inputs": {"n": "{{ item.n }}", "seconds": 0.1}});
    let run = server.submit("p", &plan(each(50, more)));
    let done = wait_for("some items", || {
        let done = numbers(&items(&server, &run, "status=completed"));
        (done.len() >= 10).then_some(done)
    });
    server.kill();
    // Nobody ends the tools of a server that was killed.
    wait_for("the end of its tools", || {
        let live = std::fs::read_dir(directory.join("live")).expect("a directory").count();
        (live == 0).then_some(())
    });
    (done, setup.start(), run)
}

#[cfg(feature = "sqlite")]
#[test]
fn what_had_completed_is_not_run_again_after_kill_9() {
    let directory = TempDirectory::new();
    let (done, server, run) = killed_in_the_middle(&directory, "work");
    let messages = server.messages("p", &run);
    let outputs = end(&messages, "each")["output"].as_array().expect("an array").clone();
    assert_eq!(
        outputs.iter().filter_map(|output| output["n"].as_u64()).collect::<Vec<_>>(),
        (0..50).collect::<Vec<_>>()
    );
    assert_eq!(end(&messages, "each")["items"], json!({"done": 50, "failed": 0, "running": 0, "total": 50}));
    let calls = calls(&directory);
    assert!(done.iter().all(|item| calls[item] == 1), "{calls:?}");
    let again = calls.values().filter(|&&calls| calls > 1).count();
    // Four ran, and of each at most one more may have ended without being kept.
    assert!(calls.len() == 50 && again <= 8, "no more than ran or had just ended: {calls:?}");
}

#[cfg(feature = "sqlite")]
#[test]
fn no_item_of_a_tool_that_must_not_run_twice_is_run_twice() {
    let directory = TempDirectory::new();
    let (done, server, run) = killed_in_the_middle(&directory, "once");
    let messages = server.messages("p", &run);
    let said = error(&messages, "each");
    assert!(said.starts_with("interrupted: the server stopped while this item ran"), "{said}");
    assert!(calls(&directory).values().all(|&calls| calls == 1));
    // The plan goes on after a failure, and so do its items.
    let ended = &end(&messages, "each")["items"];
    let (all, failed) = (ended["done"].as_u64().expect("a number"), ended["failed"].as_u64().expect("a number"));
    assert!((1..=4).contains(&failed) && all + failed == 50 && all as usize >= done.len(), "{ended}");
    let answer = Request::get(&format!("/api/projects/p/workflows/{run}/steps/each/items?status=failed"));
    assert_eq!(numbers(&answer.send(server.address).json()).len() as u64, failed);
}
