//! The thread of the courier: it reads which events are due, has them sent, and has the log store the outcome.
//!
//! It may wait for the log, and nothing waits for it. Each attempt runs on its own thread, with a small limit per
//! webhook. An event that was sent but whose delivery was not stored, because the process ended in between, is sent
//! again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, select};

use super::board::Board;
use super::declaration::{WebhookDeclaration, check_all};
use super::post::{Fate, Post, Sent, Wish};
use super::request::Target;
use super::schedule::Schedule;
use super::words::{CourierHandle, Ears, Rung, Word, words};
use crate::log::{Answer, Command, DueEvent, DueId, DuePage, LogHandle, OutboxChange, Query, ReplyTo, WantedDue};
use crate::model::{Now, Timestamp};
use crate::{clock, random};

/// How soon the log is asked again that did not take or tell something.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The longest that nothing is looked at: a clock that was set is noticed by then.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// How long what is on its way has when the server ends.
const GRACE: Duration = Duration::from_secs(5);

/// See the top of this file.
pub(crate) struct Courier {
    posts: Vec<(Post, Arc<Target>)>,
    log: LogHandle,
    board: Arc<Board>,
    rung: Receiver<()>,
    ears: Ears,
    /// Changes for the log to store, and what is counted for which webhook once they are stored.
    unkept: Vec<(OutboxChange, Option<(usize, Fate)>)>,
    /// How often it is looked whether something is due that nobody here rang for: where other nodes share the store.
    looks_each: Option<Duration>,
    /// When that is next, on the monotonic clock.
    looks_at: Duration,
    /// The log did not do what it was asked; when it is asked again, on the monotonic clock.
    ask_again_at: Option<Duration>,
}

