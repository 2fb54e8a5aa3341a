//! Runs in the formats of chat frontends: what a new client is sent first, what a channel of a run is missing, and
//! pages for clients that have fallen behind.
//!
//! A format is a fold over all messages of a run. Encoders are kept at their position: one for each followed run and
//! format, which advances with its channel, and one for each client that reads earlier messages. If there is none, the
//! run is folded from its first message or, if that has been deleted, from its state. The first part that a client is
//! sent and what follows come from the same encoder, so they always fit.
//!
//! One thread calls it, in order, so what it has sent to a channel arrives before whatever it sends next.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{has_lost, read_state};
use crate::auth::IdSigner;
use crate::formats::{Encoder, Format, Opening, RunHead};
use crate::log::frames::Row;
use crate::log::protocol::{Resume, Retold, StartingPosition, Subscription, Unretold};
use crate::log::store::{Flow, History, Look, PlaceInRun, RunNumber, StoreError, StoredMessage};
use crate::log::views::{RunView, read_event};
use crate::model::{ProjectId, RunEventKind, Timestamp};

/// The most memory of all kept encoders. Beyond it the least recently used are dropped; a stream that needs one again
/// waits until its run is folded again.
const ENCODERS_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Messages that are folded in one look, so that none is long.
const LOOK_MESSAGES_MAX: usize = 512;

/// The most bytes for a run's channel that come along with the beginning of a stream. If the channel lacks more, it had
/// no streams just now, and needs none of it.
const ROW_BYTES_MAX: usize = 256 * 1024;

/// A run in a format.
#[derive(Debug, Clone, Copy)]
pub(in crate::log) struct Telling<'a> {
    pub(in crate::log) project: &'a ProjectId,
    pub(in crate::log) run: RunNumber,
    pub(in crate::log) format: Format,
    /// The run as the log has it, where that was asked.
    pub(in crate::log) live: Option<&'a RunView>,
}

/// Why something can't be retold.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::log) enum Miss {
    /// A message after the position is gone.
    Lost,
    /// The run is gone.
    NoRun,
    /// The log has to be asked for the state of the run.
    Untold,
    /// It can't be read.
    Unreadable(StoreError),
}

impl From<StoreError> for Miss {
    fn from(error: StoreError) -> Self {
        Self::Unreadable(error)
    }
}

/// See the top of this file.
#[derive(Default)]
pub(in crate::log) struct Retelling {
    kept: BTreeMap<Key, Kept>,
    bytes: usize,
    uses: u64,
}

/// A run, a format, and the position of a reader; none for the encoder of the channel.
type Key = (RunNumber, Format, Option<u64>);

/// An encoder that has told everything of its run up to a position.
struct Kept {
    encoder: Encoder,
    at: u64,
    bytes: usize,
    used: u64,
}

impl Retelling {
    /// What a new stream is sent first, and where it begins. What the run's channel lacks comes along.
    pub(in crate::log) fn begin(
        &mut self,
        look: Look<'_>,
        signer: &IdSigner,
        start: &mut StartingPosition,
    ) -> Result<(), Miss> {
        let (Some(Unretold { wanted, live }), Some(run)) = (start.unretold.take(), start.run) else { return Ok(()) };
        let Some(format) = wanted.view.format() else { return Ok(()) };
        let telling = Telling { project: &wanted.project, run, format, live: live.as_ref() };
        if start.resume == Resume::Resumed && goes_on_exactly(look, telling, start.after)? {
            return Ok(());
        }
        let key = (run, format, None);
        let kept = match self.take(key) {
            Some(kept) => kept,
            None => Kept::first(look, telling)?.0,
        };
        let (kept, row) = kept.read_on_or_anew(look, signer, telling, usize::MAX)?;
        let ended_at = if kept.encoder.is_over() { ended_at(look, run)? } else { None };
        start.begin_retold(kept.at, kept.prelude(signer, &wanted, format, ended_at, row));
        self.keep(key, kept);
        Ok(())
    }

    /// What a channel lacks after `after`, or after what came along with the beginning of a stream meanwhile; about
    /// `bytes_max` bytes at most.
    pub(in crate::log) fn row(
        &mut self,
        look: Look<'_>,
        signer: &IdSigner,
        telling: Telling<'_>,
        after: u64,
        bytes_max: usize,
    ) -> Result<Row, Miss> {
        let key = (telling.run, telling.format, None);
        let kept = match self.take(key).filter(|kept| kept.at >= after) {
            Some(kept) => kept,
            None => match Kept::at(look, signer, telling, after) {
                // The channel can't get what it lacks. New streams are sent what there is.
                Err(Miss::Lost) => Kept::first(look, telling)?.0,
                kept => kept?,
            },
        };
        let (kept, row) = kept.read_on_or_anew(look, signer, telling, bytes_max)?;
        self.keep(key, kept);
        Ok(row)
    }

