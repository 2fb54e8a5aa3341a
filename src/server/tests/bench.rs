//! A server with fake sockets, and a log after it that answers in the same turn unless it is held up.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::api::{Api, ApiSettings, Door};
use crate::auth::{
    ClaimRules, Hosts, Instance, JwtKey, Origins, Projects, Rights, Scopes, ServerKeys, TicketBook, TicketMemory,
    Verifier, sign_hs256,
};
use crate::executor::testing::plan;
use crate::http;
use crate::log::{Answer, Claim, Command, Delivery, Fingerprint, Journal, Limits, ReplyTo, Retention, Submission};
use crate::model::{Now, OutputStream, ProjectId, Record, RunId, SlabKey, StepId, Timestamp};
use crate::server::{Cidr, ConnectionLimits, Inbox, PollToken, Server, ServerSettings, Socket, Timeouts};
use crate::stream;

pub(super) const HEADER: Duration = Duration::from_secs(10);
pub(super) const BODY: Duration = Duration::from_secs(20);
pub(super) const IDLE: Duration = Duration::from_secs(60);
pub(super) const OUTPUT: Duration = Duration::from_secs(30);
pub(super) const RETRY_MS: u64 = 2000;
/// A little more than the time between two looks at the deadlines.
pub(super) const SWEEP: Duration = Duration::from_millis(300);

const SECRET: &[u8] = b"a secret of 32 bytes and no less";
const TICKET_TTL: Duration = Duration::from_secs(15);

/// The client's end of a connection.
#[derive(Debug, Default)]
pub(super) struct Wire {
    pub(super) to_server: VecDeque<u8>,
    pub(super) from_server: Vec<u8>,
    /// The most bytes that one read gives.
    pub(super) read_max: usize,
    /// Reads that the server has made.
    pub(super) reads: usize,
    /// Bytes that the client still takes.
    pub(super) room: usize,
    /// The poll tells of room.
    pub(super) is_watched_for_room: bool,
    pub(super) is_half_closed: bool,
    /// The server has said that it will write no more.
    pub(super) is_finished: bool,
    /// The server has let go of it.
    pub(super) is_dropped: bool,
}

/// The server's end of a connection.
pub(super) struct FakeSocket {
    wire: Rc<RefCell<Wire>>,
}

impl FakeSocket {
    /// The poll is to tell of room; `true` where there is some already.
    fn watch_for_room(&self) -> bool {
        let mut wire = self.wire.borrow_mut();
        wire.is_watched_for_room = true;
        wire.room > 0
    }
}

impl Read for FakeSocket {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.wire.borrow_mut();
        wire.reads += 1;
        let n = to.len().min(wire.read_max).min(wire.to_server.len());
        if n == 0 && !wire.is_half_closed {
            return Err(ErrorKind::WouldBlock.into());
        }
        to.iter_mut().zip(wire.to_server.drain(..n)).for_each(|(to, byte)| *to = byte);
        Ok(n)
    }
}

impl Write for FakeSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut wire = self.wire.borrow_mut();
        assert!(!wire.is_finished, "nothing is written behind the end");
        let n = bytes.len().min(wire.room);
        if n == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        wire.room -= if wire.room == usize::MAX { 0 } else { n };
        wire.from_server.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket for FakeSocket {
    fn finish(&mut self) {
        let was_finished = std::mem::replace(&mut self.wire.borrow_mut().is_finished, true);
        assert!(!was_finished, "the end is said once");
    }
}

impl Drop for FakeSocket {
    fn drop(&mut self) {
        self.wire.borrow_mut().is_dropped = true;
    }
}

/// A client: its number, and its end of the connection.
#[derive(Clone)]
pub(super) struct Client {
    number: usize,
    pub(super) wire: Rc<RefCell<Wire>>,
}

impl Client {
    /// What the server has sent since this was asked last.
    pub(super) fn take(&self) -> String {
        let bytes = std::mem::take(&mut self.wire.borrow_mut().from_server);
        String::from_utf8(bytes).expect("text")
    }

    pub(super) fn is_dropped(&self) -> bool {
        self.wire.borrow().is_dropped
    }
}

/// See the [module](self).
pub(super) struct Bench {
    pub(super) server: Server<FakeSocket>,
    journal: Journal,
    pub(super) now: Now,
    /// What each client's socket is known by.
    tokens: Vec<PollToken>,
    /// The log answers nothing.
    pub(super) is_log_held_up: bool,
    held_up: Vec<Command>,
    /// Every wish for keys.
    pub(super) wishes: Vec<u64>,
}

