//! Properties of all bytes that untrusted clients can send, for the fuzzer and for the tests of its corpus.
//!
//! The most important one uses a second, lenient HTTP reader: whatever the decoder accepts, the lenient reader must end
//! at the same byte with the same body. Two programs on one path that agree in this way can't be used for request
//! smuggling.

use std::fmt::Debug;

use super::chunked::{Chunked, wire_bytes_max};
use super::{Decoder, Limits, Phase, Query, Request, SEGMENTS_MAX, Segments, Verdict, media, peek_origin, range};

/// Small, so that the limits are met.
const LIMITS: Limits = Limits { head_bytes: 1024, target_bytes: 100, body_bytes: 300 };

/// Up to this length an input is also fed byte by byte.
const BY_BYTES_MAX: usize = 1024;

/// What became of a connection.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Served { line: String, body: Vec<u8>, keep_alive: bool, consumed: usize },
    Refused(u16, &'static str),
    Waits(Phase),
}

/// A connection that sends `bytes`.
pub fn request(bytes: &[u8]) {
    same_however_cut(bytes, |ends| connection(bytes, ends));
}

/// A chunked body.
pub fn chunked(bytes: &[u8]) {
    same_however_cut(bytes, |ends| {
        let mut scan = Chunked::starting_at(0);
        for end in ends {
            let input = &bytes[..end];
            let Some(end) = scan.advance(input, LIMITS.body_bytes).map_err(|problem| problem.status)? else {
                assert!(input.len() <= wire_bytes_max(LIMITS.body_bytes), "more is wanted than a body may take");
                continue;
            };
            let content = scan.content(input).into_owned();
            assert!(content.len() <= LIMITS.body_bytes && end <= wire_bytes_max(LIMITS.body_bytes));
            assert_eq!(lenient::chunks(input), Some((content.clone(), end)));
            return Ok(Some((content, end)));
        }
        Ok::<_, u16>(None)
    });
}

/// Values of headers that say what a client takes, sends, or wants a part of.
pub fn values(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if media::is_json(&text) {
        assert!(text.to_ascii_lowercase().contains("json"));
    }
    if media::names([bytes, b"a/b"], "text/event-stream") {
        assert!(text.to_ascii_lowercase().contains("text/event-stream"));
    }
    for length in [0, 1, 10, u64::MAX] {
        if let range::Selection::Part(part) = range::select(Some(&text), length) {
            assert!(part.start < part.end && part.end <= length, "{part:?} of {length}");
        }
    }
}

/// However the input is cut into reads, what `seen` makes of it is the same.
fn same_however_cut<T: PartialEq + Debug>(bytes: &[u8], seen: impl Fn(Vec<usize>) -> T) {
    let whole = seen(vec![bytes.len()]);
    assert_eq!(seen(cuts(bytes)), whole, "in pieces");
    if bytes.len() <= BY_BYTES_MAX {
        assert_eq!(seen((0..=bytes.len()).collect()), whole, "byte by byte");
    }
}

/// Where to cut, drawn from the input itself: the same input is always cut the same, and needs no bytes to say how.
fn cuts(bytes: &[u8]) -> Vec<usize> {
    let mut random = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, b| (hash ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3));
    let mut ends = Vec::new();
    let mut end = 0;
    while end < bytes.len() {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let longest = if random >> 63 == 0 { 4 } else { 64 };
        end = bytes.len().min(end + 1 + (random >> 33) as usize % longest);
        ends.push(end);
    }
    ends
}

/// Reads `bytes` as a connection would that had come as far as each of `ends` in turn.
fn connection(bytes: &[u8], ends: Vec<usize>) -> Vec<Event> {
    let (mut decoder, mut begin, mut events) = (Decoder::new(), 0, Vec::new());
    let mut waits = Phase::Empty;
    for end in ends {
        loop {
            let input = &bytes[begin..end];
            match decoder.decode(input, &LIMITS) {
                Verdict::NeedMore { phase, .. } => {
                    assert!(input.len() <= LIMITS.request_bytes_max(), "more is wanted than a request may take");
                    waits = phase;
                    break;
                }
                Verdict::Complete { request, consumed } => {
                    check_served(&request, &input[..consumed]);
                    events.push(served(&request, consumed));
                    begin += consumed;
                }
                Verdict::Reject(problem) => {
                    assert!((400..=599).contains(&problem.status) && !problem.detail.contains(char::is_control));
                    events.push(Event::Refused(problem.status, problem.code));
                    return events;
                }
            }
        }
    }
    events.push(Event::Waits(waits));
    events
}

