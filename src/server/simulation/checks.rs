//! Checks everything after each turn: what clients were sent, what the server has released, and what it holds.

use std::time::Duration;

use super::answer::Head;
use super::client::{Asked, Mode, What};
use super::follower::{Circumstances, Follower};
use super::laws::{BACKLOG_BYTES, HEADER, HEARTBEAT, IDLE, RETRY_MS, STALL};
use super::medium::Medium;
use super::sse::{Block, Piece, next_piece};
use super::world::World;
use crate::http::Coding;

/// How often the server looks for deadlines of connections, and of streams at most; with a little to spare.
const SWEEP: Duration = Duration::from_millis(300);
const STREAM_SWEEP: Duration = Duration::from_millis(1100);

/// How long a refused client is listened to.
const LINGER: Duration = Duration::from_secs(2);

/// How long a client that is one too many may take to ask.
const REFUSED_WAIT: Duration = Duration::from_secs(2);

/// What a subscriber sends in as many pieces may be too much.
const CHATTER_MAX: usize = 4;

/// Statuses of what is refused before all of it has come.
const EARLY: [u16; 9] = [400, 408, 413, 414, 417, 431, 501, 503, 505];

impl<M: Medium> World<M> {
    /// Reads what a client was sent.
    pub(super) fn listen(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if client.is_buried {
            return;
        }
        let mut bytes = std::mem::take(&mut client.unread);
        let is_dropped = {
            let mut wire = client.wire.borrow_mut();
            bytes.append(&mut wire.to_client);
            wire.is_dropped
        };
        let mut read = 0;
        while let Some(n) = self.read_next(index, &bytes[read..]) {
            read += n;
        }
        bytes.drain(..read);
        let is_half_read = !bytes.is_empty();
        self.clients[index].unread = bytes;
        if is_dropped {
            self.bury(index, is_half_read);
        }
    }

    /// Reads one answer or block; how many bytes it was, where it is there whole.
    fn read_next(&mut self, index: usize, bytes: &[u8]) -> Option<usize> {
        let at = self.circumstances(index);
        match &mut self.clients[index].mode {
            Mode::Over => {
                assert!(bytes.is_empty(), "client {index}: behind the end: {}", String::from_utf8_lossy(bytes));
                None
            }
            Mode::Answers => self.read_answer(index, bytes),
            Mode::Stream(follower) if follower.wanted.format.is_some() => {
                let n = follower.take_retold(bytes, &self.model, &at)?;
                self.hear_words(index);
                Some(n)
            }
            Mode::Stream(follower) => {
                let (piece, n) = next_piece(bytes, follower.coding)?;
                let Piece::Block(block) = piece else {
                    follower.end();
                    return Some(n);
                };
                follower.take(&block, &self.model, &at);
                if let Block::Event { retry: Some(_), .. } = block {
                    self.note(|| format!("client {index}: {}", String::from_utf8_lossy(bytes)));
                }
                self.hear_words(index);
                Some(n)
            }
        }
    }

    fn hear_words(&mut self, index: usize) {
        for word in self.clients[index].follower().map(|f| std::mem::take(&mut f.words)).unwrap_or_default() {
            self.note(|| format!("client {index}: {word}"));
            if word.starts_with("connected") {
                self.let_in(index);
            }
            self.meet(word);
        }
    }

    /// A stream began: with a token that was good; if with a ticket, then with one that was, and is spent now.
    fn let_in(&mut self, index: usize) {
        let Some(asked) = self.clients[index].asked.pop_front() else { return };
        self.judge_credentials(index, &asked, 200);
        if let What::Stream { ticket: Some(used), .. } = asked.what {
            self.clients[index].ticket = Some(used.ticket);
            if used.must_pass {
                self.meet("ticket again");
            }
            assert!(!used.must_fail, "client {index}: its ticket was spent before");
            self.tokens.tickets[used.ticket].is_spent = true;
            self.meet("ticket spent");
        }
    }

    fn circumstances(&self, index: usize) -> Circumstances {
        let client = &self.clients[index];
        Circumstances {
            may_lose_runs: !self.laws.keeps_runs(),
            now: self.now.wall,
            is_ending: self.is_ending,
            may_be_busy: client.stream_of.is_some()
                || client
                    .asked
                    .front()
                    .is_some_and(|asked| self.may_refuse(index, asked.at) || self.was_down_since(asked.at)),
            was_down: self.was_down_since(client.watches_since),
            expires_at: self.tokens.expires_at(client.stream_of),
            heartbeat_ms: u64::try_from(HEARTBEAT.as_millis()).expect("small"),
            retry_ms: RETRY_MS,
        }
    }

