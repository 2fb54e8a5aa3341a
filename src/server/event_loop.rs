//! The thin shell around the [`Server`]: it polls, accepts, passes readiness and time to it, and executes its outbox.
//!
//! A turn: poll with the next deadline as timeout; read the clock once; accept, read and write what is ready; drain the
//! inbox; end the turn; send all commands of the turn to the log as one batch. A socket is registered once,
//! edge-triggered, and again when it is full for the first time.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crossbeam_channel::{Sender, TrySendError};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll};
use rustix::io::Errno;

use super::core::Server;
use super::inbox::InboxReceiver;
use super::intake::Work;
use super::jwks::Asks;
use super::listen::{Listeners, WAKER, Way};
use super::passed::PassedConnection;
use super::socket::ClientSocket;
use super::sockets::PollToken;
use super::tls::Tls;
use crate::executor::ExecutorHandle;
use crate::log::{Command, LogHandle};
use crate::model::Now;

/// The most events per poll.
const EVENTS_MAX: usize = 1024;

/// The most connections accepted before the other sockets are served.
const ACCEPTS_MAX: usize = 256;

/// The most batches taken from the inbox before the sockets are served.
const INBOX_BATCHES_MAX: usize = 256;

/// How long to pause accepting if there are no descriptors and even the spare one did not help.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// How often to log a lack of descriptors while it lasts.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Tells the loop to stop, and how far that has come.
pub(super) trait Control {
    /// What the loop should do now.
    fn wish(&self) -> Wish;
    /// How long work may take to stop before the streams are ended anyway.
    fn drain_max(&self) -> Duration;
    /// Whether no webhook is being sent any more.
    fn are_webhooks_told(&self) -> bool;
    /// The current time.
    fn now(&self) -> Now;
    /// Notes that a turn has ended.
    fn note_turn(&self);
}

/// What the loop should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Continue.
    Serve,
    /// Take no new work, and stop once active work is done.
    Drain,
    /// Continue until active work has ended or used its time. Then stop, and pass on the connections that can be passed
    /// on.
    HandOver,
    /// Stop at once.
    Stop,
}

/// The result of a loop.
#[derive(Debug)]
pub(super) enum Ended {
    /// It was told to stop, and leaves nothing.
    Stopped,
    /// Connections for the process that takes over.
    HandedOver(Vec<PassedConnection>),
}

/// The threads that the loop hands work to.
pub(super) struct Hands {
    pub(super) log: LogHandle,
    pub(super) intake: Sender<Work>,
    pub(super) executor: ExecutorHandle,
    /// The thread that fetches keys, if tokens are checked with such keys.
    pub(super) keys: Option<Asks>,
}

impl Hands {
    /// Hands the log a batch, if it has room. Then the executor is told directly which runs to cancel, so that no tool
    /// continues until the log gets to it. This comes after the batch, so that the log still finds the run open.
    fn send(&self, batch: Vec<Command>) -> Result<(), Vec<Command>> {
        let cancel = |command: &Command| match command {
            Command::Cancel { project, run, .. } => Some((project.clone(), run.clone())),
            _ => None,
        };
        let cancels: Vec<_> = batch.iter().filter_map(cancel).collect();
        self.log.try_send(batch)?;
        cancels.into_iter().for_each(|(project, run)| self.executor.cancel(project, run));
        Ok(())
    }
}

/// The progress of stopping.
#[derive(Default)]
struct Drain {
    began_at: Option<Duration>,
    ends_at: Option<Duration>,
}

/// How long the last responses and messages may take to be written.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Why no connection was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unaccepted {
    /// No connection is waiting.
    NoneWaits,
    /// The connection was lost before it was accepted, by the client or its network. The next one may be fine.
    Lost,
    /// There is no descriptor for it. It is still waiting.
    Exhausted,
    /// Something else, perhaps memory. It is still waiting.
    Failed,
}

