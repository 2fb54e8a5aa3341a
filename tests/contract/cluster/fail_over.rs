//! What happens to the runs of a node that dies, freezes or stops.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Cluster, EVENTS, STREAM, from, history, is_last, note, publish, state, wait_for_step, whole_run};
use crate::common::client::Request;
use crate::common::server::{Server, TempDirectory};
use crate::common::{is_alive, wait_for};

/// A command that tells its process id and waits for a gate; and the same that must not run twice.
fn tools(directory: &Path) -> String {
    let script =
        format!("echo $$ >> '{0}/pids'; until [ -e '{0}/gate' ]; do sleep 0.05; done; echo done", directory.display());
    let tool = |name: &str, more: &str| {
        format!("[tools.{name}]\nkind = \"command\"\n{more}argv = [\"sh\", \"-c\", \"{script}\"]\n")
    };
    format!("{}{}[executor]\ngrace = \"1s\"\n", tool("gate", ""), tool("once", "rerun = false\n"))
}

/// Two levels, so that something is completed before.
fn plan(tool: &str) -> Value {
    json!({"name": "n", "steps": [
        {"id": "before", "tool": "echo", "inputs": {"n": 1}},
        {"id": "work", "tool": tool, "dependencies": ["before"]},
        {"id": "after", "tool": "echo", "inputs": {"was": "{{ steps.work.output }}"}, "dependencies": ["work"]},
    ]})
}

struct Scene {
    cluster: Cluster,
    directory: TempDirectory,
}

impl Scene {
    fn new() -> Option<Self> {
        let directory = TempDirectory::new();
        let cluster = Cluster::new()?.with(|setup| setup.config(&tools(directory.path())));
        Some(Self { cluster, directory })
    }

    fn open_gate(&self) {
        std::fs::write(self.directory.join("gate"), "").expect("the directory can be written to");
    }

    /// Commands that were started.
    fn pids(&self) -> Vec<u64> {
        let text = std::fs::read_to_string(self.directory.join("pids")).unwrap_or_default();
        text.lines().map(|line| line.parse().expect("a number")).collect()
    }

    /// Starts a run at a node, and waits for its command.
    fn begin(&self, node: &Server, tool: &str) -> String {
        let before = self.pids().len();
        let run = node.submit("p", &plan(tool));
        wait_for("the command", || (self.pids().len() > before).then_some(()));
        run
    }
}

#[test]
fn the_runs_of_a_killed_node_go_on_at_another() {
    let Some(scene) = Scene::new() else { return };
    let [a, b] = scene.cluster.nodes();
    let run = scene.begin(&a, "gate");
    let mut stream = b.stream(&format!("{STREAM}?runId={run}"));
    stream.until(|message| message["payload"]["stepId"] == "work");
    a.kill();
    let taken = stream.until(|message| message["payload"]["attempt"] == 2);
    let says = taken.last().expect("some").message["payload"]["message"].as_str().unwrap_or_default().to_owned();
    assert!(says.contains("the server stopped"), "says why it runs again: {says:?}");
    scene.open_gate();
    stream.until(is_last);
    let messages = whole_run(&b, &run);
    assert_eq!(messages.last().expect("some")["payload"]["outputs"]["after"]["was"], "done");
    let begun = |id: &str| {
        let starts = |message: &&Value| message["payload"]["stepId"] == id && message["payload"]["status"] == "running";
        messages.iter().filter(starts).count()
    };
    assert_eq!((begun("before"), begun("work"), begun("after")), (1, 2, 1), "what was completed is not done again");
    assert_eq!(b.metric("stepcast_takeovers_total"), 1.0);
}

#[test]
fn a_step_that_must_not_run_twice_fails_when_its_node_is_killed() {
    let Some(scene) = Scene::new() else { return };
    let [a, b] = scene.cluster.nodes();
    let run = scene.begin(&a, "once");
    wait_for_step(&b, &run, 1, "running");
    a.kill();
    let messages = whole_run(&b, &run);
    assert_eq!(messages.last().expect("some")["payload"]["reason"], "interrupted");
    assert_eq!(scene.pids().len(), 1);
}

