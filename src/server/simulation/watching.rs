//! Streams of one project, or of one run, as clients ask for them, with the tickets that open them.

use serde_json::json;

use super::client::{Lost, TicketUse, What};
use super::follower::{Shown, Wanted};
use super::medium::Medium;
use super::requests::{Draft, PROJECTS};
use super::world::World;
use crate::auth::Scope;
use crate::formats::Format;
use crate::model::ProjectId;

impl<M: Medium> World<M> {
    /// A stream: of everything or of one run; fresh, or from where the client says it was.
    pub(super) fn ask_stream(&mut self, index: usize) {
        if self.rng.one_in(4) {
            return self.ask_several(index);
        }
        let ticket = self.any_ticket();
        let project = match ticket {
            Some(ticket) if !self.rng.one_in(5) => self.tokens.tickets[ticket].project.clone(),
            _ => self.any_project(),
        };
        let is_retold = self.rng.one_in(3);
        let run = match is_retold {
            true => self.any_open_run(&project),
            false if self.rng.one_in(4) => self.any_run(&project),
            false => None,
        };
        let words = Format::WORDS;
        // Which of its plans a format knows a run by depends on when its encoder was made.
        let changes = run.as_ref().and_then(|run| self.model.run(&project, run)).is_some_and(|run| run.may_change());
        let is_retold = is_retold && !changes;
        let format = run.as_ref().filter(|_| is_retold).map(|_| words[self.rng.below(words.len())]);
        let (id, shown) = match &run {
            Some(run) if is_retold && self.rng.one_in(2) => self.any_position_of(&project, run),
            _ => self.any_position(&project),
        };
        let is_in_query = id.is_some() && self.rng.one_in(4);
        let end = run.as_ref().and_then(|run| self.model.run(&project, run)).and_then(|run| run.last_seq());
        let has_seen_the_end =
            self.laws.keeps_runs() && matches!((shown, end), (Some(Shown::Seq(seq)), Some(end)) if seq >= end);
        let (snapshots, heartbeat_as_message) = (!self.rng.one_in(4), self.rng.one_in(4));
        let heartbeat_as_message = heartbeat_as_message && format.is_none();
        let items = format.is_none() && self.rng.one_in(3);
        let accepts_events = !self.rng.one_in(3);
        let is_event_source = accepts_events && format.is_none();
        // Without snapshots it may begin at what the loop knows of: what the log has besides is on its way there.
        let known = self.server.newest_broadcast(&project).filter(|_| !snapshots && format.is_none());
        let newest = known.unwrap_or(self.model.newest(&project));
        let mut query: Vec<String> = Vec::new();
        query.extend(run.as_ref().map(|run| format!("runId={run}")));
        query.extend(format.map(|(word, _)| format!("format={word}")));
        query.extend((!snapshots).then(|| "snapshot=0".to_owned()));
        query.extend(items.then(|| "items=1".to_owned()));
        query.extend(heartbeat_as_message.then(|| "heartbeat=message".to_owned()));
        query.extend(id.as_ref().filter(|_| is_in_query).map(|id| format!("lastEventId={id}")));
        query.extend(ticket.map(|ticket| format!("ticket={}", self.tokens.tickets[ticket].text)));
        let mut headers = Vec::new();
        headers.extend(accepts_events.then(|| ("Accept", "text/event-stream".to_owned())));
        headers.extend(id.filter(|_| !is_in_query).map(|id| ("Last-Event-ID", id)));
        let shows_id = headers.iter().any(|(name, id)| {
            let signed = self.tokens.signer.read(id, &project);
            *name == "Last-Event-ID" && signed.is_ok()
        });
        let ask_for = project.clone();
        let format = format.map(|(_, format)| format);
        let wanted = Wanted {
            project,
            run,
            format,
            shown,
            snapshots,
            items,
            heartbeat_as_message,
            is_event_source,
            newest,
            has_seen_the_end,
            beside: None,
        };
        let is_head = self.rng.one_in(12);
        let who = match ticket {
            Some(ticket) => Some(self.tokens.tickets[ticket].token),
            None => self.any_token(),
        };
        let used = ticket.map(|ticket| self.use_ticket(ticket, shows_id, is_head));
        let what = What::Stream { wanted: Box::new(wanted), ticket: used };
        let mut asked = self.asked(what, who, Some((Scope::Subscribe, &ask_for)));
        asked.may &= ticket.is_none_or(|ticket| self.tokens.tickets[ticket].project == ask_for);
        let target = format!("/api/sse/projects/{ask_for}?{}", query.join("&"));
        let method = if is_head { "HEAD" } else { "GET" };
        self.put(index, Draft { method, target, headers, body: None }, asked);
    }

