//! Reads what other nodes have written. It is never inside a transaction for longer than one statement, so it does not
//! hold back vacuum.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::codes::{bytes, count, damaged, get, id, int, message, run_number};
use super::connection::Connection;
use super::failure::Failure;
use super::membership::Membership;
use super::noted::Noted;
use super::settings::PostgresWake;
use super::{notice, sql};
use crate::auth::TicketNote;
use crate::log::store::{FOLLOWED_MAX, Followed, Hints, Outgoing, Standing, StoreError, Tail, WishId, WishRow, Wishes};
use crate::model::{ProjectId, RunId};

/// Bytes that applications have published that are read at once; one message may have more.
const PUBLISHED_BYTES: i64 = 1 << 20;

/// Notes about tickets that are read at once.
const TICKETS_MAX: i64 = 4096;

/// See the top of this file. For the thread that follows what others write.
pub struct PostgresTail {
    conn: Connection,
    me: Arc<Membership>,
    wake: PostgresWake,
    probed: u64,
    /// The connection that was heard last: what came between it and the next is lost.
    heard: u64,
    noted: Noted,
}

impl PostgresTail {
    pub(super) fn new(mut conn: Connection, me: Arc<Membership>, wake: PostgresWake) -> Self {
        if wake == PostgresWake::Notify {
            conn.greet_with(format!("LISTEN {}", me.channel()));
        }
        Self { conn, me, wake, probed: 0, heard: 0, noted: Noted::default() }
    }

    fn query(
        &mut self,
        sql: &'static str,
        values: &[super::read::Value<'_>],
    ) -> Result<Vec<tokio_postgres::Row>, StoreError> {
        let rows = match self.conn.query(sql, values) {
            Err(Failure::Lost(_)) => self.conn.query(sql, values),
            rows => rows,
        };
        rows.map_err(|failure| failure.at(self.conn.address().shown()))
    }

    /// Where no notice comes, a probe is looked for.
    fn look_for_probe(&mut self) -> Result<(), StoreError> {
        let node = self.me.node();
        let rows = self.query(sql::PROBED, &[&&node.0[..]])?;
        let number: u64 = rows.first().map_or(Ok(0), |row| count(row, 0))?;
        // A node that has joined again begins again.
        self.probed = number;
        Ok(())
    }
}

impl Tail for PostgresTail {
    fn wait(&mut self, up_to: Duration) -> Result<Hints, StoreError> {
        let mut hints = Hints::default();
        if self.wake == PostgresWake::Poll {
            std::thread::sleep(up_to);
            self.look_for_probe()?;
            return Ok(hints);
        }
        let made = self.conn.ensure().map_err(|failure| failure.at(self.conn.address().shown()))?;
        if std::mem::replace(&mut self.heard, made) != made {
            hints.is_anything = true;
            return Ok(hints);
        }
        let told = self.conn.wait(up_to).map_err(|failure| failure.at(self.conn.address().shown()))?;
        let node = self.me.node();
        for text in told {
            if let Some(number) = notice::read(&text, node, &mut hints) {
                self.probed = number;
            }
        }
        hints.projects.sort_unstable();
        hints.projects.dedup();
        Ok(hints)
    }

    fn changes_since(&mut self, standings: &[Standing], bytes_max: usize) -> Result<Vec<Followed>, StoreError> {
        if standings.is_empty() {
            return Ok(Vec::new());
        }
        let names: Vec<&str> = standings.iter().map(|it| it.project.as_str()).collect();
        let newest: Vec<i64> = standings.iter().map(|it| int(it.newest)).collect();
        let revisions: Vec<i64> = standings.iter().map(|it| int(it.revision)).collect();
        let rows = self
            .query(sql::CHANGES, &[&names, &newest, &revisions, &int(bytes_max as u64), &int(FOLLOWED_MAX as u64)])?;
        let mut all: Vec<Followed> = Vec::new();
        for row in &rows {
            // As SQL counts, from 1.
            let place = usize::try_from(count(row, 0)?).unwrap_or_default().saturating_sub(1);
            let standing = standings.get(place).ok_or_else(|| damaged("unknown kind of entry"))?;
            if all.last().is_none_or(|last| last.project != standing.project) {
                let (project, revision) = (standing.project.clone(), count(row, 1)?);
                all.push(Followed { project, revision, messages: Vec::new() });
            }
            let seq: Option<i64> = get(row, 2)?;
            if let (Some(_), Some(followed)) = (seq, all.last_mut()) {
                followed.messages.push(message(row, 2)?);
            }
        }
        Ok(all)
    }

    fn wishes(&mut self, waiting: &[WishId]) -> Result<Wishes, StoreError> {
        let node = self.me.node();
        let open = self.query(sql::OPEN_WISHES, &[&&node.0[..]])?;
        let open = open.iter().map(wish).collect::<Result<_, _>>()?;
        if waiting.is_empty() {
            return Ok(Wishes { open, answered: Vec::new() });
        }
        let ids: Vec<&[u8]> = waiting.iter().map(|id| &id.0[..]).collect();
        let answered = self.query(sql::ANSWERED_WISHES, &[&ids])?;
        let answered = answered.iter().map(|row| Ok((wish_id(row)?, bytes(row, 1)?))).collect::<Result<_, _>>()?;
        Ok(Wishes { open, answered })
    }

    fn published(&mut self, max: usize, put_off: &[ProjectId]) -> Result<Vec<Outgoing>, StoreError> {
        let (node, put_off): (_, Vec<&str>) = (self.me.node(), put_off.iter().map(ProjectId::as_str).collect());
        let values: &[super::read::Value<'_>] = &[&&node.0[..], &int(max as u64), &PUBLISHED_BYTES, &put_off];
        let rows = self.query(sql::PUBLISHED, values)?;
        let outgoing = |row: &tokio_postgres::Row| {
            let (message_type, payload): (&str, &str) = (get(row, 2)?, get(row, 3)?);
            let (id, project) = (count(row, 0)?, id(row, 1, ProjectId::parse)?);
            Ok(Outgoing { id, project, message_type: message_type.to_owned(), payload: payload.into() })
        };
        rows.iter().map(outgoing).collect()
    }

    fn tickets(&mut self) -> Result<Vec<TicketNote>, StoreError> {
        let (after, told) = self.noted.so_far(Instant::now());
        let rows = self.query(sql::EXTENDED_TICKETS, &[&after, &told, &TICKETS_MAX])?;
        let mut notes = Vec::with_capacity(rows.len());
        let mut ids = Vec::with_capacity(rows.len());
        for row in &rows {
            let note: &[u8] = get(row, 1)?;
            notes.push(serde_json::from_slice(note).map_err(|_| damaged("invalid ticket note"))?);
            ids.push(get(row, 0)?);
        }
        self.noted.found = ids;
        Ok(notes)
    }

    fn has_told_tickets(&mut self) {
        self.noted.has_told(Instant::now());
    }

    fn probed(&self) -> u64 {
        self.probed
    }
}

fn wish(row: &tokio_postgres::Row) -> Result<WishRow, StoreError> {
    Ok(WishRow {
        id: wish_id(row)?,
        project: id(row, 1, ProjectId::parse)?,
        run: id(row, 2, RunId::parse)?,
        number: run_number(row, 3)?,
        wish: bytes(row, 4)?,
    })
}

fn wish_id(row: &tokio_postgres::Row) -> Result<WishId, StoreError> {
    let id: &[u8] = get(row, 0)?;
    id.try_into().map(WishId).map_err(|_| damaged("invalid request id"))
}
