//! One subscriber, and what it must be sent: `connected`, perhaps a reset and snapshots, then each message of the
//! project (or of its one run) after its position, none twice, none missing, to the byte.

use serde_json::Value;

use super::beside::Beside;
use super::items::KnownItems;
use super::model::Model;
use super::retold::Teller;
use super::run_model::RunModel;
use super::sse::{Block, Special};
use crate::formats::Format;
use crate::http::Coding;
use crate::model::{ProjectId, RunId, Timestamp};

/// What a stream was asked for.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) project: ProjectId,
    pub(super) run: Option<RunId>,
    /// The run is to be retold so.
    pub(super) format: Option<Format>,
    pub(super) shown: Option<Shown>,
    pub(super) snapshots: bool,
    /// It is told of items, too.
    pub(super) items: bool,
    pub(super) heartbeat_as_message: bool,
    pub(super) is_event_source: bool,
    /// The newest message when it was asked for, or the newest that the loop knew of, where it needs no more.
    pub(super) newest: u64,
    /// The run had ended by then, and the position shown is after its last message.
    pub(super) has_seen_the_end: bool,
    /// The same of its other projects, where the stream is one of several.
    pub(super) beside: Option<Vec<Wanted>>,
}

/// The `Last-Event-ID` shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// A genuine one.
    Seq(u64),
    /// None of this project's, or no id at all.
    Unknown,
    /// A genuine one beyond the newest message.
    Ahead,
}

/// What is the case when a block arrives.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circumstances {
    pub(super) now: Timestamp,
    /// The server ends its streams.
    pub(super) is_ending: bool,
    /// A stream may be put off.
    pub(super) may_be_busy: bool,
    /// The store has failed since the stream began.
    pub(super) was_down: bool,
    /// A run that has ended may be let go.
    pub(super) may_lose_runs: bool,
    /// When the subscriber's token ends.
    pub(super) expires_at: Option<Timestamp>,
    pub(super) heartbeat_ms: u64,
    pub(super) retry_ms: u64,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) wanted: Wanted,
    pub(super) coding: Coding,
    pub(super) stage: Stage,
    /// Those who may tell it its run in a format; none before it was told anything.
    pub(super) tellers: Vec<Teller>,
    /// The last chunk has come.
    has_ended: bool,
    /// Everything up to here it has, or is told of by snapshots.
    pub(super) position: u64,
    /// The newest message whose id it was sent.
    pub(super) last_id: Option<u64>,
    /// A `stream_reset` has to come next.
    awaits_reset: bool,
    /// Snapshots so far, while they may come.
    snapshots: Option<Vec<Value>>,
    /// What it was told of items.
    pub(super) items: KnownItems,
    pub(super) heartbeats: u64,
    /// Resets to a position after the beginning: history was removed faster than the reader read.
    pub(super) resets: u64,
    /// How it began, or why it ended: for the count of what was met.
    pub(super) words: Vec<String>,
    /// What is expected of its other projects, where the stream is one of several.
    pub(super) beside: Option<Beside>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing came yet.
    Beginning,
    /// After `connected`.
    Live,
    /// After the last message of its run.
    RunOver,
    /// After `stream_closing`.
    Closed,
}

impl Follower {
    pub(super) fn new(wanted: Wanted, coding: Coding) -> Self {
        // A stream in a format begins with its head.
        let stage = if wanted.format.is_some() { Stage::Live } else { Stage::Beginning };
        Self {
            beside: wanted.beside.clone().map(|beside| Beside::new(beside, coding)),
            wanted,
            coding,
            has_ended: false,
            stage,
            tellers: Vec::new(),
            position: 0,
            last_id: None,
            awaits_reset: false,
            snapshots: None,
            items: KnownItems::default(),
            heartbeats: 0,
            resets: 0,
            words: Vec::new(),
        }
    }

    /// May the server end the stream now, for all that was said on it?
    pub(super) fn is_over(&self) -> bool {
        self.is_told_over() && self.beside.iter().flat_map(|beside| &beside.parts).all(Self::is_told_over)
    }

    /// Was the end told of this project?
    fn is_told_over(&self) -> bool {
        matches!(self.stage, Stage::RunOver | Stage::Closed)
    }

    /// Is nothing known of this project yet?
    pub(super) fn is_beginning(&self) -> bool {
        self.stage == Stage::Beginning
    }

    /// The last chunk comes after what tells the end, and nowhere else.
    pub(super) fn end(&mut self) {
        assert!(self.is_over() && !self.has_ended, "{self:?}");
        self.has_ended = true;
    }

    /// Was the end told by all that tells it?
    pub(super) fn has_ended(&self) -> bool {
        self.is_over() && (self.has_ended || self.coding == Coding::UntilClose)
    }

    /// Has it had the last message of its run?
    pub(super) fn has_seen_the_end(&self) -> bool {
        self.stage == Stage::RunOver
    }

    /// Has it been told that it is one?
    pub(super) fn is_live(&self) -> bool {
        self.stage == Stage::Live
    }

