//! What a batch adds to each project: its expected position, and how its messages extend its last segment.

use std::collections::HashMap;

use super::codes::{int, ms, place_code, run_key};
use crate::log::store::segment::Extent;
use crate::log::store::{Head, Objection, StoreError, StoredMessage};
use crate::model::{ProjectId, Timestamp};

/// Projects whose last segments are held in memory; at the limit all are forgotten, and new ones begin.
const TAILS_MAX: usize = 100_000;

/// The last segments of projects that this node has written or read. An outdated one is recognized by its last message.
#[derive(Default)]
pub(super) struct Tails(HashMap<ProjectId, Extent>);

impl Tails {
    pub(super) fn note(&mut self, project: &ProjectId, tail: Extent) {
        if self.0.len() >= TAILS_MAX && !self.0.contains_key(project) {
            self.0.clear();
        }
        self.0.insert(project.clone(), tail);
    }

    pub(super) fn forget(&mut self, project: &ProjectId) {
        self.0.remove(project);
    }

    pub(super) fn forget_all(&mut self) {
        self.0.clear();
    }

    /// The segment that message `seq` follows.
    fn before(&self, project: &ProjectId, seq: u64) -> Option<Extent> {
        self.0.get(project).copied().filter(|tail| tail.next_seq() == seq)
    }
}

/// The growth of a project in a batch.
struct Growth<'w> {
    name: &'w ProjectId,
    /// Its expected newest `seq`.
    newest: Option<u64>,
    revision: Option<u64>,
    /// Something of it changes that no message tells.
    raises: bool,
    /// It holds more than before.
    is_active: bool,
    messages: Vec<(&'w StoredMessage, u64)>,
    tail: Option<Extent>,
    /// The batch has begun that segment.
    is_new_tail: bool,
    message_bytes: u64,
    run_bytes: u64,
}

/// The growth of all projects in a batch, in the order of their names.
#[derive(Default)]
pub(super) struct Projects<'w> {
    growths: Vec<Growth<'w>>,
    places: HashMap<&'w ProjectId, usize>,
}

impl<'w> Projects<'w> {
    /// The projects with an expected head.
    pub(super) fn expected(heads: &'w [Head]) -> Self {
        let mut projects = Self::default();
        for head in heads {
            let growth = projects.of(&head.project);
            (growth.newest, growth.revision) = (Some(head.newest), Some(head.revision));
        }
        projects
    }

    fn of(&mut self, name: &'w ProjectId) -> &mut Growth<'w> {
        let place = *self.places.entry(name).or_insert_with(|| {
            self.growths.push(Growth {
                name,
                newest: None,
                revision: None,
                raises: false,
                is_active: false,
                messages: Vec::new(),
                tail: None,
                is_new_tail: false,
                message_bytes: 0,
                run_bytes: 0,
            });
            self.growths.len() - 1
        });
        &mut self.growths[place]
    }

    /// Something of it is written; whether that `raises` its revision.
    pub(super) fn touch(&mut self, name: &'w ProjectId, raises: bool) {
        self.of(name).raises |= raises;
    }

    /// A run of it is taken on.
    pub(super) fn add_run(&mut self, name: &'w ProjectId, bytes: u64) {
        let growth = self.of(name);
        growth.is_active = true;
        growth.run_bytes += bytes;
    }

    /// A message of it.
    ///
    /// # Errors
    /// If it does not go on from the one before.
    pub(super) fn add_message(
        &mut self,
        name: &'w ProjectId,
        message: &'w StoredMessage,
        tails: &Tails,
    ) -> Result<(), Objection> {
        let growth = self.of(name);
        let newest = *growth.newest.get_or_insert(message.seq.saturating_sub(1));
        if message.seq != newest + growth.messages.len() as u64 + 1 {
            let why = format!("message {} of {name} does not follow the message before it", message.seq);
            return Err(Objection::Contradiction(StoreError(why)));
        }
        if growth.messages.is_empty() {
            growth.tail = tails.before(name, message.seq);
        }
        growth.add(message);
        Ok(())
    }

    /// What becomes of the last segments where the batch is kept.
    pub(super) fn note_tails(&self, tails: &mut Tails) {
        for growth in &self.growths {
            if let Some(tail) = growth.tail.filter(|_| !growth.messages.is_empty()) {
                tails.note(growth.name, tail);
            }
        }
    }

    /// The project at this index of the columns.
    pub(super) fn name_at(&self, place: usize) -> Option<&'w ProjectId> {
        self.sorted().get(place).map(|growth| growth.name)
    }

