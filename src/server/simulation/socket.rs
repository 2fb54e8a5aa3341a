//! A connection without a network: the server's end is a [`FakeSocket`], the client's end its [`Wire`].
//!
//! It behaves like a TCP socket behind an edge-triggered poll: what the client has no window for blocks, and each
//! change is reported once. It panics if the server does what a socket would silently not forgive: write after it has
//! finished.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;
use std::time::Duration;

use crate::server::socket::Socket;

/// What all wires of a world share.
#[derive(Debug, Default)]
pub(super) struct Ether {
    /// The world's clock.
    pub(super) now: Cell<Duration>,
    /// Writes that the server has made.
    pub(super) writes: Cell<u64>,
    /// The write that fails, counted from 1; none where 0.
    pub(super) failing_write: Cell<u64>,
    /// The most bytes that one read gives.
    pub(super) read_bytes_max: Cell<usize>,
}

/// The client's end, and what is on its way.
#[derive(Debug)]
pub(super) struct Wire {
    ether: Rc<Ether>,
    to_server: VecDeque<u8>,
    /// What the server has written and the client has not looked at.
    pub(super) to_client: Vec<u8>,
    /// Bytes that the client will still take.
    pub(super) window: usize,
    /// Since when the server waits for window.
    pub(super) blocked_since: Option<Duration>,
    pub(super) was_blocked: bool,
    pub(super) is_reset: bool,
    pub(super) is_half_closed: bool,
    /// The poll has to tell that there is something to read.
    pub(super) is_readable: bool,
    /// The poll has to tell that there is room again.
    pub(super) is_writable: bool,
    /// It was told to.
    pub(super) is_watched_for_room: bool,
    /// When the server said that it will write no more.
    pub(super) finished_at: Option<Duration>,
    /// The server has let go of the socket.
    pub(super) is_dropped: bool,
    /// A write was made to fail.
    pub(super) is_broken: bool,
    /// When the server last read or wrote a byte.
    pub(super) active_at: Duration,
    /// Reads and writes that are interrupted once.
    pub(super) interruptions: u32,
}

/// The server's end.
#[derive(Debug)]
pub(super) struct FakeSocket {
    /// Whose it is: an index into the world's clients.
    pub(super) client: usize,
    wire: Rc<RefCell<Wire>>,
}

/// Both ends of a new connection.
pub(super) fn connect(client: usize, window: usize, ether: &Rc<Ether>) -> (FakeSocket, Rc<RefCell<Wire>>) {
    let wire = Wire {
        ether: ether.clone(),
        to_server: VecDeque::new(),
        to_client: Vec::new(),
        window,
        blocked_since: None,
        was_blocked: false,
        is_reset: false,
        is_half_closed: false,
        is_readable: false,
        is_writable: false,
        is_watched_for_room: false,
        finished_at: None,
        is_dropped: false,
        is_broken: false,
        active_at: ether.now.get(),
        interruptions: 0,
    };
    let wire = Rc::new(RefCell::new(wire));
    (FakeSocket { client, wire: wire.clone() }, wire)
}

impl Wire {
    /// The client sends.
    pub(super) fn send(&mut self, bytes: impl IntoIterator<Item = u8>) {
        self.to_server.extend(bytes);
        self.is_readable = true;
    }

    /// The client takes this many bytes more.
    pub(super) fn open(&mut self, bytes: usize) {
        self.window = self.window.saturating_add(bytes);
        if bytes > 0 && self.blocked_since.take().is_some() {
            self.is_writable = self.is_watched_for_room;
        }
    }

    /// The client is gone at once; what was on its way is lost.
    pub(super) fn reset(&mut self) {
        self.is_reset = true;
        (self.is_readable, self.is_writable) = (true, self.is_watched_for_room);
    }

    /// The client will send no more.
    pub(super) fn half_close(&mut self) {
        self.is_half_closed = true;
        self.is_readable = true;
    }

    /// Has the client left, as far as the server can tell?
    pub(super) fn has_left(&self) -> bool {
        self.is_reset || self.is_half_closed || self.is_broken
    }

    /// The poll was told to watch for room too, and anew: what is the case counts as news.
    pub(super) fn watch_for_room(&mut self) {
        self.is_watched_for_room = true;
        self.is_readable |= !self.to_server.is_empty() || self.has_left();
        self.is_writable |= self.window > 0;
        // A stream that its connection became counts from its own first write.
        self.blocked_since = self.blocked_since.map(|_| self.ether.now.get());
    }

    fn interrupted(&mut self) -> io::Result<()> {
        if self.interruptions > 0 {
            self.interruptions -= 1;
            return Err(ErrorKind::Interrupted.into());
        }
        Ok(())
    }
}

impl Read for FakeSocket {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.wire.borrow_mut();
        wire.interrupted()?;
        if wire.is_reset || wire.is_broken {
            return Err(ErrorKind::ConnectionReset.into());
        }
        if wire.to_server.is_empty() {
            return if wire.is_half_closed { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        let n = to.len().min(wire.to_server.len()).min(wire.ether.read_bytes_max.get());
        for (place, byte) in to.iter_mut().zip(wire.to_server.drain(..n)) {
            *place = byte;
        }
        // A read that gives less than there is would be a lie of the poll's: it tells of the rest.
        wire.is_readable |= n < to.len() && !wire.to_server.is_empty();
        wire.active_at = wire.ether.now.get();
        Ok(n)
    }
}

impl Write for FakeSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut wire = self.wire.borrow_mut();
        assert!(wire.finished_at.is_none(), "written to after the end was said");
        wire.interrupted()?;
        let ether = wire.ether.clone();
        ether.writes.set(ether.writes.get() + 1);
        wire.is_broken |= ether.writes.get() == ether.failing_write.get();
        if wire.is_reset || wire.is_broken {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let n = bytes.len().min(wire.window);
        wire.window -= n;
        wire.to_client.extend_from_slice(&bytes[..n]);
        if n > 0 {
            wire.active_at = ether.now.get();
        }
        if n < bytes.len() {
            // A write that is cut short counts as one that blocks: that is when the poll will tell of room.
            let since = if n > 0 { None } else { wire.blocked_since };
            wire.blocked_since = Some(since.unwrap_or(ether.now.get()));
            wire.was_blocked = true;
        }
        if n == 0 && !bytes.is_empty() { Err(ErrorKind::WouldBlock.into()) } else { Ok(n) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket for FakeSocket {
    fn finish(&mut self) {
        let mut wire = self.wire.borrow_mut();
        let now = wire.ether.now.get();
        wire.finished_at.get_or_insert(now);
    }
}

impl Drop for FakeSocket {
    fn drop(&mut self) {
        self.wire.borrow_mut().is_dropped = true;
    }
}
