//! A batch as parameters for the database: one array per column, one statement for all rows of a kind.
//!
//! If the same row is written twice in a batch, only its last value is written. What must happen in order is kept in
//! order.

use std::collections::HashMap;

use tokio_postgres::types::ToSql;

use super::codes::{int, ms, run_key, status_code, stream_code};
use super::connection::Step;
use super::due_columns::DueColumns;
use super::plan_columns::PlanColumns;
use super::projects::{Projects, Tails};
use super::sql;
use crate::auth::TicketNote;
use crate::log::store::{
    Head, KEY_AGE_MS, KeyRow, Objection, PlanChange, RunNumber, RunRow, StoreError, WishId, WishRow, Write,
};
use crate::model::{ProjectId, StepId};

/// What an output's column of bytes has at most: what a step writes piece by piece is kept in larger ones.
const PIECE_BYTES: usize = 64 * 1024;

/// How long a key is bound.
const KEY_AGE: i64 = KEY_AGE_MS as i64;

/// See the top of this file.
pub(super) struct Columns<'w> {
    pub(super) projects: Projects<'w>,
    /// Runs whose projects' revisions are raised.
    revising: Vec<i64>,
    runs: Runs<'w>,
    documents: Last<'w, RunNumber, &'w [u8]>,
    cancels: Vec<i64>,
    items: Last<'w, (RunNumber, &'w StepId, u32), &'w [u8]>,
    outputs: Outputs<'w>,
    ended: Ended<'w>,
    pub(super) keys: Keys<'w>,
    tickets: Tickets,
    /// Where among the writes they are.
    ticket_places: Vec<usize>,
    due: DueColumns<'w>,
    plans: PlanColumns<'w>,
    wishes: Wishes<'w>,
    answered: AnsweredColumns<'w>,
    pub(super) drained: Vec<i64>,
    /// Bytes that are sent, about: a call with more of them may take longer.
    pub(super) weight: u64,
}

impl<'w> Columns<'w> {
    /// The columns of a batch.
    ///
    /// # Errors
    /// If something in it can't be kept.
    pub(super) fn of(expected: &'w [Head], entries: &'w [Write], tails: &Tails) -> Result<Self, Objection> {
        let mut columns = Self {
            projects: Projects::expected(expected),
            revising: Vec::new(),
            runs: Runs::default(),
            documents: Last::default(),
            cancels: Vec::new(),
            items: Last::default(),
            outputs: Outputs::default(),
            ended: Ended::default(),
            keys: Keys::default(),
            tickets: Tickets::default(),
            ticket_places: Vec::new(),
            due: DueColumns::default(),
            plans: PlanColumns::default(),
            wishes: Wishes::default(),
            answered: AnsweredColumns::default(),
            drained: Vec::new(),
            weight: entries.iter().map(sent_bytes).sum(),
        };
        for (place, write) in entries.iter().enumerate() {
            columns.add(place, write, tails)?;
        }
        Ok(columns)
    }

    fn add(&mut self, place: usize, write: &'w Write, tails: &Tails) -> Result<(), Objection> {
        match write {
            Write::Message(message, project) => self.projects.add_message(project, message, tails)?,
            Write::RunCreated { number, project, row } => {
                self.projects.add_run(project, (row.document.len() + row.answer.len()) as u64);
                self.projects.touch(project, true);
                self.runs.add(*number, project, row);
            }
            Write::Document { number, document } => {
                self.documents.put(*number, document);
                self.revising.push(run_key(*number));
            }
            Write::CancelRequested(number) => {
                self.cancels.push(run_key(*number));
                self.revising.push(run_key(*number));
            }
            Write::Key(row) => {
                self.projects.touch(&row.project, false);
                self.keys.add(row);
            }
            Write::RunEnded { number, status, summary, state, last_seq } => {
                self.ended.numbers.push(run_key(*number));
                self.ended.last_seqs.push(int(*last_seq));
                self.ended.statuses.push(status_code(*status));
                self.ended.summaries.push(summary);
                self.ended.states.push(state);
            }
            Write::Output { number, step, attempt, stream, bytes } => {
                self.outputs.add_piece(*number, step, *attempt, stream_code(*stream), bytes);
            }
            Write::Whole { number, step, json } => self.outputs.add_whole(*number, step, json),
            Write::OutputsKept { number, of, steps } => {
                steps.iter().for_each(|step| self.outputs.add_kept(*number, *of, step));
            }
            Write::Item { number, step, item, row } => self.items.put((*number, step, *item), row),
            Write::Ticket(note) => {
                self.tickets.add(note)?;
                self.ticket_places.push(place);
            }
            Write::Outbox(change) => self.due.add(change),
            Write::Plan(change) => {
                self.projects.touch(change.name().0, true);
                self.plans.add(change);
            }
            Write::Wish(row) => self.wishes.add(row),
            Write::WishAnswered { id, answer } => {
                self.answered.ids.push(&id.0);
                self.answered.answers.push(answer);
            }
            Write::Drained(ids) => self.drained.extend(ids.iter().map(|id| int(*id))),
        }
        Ok(())
    }