    /// The messages after `after`, for a client that has exactly what was sent up to there.
    pub(in crate::log) fn page(
        &mut self,
        look: Look<'_>,
        signer: &IdSigner,
        telling: Telling<'_>,
        after: u64,
        bytes_max: usize,
    ) -> Result<Row, Miss> {
        let mut kept = match self.take((telling.run, telling.format, Some(after))) {
            Some(kept) => kept,
            None => Kept::at(look, signer, telling, after)?,
        };
        let mut row = Row::after(after);
        kept.read_on(look, signer, telling, u64::MAX, Some(To { row: &mut row, bytes_max, is_page: true }))?;
        if !kept.encoder.is_over() {
            self.keep((telling.run, telling.format, Some(kept.at)), kept);
        }
        Ok(row)
    }

    /// Takes an encoder out. It is put back once all went well: otherwise nobody would know how far it is.
    fn take(&mut self, key: Key) -> Option<Kept> {
        let kept = self.kept.remove(&key)?;
        self.bytes -= kept.bytes;
        Some(kept)
    }

    fn keep(&mut self, key: Key, mut kept: Kept) {
        self.uses += 1;
        (kept.used, kept.bytes) = (self.uses, kept.encoder.memory());
        self.bytes += kept.bytes;
        if let Some(replaced) = self.kept.insert(key, kept) {
            self.bytes -= replaced.bytes;
        }
        while self.bytes > ENCODERS_BYTES_MAX && self.kept.len() > 1 {
            let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.used).map(|(key, _)| *key);
            oldest.and_then(|key| self.take(key));
        }
    }
}

impl Kept {
    /// An encoder of a run before its first message or, if that is gone, from its current state. Says which of the two.
    fn first(look: Look<'_>, telling: Telling<'_>) -> Result<(Self, Origin), Miss> {
        let mut made = Err(Miss::Untold);
        look(&mut |history| {
            made = Self::make(history, telling);
            Ok(())
        })?;
        made
    }

    fn make(history: &dyn History, telling: Telling<'_>) -> Result<(Self, Origin), Miss> {
        let Telling { project, run, format, live } = telling;
        let ends = history.ends(run)?.ok_or(Miss::NoRun)?;
        let (state, last_seq) = match (live, history.ended_state(run)?) {
            (_, Some(json)) => (Arc::new(read_state(&json)?), ends.last.unwrap_or_default()),
            (Some(live), None) => (live.state.clone(), live.last_seq),
            (None, None) => return Err(Miss::Untold),
        };
        let document = history.document(run)?.unwrap_or_default();
        let head = Arc::new(RunHead::new(project.clone(), &state, &document));
        let before = match ends.first {
            Some(first) => first - 1,
            None => history.newest(project)?,
        };
        let (encoder, at, origin) = match has_lost(Some(ends), before, history.floor(project)?) {
            true => (Encoder::from_state(format, head, &state), last_seq, Origin::State),
            false => (Encoder::new(format, head), before, Origin::FirstMessage),
        };
        Ok((Self { encoder, at, bytes: 0, used: 0 }, origin))
    }

    /// An encoder of a run that has read everything up to this position, and nothing after it.
    fn at(look: Look<'_>, signer: &IdSigner, telling: Telling<'_>, position: u64) -> Result<Self, Miss> {
        let (mut kept, origin) = Self::first(look, telling)?;
        if kept.at > position {
            match origin {
                // Nothing of it lies between the two.
                Origin::FirstMessage => kept.at = position,
                Origin::State => return Err(Miss::Lost),
            }
        }
        kept.read_on(look, signer, telling, position, None)?;
        Ok(kept)
    }

    /// Reads on, about `bytes_max` bytes. If a message on the way is gone, a new encoder is made that begins after it.
    fn read_on_or_anew(
        mut self,
        look: Look<'_>,
        signer: &IdSigner,
        telling: Telling<'_>,
        bytes_max: usize,
    ) -> Result<(Self, Row), Miss> {
        let mut row = Row::after(self.at);
        match self.read_on(look, signer, telling, u64::MAX, Some(To { row: &mut row, bytes_max, is_page: false })) {
            Err(Miss::Lost) => {}
            told => return told.map(|()| (self, row)),
        }
        let (mut anew, _) = Self::first(look, telling)?;
        let mut row = Row::after(anew.at);
        anew.read_on(look, signer, telling, u64::MAX, Some(To { row: &mut row, bytes_max, is_page: false }))?;
        Ok((anew, row))
    }

    /// Reads on up to position `up_to`, into a row, at least one message, or into nothing.
    fn read_on(
        &mut self,
        look: Look<'_>,
        signer: &IdSigner,
        telling: Telling<'_>,
        up_to: u64,
        mut to: Option<To<'_>>,
    ) -> Result<(), Miss> {
        let mut end = End::Look;
        while end == End::Look {
            look(&mut |history| {
                let to = to.as_mut().map(To::reborrow);
                end = self.read_some(history, signer, telling, up_to, to)?;
                Ok(())
            })?;
        }
        if let Some(To { row, .. }) = to {
            row.up_to = self.at;
        }
        match end {
            End::Messages | End::Row | End::Look => Ok(()),
            End::History => Err(Miss::Lost),
            End::Run => Err(Miss::NoRun),
        }
    }