    /// One block more.
    pub(super) fn take(&mut self, block: &Block<'_>, model: &Model, at: &Circumstances) {
        assert!(!self.is_over() && !self.has_ended, "{block:?} after the end of {self:?}");
        match self.beside.take() {
            None => self.take_own(block, model, at),
            Some(mut beside) => {
                beside.take(self, block, model, at);
                self.beside = Some(beside);
            }
        }
    }

    /// One block more of this project.
    pub(super) fn take_own(&mut self, block: &Block<'_>, model: &Model, at: &Circumstances) {
        assert!(!self.is_told_over(), "{block:?} after the end of {self:?}");
        let Block::Event { retry, id, data } = block else {
            assert!(!self.wanted.heartbeat_as_message && self.stage == Stage::Live);
            return self.beat(model);
        };
        if let (None, Some(id), Stage::Live) = (retry, id, self.stage) {
            return self.message(id, data, model);
        }
        let special = Special::read(data);
        assert_eq!(special.project, self.wanted.project.as_str());
        match (special.kind.as_str(), retry, id) {
            ("connected", Some(retry), Some(id)) if self.stage == Stage::Beginning => {
                assert_eq!((*retry, special.payload["heartbeat"].as_u64()), (at.retry_ms, Some(at.heartbeat_ms)));
                self.connected(id, &special, model);
            }
            ("stream_closing", Some(retry), None) => self.closing(*retry, &special, model, at),
            ("stream_reset", None, None) if self.stage == Stage::Live => self.reset(&special, model),
            ("workflow_snapshot", None, None) => self.snapshot(special),
            (kind @ ("workflow_item" | "workflow_items_snapshot"), None, None) if self.stage == Stage::Live => {
                assert!(!self.awaits_reset, "the reset comes first");
                self.check_snapshots(model);
                match kind {
                    "workflow_item" => self.take_item(&special, model),
                    _ => self.take_items(&special, model),
                }
            }
            ("heartbeat", None, None) if self.stage == Stage::Live => {
                assert!(self.wanted.heartbeat_as_message && special.payload["timestamp"].is_string());
                assert_eq!(special.seq, self.position_told(special.seq, model));
                self.beat(model);
            }
            _ => panic!("{special:?} with retry {retry:?} and id {id:?} in {self:?}"),
        }
    }

    fn connected(&mut self, id: &str, said: &Special, model: &Model) {
        (self.stage, self.position) = (Stage::Live, said.seq);
        self.last_id = Some(said.seq);
        let newest = model.newest(&self.wanted.project);
        assert_eq!(id, model.id(&self.wanted.project, said.seq));
        assert!(
            !self.wanted.has_seen_the_end,
            "it has seen the end of its run: 204, not {said:?} for {:?}",
            self.wanted
        );
        assert!(said.seq <= newest, "{said:?}");
        let resume = said.word("resume");
        self.words.push(format!("connected {resume}"));
        match (resume, self.wanted.shown, &self.wanted.run) {
            ("fresh", None, None) => {
                assert!(said.seq >= self.wanted.newest, "it begins at {said:?} and not at the newest");
                self.snapshots = self.wanted.snapshots.then(Vec::new);
            }
            ("fresh", None, Some(run)) => {
                let first = model.project(&self.wanted.project).and_then(|project| project.next_of(run, 0));
                assert!(first.is_none_or(|first| first > said.seq), "it begins behind its run's first message");
            }
            ("resumed", Some(Shown::Seq(seq)), _) => assert_eq!(said.seq, seq),
            ("reset", None, Some(_)) | ("reset", Some(_), _) => self.awaits_reset = true,
            _ => panic!("{said:?} to {:?}", self.wanted),
        }
    }

    fn reset(&mut self, said: &Special, model: &Model) {
        self.check_snapshots(model);
        let (before, shown) = match std::mem::take(&mut self.awaits_reset) {
            true => (None, self.wanted.shown),
            false => (Some(self.position), Some(Shown::Seq(self.position))),
        };
        assert!(said.seq >= self.position && before.is_some() || said.seq == self.position, "{said:?} in {self:?}");
        let has_lost = |after| self.has_lost(after, said.seq, model);
        let expected = match shown {
            Some(Shown::Unknown) => "unknown_id",
            Some(Shown::Ahead) => "ahead",
            Some(Shown::Seq(seq)) => {
                assert!(has_lost(seq), "nothing behind {seq} is lost: {said:?} in {self:?}");
                "expired"
            }
            None => {
                assert!(has_lost(0), "nothing of the run is lost: {said:?} in {self:?}");
                "expired"
            }
        };
        assert_eq!(said.word("reason"), expected, "{:?}", self.wanted);
        self.words.push(format!("{} {expected}", if before.is_some() { "jump" } else { "reset" }));
        self.resets += u64::from(before.is_some());
        (self.position, self.snapshots) = (said.seq, Some(Vec::new()));
    }

    /// Whether a message after `after` that it should get may be gone, now that it was told to continue at `position`.
    pub(super) fn has_lost(&self, after: u64, position: u64, model: &Model) -> bool {
        let project = &self.wanted.project;
        let Some(run) = &self.wanted.run else {
            return model.floor(position).is_none_or(|floor| after + 1 < floor);
        };
        let Some(floor) = model.floor(model.newest(project)) else { return true };
        let first = model.project(project).and_then(|project| project.next_of(run, 0));
        let last = model.run(project, run).and_then(RunModel::last_seq);
        after + 1 < floor && first.is_some_and(|first| first < floor) && last.is_none_or(|last| after + 1 < last)
    }

