//! What the kernel says of the server's process: memory, processor time, descriptors.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::Pid;

use crate::failure::Outcome;

/// How often memory is looked at.
const SAMPLE_EVERY: Duration = Duration::from_millis(20);

/// Clock ticks a second in `/proc/PID/stat`: 100 on every Linux that runs on common machines.
const TICKS: f64 = 100.0;

/// Descriptors of this process at most.
const DESCRIPTORS_MAX: u64 = 20_000;

/// Memory of a process, in KiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// Its own: heap and stacks. This is what counts: nobody can take it away.
    pub anonymous_kib: u64,
    /// With the pages of files that it has mapped, its own program's among them, which the kernel may drop.
    pub resident_kib: u64,
}

/// Memory of the process `pid` just now; none where it has gone.
pub fn memory(pid: u32) -> Option<Memory> {
    parse_memory(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn parse_memory(status: &str) -> Option<Memory> {
    let kib = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        value.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    Some(Memory { anonymous_kib: kib("RssAnon")?, resident_kib: kib("VmRSS")? })
}

/// Does the process go on? One that has ended counts as gone, though nobody has asked how it ended.
pub fn is_running(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

/// The process `pid` and all that it began, and they, as far as they go on.
pub fn family(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let parents: Vec<(u32, u32)> = pids
        .filter_map(|pid: u32| Some((pid, parse_parent(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?)))
        .collect();
    let mut family = vec![pid];
    let mut looked_at = 0;
    while let Some(&parent) = family.get(looked_at) {
        family.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
        looked_at += 1;
    }
    family
}

fn parse_parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Seconds of processor time, user and system, that the process has used; none where it has gone.
pub fn cpu_seconds(pid: u32) -> Option<f64> {
    parse_cpu(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_cpu(stat: &str) -> Option<f64> {
    // The name before the last `)` may hold spaces; `utime` and `stime` are the 12th and 13th fields behind it.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut seconds = || Some(fields.next()?.parse::<f64>().ok()? / TICKS);
    Some(seconds()? + seconds()?)
}

/// Bytes that the process has had written to a disk: what it made dirty, which the kernel writes sooner or later. None where
/// it has gone, or is another user's.
pub fn written_bytes(pid: u32) -> Option<u64> {
    parse_written(&fs::read_to_string(format!("/proc/{pid}/io")).ok()?)
}

fn parse_written(io: &str) -> Option<u64> {
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok())
}

/// Descriptors that the process holds; none where it has gone.
pub fn descriptors(pid: u32) -> Option<usize> {
    Some(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count())
}

/// Sockets among them: the store opens and closes files of its own.
pub fn sockets(pid: u32) -> Option<usize> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let is_socket = |entry: &fs::DirEntry| {
        fs::read_link(entry.path()).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
    };
    Some(entries.filter_map(Result::ok).filter(is_socket).count())
}

/// Processes that wanted a processor in the last minute, on average.
pub fn load_average() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// The processor's name, where the kernel tells it.
pub fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'))?.1;
    Some(name.trim().to_owned())
}

/// Raises this process's limit on descriptors as far as it goes, but for the bound that this program has.
///
/// # Errors
/// Where the system does not let it.
pub fn raise_descriptors() -> Outcome<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.map_or(DESCRIPTORS_MAX, |maximum| maximum.min(DESCRIPTORS_MAX));
    let current = Some(limit.current.map_or(most, |current| current.max(most)));
    Ok(setrlimit(Resource::Nofile, Rlimit { current, maximum: limit.maximum })?)
}

/// Looks at a process's memory every 20 ms and keeps the peak.
#[derive(Debug)]
pub struct Sampler {
    peak: Arc<Peak>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Peak {
    is_over: AtomicBool,
    samples: AtomicU64,
    anonymous_kib: AtomicU64,
    resident_kib: AtomicU64,
}

impl Sampler {
    /// Begins to look.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(pid: u32) -> Outcome<Self> {
        let peak = Arc::new(Peak::default());
        let kept = peak.clone();
        let builder = std::thread::Builder::new().name("sampler".to_owned());
        let thread = builder.spawn(move || {
            while !kept.is_over.load(Ordering::Relaxed) {
                kept.take(memory(pid));
                std::thread::sleep(SAMPLE_EVERY);
            }
        })?;
        Ok(Self { peak, thread: Some(thread) })
    }

    /// The highest of either seen so far, and how often it was looked.
    pub fn peak(&self) -> (Memory, u64) {
        let peak = Memory {
            anonymous_kib: self.peak.anonymous_kib.load(Ordering::Relaxed),
            resident_kib: self.peak.resident_kib.load(Ordering::Relaxed),
        };
        (peak, self.peak.samples.load(Ordering::Relaxed))
    }
}

impl Peak {
    fn take(&self, memory: Option<Memory>) {
        let Some(memory) = memory else { return };
        self.anonymous_kib.fetch_max(memory.anonymous_kib, Ordering::Relaxed);
        self.resident_kib.fetch_max(memory.resident_kib, Ordering::Relaxed);
        self.samples.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.peak.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to say.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_stat_are_read() {
        let status = "Name:\ta b\nVmHWM:\t 9 kB\nVmRSS:\t    5496 kB\nRssAnon:\t    1300 kB\n";
        assert_eq!(parse_memory(status), Some(Memory { anonymous_kib: 1300, resident_kib: 5496 }));
        assert_eq!(parse_memory("Name:\tx\n"), None);
        let stat = "17 (a ) b) S 1 17 17 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 4 0 100 1 2 3";
        assert_eq!((parse_cpu(stat), parse_parent(stat)), (Some(2.0), Some(1)));
        assert_eq!(parse_cpu("17 (a) S 1"), None);
    }

    #[test]
    fn a_child_is_of_the_family() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("it starts");
        assert!(family(std::process::id()).contains(&child.id()));
        assert_eq!(family(child.id()), [child.id()]);
        child.kill().and_then(|()| child.wait().map(drop)).expect("it is ours");
    }

    #[test]
    fn this_process_can_be_looked_at() {
        let pid = std::process::id();
        assert!(memory(pid).is_some_and(|memory| memory.resident_kib >= memory.anonymous_kib));
        let before = sockets(pid);
        let _socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        assert!(
            before
                .zip(sockets(pid))
                .is_some_and(|(before, after)| after > 0 && before <= descriptors(pid).unwrap_or(0))
        );
        assert!(cpu_seconds(pid).is_some() && descriptors(pid).is_some_and(|n| n > 2));
    }
}
