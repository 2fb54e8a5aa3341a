//! Broadcasts: what a project is told is kept once, and goes out in rounds over all of its streams.

use std::io::Write;

use super::ConnectionManager;
use crate::log::Frames;
use crate::model::{Now, ProjectId};

impl<S: Write> ConnectionManager<S> {
    /// A project's next messages: kept in its backlog and, at the next [`flush`](Self::flush), written to everyone
    /// who watches it.
    pub fn broadcast(&mut self, project: &ProjectId, frames: &Frames, now: Now) {
        let share = self.backlog_share();
        let Some(&index) = self.by_id.get(project) else { return };
        let project = &mut self.projects[index as usize];
        project.append(frames, share);
        if project.begin_pass(now.mono) {
            self.dirty.push_back(index);
        }
    }

    /// Makes up to `writes_max` writes of what was broadcast. `true` where there is more to do: then the next call begins
    /// with the next project, so that a large one does not keep the small ones waiting.
    pub fn flush(&mut self, writes_max: usize, now: Now) -> bool {
        let mut left = writes_max;
        while let Some(&index) = self.dirty.front() {
            if !self.flush_project(index, &mut left, now) {
                self.dirty.rotate_left(1);
                return true;
            }
            self.dirty.pop_front();
        }
        false
    }

    /// A slice of one project's round; `true` once it is over.
    fn flush_project(&mut self, index: u32, left: &mut usize, now: Now) -> bool {
        loop {
            let Some(project) = self.projects.get_mut(index as usize) else { return true };
            let newest = project.backlog.newest();
            let Some(pass) = &mut project.pass else { return true };
            let Some(&key) = project.streams.get(pass.next) else {
                if pass.newest < newest {
                    (pass.next, pass.newest) = (0, newest);
                    continue;
                }
                self.rounds_ended.push(pass.since);
                project.pass = None;
                return true;
            };
            if *left == 0 {
                return false;
            }
            pass.next += 1;
            *left -= 1;
            self.serve(key, now);
        }
    }
}