    /// May what this client asked then be refused for what the server is like, or was since?
    pub(super) fn may_refuse(&self, index: usize, asked_at: Duration) -> bool {
        let client = &self.clients[index];
        let since = |at: Option<Duration>| at.is_some_and(|at| at >= asked_at);
        let is_crowded = client.is_proxy && since(self.proxies_crowded_at);
        client.is_refused || is_crowded || self.is_draining || since(self.overloaded_at)
    }

    /// Has the store failed since, or has the server thought so?
    pub(super) fn was_down_since(&self, at: Duration) -> bool {
        self.down_at.is_some_and(|down| down >= at)
    }

    fn read_answer(&mut self, index: usize, bytes: &[u8]) -> Option<usize> {
        let (head, head_bytes) = Head::read(bytes)?;
        let client = &mut self.clients[index];
        let Some(asked) = client.asked.front() else { panic!("client {index}: an answer to nothing: {head:?}") };
        if head.status == 100 {
            assert!(asked.expects_continue, "client {index}: {head:?}");
            return Some(head_bytes);
        }
        let is_stream = head.is_stream();
        let content = if is_stream { 0 } else { head.content_length(asked.is_head && head.status != 408) };
        if bytes.len() < head_bytes + content {
            return None;
        }
        let is_whole = asked.end <= client.sent;
        assert!(is_whole || (EARLY.contains(&head.status) && head.closes()), "client {index}: too early: {head:?}");
        let asked = client.asked.pop_front().expect("looked at just above");
        if head.closes() {
            client.mode = Mode::Over;
        }
        self.note(|| format!("client {index}: {}", head.status));
        self.meet(format!("status {}", head.status));
        if is_stream {
            let coding = head.coding();
            assert_eq!(coding == Coding::UntilClose, asked.is_of_1_0, "client {index}: {head:?}");
            self.begin_to_follow(index, asked, coding);
        } else {
            self.judge(index, &asked, &head, &bytes[head_bytes..head_bytes + content], is_whole);
        }
        Some(head_bytes + content)
    }

    fn begin_to_follow(&mut self, index: usize, asked: Asked, coding: Coding) {
        let What::Stream { wanted, .. } = &asked.what else { panic!("client {index}: a stream it did not ask for") };
        if asked.is_head {
            if !self.may_refuse(index, asked.at) {
                self.judge_credentials(index, &asked, 200);
            }
            return;
        }
        let client = &mut self.clients[index];
        let wanted = (**wanted).clone();
        client.mode = Mode::Stream(Box::new(Follower::new(wanted.clone(), coding)));
        client.stream_of = asked.who;
        client.watches_since = self.now.mono;
        if client.sent > asked.end {
            // It talks on, and nobody listens.
            client.chatter = CHATTER_MAX;
        }
        let is_retold = wanted.format.is_some();
        assert!(!is_retold || !wanted.has_seen_the_end, "client {index}: it has seen the end of its run: 204");
        client.asked = [asked].into();
        if is_retold {
            self.let_in(index);
        }
    }

    /// The server has let go of a client: was that in order?
    fn bury(&mut self, index: usize, is_half_read: bool) {
        let now = self.now.mono;
        let was_down = self.was_down_since(self.clients[index].watches_since);
        let client = &mut self.clients[index];
        client.is_buried = true;
        let wire = client.wire.borrow();
        let (has_left, active_at) = (wire.has_left(), wire.active_at);
        let is_stalled = wire.blocked_since.is_some_and(|since| now >= since + STALL);
        let wire_is_blocked = wire.blocked_since.is_some();
        drop(wire);
        if has_left || is_stalled {
            if is_stalled {
                self.meet("stalled");
            }
            return;
        }
        match &client.mode {
            Mode::Over => assert!(!is_half_read, "client {index}"),
            Mode::Answers => {
                let patience = if client.is_refused { REFUSED_WAIT } else { HEADER };
                let is_idle = now >= active_at + patience;
                let is_owed = client.owed().is_some();
                // It takes nothing, so that there is no room to say why its stream ends.
                let is_deaf = wire_is_blocked && self.is_ending;
                // It has a stream that it does not know of yet, and talks on.
                let is_watch = |asked: &Asked| matches!(asked.what, What::Stream { .. }) && asked.end < client.sent;
                let is_chatty = client.asked.iter().any(is_watch);
                assert!(
                    is_chatty || is_deaf || (is_idle && !is_owed && !is_half_read),
                    "client {index} is dropped: owed {is_owed}, half read {is_half_read}, {:?}",
                    client.wire
                );
                self.meet("idle");
            }
            Mode::Stream(follower) => {
                let project = &follower.wanted.project;
                let has_lost_half =
                    is_half_read && self.laws.messages_max as u64 <= self.model.newest(project) - follower.position;
                let may_lose = has_lost_half || !self.laws.floor_is_known;
                // Where the reader is behind, there is no room to say why.
                let has_ended = self.tokens.expires_at(client.stream_of).is_some_and(|end| end <= self.now.wall);
                let may_lose = may_lose || (wire_is_blocked && (has_ended || self.is_ending));
                let may_lose_run = follower.wanted.run.is_some() && !self.laws.keeps_runs();
                let is_chatty = client.chatter >= CHATTER_MAX;
                // It was behind, and what it lacks could not be read.
                let may_lose = may_lose || was_down;
                let is_in_order = (follower.has_ended() && !is_half_read) || may_lose || may_lose_run || is_chatty;
                assert!(
                    is_in_order,
                    "client {index}: its stream is dropped: {follower:?} {:?} {:?}",
                    client.wire,
                    self.server.gauges()
                );
            }
        }
    }

