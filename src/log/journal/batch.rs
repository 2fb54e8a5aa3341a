//! The changes that a batch of commands has made so far, and the output that it will release once it is committed.
//!
//! It consists of one part per project. If another node has written to a project, the part of that project can be
//! dropped and made again.

use std::collections::{HashMap, HashSet};

use super::Outcome;
use super::steering::Move;
use crate::log::frames::Frames;
use crate::log::protocol::{Answer, Command, Delivery, Order, ReplyTo};
use crate::log::store::{Head, KeyRow, PlanCounts, PlanRow, RunMap, RunNumber, RunRow, RunSet, Write};
use crate::log::work::WorkCounts;
use crate::model::{PlanName, ProjectId};

/// The changes of a batch so far, and its outputs.
#[derive(Default)]
pub(super) struct Batch {
    writes: Vec<Write>,
    /// The part of each write; none for writes that belong to no project.
    owners: Vec<Option<PartIndex>>,
    /// For each part its project, and the head of the project before the batch.
    heads: Vec<Head>,
    parts: Vec<Part>,
    part_of: HashMap<ProjectId, PartIndex>,
    /// The part of the last write: most often the next write has the same part.
    current: usize,
    /// Each with the index of its command.
    replies: Vec<(usize, ReplyTo, Answer)>,
    /// Each with its part.
    orders: Vec<(PartIndex, Order)>,
    /// Runs that begin or stop waiting for others of their group, each with its part.
    holds: Vec<(PartIndex, RunNumber, bool)>,
    /// Changes of wishes for runs, each with its part.
    steerings: Vec<(PartIndex, Move)>,
    /// Answers to commands of earlier batches.
    late_replies: Vec<(ReplyTo, Answer)>,
    /// The counts of the batch, with the gauges after it.
    pub(super) work: WorkCounts,
    /// The number of batches of records that it stores.
    pub(super) kept: u64,
    /// The weight of the keys that it binds.
    pub(super) key_bytes: u64,
    /// It has new events for webhooks.
    pub(super) has_due: bool,
    /// Its changes of stored plans.
    pub(super) plans: ChangedPlans,
    /// It changes or removes a schedule.
    pub(super) has_schedules: bool,
}

/// The changes of a batch to stored plans.
#[derive(Default)]
pub(super) struct ChangedPlans {
    /// The new rows; none for a removed plan.
    pub(super) changed: HashMap<(ProjectId, PlanName), Option<PlanRow>>,
    /// The growth of each project.
    of_projects: HashMap<ProjectId, MorePlans>,
}

/// The growth in stored plans.
#[derive(Debug, Default)]
struct MorePlans {
    all: i64,
    /// The plans with a schedule.
    scheduled: i64,
    /// Their weight.
    bytes: i64,
}

impl ChangedPlans {
    /// Counts the change of a plan from `earlier` to `later`.
    pub(super) fn count(&mut self, project: &ProjectId, earlier: Option<&PlanRow>, later: Option<&PlanRow>) {
        for (row, sign) in [(earlier, -1), (later, 1)] {
            let Some(row) = row else { continue };
            let more = self.of_projects.entry(project.clone()).or_default();
            more.all += sign;
            more.scheduled += sign * i64::from(row.schedule.is_some());
            more.bytes += sign * row.weight().cast_signed();
        }
    }

    /// Drops the changes of this project.
    fn forget(&mut self, project: &ProjectId) {
        self.of_projects.remove(project);
        self.changed.retain(|(of, _), _| of != project);
    }
}

/// The index of a part in its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PartIndex(usize);

/// The changes of a batch to one project, besides its writes.
#[derive(Default)]
struct Part {
    /// The frames for its streams.
    frames: Option<Frames>,
    work: WorkCounts,
    /// The runs that it creates and the keys that it binds, for a call that comes twice within the batch.
    created: RunMap<RunRow>,
    keys: HashMap<String, KeyRow>,
    /// The weight of the keys.
    key_bytes: u64,
    /// How often it was made again.
    conflicts: u32,
}

