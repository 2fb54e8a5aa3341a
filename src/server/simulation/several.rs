//! Streams of several projects, as clients ask for them: by one id for all, by an id for each, or fresh.

use serde_json::json;

use super::client::{Lost, What};
use super::follower::{Shown, Wanted};
use super::medium::Medium;
use super::requests::{Draft, PROJECTS};
use super::world::World;
use crate::auth::Scope;
use crate::model::ProjectId;

impl<M: Medium> World<M> {
    /// A stream of any of the projects, from anywhere.
    pub(super) fn ask_several(&mut self, index: usize) {
        let has_ids_of_their_own = self.rng.one_in(2);
        let (snapshots, heartbeat_as_message) = (!self.rng.one_in(4), self.rng.one_in(4));
        let is_event_source = !self.rng.one_in(3);
        let mut parts = Vec::new();
        for n in 0..PROJECTS {
            if self.rng.one_in(2) || (n + 1 == PROJECTS && parts.is_empty()) {
                let project = ProjectId::parse(&format!("p{n}")).expect("an id");
                let (id, mut shown) = self.any_position(&project);
                if !has_ids_of_their_own && shown == Some(Shown::Unknown) {
                    // One id for all does not name it.
                    shown = None;
                }
                let known = self.server.newest_broadcast(&project).filter(|_| !snapshots);
                let newest = known.unwrap_or(self.model.newest(&project));
                let wanted = Wanted {
                    project,
                    format: None,
                    run: None,
                    shown,
                    snapshots,
                    items: false,
                    heartbeat_as_message,
                    is_event_source,
                    newest,
                    has_seen_the_end: false,
                    beside: None,
                };
                parts.push((wanted, id));
            }
        }
        let mut headers = Vec::new();
        headers.extend(is_event_source.then(|| ("Accept", "text/event-stream".to_owned())));
        let draft = if has_ids_of_their_own {
            let ids = parts.iter().map(|(wanted, id)| (wanted.project.to_string(), json!(id)));
            let ids: serde_json::Map<_, _> = ids.collect();
            let heartbeat = if heartbeat_as_message { "message" } else { "comment" };
            let body = json!({"projects": ids, "snapshot": snapshots, "heartbeat": heartbeat}).to_string();
            let method = if self.rng.one_in(2) { "POST" } else { "QUERY" };
            Draft { method, target: "/api/sse".to_owned(), headers, body: Some(body) }
        } else {
            let named = parts.iter().filter(|(wanted, _)| wanted.shown.is_some());
            let positions: Vec<_> = named
                .filter_map(|(wanted, id)| {
                    let seq = self.tokens.signer.read(id.as_ref()?, &wanted.project).ok()?.seq();
                    Some((wanted.project.clone(), seq))
                })
                .collect();
            if !positions.is_empty() {
                headers.push(("Last-Event-ID", self.id_of(&positions)));
            }
            Draft {
                method: "GET",
                target: target_of(&parts[0].0, parts.iter().map(|(wanted, _)| wanted)),
                headers,
                body: None,
            }
        };
        self.put_several(index, draft, parts.into_iter().map(|(wanted, _)| wanted));
    }

    /// A stream of several projects that was lost, as an `EventSource` asks for it again.
    pub(super) fn ask_for_several_again(&mut self, index: usize, lost: Lost) {
        let Lost { mut wanted, seq, beside, .. } = lost;
        let others = wanted.beside.take().unwrap_or_default();
        let parts = [wanted].into_iter().chain(others).zip([seq].into_iter().chain(beside));
        let again = |(wanted, seq): (Wanted, u64)| Wanted {
            shown: Some(Shown::Seq(seq)),
            is_event_source: true,
            newest: self.model.newest(&wanted.project),
            ..wanted
        };
        let (parts, seqs): (Vec<_>, Vec<_>) = parts.map(|(wanted, seq)| (again((wanted, seq)), seq)).unzip();
        let positions: Vec<_> = parts.iter().map(|part| part.project.clone()).zip(seqs).collect();
        let headers = vec![("Accept", "text/event-stream".to_owned()), ("Last-Event-ID", self.id_of(&positions))];
        let draft = Draft { method: "GET", target: target_of(&parts[0], parts.iter()), headers, body: None };
        self.meet("several again");
        self.put_several(index, draft, parts.into_iter());
    }

    /// Whoever asks may watch all of them.
    fn put_several(&mut self, index: usize, draft: Draft, mut parts: impl Iterator<Item = Wanted>) {
        let mut wanted = parts.next().expect("at least one project");
        wanted.beside = Some(parts.collect());
        let who = self.laws.is_jwt.then_some(0);
        let project = wanted.project.clone();
        let what = What::Stream { wanted: Box::new(wanted), ticket: None };
        let asked = self.asked(what, who, Some((Scope::Subscribe, &project)));
        self.put(index, draft, asked);
    }

    fn id_of(&self, positions: &[(ProjectId, u64)]) -> String {
        let signer = &self.tokens.signer;
        let mut id = Vec::new();
        signer.write_positions(&mut id, positions.iter().map(|(project, seq)| (signer.tag(project), *seq)));
        String::from_utf8(id).expect("ASCII")
    }
}

fn target_of<'w>(first: &Wanted, parts: impl Iterator<Item = &'w Wanted>) -> String {
    let ids: Vec<_> = parts.map(|part| part.project.as_str()).collect();
    let snapshot = if first.snapshots { "" } else { "&snapshot=0" };
    let heartbeat = if first.heartbeat_as_message { "&heartbeat=message" } else { "" };
    format!("/api/sse?projects={}{snapshot}{heartbeat}", ids.join(","))
}
