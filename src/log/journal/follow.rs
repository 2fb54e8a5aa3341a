//! Messages that other nodes have written take the same way as those written here. If a message is the next one of its
//! project, subscribers receive it byte for byte as the other node sent it, and runs of other nodes are folded as they
//! progress; usually nothing has to be read for this. If something is missing, or a project has changed in a way that
//! no message shows, that project is read again.
//!
//! Progress of the items of a step is known only to the node that runs it: no message carries it.

use super::batch::Batch;
use super::{Journal, Outcome};
use crate::log::protocol::{Command, Delivery, Order};
use crate::log::store::{Followed, PlaceInRun, RunNumber, StoreError, StoredMessage};
use crate::log::views::read_event;
use crate::model::{Notable, Now, ProjectId, RunEvent, RunEventKind};

impl Journal {
    /// Takes the news of other nodes out of `commands`, and applies it before anything else. Returns the commands that
    /// follow from it.
    pub(super) fn hear_others(
        &mut self,
        commands: &mut Vec<Command>,
        writes: &mut Vec<Command>,
        now: Now,
        outcome: &mut Outcome,
    ) -> Vec<Command> {
        let is_theirs = |it: &mut Command| {
            matches!(it, Command::Follow(_) | Command::Adopt(_) | Command::Fence | Command::Abandoned(_))
        };
        let (mut moved, mut doubtful, mut to_do) = (Vec::new(), Vec::new(), Vec::new());
        for command in commands.extract_if(.., is_theirs) {
            match command {
                Command::Fence => self.fence(&Batch::default(), now, outcome),
                Command::Abandoned(number) => self.has_abandoned(number, writes, now, outcome),
                Command::Adopt(projects) => moved.extend(projects),
                Command::Follow(followed) if !self.is_stale => {
                    for of in followed {
                        match self.follow(&of, now, &mut to_do, outcome) {
                            Learnt::All => {}
                            Learnt::NotAll => moved.push(of.project),
                            Learnt::Nothing => doubtful.push(of.project),
                        }
                    }
                }
                _ => {}
            }
        }
        if let Err(error) = self.learn_rest(moved, &doubtful, now, outcome) {
            self.is_stale = true;
            self.doubt(&error, now, outcome);
        }
        to_do
    }

    /// Reads again what messages alone do not show.
    fn learn_rest(
        &mut self,
        mut moved: Vec<ProjectId>,
        doubtful: &[ProjectId],
        now: Now,
        outcome: &mut Outcome,
    ) -> Result<(), StoreError> {
        if self.is_stale {
            return Ok(());
        }
        if !doubtful.is_empty() {
            let standings = self.store.standings(doubtful)?;
            // Projects that the store no longer knows have changed, too.
            let is_unknown = |project: &&ProjectId| !standings.iter().any(|it| it.project == **project);
            moved.extend(doubtful.iter().filter(is_unknown).cloned());
            let has_moved = standings.into_iter().filter(|it| !self.is_at(it));
            moved.extend(has_moved.map(|it| it.project));
        }
        moved.sort_unstable();
        moved.dedup();
        match moved.is_empty() {
            true => Ok(()),
            false => self.catch_up(&moved, now, outcome),
        }
    }

    /// Applies the news of a project.
    fn follow(&mut self, followed: &Followed, now: Now, to_do: &mut Vec<Command>, outcome: &mut Outcome) -> Learnt {
        let project = &followed.project;
        // A project that was dropped meanwhile is read when it is needed.
        let Some(entry) = self.projects.get(project) else { return Learnt::All };
        let (newest, is_watched, is_revised) = (entry.newest, entry.is_watched, entry.revision < followed.revision);
        let known = followed.messages.iter().take_while(|message| message.seq <= newest).count();
        let next = &followed.messages[known..];
        if next.iter().zip(newest + 1..).any(|(message, seq)| message.seq != seq) {
            return Learnt::NotAll;
        }
        if is_watched && !next.is_empty() {
            let frames = self.frames_of(project, newest + 1, next);
            outcome.deliveries.push(Delivery::Frames { project: project.clone(), frames });
        }
        let mut is_all = !is_revised;
        for message in next {
            is_all &= self.follow_message(project, message, now, to_do, outcome);
        }
        match followed.messages.is_empty() && is_all {
            // This node itself has revised it since, or what came is gone from history.
            true => Learnt::Nothing,
            false if is_all => Learnt::All,
            false => Learnt::NotAll,
        }
    }

