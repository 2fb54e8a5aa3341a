//! The server under load: the real program as a process with a data directory of its own, another program that speaks
//! the same calls, or one that runs already.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustls::ClientConfig;

use crate::failure::{Failure, Outcome, failure};
use crate::loopback::Target;
use crate::peers::Peer;
use crate::proc::{self, Memory};
use crate::wire;

/// The log line that says where the server listens.
const LISTENING: &str = "listening on ";

/// How long a start may take.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a stop may take before it is forced.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// What tokens are signed with, here alone.
const SECRET: &str = "a secret of load tests, and of nothing else";

/// Where the program takes it from.
const SECRET_NAME: &str = "STEPCAST_JWT_SECRET";

/// About the length of a token.
const PEER_TOKEN_BYTES: usize = 200;

/// Lines of its log that are kept.
const LOG_LINES_MAX: usize = 200;

/// Where the server keeps its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// In memory.
    None,
    /// In a directory that goes with this program.
    Temporary,
}

impl Data {
    /// As it stands in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "memory",
            Self::Temporary => "sqlite",
        }
    }
}

/// What is put under load.
#[derive(Debug, Clone)]
pub enum Choice {
    /// The program at this path.
    Program {
        /// Its binary.
        path: PathBuf,
        /// Flags besides.
        flags: Vec<String>,
        /// It runs on the first processor, everything else of this program on the others.
        is_pinned: bool,
        /// Streams come to it by TLS.
        is_tls: bool,
    },
    /// Another program, to compare with.
    Peer {
        /// Which.
        peer: Peer,
        /// As for a program.
        is_pinned: bool,
    },
    /// One that runs already.
    Running {
        /// Where.
        target: Target,
        /// Its process, where its memory is to be looked at.
        pid: Option<u32>,
    },
}

/// What a server is started with.
#[derive(Debug, Clone, Copy)]
pub struct Setup<'a> {
    /// Where it keeps its messages.
    pub data: Data,
    /// A database that keeps them instead.
    pub url: Option<&'a str>,
    /// Flags of our own program, besides.
    pub flags: &'a [&'a str],
    /// Seconds between two heartbeats; none for what it does by itself, 0 for never.
    pub heartbeat_s: Option<u64>,
    /// It looks at tokens, where it can.
    pub checks_tokens: bool,
}

impl<'a> Setup<'a> {
    /// The usual: without tokens.
    pub fn new(data: Data, flags: &'a [&'a str]) -> Self {
        Self { data, url: None, flags, heartbeat_s: None, checks_tokens: false }
    }
}

/// A server under load. One that was started here ends when it is dropped.
#[derive(Debug)]
pub struct Server {
    target: Target,
    secure: Option<Secure>,
    pid: Option<u32>,
    process: Option<Process>,
    token: Option<String>,
    is_numbered: bool,
    is_ours: bool,
}

/// Where a server speaks TLS.
#[derive(Debug)]
pub struct Secure {
    /// The address.
    pub target: Target,
    /// What trusts its certificate.
    pub config: Arc<ClientConfig>,
    /// Certificate and key.
    _files: TemporaryDirectory,
}

#[derive(Debug)]
struct Process {
    child: Child,
    /// Has taken over from the child.
    successor: Option<Pid>,
    log: Arc<Mutex<Vec<String>>>,
    /// Removed last.
    _data: Option<TemporaryDirectory>,
}

impl Server {
    /// The chosen one, started with `data` and `flags` where it is to be started.
    ///
    /// # Errors
    /// Where it does not come up.
    pub fn start(choice: &Choice, data: Data, flags: &[&str]) -> Outcome<Self> {
        Self::start_with(choice, &Setup::new(data, flags))
    }

    /// The chosen one, started so where it is to be started.
    ///
    /// # Errors
    /// Where it does not come up.
    pub fn start_with(choice: &Choice, setup: &Setup) -> Outcome<Self> {
        match choice {
            Choice::Running { target, pid } => {
                let (target, pid) = (*target, *pid);
                let (secure, process, token) = (None, None, None);
                Ok(Self { target, secure, pid, process, token, is_numbered: true, is_ours: true })
            }
            Choice::Program { path, flags, is_pinned, is_tls } => {
                start_program(path, flags, (*is_pinned, *is_tls), setup)
            }
            Choice::Peer { peer, is_pinned } => start_peer(peer, *is_pinned, setup),
        }
    }

