//! A subscriber of a run in another format, and what it must be sent, to the byte: the run up to some position, or
//! nothing if it continues from one; then each message after that, and one end.
//!
//! What a format makes of messages is determined by its encoder. Whether the server used an encoder from the run's
//! first message, or one from a later state, only its output shows. So all possible ones are tried, and those with
//! another output are dropped.

use super::follower::{Circumstances, Follower, Shown, Stage};
use super::model::Model;
use super::run_model::RunModel;
use crate::formats::{Encoder, Format, Opening, closing, with_retry};
use crate::http::{Coding, sse, write_chunk};
use crate::model::{ProjectId, RunId};

/// What the run so far begins with.
const RETRY: &[u8] = b"retry: ";

/// An encoder that the server may have.
pub(super) struct Teller {
    encoder: Encoder,
    /// The place of the message that it tells next.
    next: usize,
    /// What it has told and nobody has been sent.
    pending: Option<(u64, Vec<u8>)>,
}

impl std::fmt::Debug for Teller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "before message {}", self.next)
    }
}

/// How far bytes are what something would be.
#[derive(Debug, Clone, Copy)]
enum Match {
    /// They begin with it: so many bytes.
    Whole(usize),
    /// They may become it.
    Begun,
    No,
}

impl Follower {
    /// The next of what it is sent; how many bytes that was, where it is there whole.
    pub(super) fn take_retold(&mut self, bytes: &[u8], model: &Model, at: &Circumstances) -> Option<usize> {
        if bytes.is_empty() {
            return None;
        }
        if self.is_over() {
            let end = self.coding.end();
            assert!(!end.is_empty() && end.starts_with(&bytes[..bytes.len().min(end.len())]), "{self:?}");
            return bytes.starts_with(end).then(|| {
                self.end();
                end.len()
            });
        }
        if self.tellers.is_empty() {
            if let Some(begins) = self.begins_anew(bytes) {
                return begins.then(|| self.begin_anew(bytes, model, at)).flatten();
            }
            self.go_on(model);
        }
        self.take_live(bytes, model, at)
    }

    /// Is this the run so far? That alone says when to come back. None if there is too little to tell.
    fn begins_anew(&self, bytes: &[u8]) -> Option<bool> {
        let content = match self.coding {
            Coding::UntilClose => bytes,
            Coding::Chunked => memchr::memmem::find(bytes, b"\r\n").map_or(&bytes[..0], |at| &bytes[at + 2..]),
        };
        let known = content.len().min(RETRY.len());
        if content[..known] != RETRY[..known] { None } else { Some(known == RETRY.len()) }
    }

    /// It is told the run so far.
    fn begin_anew(&mut self, bytes: &[u8], model: &Model, at: &Circumstances) -> Option<usize> {
        let id = id_of_first(bytes)?;
        let retry_ms = retry_of_first(bytes);
        assert!((at.retry_ms..2 * at.retry_ms).contains(&retry_ms), "{retry_ms}");
        let (project, run) = (self.wanted.project.clone(), self.run().clone());
        let position = model.signer.read(id, &project).expect("an id of the project").seq();
        assert!(position <= model.newest(&project) && position >= self.wanted.newest, "{position}: {:?}", self.wanted);
        let said = model.run(&project, &run).expect("a run that is watched is known");
        let is_exact = matches!(self.wanted.shown, Some(Shown::Seq(seq)) if said.said.iter().any(|(at, _)| *at == seq));
        let may_be_lost = self.has_lost(0, model.newest(&project), model);
        assert!(!is_exact || may_be_lost, "it could go on: {:?}", self.wanted);
        let states = said.said.iter().map(|(seq, _)| *seq).filter(|seq| may_be_lost && *seq <= position);
        let origins = std::iter::once(None).chain(states.map(Some));
        let mut whole = None;
        for origin in origins {
            let teller = Teller::new(&project, said, self.format(), origin, position, model);
            let mut prelude = Vec::new();
            teller.encoder.prelude(&Opening::default(), id, &mut prelude);
            if let Match::Whole(n) = compare(bytes, &self.coding.encoded(with_retry(&prelude, retry_ms))) {
                whole = Some(n);
                self.tellers.push(teller);
            }
        }
        let whole = whole.unwrap_or_else(|| panic!("not the run at {position}: {}", String::from_utf8_lossy(bytes)));
        (self.position, self.last_id) = (position, Some(position));
        self.words.push("retold anew".to_owned());
        if said.last_seq().is_some_and(|last| last <= position) {
            self.is_told();
        }
        Some(whole)
    }