impl Unaccepted {
    /// Classifies an error of accept(2). Linux also reports errors of the new connection that occurred before.
    fn of(error: &io::Error) -> Self {
        const OF_ONE: [Errno; 13] = [
            Errno::INTR,
            Errno::CONNABORTED,
            Errno::CONNRESET,
            Errno::TIMEDOUT,
            Errno::NETDOWN,
            Errno::PROTO,
            Errno::NOPROTOOPT,
            Errno::HOSTDOWN,
            Errno::NONET,
            Errno::HOSTUNREACH,
            Errno::OPNOTSUPP,
            Errno::NETUNREACH,
            Errno::PERM,
        ];
        match Errno::from_io_error(error) {
            Some(Errno::AGAIN) => Self::NoneWaits,
            Some(Errno::MFILE | Errno::NFILE) => Self::Exhausted,
            Some(errno) if OF_ONE.contains(&errno) => Self::Lost,
            _ => Self::Failed,
        }
    }
}

/// The event loop.
pub(super) struct EventLoop<C> {
    poll: Poll,
    listeners: Listeners,
    tls: Option<Tls>,
    server: Server<ClientSocket>,
    inbox: InboxReceiver,
    hands: Hands,
    control: C,
    /// Commands that did not fit into the queue of the log in an earlier turn.
    unsent: Vec<Command>,
    /// A descriptor held in reserve, so that a connection can be accepted and closed when there is no other.
    spare: Option<std::fs::File>,
    accept_again_at: Option<Duration>,
    /// When a lack of descriptors was last logged.
    warned_at: Option<Duration>,
}

impl<C: Control> EventLoop<C> {
    pub(super) fn new(
        poll: Poll,
        (listeners, tls): (Listeners, Option<Tls>),
        server: Server<ClientSocket>,
        inbox: InboxReceiver,
        hands: Hands,
        control: C,
    ) -> Self {
        let spare = open_spare();
        let (unsent, accept_again_at, warned_at) = (Vec::new(), None, None);
        Self { poll, listeners, tls, server, inbox, hands, control, unsent, spare, accept_again_at, warned_at }
    }

    /// Serves until it is told to stop, beginning with the connections that another process has `passed` on.
    ///
    /// # Errors
    /// If polling fails.
    pub(super) fn run(mut self, passed: Vec<PassedConnection>) -> io::Result<Ended> {
        self.listeners.register(self.poll.registry())?;
        let now = self.control.now();
        passed.into_iter().for_each(|connection| self.adopt(connection, now));
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut is_busy = false;
        let mut drain = Drain::default();
        loop {
            self.wait(&mut events, is_busy)?;
            let now = self.control.now();
            for event in &events {
                self.dispatch(event, now);
            }
            if self.accept_again_at.is_some_and(|at| now.mono >= at) {
                self.accept_again_at = None;
                (0..self.listeners.len()).for_each(|index| self.accept(index, now));
            }
            is_busy = self.drain_inbox();
            is_busy |= self.server.end_turn(self.control.now());
            self.server.record_fanouts(|| self.control.now());
            is_busy |= self.watch_blocked();
            self.carry_out_outbox(now);
            self.control.note_turn();
            match self.control.wish() {
                Wish::Serve => {}
                Wish::Stop => return Ok(Ended::Stopped),
                Wish::Drain => {
                    is_busy |= self.drain(&mut drain, now);
                    if drain.ends_at.is_some_and(|at| now.mono >= at) {
                        return Ok(Ended::Stopped);
                    }
                }
                Wish::HandOver => {
                    is_busy |= self.hand_over(&mut drain, now);
                    if drain.ends_at.is_some_and(|at| now.mono >= at || !self.server.owes_answers()) {
                        return Ok(Ended::HandedOver(self.pass_connections()));
                    }
                }
            }
        }
    }

    /// Ends the streams once the work is done, and then leaves a moment for output to be written.
    fn drain(&mut self, drain: &mut Drain, now: Now) -> bool {
        self.server.drain();
        let began_at = *drain.began_at.get_or_insert(now.mono);
        let is_late = now.mono >= began_at + self.control.drain_max();
        if drain.ends_at.is_none() && (self.server.is_drained() || is_late) {
            self.server.end_streams(now);
            drain.ends_at = Some(now.mono + if self.server.owes_answers() { LAST_WORDS } else { Duration::ZERO });
            return true;
        }
        false
    }

    /// Continues until active work has stopped. Then it accepts no connections and reads no requests, so both wait in
    /// the kernel for the process that takes over. Requests that were read are answered, and the streams end.
    fn hand_over(&mut self, drain: &mut Drain, now: Now) -> bool {
        let began_at = *drain.began_at.get_or_insert(now.mono);
        let is_late = now.mono >= began_at + self.control.drain_max();
        let is_done = self.server.is_drained() && self.control.are_webhooks_told();
        if drain.ends_at.is_some() || !(is_done || is_late) {
            return false;
        }
        self.listeners.close(self.poll.registry());
        self.accept_again_at = None;
        self.server.leave_to_another(now);
        drain.ends_at = Some(now.mono + LAST_WORDS);
        true
    }

