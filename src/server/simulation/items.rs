//! The items of a step, and what a stream with `items=1` must be told of them: each change once and in order. If some
//! changes are left out, because the stream is new or was behind, it is shown the state of the items at that time.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::follower::Follower;
use super::model::Model;
use super::sse::Special;
use crate::model::{ITEM_SHOWN_BYTES_MAX, ItemMessage, ItemState, RunId, RunState, StepId, StepStatus};

/// What was kept of the items of one step, in order.
#[derive(Default)]
pub(super) struct Moves(Vec<Move>);

struct Move {
    state: ItemState,
    /// As streams are told of it.
    shown: Value,
    /// The newest message of the project by then.
    behind: u64,
}

/// What a stream was told of the items of one step.
#[derive(Debug, Default)]
struct Known {
    /// Up to here it was told of moves, one by one or by how the items were then.
    moves: usize,
    /// Of these the ones up to the last that was told by itself.
    told: usize,
    /// Some were passed over, and it was not shown how the items are since.
    has_gap: bool,
}

/// What a stream was told of items.
#[derive(Debug, Default)]
pub(super) struct KnownItems {
    steps: HashMap<(RunId, StepId), Known>,
}

impl Moves {
    /// An item has moved.
    pub(super) fn push(&mut self, run: &RunId, step: &StepId, state: ItemState, behind: u64) {
        let message = ItemMessage { run_id: run, step_id: step, item: state.shown(step, ITEM_SHOWN_BYTES_MAX) };
        let shown = serde_json::to_value(message).expect("serializes");
        self.0.push(Move { state, shown, behind });
    }

    /// How each item is that has begun, once so many moves were made.
    pub(super) fn states(&self, moves: usize) -> Vec<&ItemState> {
        let newest = |moves: &[Move]| moves.iter().map(|made| made.state.item).max();
        let count = newest(&self.0[..moves]).map_or(0, |newest| newest + 1);
        let of = |item: u32| self.0[..moves].iter().rev().map(|made| &made.state).find(|state| state.item == item);
        (0..count).filter_map(of).collect()
    }

    /// How each item is.
    pub(super) fn newest(&self) -> Vec<&ItemState> {
        self.states(self.0.len())
    }

    /// Each item ends once, and none is left that has begun.
    pub(super) fn check(&self, step: &StepId, run: &RunState) {
        let mut statuses: BTreeMap<u32, (StepStatus, u32)> = BTreeMap::new();
        for Move { state, .. } in &self.0 {
            let (was, attempt) = statuses.get(&state.item).copied().unwrap_or((StepStatus::Pending, 0));
            assert!(!was.is_ended(), "{} of {step} moves after its end", state.item);
            let begins = u32::from(state.status == StepStatus::Running);
            assert_eq!(state.attempt, attempt + begins, "{} of {step}", state.item);
            statuses.insert(state.item, (state.status, state.attempt));
        }
        let Some(step) = run.step(step).filter(|step| step.status.is_ended()) else { return };
        let is_over = statuses.values().all(|(status, _)| status.is_ended());
        assert!(is_over, "{step:?} has ended, and its items are {statuses:?}");
        let count = |wanted| statuses.values().filter(|(status, _)| *status == wanted).count();
        let told = step.items.expect("it has told how many there are");
        assert_eq!((told.done, told.failed), (count(StepStatus::Completed), count(StepStatus::Failed)), "{step:?}");
        if let (StepStatus::Completed, Some(Value::Array(outputs))) = (step.status, step.output.as_deref()) {
            assert_eq!(outputs.len(), told.total, "one for each item");
        }
    }
}

impl Follower {
    /// What is said of an item: the next move of its step, where it lies after the message that was told last.
    pub(super) fn take_item(&mut self, said: &Special, model: &Model) {
        let (run, step) = self.named(said);
        let moves = self.moves_of(&run, &step, model);
        let seq = self.position_told(said.seq, model);
        let known = self.items.steps.entry((run, step)).or_default();
        let shown = |made: &Move| made.shown == said.payload && made.behind == said.seq;
        let place = moves.0.iter().skip(known.told).position(shown).map(|place| known.told + place);
        let place = place.unwrap_or_else(|| panic!("{said:?} is told twice, or was never kept: {known:?}"));
        let is_passed_over = place > known.moves;
        *known = Known { moves: known.moves.max(place + 1), told: place + 1, has_gap: known.has_gap || is_passed_over };
        assert_eq!(said.seq, seq, "{said:?} between other messages");
        self.words.push(if is_passed_over { "item behind a gap" } else { "item" }.to_owned());
    }

    /// How the items of a step are: what they have come to by some move that it was not told of.
    pub(super) fn take_items(&mut self, said: &Special, model: &Model) {
        let (run, step) = self.named(said);
        let moves = self.moves_of(&run, &step, model);
        let seq = self.position_told(said.seq, model);
        let known = self.items.steps.entry((run, step.clone())).or_default();
        let is_as_shown = |made: &usize| {
            let states = moves.states(*made).into_iter();
            let shown: Vec<_> = states.map(|state| json!(state.shown(&step, ITEM_SHOWN_BYTES_MAX))).collect();
            said.payload["items"] == Value::Array(shown)
        };
        let made = (known.moves..=moves.0.len()).rev().find(is_as_shown);
        let made = made.unwrap_or_else(|| panic!("{said:?} is not how they were at any time behind {known:?}"));
        let is_gap = known.has_gap || (known.moves > 0 && made > known.moves);
        (known.moves, known.has_gap) = (made, false);
        assert_eq!(said.seq, seq, "{said:?}");
        self.words.push(if is_gap { "items passed over" } else { "items shown" }.to_owned());
    }

    /// It has all messages: it knows how the items are of each step that goes on.
    pub(super) fn check_items(&self, model: &Model) {
        if !self.wanted.items || !self.is_live() {
            return;
        }
        let project = &self.wanted.project;
        let runs = model
            .open_runs()
            .filter(|(of, run, _)| *of == project && self.wanted.run.as_ref().is_none_or(|wanted| wanted == *run));
        for (_, run, known) in runs {
            let state = known.state(u64::MAX);
            let goes_on = |step: &StepId| state.step(step).is_some_and(|step| step.status == StepStatus::Running);
            for (step, moves) in known.items.iter().filter(|(step, _)| goes_on(step)) {
                let known = self.items.steps.get(&(run.clone(), step.clone()));
                let is_told = known.is_some_and(|known| !known.has_gap && known.moves == moves.0.len());
                assert!(is_told, "{step} of {run} has made {} moves, and of {known:?} it was told", moves.0.len());
            }
        }
    }

    fn named(&self, said: &Special) -> (RunId, StepId) {
        assert!(self.wanted.items, "it has not asked for items");
        let run = RunId::parse(said.word("runId")).expect("an id");
        assert!(self.wanted.run.as_ref().is_none_or(|wanted| *wanted == run), "{said:?} of another run");
        (run, StepId::parse(said.word("stepId")).expect("an id"))
    }

    fn moves_of<'m>(&self, run: &RunId, step: &StepId, model: &'m Model) -> &'m Moves {
        let run = model.run(&self.wanted.project, run).expect("a run that was taken on");
        static NONE: Moves = Moves(Vec::new());
        run.items.get(step).unwrap_or(&NONE)
    }
}
