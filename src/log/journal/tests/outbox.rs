//! What webhooks are to be told is kept with what there is to tell.

use super::*;
use crate::log::fake_engine::TTL_MS;
use crate::log::faulty::{Call, Disk, Fault};
use crate::log::store::{DueTimes, Flow, PlaceInRun, Store};
use crate::log::{DuePage, MemoryStore, OutboxChange, WantedDue, WebhookFilter, Webhooks};
use crate::model::Notable;

fn webhook(name: &str, events: &[Notable], projects: Option<&[&str]>) -> WebhookFilter {
    let projects = projects.map(|projects| projects.iter().map(|it| project(it)).collect());
    WebhookFilter { name: name.into(), events: events.to_vec(), projects }
}

fn open(disk: &Disk<MemoryStore>, filters: Vec<WebhookFilter>, rows_max: u64) -> (Bench, Outcome) {
    open_over(Box::new(disk.store()), filters, rows_max)
}

fn open_over(store: Box<dyn Store>, filters: Vec<WebhookFilter>, rows_max: u64) -> (Bench, Outcome) {
    let mut bench = Bench::new();
    let read_plan = Box::new(|_: &[u8]| Ok(plan(&["a", "b: a"])));
    let (webhooks, signer) = (Webhooks { filters, rows_max }, bench.signer.clone());
    let opened = Journal::open_telling(webhooks, store, signer, limits(), read_plan, bench.now);
    let (journal, outcome) = opened.expect("nothing fails");
    bench.journal = journal;
    (bench, outcome)
}

impl Bench {
    fn due(&mut self, webhook: &str, bytes_max: usize) -> DuePage {
        let now = self.now.wall;
        let times = DueTimes { now, horizon: now.plus_millis(1000) };
        let (limit, except) = (100, Vec::new());
        let wanted = WantedDue { webhook: webhook.into(), times, limit, except, body_bytes_max: bytes_max };
        match self.read(Query::Due(Box::new(wanted))) {
            Answer::Due(page) => page,
            other => panic!("not what is due: {other:?}"),
        }
    }

