//! Streams through real proxies, configured by the recipes in `examples/proxies` as they are. Only addresses are
//! replaced, and one timeout, to see sooner what heartbeats are for.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::common::client::{Connection, Request, Response};
use crate::common::server::{Server, Setup, TempDirectory};
use crate::common::stream::{Block, Sse};
use crate::common::wait_for;

const STREAM: &str = "/api/sse/projects/p";
const EVENTS: &str = "/api/projects/p/events";

/// Where the recipes expect the server.
const SERVER: &str = "127.0.0.1:8080";

/// Whom the servers behind these proxies trust.
pub(crate) const TRUSTED: [&str; 2] = ["--limits-trusted-proxies", "127.0.0.1/32"];

/// Addresses of this machine that no test trusts as a proxy.
const ANN: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const BOB: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// A proxy in front of a server. Both end with it.
pub(crate) struct Proxied {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) server: Server,
    proxy: Child,
    _directory: TempDirectory,
}

/// Texts of a recipe with what stands in their place.
type Changes<'c> = &'c [(&'c str, &'c str)];

/// How a proxy is made out of its recipe: name, and what starts it in a directory of its own, at the first address and in
/// front of the second, the recipe so changed.
type Recipe = (&'static str, fn(&Path, &Path, SocketAddr, SocketAddr, Changes<'_>) -> Command);

const RECIPES: [Recipe; 2] = [("nginx", nginx), ("caddy", caddy)];

fn nginx(program: &Path, directory: &Path, at: SocketAddr, server: SocketAddr, changes: Changes<'_>) -> Command {
    let own = directory.display();
    let paths =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|kind| format!("{kind}_temp_path {own}/{kind};"));
    let config = recipe(
        "nginx.conf",
        &[
            (SERVER, &server.to_string()),
            ("listen 80;", &format!("listen {at};")),
            ("proxy_read_timeout 60s;", "proxy_read_timeout 1s;"),
            ("\nhttp {", &format!("\nhttp {{ access_log off; {}", paths.concat())),
        ],
        changes,
    );
    let file = directory.join("nginx.conf");
    std::fs::write(&file, config).expect("the temporary directory can be written to");
    let mut command = Command::new(program);
    command.arg("-p").arg(directory).arg("-c").arg(file).arg("-e").arg("stderr");
    command.args(["-g", &format!("daemon off; pid {own}/pid; error_log stderr;")]);
    command
}

fn caddy(program: &Path, directory: &Path, at: SocketAddr, server: SocketAddr, changes: Changes<'_>) -> Command {
    // The address of a site is only what it is asked for as: Caddy would listen on every address of the machine, where
    // another may have the port that is free on this one.
    let site = format!("\nhttp://{at} {{\n\tbind {}", at.ip());
    let config = recipe("Caddyfile", &[(SERVER, &server.to_string()), ("\nevents.example.com {", &site)], changes);
    let file = directory.join("Caddyfile");
    std::fs::write(&file, format!("{{\n\tadmin off\n}}\n{config}")).expect("the temporary directory can be written to");
    let mut command = Command::new(program);
    command.arg("run").args(["--adapter", "caddyfile", "--config"]).arg(file);
    command.env("HOME", directory).env("XDG_DATA_HOME", directory).env("XDG_CONFIG_HOME", directory);
    command
}

/// The recipe of this name, changed twice; each of the texts to be replaced must stand in it once.
fn recipe(name: &str, replaced: Changes<'_>, changes: Changes<'_>) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/proxies").join(name);
    let mut text = std::fs::read_to_string(&path).expect("the recipe is there");
    for (from, to) in replaced.iter().chain(changes) {
        assert_eq!(text.matches(from).count(), 1, "{from:?} in {name}");
        text = text.replace(from, to);
    }
    text
}

/// The program, where it is installed. Under CI it must be.
fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = directories.map(|directory| directory.join(name)).find(|program| program.is_file());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{name} is not installed");
        eprintln!("SKIPPED: {name} is not installed");
    }
    found
}

