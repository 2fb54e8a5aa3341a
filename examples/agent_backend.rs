//! A stand-in for the services that an AI agent calls, for `examples/plans/agent.json`. It only uses the standard library.
//!
//! `cargo run --example agent_backend -- 127.0.0.1:8090` serves requests with [`API_KEY`] as bearer token:
//! - `POST /plan` `{"question"}`: the topics to look up, and the confidence that they are sufficient;
//! - `POST /lookup` `{"topic", "run"}`: a note about a topic; [`BUSY_TOPIC`] gets 429 twice per run;
//! - `POST /synthesize` `{"question", "notes"}`: a text made of the notes, streamed like the response of an LLM's API.
//!
//! The same request gets the same response. `agent_backend --check` starts a server on a free port, sends all three
//! requests, prints the responses and exits.

#[path = "agent_backend/json.rs"]
mod json;

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use json::{Json, quote};

/// The key that clients must send. It is not a secret, because it protects nothing.
const API_KEY: &str = "local-example-key";

/// The topic whose first requests in each run are refused.
const BUSY_TOPIC: &str = "proxies";

/// How many requests of a run are refused for the busy topic.
const BUSY_ANSWERS: u32 = 2;

/// The number of runs whose refusals are remembered; beyond it, all are forgotten.
const RUNS_MAX: usize = 10_000;

/// The approximate number of pieces of a streamed text.
const DELTAS: usize = 40;

/// The pause after each piece; 40 of them take 2 s.
const DELTA_PAUSE: Duration = Duration::from_millis(50);

/// The maximum number of connections, each with a thread; further ones are closed.
const CONNECTIONS_MAX: usize = 64;

/// The maximum size of a request's head and body together, in bytes; anything beyond is ignored.
const REQUEST_BYTES_MAX: u64 = 256 * 1024;

/// The timeout of each read and write.
const IO_TIMEOUT: Duration = Duration::from_secs(10);

/// The note about one topic.
struct Page {
    topic: &'static str,
    text: &'static str,
    source: &'static str,
    latency: Duration,
}

const PAGES: [Page; 4] = [
    Page {
        topic: "protocol",
        text: "A stream is one HTTP response that does not end: each event is a few lines of text and a blank line, \
               so any client that can read a response can follow it.",
        source: "https://html.spec.whatwg.org/multipage/server-sent-events.html",
        latency: Duration::from_millis(350),
    },
    Page {
        topic: BUSY_TOPIC,
        text: "A comment every few seconds keeps an idle stream open through proxies, as long as none of them \
               buffers what passes.",
        source: "https://nginx.org/en/docs/http/ngx_http_proxy_module.html",
        latency: Duration::from_millis(300),
    },
    Page {
        topic: "reconnecting",
        text: "A browser that loses the stream comes back by itself and says which event it saw last, so a server \
               that keeps a log can go on just after it.",
        source: "https://html.spec.whatwg.org/multipage/server-sent-events.html#the-last-event-id-header",
        latency: Duration::from_millis(600),
    },
    Page {
        topic: "browsers",
        text: "Every current browser has EventSource built in, and it needs no library.",
        source: "https://developer.mozilla.org/docs/Web/API/EventSource",
        latency: Duration::from_millis(800),
    },
];

fn main() -> ExitCode {
    let arg = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8090".to_owned());
    let done = if arg == "--check" { check() } else { listen(&arg) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("agent_backend: {error}");
            ExitCode::FAILURE
        }
    }
}

fn listen(address: &str) -> io::Result<()> {
    let listener = TcpListener::bind(address).map_err(|error| with_context(&error, address))?;
    println!("listening on http://{}", listener.local_addr()?);
    serve(&listener);
    Ok(())
}

