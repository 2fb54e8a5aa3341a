//! If other nodes keep writing to a project, a node that has to read it again after each conflict would never succeed.
//! So after a few conflicts in a row the project is locked when it is read, and the next append is part of the same
//! transaction. This is the only transaction that waits for a node, for a short time.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use super::connection::Together;
use super::{Writing, sql};
use crate::log::store::Head;
use crate::model::ProjectId;

/// This many conflicts in a row are not unusual.
const CONFLICTS_MAX: u32 = 3;

/// What is known about contention.
#[derive(Default)]
pub(super) struct Contention {
    /// Conflicts in a row.
    conflicts: RefCell<HashMap<ProjectId, u32>>,
    /// The connection that is in the middle of such a transaction.
    locked: Cell<Option<u64>>,
}

impl Contention {
    pub(super) fn note_conflicts(&self, heads: &[Head]) {
        let mut conflicts = self.conflicts.borrow_mut();
        heads.iter().for_each(|head| *conflicts.entry(head.project.clone()).or_default() += 1);
    }

    pub(super) fn note_kept(&self) {
        self.conflicts.borrow_mut().clear();
    }
}

impl Writing {
    /// Is a transaction open that holds projects?
    pub(super) fn is_locked(&self) -> bool {
        let locked = self.contention.locked.get();
        locked.is_some() && locked == self.conn.borrow().made()
    }

    /// The transaction ends with what is done next. Was there one?
    pub(super) fn end_lock(&self) -> bool {
        let is_locked = self.is_locked();
        self.contention.locked.set(None);
        is_locked
    }

    /// Ends such a transaction without using it.
    pub(super) fn let_lock_go(&self) {
        if self.end_lock() {
            let mut conn = self.conn.borrow_mut();
            if conn.execute("ROLLBACK").is_err() {
                conn.let_go();
            }
        }
    }

    /// Holds those of these projects that there are conflicts of again and again.
    pub(super) fn lock_contended(&self, projects: &[ProjectId]) {
        self.let_lock_go();
        let names: Vec<&str> = {
            let conflicts = self.contention.conflicts.borrow();
            let is_contended = |project: &&ProjectId| conflicts.get(*project).is_some_and(|it| *it >= CONFLICTS_MAX);
            projects.iter().filter(is_contended).map(ProjectId::as_str).collect()
        };
        if names.is_empty() {
            return;
        }
        let mut conn = self.conn.borrow_mut();
        match conn.query_within(Together::Begun(sql::BEGIN_LOCKED), sql::LOCK_PROJECTS, &[&names]) {
            Ok(_) => self.contention.locked.set(conn.made()),
            Err(failure) => {
                log::debug!("{}: cannot lock a project: {failure}", conn.address().shown());
                if conn.is_made() && conn.execute("ROLLBACK").is_err() {
                    conn.let_go();
                }
            }
        }
    }
}
