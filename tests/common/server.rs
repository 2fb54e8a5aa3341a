//! The program as a process: a server that ends with the test, or a command that runs to its end.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, unbounded};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::client::{Request, Response};
use super::stream::{Event, Sse};
use super::{DEADLINE, token, wait_for};

/// The log line that says where the server listens: first where it is plain.
const LISTENING: &str = "listening on ";

/// A file that goes with the test.
pub struct TempFile(PathBuf);

impl TempFile {
    /// A file of this content.
    pub fn new(suffix: &str, content: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("stepcast-{}-{}{suffix}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, content).expect("the temporary directory can be written to");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn text(&self) -> &str {
        self.0.to_str().expect("a path of plain characters")
    }
}

/// A directory that goes with the test, unless the test fails: then what it holds may tell why.
pub struct TempDirectory(PathBuf);

impl TempDirectory {
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("stepcast-{}-{}.dir", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("the temporary directory can be written to");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A path in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TempDirectory {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{} is left for you to look into", self.0.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The program, with no settings from the environment of whoever runs the tests. `STEPCAST_BIN` names another build of it
/// than the one that cargo made for the tests.
pub fn program() -> Command {
    program_at(&built())
}

/// Where the program is.
pub fn built() -> PathBuf {
    std::env::var_os("STEPCAST_BIN").map_or_else(|| env!("CARGO_BIN_EXE_stepcast").into(), PathBuf::from)
}

fn program_at(path: &Path) -> Command {
    let mut command = Command::new(path);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("STEPCAST_") {
            command.env_remove(name);
        }
    }
    command
}

/// The program, started by a shell that does `first` before it becomes the program.
pub fn program_after(first: &str) -> Command {
    let inner = program();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{first}; exec \"$0\" \"$@\"")]).arg(inner.get_program());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// Runs the program to its end; status, stdout, stderr.
pub fn run(args: &[&str], environment: &[(&str, &str)], input: &str) -> (i32, String, String) {
    let mut command = program();
    command.args(args).envs(environment.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    // Fails where the program does not read to the end, which is its right.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    let Output { status, stdout, stderr } = child.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// What a server is started with.
#[derive(Default, Clone)]
pub struct Setup {
    config: Option<String>,
    data: Option<PathBuf>,
    listen: Option<SocketAddr>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    asks_for_tokens: bool,
    keeps_auth: bool,
    first: Option<String>,
    program: Option<PathBuf>,
    sockets: Vec<Arc<OwnedFd>>,
}

impl Setup {
    /// With this configuration file.
    pub fn config(mut self, toml: &str) -> Self {
        self.config = Some(toml.to_owned());
        self
    }

    /// With these flags besides.
    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    /// With what it keeps in this directory; without, it keeps nothing.
    pub fn data(mut self, directory: &Path) -> Self {
        self.data = Some(directory.to_owned());
        self
    }

    /// With what it keeps in this database.
    pub fn data_url(self, url: &str) -> Self {
        self.data(Path::new(url))
    }

    /// At this address; without, it finds one.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = Some(address);
        self
    }

    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With tokens signed with [`token::SECRET`], not open to everyone.
    pub fn with_tokens(mut self) -> Self {
        self.asks_for_tokens = true;
        self
    }

    /// With the `auth` of its configuration.
    pub fn keeping_auth(mut self) -> Self {
        self.keeps_auth = true;
        self
    }

    /// With so many descriptors and no more.
    pub fn descriptors(self, n: u32) -> Self {
        self.after(&format!("ulimit -n {n}"))
    }

    /// Started by a shell that does this first.
    pub fn after(mut self, first: &str) -> Self {
        self.first = Some(first.to_owned());
        self
    }

    /// The program at this path, which is one that cargo made.
    pub fn program(mut self, path: &Path) -> Self {
        self.program = Some(path.to_owned());
        self
    }

    /// With sockets of these names, two at most, handed over as a service manager does (sd_listen_fds(3)).
    pub fn sockets(mut self, named: Vec<(OwnedFd, &str)>) -> Self {
        assert!(named.len() <= 2, "there is stdin and there is stdout");
        let names: Vec<_> = named.iter().map(|(_, name)| *name).collect();
        let count = named.len();
        self = self.after(&format!(
            "exec 3<&0 4<&1 </dev/null >/dev/null; [ {count} = 2 ] || exec 4<&-; \
             export LISTEN_PID=$$ LISTEN_FDS={count} LISTEN_FDNAMES={}",
            names.join(":")
        ));
        self.sockets = named.into_iter().map(|(socket, _)| Arc::new(socket)).collect();
        self
    }

    pub fn start(self) -> Server {
        self.launch().listening()
    }

    /// Starts the program, and does not wait for it to listen.
    pub fn launch(self) -> Starting {
        let file = self.config.as_deref().map(|toml| TempFile::new(".toml", toml));
        let mut command = match (&self.program, self.first.as_deref()) {
            (Some(path), _) => program_at(path),
            (None, Some(first)) => program_after(first),
            (None, None) => program(),
        };
        let listen = self.listen.map_or("127.0.0.1:0".to_owned(), |address| address.to_string());
        let data = self.data.map_or("none".into(), PathBuf::into_os_string);
        command.args(["serve", "--listen", &listen, "--data"]).arg(data).args(self.arguments);
        if let Some(file) = &file {
            command.arg("--config").arg(file.path());
        }
        if self.asks_for_tokens {
            command.env("STEPCAST_JWT_SECRET", token::SECRET);
        } else if !self.keeps_auth {
            command.args(["--auth", "none"]);
        }
        command.envs(self.environment).stdout(Stdio::null()).stderr(Stdio::piped());
        let handed = |at: usize| self.sockets.get(at).map(|it| Stdio::from(it.try_clone().expect("a descriptor")));
        if let Some(first) = handed(0) {
            command.stdin(first);
        }
        if let Some(second) = handed(1) {
            command.stdout(second);
        }
        let mut process = Process(command.spawn().expect("the program starts"));
        let log = Log::follow(&mut process.0);
        Starting { process, log, file }
    }
}

/// A process that ends with its owner.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Fails where it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server that may not listen yet, and is killed when this is dropped.
pub struct Starting {
    process: Process,
    log: Log,
    file: Option<TempFile>,
}

impl Starting {
    /// Waits until it listens.
    pub fn listening(self) -> Server {
        let address = self.log.wait_for_address();
        Server { process: self.process, address, log: self.log, _file: self.file }
    }

    /// Waits until it listens; none where it ends before.
    pub fn listening_or_gone(self) -> Option<Server> {
        let address = self.log.address.recv_timeout(DEADLINE).ok()?;
        Some(Server { process: self.process, address, log: self.log, _file: self.file })
    }

    /// Waits until it has given up; its exit status, and what it said.
    pub fn refusal(mut self) -> (Option<i32>, String) {
        let child = &mut self.process.0;
        let status = wait_for("the end of the process", || child.try_wait().expect("a child"));
        (status.code(), self.log.whole())
    }
}

/// What the program says on stderr.
struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    /// Ends with the process.
    address: Receiver<SocketAddr>,
}

impl Log {
    fn follow(child: &mut Child) -> Self {
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (found, address) = unbounded();
        let kept = lines.clone();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if let Some((_, url)) = line.split_once(LISTENING)
                    && let Some((_, address)) = url.split_once("://")
                {
                    let _ = found.send(address.trim().parse().expect("an address in the log"));
                }
                kept.lock().expect("nobody panics here").push(line);
            }
        });
        Self { lines, address }
    }

    fn wait_for_address(&self) -> SocketAddr {
        self.address.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("does not listen: {:?}", self.lines()))
    }

    /// All of it, once the process has ended.
    fn whole(&self) -> String {
        while self.address.recv_timeout(DEADLINE).is_ok() {}
        self.lines().join("\n")
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("nobody panics here").clone()
    }
}