pub(super) fn limits() -> ConnectionLimits {
    ConnectionLimits {
        connections: 100,
        reserve: 2,
        per_address: 100,
        trusted_proxies: vec![Cidr::parse("127.0.0.0/8").expect("a range")],
        requests_per_connection: 1_000_000,
        buffer_bytes: 1 << 30,
        streams_per_token: 2,
        publish_rate: 10,
    }
}

impl Bench {
    /// A server where everyone may do everything.
    pub(super) fn new() -> Self {
        Self::with(limits(), false)
    }

    pub(super) fn with(limits: ConnectionLimits, is_jwt: bool) -> Self {
        let verifier = Verifier::new(&JwtKey::Hs256 { secret: SECRET.to_vec() }, Duration::ZERO).expect("a key");
        Self::guarded_by(limits, is_jwt.then_some(verifier))
    }

    /// A server that checks tokens like this.
    pub(super) fn guarded_by(limits: ConnectionLimits, verifier: Option<Verifier>) -> Self {
        let now = Now { mono: Duration::from_secs(5), wall: Timestamp::from_millis(1_700_000_000_000) };
        let keys = ServerKeys::derive(SECRET);
        let signer = keys.id_signer(Instance::from_random([1; 6]));
        let api = ApiSettings {
            verifier,
            hosts: Hosts::only(&["h".to_owned()], []),
            origins: Origins::new::<&str>(&[]).expect("no origins"),
            signer: signer.clone(),
            ticket_key: keys.ticket_key(),
            tickets: TicketBook::new(keys.ticket_key(), TICKET_TTL, TicketMemory::All),
            ticket_ttl: TICKET_TTL,
            serves_metrics: true,
        };
        let mut nonce = 0;
        let random = move || {
            nonce += 1;
            [nonce; 16]
        };
        let retention = Retention { messages: 10_000, bytes: 1 << 30, age_ms: u64::MAX, runs: 100 };
        let log = Limits {
            retention,
            open_runs: 10,
            project_runs: usize::MAX,
            projects: 100,
            key_bytes: 1 << 20,
            state_outputs_bytes: 1 << 20,
            plans: Default::default(),
            recent_ms: 60_000,
        };
        Self {
            server: Server::new(settings(limits), Api::new(api, Box::new(random)), 7),
            journal: Journal::over_nothing(signer, log, now),
            now,
            tokens: Vec::new(),
            is_log_held_up: false,
            held_up: Vec::new(),
            wishes: Vec::new(),
        }
    }

    pub(super) fn connect(&mut self) -> Client {
        self.connect_from("198.51.100.1").expect("there is room")
    }

    /// None if the server had no room even to refuse.
    pub(super) fn connect_from(&mut self, address: &str) -> Option<Client> {
        let wire = Wire { read_max: usize::MAX, room: usize::MAX, ..Wire::default() };
        let client = Client { number: self.tokens.len(), wire: Rc::new(RefCell::new(wire)) };
        let socket = FakeSocket { wire: client.wire.clone() };
        let peer: IpAddr = address.parse().expect("an address");
        let token = self.server.accept(socket, peer, Door::Main, self.now).ok()?;
        self.tokens.push(token);
        Some(client)
    }

    /// Another server has read this of the client, before it passed the connection on.
    pub(super) fn feed(&mut self, client: &Client, text: &str) {
        self.server.feed(self.tokens[client.number], text.as_bytes(), self.now);
        self.turns();
    }

    /// The client sends, and the server takes its turns.
    pub(super) fn send(&mut self, client: &Client, text: &str) {
        client.wire.borrow_mut().to_server.extend(text.bytes());
        self.readable(client);
        self.turns();
    }

    /// As `send`, and everything that comes back.
    pub(super) fn ask(&mut self, client: &Client, text: &str) -> String {
        self.send(client, text);
        client.take()
    }

    /// The poll takes its socket no longer.
    pub(super) fn abandon(&mut self, client: &Client) {
        self.server.abandon(self.tokens[client.number]);
    }

    pub(super) fn half_close(&mut self, client: &Client) {
        client.wire.borrow_mut().is_half_closed = true;
        self.readable(client);
        self.turns();
    }

    /// The client takes so many bytes more.
    pub(super) fn make_room(&mut self, client: &Client, room: usize) {
        let sum = client.wire.borrow().room.saturating_add(room);
        client.wire.borrow_mut().room = sum;
        if !client.is_dropped() && client.wire.borrow().is_watched_for_room {
            self.server.writable(self.tokens[client.number], self.now);
        }
        self.turns();
    }

