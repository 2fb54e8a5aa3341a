//! All settings, typed, with their defaults. What each means stands here; how it is written stands in
//! [`keys`](super::keys).

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

/// Worker threads per core: steps mostly wait for programs and servers, so more of them than cores are of use.
const WORKERS_PER_CORE: usize = 4;

/// Every setting of the program.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where the server listens.
    pub listen: ListenAddress,
    /// What the server is called.
    pub server: ServerConfig,
    /// Where messages and runs are kept.
    pub data: DataLocation,
    /// Who may.
    pub auth: AuthConfig,
    /// Browsers on other origins.
    pub cors: CorsConfig,
    /// Streams.
    pub sse: SseConfig,
    /// What is kept.
    pub history: HistoryConfig,
    /// How it is kept.
    pub store: StoreConfig,
    /// Several nodes on one store.
    pub cluster: ClusterConfig,
    /// Bounds on what clients may ask.
    pub limits: LimitsConfig,
    /// Running plans.
    pub executor: ExecutorConfig,
    /// TLS for clients.
    pub tls: TlsConfig,
    /// Measurements.
    pub metrics: MetricsConfig,
    /// The program's own log.
    pub log: LogConfig,
    /// The tools that the file declares, in its order.
    pub tools: Vec<ToolDeclaration>,
    /// The webhooks that it declares.
    pub webhooks: Vec<WebhookDeclaration>,
}

/// Where messages and runs are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataLocation {
    /// In memory: gone when the program ends.
    Memory,
    /// In this directory, made where it is missing. A relative one starts at the working directory.
    Directory(PathBuf),
    /// In this database, together with all other nodes that use it.
    Postgres(PostgresUrl),
}

impl Default for DataLocation {
    /// `./stepcast-data`; in memory where the program is built without the feature `sqlite`.
    fn default() -> Self {
        match cfg!(feature = "sqlite") {
            true => Self::Directory("./stepcast-data".into()),
            false => Self::Memory,
        }
    }
}

/// `server.*`: what the server is called.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerConfig {
    /// The names that it goes by, besides the one in `listen`: behind a proxy the public one. Without tokens a request for
    /// any other name is refused; with them and this, a page of any other name is no page of this server.
    pub hosts: Hosts,
}

/// `auth.*`: who may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthConfig {
    /// Are tokens asked for?
    pub mode: AuthMode,
    /// The keys of HS256: the first one signs, each verifies.
    pub jwt_secret: Vec<Secret>,
    /// A PEM file with the public key of the other algorithms.
    pub jwt_public_key: Option<PathBuf>,
    /// The one algorithm that a token may be signed with.
    pub jwt_algorithm: JwtAlgorithm,
    /// The keys of an identity provider, in place of the three above.
    pub jwks: Option<KeyLocation>,
    /// Who may have issued a token (`iss`); where this is empty, whoever has the key.
    pub issuer: Vec<String>,
    /// Whom a token may be meant for (`aud`); where this is empty, anyone.
    pub audience: Vec<String>,
    /// The claim that names the projects: a JSON pointer where it begins with `/`.
    pub projects_claim: String,
    /// The claim that names the scopes, likewise.
    pub scope_claim: String,
    /// How long after its `exp` a token still counts.
    pub leeway: Duration,
    /// How long an unused ticket lives.
    pub ticket_ttl: Duration,
}

/// `cors.*`: browsers on other origins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CorsConfig {
    /// The origins whose pages may call.
    pub allowed_origins: Origins,
}

/// `sse.*`: streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SseConfig {
    /// A stream without traffic for this long gets a comment; zero turns that off.
    pub heartbeat: Duration,
    /// What the `retry:` field tells a client to wait before it reconnects.
    pub retry: Duration,
    /// Memory that may wait for one connection, in bytes; the rest it reads from history.
    pub queue_bytes: u64,
    /// A connection that takes nothing for this long is closed.
    pub stall_timeout: Duration,
}

/// `history.*`: what is kept. Whatever is over one of these bounds goes, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryConfig {
    /// Messages of one project.
    pub messages: usize,
    /// Bytes in all.
    pub bytes: u64,
    /// How old a message gets.
    pub age: Duration,
    /// Ended runs of one project that stay listed.
    pub runs: usize,
}

/// `store.*`: how it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreConfig {
    /// What a written message survives.
    pub synchronous: Synchronous,
}

