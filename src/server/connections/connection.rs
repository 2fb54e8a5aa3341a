//! A connection before it becomes a stream, or that never does: bytes in, requests out, answers in, bytes out.
//!
//! It owns its socket and two buffers, and does not know what requests mean. One request is answered at a time;
//! pipelined requests wait in the input buffer, which is bounded, and beyond that in the client. An answer too large
//! for the output buffer is a source that is written in bounded pieces; nothing else is answered until it is done.

use std::io::ErrorKind;
use std::time::Duration;

use super::deadlines::{Overdue, Timeouts};
use super::input::{BUFFER_BYTES_KEPT, Input};
use super::sending::{Flushed, Sending};
use crate::api::{Door, Shown};
use crate::http::{Decoder, Limits, Phase, Response, Verdict};
use crate::server::exchange::Framing;
use crate::server::refused::Limit;
use crate::server::socket::Socket;
use crate::server::sockets::PollToken;
use crate::server::waiting::Waiting;

/// How many bytes of responses may wait before no further request is served.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// The most bytes read ahead of a request that is not served yet, or whose head is incomplete.
const READ_AHEAD_BYTES_MAX: usize = 16 * 1024;

/// The most reads of one socket before the other sockets are served: 4 x the 64 KiB of the scratch.
const READS_MAX: usize = 4;

/// The state of a connection.
#[derive(Debug)]
pub(super) enum State {
    /// Reads requests. Followed by `Waiting`, `Sending`, `Closing` or `Doomed`.
    Reading,
    /// A request waits for its answer from another thread. Followed by `Reading`, `Sending`, `Closing` or `Doomed`.
    Waiting(Box<Waiting>),
    /// A response is being written whose body follows the output. Followed by `Reading`, `Closing` or `Doomed`.
    Sending(Box<Sending>),
    /// Writes the rest of its output, then says so, and drops input until the other side closes. Followed by `Doomed`.
    Closing,
    /// Will be removed at the end of the turn.
    Doomed,
}

/// The result of reading from a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Got {
    /// Everything that was there.
    All,
    /// The limit of one read was reached; there may be more, without another event.
    More,
    /// The other side is gone.
    Gone,
}

/// An HTTP connection.
pub(in crate::server) struct Connection<S> {
    pub(super) socket: S,
    /// The poll token of its socket.
    token: u32,
    pub(super) generation: u32,
    input: Input,
    decoder: Decoder,
    output: Vec<u8>,
    sent: usize,
    pub(super) state: State,
    /// How much of the request at the front of the input has arrived; `Empty` while that is not known.
    phase: Phase,
    /// Bytes held beyond what every connection may keep, when last counted.
    pub(super) weight: usize,
    /// The number of complete requests.
    pub(super) requests: u32,
    /// Whether it is in the list of connections with more to read.
    pub(super) is_listed: bool,
    /// When it times out, and for what.
    pub(super) deadline: Option<(Duration, Overdue)>,
    /// Whether the other side has ended its output.
    pub(super) is_half_closed: bool,
    /// Whether the poll reports when its socket has room, because it was full before.
    pub(super) is_watched_for_room: bool,
    /// Reading stopped before the socket was empty: there may be more, without another event.
    pub(super) has_unread: bool,
    /// The limit that it is beyond. All its requests are refused then.
    pub(super) beyond: Option<Limit>,
    pub(super) door: Door,
    /// Whether it is a trusted proxy's and counts for the address that it forwards.
    pub(super) is_proxy: bool,
}

impl<S: Socket> Connection<S> {
    /// A connection with this poll token. The [connections](super::Connections) set its generation.
    pub(in crate::server) fn new(
        socket: S,
        token: PollToken,
        door: Door,
        is_proxy: bool,
        beyond: Option<Limit>,
    ) -> Self {
        Self {
            socket,
            token: token.0 as u32,
            generation: 0,
            input: Input::default(),
            decoder: Decoder::new(),
            output: Vec::new(),
            sent: 0,
            state: State::Reading,
            phase: Phase::Empty,
            weight: 0,
            requests: 0,
            is_listed: false,
            deadline: None,
            is_half_closed: false,
            is_watched_for_room: false,
            has_unread: false,
            beyond,
            door,
            is_proxy,
        }
    }

