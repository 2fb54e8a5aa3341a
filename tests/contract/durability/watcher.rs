//! Clients that watch, reconnect by themselves like an `EventSource`, and keep everything that they saw.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;

use super::world::{FAREWELL, World};
use crate::common::client::Request;
use crate::common::random::Random;
use crate::common::stream::{Event, Sse};

/// How long a slow reader reads nothing at most: far below the server's patience.
const NAP: Duration = Duration::from_millis(100);

/// How a client watches.
#[derive(Debug, Clone, PartialEq)]
pub enum Manner {
    /// Shows where it was, each time it comes back.
    Steady,
    /// The same, with a ticket, which is spent the first time.
    Ticket,
    /// The same, and takes what it gets slowly.
    Slow,
    /// Goes when it likes, and comes back at any place where it was, or at none.
    Rover,
    /// Follows one run to its end.
    OneRun(String),
}

/// What a client saw of one stream.
#[derive(Debug)]
pub struct Session {
    pub project: String,
    pub manner: Manner,
    /// The id that it showed, and what its message had as `seq`.
    pub shown: Option<(String, u64)>,
    /// The newest message that anyone had seen before this stream was asked for.
    pub newest_before: u64,
    pub connected: Event,
    /// Everything that came after `connected`.
    pub events: Vec<Event>,
}

impl Session {
    /// Messages, not what was made for this stream alone.
    pub fn messages(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(|event| event.id.is_some())
    }
}

/// Why a client reads no more of a stream.
enum End {
    /// It was cut off, or the client left.
    Cut,
    /// Nothing more will come.
    Over,
}

/// A client that watches.
pub struct Watcher<'w> {
    world: &'w World,
    project: String,
    manner: Manner,
    random: Random,
    ticket: Option<String>,
    /// Where it was last.
    position: Option<(String, u64)>,
    sessions: Vec<Session>,
}

impl<'w> Watcher<'w> {
    pub fn new(world: &'w World, project: &str, manner: Manner, random: Random) -> Self {
        let project = project.to_owned();
        Self { world, project, manner, random, ticket: None, position: None, sessions: Vec::new() }
    }

    /// Watches until everything is over; what it saw.
    pub fn watch(mut self) -> Vec<Session> {
        while let Some(address) = self.world.address() {
            if let End::Over = self.connect(address) {
                break;
            }
        }
        self.sessions
    }

    fn connect(&mut self, address: SocketAddr) -> End {
        let beginning = self.world.begin();
        let shown = self.place_to_show(beginning.is_some());
        if self.manner == Manner::Rover && shown.is_none() && beginning.is_none() {
            return End::Over;
        }
        if self.manner == Manner::Ticket && !self.has_ticket() {
            return End::Cut;
        }
        if let (Some(ticket), Some(_)) = (&self.ticket, &shown)
            && self.random.one_in(3)
        {
            self.try_spent_ticket_alone(address, ticket);
        }
        let newest_before = self.world.newest(&self.project);
        let request = self.request(shown.as_ref());
        let Some(mut stream) = Sse::try_open(address, request, self.manner == Manner::Slow) else { return End::Cut };
        match (stream.head.status, &self.manner) {
            (200, _) => {}
            (status, _) if self.world.is_refusal(status) => {
                self.world.pause();
                return End::Cut;
            }
            (204, Manner::OneRun(_)) => return End::Over,
            // Spent by a request that the server did not live to answer.
            (403, Manner::Ticket) if shown.is_none() => {
                self.ticket = None;
                return End::Cut;
            }
            (status, manner) => panic!("{manner:?} of {} showing {shown:?}: {status}", self.project),
        }
        let Some(connected) = stream.next() else { return End::Cut };
        drop(beginning);
        if connected.kind() == "stream_closing" {
            // Not yet: it would come back later.
            self.world.pause();
            return End::Cut;
        }
        let (project, manner) = (self.project.clone(), self.manner.clone());
        self.position = Some((connected.id().to_owned(), connected.seq()));
        self.sessions.push(Session { project, manner, shown, newest_before, connected, events: Vec::new() });
        self.read(&mut stream)
    }

    /// The id that is shown this time.
    fn place_to_show(&mut self, may_begin: bool) -> Option<(String, u64)> {
        if self.manner != Manner::Rover {
            return self.position.clone();
        }
        if may_begin && self.random.one_in(4) {
            return None;
        }
        let session = self.random.pick(&self.sessions)?;
        let places: Vec<&Event> = std::iter::once(&session.connected).chain(session.messages()).collect();
        self.random.pick(&places).map(|event| (event.id().to_owned(), event.seq()))
    }

    fn request(&self, shown: Option<&(String, u64)>) -> Request {
        let path = format!("/api/sse/projects/{}", self.project);
        let request = match (&self.manner, &self.ticket) {
            (Manner::Ticket, Some(ticket)) => Request::get(&format!("{path}?ticket={ticket}")),
            (Manner::OneRun(run), _) => Request::get(&format!("{path}?runId={run}")).token(&self.world.token),
            _ => Request::get(&path).token(&self.world.token),
        };
        if let Some((id, _)) = shown { request.header("Last-Event-ID", id) } else { request }
    }

    fn has_ticket(&mut self) -> bool {
        if self.ticket.is_none() {
            let request = Request::post("/api/sse/ticket", &json!({"projectId": self.project}));
            let Some(answer) = self.world.call(request) else { return false };
            assert_eq!(answer.status, 200, "{answer:?}");
            self.ticket = Some(answer.json()["ticket"].as_str().expect("a ticket").to_owned());
        }
        true
    }

    fn try_spent_ticket_alone(&self, address: SocketAddr, ticket: &str) {
        let request = Request::get(&format!("/api/sse/projects/{}?ticket={ticket}", self.project));
        let Some(mut stream) = Sse::try_open(address, request, false) else { return };
        match stream.head.status {
            403 => {}
            status if self.world.is_refusal(status) => {}
            // It can't be told just now.
            200 => assert!(
                stream.next().is_none_or(|first| first.kind() == "stream_closing"),
                "a spent ticket alone opens nothing"
            ),
            status => panic!("a spent ticket alone: {status}"),
        }
    }

    fn read(&mut self, stream: &mut Sse) -> End {
        let patience = self.random.between(1, 120);
        for count in 1.. {
            if self.manner == Manner::Slow && self.random.one_in(8) {
                self.world.pace(self.random.between(10, 80), NAP);
            }
            let Some(event) = stream.next() else { return End::Cut };
            let is_farewell = event.kind() == FAREWELL;
            if event.id.is_some() {
                self.position = Some((event.id().to_owned(), event.seq()));
                self.world.saw(&self.project, event.seq());
            }
            self.sessions.last_mut().expect("begun before").events.push(event);
            if is_farewell {
                return End::Over;
            }
            if self.manner == Manner::Rover && count >= patience && !self.world.is_finishing() {
                return End::Cut;
            }
        }
        End::Cut
    }
}
