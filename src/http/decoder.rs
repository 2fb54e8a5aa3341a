//! The decoder of a connection: from the bytes read so far to the next request or to an error.
//!
//! It stores no bytes, only positions. The result for a stream of bytes never depends on how the stream was split into
//! reads: each limit is a position in the stream, and whichever is reached first decides.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr2;

use super::chunked::{self, Chunked};
use super::head::{Framing, Head, is_token_byte};
use super::lines::Lines;
use super::target::Target;
use super::{Problem, Request};

/// How much of a request is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the head, its request line and empty line included; beyond: 431.
    pub head_bytes: usize,
    /// Bytes of the request target; beyond: 414.
    pub target_bytes: usize,
    /// Bytes of the body without its framing; beyond: 413.
    pub body_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { head_bytes: 16 * 1024, target_bytes: 8 * 1024, body_bytes: 1024 * 1024 }
    }
}

impl Limits {
    /// The most bytes that one request takes. A connection that holds as many never needs to read more to get a verdict
    /// other than [`Verdict::NeedMore`].
    pub const fn request_bytes_max(&self) -> usize {
        self.head_bytes.saturating_add(chunked::wire_bytes_max(self.body_bytes))
    }
}

/// What a request line may take besides its target: method, spaces, version and CRLF take 19 bytes at most where the
/// method is one of ours. A line beyond target and this is taken for one whose target is too long.
const REQUEST_LINE_EXTRA_BYTES: usize = 64;

/// Empty lines that may come before a request line; some clients end a body with a CRLF that is not part of it.
const BLANK_LINES_MAX: u8 = 2;

/// What the input amounts to.
#[derive(Debug)]
pub enum Verdict<'b> {
    /// Read more, and call again with all of the input so far.
    NeedMore {
        /// What is being waited for.
        phase: Phase,
        /// Send `100 Continue` now: the client holds its body back. Said once a request.
        send_continue: bool,
    },
    /// A request. The caller drops `consumed` bytes from the front of its input, and calls again: more may be there.
    Complete {
        /// The request.
        request: Request<'b>,
        /// The bytes it took.
        consumed: usize,
    },
    /// Answer this and close: where the next request would begin can't be known. The decoder is done.
    Reject(Problem),
}

/// What is being waited for, each with its own deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// A request that has not begun: the connection is idle.
    Empty,
    /// The rest of a head.
    Head,
    /// The rest of a body.
    Body,
}

/// How far the request at the front of a connection's input has been decoded.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
}

#[derive(Debug)]
enum State {
    /// Looking for the end of the head. Followed by `Body`, or by the next request's `Head`.
    Head(HeadScan),
    /// The head is in `head` of the input and has been checked; looking for the end of the body. It is parsed once more
    /// when that has come, so that nothing has to be kept of it. Followed by the next request's `Head`.
    Body { head: Range<usize>, scan: BodyScan },
}

impl Default for State {
    fn default() -> Self {
        Self::Head(HeadScan::default())
    }
}

impl Decoder {
    /// A decoder at the beginning of a connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes `input`: all bytes that were read and not consumed yet. It only ever grows at its end between two calls,
    /// and loses its front when a request was complete.
    pub fn decode<'b>(&mut self, input: &'b [u8], limits: &Limits) -> Verdict<'b> {
        let verdict = match &mut self.state {
            State::Head(scan) => match scan.advance(input, limits) {
                Ok(Some(head)) => self.begin_body(input, head, limits),
                Ok(None) => Ok(need_more(scan.phase(input))),
                Err(problem) => Err(problem),
            },
            State::Body { head, scan } => {
                let head = head.clone();
                scan.advance(input, limits).and_then(|end| match end {
                    Some(end) => Head::parse(&input[head]).map(|head| complete(head, scan, input, end)),
                    None => Ok(need_more(Phase::Body)),
                })
            }
        };
        if let Ok(Verdict::Complete { .. }) = verdict {
            self.state = State::default();
        }
        verdict.unwrap_or_else(Verdict::Reject)
    }

    /// Checks the head, and takes the body if it is there already, as it mostly is.
    fn begin_body<'b>(
        &mut self,
        input: &'b [u8],
        range: Range<usize>,
        limits: &Limits,
    ) -> Result<Verdict<'b>, Problem> {
        let head = Head::parse(&input[range.clone()])?;
        let mut scan = BodyScan::new(head.framing, range.end, limits)?;
        if let Some(end) = scan.advance(input, limits)? {
            return Ok(complete(head, &scan, input, end));
        }
        self.state = State::Body { head: range, scan };
        Ok(Verdict::NeedMore { phase: Phase::Body, send_continue: head.expects_continue })
    }
}

fn need_more<'b>(phase: Phase) -> Verdict<'b> {
    Verdict::NeedMore { phase, send_continue: false }
}

fn complete<'b>(head: Head<'b>, scan: &BodyScan, input: &'b [u8], end: usize) -> Verdict<'b> {
    let Head { method, version, target: Target { path, query, .. }, host, headers, keep_alive, .. } = head;
    let body = scan.content(input);
    let request = Request { method, version, path, query, host, headers, body, keep_alive };
    Verdict::Complete { request, consumed: end }
}

