//! One subscriber: it opens a stream, reads every event, checks every number, and comes back where it is told to. The
//! fleet brings its socket's readiness and the time; nothing in here waits.

use std::io::{ErrorKind, Read, Write};

use crate::chunks::Chunks;
use crate::http::{Head, read_head};
use crate::message::{self, Message};
use crate::sequence::Sequence;
use crate::sse::{Event, Item, Parser};
use crate::tally::Tally;
use crate::wire::Wire;

/// How a subscriber reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Everything as it comes.
    Full,
    /// So many bytes a second at most.
    BytesPerSecond(usize),
    /// Nothing behind the beginning of the stream.
    Nothing,
}

/// A place in a project's messages.
#[derive(Debug, Clone)]
pub struct Position {
    /// The id that a stream is resumed with.
    pub id: Vec<u8>,
    /// The number that belongs to it.
    pub seq: u64,
}

/// Reads per call to [`Subscriber::read`]: then it is somebody else's turn.
const READS_MAX: usize = 8;

/// How [`Subscriber::read`] is to go about it.
#[derive(Debug)]
pub struct Reading<'a> {
    /// Where bytes go first.
    pub scratch: &'a mut [u8],
    /// At what pace.
    pub pace: Pace,
    /// The server has closed its side, or the connection is broken.
    pub is_ending: bool,
}

/// Where a subscriber is.
#[derive(Debug)]
enum State {
    /// Without a stream, until it is told to open one.
    Away,
    /// Without a stream until this time, as the server's `retry:` says.
    Waiting { until_ns: u64 },
    /// The request is on its way, or its answer.
    Opening { socket: Wire, request: Option<Vec<u8>>, answer: Vec<u8> },
    /// Events come.
    Streaming { socket: Wire, chunks: Option<Chunks> },
}

/// What is to be done with a subscriber after it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing, until its socket is ready again.
    Idle,
    /// There may be more to read.
    More,
    /// Its stream has ended.
    Ended,
}

/// One reader of one project.
#[derive(Debug)]
pub struct Subscriber {
    /// Its number in the fleet: it decides the source address.
    pub number: usize,
    /// The index of its project.
    pub project: usize,
    /// It has had the number that its fleet waits for.
    pub is_at_goal: bool,
    /// `connected` has come on this stream.
    pub is_greeted: bool,
    state: State,
    parser: Parser,
    sequence: Sequence,
    last_id: Vec<u8>,
    retry_ms: u64,
    /// Bytes that a paced reader may still take.
    allowance: usize,
    /// Messages carry their numbers.
    is_numbered: bool,
}

impl Subscriber {
    /// One without a stream; with a `position` its first stream is a resumed one.
    pub fn new(number: usize, project: usize, position: Option<&Position>) -> Self {
        Self {
            number,
            project,
            is_at_goal: false,
            is_greeted: false,
            state: State::Away,
            parser: Parser::default(),
            sequence: position.map_or_else(Sequence::default, |position| Sequence::after(position.seq)),
            last_id: position.map(|position| position.id.clone()).unwrap_or_default(),
            retry_ms: 1000,
            allowance: 0,
            is_numbered: true,
        }
    }

    /// One of a server that passes messages on as they were published: it greets nobody and numbers nothing, so that
    /// only how many came can be checked.
    pub fn of_unnumbered(mut self) -> Self {
        self.is_numbered = false;
        self.sequence = Sequence::after(0);
        self
    }

    /// The number of the newest message that it has.
    pub fn last_seq(&self) -> Option<u64> {
        self.sequence.last()
    }

    /// Where it would go on.
    pub fn position(&self) -> Option<Position> {
        let seq = self.last_seq()?;
        (!self.last_id.is_empty()).then(|| Position { id: self.last_id.clone(), seq })
    }

    /// The id that it would resume with; empty where it has none.
    pub fn last_id(&self) -> &[u8] {
        &self.last_id
    }

