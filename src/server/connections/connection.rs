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

/// Bytes of answers that wait before further requests are looked at.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// Bytes that are read ahead of a request that is not served yet, or of one whose head has not come.
const READ_AHEAD_BYTES_MAX: usize = 16 * 1024;

/// Reads made of one socket before the others get their turn: 4 x the 64 KiB of the scratch.
const READS_MAX: usize = 4;

/// The state of a connection.
#[derive(Debug)]
pub(super) enum State {
    /// Reads requests. Followed by `Waiting`, `Sending`, `Closing` or `Doomed`.
    Reading,
    /// A request waits for its answer from another thread. Followed by `Reading`, `Sending`, `Closing` or `Doomed`.
    Waiting(Box<Waiting>),
    /// An answer is on its way whose content follows the output. Followed by `Reading`, `Closing` or `Doomed`.
    Sending(Box<Sending>),
    /// Writes what it has to, then says so, and drops what comes in until the other side closes. Followed by `Doomed`.
    Closing,
    /// Will be taken out at the end of the turn.
    Doomed,
}

/// What reading a socket gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Got {
    /// Everything there was.
    All,
    /// The limit of one read was reached; there may be more, without another event.
    More,
    /// The other side is gone.
    Gone,
}

/// See the top of this file.
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
    /// How far the request at the front of the input has come; `Empty` while it is not known.
    phase: Phase,
    /// Bytes held beyond what every connection may keep, when they were counted last.
    pub(super) weight: usize,
    /// Requests that came whole.
    pub(super) requests: u32,
    /// It is in the list of connections with more to read.
    pub(super) is_listed: bool,
    /// When it times out, and for what.
    pub(super) deadline: Option<(Duration, Overdue)>,
    /// The other side will send no more.
    pub(super) is_half_closed: bool,
    /// The poll tells when its socket has room: it was full before.
    pub(super) is_watched_for_room: bool,
    /// Reading stopped before the socket was empty: there may be more, without another event.
    pub(super) has_unread: bool,
    /// The limit that it is beyond: whatever it asks for is refused.
    pub(super) beyond: Option<Limit>,
    pub(super) door: Door,
    /// The address counts for what it forwards, because it is a trusted proxy's.
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

    /// Reads what has come, up to its limits. Returns the result and the number of bytes. `scratch` is shared by all
    /// connections. `to_the_end`: the peer has closed, which only a further read shows.
    pub(super) fn read(&mut self, scratch: &mut [u8], limits: &Limits, to_the_end: bool) -> (Got, usize) {
        let mut bytes = 0;
        let got = self.read_some(scratch, limits, to_the_end, &mut bytes);
        self.has_unread = got == Got::More;
        (got, bytes)
    }

    /// Takes bytes that were read of it elsewhere.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.input.append(bytes);
    }

    /// How much may wait in the input: a whole request while its body comes. What is sent ahead waits at the client.
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
                    // A socket that gave less than was asked for is empty; whatever comes from here on is news to the
                    // poll. Asking it again would cost as much as parsing a request.
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

    /// May the next request be looked at?
    pub(super) fn wants_request(&self) -> bool {
        matches!(self.state, State::Reading) && self.output_bytes() < OUTPUT_BYTES_MAX
    }

    /// Queues an answer.
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

    /// Queues the answer to what is no request, and closes.
    pub(super) fn reject(&mut self, response: Response, date: &str) {
        self.answer(response.into(), Framing::OF_NO_REQUEST, date);
        self.input = Input::default();
        // The rest of the request is not waited for: what runs from now on is the time to take the answer.
        self.end_wait();
    }

    /// Queues bytes that are framed already.
    pub(super) fn write_raw(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    /// Writes what is queued, as far as the socket takes it, and of content after it at most `body_bytes_max`. What that
    /// gave, and how many bytes of the content were written.
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

    /// Takes what waits to be written.
    pub(super) fn take_output(&mut self) -> Vec<u8> {
        let mut output = std::mem::take(&mut self.output);
        output.drain(..std::mem::take(&mut self.sent));
        output
    }

    /// Does anything wait to be written?
    pub(super) fn has_output(&self) -> bool {
        self.output_bytes() > 0 || matches!(self.state, State::Sending(_))
    }

    /// Bytes that wait in the output.
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

    /// Counts what it holds, but for what every connection may keep.
    pub(super) fn weigh(&mut self) {
        let body = if let State::Sending(sending) = &self.state { sending.held() } else { 0 };
        let held = self.input.held() + self.output.len() + body + self.socket.held();
        self.weight = held.saturating_sub(BUFFER_BYTES_KEPT);
    }

    /// Whoever will be taken out holds nothing until then.
    pub(super) fn drop_buffers_of_the_doomed(&mut self) {
        if matches!(self.state, State::Doomed) {
            self.input = Input::default();
            (self.output, self.sent) = (Vec::new(), 0);
        }
    }

    /// A request has come whole: its time no longer runs. That for taking earlier answers does.
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
            // It has no more time than it was given.
            self.deadline = Some((at, overdue));
            return;
        }
        // While answers are not taken, that is what it has to hurry with.
        if self.deadline.is_none_or(|(_, what)| what != overdue && what != Overdue::Output) {
            self.deadline = Some((now + timeouts.of(overdue), overdue));
        }
    }
}
