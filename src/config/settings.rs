//! All settings with their types and defaults. This file says what each setting means;
//! [`keys`](super::keys) says how it is written.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;

use super::{Cidr, Hosts, KeyLocation, ListenAddress, Origins, PostgresUrl, Secret};
use crate::auth::TICKETS_REMEMBERED_MAX;
use crate::executor::tool::ToolDeclaration;
use crate::webhooks::WebhookDeclaration;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Worker threads per core: steps mostly wait for programs and servers, so more threads than cores are useful.
const WORKERS_PER_CORE: usize = 4;

/// Every setting of the program.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The address that the server listens on.
    pub listen: ListenAddress,
    /// The names of the server.
    pub server: ServerConfig,
    /// Where messages and runs are stored.
    pub data: DataLocation,
    /// Authentication.
    pub auth: AuthConfig,
    /// Access from pages of other origins.
    pub cors: CorsConfig,
    /// Event streams.
    pub sse: SseConfig,
    /// Limits on stored history.
    pub history: HistoryConfig,
    /// Durability of the store.
    pub store: StoreConfig,
    /// Several nodes that share a store.
    pub cluster: ClusterConfig,
    /// Limits on clients.
    pub limits: LimitsConfig,
    /// Execution of plans.
    pub executor: ExecutorConfig,
    /// TLS for clients.
    pub tls: TlsConfig,
    /// Metrics.
    pub metrics: MetricsConfig,
    /// The program's own log.
    pub log: LogConfig,
    /// The tools that the file declares, in the order of the file.
    pub tools: Vec<ToolDeclaration>,
    /// The webhooks that the file declares.
    pub webhooks: Vec<WebhookDeclaration>,
}

/// Where messages and runs are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataLocation {
    /// In memory: lost when the program ends.
    Memory,
    /// In this directory, which is created if it does not exist. A relative path starts at the working directory.
    Directory(PathBuf),
    /// In this database, shared with all other nodes that use it.
    Postgres(PostgresUrl),
}

impl Default for DataLocation {
    /// `./stepcast-data`, or in memory if the program was built without the feature `sqlite`.
    fn default() -> Self {
        match cfg!(feature = "sqlite") {
            true => Self::Directory("./stepcast-data".into()),
            false => Self::Memory,
        }
    }
}

/// `server.*`: the names of the server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerConfig {
    /// Host names of the server in addition to the one in `listen`, such as its public name behind a proxy. Without
    /// authentication a request for any other name is refused; with it, pages of any other name count as another origin.
    pub hosts: Hosts,
}

/// `auth.*`: authentication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthConfig {
    /// Whether tokens are required.
    pub mode: AuthMode,
    /// The secrets for HS256: the first one signs, all verify.
    pub jwt_secret: Vec<Secret>,
    /// The PEM file with the public key for the other algorithms.
    pub jwt_public_key: Option<PathBuf>,
    /// The only algorithm that tokens may be signed with.
    pub jwt_algorithm: JwtAlgorithm,
    /// The key set of an identity provider; replaces the three settings above.
    pub jwks: Option<KeyLocation>,
    /// Accepted issuers (`iss`); if empty, any issuer whose key verifies the token.
    pub issuer: Vec<String>,
    /// Accepted audiences (`aud`); if empty, any.
    pub audience: Vec<String>,
    /// The claim that lists the projects; a JSON pointer if it begins with `/`.
    pub projects_claim: String,
    /// The claim that lists the scopes; a JSON pointer if it begins with `/`.
    pub scope_claim: String,
    /// How long a token is still accepted after its `exp`.
    pub leeway: Duration,
    /// How long an unused ticket is valid.
    pub ticket_ttl: Duration,
}

/// `cors.*`: access from pages of other origins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CorsConfig {
    /// The origins whose pages may call this server.
    pub allowed_origins: Origins,
}

/// `sse.*`: event streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SseConfig {
    /// A stream that was idle for this long is sent a comment; zero disables this.
    pub heartbeat: Duration,
    /// How long the `retry:` field tells clients to wait before they reconnect.
    pub retry: Duration,
    /// Maximum unsent bytes in memory for one stream; a stream that falls further behind reads from history.
    pub queue_bytes: u64,
    /// A stream whose client reads nothing for this long is closed.
    pub stall_timeout: Duration,
}