/// A server that runs until it is dropped.
pub struct Server {
    process: Process,
    pub address: SocketAddr,
    log: Log,
    _file: Option<TempFile>,
}

impl Server {
    /// One that lets everyone in and keeps nothing.
    pub fn open() -> Self {
        Setup::default().start()
    }

    pub fn call(&self, request: Request) -> Response {
        request.send(self.address)
    }

    pub fn get(&self, path: &str) -> Response {
        self.call(Request::get(path))
    }

    pub fn post(&self, path: &str, body: &Value) -> Response {
        self.call(Request::post(path, body))
    }

    /// Opens a stream that must begin.
    pub fn stream(&self, path: &str) -> Sse {
        self.stream_of(Request::get(path))
    }

    pub fn stream_of(&self, request: Request) -> Sse {
        let stream = Sse::open(self.address, request);
        assert_eq!(stream.head.status, 200, "{:?}", stream.head);
        stream
    }

    /// Submits a plan that must be good; the run's id.
    pub fn submit(&self, project: &str, plan: &Value) -> String {
        let answer = self.post(&format!("/api/projects/{project}/workflows"), plan);
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.json()["runId"].as_str().expect("a run id").to_owned()
    }

    /// The messages of a run from its first to its last.
    pub fn messages(&self, project: &str, run: &str) -> Vec<Value> {
        let mut stream = self.stream(&format!("/api/sse/projects/{project}?runId={run}"));
        assert_eq!(stream.next().expect("connected").kind(), "connected");
        stream.rest().into_iter().map(|event: Event| event.message).collect()
    }

