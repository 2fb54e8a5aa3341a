//! The settings of a world: limits so small that each one is reached.

use std::time::Duration;

use crate::executor::testing::Rng;
use crate::http;
use crate::log::{self, Retention};
use crate::server::{Cidr, ConnectionLimits, ServerSettings, Timeouts};
use crate::stream;

pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);
pub(super) const STALL: Duration = Duration::from_secs(30);
pub(super) const HEADER: Duration = Duration::from_secs(10);
pub(super) const BODY: Duration = Duration::from_secs(20);
pub(super) const IDLE: Duration = Duration::from_secs(60);
pub(super) const LINGER: Duration = Duration::from_secs(3);
pub(super) const RETRY_MS: u64 = 2000;

/// Bytes of a project's backlog, and of all together.
pub(super) const BACKLOG_BYTES: usize = 20 * 1024;
pub(super) const BACKLOGS_BYTES: usize = 40 * 1024;

/// Ended runs that are kept where they are not let go.
const RUNS_KEPT: usize = 1000;

/// Bytes of a body.
pub(super) const BODY_BYTES: usize = 6 * 1024;

/// See the [module](self).
#[derive(Debug, Clone)]
pub(super) struct Laws {
    /// Tokens are asked for.
    pub(super) is_jwt: bool,
    pub(super) connections: usize,
    pub(super) reserve: usize,
    pub(super) per_address: u32,
    pub(super) streams_per_token: u32,
    /// Messages of a project that are kept.
    pub(super) messages_max: usize,
    /// One in so many messages is large.
    pub(super) large_in: usize,
    /// Ended runs of a project that are kept.
    pub(super) runs_max: usize,
    pub(super) history_bytes: u64,
    pub(super) history_age: Duration,
    /// Only the count bounds the history.
    pub(super) floor_is_known: bool,
    pub(super) open_runs: usize,
    /// What keys may take.
    pub(super) key_bytes: u64,
    pub(super) read_bytes_max: usize,
    /// Subscribers that are there from the beginning.
    pub(super) crowd: usize,
    /// Random actions before the end.
    pub(super) actions: usize,
    /// Clients may be slow.
    pub(super) is_slow: bool,
    /// It is shut down at this action; never where it is larger than `actions`.
    pub(super) drains_at: usize,
    /// There are others who read beside the log.
    pub(super) has_readers: bool,
    /// What happens to the process and its store.
    pub(super) storms: Option<Storms>,
}

/// How often things break that a log on disk is there for: one in so many actions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Storms {
    /// The process is killed.
    pub(super) crash_in: usize,
    /// The process is told to end, and started again.
    pub(super) restart_in: usize,
    /// The store begins to fail.
    pub(super) outage_in: usize,
    /// It does no longer.
    pub(super) mend_in: usize,
}

impl Laws {
    /// Laws of a random world.
    pub(super) fn random(rng: &mut Rng) -> Self {
        let is_crowded = rng.one_in(16);
        let floor_is_known = !rng.one_in(5);
        let messages_max = [12, 40, 120, 1000][rng.below(4)];
        let actions = if is_crowded { 150 } else { 900 };
        Self {
            is_jwt: rng.one_in(3),
            connections: if is_crowded { 10_000 } else { 20 + rng.below(30) },
            reserve: 4,
            per_address: if is_crowded { 10_000 } else { 8 + rng.below(30) as u32 },
            streams_per_token: if is_crowded { 10_000 } else { 4 },
            messages_max,
            large_in: if messages_max == 1000 { 1 } else { 4 },
            runs_max: if rng.one_in(4) { 2 } else { RUNS_KEPT },
            history_bytes: if floor_is_known { u64::MAX } else { 30_000 },
            history_age: Duration::from_secs(if floor_is_known { 1 << 30 } else { 40 }),
            floor_is_known,
            open_runs: 8,
            key_bytes: if rng.one_in(3) { 3000 } else { 1 << 20 },
            read_bytes_max: [usize::MAX, 600][rng.below(2)],
            crowd: if is_crowded { 520 + rng.below(100) } else { 0 },
            actions,
            is_slow: !rng.one_in(3),
            drains_at: if rng.one_in(4) { rng.below(actions) } else { usize::MAX },
            has_readers: !rng.one_in(3),
            storms: None,
        }
    }

    /// Laws of a random world in which the process and its store break. What it has taken on is never let go.
    pub(super) fn stormy(rng: &mut Rng) -> Self {
        let base = Self::random(rng);
        let often = |rng: &mut Rng, n: usize| if rng.one_in(3) { usize::MAX } else { n };
        let storms = Storms {
            crash_in: often(rng, 90),
            restart_in: often(rng, 250),
            outage_in: often(rng, 80),
            mend_in: 5 + rng.below(40),
        };
        Self {
            connections: 20 + rng.below(30),
            per_address: 8 + rng.below(30) as u32,
            streams_per_token: 4,
            runs_max: RUNS_KEPT,
            history_bytes: u64::MAX,
            history_age: Duration::from_secs(1 << 30),
            floor_is_known: true,
            crowd: 0,
            actions: 600,
            drains_at: usize::MAX,
            storms: Some(storms),
            ..base
        }
    }

    /// The world that is crashed at any step: much goes on in it from the beginning.
    pub(super) fn busy(rng: &mut Rng) -> Self {
        let never = Storms { crash_in: usize::MAX, restart_in: usize::MAX, outage_in: usize::MAX, mend_in: usize::MAX };
        let base = Self::stormy(rng);
        Self { is_jwt: true, messages_max: 120, connections: 60, per_address: 60, storms: Some(never), ..base }
    }

    /// Are ended runs never let go?
    pub(super) fn keeps_runs(&self) -> bool {
        self.runs_max == RUNS_KEPT && self.floor_is_known
    }

    pub(super) fn server(&self) -> ServerSettings {
        ServerSettings {
            streams: stream::Settings {
                heartbeat: HEARTBEAT,
                stall_timeout: STALL,
                retry_ms: RETRY_MS,
                backlog_bytes: BACKLOG_BYTES,
                backlogs_bytes: BACKLOGS_BYTES,
                linger: LINGER,
            },
            http: http::Limits { head_bytes: 2048, target_bytes: 1024, body_bytes: BODY_BYTES },
            timeouts: Timeouts { header: HEADER, body: BODY, idle: IDLE, output: STALL },
            limits: ConnectionLimits {
                connections: self.connections,
                reserve: self.reserve,
                per_address: self.per_address,
                trusted_proxies: vec![Cidr::parse("127.0.0.0/8").expect("a range")],
                requests_per_connection: u32::MAX,
                buffer_bytes: usize::MAX,
                streams_per_token: self.streams_per_token,
                publish_rate: 50,
            },
        }
    }

    pub(super) fn journal(&self) -> log::Limits {
        log::Limits {
            retention: Retention {
                messages: self.messages_max,
                bytes: self.history_bytes,
                age_ms: u64::try_from(self.history_age.as_millis()).expect("small"),
                runs: self.runs_max,
            },
            open_runs: self.open_runs,
            project_runs: usize::MAX,
            projects: 100,
            key_bytes: self.key_bytes,
            state_outputs_bytes: 1 << 20,
            plans: Default::default(),
            recent_ms: 60_000,
        }
    }
}