    /// The same, as much as one look may take.
    fn read_some(
        &mut self,
        history: &dyn History,
        signer: &IdSigner,
        telling: Telling<'_>,
        up_to: u64,
        to: Option<To<'_>>,
    ) -> Result<End, StoreError> {
        let Telling { project, run, .. } = telling;
        let Some(ends) = history.ends(run)? else { return Ok(End::Run) };
        if has_lost(Some(ends), self.at, history.floor(project)?) {
            return Ok(End::History);
        }
        let newest = history.newest(project)?;
        let (mut told, mut end, mut failed, mut scratch) = (0, End::Messages, None, Row::default());
        let is_for_nobody = to.is_none();
        let to = to.unwrap_or(To { row: &mut scratch, bytes_max: usize::MAX, is_page: false });
        history.messages(project, self.at, Some(run), &mut |message| {
            if message.seq > up_to {
                return Flow::Stop;
            }
            if is_for_nobody {
                to.row.bytes.clear();
                to.row.marks.clear();
            }
            failed = self.tell(message, signer, telling, history, to.row).err();
            told += 1;
            if to.is_full() {
                end = End::Row;
            } else if told == LOOK_MESSAGES_MAX {
                end = End::Look;
            }
            if failed.is_none() && end == End::Messages { Flow::More } else { Flow::Stop }
        })?;
        if end == End::Messages {
            self.at = self.at.max(newest.min(up_to));
        }
        failed.map_or(Ok(end), Err)
    }

    fn tell(
        &mut self,
        message: &StoredMessage,
        signer: &IdSigner,
        Telling { project, run, .. }: Telling<'_>,
        history: &dyn History,
        row: &mut Row,
    ) -> Result<(), StoreError> {
        let event =
            read_event(message).map_err(|error| StoreError(format!("cannot read a message of a run: {error}")))?;
        let ends = self.encoder.tell(&event, &signer.text(project, message.seq), &mut row.bytes);
        row.mark(message.seq, ends || message.place == PlaceInRun::Last);
        self.at = message.seq;
        if matches!(event.kind, RunEventKind::PlanChanged(_)) {
            self.encoder.know_plan(&history.document(run)?.unwrap_or_default());
        }
        Ok(())
    }

    /// What a new stream is sent first; `row` is what the channel lacks.
    fn prelude(
        &self,
        signer: &IdSigner,
        wanted: &Subscription,
        format: Format,
        ended_at: Option<Timestamp>,
        row: Row,
    ) -> Retold {
        let said = wanted.said.as_deref();
        let opening = Opening {
            thread: said.and_then(|said| said.names.thread.as_deref()),
            messages: said.and_then(|said| serde_json::from_str(said.messages.as_deref()?).ok()),
            run: said.and_then(|said| said.names.run.as_deref()),
            had: said.and_then(|said| said.had.as_ref()),
        };
        let mut prelude = Vec::new();
        self.encoder.prelude(&opening, &signer.text(&wanted.project, self.at), &mut prelude);
        let row = (row.bytes.len() <= ROW_BYTES_MAX).then_some(row);
        Retold { format, prelude, ends: self.encoder.ends_streams(), ended_at, row }
    }
}

/// The row that is written to.
struct To<'r> {
    row: &'r mut Row,
    /// About the most bytes of it.
    bytes_max: usize,
    /// It is for one stream, and goes no further than that.
    is_page: bool,
}

impl To<'_> {
    fn reborrow(&mut self) -> To<'_> {
        To { row: self.row, ..*self }
    }

    fn is_full(&self) -> bool {
        self.row.bytes.len() >= self.bytes_max || (self.is_page && self.row.has_last())
    }
}

/// What an encoder was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    FirstMessage,
    State,
}

/// What reading has come to the end of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// There is no more that is wanted.
    Messages,
    /// The row is full.
    Row,
    /// It has been a long look.
    Look,
    /// The next message is gone.
    History,
    /// The run is gone, with whatever it said.
    Run,
}

/// When a run ended, which it has.
fn ended_at(look: Look<'_>, run: RunNumber) -> Result<Option<Timestamp>, StoreError> {
    let mut state = None;
    look(&mut |history| {
        state = history.ended_state(run)?;
        Ok(())
    })?;
    // Where that is gone since, it is long ago.
    let state = state.map(|json| read_state(&json)).transpose()?;
    Ok(Some(state.and_then(|state| state.finished_at).unwrap_or_default()))
}

/// Is this the position of one of the run's messages, from which a fold can go on?
fn goes_on_exactly(look: Look<'_>, telling: Telling<'_>, position: u64) -> Result<bool, StoreError> {
    let Telling { project, run, .. } = telling;
    let mut is_exact = false;
    look(&mut |history| {
        let ends = history.ends(run)?;
        let Some(first) = ends.and_then(|ends| ends.first) else { return Ok(()) };
        if position < first || has_lost(ends, first - 1, history.floor(project)?) {
            return Ok(());
        }
        history.messages(project, position - 1, Some(run), &mut |message| {
            is_exact = message.seq == position;
            Flow::Stop
        })
    })?;
    Ok(is_exact)
}