    /// All of it, as an append takes it.
    pub(super) fn columns(&self) -> ProjectColumns<'w> {
        let mut columns = ProjectColumns::default();
        for (place, growth) in self.sorted().into_iter().enumerate() {
            columns.add(place, growth);
        }
        columns
    }

    fn sorted(&self) -> Vec<&Growth<'w>> {
        let mut sorted: Vec<_> = self.growths.iter().collect();
        sorted.sort_unstable_by_key(|growth| growth.name);
        sorted
    }
}

impl<'w> Growth<'w> {
    fn add(&mut self, message: &'w StoredMessage) {
        self.is_active = true;
        self.message_bytes += message.weight();
        let tail = match self.tail.filter(|tail| tail.takes(message, self.is_new_tail)) {
            Some(mut tail) => {
                tail.add(message);
                tail
            }
            None => {
                self.is_new_tail = true;
                Extent::begin(message)
            }
        };
        self.messages.push((message, tail.first_seq));
        self.tail = Some(tail);
    }
}

/// The parameters of an append that are of projects, and of their messages.
#[derive(Default)]
pub(super) struct ProjectColumns<'w> {
    pub(super) names: Vec<&'w str>,
    pub(super) heads: Vec<Option<i64>>,
    pub(super) revisions: Vec<Option<i64>>,
    pub(super) raises: Vec<bool>,
    pub(super) actives: Vec<bool>,
    pub(super) counts: Vec<i64>,
    pub(super) first_ats: Vec<i64>,
    pub(super) newest_ats: Vec<i64>,
    pub(super) message_bytes: Vec<i64>,
    pub(super) run_bytes: Vec<i64>,
    pub(super) tail_firsts: Vec<i64>,
    pub(super) tail_first_ats: Vec<i64>,
    pub(super) tail_bytes: Vec<i64>,
    pub(super) projects: Vec<i32>,
    pub(super) seqs: Vec<i64>,
    pub(super) ats: Vec<i64>,
    pub(super) segments: Vec<i64>,
    pub(super) runs: Vec<Option<i64>>,
    pub(super) places: Vec<i16>,
    pub(super) jsons: Vec<&'w [u8]>,
}

impl<'w> ProjectColumns<'w> {
    fn add(&mut self, place: usize, growth: &Growth<'w>) {
        let at = |at: Option<Timestamp>| ms(at.unwrap_or_default());
        self.names.push(growth.name.as_str());
        self.heads.push(growth.newest.map(int));
        self.revisions.push(growth.revision.map(int));
        self.raises.push(growth.raises);
        self.actives.push(growth.is_active);
        self.counts.push(int(growth.messages.len() as u64));
        self.first_ats.push(at(growth.messages.first().map(|(message, _)| message.at)));
        self.newest_ats.push(at(growth.messages.iter().map(|(message, _)| message.at).max()));
        self.message_bytes.push(int(growth.message_bytes));
        self.run_bytes.push(int(growth.run_bytes));
        let tail = growth.tail;
        self.tail_firsts.push(tail.map_or(0, |tail| int(tail.first_seq)));
        self.tail_first_ats.push(at(tail.map(|tail| tail.first_at)));
        self.tail_bytes.push(tail.map_or(0, |tail| int(tail.bytes)));
        // As SQL counts, from 1.
        let project = i32::try_from(place + 1).unwrap_or(i32::MAX);
        for (message, segment) in &growth.messages {
            self.projects.push(project);
            self.seqs.push(int(message.seq));
            self.ats.push(ms(message.at));
            self.segments.push(int(*segment));
            self.runs.push(message.run.map(run_key));
            self.places.push(place_code(message.place));
            self.jsons.push(&message.json);
        }
    }
}