impl Batch {
    /// A batch with room for most of the writes and answers of these commands.
    pub(super) fn with_room_for(commands: &[Command]) -> Self {
        let writes = |command: &Command| match command {
            Command::Records(records) => records.len(),
            Command::Publish { events, .. } => events.len(),
            _ => 1,
        };
        let writes = commands.iter().map(writes).sum();
        Self {
            writes: Vec::with_capacity(writes),
            owners: Vec::with_capacity(writes),
            replies: Vec::with_capacity(commands.len()),
            ..Self::default()
        }
    }

    /// The part of a project. A new part begins at this head.
    pub(super) fn part(&mut self, project: &ProjectId, (newest, revision): (u64, u64)) -> PartIndex {
        if self.heads.get(self.current).is_none_or(|head| head.project != *project) {
            self.current = match self.part_of.get(project) {
                Some(part) => part.0,
                None => {
                    self.part_of.insert(project.clone(), PartIndex(self.parts.len()));
                    self.heads.push(Head { project: project.clone(), newest, revision });
                    self.parts.push(Part::default());
                    self.parts.len() - 1
                }
            };
        }
        PartIndex(self.current)
    }

    /// Adds a write of a project.
    pub(super) fn write(&mut self, part: PartIndex, write: Write) {
        self.owners.push(Some(part));
        self.writes.push(write);
    }

    /// Adds a write that belongs to no project.
    pub(super) fn write_beside(&mut self, write: Write) {
        self.owners.push(None);
        self.writes.push(write);
    }

    pub(super) fn create(&mut self, part: PartIndex, number: RunNumber, row: RunRow) {
        let Self { heads, parts, .. } = self;
        let project = heads[part.0].project.clone();
        parts[part.0].created.insert(number, row.clone());
        self.write(part, Write::RunCreated { number, project, row: Box::new(row) });
    }

    pub(super) fn keep_key(&mut self, part: PartIndex, row: KeyRow) {
        let bytes = row.weight();
        self.key_bytes += bytes;
        let of_part = &mut self.parts[part.0];
        of_part.key_bytes += bytes;
        of_part.keys.insert(row.name.clone(), row.clone());
        self.write(part, Write::Key(Box::new(row)));
    }

    /// The frames of a project, whose next message is `seq`.
    pub(super) fn frames(&mut self, part: PartIndex, seq: u64) -> &mut Frames {
        self.parts[part.0].frames.get_or_insert_with(|| Frames::starting_at(seq))
    }

    pub(super) fn work_of(&mut self, part: PartIndex) -> &mut WorkCounts {
        &mut self.parts[part.0].work
    }

    pub(super) fn order(&mut self, part: PartIndex, order: Order) {
        self.orders.push((part, order));
    }

    /// A run begins or stops waiting for others of its group.
    pub(super) fn hold(&mut self, part: PartIndex, number: RunNumber, is_held: bool) {
        self.holds.push((part, number, is_held));
    }

    /// These changes, in order.
    pub(super) fn holds(&self) -> impl Iterator<Item = (RunNumber, bool)> {
        self.holds.iter().map(|&(_, number, is_held)| (number, is_held))
    }

    /// Changes a wish.
    pub(super) fn steer(&mut self, part: PartIndex, moved: Move) {
        self.steerings.push((part, moved));
    }

    /// The changes of wishes.
    pub(super) fn steerings(&self) -> impl Iterator<Item = &Move> {
        self.steerings.iter().map(|(_, moved)| moved)
    }

    /// How many wishes it sends on their way.
    pub(super) fn steerings_begun(&self) -> usize {
        self.steerings().filter(|moved| matches!(moved, Move::Begun(..))).count()
    }

