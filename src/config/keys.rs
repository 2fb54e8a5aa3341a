//! The one table of keys. The file's reader, the environment and the command line all walk it.

use std::sync::LazyLock;

use super::Config;
use super::setting::{Bounds, Kind, Raw, Setting};
use crate::auth::TICKETS_REMEMBERED_MAX;

/// What the names of all environment variables begin with.
pub(super) const VARIABLE_PREFIX: &str = "STEPCAST_";

/// A shorter name for a key's variable, for the one that is set most.
const VARIABLE_ALIASES: [(&str, &str); 1] = [("auth.jwt_secret", "STEPCAST_JWT_SECRET")];

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const SECOND: u64 = 1000;
const HOUR: u64 = 3600 * SECOND;
const DAY: u64 = 24 * HOUR;

/// The most threads that `executor.workers` may ask for: at 2 MiB of reserved stack each, 8 GiB of address space.
const WORKERS_MAX: u64 = 4096;

/// The longest part of a wrong value that an error repeats, in characters.
const SHOWN_CHARS_MAX: usize = 60;

/// Any number.
const ANY: Bounds = Bounds { min: 0, max: u64::MAX };
/// At least one: zero of it would refuse everyone, or keep nothing.
const SOME: Bounds = Bounds { min: 1, max: u64::MAX };
/// A timeout that can run out, and does within a day.
const TIMEOUT: Bounds = Bounds { min: 1, max: DAY };

const fn bounds(min: u64, max: u64) -> Bounds {
    Bounds { min, max }
}

/// One setting: where it stands in the file and in [`Config`], and what is told of it.
pub struct Key {
    /// Its place in the file: `sse.heartbeat`.
    pub path: &'static str,
    /// Its flag without the dashes: `sse-heartbeat`.
    pub flag: String,
    /// Its environment variable: `STEPCAST_SSE_HEARTBEAT`.
    pub variable: String,
    /// A shorter variable that sets it too; the full one beats it.
    pub variable_alias: Option<&'static str>,
    /// One line for people, with its default.
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

