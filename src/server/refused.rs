//! Counts of refused requests and connections, by the limit that refused them.

/// A limit at which requests or connections are refused. It is named after its setting, or after the resource that is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Connections over `limits.connections` that got an answer.
    Connections,
    /// Connections over `limits.connections_per_address` that got an answer.
    ConnectionsPerAddress,
    /// Connections over either limit that were closed without an answer.
    Reserve,
    /// Connections for which the process had no file descriptor left.
    Descriptors,
    /// Streams over `limits.streams_per_token`.
    StreamsPerToken,
    /// Request heads over `limits.header_bytes`.
    HeaderBytes,
    /// Request targets over `limits.target_bytes`.
    TargetBytes,
    /// Request bodies over `limits.body_bytes`.
    BodyBytes,
    /// Request heads that did not arrive within `limits.header_timeout`.
    HeaderTimeout,
    /// Request bodies that did not arrive within `limits.body_timeout`.
    BodyTimeout,
    /// Connections without a request for `limits.idle_timeout`.
    IdleTimeout,
    /// Connections that read nothing of an answer for `sse.stall_timeout`.
    StallTimeout,
    /// Connections closed after `limits.requests_per_connection` requests.
    RequestsPerConnection,
    /// Connections closed because all together buffered more than `limits.buffer_bytes`.
    BufferBytes,
    /// Calls over `limits.publish_rate`.
    PublishRate,
    /// Plans over the number that may wait to be validated.
    WaitingPlans,
    /// Runs over `limits.active_runs` and `limits.queued_runs`.
    QueuedRuns,
    /// Runs over `limits.runs_per_project`.
    RunsPerProject,
    /// Projects over `limits.projects`.
    Projects,
    /// Calls with an idempotency key over `limits.idempotency_bytes`.
    IdempotencyBytes,
    /// Tickets of subjects that have used `limits.tickets` of them.
    Tickets,
    /// Calls refused because the queue of the log was full.
    LogQueue,
}

const WORDS: [&str; 22] = [
    "connections",
    "connections_per_address",
    "reserve",
    "descriptors",
    "streams_per_token",
    "header_bytes",
    "target_bytes",
    "body_bytes",
    "header_timeout",
    "body_timeout",
    "idle_timeout",
    "stall_timeout",
    "requests_per_connection",
    "buffer_bytes",
    "publish_rate",
    "waiting_plans",
    "queued_runs",
    "runs_per_project",
    "projects",
    "idempotency_bytes",
    "tickets",
    "log_queue",
];

impl Limit {
    /// The limit that causes problems with this code, if it is one.
    pub fn of_code(code: &str) -> Option<Self> {
        Some(match code {
            "head_too_large" => Self::HeaderBytes,
            "target_too_long" => Self::TargetBytes,
            "body_too_large" => Self::BodyBytes,
            "too_many_streams" => Self::StreamsPerToken,
            "publish_rate" => Self::PublishRate,
            "too_many_plans" => Self::WaitingPlans,
            "too_many_runs" => Self::QueuedRuns,
            "too_many_project_runs" => Self::RunsPerProject,
            "too_many_projects" => Self::Projects,
            "too_many_keys" => Self::IdempotencyBytes,
            "overloaded" => Self::LogQueue,
            _ => return None,
        })
    }
}

/// The number of refusals by each limit.
#[derive(Debug, Default, Clone, Copy)]
pub struct Refused([u64; WORDS.len()]);

impl Refused {
    /// Counts a refusal.
    pub fn count(&mut self, limit: Limit) {
        self.0[limit as usize] += 1;
    }

    /// Sets the total.
    pub fn set(&mut self, limit: Limit, n: u64) {
        self.0[limit as usize] = n;
    }

    /// The numbers by the names of the limits.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
        WORDS.into_iter().zip(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_has_its_own_word() {
        let mut refused = Refused::default();
        refused.count(Limit::Connections);
        refused.set(Limit::LogQueue, 3);
        let counted: Vec<_> = refused.each().filter(|(_, n)| *n > 0).collect();
        assert_eq!(counted, [("connections", 1), ("log_queue", 3)]);
        assert_eq!(WORDS[Limit::Projects as usize], "projects");
        assert_eq!(Limit::of_code("publish_rate"), Some(Limit::PublishRate));
        assert_eq!(Limit::of_code("unknown_run"), None);
    }
}