    pub(super) fn take_steerings(&mut self) -> impl Iterator<Item = Move> + use<> {
        std::mem::take(&mut self.steerings).into_iter().map(|(_, moved)| moved)
    }

    /// Answers a command of an earlier batch.
    pub(super) fn tell(&mut self, to: ReplyTo, answer: Answer) {
        self.late_replies.push((to, answer));
    }

    /// Answers the command in this place.
    pub(super) fn reply(&mut self, command: usize, to: &ReplyTo, answer: Answer) {
        self.replies.push((command, to.clone(), answer));
    }

    /// Where its projects were before.
    pub(super) fn heads(&self) -> &[Head] {
        &self.heads
    }

    /// The writes.
    pub(super) fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// The projects whose heads are no longer those from before the batch.
    pub(super) fn moved(&self, heads: &[Head]) -> HashSet<ProjectId> {
        let has_moved = |head: &&Head| !self.heads.contains(head);
        heads.iter().filter(has_moved).map(|head| head.project.clone()).collect()
    }

    /// Removes the writes at these indexes, and returns them.
    pub(super) fn leave_out(&mut self, places: &[usize]) -> Vec<Write> {
        let mut place = 0..;
        let mut is_left_out = || place.next().is_some_and(|place| places.contains(&place));
        let left_out = self.writes.extract_if(.., |_| is_left_out()).collect();
        let mut place = 0..;
        self.owners.retain(|_| place.next().is_some_and(|place| !places.contains(&place)));
        left_out
    }

    /// What applications have published that waits no more once it is kept.
    pub(super) fn drained(&self) -> HashSet<u64> {
        let ids = self.writes.iter().filter_map(|write| match write {
            Write::Drained(ids) => Some(ids.iter().copied()),
            _ => None,
        });
        ids.flatten().collect()
    }

    /// The runs with writes.
    pub(super) fn runs(&self) -> RunSet {
        let run = |write: &Write| match write {
            Write::Message(message, _) => message.run,
            Write::RunCreated { number, .. }
            | Write::Document { number, .. }
            | Write::CancelRequested(number)
            | Write::RunEnded { number, .. } => Some(*number),
            _ => None,
        };
        self.writes.iter().filter_map(run).collect()
    }

    /// The writes that belong to a project, each with the head of the project.
    fn owned(&self) -> impl Iterator<Item = (&Head, &Write)> {
        let owned = self.owners.iter().zip(&self.writes);
        owned.filter_map(|(owner, write)| Some((&self.heads[owner.as_ref()?.0], write)))
    }

    /// The projects whose revision is one more once it is kept.
    pub(super) fn raised(&self) -> HashSet<&ProjectId> {
        let raised = self.owned().filter(|(_, write)| write.raises_revision());
        raised.map(|(head, _)| &head.project).collect()
    }

    fn part_of(&self, project: &ProjectId) -> Option<&Part> {
        self.part_of.get(project).map(|place| &self.parts[place.0])
    }

    /// What will be kept of a key.
    pub(super) fn key(&self, project: &ProjectId, name: &str) -> Option<&KeyRow> {
        self.part_of(project)?.keys.get(name)
    }

    /// The weight of the new keys of a project.
    pub(super) fn key_bytes_of(&self, project: &ProjectId) -> u64 {
        self.part_of(project).map_or(0, |part| part.key_bytes)
    }

    /// Does a run end in it?
    pub(super) fn ends(&self, run: RunNumber) -> bool {
        self.writes.iter().any(|write| matches!(write, Write::RunEnded { number, .. } if *number == run))
    }

    /// How many runs it has taken on.
    pub(super) fn taken_on(&self) -> usize {
        self.parts.iter().map(|part| part.created.len()).sum()
    }

    /// The runs of these projects that it asks to end.
    pub(super) fn cancels(&self, is_one: impl Fn(&ProjectId) -> bool) -> impl Iterator<Item = RunNumber> {
        self.owned().filter_map(move |(head, write)| match write {
            Write::CancelRequested(number) if is_one(&head.project) => Some(*number),
            _ => None,
        })
    }

