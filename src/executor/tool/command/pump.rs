//! Communicates with a running child: writes its inputs, reads both outputs, and waits for its end and for
//! cancellation, all in one loop around `poll`. So a full pipe can't block another one, and no helper thread is needed.
//!
//! ```text
//! running --child exits--> lingering (other processes may still write) --pipes closed, or `linger` over--> done
//!    |                                                                                                       ^
//!    +--cancelled: SIGTERM--> terminating --child exits and pipes closed, or SIGKILL after `grace`-----------+
//! ```
//!
//! While the log is behind, the pipes of a child with much output are not read, so the child waits for the log. Its end
//! and its cancellation are noticed nevertheless. What it has written by then is read, up to the capacity of its pipes.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{ChildStderr, ChildStdin, ChildStdout, ExitStatus};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionbio;

use super::super::kept::Kept;
use super::super::mask::{Mask, MaskStream};
use super::super::{Call, ToolError, ToolSettings};
use super::group::Group;
use crate::clock;
use crate::model::OutputStream;
use crate::text::without_escapes;

/// Why a cancelled attempt failed.
pub(super) const CANCELLED: &str = "cancelled";

/// How much is read from a pipe at once: what a pipe holds by default.
const READ_BYTES: usize = 64 * 1024;

/// How much is still read from a pipe once the group was killed: the most that a pipe can hold by default. More comes
/// only from a process that left the group.
const LAST_READS: usize = 1024 * 1024 / READ_BYTES;

/// The longest last line of stderr that an error quotes, in bytes. Of a longer one it quotes the end.
const LAST_LINE_MAX: usize = 2 * 1024;

/// How much of a line is looked at for that, escape sequences included: its end.
const LINE_KEPT: usize = 8 * LAST_LINE_MAX;

/// How a child ended.
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) stdout: Kept,
    /// The last line of stderr that says something, masked.
    pub(super) last_words: String,
}

/// Sees the leader of `group` to its end.
///
/// # Errors
/// When cancelled, once the group is dead; or where the system lacks what it takes to watch a child.
pub(super) fn run(group: Group, call: &Call<'_>, mask: &Mask, settings: ToolSettings) -> Result<Ended, ToolError> {
    let mut pump = Pump::new(group, call, mask, settings).map_err(watch_error)?;
    while !pump.is_done() {
        pump.turn().map_err(watch_error)?;
    }
    pump.finish()
}

fn watch_error(error: io::Error) -> ToolError {
    format!("the program can't be watched: {error}").into()
}

struct Pump<'a> {
    group: Group,
    call: &'a Call<'a>,
    settings: ToolSettings,
    input: Option<Input>,
    stdout: Output<'a, ChildStdout>,
    stderr: Output<'a, ChildStderr>,
    kept: Kept,
    last_line: LastLine,
    buffer: Vec<u8>,
    is_cancelled: bool,
    has_exited: bool,
    /// Reads although the log is behind, because the child is leaving.
    late_reads: usize,
    /// When the group is killed.
    kill_at: Option<Duration>,
}

impl<'a> Pump<'a> {
    fn new(mut group: Group, call: &'a Call<'a>, mask: &'a Mask, settings: ToolSettings) -> io::Result<Self> {
        let child = group.child_mut();
        let input = child.stdin.take().map(|pipe| Input::new(pipe, call)).transpose()?;
        let stdout = Output::new(child.stdout.take(), OutputStream::Stdout, mask)?;
        let stderr = Output::new(child.stderr.take(), OutputStream::Stderr, mask)?;
        Ok(Self {
            group,
            call,
            settings,
            input,
            stdout,
            stderr,
            kept: Kept::new(settings.output_bytes),
            last_line: LastLine::default(),
            buffer: vec![0; READ_BYTES],
            is_cancelled: false,
            has_exited: false,
            late_reads: 0,
            kill_at: None,
        })
    }

    fn is_done(&self) -> bool {
        let is_silent = self.stdout.pipe.is_none() && self.stderr.pipe.is_none();
        let is_over = is_silent || self.late_reads >= 2 * LAST_READS;
        self.has_exited && (is_over || self.kill_at.is_some_and(|at| at <= clock::mono()))
    }