    /// Runs a plan in the project `p` to its end; all its messages.
    pub fn carry_out(&self, plan: &Value) -> Vec<Value> {
        let run = self.submit("p", plan);
        self.messages("p", &run)
    }

    /// The value of a metric, by its whole name with labels.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").text();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in {text}")).parse().expect("a number")
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it runs");
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.process.0.id().try_into().expect("a process id")).expect("not 0")
    }

    /// Ends it as a crash would: SIGKILL.
    pub fn kill(self) {}

    /// Has it ended, without having been told to?
    pub fn has_ended(&mut self) -> bool {
        self.process.0.try_wait().expect("a child").is_some()
    }

    /// Waits until the process has ended; its exit status.
    pub fn wait(&mut self) -> Option<i32> {
        let child = &mut self.process.0;
        wait_for("the end of the process", || child.try_wait().expect("a child")).code()
    }

    pub fn log(&self) -> Vec<String> {
        self.log.lines()
    }

    /// Waits until it has logged a line with this in it for the `times`th time; that line.
    pub fn until_logged(&self, text: &str, times: usize) -> String {
        wait_for(text, || self.log().into_iter().filter(|line| line.contains(text)).nth(times - 1))
    }

    /// Waits until a process has taken over for the `times`th time.
    pub fn until_upgraded(&self, times: usize) -> Successor {
        let line = self.until_logged("has taken over", times);
        let pid = line.split_once("process ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        Successor(Pid::from_raw(pid.expect("a process id")).expect("not 0"))
    }
}

/// A process that has taken over from a [`Server`] and says what it says to the same log; killed when this is dropped.
pub struct Successor(Pid);

impl Successor {
    pub fn signal(&self, signal: Signal) {
        kill_process(self.0, signal).expect("it runs");
    }

    pub fn pid(&self) -> u64 {
        self.0.as_raw_nonzero().get().unsigned_abs().into()
    }

    /// Waits until it has ended.
    pub fn until_ended(self) {
        wait_for("the end of the process", || (!super::is_alive(self.pid())).then_some(()));
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        // Fails where it has ended by itself.
        let _ = kill_process(self.0, Signal::KILL);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the server's log: {:#?}", self.log.lines());
        }
    }
}
