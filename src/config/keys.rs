//! The table of all keys. The reader of the file, the environment and the command line all use it.

use std::sync::LazyLock;

use super::Config;
use super::setting::{Bounds, Kind, Raw, Setting};
use crate::auth::TICKETS_REMEMBERED_MAX;

/// The prefix of all environment variables.
pub(super) const VARIABLE_PREFIX: &str = "STEPCAST_";

/// Shorter names for the variables of some keys.
const VARIABLE_ALIASES: [(&str, &str); 1] = [("auth.jwt_secret", "STEPCAST_JWT_SECRET")];

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const SECOND: u64 = 1000;
const HOUR: u64 = 3600 * SECOND;
const DAY: u64 = 24 * HOUR;

/// The maximum for `executor.workers`: with 2 MiB of reserved stack per thread, 8 GiB of address space.
const WORKERS_MAX: u64 = 4096;

/// The maximum number of characters of an invalid value that an error repeats.
const SHOWN_CHARS_MAX: usize = 60;

/// Any number.
const ANY: Bounds = Bounds { min: 0, max: u64::MAX };
/// At least one: with zero, everyone would be refused or nothing would be kept.
const SOME: Bounds = Bounds { min: 1, max: u64::MAX };
/// A timeout of more than zero and at most a day.
const TIMEOUT: Bounds = Bounds { min: 1, max: DAY };

const fn bounds(min: u64, max: u64) -> Bounds {
    Bounds { min, max }
}

/// One setting: its place in the file and in [`Config`], and its help.
pub struct Key {
    /// Its place in the file: `sse.heartbeat`.
    pub path: &'static str,
    /// Its flag without the dashes: `sse-heartbeat`.
    pub flag: String,
    /// Its environment variable: `STEPCAST_SSE_HEARTBEAT`.
    pub variable: String,
    /// A shorter variable that also sets it; the full name takes precedence.
    pub variable_alias: Option<&'static str>,
    /// One line of help, with the default.
    pub help: String,
    bounds: Bounds,
    slot: fn(&mut Config) -> &mut dyn Setting,
}

/// Every key, in the order of the help.
pub static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
    let mut defaults = Config::default();
    ROWS.iter().map(|row| Key::new(row, &mut defaults)).collect()
});

impl Key {
    /// The key at `path`.
    pub fn at(path: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.path == path)
    }

    /// The placeholder of its value in the help: `DURATION`.
    pub fn value_name(&self) -> &'static str {
        self.kind().value_name()
    }

    /// Whether its value must never be shown.
    pub fn is_secret(&self) -> bool {
        self.kind() == Kind::Secret
    }

    /// What a value should be, for errors.
    pub(super) fn expected(&self) -> String {
        self.kind().expected(self.bounds)
    }

    /// What is wrong with a value of which `found` can't be taken: `expected a duration such as ..., found "5 parsecs"`.
    pub(super) fn mismatch(&self, found: &str) -> String {
        if self.is_secret() {
            return format!("expected {}", self.expected());
        }
        format!("expected {}, found {}", self.expected(), quoted(found))
    }

    pub(super) fn kind(&self) -> Kind {
        (self.slot)(&mut Config::default()).kind()
    }

    /// Sets its place in `config`.
    ///
    /// # Errors
    /// The part of `raw` that can't be taken.
    pub(super) fn set(&self, config: &mut Config, raw: &Raw<'_>) -> Result<(), String> {
        (self.slot)(config).set(raw, self.bounds)
    }

    /// What its value is where it is not set, if that is told in words: `derived from the file descriptor limit`.
    pub(super) fn default_in_words(&self) -> Option<&str> {
        Some(self.help.rsplit_once(" [default: ")?.1.trim_end_matches(']'))
    }

    /// The items of its value in `config`, where that is a list.
    pub(super) fn items(&self, config: &mut Config) -> Vec<String> {
        (self.slot)(config).items()
    }

    /// Its value in `config` as it would be written.
    pub(super) fn show(&self, config: &mut Config) -> Option<String> {
        (self.slot)(config).show()
    }

    fn new(row: &Row, defaults: &mut Config) -> Self {
        let Row { path, doc, bounds, slot } = *row;
        let help = match slot(defaults).show() {
            Some(default) => format!("{doc} [default: {default}]"),
            None => doc.to_owned(),
        };
        Self {
            path,
            flag: path.replace(['.', '_'], "-"),
            variable: format!("{VARIABLE_PREFIX}{}", path.replace('.', "_").to_ascii_uppercase()),
            variable_alias: VARIABLE_ALIASES.iter().find(|(of, _)| *of == path).map(|(_, alias)| *alias),
            help,
            bounds,
            slot,
        }
    }
}