    /// Where the pipes are not to be read now: what becomes readable when they are again.
    fn paused(&self) -> Option<BorrowedFd<'_>> {
        let may_read = (self.has_exited || self.is_cancelled) && self.late_reads < 2 * LAST_READS;
        self.call.output.paused().filter(|_| !may_read)
    }

    fn count_late(&mut self) {
        self.late_reads += usize::from(self.call.output.paused().is_some());
    }

    /// Waits until something can be done, and does it.
    fn turn(&mut self) -> io::Result<()> {
        for source in self.ready()? {
            match source {
                Source::Cancel => self.cancel(),
                Source::Kill => self.kill_at = Some(clock::mono()),
                Source::Exit => self.exit(),
                Source::Stdin => self.input = self.input.take().and_then(Input::write_some),
                Source::Stdout => drop(self.read_stdout()),
                Source::Stderr => drop(self.read_stderr()),
                Source::Reopened => {}
            }
        }
        if !self.has_exited && self.kill_at.is_some_and(|at| at <= clock::mono()) {
            self.group.kill();
            self.kill_at = None;
        }
        Ok(())
    }

    fn cancel(&mut self) {
        self.is_cancelled = true;
        self.group.terminate();
        let grace_ends = clock::mono() + self.settings.grace;
        self.kill_at = Some(self.kill_at.map_or(grace_ends, |at| at.min(grace_ends)));
    }

    fn exit(&mut self) {
        self.has_exited = true;
        self.kill_at.get_or_insert_with(|| clock::mono() + self.settings.linger);
    }

    /// What can be gone on with; nothing where a deadline came first.
    fn ready(&self) -> io::Result<Vec<Source>> {
        let mut watched: Vec<(Source, BorrowedFd<'_>, PollFlags)> = Vec::with_capacity(5);
        match self.is_cancelled {
            false => watched.push((Source::Cancel, self.call.cancel.wake_fd()?, PollFlags::IN)),
            // Once it is to be killed there is nothing more to hear.
            true if self.kill_at.is_some() => watched.push((Source::Kill, self.call.cancel.kill_fd()?, PollFlags::IN)),
            true => {}
        }
        if !self.has_exited {
            watched.push((Source::Exit, self.group.exited(), PollFlags::IN));
        }
        watched.extend(self.input.iter().map(|input| (Source::Stdin, input.pipe.as_fd(), PollFlags::OUT)));
        match self.paused() {
            Some(opens) => watched.push((Source::Reopened, opens, PollFlags::IN)),
            None => {
                watched.extend(self.stdout.pipe.iter().map(|pipe| (Source::Stdout, pipe.as_fd(), PollFlags::IN)));
                watched.extend(self.stderr.pipe.iter().map(|pipe| (Source::Stderr, pipe.as_fd(), PollFlags::IN)));
            }
        }
        let mut fds: Vec<_> = watched.iter().map(|&(_, fd, flags)| PollFd::from_borrowed_fd(fd, flags)).collect();
        let left = self.kill_at.map(|at| at.saturating_sub(clock::mono()));
        match poll(&mut fds, left.and_then(|left| Timespec::try_from(left).ok()).as_ref()) {
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            other => other?,
        };
        let is_ready = |(_, fd): &(&(Source, _, _), &PollFd<'_>)| !fd.revents().is_empty();
        Ok(watched.iter().zip(&fds).filter(is_ready).map(|(&(source, _, _), _)| source).collect())
    }

    fn read_stdout(&mut self) -> bool {
        self.count_late();
        let Some(bytes) = self.stdout.read(&mut self.buffer) else { return false };
        self.kept.push(bytes);
        self.stdout.tell(bytes, self.call);
        true
    }

    fn read_stderr(&mut self) -> bool {
        self.count_late();
        let Some(bytes) = self.stderr.read(&mut self.buffer) else { return false };
        self.last_line.push(&self.stderr.tell(bytes, self.call));
        true
    }

    /// Ends what is left of the group, and takes what it had written.
    fn finish(mut self) -> Result<Ended, ToolError> {
        self.group.kill();
        (0..LAST_READS).take_while(|_| self.read_stdout()).for_each(drop);
        (0..LAST_READS).take_while(|_| self.read_stderr()).for_each(drop);
        self.stdout.flush(self.call);
        self.last_line.push(&self.stderr.flush(self.call));
        let status = self.group.finish().map_err(watch_error)?;
        if self.is_cancelled {
            return Err(CANCELLED.into());
        }
        Ok(Ended { status, stdout: self.kept, last_words: self.last_line.into_text() })
    }
}

/// What the loop waits for.
#[derive(Debug, Clone, Copy)]
enum Source {
    Cancel,
    Kill,
    Exit,
    Stdin,
    Stdout,
    Stderr,
    Reopened,
}

/// A step's inputs on their way to the child.
struct Input {
    pipe: ChildStdin,
    bytes: Vec<u8>,
    written: usize,
}

impl Input {
    fn new(pipe: ChildStdin, call: &Call<'_>) -> io::Result<Self> {
        ioctl_fionbio(&pipe, true)?;
        let mut bytes = serde_json::to_vec(call.inputs)?;
        bytes.push(b'\n');
        Ok(Self { pipe, bytes, written: 0 })
    }

    /// Writes what there is room for; gives nothing back once all is written, or nobody reads it, which closes the pipe.
    fn write_some(mut self) -> Option<Self> {
        match self.pipe.write(&self.bytes[self.written..]) {
            Ok(n) => self.written += n,
            Err(error) if is_passing(&error) => {}
            Err(_) => return None,
        }
        (self.written < self.bytes.len()).then_some(self)
    }
}

/// One of the child's outputs: read, masked and told live.
struct Output<'a, P> {
    pipe: Option<P>,
    stream: OutputStream,
    masked: MaskStream<'a>,
}