    /// Where it listens.
    pub fn target(&self) -> Target {
        self.target
    }

    /// Where streams come to it by TLS, if they do.
    pub fn secure(&self) -> Option<&Secure> {
        self.secure.as_ref()
    }

    /// Its process, where that is known.
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// What to show to be let in, where it looks at that.
    pub fn token(&self) -> Option<String> {
        self.token.clone()
    }

    /// Its messages carry numbers.
    pub fn is_numbered(&self) -> bool {
        self.is_numbered
    }

    /// Its memory just now.
    pub fn memory(&self) -> Option<Memory> {
        proc::memory(self.pid?)
    }

    /// Processor time that it has used, in seconds.
    pub fn cpu_seconds(&self) -> Option<f64> {
        proc::cpu_seconds(self.pid?)
    }

    /// Bytes that it has had written to a disk.
    pub fn written_bytes(&self) -> Option<u64> {
        proc::written_bytes(self.pid?)
    }

    /// Processor time that it and its children have used that go on, in seconds: a peer may be several processes.
    pub fn family_cpu_seconds(&self) -> Option<f64> {
        proc::family(self.pid?).into_iter().filter_map(proc::cpu_seconds).reduce(|sum, more| sum + more)
    }

    /// What it and its children hold, in KiB.
    pub fn family_anonymous_kib(&self) -> Option<u64> {
        let memories = proc::family(self.pid?).into_iter().filter_map(proc::memory);
        memories.map(|memory| memory.anonymous_kib).reduce(|sum, more| sum + more)
    }

    /// Descriptors that it holds.
    pub fn descriptors(&self) -> Option<usize> {
        proc::descriptors(self.pid?)
    }

    /// Sockets among them.
    pub fn sockets(&self) -> Option<usize> {
        proc::sockets(self.pid?)
    }

    /// The first lines of its log.
    pub fn log(&self) -> Vec<String> {
        let lines = self.process.as_ref().and_then(|process| process.log.lock().ok().map(|lines| lines.clone()));
        lines.unwrap_or_default()
    }

    /// Sends a signal to a server that was started here.
    ///
    /// # Errors
    /// Where it was not, or has gone.
    pub fn signal(&self, signal: Signal) -> Outcome<()> {
        let serves = |process: &Process| process.successor.unwrap_or_else(|| Pid::from_child(&process.child));
        let Some(pid) = self.process.as_ref().map(serves) else {
            return failure("only a server started by this program can be stopped");
        };
        Ok(kill_process(pid, signal)?)
    }

    /// Another process serves from now on: the one that the newest line of the log with this in it names.
    ///
    /// # Errors
    /// Where there is no such line.
    pub fn follow_successor(&mut self, line: &str) -> Outcome<()> {
        let log = self.log();
        let line = log.iter().rfind(|it| it.contains(line)).and_then(|it| it.split_once("process "));
        let number = line.and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        let (Some(pid), Some(process)) = (number.and_then(Pid::from_raw), &mut self.process) else {
            return failure(format!("the log names no process: {}", log.join("\n")));
        };
        process.successor = Some(pid);
        self.pid = number.and_then(|number| u32::try_from(number).ok());
        Ok(())
    }

