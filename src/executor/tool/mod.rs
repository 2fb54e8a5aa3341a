//! The [`Tool`] trait, its calls and their outcomes, and the declarations of tools.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::model::{Approval, ProjectId, RunId, StepId};

/// A tool, which steps call by name. Worker threads call it, several at the same time.
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
    /// Makes one attempt. A panic fails the attempt and nothing else.
    ///
    /// # Errors
    /// The attempt failed. The text is shown to everyone who watches the run.
    fn call(&self, call: &Call<'_>) -> Result<Outcome, ToolError>;

    /// Checks `inputs` and returns the issues as pairs of a path within the inputs and a message. Accepts everything by
    /// default.
    ///
    /// It is called when a plan is checked, with templates still as strings, and again before each call, with the
    /// templates evaluated. A string with a template may become any value; `is_template` recognises such strings.
    fn check_inputs(&self, inputs: &Map<String, Value>, is_template: &dyn Fn(&str) -> bool) -> Vec<(String, String)> {
        let _ = (inputs, is_template);
        Vec::new()
    }

    /// The maximum duration of an attempt, which a step can't extend; unlimited by default.
    fn timeout(&self) -> Option<Duration> {
        None
    }

    /// The timeout of an attempt if neither the step nor [`timeout`](Self::timeout) sets one; unlimited by default.
    fn default_timeout(&self) -> Option<Duration> {
        None
    }

    /// Whether an attempt that a crash interrupted may be repeated; true by default. If false, a retry also does not start
    /// while an attempt that was given up may still be running.
    fn rerun(&self) -> bool {
        true
    }

    /// Whether the tool may change the plan of its run; false by default. If true, the member `$plan` of its output is a
    /// change as in `PATCH .../workflows/:runId/plan`, which is made when the step completes.
    fn may_plan(&self) -> bool {
        false
    }

    /// Whether the tool only waits, with [`Outcome::After`]; false by default. `executor.interruptions` does not limit how
    /// often a restart may interrupt such a tool.
    fn only_waits(&self) -> bool {
        false
    }

    /// Whether the tool may return [`Outcome::Plan`]; false by default. If true, a restart cancels the child runs of
    /// attempts that are over; the child runs of a tool that returns it nevertheless may continue until the run ends. Only
    /// the tool `plan` does: for any other tool, metrics count the usage of child runs as its own.
    fn runs_plans(&self) -> bool {
        false
    }

    /// Whether steps with `forEach` may call the tool; true by default.
    fn fits_for_each(&self) -> bool {
        true
    }

    /// Whether [`call`](Self::call) returns at once, without waiting and without live output; false by default. If true
    /// and the step's inputs contain no template, the executor's own thread makes the call, without a worker.
    fn is_instant(&self) -> bool {
        false
    }

    /// The maximum language model usage of all attempts of a run at this tool, as they [report](OutputSink::usage) it;
    /// unlimited by default. A run that reaches it ends.
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
    /// The index of the item, counted from 0, if the step has `forEach`.
    pub item: Option<u32>,
    /// The number of the attempt, counted from 1.
    pub attempt: u32,
    /// The step's inputs, with templates evaluated.
    pub inputs: &'a Map<String, Value>,
    /// Receives live output.
    pub output: &'a dyn OutputSink,
    /// Set when the attempt must end.
    pub cancel: &'a CancelToken,
}

/// Receives a step's live output.
pub trait OutputSink: Sync {
    /// Writes `bytes`, which may end within a character or a line. If the log is behind and the call has written much in
    /// the meantime, this waits for the log, or until the call is cancelled.
    fn write(&self, stream: OutputStream, bytes: &[u8]);

    /// If [`write`](Self::write) would wait: a descriptor that becomes readable when it no longer would, to be polled
    /// together with others.
    fn paused(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Like [`write`](Self::write), but never waits: for tools that stop reading while the sink is
    /// [paused](Self::paused).
    fn write_now(&self, stream: OutputStream, bytes: &[u8]) {
        self.write(stream, bytes);
    }

    /// Reports the language model usage of the call so far, each time in total. The last report counts, even if the call
    /// fails.
    fn usage(&self, usage: &Usage) {
        let _ = usage;
    }
}

/// The outcome of a successful attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The step completes with this output.
    Output(Value),
    /// The step completes with this output after this time. No worker waits for it. In an attempt that repeats one that a
    /// restart interrupted, the time counts from the start of the interrupted one.
    After(Duration, Value),
    /// Starts a stored plan of the project as a separate run. The step completes with that run's output when it ends. No
    /// worker waits for it.
    Plan {
        /// The stored plan's name.
        name: String,
        /// Inputs that override its stored inputs, key by key.
        inputs: Map<String, Value>,
    },
    /// The step waits until someone decides, at most for this time if there is one. No worker waits for it.
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
    /// An error with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), retry_after: None, failure: None }
    }

    /// Adds the time before which a retry would be useless. It extends the delay before the retry, up to the step's
    /// `maxDelay`.
    #[must_use]
    pub fn with_retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// How long a retry should wait, if known.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Adds the kind of failure, which a step's `retryOn` is compared with.
    #[must_use]
    pub fn with_failure(self, failure: Failure) -> Self {
        Self { failure: Some(failure), ..self }
    }

    /// The kind of failure, if known.
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