/// Each proxy that is installed, in front of a server of its own.
pub(crate) fn each(flags: &[&str]) -> impl Iterator<Item = Proxied> {
    let setup = Setup::default().flags(&TRUSTED).flags(flags);
    RECIPES.into_iter().filter_map(move |(name, _)| Proxied::start(name, setup.clone(), &[]))
}

impl Proxied {
    /// This proxy, its recipe so changed, in front of a server of its own; none where it is not installed.
    pub(crate) fn start(name: &str, setup: Setup, changes: Changes<'_>) -> Option<Self> {
        let (name, command) = RECIPES.into_iter().find(|(known, _)| *known == name).expect("it has a recipe");
        let program = installed(name)?;
        let server = setup.start();
        let directory = TempDirectory::new();
        let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
        let mut command = command(&program, directory.path(), free, server.address, changes);
        let log = std::fs::File::create(directory.join("log")).expect("the temporary directory can be written to");
        let proxy = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("the proxy starts");
        let mut proxied = Self { name, address: free, server, proxy, _directory: directory };
        wait_for("the proxy", || {
            assert_eq!(proxied.proxy.try_wait().expect("a child"), None, "{name} has ended");
            TcpStream::connect(free).ok()
        });
        Some(proxied)
    }

    fn call(&self, request: Request) -> Response {
        request.send(self.address)
    }

    fn call_from(&self, source: Ipv4Addr, request: &Request) -> Response {
        let mut connection = Connection::open_from(source, self.address);
        connection.write(&request.bytes(self.address));
        connection.response(false).unwrap_or_else(|| panic!("{} gives no answer", self.name))
    }

    fn stream(&self, request: Request) -> Sse {
        Sse::through_proxy(Connection::open(self.address), self.address, request)
    }

    fn stream_from(&self, source: Ipv4Addr) -> Sse {
        Sse::through_proxy(Connection::open_from(source, self.address), self.address, Request::get(STREAM))
    }

    /// Publishes through the proxy.
    fn publish(&self, text: &str) {
        let answer = self.call(Request::post(EVENTS, &json!({"type": "note", "payload": {"text": text}})));
        assert_eq!(answer.status, 202, "{}: {answer:?}", self.name);
    }
}

impl Drop for Proxied {
    fn drop(&mut self) {
        // SIGTERM, for a proxy has workers that it must tell.
        let pid = Pid::from_child(&self.proxy);
        let _ = kill_process(pid, Signal::TERM);
        // One may wait for the streams that it holds; without a server there are none. It may have ended already.
        let _ = kill_process(self.server.pid(), Signal::KILL);
        let _ = self.proxy.wait();
    }
}

#[test]
fn a_proxy_listened_where_it_was_not_asked_for() {
    for proxied in each(&[]) {
        let elsewhere = TcpListener::bind((ANN, proxied.address.port()));
        assert!(elsewhere.is_ok(), "{} has the port of another address: {elsewhere:?}", proxied.name);
    }
}

#[test]
fn messages_pass_a_proxy_at_once_whole_and_as_they_are() {
    for proxied in each(&[]) {
        let mut stream = proxied.stream(Request::get(STREAM).header("Accept-Encoding", "gzip, br"));
        assert_eq!(stream.head.header("Content-Encoding"), None, "{}", proxied.name);
        assert_eq!(stream.head.header("Cache-Control"), Some("no-cache, no-transform"), "{}", proxied.name);
        assert_eq!(stream.next().expect("connected").kind(), "connected");
        // One alone, which nothing pushes on, and then more than a proxy holds.
        for text in ["a", &"b".repeat(500_000), &"c".repeat(900_000), "d"] {
            proxied.publish(text);
            let event = stream.next().expect("a message");
            assert!(event.message["payload"]["text"] == text, "{}: {} bytes", proxied.name, event.raw.len());
        }
    }
}