    /// Which of the writes are the tickets at these places among all tickets.
    pub(super) fn tickets_at(&self, places: &[usize]) -> Vec<usize> {
        places.iter().filter_map(|place| self.ticket_places.get(*place)).copied().collect()
    }

    pub(super) fn revising(&self) -> &Vec<i64> {
        &self.revising
    }

    /// What finds out which runs and keys are taken.
    pub(super) fn taken(&self) -> Vec<&(dyn ToSql + Sync)> {
        let Runs { numbers, projects, ids, .. } = &self.runs;
        let Keys { projects: of_keys, names, ats, .. } = &self.keys;
        vec![numbers, projects, ids, of_keys, names, ats, &KEY_AGE]
    }

    /// The statements that follow the messages.
    pub(super) fn steps<'c>(&'c self, rest: &'c Rest<'c>) -> Vec<Step<'c>> {
        let mut steps = Vec::new();
        let mut step = |is_there: bool, sql, values: Vec<&'c (dyn ToSql + Sync)>| {
            if is_there {
                steps.push(Step { sql, values });
            }
        };
        let r = &self.runs;
        step(
            !r.numbers.is_empty(),
            sql::NEW_RUNS,
            vec![
                &r.numbers,
                &r.projects,
                &r.ids,
                &r.ats,
                &r.bytes,
                &r.fingerprints,
                &r.documents,
                &r.answers,
                &rest.node,
            ],
        );
        let d = &rest.documents;
        step(!d.0.is_empty(), sql::PUT_DOCUMENTS, vec![&d.0, &d.1]);
        step(!self.cancels.is_empty(), sql::CANCEL_RUNS, vec![&self.cancels]);
        let i = &rest.items;
        step(!i.runs.is_empty(), sql::PUT_ITEMS, vec![&i.runs, &i.steps, &i.items, &i.rows]);
        let o = &self.outputs;
        step(
            !o.kinds.is_empty(),
            sql::KEEP_OUTPUTS,
            vec![&o.kinds, &o.numbers, &o.steps, &o.attempts, &o.streams, &o.bytes, &o.others],
        );
        let e = &self.ended;
        step(
            !e.numbers.is_empty(),
            sql::END_RUNS,
            vec![&e.numbers, &e.last_seqs, &e.statuses, &e.summaries, &e.states],
        );
        let k = &self.keys;
        step(
            !k.names.is_empty(),
            sql::BIND_KEYS,
            vec![&k.projects, &k.names, &k.ats, &k.bytes, &k.fingerprints, &k.answers, &KEY_AGE],
        );
        let t = &self.tickets;
        step(!t.notes.is_empty(), sql::NOTE_TICKETS, vec![&t.untils, &t.spents, &t.notes]);
        let w = &self.wishes;
        step(!w.ids.is_empty(), sql::NEW_WISHES, vec![&w.ids, &w.projects, &w.run_ids, &w.runs, &w.wishes]);
        let s = &self.answered;
        step(!s.ids.is_empty(), sql::SETTLE_WISHES, vec![&s.ids, &s.answers]);
        step(!self.drained.is_empty(), sql::DRAIN, vec![&self.drained]);
        steps.extend(self.due.steps());
        steps.extend(rest.plans.steps());
        steps
    }

    /// The newest state of everything, as columns.
    pub(super) fn rest<'c>(&'c self, node: &'c [u8]) -> Rest<'c> {
        let documents = self.documents.values().map(|(number, document)| (run_key(*number), *document)).unzip();
        let mut items = Items::default();
        for ((number, step, item), row) in self.items.values() {
            items.runs.push(run_key(*number));
            items.steps.push(step.as_str());
            items.items.push(i64::from(*item));
            items.rows.push(row);
        }
        Rest { node, documents, items, plans: self.plans.last() }
    }
}