    /// It takes a socket on its way, and what to write to it.
    pub fn open(&mut self, socket: Wire, request: Vec<u8>) {
        self.parser = Parser::default();
        self.is_greeted = false;
        self.state = State::Opening { socket, request: Some(request), answer: Vec::new() };
    }

    /// It has no stream and is not waiting for one.
    pub fn is_away(&self) -> bool {
        matches!(self.state, State::Away)
    }

    /// Its answer has not begun.
    pub fn is_opening(&self) -> bool {
        matches!(self.state, State::Opening { .. })
    }

    /// It waited as long as the server asked for.
    pub fn is_due(&self, now_ns: u64) -> bool {
        matches!(self.state, State::Waiting { until_ns } if until_ns <= now_ns)
    }

    /// It drops its stream.
    pub fn close(&mut self) {
        self.state = State::Away;
        self.is_greeted = false;
    }

    /// It drops its stream and comes back when the server's `retry:` says so.
    pub fn come_back(&mut self, now_ns: u64) {
        self.close();
        self.state = State::Waiting { until_ns: now_ns + self.retry_ms * 1_000_000 };
    }

    /// A paced reader may take so many bytes more, but never more than those of one refill.
    pub fn refill(&mut self, bytes: usize) {
        self.allowance = bytes;
    }

    /// The socket, while there is one.
    pub fn socket(&mut self) -> Option<&mut Wire> {
        match &mut self.state {
            State::Opening { socket, .. } | State::Streaming { socket, .. } => Some(socket),
            State::Away | State::Waiting { .. } => None,
        }
    }

    /// The socket takes bytes: the request goes out, in one piece, as a fresh socket has room for it.
    pub fn write(&mut self, tally: &mut Tally) -> Verdict {
        let State::Opening { socket, request, .. } = &mut self.state else { return Verdict::Idle };
        let Some(bytes) = request else { return Verdict::Idle };
        match socket.write(bytes) {
            Ok(n) if n == bytes.len() => *request = None,
            Ok(n) => drop(bytes.drain(..n)),
            Err(error) if error.kind() == ErrorKind::WouldBlock || error.kind() == ErrorKind::NotConnected => {}
            Err(error) => return broken(&error, tally),
        }
        Verdict::Idle
    }