    /// The poll token of its socket.
    pub(super) fn token(&self) -> PollToken {
        PollToken(self.token as usize)
    }

    /// Reads what has arrived, up to its limits. Returns the result and the number of bytes. `scratch` is shared by all
    /// connections. `to_the_end`: the peer has closed, which only a further read shows.
    pub(super) fn read(&mut self, scratch: &mut [u8], limits: &Limits, to_the_end: bool) -> (Got, usize) {
        let mut bytes = 0;
        let got = self.read_some(scratch, limits, to_the_end, &mut bytes);
        self.has_unread = got == Got::More;
        (got, bytes)
    }

    /// Adds input that was read elsewhere.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.input.append(bytes);
    }

    /// How much may wait in the input: a whole request while its body arrives. What is sent ahead waits at the client.
    fn input_bytes_max(&self, limits: &Limits) -> usize {
        match self.phase {
            Phase::Body => limits.request_bytes_max(),
            // One byte more than a head may have is enough to refuse it.
            Phase::Empty | Phase::Head => READ_AHEAD_BYTES_MAX.max(limits.head_bytes.saturating_add(1)),
        }
    }

    fn read_some(&mut self, scratch: &mut [u8], limits: &Limits, to_the_end: bool, bytes: &mut usize) -> Got {
        for _ in 0..READS_MAX {
            let is_dropped = matches!(self.state, State::Closing | State::Doomed);
            let room = self.input_bytes_max(limits).saturating_sub(self.input.unread().len());
            if !is_dropped && room == 0 {
                return Got::More;
            }
            let most = if is_dropped { scratch.len() } else { room.min(scratch.len()) };
            match self.socket.read(&mut scratch[..most]) {
                Ok(0) if is_dropped && !self.has_output() => return Got::Gone,
                Ok(0) => {
                    self.is_half_closed = true;
                    return Got::All;
                }
                Ok(n) if is_dropped => *bytes += n,
                Ok(n) => {
                    *bytes += n;
                    self.input.append(&scratch[..n]);
                    // A socket that returned less than requested is empty, and the poll will report whatever comes
                    // next. Another read would cost as much as parsing a request.
                    if n < most && !to_the_end {
                        return Got::All;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Got::All,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Got::Gone,
            }
        }
        Got::More
    }

    /// Whether the next request may be decoded.
    pub(super) fn wants_request(&self) -> bool {
        matches!(self.state, State::Reading) && self.output_bytes() < OUTPUT_BYTES_MAX
    }

    /// Queues a response.
    pub(super) fn answer(&mut self, shown: Shown, framing: Framing, date: &str) {
        let Shown { response, rest } = shown;
        let keep_alive = framing.keep_alive && self.beyond.is_none();
        let body = response.write_to(&mut self.output, date, framing.version, keep_alive, framing.head_only);
        self.state = match body.is_empty() {
            true if keep_alive => State::Reading,
            true => State::Closing,
            false => State::Sending(Box::new(Sending::new(body, rest, !keep_alive))),
        };
    }

    /// Queues the response to an invalid request, and closes.
    pub(super) fn reject(&mut self, response: Response, date: &str) {
        self.answer(response.into(), Framing::OF_NO_REQUEST, date);
        self.input = Input::default();
        // The rest of the request is not waited for. The next deadline is for the client to take the response.
        self.end_wait();
    }

    /// Queues bytes that are already framed.
    pub(super) fn write_raw(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    /// Writes the output, as far as the socket takes it, and after it at most `body_bytes_max` bytes of the body.
    /// Returns the result, and how many bytes of the body were written.
    pub(super) fn flush(&mut self, body_bytes_max: usize) -> (Flushed, usize) {
        let output = self.flush_output();
        match &mut self.state {
            State::Sending(sending) if output == Flushed::All => {
                let (flushed, bytes) = sending.write(&mut self.socket, body_bytes_max);
                if flushed == Flushed::All {
                    self.state = if sending.is_last { State::Closing } else { State::Reading };
                }
                (flushed, bytes)
            }
            _ => (output, 0),
        }
    }

    fn flush_output(&mut self) -> Flushed {
        while self.sent < self.output.len() {
            match self.socket.write(&self.output[self.sent..]) {
                Ok(0) => return Flushed::Gone,
                Ok(n) => self.sent += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Flushed::Full,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Flushed::Gone,
            }
        }
        self.sent = 0;
        self.output.clear();
        if self.output.capacity() > BUFFER_BYTES_KEPT {
            self.output = Vec::new();
        }
        Flushed::All
    }

    /// Takes the output that was not written.
    pub(super) fn take_output(&mut self) -> Vec<u8> {
        let mut output = std::mem::take(&mut self.output);
        output.drain(..std::mem::take(&mut self.sent));
        output
    }

    /// Whether there is anything to write.
    pub(super) fn has_output(&self) -> bool {
        self.output_bytes() > 0 || matches!(self.state, State::Sending(_))
    }

    /// The bytes that wait in the output.
    pub(super) fn output_bytes(&self) -> usize {
        self.output.len() - self.sent
    }

    /// Takes the input, to be decoded. It must be [given back](Self::give_back).
    pub(super) fn take_input(&mut self) -> Input {
        std::mem::take(&mut self.input)
    }

    /// Gives the input back, without the `consumed` bytes of a request that was served.
    pub(super) fn give_back(&mut self, mut input: Input, consumed: usize) {
        input.consume(consumed);
        self.input = input;
    }

    /// Decodes the request at the front of the input, and updates the state by the result.
    #[inline]
    pub(super) fn decode<'i>(
        &mut self,
        input: &'i Input,
        limits: &Limits,
        timeouts: &Timeouts,
        now: Duration,
    ) -> Verdict<'i> {
        let verdict = self.decoder.decode(input.unread(), limits);
        match &verdict {
            Verdict::NeedMore { phase, send_continue } => {
                self.set_deadline(*phase, now, timeouts);
                if *send_continue {
                    self.write_raw(b"HTTP/1.1 100 Continue\r\n\r\n");
                }
                if self.is_half_closed {
                    self.state = State::Closing;
                }
            }
            Verdict::Complete { .. } => {
                self.end_wait();
                self.requests = self.requests.saturating_add(1);
            }
            Verdict::Reject(_) => {}
        }
        verdict
    }

    /// Counts the bytes that it holds beyond what every connection may keep.
    pub(super) fn weigh(&mut self) {
        let body = if let State::Sending(sending) = &self.state { sending.held() } else { 0 };
        let held = self.input.held() + self.output.len() + body + self.socket.held();
        self.weight = held.saturating_sub(BUFFER_BYTES_KEPT);
    }

    /// Frees the buffers of a connection that is to be removed.
    pub(super) fn drop_buffers_of_the_doomed(&mut self) {
        if matches!(self.state, State::Doomed) {
            self.input = Input::default();
            (self.output, self.sent) = (Vec::new(), 0);
        }
    }

    /// A request is complete: ends its deadline, but not that for taking earlier responses.
    fn end_wait(&mut self) {
        self.phase = Phase::Empty;
        if self.deadline.is_some_and(|(_, what)| what != Overdue::Output) {
            self.deadline = None;
        }
    }

    /// Sets the deadline for what the connection waits for now, according to the decoder.
    fn set_deadline(&mut self, phase: Phase, now: Duration, timeouts: &Timeouts) {
        self.phase = phase;
        let overdue = match phase {
            Phase::Empty => Overdue::Idle,
            Phase::Head => Overdue::Head,
            Phase::Body => Overdue::Body,
        };
        if let (true, Some((at, Overdue::Idle | Overdue::Head))) = (self.beyond.is_some(), self.deadline) {
            // It gets no more time than it was given.
            self.deadline = Some((at, overdue));
            return;
        }
        // While responses are not taken, the deadline for that counts.
        if self.deadline.is_none_or(|(_, what)| what != overdue && what != Overdue::Output) {
            self.deadline = Some((now + timeouts.of(overdue), overdue));
        }
    }
}