/// The beginning of `text` in quotes, control characters escaped.
fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if shown.len() < text.len() { format!("{shown:?}...") } else { format!("{shown:?}") }
}

struct Row {
    path: &'static str,
    doc: &'static str,
    bounds: Bounds,
    slot: fn(&mut Config) -> &mut dyn Setting,
}

/// `path: bounds, doc;` makes a row; the path is the place in the file and in [`Config`] alike.
macro_rules! rows {
    ($($first:ident $(. $second:ident)?: $bounds:expr, $doc:literal;)+) => {
        &[$(Row {
            path: concat!(stringify!($first) $(, ".", stringify!($second))?),
            doc: $doc,
            bounds: $bounds,
            slot: |config| &mut config.$first $(.$second)?,
        }),+]
    };
}

const ROWS: &[Row] = rows! {
    listen: ANY, "Address and port to listen on, as host:port; port 0 picks a free port";
    server.hosts: ANY, "Host names that requests may use in addition to the host in listen";
    data: ANY, "Where messages and runs are stored: a directory, none (memory only), or postgres://user@host/db to share them between nodes";
    auth.mode: ANY, "Authentication: jwt requires a signed token, none requires nothing and is refused unless listen is a loopback address";
    auth.jwt_secret: ANY, "Secret for HS256, at least 32 bytes; in the file it may be a list: the first secret signs, all verify";
    auth.jwt_public_key: ANY, "Path of a PEM file with the public key for RS256, ES256 or EdDSA";
    auth.jwt_algorithm: ANY, "Algorithm that tokens must be signed with: HS256, RS256, ES256 or EdDSA";
    auth.jwks: ANY, "Key set (JWKS) of an identity provider: a file or an https:// URL; replaces auth.jwt_secret and auth.jwt_public_key";
    auth.issuer: ANY, "Accepted token issuers (claim iss) [default: any issuer whose key verifies the token]";
    auth.audience: ANY, "Accepted token audiences (claim aud) [default: any audience]";
    auth.projects_claim: ANY, "Claim that lists the projects of a token: a name, or a JSON pointer such as /app/projects";
    auth.scope_claim: ANY, "Claim that lists the scopes of a token: a name, or a JSON pointer such as /realm_access/roles";
    auth.leeway: bounds(0, HOUR), "How long a token is still accepted after it has expired";
    auth.ticket_ttl: bounds(1, HOUR), "How long a ticket is valid if it is not used";
    cors.allowed_origins: ANY, "Origins of other sites whose pages may call this server";
    sse.heartbeat: bounds(0, DAY), "Send a comment on a stream that has been idle for this long; 0s disables heartbeats";
    sse.retry: bounds(1, HOUR), "How long clients are told to wait before they reconnect (the retry: field)";
    sse.queue_bytes: bounds(KIB, GIB), "Maximum memory for unsent messages of one stream; a stream that falls further behind reads from history";
    sse.stall_timeout: TIMEOUT, "Close a stream whose client has read nothing for this long";
    history.messages: SOME, "Maximum number of messages kept for one project";
    history.bytes: bounds(64 * KIB, u64::MAX), "Maximum size of all kept messages and runs together";
    history.age: bounds(SECOND, u64::MAX), "How long messages are kept; time while the server is stopped does not count";
    history.runs: SOME, "Maximum number of ended runs kept for one project";
    store.synchronous: ANY, "Durability of a directory store: normal survives a killed process, full also survives a power failure";
    cluster.node_ttl: bounds(3 * SECOND, 300 * SECOND), "How long a node may be silent before other nodes take over its runs";
    cluster.wake: ANY, "How a node learns that others have written: notify (LISTEN), or poll for connection poolers that do not forward notifications";
    cluster.poll: bounds(10, 10 * SECOND), "How often a node checks what others have written if cluster.wake is poll";
    limits.connections: bounds(1, u32::MAX as u64), "Maximum number of open connections [default: derived from the file descriptor limit]";
    limits.connections_per_address: bounds(1, u32::MAX as u64), "Maximum number of open connections from one address";
    limits.requests_per_connection: bounds(1, u32::MAX as u64), "Maximum number of requests on one connection; it is closed after the last one";
    limits.buffer_bytes: bounds(64 * KIB, u64::MAX), "Maximum memory for buffered requests and responses of all connections together";
    limits.trusted_proxies: ANY, "Address ranges of proxies whose X-Forwarded-For header is trusted";
    limits.streams_per_token: bounds(1, u32::MAX as u64), "Maximum number of open streams for one token";
    limits.header_bytes: bounds(KIB, MIB), "Maximum size of a request head (request line and headers)";
    limits.target_bytes: bounds(256, MIB), "Maximum length of a request target (path and query)";
    limits.body_bytes: bounds(KIB, GIB), "Maximum size of a request body";
    limits.header_timeout: TIMEOUT, "Time limit for receiving a request head";
    limits.body_timeout: TIMEOUT, "Time limit for receiving a request body";
    limits.idle_timeout: TIMEOUT, "Close a connection on which no request has arrived for this long";
    limits.plan_steps: SOME, "Maximum number of steps in one plan";
    limits.output_bytes: bounds(256, 16 * MIB), "Maximum size of a step's output in a message; longer output is truncated there";
    limits.step_output_bytes: bounds(KIB, 512 * MIB), "Maximum size of the stored output of one step";
    limits.active_runs: SOME, "Maximum number of runs that execute at the same time";
    limits.queued_runs: ANY, "Maximum number of queued runs; 0 refuses a run that cannot start at once";
    limits.runs_per_project: ANY, "Maximum number of running and queued runs of one project; 0 means no limit per project";
    limits.projects: SOME, "Maximum number of projects that have messages or runs";
    limits.idempotency_bytes: bounds(64 * KIB, u64::MAX), "Maximum memory for the idempotency keys of the last 24 hours";
    limits.webhook_events: bounds(1, 1_000_000), "Maximum number of events queued for one webhook; beyond it the oldest are dropped";
    limits.webhook_body_bytes: bounds(KIB, 16 * MIB), "Maximum size of a webhook request body; a larger event is sent without its data";
    limits.stored_plans: ANY, "Maximum number of stored plans in one project; 0 disables stored plans";
    limits.stored_plan_bytes: bounds(64 * KIB, u64::MAX), "Maximum size of the stored plans of all projects together";
    limits.schedules: bounds(0, 100_000), "Maximum number of stored plans with a schedule, in all projects together";
    limits.tickets: bounds(1, TICKETS_REMEMBERED_MAX as u64), "Maximum number of used tickets remembered for one token subject, each until its token expires";
    limits.publish_rate: bounds(1, u32::MAX as u64), "Maximum number of messages that one token may publish per second";
    executor.workers: bounds(1, WORKERS_MAX), "Maximum number of tool calls that execute at the same time";
    executor.grace: bounds(0, HOUR), "How long active steps may continue after the server was told to stop";
    executor.interruptions: ANY, "How many times in a row a restart may interrupt a step before it fails; 0 means no limit";
    tls.cert: ANY, "Path of a PEM file with the certificate of the server and its chain; turns on https";
    tls.key: ANY, "Path of a PEM file with the private key of tls.cert";
    tls.listen: ANY, "Separate address and port for https; listen then stays plain http [default: listen itself serves https]";
    metrics.listen: ANY, "Separate address and port that serves /metrics [default: served with everything else]";
    log.level: ANY, "Most detailed messages to log: off, error, warn, info, debug or trace";
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_out_of_the_path() {
        let key = Key::at("limits.connections_per_address").expect("a key");
        assert_eq!(key.flag, "limits-connections-per-address");
        assert_eq!(key.variable, "STEPCAST_LIMITS_CONNECTIONS_PER_ADDRESS");
        assert_eq!(key.help, "Maximum number of open connections from one address [default: 1000]");
        assert_eq!(key.value_name(), "N");
        assert_eq!(Key::at("auth.jwt_secret").and_then(|key| key.variable_alias), Some("STEPCAST_JWT_SECRET"));
    }

    #[test]
    fn no_two_keys_share_a_path_a_flag_or_a_variable() {
        for (at, key) in KEYS.iter().enumerate() {
            for other in &KEYS[..at] {
                assert!(
                    key.path != other.path && key.flag != other.flag && key.variable != other.variable,
                    "{}",
                    key.path
                );
            }
        }
    }

    #[test]
    fn every_default_is_a_value_that_its_key_takes() {
        for key in KEYS.iter() {
            let Some(default) = key.show(&mut Config::default()) else { continue };
            let mut config = Config::default();
            assert_eq!(key.set(&mut config, &Raw::Text(&default)), Ok(()), "{}", key.path);
            assert_eq!(config, Config::default(), "{}", key.path);
        }
    }
}
