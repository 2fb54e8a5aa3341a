//! What a step calls: the [`Tool`] trait, the calls made of it, and what it answers.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::model::{Approval, ProjectId, RunId, StepId};

/// Something a step can call by name. Called from worker threads, several calls at once.
///
/// ```
/// use serde_json::{Value, json};
/// use stepcast::tool::{Call, Outcome, Tool, ToolError};
///
/// struct Greet;
///
/// impl Tool for Greet {
///     fn call(&self, call: &Call<'_>) -> Result<Outcome, ToolError> {
///         let name = call.inputs.get("name").and_then(Value::as_str).ok_or("no name")?;
///         Ok(Outcome::Output(json!(format!("hello, {name}"))))
///     }
/// }
/// ```
pub trait Tool: Send + Sync {
    /// Does the work of one attempt. A panic fails the attempt, nothing else.
    ///
    /// # Errors
    /// What makes the attempt fail; its text is shown to everyone who watches.
    fn call(&self, call: &Call<'_>) -> Result<Outcome, ToolError>;

    /// What is wrong with `inputs`, as (path below the inputs, message); nothing by default.
    ///
    /// Asked when a plan is checked, with templates still in place as strings, and again before a call, with them filled
    /// in. A string that holds a template may become any value, so `is_template` tells which to let pass.
    fn check_inputs(&self, inputs: &Map<String, Value>, is_template: &dyn Fn(&str) -> bool) -> Vec<(String, String)> {
        let _ = (inputs, is_template);
        Vec::new()
    }

    /// The most that an attempt may take, whatever a step says; for ever by default.
    fn timeout(&self) -> Option<Duration> {
        None
    }

    /// How long an attempt may take where neither the step nor [`timeout`](Self::timeout) says; for ever by default.
    fn default_timeout(&self) -> Option<Duration> {
        None
    }

    /// May an attempt that a crash interrupted be made again? Yes by default. Where not, no retry begins either while an
    /// attempt that was given up may still go on.
    fn rerun(&self) -> bool {
        true
    }

    /// May it change the plan of its run? Not by default. Where it may, what its output has under `$plan` is a change, as
    /// `PATCH .../workflows/:runId/plan` takes one, and is made when the step completes.
    fn may_plan(&self) -> bool {
        false
    }

    /// Does it nothing but wait, by [`Outcome::After`]? No by default. `executor.interruptions` does not bound how often
    /// a restart may interrupt what only waits.
    fn only_waits(&self) -> bool {
        false
    }

    /// May it answer [`Outcome::Plan`]? No by default. Where it may, a restart asks the runs to end that attempts have begun
    /// which are over; of a tool that answers so all the same they may go on until the run ends. The tool `plan` alone does:
    /// what the steps of any other tell to have used, that of children with it, counts as its own in metrics.
    fn runs_plans(&self) -> bool {
        false
    }

    /// May a step call it for each item of an array? Yes by default.
    fn fits_for_each(&self) -> bool {
        true
    }

    /// Does [`call`](Self::call) compute next to nothing, wait for nothing, and write no live output? No by default. Where
    /// the step's inputs hold no template the executor's own thread makes the call then, without a worker.
    fn is_instant(&self) -> bool {
        false
    }

    /// What a run may use at this tool, all of its attempts together, as they [tell](OutputSink::usage) it; without bound
    /// by default. A run that has used as much ends.
    fn budget(&self) -> Budget {
        Budget::default()
    }
}

/// One attempt at one step.
pub struct Call<'a> {
    /// The run's project.
    pub project: &'a ProjectId,
    /// The run.
    pub run: &'a RunId,
    /// The step.
    pub step: &'a StepId,
    /// The item that it is called for, counted from 0, of a step that has any.
    pub item: Option<u32>,
    /// Counted from 1.
    pub attempt: u32,
    /// The step's inputs, templates filled in.
    pub inputs: &'a Map<String, Value>,
    /// Where live output goes.
    pub output: &'a dyn OutputSink,
    /// Says when to give up.
    pub cancel: &'a CancelToken,
}

/// Takes a step's live output.
pub trait OutputSink: Sync {
    /// Hands over `bytes` as they came; they need not end at a character or a line. Where the log is behind and the call has
    /// said much since, it waits for the log, or for the call to be cancelled.
    fn write(&self, stream: OutputStream, bytes: &[u8]);

    /// Would [`write`](Self::write) wait? Then the descriptor that becomes readable when it would no longer, to poll beside
    /// others.
    fn paused(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// As [`write`](Self::write), and never waits: for a tool that stops reading while it is [paused](Self::paused).
    fn write_now(&self, stream: OutputStream, bytes: &[u8]) {
        self.write(stream, bytes);
    }

    /// Tells what the call has used so far of a language model: all of it, each time. The last that is told counts, also
    /// where the call fails.
    fn usage(&self, usage: &Usage) {
        let _ = usage;
    }
}

/// How an attempt ended well.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The step is done, with this output.
    Output(Value),
    /// The step is done when this time has passed, with this output. No worker waits for it. In an attempt that makes up
    /// for one that a restart interrupted, the time counts from when the interrupted one started.
    After(Duration, Value),
    /// A stored plan of the project is run as a run of its own, and the step is done when that is: its output is that run's.
    /// No worker waits for it.
    Plan {
        /// The stored plan's name.
        name: String,
        /// Laid over its stored inputs, key by key.
        inputs: Map<String, Value>,
    },
    /// The step waits until someone decides, for this long at most where that is there. No worker waits for it.
    Wait(Box<Approval>, Option<Duration>),
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolError {
    text: String,
    retry_after: Option<Duration>,
    failure: Option<Failure>,
}

impl ToolError {
    /// An error that reads `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), retry_after: None, failure: None }
    }