    /// Ends a server that was started here with SIGTERM, as an operator would.
    ///
    /// # Errors
    /// Where it does not end, or not with status 0.
    pub fn stop(mut self) -> Outcome<()> {
        if self.process.is_some() {
            self.signal(Signal::TERM)?;
        }
        let Some(process) = &mut self.process else { return Ok(()) };
        let began = Instant::now();
        while began.elapsed() < STOP_TIMEOUT {
            if process.successor.is_some_and(proc::is_running) {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            }
            match process.child.try_wait()? {
                None => {}
                // How others end is their business.
                Some(status) if status.success() || !self.is_ours => return Ok(()),
                Some(status) => return failure(format!("the server ended with {status}: {}", self.log().join("\n"))),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        failure(format!("the server did not end within {} s of SIGTERM", STOP_TIMEOUT.as_secs()))
    }
}

/// Starts our own program; where it listens stands in its log.
fn start_program(path: &Path, more: &[String], (is_pinned, is_tls): (bool, bool), setup: &Setup) -> Outcome<Server> {
    let directory = if setup.data == Data::Temporary { Some(TemporaryDirectory::new()?) } else { None };
    let mut command = program(path);
    let auth = if setup.checks_tokens { "jwt" } else { "none" };
    command.args(["serve", "--auth", auth, "--listen", "127.0.0.1:0", "--data"]);
    let kept = directory.as_ref().map_or(OsStr::new("none"), |directory| directory.0.as_os_str());
    command.arg(setup.url.map_or(kept, OsStr::new));
    if let Some(seconds) = setup.heartbeat_s {
        // What never comes is what comes after more time than any scenario has.
        let heartbeat = if seconds == 0 { "1h".to_owned() } else { format!("{seconds}s") };
        command.args(["--sse-heartbeat", &heartbeat]);
    }
    let token = if setup.checks_tokens { Some(token(path)?) } else { None };
    if token.is_some() {
        command.env(SECRET_NAME, SECRET).args(["--limits-streams-per-token", "1000000"]);
    }
    let certified = if is_tls { Some(certify(&mut command)?) } else { None };
    command.args(setup.flags).args(more).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = spawn(&mut command, is_pinned).map_err(|Failure(why)| Failure(format!("{}: {why}", path.display())))?;
    let (log, found) = (Arc::new(Mutex::new(Vec::new())), channel());
    let target = Target::parse("http://127.0.0.1:1")?;
    let (pid, secure) = (Some(child.id()), None);
    let mut server = Server { target, secure, pid, process: None, token, is_numbered: true, is_ours: true };
    let process = server.process.insert(Process { child, successor: None, log: log.clone(), _data: directory });
    follow(process, log, Some(found.0));
    server.target = listens_at(&found.1, &server)?;
    if let Some((files, config)) = certified {
        server.secure = Some(Secure { target: listens_at(&found.1, &server)?, config, _files: files });
    }
    Ok(server)
}

/// The next address that the server says it listens at.
fn listens_at(found: &Receiver<Outcome<Target>>, server: &Server) -> Outcome<Target> {
    match found.recv_timeout(START_TIMEOUT) {
        Ok(target) => target,
        Err(RecvTimeoutError::Timeout) => failure("the server did not start listening in time"),
        Err(RecvTimeoutError::Disconnected) => {
            failure(format!("the server did not start: {}", server.log().join("\n")))
        }
    }
}

/// Has a server speak TLS at an address of its own, with a certificate made for this; its files, and what trusts it.
fn certify(command: &mut Command) -> Outcome<(TemporaryDirectory, Arc<ClientConfig>)> {
    let files = TemporaryDirectory::new()?;
    let made = rcgen::generate_simple_self_signed([wire::NAME.to_owned()])?;
    let (cert, key) = (files.path().join("cert.pem"), files.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem())?;
    std::fs::write(&key, made.signing_key.serialize_pem())?;
    command.args(["--tls-listen", "127.0.0.1:0", "--tls-cert"]).arg(cert).arg("--tls-key").arg(key);
    Ok((files, wire::trusting(made.cert.der())?))
}

/// A token for everything, made by the program that is to check it.
fn token(path: &Path) -> Outcome<String> {
    let mut command = program(path);
    command.args(["token", "--project", "*", "--sub", "load", "--ttl", "1h", "--scope", "subscribe,publish,run"]);
    let output = command.env(SECRET_NAME, SECRET).output()?;
    match String::from_utf8(output.stdout) {
        Ok(text) if output.status.success() => Ok(text.trim().to_owned()),
        _ => failure(format!("no token: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// Starts another program on a port that is free just now, and waits until it takes connections.
fn start_peer(peer: &Peer, is_pinned: bool, setup: &Setup) -> Outcome<Server> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut command = Command::new(&peer.program);
    command.args(&peer.arguments).env("PORT", address.port().to_string());
    command.env("HEARTBEAT_S", setup.heartbeat_s.unwrap_or(0).to_string());
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let child = spawn(&mut command, is_pinned).map_err(|Failure(why)| Failure(format!("{}: {why}", peer.name)))?;
    let (pid, log) = (child.id(), Arc::new(Mutex::new(Vec::new())));
    let mut process = Process { child, successor: None, log: log.clone(), _data: None };
    follow(&mut process, log, None);
    let began = Instant::now();
    while TcpStream::connect_timeout(&address, START_TIMEOUT).is_err() {
        if began.elapsed() > START_TIMEOUT || process.child.try_wait()?.is_some() {
            let log = process.log.lock().map(|lines| lines.join("\n")).unwrap_or_default();
            return failure(format!("{} does not listen: {log}", peer.name));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // It is sent what the others are sent, though it does not look at it.
    let token = setup.checks_tokens.then(|| "x".repeat(PEER_TOKEN_BYTES));
    let target = Target::new(address)?;
    let is_numbered = peer.is_numbered;
    let (pid, process) = (Some(pid), Some(process));
    Ok(Server { target, secure: None, pid, process, token, is_numbered, is_ours: false })
}

impl Drop for Process {
    fn drop(&mut self) {
        // All fail where it has ended by itself.
        if let Some(pid) = self.successor {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, with no settings from the environment of whoever runs this.
fn program(path: &Path) -> Command {
    let mut command = Command::new(path);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("STEPCAST_") {
            command.env_remove(name);
        }
    }
    command
}

/// A child inherits the processors of the thread that starts it: so this thread moves to the first one for a moment.
fn spawn(command: &mut Command, is_pinned: bool) -> Outcome<Child> {
    if !is_pinned {
        return Ok(command.spawn()?);
    }
    let (first, others) = split(&processors()?);
    sched_setaffinity(None, &first)?;
    let child = command.spawn();
    sched_setaffinity(None, &others)?;
    Ok(child?)
}

/// The processors that this program may use, as they were before it restricted itself: a second server of the same
/// run belongs on the same one as the first.
fn processors() -> Outcome<CpuSet> {
    static ALL: OnceLock<CpuSet> = OnceLock::new();
    if let Some(all) = ALL.get() {
        return Ok(*all);
    }
    let all = sched_getaffinity(None)?;
    Ok(*ALL.get_or_init(|| all))
}

/// The first processor of a set, for the server, and the others; the first again where there is no other.
fn split(all: &CpuSet) -> (CpuSet, CpuSet) {
    let (mut first, mut others) = (CpuSet::new(), *all);
    let chosen = (0..CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu)).unwrap_or(0);
    first.set(chosen);
    if all.count() > 1 {
        others.unset(chosen);
    }
    (first, others)
}

fn follow(process: &mut Process, log: Arc<Mutex<Vec<String>>>, found: Option<Sender<Outcome<Target>>>) {
    let Some(stderr) = process.child.stderr.take() else { return };
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if let Some((_, url)) = line.split_once(LISTENING)
                && let Some(found) = &found
            {
                // Nobody waits any more where the start took too long, or for more than it needs.
                let _ = found.send(Target::parse(&url.trim().replace("https://", "http://")));
            }
            if let Ok(mut lines) = log.lock()
                && lines.len() < LOG_LINES_MAX
            {
                lines.push(line);
            }
        }
    });
}

/// A directory that is removed with everything in it.
#[derive(Debug)]
pub struct TemporaryDirectory(PathBuf);

impl TemporaryDirectory {
    /// A new one.
    ///
    /// # Errors
    /// Where it can't be made.
    pub fn new() -> Outcome<Self> {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("stepcast-load-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_pinned_server_of_a_run_lands_on_the_same_processor_as_the_first() {
        // On a thread of its own: the threads of other tests keep their processors.
        let pinned = std::thread::spawn(|| {
            let run = || {
                let mut child = spawn(Command::new("sleep").arg("60"), true).expect("it starts");
                let cpus = sched_getaffinity(Some(Pid::from_child(&child))).expect("it runs");
                child.kill().and_then(|()| child.wait()).expect("it is ours");
                cpus
            };
            (run(), run(), sched_getaffinity(None).expect("it is us"))
        });
        let (first, second, own) = pinned.join().expect("no panic");
        assert_eq!(first, second);
        assert_eq!(first.count(), 1);
        assert!(own != first || processors().expect("known").count() == 1);
    }
}