/// `cluster.*`: several nodes on one store. Where that is none that nodes can share, none of this is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterConfig {
    /// How long a node is believed alive that says nothing. Then its runs are taken over.
    pub node_ttl: Duration,
    /// How a node hears that others have written.
    pub wake: Wake,
    /// How often it looks, where it hears of nothing: with [`Wake::Poll`].
    pub poll: Duration,
}

/// `limits.*`: bounds on what clients may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Open connections; `None` derives it from the descriptor limit at start.
    pub connections: Option<u32>,
    /// Open connections from one address.
    pub connections_per_address: u32,
    /// Requests of one connection; the answer to the last one closes it.
    pub requests_per_connection: u32,
    /// Bytes of requests that have not come whole and answers that are not taken, of all connections together.
    pub buffer_bytes: u64,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Cidr>,
    /// Open streams of one token.
    pub streams_per_token: u32,
    /// A request's head, in bytes.
    pub header_bytes: u64,
    /// A request's target, in bytes.
    pub target_bytes: u64,
    /// A request's body, in bytes.
    pub body_bytes: u64,
    /// From a connection's (or the next request's) first byte to the end of its head.
    pub header_timeout: Duration,
    /// From the end of the head to the end of the body.
    pub body_timeout: Duration,
    /// A kept-alive connection without a request.
    pub idle_timeout: Duration,
    /// Steps of one plan.
    pub plan_steps: usize,
    /// A step's output in a message, in bytes; the rest is cut there.
    pub output_bytes: u64,
    /// What is kept of one step's output, in bytes.
    pub step_output_bytes: u64,
    /// Runs at the same time.
    pub active_runs: usize,
    /// Runs that wait for a place among the active ones; zero lets none wait.
    pub queued_runs: usize,
    /// Runs of one project that run or wait; zero leaves it to `active_runs` and `queued_runs`.
    pub runs_per_project: usize,
    /// Projects that have messages or runs.
    pub projects: usize,
    /// What the `Idempotency-Key`s and chosen run ids of the last 24 hours may take, in bytes.
    pub idempotency_bytes: u64,
    /// Events that may wait for one webhook; beyond them its oldest are given up.
    pub webhook_events: usize,
    /// The largest event that a webhook is sent whole, in bytes; of a larger one it is told that there is one.
    pub webhook_body_bytes: u64,
    /// Plans stored in one project.
    pub stored_plans: usize,
    /// What the stored plans of all projects may take, in bytes.
    pub stored_plan_bytes: u64,
    /// Stored plans of all projects that have a schedule.
    pub schedules: usize,
    /// Used tickets of one subject that are remembered, each until its token ends; at this many it gets no more.
    pub tickets: usize,
    /// Messages that one token may publish in a second.
    pub publish_rate: u32,
}

/// `executor.*`: running plans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutorConfig {
    /// Tool calls at the same time; each has a thread.
    pub workers: usize,
    /// How long active steps may go on once the program was asked to end.
    pub grace: Duration,
    /// How many attempts of a step may be interrupted in a row before it fails; 0 sets no bound.
    pub interruptions: u32,
}

/// `tls.*`: TLS for clients. Certificate and key are both set, or neither is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsConfig {
    /// A PEM file: the server's certificate, and behind it those up to one that clients trust.
    pub cert: Option<PathBuf>,
    /// A PEM file with its private key.
    pub key: Option<PathBuf>,
    /// Where TLS is spoken, besides `listen` and `metrics.listen`, which are plain then; `None` speaks it at both of them.
    pub listen: Option<ListenAddress>,
}

/// `metrics.*`: measurements.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MetricsConfig {
    /// An address of their own; `None` serves them beside everything else.
    pub listen: Option<ListenAddress>,
}

/// `log.*`: the program's own log, on stderr.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// What is still worth a line.
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
    /// `auth.mode`: are tokens asked for?
    AuthMode {
        /// Yes: signed ones.
        #[default]
        Jwt = "jwt",
        /// No: everyone may everything.
        None = "none",
    }
}

words! {
    /// `auth.jwt_algorithm`: what tokens are signed with.
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
    /// `store.synchronous`: what a written message survives.
    Synchronous {
        /// A killed process.
        #[default]
        Normal = "normal",
        /// A power cut too, at the price of a disk flush per batch.
        Full = "full",
    }
}

words! {
    /// `cluster.wake`: how a node hears that others have written.
    Wake {
        /// The database tells it (`LISTEN`), on a connection that nothing else may use.
        #[default]
        Notify = "notify",
        /// It looks, again and again: for poolers that don't pass notifications on.
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