/// How far a head has been scanned for its end.
#[derive(Debug, Default)]
struct HeadScan {
    lines: Lines,
    /// Where the request line begins.
    begin: usize,
    blank_lines: u8,
    is_past_request_line: bool,
}

impl HeadScan {
    /// Goes on as far as `input` reaches; the head's range once its end is there. Line ends and limits are checked on
    /// the way, all else when the head is whole.
    fn advance(&mut self, input: &[u8], limits: &Limits) -> Result<Option<Range<usize>>, Problem> {
        loop {
            let window = &input[..input.len().min(self.bytes_max(limits))];
            if !self.is_past_request_line {
                check_request_line(window.get(self.begin..).unwrap_or_default(), limits)?;
            }
            let line = self
                .lines
                .next(window)
                .map_err(|_| Problem::malformed("a header line ends with LF instead of CRLF"))?;
            match line {
                Some(line) if !line.is_empty() => self.is_past_request_line = true,
                Some(_) if self.is_past_request_line => return Ok(Some(self.begin..self.lines.start())),
                Some(_) => self.skip_blank_line()?,
                None if input.len() > window.len() => return Err(self.over_limit(limits)),
                None => return Ok(None),
            }
        }
    }

    fn phase(&self, input: &[u8]) -> Phase {
        if input.len() > self.begin { Phase::Head } else { Phase::Empty }
    }

    /// The offset before which the line that is being scanned must end.
    fn bytes_max(&self, limits: &Limits) -> usize {
        if self.is_past_request_line {
            return limits.head_bytes;
        }
        limits.head_bytes.min(limits.target_bytes.saturating_add(self.begin + REQUEST_LINE_EXTRA_BYTES))
    }

    fn over_limit(&self, limits: &Limits) -> Problem {
        if !self.is_past_request_line {
            return target_too_long(limits);
        }
        Problem::new(
            431,
            "head_too_large",
            format!("the request's head is too large (limit {} bytes, limits.header_bytes)", limits.head_bytes),
        )
    }

    fn skip_blank_line(&mut self) -> Result<(), Problem> {
        self.begin = self.lines.start();
        self.blank_lines += 1;
        if self.blank_lines > BLANK_LINES_MAX {
            return Err(Problem::malformed("expected a request line, found empty lines"));
        }
        Ok(())
    }
}

/// Refuses what no request begins with, TLS for one, and a target that is too long, before the line has ended. `text`
/// begins with the request line.
fn check_request_line(text: &[u8], limits: &Limits) -> Result<(), Problem> {
    match text {
        [] | [b'\r'] | [b'\r', b'\n', ..] => return Ok(()),
        [first, ..] if !is_token_byte(*first) => return Err(Problem::malformed("expected an HTTP request")),
        _ => {}
    }
    if text.len() > limits.target_bytes && target_len(text) > limits.target_bytes {
        return Err(target_too_long(limits));
    }
    Ok(())
}

/// Bytes of the second word of the line that `text` begins with, as far as it is there.
fn target_len(text: &[u8]) -> usize {
    match memchr2(b' ', b'\n', text) {
        Some(space) if text[space] == b' ' => {
            let target = &text[space + 1..];
            target.iter().position(|b| matches!(b, b' ' | b'\r' | b'\n')).unwrap_or(target.len())
        }
        _ => 0,
    }
}

fn target_too_long(limits: &Limits) -> Problem {
    Problem::new(
        414,
        "target_too_long",
        format!("the request's target is too long (limit {} bytes, limits.target_bytes)", limits.target_bytes),
    )
}

/// How far a body has come.
#[derive(Debug, Clone, Copy)]
enum BodyScan {
    Length { start: usize, end: usize },
    Chunked(Chunked),
}

impl BodyScan {
    /// The body that begins at `start` of the input.
    fn new(framing: Framing, start: usize, limits: &Limits) -> Result<Self, Problem> {
        match framing {
            Framing::Length(length) if length > limits.body_bytes as u64 => {
                Err(Problem::body_too_large(limits.body_bytes))
            }
            // The limit keeps the length within `usize`.
            Framing::Length(length) => Ok(Self::Length { start, end: start.saturating_add(length as usize) }),
            Framing::Chunked => Ok(Self::Chunked(Chunked::starting_at(start))),
        }
    }

    /// The offset of the body's end once `input` reaches it.
    fn advance(&mut self, input: &[u8], limits: &Limits) -> Result<Option<usize>, Problem> {
        match self {
            Self::Length { end, .. } => Ok((input.len() >= *end).then_some(*end)),
            Self::Chunked(chunked) => chunked.advance(input, limits.body_bytes),
        }
    }

    /// The body, once all of it is there.
    fn content<'b>(&self, input: &'b [u8]) -> Cow<'b, [u8]> {
        match self {
            Self::Length { start, end } => Cow::Borrowed(&input[*start..*end]),
            Self::Chunked(chunked) => chunked.content(input),
        }
    }
}

#[cfg(test)]
mod tests;