#[test]
fn each_of_many_runs_of_a_killed_node_goes_on_once_at_one_of_the_others() {
    let Some(scene) = Scene::new() else { return };
    let [a, b, c] = scene.cluster.nodes();
    let runs: Vec<_> = (0..4).map(|_| scene.begin(&a, "gate")).collect();
    a.kill();
    scene.open_gate();
    for run in &runs {
        let messages = whole_run(&b, run);
        assert_eq!(messages.last().expect("some")["type"], "workflow_completed");
        assert_eq!(whole_run(&c, run), messages);
    }
    assert_eq!(scene.pids().len(), 2 * runs.len(), "one further attempt each");
}

#[test]
fn a_cancel_that_was_answered_is_carried_out_though_the_runs_node_is_gone() {
    let Some(scene) = Scene::new() else { return };
    let [a, b] = scene.cluster.nodes();
    let run = scene.begin(&a, "gate");
    a.signal(Signal::STOP);
    assert_eq!(b.post(&format!("{}/{run}/cancel", super::RUNS), &json!({})).status, 202);
    a.kill();
    assert_eq!(whole_run(&b, &run).last().expect("some")["payload"]["reason"], "cancelled");
}

#[test]
fn a_node_that_was_frozen_for_too_long_comes_back_fenced_and_its_commands_are_dead() {
    let Some(scene) = Scene::new() else { return };
    let [a, b] = scene.cluster.nodes();
    let run = scene.begin(&a, "gate");
    let mut stream = a.stream(STREAM);
    let id = stream.next().expect("connected").id().to_owned();
    let frozen = scene.pids()[0];
    a.signal(Signal::STOP);
    // Another goes on with the run.
    wait_for("the second command", || (scene.pids().len() == 2).then_some(()));
    wait_for_step(&b, &run, 1, "running");
    assert!(is_alive(frozen), "nobody else could end it");
    a.signal(Signal::CONT);
    wait_for("the end of the command that went on", || (!is_alive(frozen)).then_some(()));
    publish(&b, 1);
    scene.open_gate();
    let messages = whole_run(&b, &run);
    assert_eq!(messages.last().expect("some")["type"], "workflow_completed");
    assert_eq!(scene.pids().len(), 2);
    // The node is one of them again: its stream was never closed and has missed nothing, and it takes runs.
    let expected = whole_run(&b, &run).len();
    let seen = stream.until(is_last);
    let again = b.stream_of(from(&id)).take(1 + seen.iter().filter(|event| event.id.is_some()).count());
    let raws = |events: &[crate::common::stream::Event]| -> Vec<String> {
        events.iter().filter(|event| event.id.is_some()).map(|event| event.raw.clone()).collect()
    };
    assert_eq!(raws(&seen), raws(&again[1..]));
    assert!(seen.len() < expected + 2);
    wait_for("the node to be ready", || (a.get("/readyz").status == 200).then_some(()));
    assert_eq!(whole_run(&a, &run), messages);
    let next = wait_for("the node to take a run", || {
        let answer = a.post(super::RUNS, &plan("gate"));
        (answer.status == 202).then(|| answer.json()["runId"].as_str().expect("an id").to_owned())
    });
    assert_eq!(whole_run(&b, &next).last().expect("some")["type"], "workflow_completed");
    assert!(a.metric("stepcast_fences_total") >= 1.0);
}

