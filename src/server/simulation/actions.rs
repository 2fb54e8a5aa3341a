//! The random actions of a world.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::client::Mode;
use super::medium::Medium;
use super::world::World;
use crate::model::Timestamp;
use crate::stream::BACKLOG_BYTES_MIN;

const YEAR_MS: u64 = 365 * 24 * 3_600_000;

/// Calls of one client that may wait for their answers.
const ASKED_MAX: usize = 6;

/// Addresses that clients come from.
const ADDRESSES: usize = 5;

impl<M: Medium> World<M> {
    /// Everything, from the first connection to the last.
    pub(super) fn play(&mut self) {
        self.gather_crowd();
        self.store_plans();
        for action in 0..self.laws.actions {
            if action == self.laws.drains_at {
                self.drain();
            }
            self.storm();
            self.act();
        }
        self.end();
    }

    fn gather_crowd(&mut self) {
        for _ in 0..self.laws.crowd {
            let client = self.connect(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), usize::MAX / 2);
            self.ask_stream(client);
            self.clients[client].send(usize::MAX);
        }
        self.log(1);
        self.turn(1);
    }

    /// Most projects have plans that steps may name.
    pub(super) fn store_plans(&mut self) {
        let index = self.connect(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 8)), usize::MAX / 2);
        for _ in 0..12 {
            self.ask_stored(index);
        }
        self.clients[index].send(usize::MAX);
        self.run_until_idle();
    }

    pub(super) fn act(&mut self) {
        match self.rng.below(100) {
            0..8 => self.come(),
            8..22 => self.on_some(Self::ask),
            22..38 => self.on_some(Self::send_some),
            38..45 => self.on_some(Self::take_some),
            45..47 => self.on_some(Self::leave),
            47..66 => drop(self.turn_some()),
            66..69 => self.act_for_runs(),
            69..79 => {
                let n = 1 + self.rng.below(3);
                self.log(n);
                let reads = self.rng.below(3);
                self.read_beside(reads);
            }
            79..82 => {
                self.intake();
                self.hear_wishes(1);
            }
            82..87 => self.execute(),
            87..92 => self.shop.finish(&mut self.rng),
            92 => self.shop.speak(&mut self.rng),
            93..97 => self.pass_a_little(),
            97 if self.rng.one_in(2) => self.jump(),
            97 if !self.laws.is_jwt && self.rng.one_in(8) => self.set_clock(),
            97 => self.run_until_idle(),
            _ => self.burst(),
        }
    }

    /// Someone who is there for runs alone, and reads all that it is sent, begins some and steers others.
    fn act_for_runs(&mut self) {
        let is_there = |agent: &usize| {
            let client = &self.clients[*agent];
            client.is_connected() && matches!(client.mode, Mode::Answers) && client.asked.len() < ASKED_MAX
        };
        let index = match self.agent.filter(is_there) {
            Some(index) => index,
            None => self.connect(IpAddr::V4(Ipv4Addr::LOCALHOST), usize::MAX / 2),
        };
        self.agent = Some(index);
        for _ in 0..1 + self.rng.below(3) {
            if self.rng.one_in(4) { self.ask_submit(index) } else { self.ask_steering(index) }
        }
        self.clients[index].send(usize::MAX);
    }

    fn turn_some(&mut self) -> bool {
        let inbox_max = self.rng.below(4);
        self.turn(inbox_max)
    }

    /// Does something with a client that is connected.
    fn on_some(&mut self, act: impl FnOnce(&mut Self, usize)) {
        let there: Vec<usize> = (0..self.clients.len()).filter(|&index| self.clients[index].is_connected()).collect();
        if !there.is_empty() {
            let index = there[self.rng.below(there.len())];
            act(self, index);
        }
    }

    fn come(&mut self) {
        let n = self.rng.below(ADDRESSES + 1) as u8;
        let address = match n {
            0 => IpAddr::V4(Ipv4Addr::LOCALHOST),
            n => IpAddr::V4(Ipv4Addr::new(10, 0, 0, n)),
        };
        let window = match self.rng.below(4) {
            0 if self.laws.is_slow => self.rng.below(3000),
            1 if self.laws.is_slow => 10_000 + self.rng.below(60_000),
            _ => usize::MAX / 2,
        };
        let index = self.connect(address, window);
        self.note(|| format!("client {index} comes from {address} with a window of {window}"));
        self.ask(index);
        while self.rng.one_in(3) {
            self.ask(index);
        }
        self.send_some(index);
    }

    /// A piece of what it asks, or all of it; or, where it watches, something that nobody listens to.
    fn send_some(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if matches!(client.mode, Mode::Stream(_) | Mode::Over) {
            if self.rng.one_in(10) {
                client.chatter += 1;
                client.wire.borrow_mut().send(*b"hello?");
            }
            return;
        }
        if client.is_stuck && !client.has_to_send() {
            return;
        }
        let n = match self.rng.below(3) {
            0 => 1 + self.rng.below(40),
            1 => 1 + self.rng.below(2000),
            _ => usize::MAX,
        };
        self.clients[index].send(n);
    }

    /// More at once than slow readers take, and than the backlog holds.
    fn burst(&mut self) {
        let index = self.connect(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9)), usize::MAX / 2);
        for _ in 0..1 + self.rng.below(40) {
            self.ask_publish(index);
        }
        self.clients[index].send(usize::MAX);
        for _ in 0..3 {
            self.turn_some();
            self.log(1);
        }
    }

    fn take_some(&mut self, index: usize) {
        let n = if self.rng.one_in(3) { usize::MAX / 2 } else { self.rng.below(2 * BACKLOG_BYTES_MIN) };
        self.clients[index].wire.borrow_mut().open(n);
    }

    fn leave(&mut self, index: usize) {
        let is_reset = self.rng.one_in(2);
        self.note(|| format!("client {index} leaves, by reset: {is_reset}"));
        let mut wire = self.clients[index].wire.borrow_mut();
        if is_reset { wire.reset() } else { wire.half_close() }
    }

    fn pass_a_little(&mut self) {
        let by = Duration::from_millis(1 + self.rng.below(400) as u64);
        self.pass(by);
        self.interrupt_some();
        self.wish_again();
        if self.laws.is_jwt && self.rng.one_in(6) {
            self.tokens.issue_any(&mut self.rng, self.now.wall);
        }
    }

    /// A signal comes in the middle of some client's next read or write.
    fn interrupt_some(&mut self) {
        self.on_some(|world, index| world.clients[index].wire.borrow_mut().interruptions = 1);
    }

    /// Far enough that something is overdue.
    fn jump(&mut self) {
        let seconds = [2, 11, 16, 21, 32, 62][self.rng.below(6)];
        self.note(|| format!("{seconds} s pass"));
        // The loop does not wait while it has more to do.
        while self.turn(usize::MAX) {}
        self.pass(Duration::from_secs(seconds));
        self.run_until_idle();
    }

    /// The wall clock is set, far or a little, forward or back: nothing is let go for it.
    fn set_clock(&mut self) {
        let by = [50 * YEAR_MS, 3_600_000][self.rng.below(2)];
        let now = self.now.wall.as_millis();
        let is_forward = self.rng.one_in(2);
        let to = if is_forward { now + by } else { now.saturating_sub(by) };
        self.note(|| format!("the wall clock is set from {now} to {to}"));
        self.meet(if is_forward { "clock set forward" } else { "clock set back" });
        self.now.wall = Timestamp::from_millis(to);
        self.model.note_set_clock();
        self.run_until_idle();
    }

    pub(super) fn drain(&mut self) {
        self.note(|| "it drains".to_owned());
        self.meet("drain");
        self.is_draining = true;
        self.server.drain();
        self.shop.shut_down();
    }
}