    /// What will be kept of a run of this project that this batch has taken on.
    pub(super) fn created(&self, project: &ProjectId, number: RunNumber) -> Option<&RunRow> {
        self.part_of(project)?.created.get(&number)
    }

    /// A stored plan that it changes, as it will be.
    pub(super) fn plan(&self, project: &ProjectId, name: &PlanName) -> Option<Option<&PlanRow>> {
        if self.plans.changed.is_empty() {
            return None;
        }
        self.plans.changed.get(&(project.clone(), name.clone())).map(Option::as_ref)
    }

    /// How much will be stored, where so much is.
    pub(super) fn plan_counts(&self, stored: PlanCounts, project: &ProjectId) -> PlanCounts {
        let of_project = self.plans.of_projects.get(project).map_or(0, |more| more.all);
        let sum = |of: fn(&MorePlans) -> i64| self.plans.of_projects.values().map(of).sum();
        PlanCounts {
            of_project: stored.of_project.saturating_add_signed(of_project),
            scheduled: stored.scheduled.saturating_add_signed(sum(|more| more.scheduled)),
            bytes: stored.bytes.saturating_add_signed(sum(|more| more.bytes)),
        }
    }

    /// How often the part of one of these projects was made again that had to be most often.
    pub(super) fn conflicts(&self, projects: &[ProjectId]) -> u32 {
        let parts = projects.iter().filter_map(|project| self.part_of(project));
        parts.map(|part| part.conflicts).max().unwrap_or_default()
    }

    /// Drops what was made of these projects, which have come so far meanwhile, and the answers to the commands that
    /// are `theirs`.
    pub(super) fn begin_again(&mut self, heads: Vec<Head>, is_theirs: impl Fn(usize) -> bool) {
        let mut dropped = HashSet::with_capacity(heads.len());
        for head in heads {
            let Some(&PartIndex(index)) = self.part_of.get(&head.project) else { continue };
            self.plans.forget(&head.project);
            self.heads[index] = head;
            let old = std::mem::take(&mut self.parts[index]);
            self.key_bytes -= old.key_bytes;
            self.parts[index].conflicts = old.conflicts + 1;
            dropped.insert(PartIndex(index));
        }
        let is_dropped = |owner: &Option<PartIndex>| owner.is_some_and(|part| dropped.contains(&part));
        let mut owners = self.owners.iter();
        self.writes.retain(|_| !owners.next().is_some_and(is_dropped));
        self.owners.retain(|owner| !is_dropped(owner));
        self.orders.retain(|(place, _)| !dropped.contains(place));
        self.holds.retain(|(place, ..)| !dropped.contains(place));
        self.steerings.retain(|(place, _)| !dropped.contains(place));
        self.replies.retain(|(command, ..)| !is_theirs(*command));
    }

    /// The batch is committed: passes its outputs on.
    pub(super) fn release(self, to: &mut Outcome) {
        let mut work = WorkCounts::default();
        to.has_due |= self.has_due;
        to.has_schedules |= self.has_schedules;
        if self.kept > 0 {
            to.orders.push(Order::Kept(self.kept));
        }
        to.orders.extend(self.orders.into_iter().map(|(_, order)| order));
        for (part, head) in self.parts.into_iter().zip(self.heads) {
            work.add(&part.work);
            let frames = part.frames.map(|frames| Delivery::Frames { project: head.project, frames });
            to.deliveries.extend(frames);
        }
        let replies = self.replies.into_iter().map(|(_, to, answer)| (to, answer)).chain(self.late_replies);
        to.deliveries.extend(replies.map(|(to, answer)| Delivery::Reply { to, answer }));
        work.add(&self.work);
        if !work.is_empty() {
            to.deliveries.push(Delivery::Worked(work));
        }
    }
}