impl<'a, P: Read + AsFd> Output<'a, P> {
    fn new(pipe: Option<P>, stream: OutputStream, mask: &'a Mask) -> io::Result<Self> {
        if let Some(pipe) = &pipe {
            ioctl_fionbio(pipe, true)?;
        }
        Ok(Self { pipe, stream, masked: mask.stream() })
    }

    /// What can be read now; closes the pipe at its end.
    fn read<'b>(&mut self, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
        match self.pipe.as_mut()?.read(buffer) {
            Ok(n) if n > 0 => return Some(&buffer[..n]),
            Err(error) if is_passing(&error) => {}
            Ok(_) | Err(_) => self.pipe = None,
        }
        None
    }

    /// Tells `bytes` live, and returns what was told.
    fn tell(&mut self, bytes: &[u8], call: &Call<'_>) -> Vec<u8> {
        let shown = self.masked.push(bytes);
        self.write(shown, call)
    }

    fn flush(&mut self, call: &Call<'_>) -> Vec<u8> {
        let shown = self.masked.finish();
        self.write(shown, call)
    }

    fn write(&self, shown: Vec<u8>, call: &Call<'_>) -> Vec<u8> {
        if !shown.is_empty() {
            call.output.write_now(self.stream, &shown);
        }
        shown
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Remembers the last line that says something: a carriage return begins a line anew, as it does in a terminal, and
/// escape sequences, control characters and blanks say nothing.
#[derive(Default)]
struct LastLine {
    /// The end of the line that is being written, in bytes as they came.
    current: Vec<u8>,
    /// Does `current` lack its beginning?
    is_cut: bool,
    said: String,
}

impl LastLine {
    fn push(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            self.current.extend_from_slice(piece);
            let excess = self.current.len().saturating_sub(LINE_KEPT);
            self.current.drain(..excess);
            self.is_cut |= excess > 0;
            if piece.ends_with(b"\n") || piece.ends_with(b"\r") {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let line = self.shown();
        let line = line.trim_matches(|c: char| c.is_whitespace() || c.is_control());
        if !line.is_empty() {
            line[line.ceil_char_boundary(line.len().saturating_sub(LAST_LINE_MAX))..].clone_into(&mut self.said);
        }
        self.current.clear();
        self.is_cut = false;
    }

    fn shown(&self) -> String {
        let shown = |from: usize| without_escapes(&String::from_utf8_lossy(&self.current[from..])).into_owned();
        let text = shown(0);
        if !self.is_cut || text.len() > LAST_LINE_MAX {
            return text;
        }
        // Mostly escape sequences, so the cut may have gone through one: what is left of that is no text.
        shown(self.current.iter().position(|&byte| byte == b'\x1b').unwrap_or_default())
    }

    fn into_text(mut self) -> String {
        self.end_line();
        self.said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_the_last_that_says_something() {
        let last = |pieces: &[&str]| {
            let mut line = LastLine::default();
            pieces.iter().for_each(|piece| line.push(piece.as_bytes()));
            line.into_text()
        };
        assert_eq!(last(&[]), "");
        assert_eq!(last(&["first\nsec", "ond\r\n\n  \n"]), "second");
    }

    #[test]
    fn progress_hid_the_reason_of_a_failure() {
        let progress: String = (0..400).map(|n| format!("\rfetching {n} of 400")).collect();
        let colours = "\x1b[31m".repeat(10_001);
        let link = "\x1b]8;;https://example.org/\x1b\\the log\x1b]8;;\x1b\\";
        for (said, expected) in [
            (format!("{progress}\rfatal: disk full\n"), "fatal: disk full"),
            (format!("{progress}\rfatal: disk full\r\x1b[K\r    \r"), "fatal: disk full"),
            ("fatal: disk full\n\x1b[0m\n\x1b[?25h\x07\n".to_owned(), "fatal: disk full"),
            (format!("fatal: disk full\n{colours}{colours}"), "fatal: disk full"),
            (format!("\x1b[1;31mfatal:\x1b[0m disk full, see {link}\n"), "fatal: disk full, see the log"),
            ("\x1b]0;never ended\nfatal: disk full".to_owned(), "fatal: disk full"),
        ] {
            for pieces in [said.len(), 1000, 7, 1] {
                let mut line = LastLine::default();
                said.as_bytes().chunks(pieces).for_each(|piece| line.push(piece));
                assert_eq!(line.into_text(), expected, "{pieces} bytes at a time");
            }
        }
    }

    #[test]
    fn of_a_long_last_line_the_end_is_kept() {
        let mut line = LastLine::default();
        line.push(format!("a\n{}: disk full\n", "ä".repeat(100_000)).as_bytes());
        let text = line.into_text();
        assert!(text.ends_with("ä: disk full") && (LAST_LINE_MAX - 1..=LAST_LINE_MAX).contains(&text.len()), "{text}");
    }
}
