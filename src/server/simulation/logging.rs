//! Passes commands to the log of a world, and its output to the loop, the executor, and those who wait outside the
//! loop.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};

use super::laws::Laws;
use super::medium::Medium;
use super::model::{Seen, look_through};
use super::orders::{new_run, resumed_run};
use super::shop::Shop;
use super::tokens::Tokens;
use super::world::{LOG_WAITING_MAX, PLAN_STEPS_MAX, World};
use crate::api::{Prepared, prepare, read_document};
use crate::executor::Context;
use crate::http::Response;
use crate::log::beside::Beside;
use crate::log::faulty::Disk;
use crate::log::{
    Answer, Command, Delivery, Journal, Order, Outcome, PlanCommand, Query, ReplyTo, Store, WebhookFilter, Webhooks,
};
use crate::model::{Notable, Now, RunId};
use crate::server::children::Nursery;
use crate::server::distribution::child_end;
use crate::server::{Inbox, Server};

/// More rounds than an answer can need: it may be asked of the log, then of those beside it, then of the log again.
const ROUNDS_MAX: usize = 5;

impl<M: Medium> World<M> {
    /// The log takes up to this many batches as one.
    pub(super) fn log(&mut self, batches_max: usize) {
        let n = batches_max.min(self.log_queue.len());
        let commands: Vec<Command> = self.log_queue.drain(..n).flatten().collect();
        if commands.is_empty() && self.journal.next_deadline() > self.now.mono {
            return;
        }
        let outcome = self.hand_to_log(commands);
        let deliveries: Vec<_> = outcome.deliveries.into_iter().filter_map(for_loop).collect();
        if !deliveries.is_empty() {
            self.outcomes += 1;
            self.inbox.push_back(Inbox::Log(deliveries));
        }
        self.pose(outcome.questions);
    }

    /// Someone beside the loop asks the log; where the answer will come. What came before is taken first.
    pub(super) fn ask_log(&mut self, command: impl FnOnce(ReplyTo) -> Command) -> Receiver<Answer> {
        let (caller, answer) = bounded(1);
        self.log_queue.push_back(vec![command(ReplyTo::Caller(caller))]);
        answer
    }

    /// The same, and waits for the answer.
    pub(super) fn hear_from_log(&mut self, command: impl FnOnce(ReplyTo) -> Command) -> Answer {
        let answer = self.ask_log(command);
        for _ in 0..ROUNDS_MAX {
            self.log(usize::MAX);
            self.read_beside(usize::MAX);
            if let Ok(answer) = answer.try_recv() {
                return answer;
            }
        }
        panic!("the log never answers");
    }

    fn hand_to_log(&mut self, commands: Vec<Command>) -> Outcome {
        let seen = look_through(&commands);
        let (was_down, failed) = (self.journal.is_down(), self.disk.failed());
        let mut outcome = self.journal.handle(commands, self.now);
        if self.journal.is_down() || self.disk.failed() > failed {
            self.down_at = Some(self.now.mono);
        }
        self.tell_model(was_down, seen, &outcome);
        self.carry_out(std::mem::take(&mut outcome.orders));
        outcome
    }

    /// What of a batch was kept is told by what the log says of its store.
    fn tell_model(&mut self, was_down: bool, seen: Vec<Seen>, outcome: &Outcome) {
        let news = outcome.deliveries.iter().filter_map(|delivery| match delivery {
            Delivery::StoreIsDown(is_down) => Some(*is_down),
            _ => None,
        });
        let (is_back, is_kept) = match (was_down, &news.collect::<Vec<_>>()[..]) {
            (false, []) => (false, true),
            (false, [true]) | (true, []) => (false, false),
            (true, [false]) => (true, true),
            (true, [false, true]) => (true, false),
            other => panic!("{other:?}"),
        };
        if is_back {
            self.model.release();
            self.meet("store back");
        }
        let cancelled = outcome.orders.iter().filter_map(|order| match order {
            Order::Cancel { project, run } => Some((project, run)),
            _ => None,
        });
        if is_kept {
            self.model.apply(seen, &outcome.orders, self.now);
        } else {
            self.model.reload();
            self.model.hold(seen, self.now);
        }
        cancelled.for_each(|(project, run)| self.model.note_cancelled(project, run));
    }

    fn carry_out(&mut self, orders: Vec<Order>) {
        for order in orders {
            let seed = self.rng.next();
            match &order {
                Order::Start { project, run, is_held, .. } => {
                    if *is_held {
                        self.meet("group waits");
                    }
                    let new = new_run(project.clone(), run.clone(), &order, seed);
                    self.shop.start(new.expect("an order to start"));
                }
                Order::Release { project, run } => {
                    self.meet("group let on");
                    self.shop.release(project.clone(), run.clone());
                }
                Order::Cancel { project, run } => self.shop.cancel(project.clone(), run.clone()),
                Order::Steer { project, run, steer } => self.shop.steer(project.clone(), run.clone(), steer.clone()),
                Order::ChildEnded { project, end } => {
                    let child = child_end(end.result.clone());
                    self.shop.child_ended(project.clone(), end.parent.clone(), end.child.clone(), child);
                    self.meet("child ended");
                }
                Order::Abandon(_) => panic!("one node alone is never fenced"),
                Order::Kept(batches) => self.shop.kept(*batches),
                Order::StoreIsDown(is_down) => self.shop.store_is_down(*is_down),
                Order::Resume(_) => self.shop.resume(resumed_run(order, seed).expect("an order to resume")),
            }
        }
    }

