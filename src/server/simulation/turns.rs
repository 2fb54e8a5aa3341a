//! A turn of the loop: which sockets are ready, what other threads send, and what the loop sends them.

use super::medium::Medium;
use super::world::{INTAKE_WAITING_MAX, LOG_WAITING_MAX, World};
use crate::log::Command;
use crate::log::beside::Beside;

impl<M: Medium> World<M> {
    /// A turn of the loop: readiness in any order, some of what other threads said, and the rest of the turn. `true`
    /// where there is more to do at once.
    pub(super) fn turn(&mut self, inbox_max: usize) -> bool {
        self.note_outage();
        self.note_crowds();
        let mut ready: Vec<usize> = (0..self.clients.len()).filter(|&client| self.is_ready(client)).collect();
        while !ready.is_empty() {
            let client = ready.swap_remove(self.rng.below(ready.len()));
            self.tell_readiness(client);
        }
        for _ in 0..inbox_max {
            let Some(batch) = self.inbox.pop_front() else { break };
            self.server.receive(batch, self.now);
            self.note_outage();
        }
        let is_busy = self.server.end_turn(self.now);
        self.watch_blocked();
        self.carry_out_outbox();
        self.note_outage();
        self.look_at_everything();
        is_busy
    }

    /// The server refuses work as long as it has heard of nothing better.
    fn note_outage(&mut self) {
        if self.server.metrics.store_is_down {
            self.down_at = Some(self.now.mono);
        }
    }

    /// What the server refuses in this turn for others than those who ask.
    fn note_crowds(&mut self) {
        if self.is_log_full {
            self.overloaded_at = Some(self.now.mono);
        }
        let proxies = self.clients.iter().filter(|client| client.is_alive() && client.is_proxy).count();
        if proxies > self.laws.per_address as usize {
            self.proxies_crowded_at = Some(self.now.mono);
        }
    }

    pub(super) fn is_ready(&self, client: usize) -> bool {
        let wire = self.clients[client].wire.borrow();
        !wire.is_dropped && (wire.is_readable || wire.is_writable)
    }

    fn tell_readiness(&mut self, client: usize) {
        let (token, wire) = (self.clients[client].token, self.clients[client].wire.clone());
        let (is_readable, is_writable, is_closed) = {
            let mut wire = wire.borrow_mut();
            (std::mem::take(&mut wire.is_readable), std::mem::take(&mut wire.is_writable), wire.has_left())
        };
        if is_readable {
            self.server.readable(token, is_closed, self.now);
        }
        if is_writable {
            self.server.writable(token, self.now);
        }
    }

    fn watch_blocked(&mut self) {
        for token in self.server.take_blocked() {
            if let Some(client) = self.server.socket(token).map(|socket| socket.client) {
                self.clients[client].wire.borrow_mut().watch_for_room();
            }
        }
    }

    fn carry_out_outbox(&mut self) {
        let outbox = self.server.take_outbox();
        for (to, request) in outbox.intake {
            if self.intake.len() < INTAKE_WAITING_MAX {
                self.intake.push_back((to, request));
            } else {
                self.meet("intake full");
                self.server.refuse_plan(to, self.now);
            }
        }
        let mut commands = outbox.log;
        if self.beside.is_some() {
            let questions = Beside::divert(&mut commands);
            self.pose(questions);
        }
        self.unsent.extend(commands);
        if !self.unsent.is_empty() {
            let has_room = self.log_queue.len() < LOG_WAITING_MAX;
            if has_room {
                self.tell_who_is_cancelled();
                self.log_queue.push_back(std::mem::take(&mut self.unsent));
            } else {
                self.meet("log full");
            }
            self.is_log_full = !has_room;
            self.server.set_log_full(!has_room);
        }
    }

    /// The executor hears of it whatever becomes of the log.
    fn tell_who_is_cancelled(&mut self) {
        for command in &self.unsent {
            if let Command::Cancel { project, run, .. } = command {
                self.shop.cancel(project.clone(), run.clone());
                if self.journal.is_down() {
                    *self.met.entry("cancel in an outage".to_owned()).or_default() += 1;
                }
            }
        }
    }
}