/// A tool that is declared in the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolDeclaration {
    /// The name that steps use.
    pub name: String,
    /// The maximum duration of an attempt, which a step can't extend.
    pub timeout: Option<Duration>,
    /// Whether an attempt that a crash interrupted may be repeated.
    pub rerun: bool,
    /// Whether its output may change the plan of its run.
    pub may_plan: bool,
    /// JSON Schema that inputs must satisfy.
    pub inputs: Option<Value>,
    /// How the language model usage is read from its responses.
    pub usage: UsageSpec,
    /// The maximum usage of a run at this tool.
    pub budget: Budget,
    /// The kind of tool, with its settings.
    pub kind: ToolKind,
}

/// What a declared tool does.
#[derive(Debug, Clone, PartialEq)]
pub enum ToolKind {
    /// Runs a program.
    Command(CommandSpec),
    /// Sends an HTTP request; refused if the program was built without the feature `http-tool`.
    Http(HttpSpec),
}

/// A program to run. Its arguments, `cwd` and the values of `env` may contain templates over the step's inputs; the program
/// itself may not. A value inserted into `cwd` must be a single file name.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct CommandSpec {
    /// The program and its arguments. No shell is involved.
    pub argv: Vec<String>,
    /// The working directory; by default the server's.
    pub cwd: Option<String>,
    /// Variables to set. The value of a variable whose name contains KEY, TOKEN, SECRET, PASS or CREDENTIAL is a secret
    /// and is masked in outputs and errors; other values are not.
    pub env: Vec<(String, String)>,
    /// Names of variables to pass on from the server's environment, in addition to `PATH`. Their values are secrets by the
    /// same rule.
    pub pass_env: Vec<String>,
    /// The user to run as; requires `gid`. The server's supplementary groups are dropped.
    pub uid: Option<u32>,
    /// The group to run as.
    pub gid: Option<u32>,
    /// Its resource limits.
    pub limits: CommandLimits,
}

/// The resource limits of a command and of each process that it starts; a limit that is not set is the server's own. If any
/// is set, core dumps are disabled, too. A program that embeds this crate must call [`launch_if_asked`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CommandLimits {
    /// CPU time in seconds; then SIGXCPU, and SIGKILL a second later.
    pub cpu_seconds: Option<u64>,
    /// Address space in bytes, which is more than the memory in use.
    pub memory_bytes: Option<u64>,
    /// The size of the largest file that it may write; then SIGXFSZ.
    pub file_bytes: Option<u64>,
    /// Open file descriptors.
    pub open_files: Option<u64>,
    /// All processes and threads of its user, whoever started them; requires a `uid` other than 0.
    pub processes: Option<u64>,
}

/// A request to send. `url`, the values of `headers` and the strings of `body` may contain templates over the step's inputs.
/// An inserted value can't lead to another path, or to a server that `allow_hosts` does not list.
#[derive(Clone, PartialEq, Default)]
pub struct HttpSpec {
    /// The method, such as `GET` or `POST`.
    pub method: String,
    /// The URL.
    pub url: String,
    /// Headers to send. Their values are secrets and are masked in outputs and errors, except for `Accept`, `Content-Type`
    /// and similar headers.
    pub headers: Vec<(String, String)>,
    /// The JSON body. Without it, POST, PUT and PATCH send the inputs.
    pub body: Option<Value>,
    /// Whether to follow redirects, on the same server or to one of `allow_hosts`.
    pub allow_redirects: bool,
    /// Servers that are allowed in addition to the one in `url`: `host` with the scheme's default port, or `host:port`;
    /// `*.domain` matches all subdomains. If the host or port of `url` contains a template, only these are allowed.
    pub allow_hosts: Vec<String>,
    /// An expression over `event`, the parsed JSON of one event of a streamed response, that selects its text.
    pub stream_text: Option<String>,
    /// An expression over `event` that selects an error, with which the attempt fails. Null, false, 0 and empty values are
    /// no error; `true` stands for the whole event. In addition, an SSE event named `error` is always an error.
    pub stream_error: Option<String>,
}
