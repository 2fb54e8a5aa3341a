//! From a request to a stream of several projects: it begins when it is known where it begins in each of them.

use std::sync::Arc;

use super::Server;
use crate::auth::Spending;
use crate::log::{StartingPosition, Subscription, View};
use crate::model::{Now, SlabKey};
use crate::server::exchange::Exchange;
use crate::server::socket::Socket;
use crate::server::waiting::{Waiting, WaitingBundle, What};
use crate::stream::BundleSubscription;

impl WaitingBundle {
    /// The parts of which it is not known where they begin.
    pub(super) fn unknown(&self) -> impl Iterator<Item = &Arc<Subscription>> {
        self.wanted.parts.iter().zip(&self.starts).filter(|(_, start)| start.is_none()).map(|(part, _)| part)
    }

    /// The log says where a part begins.
    fn note(&mut self, start: StartingPosition) {
        let place = self.wanted.projects().position(|project| *project == start.project);
        if let Some(known) = place.and_then(|place| self.starts.get_mut(place)) {
            *known = Some(start);
        }
    }

    fn is_complete(&self) -> bool {
        self.starts.iter().all(Option::is_some)
    }
}

impl<S: Socket> Server<S> {
    /// Begins a stream of several projects, or asks the log where it begins.
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
        let Ok(place) = self.place_of(first, spends.is_some(), false) else {
            let projects: Vec<_> = wanted.projects().collect();
            return self.refuse_stream(exchange, &projects, first.is_event_source, spends, now);
        };
        let mut starts: Vec<_> = wanted.parts.iter().map(|part| self.streams.starting_position(part)).collect();
        if spends.is_some() {
            // That the ticket is spent is kept by the log before it says where the stream begins.
            starts[0] = None;
        }
        let waiting = WaitingBundle { wanted, starts, spends, place };
        if waiting.is_complete() {
            return self.begin_bundle(&exchange, waiting, now);
        }
        let to = self.connections.wait(Waiting { what: What::Bundle(Box::new(waiting)), exchange, metered: None });
        self.replies.postpone(to);
        self.ask_where_to_begin(now);
    }

    /// The log says where a part of a stream begins. The stream does when that is known of all; a project that was let go
    /// meanwhile is asked for anew.
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
            return self.ask_where_it_begins(to);
        }
        if let Some(Waiting { what: What::Bundle(waiting), exchange, .. }) = self.connections.take_waiting(to) {
            self.begin_bundle(&exchange, *waiting, now);
        }
    }

    fn begin_bundle(&mut self, exchange: &Exchange, waiting: WaitingBundle, now: Now) {
        let WaitingBundle { wanted, starts, spends, place } = waiting;
        if let Some(spends) = spends {
            spends.keep();
        }
        let starts: Vec<_> = starts.into_iter().flatten().collect();
        starts.iter().for_each(|start| self.metrics.count_resume(start.resume));
        let snapshots = starts.iter().flat_map(|start| &start.snapshots);
        self.replies.spend_on_beginning(snapshots.map(|snapshot| snapshot.len()).sum(), now);
        self.hand_over(exchange, View::Events, place, now, |streams, transport| {
            streams.begin_bundle(transport, &wanted, &starts, now)
        });
    }
}