    /// The poll says that there is something to read.
    pub(super) fn readable(&mut self, client: &Client) {
        let unread = || client.wire.borrow().to_server.len();
        while !client.is_dropped() {
            let (before, is_closed) = (unread(), client.wire.borrow().is_half_closed);
            self.server.readable(self.tokens[client.number], is_closed, self.now);
            // A read that gave less than was asked for and less than there was: the poll tells of the rest.
            let has_more = unread() > 0 && unread() < before && client.wire.borrow().read_max < before;
            if !has_more {
                return;
            }
        }
    }

    pub(super) fn wait(&mut self, by: Duration) {
        self.now = self.now.plus(by);
        self.turns();
    }

    /// Turns until there is nothing more to do.
    pub(super) fn turns(&mut self) {
        for _ in 0..100_000 {
            if !self.turn() {
                return;
            }
        }
        panic!("the server is never done");
    }

    /// One turn. `true` where there is more to do.
    pub(super) fn turn(&mut self) -> bool {
        let mut is_busy = self.server.end_turn(self.now);
        for token in self.server.take_blocked() {
            if self.server.socket(token).is_some_and(|socket| socket.watch_for_room()) {
                self.server.writable(token, self.now);
                is_busy = true;
            }
        }
        let outbox = self.server.take_outbox();
        self.wishes.extend(outbox.keys);
        self.held_up.extend(outbox.log);
        if !self.is_log_held_up && !self.held_up.is_empty() {
            let commands = std::mem::take(&mut self.held_up);
            let outcome = self.journal.handle(commands, self.now);
            self.server.receive(Inbox::Log(outcome.deliveries), self.now);
            is_busy = true;
        }
        is_busy
    }

    /// The step `a` of the run `r` of project `p` has printed this and goes on.
    pub(super) fn print(&mut self, chunks: &[&str]) {
        let project = ProjectId::parse("p").expect("an id");
        let run_id = RunId::parse("r").expect("an id");
        let fingerprint = Fingerprint { value: [1; 32], bytes: [2; 32] };
        let submission = Submission {
            claim: Claim { project: project.clone(), key: None, run: Some(run_id.clone()), fingerprint },
            run: run_id.clone(),
            plan: Arc::new(plan(&["a"])),
            document: b"{}".as_slice().into(),
            answer: b"{}".as_slice().into(),
            origin: None,
        };
        let submit =
            Command::Submit { submission: Box::new(submission), reply: ReplyTo::Connection(SlabKey::new(0, 0)) };
        let printed = chunks.iter().map(|chunk| Record::Output {
            project: project.clone(),
            run: run_id.clone(),
            step: StepId::parse("a").expect("an id"),
            attempt: 1,
            stream: OutputStream::Stdout,
            bytes: chunk.as_bytes().to_vec(),
        });
        let printed = Command::Records(printed.collect());
        self.journal.handle(vec![submit, printed], self.now);
    }

    /// What the log is asked for and has not answered yet.
    pub(super) fn asked_of_log(&mut self) -> usize {
        self.held_up.extend(self.server.take_outbox().log);
        self.held_up.len()
    }

    /// The log, which is held up, answers what it was asked for first.
    pub(super) fn log_answers(&mut self, answer: Answer) {
        self.held_up.extend(self.server.take_outbox().log);
        let (Command::Read { reply: to, .. } | Command::Subscribe { reply: to, .. }) = self.held_up.remove(0) else {
            panic!("nothing was asked")
        };
        let reply = Delivery::Reply { to, answer };
        self.server.receive(Inbox::Log(vec![reply]), self.now);
    }

    /// The log, which is held up, does what it was asked for first.
    pub(super) fn log_does_one(&mut self) {
        let first = self.held_up.remove(0);
        let outcome = self.journal.handle(vec![first], self.now);
        self.server.receive(Inbox::Log(outcome.deliveries), self.now);
        self.turns();
    }

    pub(super) fn drain(&mut self) {
        self.server.drain();
    }

    /// A token of someone, good for an hour.
    pub(super) fn token(&self, sub: &str) -> String {
        let rights = Rights { scopes: Scopes::ALL, projects: Projects::All };
        sign_hs256(sub, self.now.wall.plus_millis(3_600_000), &rights, &ClaimRules::default(), SECRET).expect("signs")
    }
}

fn settings(limits: ConnectionLimits) -> ServerSettings {
    ServerSettings {
        streams: stream::Settings {
            heartbeat: Duration::from_secs(15),
            stall_timeout: OUTPUT,
            retry_ms: RETRY_MS,
            backlog_bytes: 64 * 1024,
            backlogs_bytes: 1 << 20,
            linger: Duration::from_secs(30),
        },
        http: http::Limits { head_bytes: 2048, target_bytes: 1024, body_bytes: 4096 },
        timeouts: Timeouts { header: HEADER, body: BODY, idle: IDLE, output: OUTPUT },
        limits,
    }
}
