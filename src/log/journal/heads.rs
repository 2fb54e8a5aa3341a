//! Records which projects and active runs a batch has touched, and publishes their new state after the commit and
//! before anything of it is delivered. So a list shows everything that the client has seen, and listing thousands costs
//! the log nothing.

use std::collections::BTreeMap;

use super::{Journal, ProjectEntry, RunEntry};
use crate::log::lookup::heads::{ProjectHead, RunHead, Watchers};
use crate::log::store::RunNumber;
use crate::model::{ProjectId, RunState};

/// The changes since heads were last published.
#[derive(Debug, Default)]
pub(super) struct Touched {
    projects: Vec<ProjectId>,
    runs: Vec<(ProjectId, RunNumber)>,
    /// Anything may have.
    all: bool,
}

impl Touched {
    /// Whatever there is, it was read again.
    pub(super) fn all() -> Self {
        Self { all: true, ..Self::default() }
    }

    pub(super) fn project(&mut self, project: &ProjectId) {
        if self.projects.last() != Some(project) {
            self.projects.push(project.clone());
        }
    }

    pub(super) fn run(&mut self, project: &ProjectId, number: RunNumber) {
        if self.runs.last().is_none_or(|(_, last)| *last != number) {
            self.runs.push((project.clone(), number));
        }
    }
}

impl Journal {
    /// How many watch each project, for the loop to say.
    pub fn watchers(&self) -> Watchers {
        self.heads.watchers.clone()
    }

    /// Publishes the changes. Called after a commit, before anything of it is delivered.
    pub(super) fn publish_heads(&mut self) {
        let Touched { projects, runs, all } = std::mem::take(&mut self.touched);
        if all {
            self.say_all_standings();
            return self.publish_all_heads();
        }
        self.say_standings(projects.iter().chain(runs.iter().map(|(project, _)| project)));
        if !projects.is_empty() {
            let head = |project| {
                let head = self.projects.get(&project).map(ProjectHead::of);
                (project, head)
            };
            self.heads.projects.say(projects.into_iter().map(head));
        }
        if !runs.is_empty() {
            let head = |(project, number)| {
                let head = self.runs.get(&number).and_then(RunHead::of_open);
                ((project, number), head)
            };
            self.heads.runs.say(runs.into_iter().map(head));
        }
    }

    fn publish_all_heads(&self) {
        let (mut projects, mut runs) = (BTreeMap::new(), BTreeMap::new());
        for (project, entry) in &self.projects {
            projects.insert(project.clone(), ProjectHead::of(entry));
            for &number in &entry.open_runs {
                let head = self.runs.get(&number).and_then(RunHead::of_open);
                runs.extend(head.map(|head| ((project.clone(), number), head)));
            }
        }
        self.heads.projects.say_all(projects);
        self.heads.runs.say_all(runs);
    }
}

impl ProjectHead {
    fn of(entry: &ProjectEntry) -> Self {
        Self { active_runs: entry.open_runs.len(), last_activity: entry.last_activity }
    }
}

impl RunHead {
    fn of_open(run: &RunEntry) -> Option<Self> {
        let RunState { run_id, plan_name, status, progress, created_at, started_at, retry_of, usage, .. } = &*run.state;
        (!status.is_ended()).then(|| Self {
            run_id: run_id.clone(),
            plan_name: plan_name.clone(),
            status: *status,
            progress: *progress,
            parent: run.state.parent.clone(),
            created_at: *created_at,
            started_at: *started_at,
            retry_of: retry_of.clone(),
            usage: usage.clone(),
        })
    }
}