impl Courier {
    /// One for these webhooks, and the way to it. With `looks_each` others may put something there, too, and ring for nobody.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub(crate) fn new(
        declarations: &[WebhookDeclaration],
        body_bytes_max: usize,
        log: LogHandle,
        board: Arc<Board>,
        rung: Rung,
        looks_each: Option<Duration>,
    ) -> Result<(Self, CourierHandle), String> {
        check_all(declarations)?;
        let post = |it: &WebhookDeclaration| {
            let target = Target::compile(it).map_err(|problem| format!("webhook {}: {problem}", it.name))?;
            let schedule = Schedule::new(&it.retry);
            Ok((Post::new(it.name.as_str().into(), schedule, body_bytes_max), Arc::new(target)))
        };
        let posts = declarations.iter().map(post).collect::<Result<_, String>>()?;
        let (ears, handle) = words();
        let (unkept, ask_again_at, looks_at) = (Vec::new(), None, Duration::ZERO);
        let rung = rung.0;
        Ok((Self { posts, log, board, rung, ears, unkept, looks_each, looks_at, ask_again_at }, handle))
    }

    /// Works until it is stopped, or the log has ended.
    pub(crate) fn run(mut self) {
        loop {
            let now = clock::now();
            if self.work(now).is_err() {
                return;
            }
            match self.wait(now) {
                Some(Word::Ended(place, id, sent)) => self.note(place, id, sent),
                Some(Word::Close) => return self.finish(),
                Some(Word::Hurry) => return self.shut_down(),
                None => {}
            }
        }
    }

    /// Has the log store the outcomes of events, and sends what is due. If the log has no room, it is asked again.
    fn work(&mut self, now: Now) -> Result<(), LogHasEnded> {
        if self.ask_again_at.is_some_and(|at| now.mono < at) {
            return Ok(());
        }
        self.ask_again_at = None;
        if let Some(each) = self.looks_each.filter(|_| now.mono >= self.looks_at) {
            self.looks_at = now.mono + each;
            self.ring();
        }
        self.keep(now)?;
        for place in 0..self.posts.len() {
            match self.posts[place].0.wish(now.wall) {
                Wish::Nothing => {}
                Wish::Due(wanted) => self.look(place, wanted, now)?,
                Wish::LetGo(change) => self.unkept.push((change, None)),
            }
        }
        self.keep(now)
    }

    fn keep(&mut self, now: Now) -> Result<(), LogHasEnded> {
        if self.unkept.is_empty() || self.ask_again_at.is_some() {
            return Ok(());
        }
        let changes = self.unkept.iter().map(|(change, _)| change.clone()).collect();
        match self.ask(|reply| Command::Outbox { changes, reply })? {
            Answer::Noted => {
                for (change, counted) in self.unkept.drain(..) {
                    self.posts.iter_mut().for_each(|(post, _)| post.kept(&change));
                    if let Some((place, fate)) = counted {
                        self.board.change(place, |it| it.count(fate, &change));
                    }
                }
            }
            _ => self.ask_again_at = Some(now.mono + ASK_AGAIN),
        }
        Ok(())
    }

    fn look(&mut self, place: usize, wanted: WantedDue, now: Now) -> Result<(), LogHasEnded> {
        let query = Query::Due(Box::new(wanted));
        match self.ask(|reply| Command::Read { query, reply })? {
            Answer::Due(page) => self.take(place, page, now.wall),
            _ => self.ask_again_at = Some(now.mono + ASK_AGAIN),
        }
        Ok(())
    }

    fn ask(&self, command: impl FnOnce(ReplyTo) -> Command) -> Result<Answer, LogHasEnded> {
        self.log.ask(command).ok_or(LogHasEnded)
    }

    fn take(&mut self, place: usize, page: DuePage, now: Timestamp) {
        let (post, target) = &mut self.posts[place];
        post.take(&page);
        self.board.change(place, |it| {
            (it.pending, it.on_their_way, it.next_attempt_at) = (page.waiting, post.sending(), page.next_at);
        });
        for DueEvent { id, message_id, body, .. } in page.events {
            let (target, way_back) = (Arc::clone(target), self.ears.way_back.clone());
            let attempt = move || {
                let sent = catch_unwind(AssertUnwindSafe(|| target.send(&message_id, body, now)));
                let sent = sent.unwrap_or_else(|_| Sent::Failed("the attempt panicked".to_owned()));
                // Nobody waits for it where the courier has ended.
                let _ = way_back.send(Word::Ended(place, id, sent));
            };
            if let Err(error) = thread::Builder::new().name("webhook".to_owned()).spawn(attempt) {
                let sent = Sent::Failed(format!("cannot start a thread for the attempt: {error}"));
                let _ = self.ears.way_back.send(Word::Ended(place, id, sent));
            }
        }
    }

    /// An attempt has ended.
    fn note(&mut self, place: usize, id: DueId, sent: Sent) {
        let now = clock::now().wall;
        let result = sent.to_string();
        let (post, _) = &mut self.posts[place];
        let Some(verdict) = post.ended(id, sent, now, chance()) else { return };
        self.board.change(place, |it| {
            (it.last_attempt_at, it.last_result, it.on_their_way) = (Some(now), Some(result), post.sending());
        });
        self.unkept.push((verdict.change, Some((place, verdict.fate))));
        if let Some(news) = verdict.news {
            log::warn!("{news}");
        }
    }

    /// The next word. None if a bell has rung, or it is time for something.
    fn wait(&mut self, now: Now) -> Option<Word> {
        select! {
            recv(self.ears.words) -> word => word.ok(),
            recv(self.rung) -> _ => {
                self.ring();
                None
            }
            default(self.timeout(now)) => None,
        }
    }

    fn ring(&mut self) {
        self.posts.iter_mut().for_each(|(post, _)| post.ring());
    }

    fn timeout(&self, now: Now) -> Duration {
        let looks_in = self.looks_each.map_or(WAIT_MAX, |_| self.looks_at.saturating_sub(now.mono));
        if let Some(at) = self.ask_again_at {
            return at.saturating_sub(now.mono);
        }
        let next_at = self.posts.iter().filter_map(|(post, _)| post.next_at()).min();
        let wait = next_at.map_or(WAIT_MAX, |at| Duration::from_millis(at.millis_since(now.wall)));
        wait.min(looks_in).min(WAIT_MAX)
    }

    /// Waits for attempts under way, within the grace, and has their outcomes stored.
    fn finish(mut self) {
        let ends_at = clock::mono() + GRACE;
        while self.posts.iter().any(|(post, _)| post.on_their_way() > 0) {
            match self.ears.words.recv_timeout(ends_at.saturating_sub(clock::mono())) {
                Ok(Word::Ended(place, id, sent)) => self.note(place, id, sent),
                Ok(Word::Close) => {}
                Ok(Word::Hurry) | Err(_) => break,
            }
            self.ask_again_at = None;
            if self.keep(clock::now()).is_err() {
                break;
            }
        }
        self.shut_down();
    }

    /// Attempts still under way are repeated at the next start.
    fn shut_down(self) {
        self.posts.iter().for_each(|(_, target)| target.shut_down());
    }
}

/// There is nobody to ask any more.
struct LogHasEnded;

/// From 0 to 1. Without randomness in the middle: it only spreads attempts.
fn chance() -> f64 {
    random::bits().map_or(0.5, |bits| f64::from(u32::from_ne_bytes(bits)) / f64::from(u32::MAX))
}