/// Its time would not be over before the test is.
#[test]
fn a_node_that_is_told_to_end_hands_its_runs_over_at_once() {
    let Some(scene) = Scene::new() else { return };
    let scene = Scene { cluster: scene.cluster.believing("5m"), ..scene };
    let [mut a, b] = scene.cluster.nodes();
    let steps = json!([{"id": "wait", "tool": "delay", "inputs": {"ms": 1500}}, {"id": "ask", "tool": "approval", "inputs": {"message": "Go on?"}, "dependencies": ["wait"]}]);
    let waits = a.submit("p", &json!({"name": "waits", "steps": steps}));
    let works = scene.begin(&a, "gate");
    wait_for_step(&a, &waits, 1, "waiting");
    a.signal(Signal::TERM);
    assert_eq!(a.wait(), Some(0));
    scene.open_gate();
    assert_eq!(whole_run(&b, &works).last().expect("some")["type"], "workflow_completed");
    let path = format!("{}/{waits}/steps/ask/decision", super::RUNS);
    assert_eq!(b.post(&path, &json!({"decision": "approve"})).status, 200);
    assert_eq!(whole_run(&b, &waits).last().expect("some")["type"], "workflow_completed");
}

#[test]
fn runs_of_a_cluster_whose_nodes_were_all_killed_go_on_when_one_starts() {
    let Some(scene) = Scene::new() else { return };
    let [a, b] = scene.cluster.nodes();
    let runs = [scene.begin(&a, "gate"), scene.begin(&b, "gate")];
    a.kill();
    b.kill();
    scene.open_gate();
    let c = scene.cluster.node();
    for run in &runs {
        assert_eq!(whole_run(&c, run).last().expect("some")["type"], "workflow_completed");
        assert_eq!(state(&c, run)["steps"][1]["attempt"], 2);
    }
}

/// Clients that are refused the connection, or told to come back, go to another node; what was answered is there.
#[test]
fn all_nodes_are_restarted_one_after_another_without_a_failed_publish() {
    const PUBLISHERS: u64 = 3;
    let Some(cluster) = Cluster::new() else { return };
    let mut nodes: Vec<Server> = cluster.nodes::<3>().into();
    let addresses: Vec<_> = nodes.iter().map(|node| node.address).collect();
    let (is_over, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let acknowledged: BTreeSet<u64> = thread::scope(|scope| {
        let publisher = |part: u64| {
            let (mut own, mut at) = (BTreeSet::new(), part as usize);
            for n in 0.. {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                let number = n * PUBLISHERS + part;
                // One that breaks off in mid-answer may have been taken: nobody knows, so it is not sent again.
                while let Some(answer) = Request::post(EVENTS, &note(number)).try_send(addresses[at]) {
                    match answer.status {
                        202 => drop(own.insert(number)),
                        503 if answer.header("Retry-After").is_some() => {
                            at = (at + 1) % addresses.len();
                            continue;
                        }
                        status => panic!("{status}: {answer:?}"),
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                at = (at + 1) % addresses.len();
            }
            own
        };
        let publishing: Vec<_> = (0..PUBLISHERS).map(|part| scope.spawn(move || publisher(part))).collect();
        for at in 0..nodes.len() {
            let goal = answered.load(Ordering::Relaxed) + 50;
            wait_for("load", || (answered.load(Ordering::Relaxed) >= goal).then_some(()));
            nodes[at].signal(Signal::TERM);
            assert_eq!(nodes[at].wait(), Some(0));
            nodes[at] = cluster.setup().listen(addresses[at]).start();
        }
        is_over.store(true, Ordering::Relaxed);
        publishing.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    for node in &nodes {
        let kept: Vec<u64> = history(node).iter().filter_map(|message| message["payload"]["n"].as_u64()).collect();
        let once: BTreeSet<u64> = kept.iter().copied().collect();
        assert_eq!(once.len(), kept.len(), "nothing twice");
        assert!(acknowledged.is_subset(&once), "what was answered is there");
    }
}

#[test]
fn a_killed_node_that_starts_again_at_its_address_is_a_new_one() {
    let Some(cluster) = Cluster::new() else { return };
    let cluster = cluster.believing("5m");
    let a = cluster.node();
    let address = a.address;
    let id = publish(&a, 1);
    a.kill();
    let a = cluster.setup().listen(address).start();
    publish(&a, 2);
    let events = a.stream_of(from(&id)).take(2);
    assert_eq!(super::numbers(&events), [2]);
}