fn with_context(error: &io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// Serves forever, with a thread per connection and a connection per request.
fn serve(listener: &TcpListener) {
    let service = Arc::new(Service::default());
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            // Out of descriptors, most likely: the pause lets some connections end.
            thread::sleep(Duration::from_millis(100));
            continue;
        };
        if service.connections.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
            service.connections.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let service = Arc::clone(&service);
        thread::spawn(move || {
            // A client that has disconnected is not an error.
            let _ = service.handle(&stream);
            service.connections.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

#[derive(Default)]
struct Service {
    connections: AtomicUsize,
    /// How many requests of each run the busy topic has refused.
    refusals: Mutex<HashMap<String, u32>>,
}

impl Service {
    fn handle(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(IO_TIMEOUT))?;
        stream.set_write_timeout(Some(IO_TIMEOUT))?;
        stream.set_nodelay(true)?;
        let request = match Request::read(&mut BufReader::new(stream.take(REQUEST_BYTES_MAX))) {
            Ok(request) => request,
            Err(error) => return refuse(stream, "400 Bad Request", &error.to_string()),
        };
        if !request.is_authorized {
            return refuse(stream, "401 Unauthorized", "wrong or no API key");
        }
        match request.target.as_str() {
            "POST /plan" => answer(stream, "200 OK", "", &plan(&request.body)),
            "POST /lookup" => self.lookup(stream, &request.body),
            "POST /synthesize" => stream_text(stream, &synthesis(&request.body)),
            _ => refuse(stream, "404 Not Found", "there are POST /plan, POST /lookup and POST /synthesize"),
        }
    }

    fn lookup(&self, stream: &TcpStream, body: &Json) -> io::Result<()> {
        let topic = body.text("topic");
        if topic == BUSY_TOPIC && self.is_busy_for(body.text("run")) {
            let error = error_json("too many requests, try again in a second");
            return answer(stream, "429 Too Many Requests", "Retry-After: 1\r\n", &error);
        }
        thread::sleep(page(topic).map_or(Duration::from_millis(500), |page| page.latency));
        answer(stream, "200 OK", "", &note(topic))
    }

    fn is_busy_for(&self, run: &str) -> bool {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if refusals.len() >= RUNS_MAX && !refusals.contains_key(run) {
            refusals.clear();
        }
        let so_far = refusals.entry(run.to_owned()).or_default();
        *so_far += 1;
        *so_far <= BUSY_ANSWERS
    }
}

fn plan(body: &Json) -> String {
    let question = body.text("question");
    let topics: Vec<String> = PAGES.iter().map(|page| quote(page.topic)).collect();
    let is_known = ["server-sent", "sse", "eventsource"].iter().any(|word| question.to_lowercase().contains(word));
    let confidence = if is_known { 0.9 } else { 0.5 };
    let (question, topics) = (quote(question), topics.join(", "));
    format!(r#"{{"question": {question}, "topics": [{topics}], "confidence": {confidence}}}"#)
}

fn note(topic: &str) -> String {
    let (text, source) = match page(topic) {
        Some(page) => (page.text.to_owned(), page.source),
        None => (format!("Nothing is filed under \"{topic}\" itself."), "none"),
    };
    format!(r#"{{"topic": {}, "text": {}, "source": {}}}"#, quote(topic), quote(&text), quote(source))
}

fn page(topic: &str) -> Option<&'static Page> {
    PAGES.iter().find(|page| page.topic == topic)
}

/// One paragraph made of all notes; the null note of a skipped step adds nothing.
fn synthesis(body: &Json) -> String {
    let notes = body.list("notes").iter().map(|note| note.text("text"));
    let notes: Vec<&str> = notes.filter(|text| !text.is_empty()).collect();
    let count = notes.len();
    format!("{} From {count} notes, this much is clear. {}", body.text("question"), notes.join(" ")).trim().to_owned()
}

fn stream_text(mut stream: &TcpStream, text: &str) -> io::Result<()> {
    stream.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nConnection: close\r\n\r\n",
    )?;
    for delta in deltas(text) {
        let content = quote(&delta);
        let event = format!(r#"data: {{"choices":[{{"index":0,"delta":{{"content":{content}}}}}]}}"#) + "\n\n";
        stream.write_all(event.as_bytes())?;
        thread::sleep(DELTA_PAUSE);
    }
    stream.write_all(b"data: [DONE]\n\n")
}

/// The text in about [`DELTAS`] pieces of whole words.
fn deltas(text: &str) -> Vec<String> {
    let words: Vec<&str> = text.split_inclusive(' ').collect();
    words.chunks(words.len().div_ceil(DELTAS).max(1)).map(<[&str]>::concat).collect()
}

fn refuse(stream: &TcpStream, status: &str, message: &str) -> io::Result<()> {
    answer(stream, status, "", &error_json(message))
}

fn error_json(message: &str) -> String {
    format!(r#"{{"error": {{"message": {}}}}}"#, quote(message))
}

fn answer(mut stream: &TcpStream, status: &str, headers: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n");
    stream.write_all(format!("{head}{headers}Connection: close\r\n\r\n{body}").as_bytes())
}

struct Request {
    /// The method and the path, such as `POST /plan`.
    target: String,
    is_authorized: bool,
    body: Json,
}

impl Request {
    fn read(from: &mut impl BufRead) -> io::Result<Self> {
        let target = line(from)?;
        let target =
            target.rsplit_once(" HTTP/1.").map(|(target, _)| target.to_owned()).ok_or(ErrorKind::InvalidData)?;
        let (mut length, mut is_authorized) = (0, false);
        loop {
            let header = line(from)?;
            let Some((name, value)) = header.split_once(':') else {
                break;
            };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().map_err(|_| ErrorKind::InvalidData)?,
                "authorization" => is_authorized = value.trim().strip_prefix("Bearer ") == Some(API_KEY),
                _ => {}
            }
        }
        let mut body = String::new();
        from.take(length).read_to_string(&mut body)?;
        let body =
            Json::parse(&body).ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "the body is not valid JSON"))?;
        Ok(Self { target, is_authorized, body })
    }
}

/// The next line without its ending.
fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

/// Starts a server, sends every kind of request to it, and prints the responses as they arrive.
fn check() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    thread::spawn(move || serve(&listener));
    let question = quote("Why Server-Sent Events?");
    say(&format!("POST /plan       {}\n", ask(&address, "/plan", &format!(r#"{{"question": {question}}}"#))?.status))?;
    let mut notes = Vec::new();
    while notes.len() < 2 {
        let topic = PAGES[notes.len()].topic;
        let answer = ask(&address, "/lookup", &format!(r#"{{"topic": {}, "run": "check"}}"#, quote(topic)))?;
        say(&format!("POST /lookup     {}  {topic}\n", answer.status))?;
        match answer.status {
            200 => notes.push(answer.body()?),
            429 => {}
            status => return Err(io::Error::other(format!("/lookup answered {status}"))),
        }
    }
    let body = format!(r#"{{"question": {question}, "notes": [{}]}}"#, notes.join(", "));
    let answer = ask(&address, "/synthesize", &body)?;
    say(&format!("POST /synthesize {}\n\n", answer.status))?;
    print_stream(answer)
}

fn print_stream(answer: Answer) -> io::Result<()> {
    let mut count = 0;
    for line in answer.from.lines() {
        let Some(event) = line?.strip_prefix("data: ").and_then(Json::parse) else {
            continue;
        };
        let content = event.list("choices").first().and_then(|choice| choice.get("delta")).map(|d| d.text("content"));
        say(content.unwrap_or_default())?;
        count += 1;
    }
    if count == 0 {
        return Err(io::Error::other("/synthesize streamed nothing"));
    }
    say(&format!("\n\n{count} pieces\n"))
}

/// Prints at once, for whoever watches.
fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout();
    out.write_all(text.as_bytes())?;
    out.flush()
}

struct Answer {
    status: u16,
    /// Stands at the body, which ends with the connection.
    from: BufReader<TcpStream>,
}

impl Answer {
    fn body(mut self) -> io::Result<String> {
        let mut body = String::new();
        self.from.read_to_string(&mut body)?;
        Ok(body)
    }
}

fn ask(address: &str, path: &str, body: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(IO_TIMEOUT))?;
    let head = format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {API_KEY}\r\n");
    stream.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes())?;
    let mut from = BufReader::new(stream);
    let status = line(&mut from)?.split(' ').nth(1).and_then(|status| status.parse().ok());
    while !line(&mut from)?.is_empty() {}
    Ok(Answer { status: status.ok_or(ErrorKind::InvalidData)?, from })
}
