//! What all threads of a trial share: which servers are up, how much of them was seen, and whether to stop.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard};
use std::time::Duration;

use crate::common::DEADLINE;
use crate::common::client::{Request, Response};
use crate::common::token::token;

/// The type of the last message of a project, which tells its watchers to go.
pub const FAREWELL: &str = "trial.farewell";

/// A trial, as its threads see it.
pub struct World {
    state: Mutex<State>,
    changed: Condvar,
    /// Read while someone begins at no place, and so sees only what comes from then on.
    beginnings: RwLock<()>,
    /// Good for everything.
    pub token: String,
    /// A server may answer that it can't just now: then nobody knows whether it did what it was asked.
    may_refuse: bool,
}

#[derive(Default)]
struct State {
    /// Where each server listens; none while it is down.
    addresses: Vec<Option<SocketAddr>>,
    /// How often someone asked for one, so that each time it is another.
    asked: usize,
    /// Messages and answers that anyone got.
    observed: u64,
    /// The newest `seq` that anyone saw, by project.
    newest: HashMap<String, u64>,
    /// Threads that still make calls.
    callers: usize,
    /// Threads that still watch: what they do.
    watching: BTreeMap<u64, String>,
    /// No more calls, and no more kills.
    is_finishing: bool,
    failure: Option<String>,
}

impl World {
    /// One of one server.
    pub fn new(callers: usize) -> Self {
        Self::of(callers, 1, false)
    }

    /// One of several servers over one database, which is away at times.
    #[cfg(feature = "postgres")]
    pub fn of_nodes(callers: usize, nodes: usize) -> Self {
        Self::of(callers, nodes, true)
    }

    fn of(callers: usize, servers: usize, may_refuse: bool) -> Self {
        let state = State { callers, addresses: vec![None; servers], ..State::default() };
        let token = token(&["*"], "subscribe publish run admin");
        Self { state: Mutex::new(state), changed: Condvar::new(), beginnings: RwLock::default(), token, may_refuse }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding it")
    }

    fn change(&self, act: impl FnOnce(&mut State)) {
        act(&mut self.state());
        self.changed.notify_all();
    }

    /// Waits until a server is up, and says where: each time another one. None where the trial has failed.
    pub fn address(&self) -> Option<SocketAddr> {
        let waits = |state: &mut State| state.addresses.iter().all(Option::is_none) && state.failure.is_none();
        let (mut state, timeout) = self.changed.wait_timeout_while(self.state(), DEADLINE, waits).expect("as above");
        assert!(!timeout.timed_out(), "the server did not come back");
        state.asked += 1;
        let up: Vec<SocketAddr> = state.addresses.iter().copied().flatten().collect();
        let next = up.get(state.asked % up.len().max(1)).copied();
        next.filter(|_| state.failure.is_none())
    }

    /// The server is about to be killed, or listens again.
    pub fn set_address(&self, address: Option<SocketAddr>) {
        self.set_node(0, address);
    }

    /// The same of one of several.
    pub fn set_node(&self, node: usize, address: Option<SocketAddr>) {
        self.change(|state| state.addresses[node] = address);
    }

    /// Are there several servers?
    pub fn has_nodes(&self) -> bool {
        self.may_refuse
    }

    /// Was this answered by one that can't just now, as one of these may?
    pub fn is_refusal(&self, status: u16) -> bool {
        self.may_refuse && status == 503
    }

    /// Somebody saw a message.
    pub fn saw(&self, project: &str, seq: u64) {
        self.change(|state| {
            state.observed += 1;
            let newest = state.newest.entry(project.to_owned()).or_default();
            *newest = seq.max(*newest);
        });
    }

    /// The newest message of a project that anyone saw.
    pub fn newest(&self, project: &str) -> u64 {
        self.state().newest.get(project).copied().unwrap_or_default()
    }

    /// Someone begins to watch, and is told how to say that it has ended.
    pub fn begin_to_watch(&self, what: String) -> u64 {
        let mut state = self.state();
        let number = state.watching.last_key_value().map_or(0, |(last, _)| last + 1);
        state.watching.insert(number, what);
        number
    }

    pub fn end_to_watch(&self, number: u64) {
        self.change(|state| drop(state.watching.remove(&number)));
    }

    /// What those do who still watch.
    pub fn watching(&self) -> Vec<String> {
        self.state().watching.values().cloned().collect()
    }

    pub fn caller_is_done(&self) {
        self.change(|state| state.callers -= 1);
    }

    /// Will there be no more calls?
    pub fn is_quiet(&self) -> bool {
        let state = self.state();
        state.callers == 0 || state.failure.is_some()
    }

    /// Someone may begin at no place until this is dropped, unless it is too late to see the farewell then.
    pub fn begin(&self) -> Option<RwLockReadGuard<'_, ()>> {
        let beginning = self.beginnings.read().expect("as above");
        (!self.is_finishing()).then_some(beginning)
    }

    /// From here on everyone shows where it was. To be called before the farewell.
    pub fn finish(&self) {
        let _nobody_begins = self.beginnings.write().expect("as above");
        self.change(|state| state.is_finishing = true);
    }

    pub fn is_finishing(&self) -> bool {
        self.state().is_finishing
    }

    pub fn fail(&self, why: String) {
        self.change(|state| state.failure = state.failure.take().or(Some(why)));
    }

    pub fn failure(&self) -> Option<String> {
        self.state().failure.clone()
    }

    pub fn observed(&self) -> u64 {
        self.state().observed
    }

    /// Goes on when so much more was seen, or when nothing more comes for a moment: it paces, and is no condition.
    pub fn pace(&self, more: u64, at_most: Duration) {
        let state = self.state();
        let goal = state.observed + more;
        let waits = |state: &mut State| state.observed < goal && !state.is_finishing && state.failure.is_none();
        drop(self.changed.wait_timeout_while(state, at_most, waits));
    }

    /// Makes a call, once; none where there was no answer, or none that says anything.
    pub fn call(&self, request: Request) -> Option<Response> {
        let response = request.token(&self.token).try_send(self.address()?)?;
        if self.is_refusal(response.status) {
            self.pause();
            return None;
        }
        self.change(|state| state.observed += 1);
        Some(response)
    }

    /// What a client waits that was told to come back.
    pub fn pause(&self) {
        self.pace(20, Duration::from_millis(50));
    }

    /// Makes a call that does no harm when it is made twice, until it is answered; none where the trial has failed.
    pub fn call_until_answered(&self, request: &Request) -> Option<Response> {
        loop {
            match self.call(request.clone()) {
                None if self.failure().is_some() => return None,
                None => {}
                answer => return answer,
            }
        }
    }
}