#[test]
fn a_stream_outlives_a_proxys_timeout_by_its_heartbeats() {
    for proxied in each(&["--sse-heartbeat", "200ms"]) {
        let mut stream = proxied.stream(Request::get(STREAM));
        assert_eq!(stream.next().expect("connected").kind(), "connected");
        // 2 s of them, where nginx would have given up after 1 s.
        for _ in 0..10 {
            assert!(matches!(stream.block(), Some(Block::Comment)), "{}", proxied.name);
        }
        proxied.publish("still there");
        assert_eq!(stream.next().expect("a message").kind(), "note");
    }
}

#[test]
fn a_stream_is_resumed_through_a_proxy() {
    for proxied in each(&[]) {
        let mut stream = proxied.stream(Request::get(STREAM));
        let id = stream.next().expect("connected").id().to_owned();
        proxied.publish("seen");
        let seen = stream.next().expect("a message").id().to_owned();
        drop(stream);
        ["missed", "missed too"].iter().for_each(|text| proxied.publish(text));
        for (last, missed) in [(id, 3), (seen, 2)] {
            let mut stream = proxied.stream(Request::get(STREAM).header("Last-Event-ID", &last));
            assert_eq!(stream.next().expect("connected").message["payload"]["resume"], "resumed", "{}", proxied.name);
            let texts: Vec<_> =
                stream.take(missed).into_iter().map(|event| event.message["payload"]["text"].clone()).collect();
            assert_eq!(texts, ["seen", "missed", "missed too"][3 - missed..], "{}", proxied.name);
        }
    }
}

#[test]
fn a_client_that_leaves_its_proxy_frees_its_place() {
    for proxied in each(&["--sse-heartbeat", "1h"]) {
        let mut streams: Vec<_> = (0..5).map(|_| proxied.stream(Request::get(STREAM))).collect();
        streams.iter_mut().for_each(|stream| assert!(stream.next().is_some()));
        let open = || proxied.server.metric("stepcast_streams");
        assert_eq!(open(), 5.0);
        drop(streams);
        wait_for("the places", || (open() == 0.0).then_some(()));
    }
}

/// nginx makes the tag of an answer that it compresses a weak one, and passes that on in `If-Match` as it is.
#[test]
fn a_stored_plan_was_never_the_one_that_had_been_read_through_gzip() {
    let changes = [("proxy_read_timeout 1s;", "gzip on; gzip_proxied any; gzip_types application/json;")];
    let Some(proxied) = Proxied::start("nginx", Setup::default().flags(&TRUSTED), &changes) else { return };
    let plan = json!({"name": "p", "steps": [{"id": "a", "tool": "echo"}]}).to_string();
    let put = || {
        let request = Request::new("PUT", "/api/projects/p/plans/x").header("Content-Type", "application/json");
        request.body(plan.clone())
    };
    assert_eq!(proxied.call(put()).status, 201);
    let get = Request::get("/api/projects/p/plans/x").header("Connection", "close");
    let read = proxied.call(get.header("Accept-Encoding", "gzip"));
    let tag = read.header("ETag").expect("a tag");
    assert!(tag.starts_with("W/"), "{tag}");
    assert_eq!(proxied.call(put().header("If-Match", tag)).status, 200);
    assert_eq!(proxied.call(put().header("If-Match", "W/\"x\"")).status, 412);
}

#[test]
fn a_proxy_keeps_its_connection_for_the_next_call() {
    for proxied in each(&[]) {
        let accepted = || proxied.server.metric("stepcast_connections_accepted_total");
        proxied.publish("on a new connection");
        let before = accepted();
        (0..5).for_each(|_| proxied.publish("on the same"));
        assert_eq!(accepted() - before, 1.0, "{}: one for the question itself", proxied.name);
    }
}

