//! Builds the events that are due for a webhook.

use std::collections::HashSet;

use crate::auth::IdSigner;
use crate::formats::cloudevents::{Thin, write_event, write_thin};
use crate::log::protocol::{Answer, DueEvent, DuePage, WantedDue};
use crate::log::store::{Due, DueRow, Flow, History, StoreError};

/// What is due, and when to look again.
pub(in crate::log) fn page(history: &dyn History, signer: &IdSigner, wanted: &WantedDue) -> Result<Answer, StoreError> {
    let WantedDue { webhook, times, limit, .. } = wanted;
    let except: HashSet<_> = wanted.except.iter().collect();
    let mut rows = Vec::new();
    if *limit > 0 {
        history.due(webhook, *times, &mut |row| {
            if !except.contains(&row.id) {
                rows.push(row.clone());
            }
            if rows.len() == *limit { Flow::Stop } else { Flow::More }
        })?;
    }
    let events = rows.iter().map(|row| event(history, signer, row, wanted.body_bytes_max)).collect::<Result<_, _>>()?;
    let waiting = history.outbox()?.into_iter().find(|(name, _)| name == webhook).map_or(0, |(_, rows)| rows);
    Ok(Answer::Due(DuePage { events, next_at: history.next_due(webhook, *times)?, waiting }))
}

fn event(history: &dyn History, signer: &IdSigner, row: &DueRow, bytes_max: usize) -> Result<DueEvent, StoreError> {
    let DueRow { id, due, attempts, .. } = row;
    let message_id = signer.text(&due.project, due.seq);
    let body = match whole(history, due, &message_id)? {
        Some(body) if body.len() <= bytes_max => body,
        _ => thin(due, &message_id)?,
    };
    Ok(DueEvent { id: *id, attempts: *attempts, message_id, body })
}

/// The event with its complete message. `None` if that is no longer stored.
fn whole(history: &dyn History, due: &Due, message_id: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let (mut body, mut written) = (Vec::new(), None);
    history.messages(&due.project, due.seq.saturating_sub(1), Some(due.number), &mut |message| {
        if message.seq == due.seq {
            written = Some(write_event(&mut body, message_id, &message.json));
        }
        Flow::Stop
    })?;
    match written {
        Some(Err(error)) => {
            log::error!("cannot read message {} of run {} in full: {error}", due.seq, due.run);
            Ok(None)
        }
        written => Ok(written.map(|_| body)),
    }
}

fn thin(due: &Due, message_id: &str) -> Result<Vec<u8>, StoreError> {
    let Due { project, run, seq, notable, at, .. } = due;
    let mut body = Vec::new();
    let thin = Thin { project, run, notable: *notable, at: *at, seq: *seq };
    write_thin(&mut body, message_id, &thin).map_err(|error| StoreError(error.to_string()))?;
    Ok(body)
}