    /// It goes on from the position shown.
    fn go_on(&mut self, model: &Model) {
        let Some(Shown::Seq(seq)) = self.wanted.shown else { panic!("it goes on from nowhere: {:?}", self.wanted) };
        let project = self.wanted.project.clone();
        let said = model.run(&project, self.run()).expect("a run that is watched is known");
        assert!(said.said.iter().any(|(at, _)| *at == seq), "no position of its run: {:?}", self.wanted);
        self.tellers.push(Teller::new(&project, said, self.format(), None, seq, model));
        (self.position, self.last_id) = (seq, Some(seq));
        self.words.push("retold on".to_owned());
    }

    fn take_live(&mut self, bytes: &[u8], model: &Model, at: &Circumstances) -> Option<usize> {
        let mut comment = Vec::new();
        write_chunk(&mut comment, sse::COMMENT);
        let mut is_begun = false;
        match compare(bytes, &self.coding.encoded(comment)) {
            Match::Whole(n) => {
                self.heartbeats += 1;
                return Some(n);
            }
            Match::Begun => is_begun = true,
            Match::No => {}
        }
        for reason in ["shutdown", "token_expired", "expired", "stalled"] {
            let mut words = Vec::new();
            closing(self.format(), reason, &mut words);
            match compare(bytes, &self.coding.encoded(words)) {
                Match::Whole(n) => {
                    self.close(reason, model, at);
                    return Some(n);
                }
                Match::Begun => is_begun = true,
                Match::No => {}
            }
        }
        self.take_message(bytes, model, is_begun)
    }

    fn take_message(&mut self, bytes: &[u8], model: &Model, is_begun: bool) -> Option<usize> {
        let project = self.wanted.project.clone();
        let said = model.run(&project, self.run()).expect("a run that is watched is known");
        let (mut taken, mut is_begun) = (None, is_begun);
        let mut matches = Vec::new();
        for teller in &mut self.tellers {
            let next = teller.peek(&project, said, model);
            let found = next.map_or(Match::No, |(_, told)| compare(bytes, &self.coding.encoded(told.clone())));
            match (found, next) {
                (Match::Whole(n), Some((seq, _))) => taken = Some((*seq, n)),
                (Match::Begun, _) => is_begun = true,
                _ => {}
            }
            matches.push(matches!(found, Match::Whole(_)));
        }
        let Some((seq, n)) = taken else {
            let (behind, wanted) = (self.position, &self.wanted);
            assert!(is_begun, "not what comes behind {behind} of {wanted:?}: {}", String::from_utf8_lossy(bytes));
            return None;
        };
        let mut matches = matches.into_iter();
        self.tellers.retain(|_| matches.next().unwrap_or_default());
        self.tellers.iter_mut().for_each(|teller| teller.pending = None);
        (self.position, self.last_id) = (seq, Some(seq));
        if said.last_seq() == Some(seq) {
            self.is_told();
        }
        Some(n)
    }

    fn close(&mut self, reason: &str, model: &Model, at: &Circumstances) {
        match reason {
            "shutdown" => assert!(at.is_ending),
            "token_expired" => assert!(at.expires_at.is_some_and(|end| end <= at.now), "{at:?}"),
            "expired" => {
                let newest = model.newest(&self.wanted.project);
                let has_ended = model.run(&self.wanted.project, self.run()).is_some_and(|run| run.last_seq().is_some());
                // It is told again from the run's first message where it is after all others.
                let is_lost = self.has_lost(0, newest, model) || (at.may_lose_runs && has_ended);
                assert!(is_lost, "nothing of {:?} is gone", self.wanted);
            }
            _ => assert!(at.was_down, "it could be read: {:?}", self.wanted),
        }
        self.words.push(format!("retold closing {reason}"));
        self.stage = Stage::Closed;
    }

