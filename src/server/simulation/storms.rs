//! Tests a log on disk: the process is killed or told to end, and started again with what the store holds; the store
//! fails for a while. Clients reconnect like an `EventSource`.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::laws::Storms;
use super::medium::Medium;
use super::world::World;
use crate::log::faulty::{Call, Fault};

/// What may fail together.
const FAULTS: [&[Call]; 4] = [&[Call::Append], Call::WRITES, Call::ALL, &[Call::Read, Call::Recover]];

/// Tickets that are used, and runs that are begun, before the first action of a world that is crashed.
const TICKETS: usize = 4;
const RUNS: usize = 5;

/// What goes on after a crash, before it all ends.
const ACTIONS_AFTER_CRASH: usize = 20;

/// More moves of the clock than a shutdown can need.
const MOVES_MAX: usize = 200;

/// Longer than the log waits before it tries the store again.
const RETRY: Duration = Duration::from_millis(300);

/// Where those come from who come back.
const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

impl<M: Medium> World<M> {
    /// The weather of this action.
    pub(super) fn storm(&mut self) {
        let Some(Storms { crash_in, restart_in, outage_in, mend_in }) = self.laws.storms else { return };
        if self.rng.one_in(crash_in) {
            self.crash();
        } else if self.rng.one_in(restart_in) {
            self.restart_gracefully();
        } else if self.rng.one_in(outage_in) {
            self.break_store();
        } else if self.rng.one_in(mend_in) {
            self.mend_store();
        }
        if self.rng.one_in(3) {
            self.one_comes_back();
        }
        if self.server.metrics.store_is_down && self.rng.one_in(8) {
            self.ask_who_is_down();
        }
    }

    /// A world without weather, except for one crash after so many actions.
    pub(super) fn play_with_crash_at(&mut self, action: usize) {
        self.get_busy();
        (0..action).for_each(|_| self.act());
        self.crash();
        for _ in 0..ACTIONS_AFTER_CRASH {
            if self.rng.one_in(3) {
                self.one_comes_back();
            }
            self.act();
        }
        self.end();
    }

    /// Someone watches with a ticket, and runs begin.
    fn get_busy(&mut self) {
        self.store_plans();
        let client = self.connect(HOME, usize::MAX / 2);
        for n in 0..TICKETS {
            self.ask_for_ticket(client, n);
        }
        self.clients[client].send(usize::MAX);
        self.run_until_idle();
        for ticket in 0..self.tokens.tickets.len() {
            let client = self.connect(HOME, usize::MAX / 2);
            self.watch_with_ticket(client, ticket);
            self.clients[client].send(usize::MAX);
        }
        let client = self.connect(HOME, usize::MAX / 2);
        for _ in 0..RUNS {
            self.ask_submit(client);
        }
        self.clients[client].send(usize::MAX);
        self.turn(0);
    }

    /// While the server knows that its store takes nothing, it says so.
    fn ask_who_is_down(&mut self) {
        let client = self.connect(HOME, usize::MAX / 2);
        self.ask_for_refusals(client);
        self.clients[client].send(usize::MAX);
        self.turn(0);
    }

    /// The process is killed, and started again after a while.
    pub(super) fn crash(&mut self) {
        self.note(|| "it crashes".to_owned());
        self.meet("crash");
        self.end_process();
    }

    /// The process is told to end, ends its work, and is started again.
    fn restart_gracefully(&mut self) {
        self.mend_store();
        self.drain();
        for _ in 0..self.rng.below(40) {
            self.act();
        }
        for _ in 0..MOVES_MAX {
            self.run_until_idle();
            if self.shop.is_done() {
                break;
            }
            let at = self.shop.next_deadline().expect("an end that is begun comes");
            self.pass(at.saturating_sub(self.now.mono));
        }
        assert!(self.shop.is_done(), "it never ends its work");
        self.is_ending = true;
        self.server.end_streams(self.now);
        self.run_until_idle();
        self.note(|| "it has ended, and starts again".to_owned());
        self.meet("restart");
        self.end_process();
    }

    fn end_process(&mut self) {
        self.disk.set(Fault::Never);
        self.start_anew();
        let lost: Vec<_> = self.clients.iter_mut().filter_map(super::client::Client::lose).collect();
        self.lost.extend(lost);
    }

    /// The store begins to fail.
    fn break_store(&mut self) {
        let of = FAULTS[self.rng.below(FAULTS.len())];
        self.note(|| format!("from now on fails: {of:?}"));
        self.meet("outage");
        self.disk.set(Fault::Always(of));
        if self.rng.one_in(3) {
            self.sit_out();
        }
    }

    /// While the store fails tools talk, runs are cancelled, and time passes in which attempts run out of theirs.
    fn sit_out(&mut self) {
        for _ in 0..self.rng.below(40) {
            self.shop.speak(&mut self.rng);
            self.execute();
            self.log(usize::MAX);
        }
        let client = self.connect(HOME, usize::MAX / 2);
        self.ask_cancel(client);
        if !self.model.waiting().is_empty() {
            self.meet("waiting in an outage");
        }
        self.ask_decision(client);
        self.ask_change(client);
        self.clients[client].send(usize::MAX);
        self.turn(0);
        let by = Duration::from_millis(1 + self.rng.below(3000) as u64);
        self.pass(by);
        self.execute();
    }

    /// The store no longer fails, and the log finds out.
    pub(super) fn mend_store(&mut self) {
        self.disk.set(Fault::Never);
        if self.is_store_down() {
            self.note(|| "the store works again".to_owned());
            self.pass(RETRY);
            self.log(usize::MAX);
        }
    }

    /// Someone who lost a stream wants it back; or wants nothing any more.
    fn one_comes_back(&mut self) {
        if self.lost.is_empty() {
            return;
        }
        let at = self.rng.below(self.lost.len());
        let lost = self.lost.swap_remove(at);
        if self.rng.one_in(6) {
            return;
        }
        let client = self.connect(HOME, usize::MAX / 2);
        self.note(|| format!("client {client} comes back behind {}", lost.seq));
        self.meet("came back");
        self.ask_again(client, lost);
        self.clients[client].send(usize::MAX);
    }

    /// The weather clears up, and whoever wants something back gets it.
    pub(super) fn clear_up(&mut self) {
        self.mend_store();
        while !self.lost.is_empty() {
            self.one_comes_back();
        }
    }
}
