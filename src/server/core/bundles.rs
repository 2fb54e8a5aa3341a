//! From a request to a stream of several projects: it begins once its position in each of them is known.

use std::sync::Arc;

use super::Server;
use crate::auth::Spending;
use crate::log::{StartingPosition, Subscription, View};
use crate::model::{Now, SlabKey};
use crate::server::exchange::Exchange;
use crate::server::socket::Socket;
use crate::server::waiting::{Waiting, WaitingBundle, What};
use crate::stream::{BundleSubscription, ConnectionManager};

/// The most waiting streams that are handled in one turn.
const BEGUN_MAX: usize = 64;

impl WaitingBundle {
    /// The parts whose start is not known yet.
    pub(super) fn unknown(&self) -> impl Iterator<Item = &Arc<Subscription>> {
        self.wanted.parts.iter().zip(&self.starts).filter(|(_, start)| start.is_none()).map(|(part, _)| part)
    }

    /// Notes where a part begins, according to the log.
    fn note(&mut self, start: StartingPosition) {
        let place = self.wanted.projects().position(|project| *project == start.project);
        if let Some(known) = place.and_then(|place| self.starts.get_mut(place)) {
            *known = Some(start);
        }
    }

    /// Notes where it begins in each project, as far as that is known without asking.
    fn look<S: Socket>(&mut self, streams: &ConnectionManager<S>) {
        self.starts = self.wanted.parts.iter().map(|part| streams.starting_position(part)).collect();
        if self.spends.is_some() {
            // The log stores that the ticket is spent before it tells where the stream begins.
            self.starts[0] = None;
        }
    }

    fn is_complete(&self) -> bool {
        !self.starts.is_empty() && self.starts.iter().all(Option::is_some)
    }
}

impl<S: Socket> Server<S> {
    /// Begins a stream of several projects, or asks the log for its start.
    pub(super) fn subscribe_to_several(
        &mut self,
        exchange: Exchange,
        wanted: Arc<BundleSubscription>,
        spends: Option<Spending>,
        now: Now,
    ) {
        if exchange.framing.head_only {
            return self.answer_stream_head(&exchange, View::Events, now);
        }
        let first = wanted.first();
        let Ok(permit) = self.permit_for(first, spends.is_some(), false) else {
            let projects: Vec<_> = wanted.projects().collect();
            return self.refuse_stream(exchange, &projects, first.is_event_source, spends, now);
        };
        let mut waiting = WaitingBundle { wanted, starts: Vec::new(), asking: None, spends, permit };
        waiting.look(&self.streams);
        if waiting.is_complete() {
            return self.begin_bundle(&exchange, waiting, now);
        }
        // What is known now may be outdated when the rest is known.
        waiting.starts = Vec::new();
        let to = self.connections.wait(Waiting { what: What::Bundle(Box::new(waiting)), exchange, metered: None });
        self.replies.postpone_bundle(to);
        self.ask_where_bundles_begin(now);
    }

    /// Asks the log for the starts of streams of several projects, a few at a time. A stream whose starts are all known
    /// begins. Many may wait for the same answer, so they are handled over several turns of the loop.
    pub(super) fn ask_where_bundles_begin(&mut self, now: Now) {
        for _ in 0..BEGUN_MAX {
            let Some((to, asking)) = self.replies.next_bundle(now) else { return };
            let Some(Waiting { what: What::Bundle(waiting), .. }) = self.connections.waiting(to) else { continue };
            waiting.asking = Some(asking);
            waiting.look(&self.streams);
            match waiting.is_complete() {
                true => self.begin_waiting_bundle(to, now),
                false => self.ask_where_it_begins(to),
            }
        }
    }

    /// Handles the start of a part of a stream. The stream begins when the starts of all parts are known. If a project
    /// was dropped meanwhile, the log is asked again.
    pub(super) fn start_part(&mut self, to: SlabKey, start: StartingPosition, now: Now) {
        let Some(Waiting { what: What::Bundle(waiting), .. }) = self.connections.waiting(to) else { return };
        waiting.note(start);
        if !waiting.is_complete() {
            return;
        }
        for start in &mut waiting.starts {
            start.take_if(|start| !self.streams.is_open(&start.project));
        }
        if !waiting.is_complete() {
            self.note_spent(to);
            return self.ask_where_it_begins(to);
        }
        self.begin_waiting_bundle(to, now);
    }

    fn begin_waiting_bundle(&mut self, to: SlabKey, now: Now) {
        if let Some(Waiting { what: What::Bundle(waiting), exchange, .. }) = self.connections.take_waiting(to) {
            self.begin_bundle(&exchange, *waiting, now);
        }
    }

    fn begin_bundle(&mut self, exchange: &Exchange, waiting: WaitingBundle, now: Now) {
        let WaitingBundle { wanted, starts, spends, permit, .. } = waiting;
        if let Some(spends) = spends {
            spends.keep();
        }
        let starts: Vec<_> = starts.into_iter().flatten().collect();
        starts.iter().for_each(|start| self.metrics.count_resume(start.resume));
        let snapshots = starts.iter().flat_map(|start| &start.snapshots);
        self.replies.spend_on_beginning(snapshots.map(|snapshot| snapshot.len()).sum(), now);
        self.hand_over(exchange, View::Events, permit, now, |streams, transport| {
            streams.begin_bundle(transport, &wanted, &starts, now)
        });
    }
}
