//! An own PostgreSQL for tests, which goes with them.
//!
//! Each process of tests has one directory, with a data directory for each instance in it. A shell guards it: when the
//! process ends, in whatever way, the shell ends what still runs and removes the directory.
//!
//! This file takes nothing of the rest of `tests/common`, so that unit tests can have it by its path.

#![allow(dead_code, reason = "each test binary takes what it needs")]

use std::fs::{File, Permissions};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};

/// After this long something that should happen counts as never happening.
const DEADLINE: Duration = Duration::from_secs(60);

/// Connections that an instance lets in: those of several tests at a time, with seven of each of their nodes.
const CONNECTIONS_MAX: u32 = 200;

/// Ports that are tried for an instance.
const PORT_FIRST: u16 = 5432;
const PORTS: u16 = 50;

/// The least that keeps messages in order: what [`Postgres::bare_rate`] calls.
const BARE: &str = "
    CREATE SCHEMA bare;
    CREATE TABLE bare.node (id int PRIMARY KEY, batch bigint NOT NULL, until timestamptz NOT NULL);
    CREATE TABLE bare.project (id text PRIMARY KEY, head bigint NOT NULL);
    CREATE TABLE bare.message (project text, seq bigint, at timestamptz NOT NULL, json text NOT NULL,
                               PRIMARY KEY (project, seq));
    INSERT INTO bare.node VALUES (1, 0, 'infinity');
    INSERT INTO bare.project VALUES ('p', 0);
    CREATE FUNCTION bare.append(rows text[]) RETURNS bigint LANGUAGE plpgsql AS $$
    DECLARE newest bigint;
    BEGIN
      UPDATE bare.node SET batch = batch + 1 WHERE id = 1 AND until > clock_timestamp();
      UPDATE bare.project SET head = head + cardinality(rows) WHERE id = 'p' RETURNING head INTO newest;
      INSERT INTO bare.message
        SELECT 'p', newest - cardinality(rows) + n, now(), row FROM unnest(rows) WITH ORDINALITY AS r(row, n);
      RETURN newest;
    END $$";

/// Does an instance write to the disk before it says that something is kept?
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Disk {
    /// As in production.
    Synced,
    /// Quicker, for tests that are not about it. What a process wrote is there when it is killed, all the same.
    Unsynced,
}

/// How an instance is told to end.
#[derive(Debug, Clone, Copy)]
pub enum Ending {
    /// Connections are closed, and all is written.
    Fast,
    /// All its processes quit at once, and it recovers when it starts again.
    Immediate,
    /// SIGKILL to all its processes.
    Killed,
}

/// An instance that runs until it is dropped.
pub struct Postgres {
    directory: PathBuf,
    address: SocketAddr,
    /// The postmaster; none while it is stopped.
    postmaster: Mutex<Option<Child>>,
    databases: AtomicUsize,
}

impl Postgres {
    /// One that syncs; none where PostgreSQL is not installed, see [`Self::start_with`].
    pub fn start() -> Option<Self> {
        Self::start_with(Disk::Synced, &[])
    }

    /// One with these settings besides, as `name=value`. Where PostgreSQL is not installed there is none, the test is
    /// to be skipped, and that is said; under `CI` it fails.
    pub fn start_with(disk: Disk, settings: &[&str]) -> Option<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        if programs().is_none() {
            assert!(std::env::var_os("CI").is_none(), "PostgreSQL is not installed: no initdb, postgres and psql");
            let test = std::thread::current().name().unwrap_or("a test").to_owned();
            eprintln!("SKIPPED {test}: PostgreSQL is not installed: no initdb, postgres and psql");
            return None;
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = root().join(number.to_string());
        make_data(&directory.join("data"));
        let address = free_address(number);
        configure(&directory, address, disk, settings);
        let instance = Self { directory, address, postmaster: Mutex::new(None), databases: AtomicUsize::new(0) };
        instance.resume();
        Some(instance)
    }