    fn is_told(&mut self) {
        self.stage = Stage::RunOver;
        self.words.push("retold over".to_owned());
    }

    /// Nothing is on its way any more: has it all that it should?
    pub(super) fn check_retold(&mut self, model: &Model) {
        if self.is_over() {
            return;
        }
        if self.tellers.is_empty() {
            self.go_on(model);
        }
        let project = self.wanted.project.clone();
        let said = model.run(&project, self.run()).expect("a run that is watched is known");
        let is_all = self.tellers.iter_mut().any(|teller| teller.peek(&project, said, model).is_none());
        assert!(is_all, "{self:?} lacks something");
    }

    fn format(&self) -> Format {
        self.wanted.format.expect("one of those who read one")
    }

    fn run(&self) -> &RunId {
        self.wanted.run.as_ref().expect("a format tells one run")
    }
}

impl Teller {
    /// One that was made of the run's first message, or of its state at `origin`, and has told everything up to `position`.
    fn new(
        project: &ProjectId,
        run: &RunModel,
        format: Format,
        origin: Option<u64>,
        position: u64,
        model: &Model,
    ) -> Self {
        let head = run.head(project);
        let (encoder, told) = match origin {
            None => (Encoder::new(format, head), 0),
            Some(at) => (Encoder::from_state(format, head, &run.state(at)), at),
        };
        let next = run.said.partition_point(|(seq, _)| *seq <= told);
        let mut teller = Self { encoder, next, pending: None };
        while run.said.get(teller.next).is_some_and(|(seq, _)| *seq <= position) {
            teller.tell_next(project, run, model);
        }
        teller
    }

    /// The next message that says something, and how.
    fn peek(&mut self, project: &ProjectId, run: &RunModel, model: &Model) -> Option<&(u64, Vec<u8>)> {
        while self.pending.is_none() {
            self.pending = Some(self.tell_next(project, run, model)?).filter(|(_, told)| !told.is_empty());
        }
        self.pending.as_ref()
    }

    fn tell_next(&mut self, project: &ProjectId, run: &RunModel, model: &Model) -> Option<(u64, Vec<u8>)> {
        let (seq, event) = run.said.get(self.next)?;
        let mut told = Vec::new();
        self.encoder.tell(event, &model.id(project, *seq), &mut told);
        self.next += 1;
        Some((*seq, told))
    }
}

/// The id of the first event that has one, once that event is there whole.
fn id_of_first(bytes: &[u8]) -> Option<&str> {
    let at = memchr::memmem::find(bytes, b"\nid: ")? + 5;
    let end = at + memchr::memchr(b'\n', &bytes[at..])?;
    let event_end = end + memchr::memmem::find(&bytes[end..], b"\n\n")? + 2;
    // In chunks the end of its chunk comes after it.
    let is_whole = bytes.starts_with(RETRY) || bytes.len() >= event_end + 2;
    is_whole.then(|| str::from_utf8(&bytes[at..end]).expect("an id is ASCII"))
}

/// When the first event says to come back.
fn retry_of_first(bytes: &[u8]) -> u64 {
    let at = memchr::memmem::find(bytes, RETRY).expect("it was seen") + RETRY.len();
    let end = at + memchr::memchr(b'\n', &bytes[at..]).expect("a line");
    str::from_utf8(&bytes[at..end]).ok().and_then(|ms| ms.parse().ok()).expect("milliseconds")
}

fn compare(bytes: &[u8], expected: &[u8]) -> Match {
    if bytes.starts_with(expected) {
        Match::Whole(expected.len())
    } else if expected.starts_with(bytes) {
        Match::Begun
    } else {
        Match::No
    }
}