    /// Takes the connections that another process can continue.
    fn pass_connections(&mut self) -> Vec<PassedConnection> {
        let passable = self.server.take_passable().into_iter();
        // TLS sessions can't be passed on. Their clients reconnect.
        let passed = passable.filter_map(|(socket, door, input)| {
            let socket = socket.into_plain()?;
            Some(PassedConnection::new(socket.into(), door, input))
        });
        passed.collect()
    }

    /// Adds a connection that another process has passed on.
    fn adopt(&mut self, connection: PassedConnection, now: Now) {
        let way = Way { door: connection.door(), is_tls: false };
        let Some((socket, peer, input)) = connection.into_parts() else { return };
        if let Some(token) = self.take_in(socket, peer, way, now) {
            self.server.feed(token, &input, now);
        }
    }

    fn wait(&mut self, events: &mut Events, is_busy: bool) -> io::Result<()> {
        let now = self.control.now().mono;
        let timeout = if is_busy || !self.unsent.is_empty() {
            // Commands for a full log are tried again soon, the rest of a broadcast at once.
            Some(if is_busy { Duration::ZERO } else { Duration::from_millis(1) })
        } else {
            let is_ending = matches!(self.control.wish(), Wish::Drain | Wish::HandOver);
            let drains = is_ending.then(|| now + Duration::from_millis(20));
            let deadlines = [self.server.next_deadline(), self.accept_again_at, drains];
            deadlines.into_iter().flatten().min().map(|at| at.saturating_sub(now))
        };
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() != ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    fn dispatch(&mut self, event: &mio::event::Event, now: Now) {
        if event.token() == WAKER {
            return;
        }
        if let Some(index) = self.listeners.index_of(event.token()) {
            return self.accept(index, now);
        }
        let token = PollToken(event.token().0);
        let is_closed = event.is_read_closed() || event.is_error();
        if event.is_readable() || is_closed {
            self.server.readable(token, is_closed, now);
        }
        if event.is_writable() {
            if self.tls.is_some() {
                // The rest is tried again at the next event.
                let _ = self.server.socket(token).map(ClientSocket::flush);
            }
            self.server.writable(token, now);
        }
    }

    fn accept(&mut self, index: usize, now: Now) {
        for _ in 0..ACCEPTS_MAX {
            let Some((listener, way)) = self.listeners.get(index) else { return };
            match listener.accept() {
                Ok((socket, peer)) => drop(self.take_in(socket, peer, way, now)),
                Err(error) => match Unaccepted::of(&error) {
                    Unaccepted::NoneWaits => return,
                    Unaccepted::Lost => {}
                    Unaccepted::Exhausted => return self.survive_exhaustion(index, &error, now),
                    Unaccepted::Failed => {
                        self.warn_of_accept(&error, now);
                        self.accept_again_at = Some(now.mono + ACCEPT_REST);
                        return;
                    }
                },
            }
        }
        // No further event reports those that still wait.
        self.accept_again_at = Some(now.mono);
    }

    fn take_in(&mut self, socket: TcpStream, peer: IpAddr, way: Way, now: Now) -> Option<PollToken> {
        let tls = self.tls.as_ref().filter(|_| way.is_tls);
        // With TLS there may be output that the server does not know of.
        let interest = if way.is_tls { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        let socket = ClientSocket::of(socket, tls)?;
        let token = self.server.accept(socket, canonical(peer), way.door, now).ok()?;
        let socket = self.server.socket(token)?;
        if self.poll.registry().register(socket.watched(), mio::Token(token.0), interest).is_err() {
            self.server.abandon(token);
            return None;
        }
        Some(token)
    }

    fn warn_of_accept(&mut self, error: &io::Error, now: Now) {
        if self.warned_at.is_none_or(|at| now.mono >= at + WARN_EVERY) {
            self.warned_at = Some(now.mono);
            log::warn!("cannot accept connections: {error}");
        }
    }

    /// Handles a lack of descriptors: closes the spare one for a moment, and accepts, refuses and closes the waiting
    /// connections one after another. So none of them hangs, and the poll does not spin.
    fn survive_exhaustion(&mut self, index: usize, error: &io::Error, now: Now) {
        self.warn_of_accept(error, now);
        let had_spare = self.spare.take().is_some();
        let listener = self.listeners.get(index).filter(|_| had_spare);
        for _ in 0..ACCEPTS_MAX {
            let Some((listener, way)) = listener else { break };
            let Ok((socket, _)) = listener.accept() else { break };
            if !way.is_tls {
                refuse_unheard(socket);
            }
            self.server.count_unheard();
        }
        self.spare = open_spare();
        self.accept_again_at = Some(now.mono + ACCEPT_REST);
    }

    /// Handles messages of other threads. Returns `true` if there may be more.
    fn drain_inbox(&mut self) -> bool {
        self.inbox.begin();
        for _ in 0..INBOX_BATCHES_MAX {
            let Some(batch) = self.inbox.try_recv() else { return false };
            self.server.receive(batch, self.control.now());
        }
        true
    }

    /// Polls these sockets, which were full, also for room. One that has room already causes an event at once. A socket
    /// that can't be polled is closed, because it would never be written to again. Returns `true` if there was one.
    fn watch_blocked(&mut self) -> bool {
        let mut has_lost = false;
        for token in self.server.take_blocked() {
            let Some(socket) = self.server.socket(token) else { continue };
            let interest = Interest::READABLE | Interest::WRITABLE;
            if let Err(error) = self.poll.registry().reregister(socket.watched(), mio::Token(token.0), interest) {
                log::warn!("closing a connection that cannot be polled: {error}");
                self.server.abandon(token);
                has_lost = true;
            }
        }
        has_lost
    }

    fn carry_out_outbox(&mut self, now: Now) {
        let outbox = self.server.take_outbox();
        for (to, request) in outbox.intake {
            if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
                self.hands.intake.try_send(Work { to, request })
            {
                self.server.refuse_plan(to, now);
            }
        }
        if let Some((wish, keys)) = outbox.keys.zip(self.hands.keys.as_ref()) {
            keys.ask(wish);
        }
        match self.unsent.is_empty() {
            true => self.unsent = outbox.log,
            false => self.unsent.extend(outbox.log),
        }
        if !self.unsent.is_empty() {
            self.unsent = self.hands.send(std::mem::take(&mut self.unsent)).err().unwrap_or_default();
            let is_full = !self.unsent.is_empty();
            self.server.set_log_full(is_full);
        }
        self.server.metrics.log_waiting = self.hands.log.waiting();
        self.server.metrics.inbox_waiting = self.inbox.waiting();
    }
}

/// Answers that there is no room, whatever the request is, and closes.
fn refuse_unheard(mut socket: TcpStream) {
    // Reads what the client sent: otherwise the close would be a reset, which may overtake the response.
    let mut scratch = [0; 1024];
    let _ = socket.read(&mut scratch);
    let _ = socket
        .write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n\r\n");
}

fn open_spare() -> Option<std::fs::File> {
    std::fs::File::open("/dev/null").ok()
}

/// An IPv4 address that came in through an IPv6 socket is an IPv4 address.
fn canonical(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, |v4: Ipv4Addr| v4.into()),
        IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_befell_one_connection_shuts_out_no_other() {
        for (errno, expected) in [
            (Errno::AGAIN, Unaccepted::NoneWaits),
            (Errno::INTR, Unaccepted::Lost),
            (Errno::CONNABORTED, Unaccepted::Lost),
            (Errno::PROTO, Unaccepted::Lost),
            (Errno::NETDOWN, Unaccepted::Lost),
            (Errno::NETUNREACH, Unaccepted::Lost),
            (Errno::HOSTUNREACH, Unaccepted::Lost),
            (Errno::PERM, Unaccepted::Lost),
            (Errno::MFILE, Unaccepted::Exhausted),
            (Errno::NFILE, Unaccepted::Exhausted),
            (Errno::NOBUFS, Unaccepted::Failed),
            (Errno::NOMEM, Unaccepted::Failed),
            (Errno::INVAL, Unaccepted::Failed),
        ] {
            assert_eq!(Unaccepted::of(&errno.into()), expected, "{errno:?}");
        }
        assert_eq!(Unaccepted::of(&io::Error::other("no number")), Unaccepted::Failed);
    }
}
