//! The end of a world: everyone gets what is left for them, and nothing may be left after that.

use std::time::Duration;

use super::client::Mode;
use super::laws::{HEARTBEAT, IDLE, LINGER};
use super::medium::Medium;
use super::world::World;

/// More moves of the clock than the runs of a world can need.
const MOVES_MAX: usize = 2000;

impl<M: Medium> World<M> {
    /// Ends a world, by a shutdown where one was begun.
    pub(super) fn end(&mut self) {
        self.ether.failing_write.set(0);
        self.clear_up();
        for client in &mut self.clients {
            client.wire.borrow_mut().open(usize::MAX / 4);
            if !client.is_stuck && matches!(client.mode, Mode::Answers) {
                client.send(usize::MAX);
            }
        }
        self.run_until_idle();
        self.end_runs();
        self.check_streams();
        if self.is_draining {
            self.end_streams();
        } else {
            self.check_heartbeats();
        }
        self.check_idle();
        self.all_leave();
        self.check_nothing_is_left();
    }

    /// The workers finish, and the clock goes on until no run is left, or the executor has shut down.
    fn end_runs(&mut self) {
        for _ in 0..MOVES_MAX {
            while self.shop.is_working() {
                self.shop.finish(&mut self.rng);
                self.run_until_idle();
            }
            self.run_until_idle();
            let Some(at) = self.shop.next_deadline() else {
                let is_stuck = self.is_draining || !(self.wish_again() || self.decide_what_waits());
                if is_stuck { break } else { continue }
            };
            self.pass(at.saturating_sub(self.now.mono));
            self.run_until_idle();
        }
        assert_eq!(self.shop.is_done(), self.is_draining);
        let mut given_up = 0;
        for (project, run, said) in self.model.runs() {
            said.check();
            given_up +=
                usize::from(said.state(u64::MAX).error.is_some_and(|why| why.contains("executor.interruptions")));
            assert!(self.is_draining || said.last_seq().is_some(), "run {run} of {project} never ends");
        }
        if given_up > 0 {
            self.meet("interrupted too often");
        }
        self.model.check_kinships().into_iter().for_each(|word| self.meet(word));
        self.disk.look(|store| self.model.check_outbox(store));
    }

    fn check_streams(&mut self) {
        let Self { clients, model, .. } = self;
        for client in clients.iter_mut().filter(|client| client.is_connected()) {
            if let Some(follower) = client.follower() {
                follower.check_complete(model);
            }
        }
    }

    /// A stream without traffic is sent a heartbeat, in time.
    fn check_heartbeats(&mut self) {
        self.pass(Duration::from_secs(2));
        self.run_until_idle();
        let before = self.heartbeats();
        self.pass(HEARTBEAT + Duration::from_secs(2));
        self.run_until_idle();
        for (index, heartbeats) in before {
            let client = &mut self.clients[index];
            if client.is_connected() {
                let now = client.follower().map_or(0, |follower| follower.heartbeats);
                assert_eq!(now, heartbeats + 1, "client {index}");
            }
        }
        self.check_streams();
    }

    fn heartbeats(&mut self) -> Vec<(usize, u64)> {
        let streams = self.clients.iter_mut().enumerate().filter(|(_, client)| client.is_connected());
        streams.filter_map(|(index, client)| client.follower().map(|f| (index, f.heartbeats))).collect()
    }

    fn end_streams(&mut self) {
        self.is_ending = true;
        self.server.end_streams(self.now);
        self.run_until_idle();
        assert_eq!(self.server.gauges().streams, 0, "streams end with the server");
        assert!(!self.server.owes_answers());
    }

    /// Connections that nothing comes of any more end by themselves.
    fn check_idle(&mut self) {
        for _ in 0..3 {
            self.pass(IDLE + Duration::from_secs(1));
            self.run_until_idle();
        }
        assert_eq!(self.server.gauges().connections, 0, "connections end when nothing comes");
    }

    fn all_leave(&mut self) {
        for index in 0..self.clients.len() {
            let mut wire = self.clients[index].wire.borrow_mut();
            if index % 2 == 0 { wire.reset() } else { wire.half_close() }
        }
        self.run_until_idle();
    }

    fn check_nothing_is_left(&mut self) {
        self.pass(LINGER + Duration::from_secs(2));
        self.run_until_idle();
        self.run_until_idle();
        let gauges = self.server.gauges();
        if gauges.stream_stats.pages > 0 {
            self.meet("page");
        }
        let held = (gauges.connections, gauges.streams, gauges.projects_watched, gauges.backlog_bytes);
        assert_eq!(held, (0, 0, 0, 0), "connections, streams, backlogs and their bytes");
        assert_eq!(self.server.counted(), (0, 0), "addresses and tokens that are counted");
        assert!(self.clients.iter().all(|client| !client.is_alive() && client.is_buried));
        assert_eq!(self.server.next_deadline(), None, "nothing is due any more");
    }
}
