//! Follows the stream of a project like any client: over HTTP, with Server-Sent Events. If the stream ends, it is
//! opened again from the last message that was received, after the time that the server asked for.

mod open;
mod server_url;

use std::io::{self, BufRead};
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use self::open::{Answer, Source, open};
pub(super) use self::open::{connect, post, refusal};
pub use self::server_url::ServerUrl;
use super::error::CommandError;
use crate::config::Secret;
use crate::http::events::EventReader;
use crate::model::{ProjectId, RunEvent, RunId};

/// How long to wait for the next try where the server has not said.
const RETRY: Duration = Duration::from_secs(2);

/// The largest event, in bytes: several times the largest message that a server makes. A larger one ends the connection.
const EVENT_BYTES_MAX: usize = 256 * 1024 * 1024;

/// How many heartbeats may be missed before a stream counts as dead.
const HEARTBEATS_MISSED_MAX: u32 = 3;

/// What to follow.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) server: ServerUrl,
    pub(super) token: Option<Secret>,
    pub(super) project: ProjectId,
    /// This run alone.
    pub(super) run: Option<RunId>,
    /// Begin with the runs that are there.
    pub(super) snapshots: bool,
}

/// What following a stream brings.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// A message, as it came: JSON on one line.
    Message(String),
    /// The stream is gone; the next call waits, and tries again.
    Lost { why: String, again_in: Duration },
    /// The run that is followed has ended, and all of it was seen.
    Over,
}

/// A project's stream, over as many connections as it takes.
pub(super) struct Follower {
    target: Target,
    source: Option<Source>,
    reader: EventReader,
    /// The last message that was seen.
    last_id: Option<String>,
    retry: Duration,
    /// The time until the next try, where one has failed.
    wait: Option<Duration>,
    has_been_connected: bool,
}

impl Follower {
    pub(super) fn new(target: Target) -> Self {
        let (source, reader, last_id, wait) = (None, EventReader::new(EVENT_BYTES_MAX), None, None);
        Self { target, source, reader, last_id, retry: RETRY, wait, has_been_connected: false }
    }

    /// Waits for what comes next.
    ///
    /// # Errors
    /// If another attempt can't succeed.
    pub(super) fn next(&mut self) -> Result<Said, CommandError> {
        loop {
            if let Some(wait) = self.wait.take() {
                thread::sleep(wait);
            }
            let Some(source) = &mut self.source else {
                match self.open()? {
                    None => continue,
                    Some(said) => return Ok(said),
                }
            };
            match next_message(source, &mut self.reader) {
                Ok(Some(message)) => {
                    self.hear(&message);
                    return Ok(Said::Message(message));
                }
                Ok(None) => return Ok(self.lost("the stream has ended".to_owned())),
                Err(error) => return Ok(self.lost(format!("the connection was lost: {error}"))),
            }
        }
    }

    /// Opens the stream; what there is to say of it where it does not begin.
    fn open(&mut self) -> Result<Option<Said>, CommandError> {
        let server = &self.target.server;
        match open(server, &self.path(), self.target.token.as_ref(), self.last_id.as_deref()) {
            Ok(Answer::Stream(source)) => {
                self.source = Some(source);
                self.has_been_connected = true;
                Ok(None)
            }
            Ok(Answer::Over) => Ok(Some(Said::Over)),
            Ok(Answer::Refused { status, detail }) if is_passing(status) => {
                let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
                Ok(Some(self.lost(format!("{server} answered {status}{detail}"))))
            }
            Ok(Answer::Refused { status, detail }) => Err(CommandError::new(self.target.refusal(status, &detail))),
            // An address that never answered is more likely wrong than passing.
            Err(error) if !self.has_been_connected => Err(CommandError::io(&format!("follow {server}"), &error)),
            Err(error) => Ok(Some(self.lost(format!("cannot reach {server}: {error}")))),
        }
    }

    fn path(&self) -> String {
        let Target { project, run, snapshots, .. } = &self.target;
        let run = run.as_ref().map(|run| format!("runId={run}"));
        let snapshots = (!snapshots).then(|| "snapshot=0".to_owned());
        let query: Vec<_> = run.into_iter().chain(snapshots).collect();
        let mark = if query.is_empty() { "" } else { "?" };
        format!("/api/sse/projects/{project}{mark}{}", query.join("&"))
    }

    /// The connection is over, and with it the event that has not ended: it counts for nothing, so it comes again.
    fn lost(&mut self, why: String) -> Said {
        self.note();
        self.source = None;
        self.reader = EventReader::new(EVENT_BYTES_MAX);
        self.wait = Some(self.retry);
        Said::Lost { why, again_in: self.retry }
    }

    /// Keeps what a message and its event say to the reader of the stream.
    fn hear(&mut self, message: &str) {
        self.note();
        if let (Some(source), Some(heartbeat)) = (&self.source, heartbeat(message)) {
            source.be_patient_for(heartbeat * HEARTBEATS_MISSED_MAX);
        }
    }

    /// Keeps from where on, and when, the stream is to be opened again.
    fn note(&mut self) {
        self.retry = self.reader.retry_ms().map_or(self.retry, Duration::from_millis);
        let id = self.reader.last_event_id();
        if is_header_value(id) {
            self.last_id = Some(id.to_owned());
        }
    }
}