    /// A stream that was lost, as an `EventSource` asks for it again: at the same address, after what it was sent.
    pub(super) fn ask_again(&mut self, index: usize, lost: Lost) {
        if lost.wanted.beside.is_some() {
            return self.ask_for_several_again(index, lost);
        }
        let Lost { wanted, seq, who, ticket, .. } = lost;
        let project = wanted.project.clone();
        let end = wanted.run.as_ref().and_then(|run| self.model.run(&project, run)).and_then(|run| run.last_seq());
        let newest = self.model.newest(&project);
        let wanted = Wanted {
            shown: Some(Shown::Seq(seq)),
            is_event_source: wanted.format.is_none(),
            newest,
            has_seen_the_end: end.is_some_and(|end| seq >= end),
            ..wanted
        };
        let mut query: Vec<String> = Vec::new();
        query.extend(wanted.run.as_ref().map(|run| format!("runId={run}")));
        query.extend(wanted.format.map(|format| format!("format={}", format.word())));
        query.extend((!wanted.snapshots).then(|| "snapshot=0".to_owned()));
        query.extend(wanted.items.then(|| "items=1".to_owned()));
        query.extend(wanted.heartbeat_as_message.then(|| "heartbeat=message".to_owned()));
        query.extend(ticket.map(|ticket| format!("ticket={}", self.tokens.tickets[ticket].text)));
        let headers = vec![("Accept", "text/event-stream".to_owned()), ("Last-Event-ID", self.model.id(&project, seq))];
        let used = ticket.map(|ticket| self.use_ticket(ticket, true, false));
        let what = What::Stream { wanted: Box::new(wanted), ticket: used };
        let mut asked = self.asked(what, who, Some((Scope::Subscribe, &project)));
        asked.may &= ticket.is_none_or(|ticket| self.tokens.tickets[ticket].project == project);
        let target = format!("/api/sse/projects/{project}?{}", query.join("&"));
        self.put(index, Draft { method: "GET", target, headers, body: None }, asked);
    }

    fn any_ticket(&mut self) -> Option<usize> {
        let count = self.tokens.tickets.len();
        (count > 0 && self.rng.one_in(2)).then(|| count - 1 - self.rng.below(count.min(3)))
    }

    fn use_ticket(&mut self, ticket: usize, shows_id: bool, is_head: bool) -> TicketUse {
        let held = &mut self.tokens.tickets[ticket];
        let used = TicketUse { ticket, must_fail: held.is_spent && !shows_id, must_pass: held.is_spent && shows_id };
        held.uses += u32::from(!is_head);
        used
    }

    pub(super) fn ask_ticket(&mut self, index: usize) {
        let project = self.any_project();
        let who = self.any_token();
        self.ask_ticket_of(index, project, who);
    }

    /// A ticket for the `n`th project, for whoever may do everything.
    pub(super) fn ask_for_ticket(&mut self, index: usize, n: usize) {
        let project = ProjectId::parse(&format!("p{}", n % PROJECTS)).expect("an id");
        self.ask_ticket_of(index, project, Some(0));
    }

    /// A stream of everything, fresh, by this ticket.
    pub(super) fn watch_with_ticket(&mut self, index: usize, ticket: usize) {
        let project = self.tokens.tickets[ticket].project.clone();
        let newest = self.model.newest(&project);
        let wanted = Wanted {
            project: project.clone(),
            run: None,
            format: None,
            shown: None,
            snapshots: true,
            items: false,
            heartbeat_as_message: false,
            is_event_source: true,
            newest,
            has_seen_the_end: false,
            beside: None,
        };
        let used = self.use_ticket(ticket, false, false);
        let who = Some(self.tokens.tickets[ticket].token);
        let target = format!("/api/sse/projects/{project}?ticket={}", self.tokens.tickets[ticket].text);
        let asked = self.asked(What::Stream { wanted: Box::new(wanted), ticket: Some(used) }, who, None);
        let headers = vec![("Accept", "text/event-stream".to_owned())];
        self.put(index, Draft { method: "GET", target, headers, body: None }, asked);
    }

    fn ask_ticket_of(&mut self, index: usize, project: ProjectId, who: Option<usize>) {
        let asked = self.asked(What::Ticket { project: project.clone() }, who, Some((Scope::Subscribe, &project)));
        let body = Some(json!({"projectId": project.as_str()}).to_string());
        self.put(index, Draft { method: "POST", target: "/api/sse/ticket".into(), headers: Vec::new(), body }, asked);
    }
}
