//! Stored plans: in every store the same ones, in the same order, with the same counts, over restarts.

use std::sync::Arc;

use super::random::Generator;
use super::{TempDir, commit, open, with_each};
use crate::log::MemoryStore;
use crate::log::store::{Flow, History, PlanChange, PlanCounts, PlanRow, Store, WantedPlans, Write};
use crate::log::testing::run_id;
use crate::model::{PlanName, ProjectId, Timestamp};

fn name(text: &str) -> PlanName {
    PlanName::parse(text).expect("a name")
}

fn project(text: &str) -> ProjectId {
    ProjectId::parse(text).expect("an id")
}

fn row(of: &str, named: &str, version: u64) -> PlanRow {
    PlanRow {
        project: project(of),
        name: name(named),
        tag: format!("tag{version}").into(),
        updated_at: Timestamp::from_millis(version),
        summary: b"{}".as_slice().into(),
        schedule: version.is_multiple_of(2).then(|| b"{\"cron\":\"* * * * *\"}".as_slice().into()),
        scheduled_at: Timestamp::from_millis(version + 1),
        firings: vec![b'f'; version as usize % 5].into(),
        last_run: version.is_multiple_of(3).then(|| run_id(version)),
        document_bytes: version,
    }
}

fn put(row: PlanRow) -> Write {
    let document: Arc<[u8]> = format!("document of {}", row.tag).into_bytes().into();
    Write::Plan(PlanChange::Put(Box::new(row), Some(document)))
}

fn removed(of: &str, named: &str) -> Write {
    Write::Plan(PlanChange::Removed(project(of), name(named)))
}

fn rows(store: &dyn Store, wanted: WantedPlans<'_>) -> Vec<PlanRow> {
    let mut rows = Vec::new();
    let read = store.plans(wanted, &mut |row| {
        rows.push(row.clone());
        Flow::More
    });
    assert_eq!(read, Ok(()));
    rows
}

fn names(store: &dyn Store, wanted: WantedPlans<'_>) -> Vec<String> {
    rows(store, wanted).iter().map(|row| format!("{}/{}", row.project, row.name)).collect()
}

fn document(store: &dyn Store, of: &str, named: &str) -> Option<String> {
    let document = store.plan_document(&project(of), &name(named)).expect("readable");
    document.map(|document| String::from_utf8_lossy(&document).into_owned())
}

#[test]
fn plans_are_found_by_name_by_project_and_by_schedule() {
    with_each(|store| {
        commit(store, &[put(row("p", "b", 2)), put(row("p", "a", 1)), put(row("q", "a", 4)), put(row("p", ":", 3))]);
        assert_eq!(names(store, WantedPlans::OfProject(&project("p"))), ["p/:", "p/a", "p/b"]);
        assert_eq!(names(store, WantedPlans::OfProject(&project("o"))), [""; 0]);
        assert_eq!(names(store, WantedPlans::Scheduled), ["p/b", "q/a"]);
        assert_eq!(store.plan(&project("p"), &name("b")), Ok(Some(row("p", "b", 2))));
        assert_eq!(store.plan(&project("q"), &name("b")), Ok(None));
        assert_eq!((document(store, "p", "a").as_deref(), document(store, "q", "b")), (Some("document of tag1"), None));
    });
}

#[test]
fn a_plan_is_replaced_noted_and_removed() {
    with_each(|store| {
        commit(store, &[put(row("p", "a", 1)), put(row("p", "a", 2))]);
        let counts = PlanCounts { of_project: 1, scheduled: 1, bytes: row("p", "a", 2).weight() };
        assert_eq!(store.plan_counts(&project("p")), Ok(counts));
        let noted = PlanRow { firings: b"{}".as_slice().into(), last_run: Some(run_id(9)), ..row("p", "a", 2) };
        commit(store, &[Write::Plan(PlanChange::Put(Box::new(noted.clone()), None))]);
        assert_eq!(store.plan(&project("p"), &name("a")), Ok(Some(noted)));
        assert_eq!(document(store, "p", "a").as_deref(), Some("document of tag2"), "it is left as it was");
        assert_eq!(store.plan_counts(&project("q")), Ok(PlanCounts { of_project: 0, ..counts }));
        commit(store, &[removed("p", "a"), removed("p", "never")]);
        assert_eq!((store.plan(&project("p"), &name("a")), document(store, "p", "a")), (Ok(None), None));
        assert_eq!(store.plan_counts(&project("p")), Ok(PlanCounts::default()));
    });
}

#[test]
fn whatever_becomes_of_plans_the_stores_agree() {
    let directory = TempDir::new();
    assert_agrees(300, &mut || Box::new(open(&directory, 0).0));
}

#[cfg(feature = "postgres")]
#[test]
fn whatever_becomes_of_plans_one_that_is_shared_agrees() {
    let Some(mut shared) = crate::log::postgres::testing::SharedStore::new() else { return };
    assert_agrees(120, &mut || shared.open().store);
}

fn assert_agrees(steps: u64, reopen: &mut dyn FnMut() -> Box<dyn Store>) {
    let mut generator = Generator::new(31);
    let (mut memory, mut kept) = (MemoryStore::new(), reopen());
    for step in 0..steps {
        let (of, named) = (["p", "q"][generator.below(2) as usize], ["a", "b", "c"][generator.below(3) as usize]);
        let write = match generator.below(4) {
            0 => removed(of, named),
            1 if memory.plan(&project(of), &name(named)) != Ok(None) => {
                let noted = row(of, named, 1 + generator.below(40));
                Write::Plan(PlanChange::Put(Box::new(noted), None))
            }
            _ => put(row(of, named, 1 + generator.below(40))),
        };
        commit(&mut memory, std::slice::from_ref(&write));
        commit(&mut *kept, &[write]);
        if step % 50 == 49 {
            drop(kept);
            kept = reopen();
        }
        for of in ["p", "q"] {
            let wanted = project(of);
            assert_eq!(rows(&memory, WantedPlans::OfProject(&wanted)), rows(&*kept, WantedPlans::OfProject(&wanted)));
            assert_eq!(memory.plan_counts(&wanted), kept.plan_counts(&wanted), "step {step}");
            assert_eq!(document(&memory, of, named), document(&*kept, of, named));
        }
        assert_eq!(rows(&memory, WantedPlans::Scheduled), rows(&*kept, WantedPlans::Scheduled));
    }
}
