//! Channels of runs in another format: what they lack, and how their streams begin and end.
//!
//! A client of such a format takes a stream that ends without a last event of the format for a run that succeeded. So
//! every stream ends with such an event if its socket accepts it; if it does not, the stream does not end as if that
//! were intended.

use std::io::Write;

use super::{ConnectionManager, Effect};
use crate::formats::{Format, closing, with_retry};
use crate::log::{Retold, Row, RunNumber, StartingPosition, Subscription};
use crate::model::{Now, ProjectId, SlabKey};
use crate::stream::subscriber::{CloseReason, Transport};

/// About how much of a run is asked for at a time.
const ROW_BYTES_MAX: usize = 64 * 1024;

impl<S: Write> ConnectionManager<S> {
    /// The result of [`Effect::ReadRow`] for a channel.
    pub fn row(&mut self, channel: SlabKey, row: &Row, now: Now) {
        if let Some(index) = self.watched.answer(channel) {
            self.append_row(index, row, now);
        }
    }

    /// The messages that a channel asked for can't be read now. It asks again.
    pub fn row_refused(&mut self, channel: SlabKey) {
        self.watched.answer(channel);
    }

    /// The run of a channel is no longer kept: there is nothing to come any more.
    pub fn run_gone(&mut self, channel: SlabKey, now: Now) {
        let Some(index) = self.watched.answer(channel) else { return };
        let streams = self.watched.channel(index).map(|channel| channel.streams().to_vec());
        streams.unwrap_or_default().into_iter().for_each(|key| self.close(key, CloseReason::Expired, now));
    }

    /// Appends what the channel of a run lacked when a new stream was sent the run so far. Whether that stream is still
    /// there or not, the others miss nothing.
    pub fn catch_up(&mut self, project: &ProjectId, run: RunNumber, format: Format, row: &Row, now: Now) {
        if let Some(channel) = self.watched.retold(project, run, format) {
            self.append_row(channel, row, now);
        }
    }

    /// How many streams read a run in each format, by the format's word.
    pub fn retold(&self) -> [(&'static str, u64); 2] {
        let mut counts = Format::WORDS.map(|(word, _)| (word, 0));
        for (_, channel) in self.watched.channels() {
            let word = channel.source.view().format().map(Format::word);
            let count = counts.iter_mut().find(|(of, _)| Some(*of) == word);
            count.into_iter().for_each(|(_, count)| *count += channel.streams().len() as u64);
        }
        counts
    }

    fn append_row(&mut self, channel: u32, row: &Row, now: Now) {
        let share = self.backlog_share();
        self.watched.append_row(channel, row, share, now.mono, &mut self.dirty);
    }

    /// Begins a stream of a run in a format: with the run so far, or where the client was.
    pub(super) fn begin_retold(
        &mut self,
        mut transport: Transport<S>,
        wanted: &Subscription,
        start: &StartingPosition,
        now: Now,
    ) -> Result<SlabKey, S> {
        if let Some(Retold { prelude, ends, .. }) = start.retold.as_deref() {
            let prelude = with_retry(prelude, self.reconnection_ms());
            transport.preface.append(&mut transport.coding.encoded(prelude));
            if *ends {
                transport.preface.extend_from_slice(transport.coding.end());
            }
        }
        self.add_sse(transport, wanted, start, now)
    }

    /// What channels lack is asked for.
    pub(super) fn ask_rows(&mut self) {
        let lacks = self.watched.take_lacks().into_iter();
        self.effects.extend(lacks.map(|lack| Effect::ReadRow {
            channel: lack.channel,
            project: lack.project,
            run: lack.run,
            format: lack.format,
            after: lack.after,
            bytes_max: ROW_BYTES_MAX,
        }));
    }
}

/// The last words of a stream in a format that has to end before its run does.
pub(super) fn last_words(format: Format, reason: CloseReason) -> Vec<u8> {
    let mut words = Vec::new();
    closing(format, reason.as_str(), &mut words);
    words
}