/// Bytes that are sent of it, about. What is never large is not counted.
fn sent_bytes(write: &Write) -> u64 {
    match write {
        Write::Plan(PlanChange::Put(row, document)) => {
            let schedule = row.schedule.as_ref().map_or(0, |schedule| schedule.len());
            let document = document.as_ref().map_or(0, |document| document.len());
            (row.summary.len() + schedule + row.firings.len() + document) as u64
        }
        Write::Key(row) => row.weight(),
        Write::Wish(row) => row.wish.len() as u64,
        Write::WishAnswered { answer, .. } => answer.len() as u64,
        write => write.history_bytes(),
    }
}

/// See [`Columns::rest`].
pub(super) struct Rest<'c> {
    node: &'c [u8],
    documents: (Vec<i64>, Vec<&'c [u8]>),
    items: Items<'c>,
    plans: super::plan_columns::LastPlans<'c>,
}

/// The newest value of each of several keys.
struct Last<'w, K, V> {
    places: HashMap<K, usize>,
    values: Vec<(K, V)>,
    _of: std::marker::PhantomData<&'w ()>,
}

impl<K, V> Default for Last<'_, K, V> {
    fn default() -> Self {
        Self { places: HashMap::new(), values: Vec::new(), _of: std::marker::PhantomData }
    }
}

impl<K: Copy + Eq + std::hash::Hash, V> Last<'_, K, V> {
    fn put(&mut self, key: K, value: V) {
        let place = *self.places.entry(key).or_insert(self.values.len());
        match self.values.get_mut(place) {
            Some(known) => known.1 = value,
            None => self.values.push((key, value)),
        }
    }

    fn values(&self) -> impl Iterator<Item = &(K, V)> {
        self.values.iter()
    }
}

#[derive(Default)]
struct Runs<'w> {
    numbers: Vec<i64>,
    projects: Vec<&'w str>,
    ids: Vec<&'w str>,
    ats: Vec<i64>,
    bytes: Vec<i64>,
    fingerprints: Vec<&'w [u8]>,
    documents: Vec<&'w [u8]>,
    answers: Vec<&'w [u8]>,
}

impl<'w> Runs<'w> {
    fn add(&mut self, number: RunNumber, project: &'w ProjectId, row: &'w RunRow) {
        self.numbers.push(run_key(number));
        self.projects.push(project.as_str());
        self.ids.push(row.run.as_str());
        self.ats.push(ms(row.created_at));
        self.bytes.push(int((row.document.len() + row.answer.len()) as u64));
        self.fingerprints.push(&row.fingerprint);
        self.documents.push(&row.document);
        self.answers.push(&row.answer);
    }
}

#[derive(Default)]
struct Items<'w> {
    runs: Vec<i64>,
    steps: Vec<&'w str>,
    items: Vec<i64>,
    rows: Vec<&'w [u8]>,
}

/// What steps wrote, in its order: kinds as the engine's function has them.
#[derive(Default)]
struct Outputs<'w> {
    kinds: Vec<i16>,
    numbers: Vec<i64>,
    steps: Vec<&'w str>,
    attempts: Vec<Option<i64>>,
    streams: Vec<i16>,
    bytes: Vec<std::borrow::Cow<'w, [u8]>>,
    others: Vec<Option<i64>>,
}

impl<'w> Outputs<'w> {
    /// Behind another of the same it is one with that.
    fn add_piece(&mut self, number: RunNumber, step: &'w StepId, attempt: u32, stream: i16, bytes: &'w [u8]) {
        let attempt = Some(i64::from(attempt));
        if let (Some(0), Some(last)) = (self.kinds.last(), self.kinds.len().checked_sub(1))
            && self.numbers[last] == run_key(number)
            && self.steps[last] == step.as_str()
            && (self.attempts[last], self.streams[last]) == (attempt, stream)
            && self.bytes[last].len() + bytes.len() <= PIECE_BYTES
        {
            return self.bytes[last].to_mut().extend_from_slice(bytes);
        }
        self.add(0, number, step, attempt, stream, bytes, None);
    }

    fn add_whole(&mut self, number: RunNumber, step: &'w StepId, json: &'w [u8]) {
        self.add(1, number, step, None, super::codes::WHOLE, json, None);
    }