    /// The error, knowing that a further attempt has no chance before `wait` has passed. It lengthens the delay before the
    /// next attempt, up to the step's `maxDelay`.
    #[must_use]
    pub fn with_retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// How long a further attempt should wait, where the tool knows.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The error, knowing what made the attempt fail: what a step's `retryOn` is held against.
    #[must_use]
    pub fn with_failure(self, failure: Failure) -> Self {
        Self { failure: Some(failure), ..self }
    }

    /// What made the attempt fail, where the tool knows.
    pub fn failure(&self) -> Option<Failure> {
        self.failure
    }

    /// The error with another text.
    fn map_text(self, change: impl FnOnce(&str) -> String) -> Self {
        Self { text: change(&self.text), ..self }
    }
}

impl<T: Into<String>> From<T> for ToolError {
    fn from(text: T) -> Self {
        Self::new(text)
    }
}

impl fmt::Display for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

pub(in crate::executor) mod approval;
mod builtin;
mod cancel;
mod command;
mod declared;
#[cfg(test)]
mod fixture;
#[cfg(feature = "http-tool")]
mod http;
mod kept;
mod mask;
mod masked;
mod pick;
pub(crate) mod registry;
mod render;
mod schema;
mod usage;

pub use self::cancel::CancelToken;
pub use self::command::launch_if_asked;
pub(crate) use self::command::{descriptors_at_start, kill_commands};
pub(crate) use self::declared::ToolSettings;
pub(crate) use self::registry::Registry;
pub(super) use self::schema::Schema;
pub(crate) use self::usage::UsageFaults;
pub use self::usage::UsageSpec;
pub use crate::model::{Budget, Cost, Failure, OutputStream, Price, Usage};

/// A tool as the configuration declares it.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolDeclaration {
    /// What steps call it by.
    pub name: String,
    /// The most that an attempt may take, whatever a step says.
    pub timeout: Option<Duration>,
    /// May an attempt that a crash interrupted be made again?
    pub rerun: bool,
    /// May its output change the plan of its run?
    pub may_plan: bool,
    /// JSON Schema that inputs must satisfy.
    pub inputs: Option<Value>,
    /// Where its answers say what they have used of a language model.
    pub usage: UsageSpec,
    /// What a run may use at it.
    pub budget: Budget,
    /// What it does.
    pub kind: ToolKind,
}

/// What a declared tool does.
#[derive(Debug, Clone, PartialEq)]
pub enum ToolKind {
    /// Runs a program.
    Command(CommandSpec),
    /// Sends an HTTP request; refused where the program is built without the feature `http-tool`.
    Http(HttpSpec),
}

/// A program to run. Templates over the step's inputs are filled in inside its arguments, `cwd` and the values of `env`;
/// the program itself has none. What is filled in inside `cwd` must be a file name.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct CommandSpec {
    /// The program and its arguments; never seen by a shell.
    pub argv: Vec<String>,
    /// Where it runs; the server's own directory otherwise.
    pub cwd: Option<String>,
    /// Variables to set. Their values are secrets: they never show in what people see.
    pub env: Vec<(String, String)>,
    /// Variables to pass on from the server's own environment, besides `PATH`. Those called like a key, token, secret,
    /// password or credential are secrets too.
    pub pass_env: Vec<String>,
    /// The user to run as; needs a group beside it. The server's other groups are dropped.
    pub uid: Option<u32>,
    /// The group to run as.
    pub gid: Option<u32>,
    /// What it may use up.
    pub limits: CommandLimits,
}

/// What a command, and each process that it starts, may use up; what is not named here it shares with the server. With any
/// of them, it leaves no core dumps either. See [`launch_if_asked`] for what a program that embeds this crate must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CommandLimits {
    /// Time on a processor: then SIGXCPU, and SIGKILL a second later.
    pub cpu_seconds: Option<u64>,
    /// Address space, which is more than the memory in use.
    pub memory_bytes: Option<u64>,
    /// The largest file that it may write: then SIGXFSZ.
    pub file_bytes: Option<u64>,
    /// Descriptors.
    pub open_files: Option<u64>,
    /// Processes and threads of its user, whoever started them; needs a user that is not root.
    pub processes: Option<u64>,
}

/// A request to send. Templates over the step's inputs are filled in inside `url`, the values of `headers` and the
/// strings of `body`. What is filled in can lead to no other path, and to no server but one of `allow_hosts`.
#[derive(Clone, PartialEq, Default)]
pub struct HttpSpec {
    /// As on the wire: `GET`, `POST`.
    pub method: String,
    /// Where to.
    pub url: String,
    /// Headers to send. Their values are secrets, but for `Accept`, `Content-Type` and the like: they never show in what
    /// people see.
    pub headers: Vec<(String, String)>,
    /// What to send; without it POST, PUT and PATCH send the inputs.
    pub body: Option<Value>,
    /// Follow redirects, on the same server or to one of `allow_hosts`?
    pub allow_redirects: bool,
    /// Servers that may be asked besides the one that `url` names: `host`, at the scheme's own port, or `host:port`;
    /// `*.domain` is all below it. Where a template is part of `url`'s host or port, only these may be asked.
    pub allow_hosts: Vec<String>,
    /// An expression over `event`, the parsed JSON of one event of a streamed answer, that picks its text.
    pub stream_text: Option<String>,
    /// An expression over `event` that picks the error which an event tells of; the attempt fails with it. Null, false, 0
    /// and what is empty are none; `true` stands for the whole event. Besides, an SSE event called `error` is one.
    pub stream_error: Option<String>,
}