    /// What its value is called in the help: `DURATION`.
    pub fn value_name(&self) -> &'static str {
        self.kind().value_name()
    }

    /// Must its value never be shown?
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

    /// What its value is where it is not set, if that is told in words: `from the descriptor limit`.
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
    listen: ANY, "Where to listen: host:port; port 0 takes a free one";
    server.hosts: ANY, "Host names that requests may use, besides that in listen";
    data: ANY, "What keeps messages and runs: a directory, none (memory), or postgres://user@host/db for several nodes";
    auth.mode: ANY, "jwt asks for tokens, none asks for nothing (on loopback only)";
    auth.jwt_secret: ANY, "The secret of HS256, at least 32 bytes; the file takes a list, of which the first signs";
    auth.jwt_public_key: ANY, "A PEM file with the public key of RS256, ES256 or EdDSA";
    auth.jwt_algorithm: ANY, "What tokens are signed with: HS256, RS256, ES256 or EdDSA";
    auth.jwks: ANY, "The keys of an identity provider: a file or an https url, in place of a key of your own";
    auth.issuer: ANY, "Who may have issued a token; it must say so in iss [default: anyone who has the key]";
    auth.audience: ANY, "Whom a token may be meant for; it must say so in aud [default: anyone]";
    auth.projects_claim: ANY, "The claim with a token's projects, or a JSON pointer as /app/projects";
    auth.scope_claim: ANY, "The claim with what a token allows, or a JSON pointer as /realm_access/roles";
    auth.leeway: bounds(0, HOUR), "How long after its end a token still counts";
    auth.ticket_ttl: bounds(1, HOUR), "How long an unused ticket lives";
    cors.allowed_origins: ANY, "The origins of other sites whose pages may call";
    sse.heartbeat: bounds(0, DAY), "A stream that is idle for this long gets a comment; 0s turns that off";
    sse.retry: bounds(1, HOUR), "How long a client waits before it reconnects";
    sse.queue_bytes: bounds(KIB, GIB), "Memory that may wait for one stream; the rest it reads from history";
    sse.stall_timeout: TIMEOUT, "A stream that takes nothing for this long is closed";
    history.messages: SOME, "Messages kept of one project";
    history.bytes: bounds(64 * KIB, u64::MAX), "Bytes kept in all";
    history.age: bounds(SECOND, u64::MAX), "How long messages are kept, counted while the server runs";
    history.runs: SOME, "Ended runs of one project that stay listed";
    store.synchronous: ANY, "normal survives a killed process, full a power cut too";
    cluster.node_ttl: bounds(3 * SECOND, 300 * SECOND), "How long a silent node is believed alive; then others take its runs";
    cluster.wake: ANY, "How a node hears of others: notify, or poll behind a pooler that passes no notifications on";
    cluster.poll: bounds(10, 10 * SECOND), "How often a node looks for what others have written, with wake = poll";
    limits.connections: bounds(1, u32::MAX as u64), "Open connections [default: from the descriptor limit]";
    limits.connections_per_address: bounds(1, u32::MAX as u64), "Open connections from one address";
    limits.requests_per_connection: bounds(1, u32::MAX as u64), "Requests of one connection, which then is closed";
    limits.buffer_bytes: bounds(64 * KIB, u64::MAX), "What all connections may hold of requests and answers";
    limits.trusted_proxies: ANY, "Proxies whose X-Forwarded-For is believed";
    limits.streams_per_token: bounds(1, u32::MAX as u64), "Open streams of one token";
    limits.header_bytes: bounds(KIB, MIB), "The head of a request";
    limits.target_bytes: bounds(256, MIB), "The target of a request";
    limits.body_bytes: bounds(KIB, GIB), "The body of a request";
    limits.header_timeout: TIMEOUT, "How long a request's head may take";
    limits.body_timeout: TIMEOUT, "How long a request's body may take";
    limits.idle_timeout: TIMEOUT, "How long a connection may be kept without a request";
    limits.plan_steps: SOME, "Steps of one plan";
    limits.output_bytes: bounds(256, 16 * MIB), "A step's output in a message; the rest is cut there";
    limits.step_output_bytes: bounds(KIB, 512 * MIB), "What is kept of one step's output";
    limits.active_runs: SOME, "Runs at the same time";
    limits.queued_runs: ANY, "Runs that wait for a place; 0 lets none wait";
    limits.runs_per_project: ANY, "Runs of one project that run or wait; 0 sets no bound of its own";
    limits.projects: SOME, "Projects that have messages or runs";
    limits.idempotency_bytes: bounds(64 * KIB, u64::MAX), "What the Idempotency-Keys of the last 24 hours may take";
    limits.webhook_events: bounds(1, 1_000_000), "Events that may wait for one webhook; the oldest are given up";
    limits.webhook_body_bytes: bounds(KIB, 16 * MIB), "A webhook's event; a larger one is sent without its data";
    limits.stored_plans: ANY, "Plans stored in one project; 0 lets none be stored";
    limits.stored_plan_bytes: bounds(64 * KIB, u64::MAX), "What the stored plans of all projects may take";
    limits.schedules: bounds(0, 100_000), "Stored plans of all projects that have a schedule";
    limits.tickets: bounds(1, TICKETS_REMEMBERED_MAX as u64), "Used tickets per token subject, each until its token ends";
    limits.publish_rate: bounds(1, u32::MAX as u64), "Messages that one token may publish in a second";
    executor.workers: bounds(1, WORKERS_MAX), "Tool calls at the same time";
    executor.grace: bounds(0, HOUR), "How long active steps may go on once asked to end";
    executor.interruptions: ANY, "Restarts in a row that may interrupt a step before it fails; 0 sets no bound";
    tls.cert: ANY, "A PEM file with the server's certificate and those above it: clients come by https";
    tls.key: ANY, "A PEM file with the private key of tls.cert";
    tls.listen: ANY, "Where TLS is spoken besides listen, which is plain then [default: at listen itself]";
    metrics.listen: ANY, "An address of its own for /metrics";
    log.level: ANY, "off, error, warn, info, debug or trace";
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_out_of_the_path() {
        let key = Key::at("limits.connections_per_address").expect("a key");
        assert_eq!(key.flag, "limits-connections-per-address");
        assert_eq!(key.variable, "STEPCAST_LIMITS_CONNECTIONS_PER_ADDRESS");
        assert_eq!(key.help, "Open connections from one address [default: 1000]");
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