    /// The runs that a webhook is to be told of.
    fn told_to(&mut self, webhook: &str) -> Vec<String> {
        let page = self.due(webhook, 100_000);
        assert_eq!(page.waiting, page.events.len() as u64);
        page.events
            .iter()
            .map(|event| shown(&event.body)["data"]["runId"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    fn end(&mut self, run: &str, kind: RunEventKind) -> Outcome {
        self.submit(run);
        self.say(run, vec![started(), kind])
    }
}

fn shown(body: &[u8]) -> Value {
    serde_json::from_slice(body).expect("JSON")
}

#[test]
fn each_webhook_is_told_what_it_wants_to_know() {
    let disk = Disk::new(MemoryStore::new());
    let (all, failures) = (Notable::ALL, [Notable::RunFailed]);
    let filters =
        vec![webhook("all", &all, None), webhook("p", &failures, Some(&["x", "p"])), webhook("q", &all, Some(&["q"]))];
    let (mut bench, outcome) = open(&disk, filters, 10);
    assert!(!outcome.has_due);
    bench.submit("r1");
    assert!(!bench.say("r1", vec![started(), progress("a", running())]).has_due);
    assert!(bench.say("r1", vec![completed()]).has_due);
    bench.end("r2", failed(EndReason::Timeout));
    bench.end("r3", failed(EndReason::Cancelled));
    assert_eq!(bench.told_to("all"), ["r1", "r2", "r3"]);
    assert_eq!(
        (bench.told_to("p"), bench.told_to("q"), bench.told_to("nobody")),
        (vec!["r2".to_owned()], vec![], vec![])
    );
}

#[test]
fn what_is_due_is_kept_with_the_last_message_or_not_at_all() {
    for first in 1..=4 {
        let disk = Disk::new(MemoryStore::new());
        let (mut bench, _) = open(&disk, vec![webhook("w", &Notable::ALL, None)], 10);
        disk.set(Fault::At { of: &[Call::Append], first, more: 0 });
        bench.handle(vec![submit("r", None, 0, 0)]);
        bench.say("r", vec![started()]);
        let is_told = bench.say("r", vec![completed()]).has_due;
        let (mut messages, mut rows) = (0, 0);
        let count = |messages: &mut u32, rows: &mut u32| {
            disk.look(|store| {
                let read = crate::log::store::History::messages(store, &p(), 0, None, &mut |message| {
                    *messages += u32::from(message.place == PlaceInRun::Last);
                    Flow::More
                });
                assert_eq!(read, Ok(()));
                *rows += crate::log::store::History::outbox(store).expect("readable").len() as u32;
            });
        };
        count(&mut messages, &mut rows);
        assert_eq!((messages, u32::from(is_told)), (rows, rows), "append {first} fails");
        bench.wait_ms(300);
        bench.handle(Vec::new());
        bench.handle(vec![publish(&p(), 1, 1)]);
        (messages, rows) = (0, 0);
        count(&mut messages, &mut rows);
        assert_eq!(messages, rows, "append {first} has failed");
    }
}

#[test]
fn a_message_that_is_gone_or_too_large_is_told_thin() {
    let disk = Disk::new(MemoryStore::new());
    let (mut bench, _) = open(&disk, vec![webhook("w", &Notable::ALL, None)], 10);
    bench.end("r", failed(EndReason::StepFailed));
    let whole = bench.due("w", 100_000).events.remove(0);
    let size = whole.body.len();
    let event = shown(&whole.body);
    assert_eq!(
        (event["id"].as_str(), event["type"].as_str()),
        (Some(&*bench.id(2)), Some("io.serverlessworkflow.workflow.faulted.v1"))
    );
    assert_eq!((&event["data"]["error"], whole.message_id), (&json!("no"), bench.id(2)));

    let mut assert_thin = |bytes_max| {
        let thin = shown(&bench.due("w", bytes_max).events.remove(0).body);
        assert_eq!(thin["data"], json!({"runId": "r", "timestamp": event["time"], "thin": true}));
        for attribute in ["id", "source", "type", "time", "sequence"] {
            assert_eq!(thin[attribute], event[attribute], "{attribute}");
        }
    };
    assert_thin(size - 1);
    let nothing = Retention { messages: 0, bytes: 0, age_ms: 0, runs: 0 };
    let disk_now = crate::log::testing::at(u64::MAX / 2);
    disk.store().trim(&nothing, disk_now).expect("nothing fails");
    assert_thin(100_000);
}

#[test]
fn what_became_of_it_is_kept() {
    let disk = Disk::new(MemoryStore::new());
    let (mut bench, _) = open(&disk, vec![webhook("w", &Notable::ALL, None)], 10);
    bench.end("r1", completed());
    bench.end("r2", completed());
    let ids: Vec<_> = bench.due("w", 1000).events.iter().map(|event| event.id).collect();
    let next_at = bench.now.wall.plus_millis(500);
    let changes = vec![OutboxChange::Done(ids[0]), OutboxChange::PutOff { id: ids[1], attempts: 1, next_at }];
    assert!(matches!(bench.ask(Command::Outbox { changes, reply: reply_to(0) }), Answer::Noted));
    let page = bench.due("w", 1000);
    assert_eq!((page.events.len(), page.next_at, page.waiting), (0, Some(next_at), 1));
    bench.wait_ms(500);
    let page = bench.due("w", 1000);
    assert_eq!((page.events.len(), page.events[0].attempts, page.next_at), (1, 1, None));

    disk.set(Fault::Always(Call::WRITES));
    let changes = vec![OutboxChange::Done(ids[1])];
    let answer = bench.ask(Command::Outbox { changes, reply: reply_to(0) });
    assert!(matches!(answer, Answer::Refused(Refusal::StoreUnavailable)), "{answer:?}");
}

#[test]
fn what_is_too_much_for_a_webhook_is_given_up_and_counted() {
    let disk = Disk::new(MemoryStore::new());
    let (mut bench, _) = open(&disk, vec![webhook("w", &Notable::ALL, None), webhook("v", &[], None)], 2);
    for run in ["r1", "r2", "r3", "r4"] {
        bench.end(run, completed());
    }
    assert_eq!(bench.told_to("w"), ["r3", "r4"]);
    assert_eq!(bench.journal.work().gauges().webhooks_dropped, 2);
}

#[test]
fn what_waited_for_a_webhook_that_is_not_declared_any_more_is_given_up() {
    let disk = Disk::new(MemoryStore::new());
    let (mut bench, _) = open(&disk, vec![webhook("a", &Notable::ALL, None), webhook("b", &Notable::ALL, None)], 10);
    bench.end("r", completed());
    let (mut bench, _) = open(&disk, vec![webhook("b", &Notable::ALL, None)], 10);
    assert_eq!((bench.told_to("a"), bench.told_to("b")), (vec![], vec!["r".to_owned()]));
    let (mut bench, _) = open(&disk, Vec::new(), 10);
    assert_eq!(bench.told_to("b"), Vec::<String>::new());
}

#[test]
fn what_waits_for_a_webhook_that_another_node_has_is_not_given_up_where_one_without_it_starts() {
    let disk = Disk::shared_by_nodes(MemoryStore::new());
    let (one, other) = (disk.join(), disk.join());
    let (mut bench, _) = open_over(Box::new(disk.store_as(&one)), vec![webhook("new", &Notable::ALL, None)], 10);
    bench.end("r", completed());
    drop(open_over(Box::new(disk.store_as(&other)), Vec::new(), 10));
    assert_eq!(bench.told_to("new"), ["r"]);
    drop(bench);
    disk.pass_ms(TTL_MS);
    let alone = disk.join();
    let (mut bench, _) = open_over(Box::new(disk.store_as(&alone)), Vec::new(), 10);
    assert_eq!(bench.told_to("new"), Vec::<String>::new(), "nobody has it any more");
}

#[test]
fn a_run_that_the_log_ends_at_a_start_is_told_of() {
    let disk = Disk::new(MemoryStore::new());
    let filters = || vec![webhook("w", &Notable::ALL, None)];
    let (mut bench, _) = open(&disk, filters(), 10);
    bench.submit("r");
    bench.say("r", vec![started()]);
    let no_plan = Box::new(|_: &[u8]| Err("it is of a later format".to_owned()));
    let webhooks = Webhooks { filters: filters(), rows_max: 10 };
    let (store, signer) = (Box::new(disk.store()), bench.signer.clone());
    let opened = Journal::open_telling(webhooks, store, signer, limits(), no_plan, bench.now);
    let (journal, outcome) = opened.expect("nothing fails");
    bench.journal = journal;
    assert!(outcome.has_due);
    assert_eq!(bench.told_to("w"), ["r"]);
}