/// `history.*`: limits on stored history. What exceeds one of them is deleted, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryConfig {
    /// Maximum messages of one project.
    pub messages: usize,
    /// Maximum bytes in total.
    pub bytes: u64,
    /// Maximum age of a message.
    pub age: Duration,
    /// Maximum ended runs of one project.
    pub runs: usize,
}

/// `store.*`: durability of the store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreConfig {
    /// What a stored message survives.
    pub synchronous: Synchronous,
}

/// `cluster.*`: several nodes that share a store. Not used with a store that cannot be shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterConfig {
    /// How long a node may be silent before its runs are taken over.
    pub node_ttl: Duration,
    /// How a node learns that others have written.
    pub wake: Wake,
    /// How often it checks, with [`Wake::Poll`].
    pub poll: Duration,
}

/// `limits.*`: limits on clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Maximum open connections; `None` derives it from the descriptor limit at start.
    pub connections: Option<u32>,
    /// Maximum open connections from one address.
    pub connections_per_address: u32,
    /// Maximum requests on one connection; the response to the last one closes it.
    pub requests_per_connection: u32,
    /// Maximum bytes of incomplete requests and unsent responses, of all connections together.
    pub buffer_bytes: u64,
    /// Proxies whose `X-Forwarded-For` is trusted.
    pub trusted_proxies: Vec<Cidr>,
    /// Maximum open streams for one token.
    pub streams_per_token: u32,
    /// Maximum size of a request head, in bytes.
    pub header_bytes: u64,
    /// Maximum length of a request target, in bytes.
    pub target_bytes: u64,
    /// Maximum size of a request body, in bytes.
    pub body_bytes: u64,
    /// Time limit from the first byte of a connection, or of its next request, to the end of the head.
    pub header_timeout: Duration,
    /// Time limit from the end of the head to the end of the body.
    pub body_timeout: Duration,
    /// Time after which a connection without a request is closed.
    pub idle_timeout: Duration,
    /// Maximum steps in one plan.
    pub plan_steps: usize,
    /// Maximum bytes of a step's output in a message; longer output is truncated there.
    pub output_bytes: u64,
    /// Maximum stored bytes of one step's output.
    pub step_output_bytes: u64,
    /// Maximum runs that execute at the same time.
    pub active_runs: usize,
    /// Maximum queued runs; with zero, a run that cannot start at once is refused.
    pub queued_runs: usize,
    /// Maximum running and queued runs of one project; zero means no limit per project.
    pub runs_per_project: usize,
    /// Maximum projects that have messages or runs.
    pub projects: usize,
    /// Maximum bytes for the idempotency keys and chosen run ids of the last 24 hours.
    pub idempotency_bytes: u64,
    /// Maximum events queued for one webhook; beyond it the oldest are dropped.
    pub webhook_events: usize,
    /// Maximum bytes of a webhook request body; a larger event is sent without its data.
    pub webhook_body_bytes: u64,
    /// Maximum stored plans in one project.
    pub stored_plans: usize,
    /// Maximum bytes of the stored plans of all projects.
    pub stored_plan_bytes: u64,
    /// Maximum stored plans with a schedule, in all projects together.
    pub schedules: usize,
    /// Maximum used tickets remembered for one token subject, each until its token expires; beyond it the subject gets no
    /// new ticket.
    pub tickets: usize,
    /// Maximum messages that one token may publish per second.
    pub publish_rate: u32,
}

/// `executor.*`: execution of plans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutorConfig {
    /// Maximum tool calls at the same time; each has a thread.
    pub workers: usize,
    /// How long active steps may continue after the program was told to stop.
    pub grace: Duration,
    /// How many times in a row a restart may interrupt a step before it fails; 0 means no limit.
    pub interruptions: u32,
}

/// `tls.*`: TLS for clients. Certificate and key are both set, or neither is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsConfig {
    /// A PEM file: the server's certificate, and after it those up to one that clients trust.
    pub cert: Option<PathBuf>,
    /// A PEM file with its private key.
    pub key: Option<PathBuf>,
    /// Where TLS is spoken, besides `listen` and `metrics.listen`, which are plain then; `None` speaks it at both of them.
    pub listen: Option<ListenAddress>,
}

/// `metrics.*`: metrics.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MetricsConfig {
    /// A separate address for metrics; `None` serves them with everything else.
    pub listen: Option<ListenAddress>,
}

/// `log.*`: the log of the program, on stderr.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// The most detailed level that is logged.
    pub level: LevelFilter,
}

