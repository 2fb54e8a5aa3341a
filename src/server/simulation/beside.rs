//! What a stream of several projects must be sent: for each project what a stream of it alone must be sent. And each id
//! must name the stream's position in all of them.

use super::follower::{Circumstances, Follower, Wanted};
use super::model::Model;
use super::sse::{Block, Special};
use crate::http::Coding;

/// The followers of a stream's projects beside the first, which holds this.
#[derive(Debug)]
pub(super) struct Beside {
    pub(super) parts: Vec<Follower>,
    /// The id that the stream began with, until it is known where it began in each project.
    first_id: Option<String>,
    /// The time to come back at, once it was told.
    retry: Option<u64>,
}

impl Beside {
    pub(super) fn new(wanted: Vec<Wanted>, coding: Coding) -> Self {
        let parts = wanted.into_iter().map(|wanted| Follower::new(wanted, coding)).collect();
        Self { parts, first_id: None, retry: None }
    }

    /// One block more. Each project is told of as if it was alone, but for ids, which name all, and for `retry`, which comes
    /// with the first of several.
    pub(super) fn take(&mut self, first: &mut Follower, block: &Block<'_>, model: &Model, at: &Circumstances) {
        let Block::Event { retry, id, data } = block else {
            self.parts.iter_mut().chain([first]).for_each(|part| part.take_own(block, model, at));
            return;
        };
        let special = Special::read(data);
        let is_first = self.parts.iter().chain([&*first]).all(Follower::is_beginning);
        let place = self.parts.iter().position(|part| part.wanted.project.as_str() == special.project);
        let part = place.map_or(&mut *first, |place| &mut self.parts[place]);
        let own_id = model.id(&part.wanted.project, special.seq);
        let (retry, own_id) = match special.kind.as_str() {
            "connected" => {
                assert_eq!((retry.is_some(), id.is_some()), (is_first, is_first), "{special:?}");
                self.first_id = self.first_id.take().or(id.map(str::to_owned));
                (retry.or(Some(at.retry_ms)), Some(own_id.as_str()))
            }
            "stream_closing" => {
                assert_eq!(retry.is_some(), self.retry.is_none(), "{special:?}");
                self.retry = self.retry.or(*retry);
                (self.retry, None)
            }
            _ => (*retry, id.map(|_| own_id.as_str())),
        };
        part.take_own(&Block::Event { retry, id: own_id, data }, model, at);
        let mut words = std::mem::take(&mut part.words);
        // It is told of one project, for the stream as a whole.
        first.heartbeats += u64::from(special.kind == "heartbeat" && id.is_none() && place.is_some());
        words.iter_mut().for_each(|word| word.push_str(" of several"));
        first.words.append(&mut words);
        if special.kind != "connected" {
            id.iter().for_each(|id| self.check_id(first, id, model));
        } else if !self.parts.iter().chain([&*first]).any(Follower::is_beginning)
            && let Some(id) = self.first_id.take()
        {
            self.check_id(first, &id, model);
        }
    }

    /// Does the id name where the stream is in each project?
    fn check_id(&self, first: &Follower, id: &str, model: &Model) {
        let positions = model.signer.read_positions(id).expect("an id of several positions");
        for part in self.parts.iter().chain([first]) {
            let named = positions.of(model.signer.tag(&part.wanted.project)).expect("it names each project");
            assert_eq!((named.seq(), named.is_ours()), (part.position, true), "{}", part.wanted.project);
        }
    }
}
