//! A server of the same calls on axum and tokio, tuned as one would who knows them: one thread, as it has one processor;
//! a frame is made once per event, shared as `Bytes` through a `broadcast` channel per project; a stream joins whatever
//! waits for it into one piece, so that hyper writes once; payloads pass as raw JSON. It checks no tokens and keeps the
//! newest 1,000 frames of a project in memory.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::broadcast::{Receiver, Sender, channel};

const HISTORY: usize = 1000;
const CHANNEL: usize = 2048;
const BACKLOG: u32 = 4096;
/// What is joined into one piece at most.
const PIECE_BYTES_MAX: usize = 64 * 1024;

type Projects = Arc<Mutex<HashMap<String, Project>>>;

#[derive(Clone)]
struct App {
    projects: Projects,
    heartbeat: Option<Duration>,
}

struct Project {
    seq: u64,
    sender: Sender<Bytes>,
    history: VecDeque<Bytes>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    payload: &'a RawValue,
}

impl Default for Project {
    fn default() -> Self {
        Self { seq: 0, sender: channel(CHANNEL).0, history: VecDeque::new() }
    }
}

impl App {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Project>> {
        self.projects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let heartbeat = Some(number("HEARTBEAT_S")).filter(|seconds| *seconds > 0).map(Duration::from_secs);
    let app = App { projects: Projects::default(), heartbeat };
    let router = Router::new()
        .route("/healthz", get(|| async { ([(header::CONTENT_TYPE, "application/json")], r#"{"status":"ok"}"#) }))
        .route("/api/sse/projects/{project}", get(subscribe))
        .route("/api/projects/{project}/events", post(publish))
        .with_state(app);
    axum::serve(NoDelay(listen(number("PORT") as u16)?), router).await
}

fn listen(port: u16) -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(([127, 0, 0, 1], port).into())?;
    socket.listen(BACKLOG)
}

/// A listener whose connections have `TCP_NODELAY`.
struct NoDelay(TcpListener);

impl axum::serve::Listener for NoDelay {
    type Io = tokio::net::TcpStream;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (socket, address) = axum::serve::Listener::accept(&mut self.0).await;
        // A socket without it works too, slower.
        let _ = socket.set_nodelay(true);
        (socket, address)
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

async fn publish(State(app): State<App>, Path(name): Path<String>, body: Bytes) -> Response {
    let Ok(event) = serde_json::from_slice::<Event>(&body) else { return StatusCode::BAD_REQUEST.into_response() };
    let mut projects = app.lock();
    let project = projects.entry(name.clone()).or_default();
    project.seq += 1;
    let (seq, kind, payload) = (project.seq, event.kind, event.payload.get());
    let frame = format!(
        "id: {seq}\ndata: {{\"type\":\"{kind}\",\"projectId\":\"{name}\",\"seq\":{seq},\"payload\":{payload}}}\n\n"
    );
    let frame = Bytes::from(frame);
    project.history.push_back(frame.clone());
    if project.history.len() > HISTORY {
        project.history.pop_front();
    }
    let subscribers = project.sender.send(frame).unwrap_or(0);
    (StatusCode::ACCEPTED, Json(serde_json::json!({"ids": [seq.to_string()], "subscribers": subscribers})))
        .into_response()
}

async fn subscribe(State(app): State<App>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse::<u64>().ok());
    let (greeting, receiver) = {
        let mut projects = app.lock();
        let project = projects.entry(name.clone()).or_default();
        let first = project.seq - project.history.len() as u64;
        let resumed = last.filter(|last| (first..=project.seq).contains(last));
        let (from, word) = (resumed.unwrap_or(project.seq), if resumed.is_some() { "resumed" } else { "fresh" });
        let mut greeting = BytesMut::from(
            format!(
                "retry: 2000\nid: {from}\ndata: {{\"type\":\"connected\",\"projectId\":\"{name}\",\"seq\":{from},\
                 \"payload\":{{\"resume\":\"{word}\"}}}}\n\n"
            )
            .as_bytes(),
        );
        project.history.range((from - first) as usize..).for_each(|frame| greeting.extend_from_slice(frame));
        (greeting.freeze(), project.sender.subscribe())
    };
    let frames =
        stream::unfold((Some(greeting), receiver, app.heartbeat), |(greeting, mut receiver, heartbeat)| async move {
            let piece = match greeting {
                Some(greeting) => greeting,
                None => next(&mut receiver, heartbeat).await?,
            };
            Some((Ok::<_, Infallible>(piece), (None, receiver, heartbeat)))
        });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    (headers, Body::from_stream(frames)).into_response()
}

/// Whatever waits, in one piece; a heartbeat where nothing comes; the end where the reader is too far behind.
async fn next(receiver: &mut Receiver<Bytes>, heartbeat: Option<Duration>) -> Option<Bytes> {
    let received = match heartbeat {
        None => receiver.recv().await,
        Some(heartbeat) => match tokio::time::timeout(heartbeat, receiver.recv()).await {
            Ok(received) => received,
            Err(_) => return Some(Bytes::from_static(b":\n\n")),
        },
    };
    let first = match received {
        Ok(frame) => frame,
        Err(RecvError::Lagged(_) | RecvError::Closed) => return None,
    };
    let mut piece = BytesMut::new();
    while piece.len() + first.len() < PIECE_BYTES_MAX {
        match receiver.try_recv() {
            Ok(frame) => {
                if piece.is_empty() {
                    piece.extend_from_slice(&first);
                }
                piece.extend_from_slice(&frame);
            }
            Err(TryRecvError::Lagged(_)) => return None,
            Err(TryRecvError::Empty | TryRecvError::Closed) => break,
        }
    }
    Some(if piece.is_empty() { first } else { piece.freeze() })
}