    fn snapshot(&mut self, said: Special) {
        assert_eq!(said.seq, self.position, "{said:?}");
        assert!(!self.awaits_reset, "the reset comes first");
        let mut payload = said.payload;
        let members = payload.as_object_mut().expect("an object");
        assert!(members.remove("timestamp").is_some(), "a workflow_ message has a timestamp");
        self.snapshots.as_mut().expect("a snapshot where none belongs").push(payload);
    }

    /// What comes now is no snapshot: those that came must have been all.
    fn check_snapshots(&mut self, model: &Model) {
        let Some(snapshots) = self.snapshots.take() else { return };
        let (project, position) = (&self.wanted.project, self.position);
        let is_right = match &self.wanted.run {
            None => model.has_shown(project, position, &snapshots),
            Some(run) => {
                let run = model.run(project, run).expect("a run that is watched is known");
                let ends_next = run.last_seq() == Some(position + 1);
                let places = [Some(position), ends_next.then_some(position + 1)];
                let mut states = places.into_iter().flatten().flat_map(|at| run.snapshots(at, project, &model.signer));
                snapshots.len() == 1 && states.any(|state| Some(&state) == snapshots.first())
            }
        };
        assert!(is_right, "{snapshots:#?} are not the snapshots at {position} of {:?}", self.wanted);
    }

    fn message(&mut self, id: &str, data: &[u8], model: &Model) {
        assert!(!self.awaits_reset, "the reset comes first");
        self.check_snapshots(model);
        let project = model.project(&self.wanted.project).expect("a project with messages is known");
        let seq = match &self.wanted.run {
            None => self.position + 1,
            Some(run) => project.next_of(run, self.position).expect("the run has said no more"),
        };
        let kept = &project.history[usize::try_from(seq - 1).expect("small")];
        let (said, expected) = (String::from_utf8_lossy(data), String::from_utf8_lossy(&kept.json));
        assert_eq!(said, expected, "behind {} of {:?}", self.position, self.wanted);
        assert_eq!(id, model.id(&self.wanted.project, seq));
        (self.position, self.last_id) = (seq, Some(seq));
        if self.wanted.run.is_some() && kept.is_last {
            self.stage = Stage::RunOver;
            self.words.push("run over".to_owned());
        }
    }

    fn beat(&mut self, model: &Model) {
        assert!(!self.awaits_reset, "the reset comes first");
        self.check_snapshots(model);
        self.heartbeats += 1;
    }

    /// The position that a message made for this stream alone may name: its own or, if only one run is followed, any
    /// after which that run has sent nothing.
    pub(super) fn position_told(&self, told: u64, model: &Model) -> u64 {
        let Some(run) = &self.wanted.run else { return self.position };
        let project = model.project(&self.wanted.project);
        let next = project.and_then(|project| project.next_of(run, self.position));
        let may_be_there = told >= self.position && next.is_none_or(|next| told < next);
        if may_be_there { told } else { self.position }
    }

    fn closing(&mut self, retry: u64, said: &Special, model: &Model, at: &Circumstances) {
        assert!((at.retry_ms..2 * at.retry_ms).contains(&retry), "{retry}");
        let reason = said.word("reason").to_owned();
        match reason.as_str() {
            "busy" => {
                assert!(self.stage == Stage::Beginning && said.seq == 0 && self.wanted.is_event_source);
                assert!(at.may_be_busy, "it is put off for nothing");
            }
            _ => {
                assert!(self.stage == Stage::Live && !self.awaits_reset, "{said:?}");
                self.check_snapshots(model);
                assert_eq!(said.seq, self.position_told(said.seq, model), "{said:?} in {self:?}");
                match reason.as_str() {
                    "shutdown" => assert!(at.is_ending),
                    "token_expired" => assert!(at.expires_at.is_some_and(|end| end <= at.now), "{at:?}"),
                    _ => panic!("{said:?}"),
                }
            }
        }
        self.words.push(format!("closing {reason}"));
        self.stage = Stage::Closed;
    }

    /// Nothing is on its way any more: has it all that it should?
    pub(super) fn check_complete(&mut self, model: &Model) {
        if self.wanted.format.is_some() {
            return self.check_retold(model);
        }
        self.beside.iter_mut().flat_map(|beside| &mut beside.parts).for_each(|part| part.check_complete(model));
        assert!(self.stage != Stage::Beginning, "it never began: {:?}", self.wanted);
        if self.is_over() {
            return;
        }
        assert!(!self.awaits_reset);
        self.check_snapshots(model);
        match &self.wanted.run {
            None => assert_eq!(self.position, model.newest(&self.wanted.project), "{self:?}"),
            Some(run) => {
                let next = model.project(&self.wanted.project).and_then(|project| project.next_of(run, self.position));
                assert_eq!(next, None, "{self:?}");
            }
        }
    }
}