    /// The socket has bytes, or its end where `is_ending`: without that, a read that does not fill its room has taken
    /// all there was. Times of messages are taken against `now_ns`.
    pub fn read(&mut self, how: Reading, now_ns: u64, tally: &mut Tally) -> Verdict {
        let Reading { scratch, pace, is_ending } = how;
        for _ in 0..READS_MAX {
            let room = self.room(pace, scratch.len());
            if room == 0 {
                return Verdict::Idle;
            }
            let Some(socket) = self.socket() else { return Verdict::Idle };
            match socket.read(&mut scratch[..room]) {
                Ok(0) => return Verdict::Ended,
                Ok(n) => {
                    self.allowance = self.allowance.saturating_sub(n);
                    if let Err(text) = self.take(&scratch[..n], now_ns, tally) {
                        tally.error(text);
                        return Verdict::Ended;
                    }
                    if self.is_over() {
                        return Verdict::Ended;
                    }
                    if n < room && !is_ending {
                        return Verdict::Idle;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Verdict::Idle,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return broken(&error, tally),
            }
        }
        Verdict::More
    }

    /// The last chunk has come: the connection may go on, the stream does not.
    fn is_over(&self) -> bool {
        matches!(&self.state, State::Streaming { chunks: Some(chunks), .. } if chunks.is_over())
    }

    fn room(&self, pace: Pace, scratch: usize) -> usize {
        match pace {
            _ if !self.is_greeted => scratch.min(1024),
            Pace::Full => scratch,
            Pace::BytesPerSecond(_) => scratch.min(self.allowance),
            Pace::Nothing => 0,
        }
    }

    fn take(&mut self, bytes: &[u8], now_ns: u64, tally: &mut Tally) -> Result<(), String> {
        let State::Opening { answer, .. } = &mut self.state else { return self.take_body(bytes, now_ns, tally) };
        answer.extend_from_slice(bytes);
        let Some(head) = read_head(answer)? else { return Ok(()) };
        if head.status != 200 || !head.is_event_stream {
            let body = String::from_utf8_lossy(&answer[head.bytes..]).into_owned();
            return Err(format!("no event stream: {} {}", head.status, body.trim()));
        }
        let rest = answer.split_off(head.bytes);
        self.begin(&head);
        self.take_body(&rest, now_ns, tally)
    }

    fn begin(&mut self, head: &Head) {
        if let State::Opening { socket, .. } = std::mem::replace(&mut self.state, State::Away) {
            self.state = State::Streaming { socket, chunks: head.is_chunked.then(Chunks::default) };
        }
        self.is_greeted = !self.is_numbered;
    }

    fn take_body(&mut self, mut bytes: &[u8], now_ns: u64, tally: &mut Tally) -> Result<(), String> {
        // Both are taken out for as long as this one is changed by what they find.
        let mut parser = std::mem::take(&mut self.parser);
        let mut chunks = match &mut self.state {
            State::Streaming { chunks, .. } => *chunks,
            _ => None,
        };
        let mut verdict = Ok(());
        while verdict.is_ok() && !bytes.is_empty() {
            let piece = match &mut chunks {
                Some(chunks) => chunks.next(&mut bytes)?,
                None => Some(std::mem::take(&mut bytes)),
            };
            let Some(piece) = piece else { break };
            tally.bytes += piece.len() as u64;
            let pushed = parser.push(piece, |item| match item {
                Item::Comment => tally.comments += 1,
                Item::Event(event) => {
                    if let Err(text) = self.take_event(&event, now_ns, tally) {
                        verdict = Err(text);
                    }
                }
            });
            pushed.map_err(|_| "a line without end".to_owned())?;
        }
        self.parser = parser;
        if let State::Streaming { chunks: kept, .. } = &mut self.state {
            *kept = chunks;
        }
        verdict
    }

    fn take_event(&mut self, event: &Event, now_ns: u64, tally: &mut Tally) -> Result<(), String> {
        self.retry_ms = event.retry_ms.unwrap_or(self.retry_ms);
        if let Some(id) = event.id {
            self.last_id.clear();
            self.last_id.extend_from_slice(id);
        }
        let Some(data) = event.data else { return Ok(()) };
        let bad = || format!("no message: {}", String::from_utf8_lossy(data));
        let message = match self.is_numbered {
            true => message::read(data),
            false => message::read_unnumbered(data, self.sequence.last().map_or(1, |last| last + 1)),
        };
        let message = message.ok_or_else(bad)?;
        self.take_message(message, now_ns, tally);
        Ok(())
    }

    fn take_message(&mut self, message: Message, now_ns: u64, tally: &mut Tally) {
        let word = || message.word.clone().unwrap_or_default();
        match message.kind.as_ref() {
            "connected" => {
                let is_resumed = message.word.as_deref() == Some("resumed");
                tally.count(self.sequence.begin(message.seq, is_resumed));
                *tally.begun.entry(word()).or_default() += 1;
                self.is_greeted = true;
            }
            "stream_reset" => {
                self.sequence.reset(message.seq);
                *tally.resets.entry(word()).or_default() += 1;
            }
            "stream_closing" => *tally.closings.entry(word()).or_default() += 1,
            "workflow_snapshot" | "heartbeat" => {}
            _ => {
                tally.messages += 1;
                tally.count(self.sequence.take(message.seq));
                if let Some(due_ns) = message.due_ns {
                    tally.latencies.record(now_ns.saturating_sub(due_ns));
                }
            }
        }
    }
}

/// A server that does not listen just now, or goes away, is the business of whoever waits for the streams; anything
/// else is wrong.
fn broken(error: &std::io::Error, tally: &mut Tally) -> Verdict {
    match error.kind() {
        ErrorKind::ConnectionRefused => tally.refused += 1,
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {}
        _ => tally.error(error.to_string()),
    }
    Verdict::Ended
}

#[cfg(test)]
mod tests {
    use mio::net::TcpStream;

    use super::*;

    const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";

    fn message(seq: u64) -> String {
        format!("id: i{seq}\ndata: {{\"type\":\"load\",\"projectId\":\"p\",\"seq\":{seq},\"payload\":{{}}}}\n\n")
    }

    fn own(kind: &str, seq: u64, payload: &str) -> String {
        format!(
            "id: c\nretry: 7\ndata: {{\"type\":\"{kind}\",\"projectId\":\"p\",\"seq\":{seq},\"payload\":{payload}}}\n\n"
        )
    }

    /// What a subscriber makes of an answer that comes in pieces of one byte.
    fn read(position: Option<&Position>, answer: &str) -> (Subscriber, Tally, Result<(), String>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let socket = std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let mut subscriber = Subscriber::new(0, 0, position);
        subscriber.open(Wire::Plain(TcpStream::from_std(socket)), Vec::new());
        let mut tally = Tally::default();
        let verdict = answer.bytes().try_for_each(|byte| subscriber.take(&[byte], 0, &mut tally));
        (subscriber, tally, verdict)
    }

    #[test]
    fn a_resumed_stream_is_checked_from_where_the_last_one_ended() {
        let position = Position { id: b"i4".to_vec(), seq: 4 };
        let answer =
            [HEAD, &own("connected", 4, "{\"resume\":\"resumed\"}"), &message(5), ":\n\n", &message(6)].concat();
        let (subscriber, tally, verdict) = read(Some(&position), &answer);
        assert_eq!(verdict, Ok(()));
        assert_eq!((tally.messages, tally.comments, tally.lost, tally.repeated), (2, 1, 0, 0));
        assert_eq!((subscriber.last_seq(), subscriber.last_id(), subscriber.retry_ms), (Some(6), b"i6".as_slice(), 7));
        let (_, tally, _) = read(Some(&position), &answer.replace("\"seq\":6", "\"seq\":8"));
        assert_eq!((tally.lost, tally.repeated), (2, 0));
    }

    #[test]
    fn a_chunked_stream_is_read_as_any_other() {
        let head = HEAD.replace("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n");
        let events = [own("connected", 4, "{\"resume\":\"fresh\"}"), message(5), message(6)].concat();
        let (first, second) = events.split_at(events.len() / 2);
        let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
        let (subscriber, tally, verdict) = read(None, &[head, chunk(first), chunk(second)].concat());
        assert_eq!((verdict, tally.messages, subscriber.last_seq()), (Ok(()), 2, Some(6)));
    }

    #[test]
    fn resets_and_closings_are_counted_by_reason() {
        let answer = [
            HEAD,
            &own("connected", 9, "{\"resume\":\"reset\"}"),
            &own("stream_reset", 9, "{\"reason\":\"expired\"}"),
            &own("stream_closing", 9, "{\"reason\":\"shutdown\"}"),
        ];
        let (_, tally, _) = read(None, &answer.concat());
        assert_eq!((tally.begun["reset"], tally.resets["expired"], tally.closings["shutdown"]), (1, 1, 1));
        assert_eq!((tally.messages, tally.lost), (0, 0));
    }

    #[test]
    fn an_answer_that_is_no_event_stream_is_an_error() {
        let (_, _, verdict) = read(None, "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\n\r\n");
        assert!(verdict.is_err_and(|text| text.contains("404")));
        let (_, _, verdict) =
            read(None, &format!("{}zz\r\n", HEAD.replace("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n")));
        assert!(verdict.is_err_and(|text| text.contains("not a chunk")));
        let (_, _, verdict) = read(None, &format!("{HEAD}data: not json\n\n"));
        assert!(verdict.is_err_and(|text| text.contains("not json")));
    }
}