    pub(super) fn is_store_down(&self) -> bool {
        self.journal.is_down()
    }

    /// The process has ended, and another one begins with what the store holds. Everything that was on its way is lost.
    pub(super) fn start_anew(&mut self) {
        self.unsent.clear();
        self.questions.clear();
        self.log_queue.clear();
        self.inbox.clear();
        self.intake.clear();
        self.wishes.clear();
        self.executor_has_ended = false;
        self.shop = Shop::new(&self.context);
        self.nursery = Nursery::new(self.context.clone(), PLAN_STEPS_MAX);
        self.is_log_full = false;
        (self.overloaded_at, self.proxies_crowded_at) = (None, None);
        (self.is_draining, self.is_ending) = (false, false);
        let by = Duration::from_millis(self.rng.below(3000) as u64);
        self.pass(by);
        if self.rng.one_in(3) {
            self.set_wall_clock();
        }
        self.starts += 1;
        let api = self.tokens.api(&self.laws, self.starts, &self.disk.tickets());
        self.server = Server::new(self.laws.server(), api, self.rng.next());
        if let Some(store) = self.medium.reopen(self.now.wall) {
            self.disk.replace(store);
        }
        let (journal, left) = open_journal(&self.disk, &self.tokens, &self.laws, &self.context, self.now);
        self.server.count_watchers(journal.watchers());
        self.journal = journal;
        self.beside = self.laws.has_readers.then(|| Beside::of(&mut self.journal, Box::new(self.disk.reader())));
        self.model.restart();
        self.disk.look(|store| self.model.check_kept(store));
        self.model.check_resumed(&left.orders);
        assert!(left.deliveries.is_empty(), "every run can go on: {left:?}");
        if !left.orders.is_empty() {
            self.meet("run resumed");
        }
        self.carry_out(left.orders);
    }

    /// The intake looks at one plan, if the log has room for what comes of it.
    pub(super) fn intake(&mut self) {
        if self.log_queue.len() >= LOG_WAITING_MAX {
            return;
        }
        let Some((to, request)) = self.intake.pop_front() else { return };
        let mut bits = [0; 16];
        bits[..8].copy_from_slice(&self.rng.next().to_be_bytes());
        match prepare(request, &self.context, PLAN_STEPS_MAX, RunId::from_random(bits)) {
            Ok(Prepared::Run(submission)) => {
                self.log_queue.push_back(vec![Command::Submit { submission, reply: ReplyTo::Connection(to) }]);
            }
            Ok(Prepared::Steer(request)) => {
                self.log_queue.push_back(vec![Command::Steer { request, reply: ReplyTo::Connection(to) }]);
            }
            Ok(Prepared::Recall(claim, otherwise)) => {
                let read = Command::Read { query: Query::Recall { claim, otherwise }, reply: ReplyTo::Connection(to) };
                self.log_queue.push_back(vec![read]);
            }
            Ok(Prepared::Store(plan)) => {
                let (command, reply) = (PlanCommand::Put(plan), ReplyTo::Connection(to));
                self.log_queue.push_back(vec![Command::Plan { command, reply }]);
            }
            Ok(Prepared::Checked(response)) => self.inbox.push_back(Inbox::Answer(to, Box::new(response))),
            Err(problem) => self.inbox.push_back(Inbox::Answer(to, Box::new(Response::from(problem)))),
        }
    }
}

/// What is for the loop. Whoever waits elsewhere is answered.
pub(super) fn for_loop(delivery: Delivery) -> Option<Delivery> {
    match delivery {
        Delivery::Reply { to: ReplyTo::Caller(caller), answer } => {
            // Whoever has given up waiting is told nothing.
            let _ = caller.try_send(answer);
            None
        }
        delivery => Some(delivery),
    }
}

/// A journal over what `disk` holds, and what is left to do.
pub(super) fn open_journal<S: Store + 'static>(
    disk: &Disk<S>,
    tokens: &Tokens,
    laws: &Laws,
    context: &Arc<Context>,
    now: Now,
) -> (Journal, Outcome) {
    let context = context.clone();
    let read_plan = Box::new(move |document: &[u8]| read_document(document, &context));
    let (store, signer) = (Box::new(disk.store()), tokens.signer.clone());
    let opened = Journal::open_telling(webhooks(), store, signer, laws.journal(), read_plan, now);
    opened.expect("nothing fails at a start")
}

/// One that is told of everything.
fn webhooks() -> Webhooks {
    let filter = WebhookFilter { name: "w".into(), events: Notable::ALL.to_vec(), projects: None };
    Webhooks { filters: vec![filter], rows_max: u64::MAX }
}
