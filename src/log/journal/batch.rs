//! What a batch of commands has changed so far, and what it will let out once it is kept.
//!
//! It is made of parts, one for each project: what was made of one alone can be dropped, where another has written to that
//! project, and made anew.

use std::collections::{HashMap, HashSet};

use super::Outcome;
use crate::log::frames::Frames;
use crate::log::protocol::{Answer, Command, Delivery, Order, ReplyTo};
use crate::log::store::{Head, KeyRow, RunMap, RunNumber, RunRow, Write};
use crate::log::work::WorkCounts;
use crate::model::ProjectId;

/// What a batch has changed so far, and what it will let out.
#[derive(Default)]
pub(super) struct Batch {
    writes: Vec<Write>,
    /// In which part each of them is; those that are no project's are in none.
    owners: Vec<Option<Place>>,
    /// Of each part its project, and where that was before.
    heads: Vec<Head>,
    parts: Vec<Part>,
    places: HashMap<ProjectId, Place>,
    /// The part that was written to last: most often the next write is there, too.
    current: usize,
    /// Each with the place of its command.
    replies: Vec<(usize, ReplyTo, Answer)>,
    /// Each with its part.
    orders: Vec<(Place, Order)>,
    /// That it was committed, and what there is then.
    pub(super) work: WorkCounts,
    /// Batches of records that it keeps.
    pub(super) kept: u64,
    /// What all keys weigh that it binds.
    pub(super) key_bytes: u64,
    /// There is something that webhooks are to be told.
    pub(super) has_due: bool,
}

/// Where a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Place(usize);

/// What a batch changes of one project, beside its writes.
#[derive(Default)]
struct Part {
    /// For those who watch it.
    frames: Option<Frames>,
    work: WorkCounts,
    /// The runs that it has taken on and the keys that it binds, for a call that comes twice within it.
    created: RunMap<RunRow>,
    keys: HashMap<String, KeyRow>,
    /// What the keys weigh.
    key_bytes: u64,
    /// How often it was made anew.
    conflicts: u32,
}

impl Batch {
    /// A batch with room for what these commands write and are answered, or most of it.
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

    /// The part of a project, whose newest message is `newest` where the batch has none of it so far.
    pub(super) fn part(&mut self, project: &ProjectId, newest: u64) -> Place {
        if self.heads.get(self.current).is_none_or(|head| head.project != *project) {
            self.current = match self.places.get(project) {
                Some(place) => place.0,
                None => {
                    self.places.insert(project.clone(), Place(self.parts.len()));
                    self.heads.push(Head { project: project.clone(), newest });
                    self.parts.push(Part::default());
                    self.parts.len() - 1
                }
            };
        }
        Place(self.current)
    }

    /// Keeps something of a project.
    pub(super) fn write(&mut self, part: Place, write: Write) {
        self.owners.push(Some(part));
        self.writes.push(write);
    }

    /// Keeps something that is no project's.
    pub(super) fn write_beside(&mut self, write: Write) {
        self.owners.push(None);
        self.writes.push(write);
    }

    pub(super) fn create(&mut self, part: Place, number: RunNumber, row: RunRow) {
        let Self { heads, parts, .. } = self;
        let project = heads[part.0].project.clone();
        parts[part.0].created.insert(number, row.clone());
        self.write(part, Write::RunCreated { number, project, row: Box::new(row) });
    }

    pub(super) fn keep_key(&mut self, part: Place, row: KeyRow) {
        let bytes = row.weight();
        self.key_bytes += bytes;
        let of_part = &mut self.parts[part.0];
        of_part.key_bytes += bytes;
        of_part.keys.insert(row.name.clone(), row.clone());
        self.write(part, Write::Key(Box::new(row)));
    }

    /// The frames of a project whose next message is `seq`.
    pub(super) fn frames(&mut self, part: Place, seq: u64) -> &mut Frames {
        self.parts[part.0].frames.get_or_insert_with(|| Frames::starting_at(seq))
    }

    pub(super) fn work_of(&mut self, part: Place) -> &mut WorkCounts {
        &mut self.parts[part.0].work
    }

    pub(super) fn order(&mut self, part: Place, order: Order) {
        self.orders.push((part, order));
    }

    /// Answers the command in this place.
    pub(super) fn reply(&mut self, command: usize, to: &ReplyTo, answer: Answer) {
        self.replies.push((command, to.clone(), answer));
    }

    /// Where its projects were before.
    pub(super) fn heads(&self) -> &[Head] {
        &self.heads
    }

    /// What is to be kept.
    pub(super) fn writes(&self) -> &[Write] {
        &self.writes
    }

    fn part_of(&self, project: &ProjectId) -> Option<&Part> {
        self.places.get(project).map(|place| &self.parts[place.0])
    }

    /// What will be kept of a key.
    pub(super) fn key(&self, project: &ProjectId, name: &str) -> Option<&KeyRow> {
        self.part_of(project)?.keys.get(name)
    }

    /// What the keys of a project weigh that will be kept.
    pub(super) fn key_bytes_of(&self, project: &ProjectId) -> u64 {
        self.part_of(project).map_or(0, |part| part.key_bytes)
    }

    /// What will be kept of a run of this project that this batch has taken on.
    pub(super) fn created(&self, project: &ProjectId, number: RunNumber) -> Option<&RunRow> {
        self.part_of(project)?.created.get(&number)
    }

    /// How often the part of one of these projects was made anew that had to be most often.
    pub(super) fn conflicts(&self, projects: &[ProjectId]) -> u32 {
        let parts = projects.iter().filter_map(|project| self.part_of(project));
        parts.map(|part| part.conflicts).max().unwrap_or_default()
    }

    /// Drops what was made of these projects, which have come so far meanwhile, and the answers to the commands that
    /// are `theirs`.
    pub(super) fn begin_again(&mut self, heads: Vec<Head>, is_theirs: impl Fn(usize) -> bool) {
        let mut dropped = HashSet::with_capacity(heads.len());
        for head in heads {
            let Some(&Place(index)) = self.places.get(&head.project) else { continue };
            self.heads[index] = head;
            let old = std::mem::take(&mut self.parts[index]);
            self.key_bytes -= old.key_bytes;
            self.parts[index].conflicts = old.conflicts + 1;
            dropped.insert(Place(index));
        }
        let is_dropped = |owner: &Option<Place>| owner.is_some_and(|place| dropped.contains(&place));
        let mut owners = self.owners.iter();
        self.writes.retain(|_| !owners.next().is_some_and(is_dropped));
        self.owners.retain(|owner| !is_dropped(owner));
        self.orders.retain(|(place, _)| !dropped.contains(place));
        self.replies.retain(|(command, ..)| !is_theirs(*command));
    }

    /// It is kept: everything may be told.
    pub(super) fn release(self, to: &mut Outcome) {
        let mut work = WorkCounts::default();
        to.has_due |= self.has_due;
        if self.kept > 0 {
            to.orders.push(Order::Kept(self.kept));
        }
        to.orders.extend(self.orders.into_iter().map(|(_, order)| order));
        for (part, head) in self.parts.into_iter().zip(self.heads) {
            work.add(&part.work);
            let frames = part.frames.map(|frames| Delivery::Frames { project: head.project, frames });
            to.deliveries.extend(frames);
        }
        to.deliveries.extend(self.replies.into_iter().map(|(_, to, answer)| Delivery::Reply { to, answer }));
        work.add(&self.work);
        if !work.is_empty() {
            to.deliveries.push(Delivery::Worked(work));
        }
    }
}