/// An enum whose variants are words of the configuration.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl $name {
            /// The words, in the order of the variants.
            pub(crate) const WORDS: &'static [&'static str] = &[$($word),+];

            /// The variant's word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The variant of this word.
            pub(crate) fn parse(text: &str) -> Option<Self> {
                match text { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// `auth.mode`: whether tokens are required.
    AuthMode {
        /// Signed tokens are required.
        #[default]
        Jwt = "jwt",
        /// No tokens: everyone has full access.
        None = "none",
    }
}

words! {
    /// `auth.jwt_algorithm`: how tokens are signed.
    JwtAlgorithm {
        /// HMAC with SHA-256: one shared secret.
        #[default]
        Hs256 = "HS256",
        /// RSA (PKCS #1 v1.5) with SHA-256.
        Rs256 = "RS256",
        /// ECDSA over P-256 with SHA-256.
        Es256 = "ES256",
        /// Ed25519.
        EdDsa = "EdDSA",
    }
}

words! {
    /// `store.synchronous`: what a stored message survives.
    Synchronous {
        /// A kill of the process.
        #[default]
        Normal = "normal",
        /// A power failure too, at the cost of a disk flush per batch.
        Full = "full",
    }
}

words! {
    /// `cluster.wake`: how a node learns that others have written.
    Wake {
        /// By notifications of the database (`LISTEN`), on a connection of its own.
        #[default]
        Notify = "notify",
        /// By polling: for connection poolers that do not forward notifications.
        Poll = "poll",
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: ListenAddress::new(Ipv4Addr::LOCALHOST.into(), 8080),
            server: ServerConfig::default(),
            data: DataLocation::default(),
            auth: AuthConfig::default(),
            cors: CorsConfig::default(),
            sse: SseConfig::default(),
            history: HistoryConfig::default(),
            store: StoreConfig::default(),
            cluster: ClusterConfig::default(),
            limits: LimitsConfig::default(),
            executor: ExecutorConfig::default(),
            tls: TlsConfig::default(),
            metrics: MetricsConfig::default(),
            log: LogConfig::default(),
            tools: Vec::new(),
            webhooks: Vec::new(),
        }
    }
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            mode: AuthMode::Jwt,
            jwt_secret: Vec::new(),
            jwt_public_key: None,
            jwt_algorithm: JwtAlgorithm::Hs256,
            jwks: None,
            issuer: Vec::new(),
            audience: Vec::new(),
            projects_claim: "projects".to_owned(),
            scope_claim: "scope".to_owned(),
            leeway: Duration::ZERO,
            ticket_ttl: Duration::from_secs(15),
        }
    }
}

impl Default for SseConfig {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(15),
            retry: Duration::from_secs(2),
            queue_bytes: 256 * KIB,
            stall_timeout: Duration::from_secs(30),
        }
    }
}

impl Default for HistoryConfig {
    fn default() -> Self {
        Self { messages: 10_000, bytes: GIB, age: Duration::from_secs(7 * 86_400), runs: 1000 }
    }
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self { node_ttl: Duration::from_secs(15), wake: Wake::default(), poll: Duration::from_millis(200) }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            connections: None,
            connections_per_address: 1000,
            requests_per_connection: 1_000_000,
            buffer_bytes: 64 * MIB,
            trusted_proxies: vec![
                Cidr::new(Ipv4Addr::new(127, 0, 0, 0).into(), 8),
                Cidr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
            ],
            streams_per_token: 256,
            header_bytes: 16 * KIB,
            target_bytes: 8 * KIB,
            body_bytes: MIB,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            plan_steps: 10_000,
            output_bytes: 64 * KIB,
            step_output_bytes: 64 * MIB,
            active_runs: 256,
            queued_runs: 1024,
            runs_per_project: 0,
            projects: 100_000,
            idempotency_bytes: 256 * MIB,
            webhook_events: 10_000,
            webhook_body_bytes: 256 * KIB,
            stored_plans: 1000,
            stored_plan_bytes: 256 * MIB,
            schedules: 1000,
            tickets: TICKETS_REMEMBERED_MAX,
            publish_rate: 1000,
        }
    }
}

impl Default for ExecutorConfig {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { workers: WORKERS_PER_CORE * cores, grace: Duration::from_secs(10), interruptions: 3 }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: LevelFilter::Info }
    }
}