#[test]
fn who_is_behind_a_proxy_counts_for_itself() {
    for proxied in each(&["--limits-connections-per-address", "2"]) {
        let ask = |source| proxied.call_from(source, &Request::get("/api/projects")).status;
        let mut held = [proxied.stream_from(ANN), proxied.stream_from(ANN)];
        held.iter_mut().for_each(|stream| assert!(stream.next().is_some()));
        for _ in 0..3 {
            // Over connections that the proxy keeps: what one client is refused is not what the next one gets.
            assert_eq!((ask(ANN), ask(BOB)), (503, 200), "{}", proxied.name);
        }
        let lie = Request::get("/api/projects").header("X-Forwarded-For", "192.0.2.7");
        assert_eq!(proxied.call_from(ANN, &lie).status, 503, "{}: a client's own word is not taken", proxied.name);
        drop(held);
        wait_for("room", || (ask(ANN) == 200).then_some(()));
    }
}

#[test]
fn a_page_behind_a_proxy_is_the_servers_own_and_metrics_are_not_for_everyone() {
    for proxied in each(&[]) {
        let from = |origin: &str| {
            let event = json!({"type": "note", "payload": {}});
            proxied.call(Request::post(EVENTS, &event).header("Origin", origin)).status
        };
        let own = format!("http://{}", proxied.address);
        assert_eq!((from(&own), from("http://evil.example")), (202, 403), "{}", proxied.name);
        let status = |path| proxied.call(Request::get(path)).status;
        assert_eq!((status("/metrics"), status("/healthz")), (404, 200), "{}", proxied.name);
    }
}

#[test]
fn a_server_without_tokens_goes_by_its_public_name_where_it_was_told() {
    let ask = |proxied: &Proxied| proxied.call(Request::get("/api/projects").host("events.example.com")).status;
    let is_nginx = |proxied: &Proxied| proxied.name == "nginx"; // Caddy's recipe goes by the address here.
    each(&[]).filter(is_nginx).for_each(|proxied| assert_eq!(ask(&proxied), 421));
    each(&["--server-hosts", "events.example.com"]).filter(is_nginx).for_each(|proxied| assert_eq!(ask(&proxied), 200));
}

#[test]
fn the_servers_farewell_passes_a_proxy() {
    for proxied in each(&[]) {
        let mut stream = proxied.stream(Request::get(STREAM));
        assert_eq!(stream.next().expect("connected").kind(), "connected");
        proxied.server.signal(Signal::TERM);
        let last = stream.rest().pop().expect("a farewell");
        assert_eq!((last.kind(), &last.message["payload"]["reason"]), ("stream_closing", &json!("shutdown")));
        assert!(last.retry.is_some(), "{}", proxied.name);
    }
}

#[test]
fn a_proxy_whose_server_is_away_tells_a_stream_to_come_back_and_a_call_the_truth() {
    for mut proxied in each(&[]) {
        proxied.server.signal(Signal::KILL);
        proxied.server.wait();
        let stream =
            proxied.call(Request::get(STREAM).header("Accept", "text/event-stream").header("Origin", "http://a"));
        assert_eq!(
            (stream.status, stream.header("Content-Type")),
            (200, Some("text/event-stream")),
            "{}",
            proxied.name
        );
        assert_eq!(stream.header("Access-Control-Allow-Origin"), Some("http://a"), "{}", proxied.name);
        let text = stream.text();
        let data = text.strip_prefix("retry: 3000\ndata: ").and_then(|data| data.strip_suffix("\n\n"));
        let data = data.unwrap_or_else(|| panic!("one block: {text:?}"));
        let message: serde_json::Value = serde_json::from_str(data).expect("a message");
        assert_eq!((&message["type"], &message["payload"]["reason"]), (&json!("stream_closing"), &json!("busy")));
        assert_eq!(proxied.call(Request::get("/api/projects")).status, 502, "{}", proxied.name);
        assert_eq!(proxied.call(Request::post(EVENTS, &json!({"type": "note", "payload": {}}))).status, 502);
    }
}
