//! Handles the requests of others to change an active run. Each gets exactly one verdict, after the message that it
//! caused.

use super::{Effects, Run};
use crate::model::{Now, Record, Steer, Steering, SteeringError, Verdict};

impl Run {
    /// Carries out a wish. The verdict is reported before anything that follows from it.
    pub fn steer(&mut self, steer: Steer, now: Now, out: &mut Effects) {
        let answer = match &steer.what {
            _ if self.is_ended() => Err(SteeringError::RunEnded),
            Steering::Decide(decide) => self.decide(decide, &steer.by, now, out),
            Steering::Change(change) => self.change_plan(change, &steer.by, now, out),
        };
        let (project, run) = (self.project.clone(), self.state.run_id.clone());
        out.records.push(Record::Verdict { project, run, verdict: Box::new(Verdict { id: steer.id, answer }) });
        // A queued run, before its first message or after a restart, does nothing before it is started.
        if self.is_going {
            self.advance(now, out);
        }
    }
}
