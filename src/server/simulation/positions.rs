//! Positions that clients show: genuine ones and others.

use super::follower::Shown;
use super::medium::Medium;
use super::world::World;
use crate::model::{ProjectId, RunId};

impl<M: Medium> World<M> {
    /// The id of a message of this run, where it has said anything.
    pub(super) fn any_position_of(&mut self, project: &ProjectId, run: &RunId) -> (Option<String>, Option<Shown>) {
        let said = self.model.run(project, run).map_or(0, |run| run.said.len());
        if said == 0 {
            return (None, None);
        }
        let at = self.rng.below(said);
        let seq = self.model.run(project, run).map_or(0, |run| run.said[at].0);
        (Some(self.model.id(project, seq)), Some(Shown::Seq(seq)))
    }

    /// A `Last-Event-ID`, perhaps, and what it is.
    pub(super) fn any_position(&mut self, project: &ProjectId) -> (Option<String>, Option<Shown>) {
        let newest = self.model.newest(project);
        let of = |signer: &crate::auth::IdSigner, project: &ProjectId, seq: u64| {
            let mut id = Vec::new();
            signer.write(&mut id, project, seq);
            Some(String::from_utf8(id).expect("ASCII"))
        };
        match self.rng.below(10) {
            0..4 => (None, None),
            4 | 5 => (of(&self.tokens.signer, project, newest), Some(Shown::Seq(newest))),
            6 | 7 => {
                let seq = self.rng.next() % (newest + 1);
                (of(&self.tokens.signer, project, seq), Some(Shown::Seq(seq)))
            }
            8 => (of(&self.tokens.signer, project, newest + 1_000_000), Some(Shown::Ahead)),
            _ => {
                let elsewhere = ProjectId::parse("elsewhere").expect("an id");
                let id = match self.rng.below(3) {
                    0 => of(&self.tokens.foreign, project, newest),
                    1 => of(&self.tokens.signer, &elsewhere, newest),
                    _ => Some("no-id".to_owned()),
                };
                (id, Some(Shown::Unknown))
            }
        }
    }
}