impl Target {
    /// Why the server does not let this be watched, in a sentence.
    fn refusal(&self, status: u16, detail: &str) -> String {
        let Self { server, project, run, token, .. } = self;
        let sentence = match (status, run, token) {
            (401, _, None) => format!("{server} requires an access token; pass --token or set STEPCAST_TOKEN"),
            (401, ..) => format!("{server} rejected the access token"),
            (403, ..) => format!("the access token does not allow watching project {project}"),
            (404, Some(run), _) => format!("run {run} does not exist in project {project}"),
            (404, None, _) => format!("the stream does not exist on {server}; is it a stepcast server?"),
            (200, ..) => format!("{server} did not answer with an event stream; is it a stepcast server?"),
            _ => format!("{server} answered {status}"),
        };
        if detail.is_empty() || status == 200 { sentence } else { format!("{sentence} ({detail})") }
    }
}

/// May the same request be answered otherwise in a while?
fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500..=599)
}

/// Could it be sent as the value of a header?
fn is_header_value(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|b| b.is_ascii_graphic())
}

/// The next message; none at the stream's end.
fn next_message(source: &mut Source, reader: &mut EventReader) -> io::Result<Option<String>> {
    loop {
        let bytes = match source.lines.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            bytes => bytes?,
        };
        if bytes.is_empty() {
            return Ok(None);
        }
        let (used, event) = reader.take(bytes).map_err(io::Error::other)?;
        source.lines.consume(used);
        if let Some(event) = event {
            return Ok(Some(event.data));
        }
    }
}

/// How often the server speaks at least, where this message tells.
fn heartbeat(message: &str) -> Option<Duration> {
    #[derive(Deserialize)]
    struct Connected {
        heartbeat: u64,
    }
    // Most messages are something else, and may be long.
    let is_connected = message.starts_with("{\"type\":\"connected\"");
    let envelope = is_connected.then(|| Envelope::read(message)).flatten()?;
    let connected: Connected = serde_json::from_str(envelope.payload.get()).ok()?;
    Some(Duration::from_millis(connected.heartbeat))
}

/// A message, as far as it is looked at here.
#[derive(Deserialize)]
pub(super) struct Envelope<'a> {
    #[serde(rename = "type")]
    pub(super) message_type: &'a str,
    #[serde(borrow)]
    pub(super) payload: &'a RawValue,
}

impl<'a> Envelope<'a> {
    /// None if it is no message.
    pub(super) fn read(message: &'a str) -> Option<Self> {
        serde_json::from_str(message).ok()
    }

    /// The event of a run that it contains. `None` if it is not a run's message.
    pub(super) fn event(&self) -> Option<RunEvent> {
        RunEvent::from_payload(self.message_type, self.payload.get().as_bytes()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(run: Option<&str>, token: Option<&str>) -> Target {
        Target {
            server: "http://h:1".parse().expect("a url"),
            token: token.map(Secret::new),
            project: ProjectId::parse("p").expect("an id"),
            run: run.map(|run| RunId::parse(run).expect("an id")),
            snapshots: true,
        }
    }

    #[test]
    fn refusals_are_sentences() {
        for (status, run, token, detail, expected) in [
            (401, None, None, "", "http://h:1 requires an access token; pass --token or set STEPCAST_TOKEN"),
            (401, None, Some("t"), "it has ended", "http://h:1 rejected the access token (it has ended)"),
            (403, None, Some("t"), "", "the access token does not allow watching project p"),
            (404, Some("r"), None, "", "run r does not exist in project p"),
            (404, None, None, "", "the stream does not exist on http://h:1; is it a stepcast server?"),
            (200, None, None, "x", "http://h:1 did not answer with an event stream; is it a stepcast server?"),
            (302, None, None, "", "http://h:1 answered 302"),
        ] {
            assert_eq!(target(run, token).refusal(status, detail), expected);
        }
        assert!(is_passing(503) && is_passing(429) && !is_passing(403) && !is_passing(404));
    }

    #[test]
    fn what_a_stream_says_to_its_reader_is_kept() {
        let mut follower = Follower::new(target(Some("r"), None));
        assert_eq!(follower.path(), "/api/sse/projects/p?runId=r");
        for (text, messages, last_id, retry_ms) in [
            ("retry: 50\nid: a.1\ndata: x\n\nid: b c\n\ndata: y\n\n", &["x", "y"][..], "a.1", 50),
            ("id: a.2\n\nid: a.3\nretry: 60\ndata: never ended", &[], "a.2", 60),
        ] {
            let (mut bytes, mut said) = (text.as_bytes(), Vec::new());
            while !bytes.is_empty() {
                let (used, event) = follower.reader.take(bytes).expect("fits");
                bytes = &bytes[used..];
                said.extend(event.map(|event| event.data).inspect(|message| follower.hear(message)));
            }
            assert_eq!(said, messages);
            let again_in = Duration::from_millis(retry_ms);
            assert_eq!(follower.lost("gone".into()), Said::Lost { why: "gone".into(), again_in });
            assert_eq!(
                follower.last_id.as_deref(),
                Some(last_id),
                "the id of an event that has ended and fits a header"
            );
        }
    }

    #[test]
    fn the_heartbeat_is_heard() {
        let connected =
            r#"{"type":"connected","projectId":"p","seq":1,"payload":{"resume":"fresh","heartbeat":15000}}"#;
        assert_eq!(heartbeat(connected), Some(Duration::from_secs(15)));
        assert_eq!(heartbeat(&connected.replace("connected", "note")), None);
    }
}