fn served(request: &Request<'_>, consumed: usize) -> Event {
    let query = request.query.map(|query| format!("?{query}")).unwrap_or_default();
    let line = format!("{} {}{query}", request.method, request.path);
    Event::Served { line, body: request.body.to_vec(), keep_alive: request.keep_alive, consumed }
}

/// `wire` is all that the request took.
fn check_served(request: &Request<'_>, wire: &[u8]) {
    assert!(!wire.is_empty() && wire.len() <= LIMITS.request_bytes_max());
    assert_eq!(lenient::request(wire), Some((request.body.to_vec(), wire.len())), "another reader is led astray");
    assert!(request.path.starts_with('/') || request.path == "*");
    assert_eq!(peek_origin(wire).1, request.headers.text("host"));
    for name in ["host", "content-length", "transfer-encoding"] {
        let values: Vec<_> = request.headers.all(name).collect();
        assert!(values.len() <= 1 || name == "transfer-encoding");
        assert!(values.iter().all(|value| !value.iter().any(|b| b.is_ascii_control() && *b != b'\t')));
    }
    if let Ok(segments) = Segments::parse(request.path) {
        assert!(segments.as_strs(&mut [""; SEGMENTS_MAX]).len() <= SEGMENTS_MAX);
    }
    if let Ok(query) = Query::parse(request.query) {
        assert!(query.pairs().all(|(name, _)| query.first(name).is_some()));
    }
}

/// A reader that bears everything that any reader bears.
mod lenient {
    /// The body of the request that `input` begins with, and where it ends.
    pub fn request(input: &[u8]) -> Option<(Vec<u8>, usize)> {
        let mut at = 0;
        while matches!(input.get(at), Some(b'\r' | b'\n')) {
            at += 1;
        }
        line(input, &mut at)?;
        let fields = fields(input, &mut at)?;
        let of = |wanted: &'static str| fields.iter().filter(move |(name, _)| name == wanted).map(|(_, value)| value);
        if of("transfer-encoding").any(|value| value.to_ascii_lowercase().contains("chunked")) {
            let (body, bytes) = chunks(&input[at..])?;
            return Some((body, at + bytes));
        }
        let length = of("content-length").flat_map(|value| value.split(',')).next_back();
        let length = length.map_or(Some(0), |length| length.trim().parse::<usize>().ok())?;
        Some((input.get(at..at + length)?.to_vec(), at + length))
    }

    /// The content of the chunked body that `input` begins with, and where it ends.
    pub fn chunks(input: &[u8]) -> Option<(Vec<u8>, usize)> {
        let (mut at, mut content) = (0, Vec::new());
        loop {
            let size = String::from_utf8_lossy(line(input, &mut at)?).trim().to_ascii_lowercase();
            let size = size.trim_start_matches("0x").split(|c: char| !c.is_ascii_hexdigit()).next()?;
            let size = usize::from_str_radix(size, 16).ok()?;
            if size == 0 {
                fields(input, &mut at)?;
                return Some((content, at));
            }
            content.extend_from_slice(input.get(at..at.checked_add(size)?)?);
            at += size;
            line(input, &mut at)?;
        }
    }

    /// The fields up to the empty line, folded lines joined; names in lower case.
    fn fields(input: &[u8], at: &mut usize) -> Option<Vec<(String, String)>> {
        let mut fields: Vec<(String, String)> = Vec::new();
        loop {
            let line = String::from_utf8_lossy(line(input, at)?).into_owned();
            if line.is_empty() {
                return Some(fields);
            }
            match (line.split_once(':'), fields.last_mut()) {
                (_, Some((_, value))) if line.starts_with([' ', '\t']) => value.push_str(&line),
                (Some((name, value)), _) => {
                    fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
                }
                (None, _) => {}
            }
        }
    }

    /// The next line, which ends in LF, perhaps with CRs before it.
    fn line<'b>(input: &'b [u8], at: &mut usize) -> Option<&'b [u8]> {
        let rest = input.get(*at..)?;
        let end = rest.iter().position(|b| *b == b'\n')?;
        *at += end + 1;
        let mut line = &rest[..end];
        while let [before @ .., b'\r'] = line {
            line = before;
        }
        Some(line)
    }
}