    /// The server holds what it should.
    pub(super) fn check_counts(&mut self) {
        let alive = self.clients.iter().filter(|client| client.is_alive()).count();
        let gauges = self.server.gauges();
        assert_eq!(gauges.connections + gauges.streams, alive, "each socket is a connection or a stream");
        // Its own, one with items, one in lines and a few of runs, each with room to grow.
        let each = 8 * BACKLOG_BYTES + 2 * super::laws::BODY_BYTES;
        let held = gauges.backlog_bytes;
        assert!(held <= each * gauges.projects_watched, "{held} bytes for {} projects", gauges.projects_watched);
        if !self.laws.is_jwt {
            return;
        }
        let mut streams = vec![0; self.tokens.all.len()];
        for client in self.clients.iter().filter(|client| client.is_alive()) {
            if let (Mode::Stream(follower), Some(who)) = (&client.mode, client.stream_of)
                && follower.is_live()
            {
                streams[who] += 1;
            }
        }
        assert!(streams.iter().all(|&n| n <= self.laws.streams_per_token), "{streams:?}");
    }

    /// Nothing is left to do at this moment: what should have ended by now has.
    pub(super) fn check_overdue(&mut self) {
        let now = self.now.mono;
        for (index, client) in self.clients.iter().enumerate().filter(|(_, client)| client.is_alive()) {
            let wire = client.wire.borrow();
            let is_stream = matches!(&client.mode, Mode::Stream(follower) if follower.is_live());
            let stall = STALL + if is_stream { STREAM_SWEEP } else { SWEEP };
            let is_stalled = wire.blocked_since.is_some_and(|since| now > since + stall);
            assert!(!is_stalled, "client {index} stalls since {:?} {wire:?} {is_stream}", wire.blocked_since);
            let has_left = wire.has_left() && wire.blocked_since.is_none();
            assert!(!has_left, "client {index} has left and is kept");
            let is_finished = wire.finished_at.is_some_and(|at| now > at + LINGER + SWEEP);
            assert!(!is_finished, "client {index} was told the end at {:?}", wire.finished_at);
            let is_idle = wire.blocked_since.is_none() && now > wire.active_at + IDLE + SWEEP;
            assert!(is_stream || !is_idle, "client {index} is idle since {:?}", wire.active_at);
            let end = self.tokens.expires_at(client.stream_of);
            let is_new = now <= client.watches_since + STREAM_SWEEP;
            let is_expired = !is_new && end.is_some_and(|end| self.now.wall > end.plus_millis(2000));
            assert!(!is_stream || !is_expired, "client {index}: its token has ended");
            if let Mode::Stream(follower) = &client.mode
                && wire.blocked_since.is_none()
                && follower.position == self.model.newest(&follower.wanted.project)
                && !self.is_store_down()
            {
                follower.check_items(&self.model);
            }
            // What a run has decided is told once that is kept.
            let is_steer = client.owed().is_some_and(|asked| matches!(asked.what, What::Steer(_)));
            let may_wait = is_steer && self.is_store_down();
            let is_owed = client.owed().is_some() && matches!(client.mode, Mode::Answers) && !may_wait;
            assert!(!is_owed || wire.blocked_since.is_some(), "client {index} waits for an answer");
        }
    }
}