    /// One for all tests of the process that leave it alone but for databases of their own. It does not sync.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Postgres>> = OnceLock::new();
        SHARED.get_or_init(|| Self::start_with(Disk::Unsynced, &[])).as_ref()
    }

    /// A new database; its address.
    pub fn database(&self) -> String {
        let name = format!("d{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql(&self.url("postgres"), &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    /// The address of the database of this name.
    pub fn url(&self, database: &str) -> String {
        Self::url_at(self.address, database)
    }

    /// As [`Self::url`], for what listens before it: a proxy.
    pub fn url_at(address: SocketAddr, database: &str) -> String {
        format!("postgres://postgres@{address}/{database}")
    }

    /// Where it listens, also after it was restarted.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What `sql` comes to in the database at `url`: a line a row, `|` between columns.
    pub fn sql(&self, url: &str, sql: &str) -> String {
        self.try_sql(url, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// As [`Self::sql`]; what it was refused with.
    pub fn try_sql(&self, url: &str, sql: &str) -> Result<String, String> {
        let output = self.psql(url).args(["-c", sql]).output().expect("psql starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// A conversation with the database at `url`: what a test writes to its stdin is done when it is written.
    pub fn session(&self, url: &str) -> Session {
        let mut command = self.psql(url);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        Session::new(child.expect("psql starts"))
    }

    /// Transactions a second that pgbench gets done in the database at `url`, on one connection: `script` again and again.
    pub fn bench(&self, url: &str, script: &str, time: Duration) -> f64 {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let file = self.directory.join(format!("script-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        std::fs::write(&file, script).expect("the directory is ours");
        let mut command = Command::new(program("pgbench"));
        command.args(["-n", "-c", "1", "-T", &time.as_secs().max(1).to_string(), "-f"]).arg(file).arg(url);
        let output = command.output().expect("pgbench starts");
        let text = String::from_utf8_lossy(&output.stdout);
        let tps = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
        tps.unwrap_or_else(|| panic!("pgbench: {text}{}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Messages a second that the bare engine takes at `url` where nothing is around it: one connection, `together` rows of
    /// `bytes` bytes in a call that looks at a lease, raises a head and inserts.
    pub fn bare_rate(&self, url: &str, together: usize, bytes: usize, time: Duration) -> f64 {
        self.sql(url, BARE);
        let row = "x".repeat(bytes);
        let rows = vec![row.as_str(); together].join(",");
        let rate = self.bench(url, &format!("SELECT bare.append('{{{rows}}}');\n"), time) * together as f64;
        self.sql(url, "DROP SCHEMA bare CASCADE");
        rate
    }

    fn psql(&self, url: &str) -> Command {
        let mut command = Command::new(program("psql"));
        command.args(["--no-psqlrc", "-qAt", "-v", "ON_ERROR_STOP=1", "-d", url]);
        command
    }

    /// Ends it and starts it again.
    pub fn restart(&self, ending: Ending) {
        self.stop(ending);
        self.resume();
    }

    /// Ends it, and waits until none of its processes is left.
    pub fn stop(&self, ending: Ending) {
        let Some(mut postmaster) = self.postmaster.lock().expect("nobody panics here").take() else { return };
        let pid = pid_of(&postmaster);
        match ending {
            Ending::Fast => tell(pid, Signal::INT),
            Ending::Immediate => tell(pid, Signal::QUIT),
            Ending::Killed => kill_all(pid),
        }
        postmaster.wait().expect("a child");
    }

    /// Starts it again, and waits until it lets clients in.
    pub fn resume(&self) {
        let mut slot = self.postmaster.lock().expect("nobody panics here");
        assert!(slot.is_none(), "it runs");
        let mut child = self.spawn();
        wait_for("PostgreSQL to let clients in", || {
            if let Some(status) = child.try_wait().expect("a child") {
                panic!("PostgreSQL has ended with {status}: {}", self.log());
            }
            self.is_ready(child.id()).then_some(())
        });
        *slot = Some(child);
    }

    fn spawn(&self) -> Child {
        let log = File::options().append(true).create(true).open(self.directory.join("log")).expect("a log");
        let mut command = Command::new(program("postgres"));
        command.arg("-D").arg(self.directory.join("data"));
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log);
        as_its_user(&mut command).spawn().expect("postgres starts")
    }

    /// Its file names the postmaster first, and in its eighth line how far it is.
    fn is_ready(&self, postmaster: u32) -> bool {
        let file = self.directory.join("data/postmaster.pid");
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = |n: usize| text.lines().nth(n).map(str::trim);
        line(0) == Some(&postmaster.to_string()) && line(7) == Some("ready")
    }

    /// Ends it, and leaves its data and its log in `directory` for whoever wants to look into them.
    pub fn leave_in(&self, directory: &Path) {
        self.stop(Ending::Fast);
        check(Command::new("cp").arg("-a").arg(&self.directory).arg(directory.join("engine")));
    }

    /// Has it offer TLS with this certificate and its key, in PEM, and none any more where there is none.
    pub fn set_tls(&self, certificate: Option<(&str, &str)>) {
        let data = self.directory.join("data");
        if let Some((certificate, key)) = certificate {
            for (name, text) in [("server.crt", certificate), ("server.key", key)] {
                let file = data.join(name);
                std::fs::write(&file, text).expect("the directory is ours");
                std::fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("the file is ours");
                give_to_its_user(&file);
            }
        }
        let wanted = if certificate.is_some() { "on" } else { "off" };
        self.sql(&self.url("postgres"), &format!("ALTER SYSTEM SET ssl = {wanted}"));
        self.reload();
        wait_for("PostgreSQL to have its certificate", || {
            (self.sql(&self.url("postgres"), "SHOW ssl") == wanted).then_some(())
        });
    }

    /// Has it let users in by these lines of `pg_hba.conf` first.
    pub fn let_in_by(&self, lines: &str) {
        let file = self.directory.join("data/pg_hba.conf");
        let text = std::fs::read_to_string(&file).expect("initdb makes it");
        std::fs::write(&file, format!("{lines}\n{text}")).expect("the directory is ours");
        self.reload();
        let count = format!("SELECT count(*) FROM pg_hba_file_rules WHERE line_number <= {}", lines.lines().count());
        assert_eq!(self.sql(&self.url("postgres"), &count), lines.lines().count().to_string(), "{lines}");
    }

    fn reload(&self) {
        self.sql(&self.url("postgres"), "SELECT pg_reload_conf()");
    }

    /// The end of what it has logged.
    pub fn log(&self) -> String {
        const LINES: usize = 40;
        let text = std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("PostgreSQL's log: {}", self.log());
        }
        self.stop(Ending::Immediate);
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A session of psql that lives as long as this, to hold a transaction open.
pub struct Session {
    child: Child,
    stdout: std::io::BufReader<std::process::ChildStdout>,
}

impl Session {
    fn new(mut child: Child) -> Self {
        let stdout = std::io::BufReader::new(child.stdout.take().expect("piped"));
        Self { child, stdout }
    }

    /// Does `sql`, and waits until it is done.
    pub fn run(&mut self, sql: &str) {
        const DONE: &str = "this is done";
        let stdin = self.child.stdin.as_mut().expect("piped");
        writeln!(stdin, "{sql};\n\\echo {DONE}").expect("psql reads");
        let mut line = String::new();
        while line.trim() != DONE {
            line.clear();
            let length = std::io::BufRead::read_line(&mut self.stdout, &mut line).expect("UTF-8");
            assert!(length > 0, "psql has ended at {sql}");
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The directory of the newest PostgreSQL that has all that is needed: of `PATH`, else where Debian puts it.
fn programs() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    let find = || {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut debian: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
            .map(|entries| entries.flatten().map(|entry| entry.path().join("bin")).collect())
            .unwrap_or_default();
        debian.sort_by_key(|bin| std::cmp::Reverse(version(bin)));
        let is_whole = |bin: &PathBuf| ["initdb", "postgres", "psql"].iter().all(|name| bin.join(name).is_file());
        std::env::split_paths(&path).chain(debian).find(is_whole)
    };
    FOUND.get_or_init(find).as_deref()
}

/// The number in `/usr/lib/postgresql/15/bin`.
fn version(bin: &Path) -> u32 {
    let name = bin.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    name.and_then(|name| name.parse().ok()).unwrap_or_default()
}

fn program(name: &str) -> PathBuf {
    programs().expect("asked before").join(name)
}

/// Where all instances of this process lie.
fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let root = std::env::temp_dir().join(format!("stepcast-postgres-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir(&root).expect("the temporary directory can be written to");
        guard(&root);
        root
    })
}

/// Starts what ends and removes all when this process has ended: then its stdin is closed.
fn guard(root: &Path) {
    const SCRIPT: &str = r#"
        trap '' INT TERM HUP
        cat > /dev/null
        for file in "$0"/*/data/postmaster.pid; do
          [ -e "$file" ] && kill -QUIT "$(head -n 1 "$file")"
        done
        for n in 1 2 3 4 5 6 7 8 9 10; do
          rm -rf "$0" && break
          sleep 1
        done"#;
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT]).arg(root).process_group(0);
    let shell = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a shell");
    // Its stdin is held until the process ends.
    std::mem::forget(shell);
}

/// A new data directory: a copy of one that `initdb` made, which takes longer.
fn make_data(data: &Path) {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    let template = TEMPLATE.get_or_init(|| {
        let template = root().join("template");
        std::fs::create_dir(&template).expect("a directory");
        give_to_its_user(&template);
        let mut command = Command::new(program("initdb"));
        command.arg("-D").arg(template.join("data"));
        command.args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", "--username=postgres"]);
        check(as_its_user(&mut command));
        template.join("data")
    });
    std::fs::create_dir(data.parent().expect("in the directory of the instance")).expect("a directory");
    check(Command::new("cp").arg("-a").arg(template).arg(data));
}

fn check(command: &mut Command) {
    let output = command.current_dir("/").output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn configure(directory: &Path, address: SocketAddr, disk: Disk, settings: &[&str]) {
    let fsync = if disk == Disk::Synced { "on" } else { "off" };
    let (host, port) = (address.ip(), address.port());
    let mut text = format!(
        "listen_addresses='{host}'\nport={port}\nunix_socket_directories=''\nshared_buffers=16MB\n\
         max_connections={CONNECTIONS_MAX}\nfsync={fsync}\ntimezone=UTC\nlog_timezone=UTC\n"
    );
    settings.iter().for_each(|setting| text.extend([setting, "\n"]));
    let file = directory.join("data/postgresql.conf");
    let mut file = File::options().append(true).open(file).expect("initdb makes it");
    file.write_all(text.as_bytes()).expect("it can be written");
}

/// One at which nothing listens. It is of this process alone, and no connection that the machine makes takes its port:
/// so it is still there after a restart.
fn free_address(number: usize) -> SocketAddr {
    let [a, b, c, _] = std::process::id().to_le_bytes();
    let ip = IpAddr::V4(Ipv4Addr::new(127, 128 | c, b, a));
    let first = PORT_FIRST + u16::try_from(number).expect("few instances");
    let mut candidates = (first..first + PORTS).map(|port| SocketAddr::new(ip, port));
    candidates.find(|address| TcpListener::bind(address).is_ok()).expect("a free port")
}

/// PostgreSQL refuses to run as root: then it runs as the user that Debian makes for it.
fn its_user() -> Option<(u32, u32)> {
    if !geteuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").expect("a list of users");
    let line = users.lines().find(|line| line.starts_with("postgres:")).expect("a user postgres");
    let mut numbers = line.split(':').skip(2).map(|field| field.parse().expect("a number"));
    numbers.next().zip(numbers.next())
}

fn as_its_user(command: &mut Command) -> &mut Command {
    // Its own working directory may be closed to that user.
    command.current_dir("/");
    if let Some((user, group)) = its_user() {
        command.uid(user).gid(group);
    }
    command
}

fn give_to_its_user(path: &Path) {
    if let Some((user, group)) = its_user() {
        chown(path, Some(user), Some(group)).expect("root may");
    }
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().try_into().expect("a process id")).expect("not 0")
}

fn tell(pid: Pid, signal: Signal) {
    // Fails where it has ended by itself.
    let _ = kill_process(pid, signal);
}

/// Kills the postmaster and all its processes, and waits until these are gone: it would not start beside them.
fn kill_all(postmaster: Pid) {
    // It makes no more of them meanwhile.
    tell(postmaster, Signal::STOP);
    let children = children_of(postmaster);
    tell(postmaster, Signal::KILL);
    children.iter().for_each(|child| tell(*child, Signal::KILL));
    wait_for("the end of PostgreSQL's processes", || children.iter().all(|child| is_gone(*child)).then_some(()));
}

fn children_of(parent: Pid) -> Vec<Pid> {
    let wanted = parent.as_raw_nonzero().to_string();
    let processes = std::fs::read_dir("/proc").expect("Linux").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw));
    pids.filter(|pid| stat(*pid).is_some_and(|fields| fields.get(1) == Some(&wanted))).collect()
}

fn is_gone(pid: Pid) -> bool {
    stat(pid).is_none_or(|fields| fields.first().is_some_and(|state| state == "Z"))
}

/// The fields after the name of a process: its state, its parent and more.
fn stat(pid: Pid) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    Some(text.rsplit_once(") ")?.1.split(' ').map(str::to_owned).collect())
}

fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(began.elapsed() < DEADLINE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