    /// Learns of the next message of a project. Is it known what it is about?
    fn follow_message(
        &mut self,
        project: &ProjectId,
        message: &StoredMessage,
        now: Now,
        to_do: &mut Vec<Command>,
        outcome: &mut Outcome,
    ) -> bool {
        if let Some(entry) = self.projects.get_mut(project) {
            (entry.newest, entry.last_activity, entry.is_kept) = (message.seq, now.wall, true);
        }
        self.touched.project(project);
        let Some(number) = message.run else { return true };
        if !self.runs.get(&number).is_some_and(|run| run.is_foreign && !run.state.status.is_ended()) {
            // It may be a run of this node that another has taken over, before this one hears that it was fenced.
            self.unfolded.insert(number);
            return false;
        }
        match self.fold_in(number, message) {
            Ok(Some(event)) => self.heed(project, number, &event, to_do, outcome).is_ok(),
            Ok(None) => message.place != PlaceInRun::Last,
            Err(why) => {
                log::debug!("cannot follow a run of another node: {why}");
                // The end of the run is read anyway.
                message.place != PlaceInRun::Last
            }
        }
    }

    /// Folds a message of a run that other nodes run into its state. Returns its event, if that changes the run.
    ///
    /// # Errors
    /// If the message can't be read.
    pub(super) fn fold_in(&mut self, number: RunNumber, message: &StoredMessage) -> Result<Option<RunEvent>, String> {
        let bytes_max = self.limits.state_outputs_bytes;
        let Some(entry) = self.runs.get_mut(&number) else { return Ok(None) };
        entry.note(message);
        if message.place == PlaceInRun::Middle || entry.is_broken {
            return Ok(None);
        }
        match read_event(message) {
            Ok(event) => {
                // Outputs that are left out are stored separately.
                entry.fold().apply(&event, bytes_max);
                entry.has_items |= matches!(&event.kind, RunEventKind::Progress(said) if said.items.is_some());
                Ok(Some(event))
            }
            Err(error) => {
                entry.is_broken = true;
                Err(format!("cannot read message {}: {error}", message.seq))
            }
        }
    }

    /// A run of another node has moved on.
    fn heed(
        &mut self,
        project: &ProjectId,
        number: RunNumber,
        event: &RunEvent,
        to_do: &mut Vec<Command>,
        outcome: &mut Outcome,
    ) -> Result<(), StoreError> {
        self.note_wait(number, event);
        self.touched.run(project, number);
        let told = |notable| self.webhooks.filters.iter().any(|filter| filter.wants(notable, project));
        outcome.has_due |= Notable::of(event).is_some_and(told);
        match event.is_last() {
            true => self.end_foreign(project, number, event, to_do, outcome),
            false => Ok(()),
        }
    }

    /// A run of another node has ended: its parent on this node continues, and its children on this node are cancelled.
    fn end_foreign(
        &mut self,
        project: &ProjectId,
        number: RunNumber,
        event: &RunEvent,
        to_do: &mut Vec<Command>,
        outcome: &mut Outcome,
    ) -> Result<(), StoreError> {
        self.open_runs -= 1;
        self.waits.remove(&number);
        let plan = self.runs.get_mut(&number).and_then(|run| run.plan.take());
        let (end, children) = self.leave_family(project, event, number);
        if let Some(end) = end.filter(|end| self.run_here(project, &end.parent).is_some()) {
            outcome.orders.push(Order::ChildEnded { project: project.clone(), end: Box::new(end) });
        }
        let entry = self.entry(project)?;
        entry.open_runs.remove(&number);
        entry.open_by_id.remove(&event.run_id);
        self.show_ended(number, project, event.timestamp)?;
        if let Some(group) = plan.as_ref().and_then(|plan| plan.concurrency.as_ref()) {
            let released = self.to_release(project, &group.group);
            outcome.orders.extend(released.into_iter().filter_map(|number| self.release(project, number)));
        }
        let here = children.iter().filter_map(|child| self.runs.get(child));
        let here = here.filter(|run| !run.is_foreign && !run.is_cancelled && !run.state.status.is_ended());
        to_do.extend(here.map(|run| {
            let (project, run) = (project.clone(), run.state.run_id.clone());
            Command::Cancel { project, run, reply: None }
        }));
        Ok(())
    }
}

/// How much is known of a project after what has come.
enum Learnt {
    All,
    NotAll,
    /// Nothing came, although the project was said to have changed.
    Nothing,
}