    fn add_kept(&mut self, number: RunNumber, of: RunNumber, step: &'w StepId) {
        self.add(2, number, step, None, 0, &[], Some(run_key(of)));
    }

    #[expect(clippy::too_many_arguments)] // A row of as many columns.
    fn add(
        &mut self,
        kind: i16,
        number: RunNumber,
        step: &'w StepId,
        attempt: Option<i64>,
        stream: i16,
        bytes: &'w [u8],
        other: Option<i64>,
    ) {
        self.kinds.push(kind);
        self.numbers.push(run_key(number));
        self.steps.push(step.as_str());
        self.attempts.push(attempt);
        self.streams.push(stream);
        self.bytes.push(bytes.into());
        self.others.push(other);
    }
}

#[derive(Default)]
struct Ended<'w> {
    numbers: Vec<i64>,
    last_seqs: Vec<i64>,
    statuses: Vec<Option<i16>>,
    summaries: Vec<&'w [u8]>,
    states: Vec<&'w [u8]>,
}

#[derive(Default)]
pub(super) struct Keys<'w> {
    projects: Vec<&'w str>,
    names: Vec<&'w [u8]>,
    ats: Vec<i64>,
    bytes: Vec<i64>,
    fingerprints: Vec<&'w [u8]>,
    answers: Vec<&'w [u8]>,
}

impl<'w> Keys<'w> {
    fn add(&mut self, row: &'w KeyRow) {
        self.projects.push(row.project.as_str());
        self.names.push(row.name.as_bytes());
        self.ats.push(ms(row.at));
        self.bytes.push(int(row.weight()));
        self.fingerprints.push(&row.fingerprint);
        self.answers.push(&row.answer);
    }
}

#[derive(Default)]
struct Tickets {
    untils: Vec<i64>,
    spents: Vec<Option<String>>,
    notes: Vec<Vec<u8>>,
}

impl Tickets {
    fn add(&mut self, note: &TicketNote) -> Result<(), Objection> {
        let json = serde_json::to_vec(note).map_err(|error| Objection::Contradiction(StoreError(error.to_string())))?;
        self.untils.push(ms(note.until()));
        self.spents.push(note.spends().map(|nonce| nonce.to_string()));
        self.notes.push(json);
        Ok(())
    }
}

#[derive(Default)]
struct Wishes<'w> {
    ids: Vec<&'w [u8]>,
    projects: Vec<&'w str>,
    run_ids: Vec<&'w str>,
    runs: Vec<i64>,
    wishes: Vec<&'w [u8]>,
}

impl<'w> Wishes<'w> {
    fn add(&mut self, row: &'w WishRow) {
        let WishRow { id: WishId(id), project, run, number, wish } = row;
        self.ids.push(id);
        self.projects.push(project.as_str());
        self.run_ids.push(run.as_str());
        self.runs.push(run_key(*number));
        self.wishes.push(wish);
    }
}

#[derive(Default)]
struct AnsweredColumns<'w> {
    ids: Vec<&'w [u8]>,
    answers: Vec<&'w [u8]>,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::log::store::PlanRow;
    use crate::log::testing::{created, key, project};
    use crate::model::{PlanName, Timestamp};

    /// A batch that brought a large plan had no more time than one that brought nothing.
    #[test]
    fn whatever_is_large_counts_for_the_time_that_a_batch_may_take() {
        const LARGE: usize = 32 << 20;
        let plan = |document: Option<Arc<[u8]>>| {
            let row = PlanRow {
                project: project(),
                name: PlanName::parse("p").expect("a name"),
                tag: "t".into(),
                updated_at: Timestamp::default(),
                summary: Arc::default(),
                schedule: None,
                scheduled_at: Timestamp::default(),
                firings: Arc::default(),
                last_run: None,
                document_bytes: LARGE as u64,
            };
            Write::Plan(PlanChange::Put(Box::new(row), document))
        };
        let weight = |write| Columns::of(&[], &[write], &Tails::default()).expect("it can be kept").weight;
        let answer = vec![0; LARGE].into();
        let large = [
            plan(Some(vec![0; LARGE].into())),
            created(1, LARGE),
            key("k", 1, LARGE),
            Write::WishAnswered { id: WishId([1; 16]), answer },
        ];
        for write in large {
            assert!(weight(write) >= LARGE as u64);
        }
        assert!(weight(plan(None)) < 1024, "its document stays where it is");
    }
}
