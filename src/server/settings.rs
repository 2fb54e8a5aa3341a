//! Translates the [`Config`] into the settings of each part.

use std::time::Duration;

use super::admission::ConnectionLimits;
use super::connections::Timeouts;
use super::core::ServerSettings;
use super::error::{StartError, failed};
use super::jwks::Source;
use super::tls::Tls;
use crate::auth::{ClaimPath, ClaimRules, Hosts, JwtKey, Verifier};
use crate::config::{AuthMode, Config, JwtAlgorithm, KeyLocation, ListenAddress, WebhookDeclaration};
use crate::executor::tool::{Registry, ToolSettings, descriptors_at_start};
use crate::http;
use crate::log::{self, Retention};
use crate::stream;
use crate::webhooks::check_all;

/// How many connections beyond the limit are accepted to be refused with a response.
const RESERVE_CONNECTIONS: usize = 64;

/// Descriptors that are not for clients: files, pipes of commands, outgoing connections.
const OTHER_DESCRIPTORS: u64 = 256;

/// The most bytes of all backlogs together.
const BACKLOGS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long a project without streams keeps its encoded messages, for clients that reconnect.
const LINGER: Duration = Duration::from_secs(30);

/// How long the newest ended run is shown to new streams.
const RECENT: Duration = Duration::from_secs(60);

/// What would keep a server from starting with these settings, as far as that can be checked without binding sockets
/// and opening the store. `insecure` is that of [`Config::check_for_serving`].
pub fn check_settings(config: &Config, insecure: bool) -> Vec<String> {
    let mut issues = config.check_for_serving(insecure).map_or_else(|error| error.issues, |()| Vec::new());
    if issues.is_empty() {
        // These would only repeat the same issues.
        issues.extend(verifier(config).err().map(|error| error.to_string()));
        issues.extend(key_source(config).err().map(|error| error.to_string()));
        issues.extend(Tls::of(&config.tls).err().map(|error| error.to_string()));
    }
    issues.extend(declare_tools(config, &mut Registry::with_builtins()).err().map(|error| error.to_string()));
    issues.extend(check_all(&config.webhooks).err());
    issues
}

/// Adds the tools that `config` declares.
///
/// # Errors
/// The problem of a declaration.
pub fn declare_tools(config: &Config, registry: &mut Registry) -> Result<(), StartError> {
    for declaration in &config.tools {
        let settings = ToolSettings { output_bytes: size(config.limits.step_output_bytes), ..ToolSettings::default() };
        registry.declare(declaration.clone(), settings).map_err(StartError)?;
    }
    Ok(())
}

/// Creates the verifier of tokens, if tokens are required.
pub(super) fn verifier(config: &Config) -> Result<Option<Verifier>, StartError> {
    if config.auth.mode == AuthMode::None {
        return Ok(None);
    }
    if config.auth.jwks.is_some() {
        return Ok(Some(Verifier::awaiting_keys(claim_rules(config))));
    }
    let public_key = || {
        let path = config.auth.jwt_public_key.as_ref();
        let path = path.ok_or_else(|| StartError("auth.jwt_public_key is missing".into()))?;
        std::fs::read_to_string(path).map_err(|error| failed(&format!("read {}", path.display()), &error))
    };
    let keys = match config.auth.jwt_algorithm {
        JwtAlgorithm::Hs256 if config.auth.jwt_secret.is_empty() => {
            return Err(StartError("auth.jwt_secret is missing".into()));
        }
        JwtAlgorithm::Hs256 => secrets(config).map(|secret| JwtKey::Hs256 { secret: secret.to_vec() }).collect(),
        JwtAlgorithm::Rs256 => vec![JwtKey::Rs256 { public_key: public_key()? }],
        JwtAlgorithm::Es256 => vec![JwtKey::Es256 { public_key: public_key()? }],
        JwtAlgorithm::EdDsa => vec![JwtKey::EdDsa { public_key: public_key()? }],
    };
    Verifier::with_keys(&keys, claim_rules(config)).map(Some).map_err(|error| StartError(error.to_string()))
}

/// The rules for a token's claims.
pub fn claim_rules(config: &Config) -> ClaimRules {
    let auth = &config.auth;
    ClaimRules {
        issuers: auth.issuer.clone(),
        audiences: auth.audience.clone(),
        projects: ClaimPath::new(&auth.projects_claim),
        scope: ClaimPath::new(&auth.scope_claim),
        leeway_ms: u64::try_from(auth.leeway.as_millis()).unwrap_or(u64::MAX),
    }
}

fn jwks(config: &Config) -> Option<&KeyLocation> {
    config.auth.jwks.as_ref().filter(|_| config.auth.mode == AuthMode::Jwt)
}

/// Warns of settings that may let in more than is intended.
pub(super) fn warn_of_settings(config: &Config) {
    if jwks(config).is_some() && config.auth.audience.is_empty() {
        ::log::warn!(
            "auth.jwks is set without auth.audience: tokens that the provider issued for other services are accepted too"
        );
    }
}

/// The source of an identity provider's keys, if tokens are checked with them.
pub(super) fn key_source(config: &Config) -> Result<Option<Source>, StartError> {
    let location = jwks(config);
    location.map(Source::new).transpose().map_err(|why| StartError(format!("auth.jwks: {why}")))
}

/// The names of the server. If tokens are required, all names are allowed unless the operator has listed some.
pub(super) fn hosts(config: &Config) -> Hosts {
    let listed = config.server.hosts.as_slice();
    if config.auth.mode == AuthMode::Jwt && listed.is_empty() {
        return Hosts::any();
    }
    let listened_at = [Some(&config.listen), config.tls.listen.as_ref(), config.metrics.listen.as_ref()];
    Hosts::only(listed, listened_at.into_iter().flatten().filter_map(ListenAddress::name))
}

/// The secrets that tokens are checked with, if any, newest first.
pub(super) fn secrets(config: &Config) -> impl Iterator<Item = &[u8]> {
    let secrets = config.auth.jwt_secret.iter().filter(|_| config.auth.mode == AuthMode::Jwt);
    secrets.map(|secret| secret.expose().as_bytes())
}

/// The settings of connections and streams, for a process that may have `descriptors`.
pub(super) fn server_settings(config: &Config, descriptors: u64) -> ServerSettings {
    let limits = &config.limits;
    let spared = OTHER_DESCRIPTORS + RESERVE_CONNECTIONS as u64 + 4 * config.executor.workers as u64;
    let connections = limits.connections.map_or(descriptors.saturating_sub(spared).max(64), u64::from);
    if connections + RESERVE_CONNECTIONS as u64 >= descriptors {
        ::log::warn!(
            "limits.connections is {connections}, but this process may open only {descriptors} file descriptors (see ulimit -n)"
        );
    }
    ServerSettings {
        streams: stream::Settings {
            heartbeat: config.sse.heartbeat,
            stall_timeout: config.sse.stall_timeout,
            retry_ms: u64::try_from(config.sse.retry.as_millis()).unwrap_or(u64::MAX),
            backlog_bytes: size(config.sse.queue_bytes),
            backlogs_bytes: BACKLOGS_BYTES_MAX,
            linger: LINGER,
        },
        http: http::Limits {
            head_bytes: size(limits.header_bytes),
            target_bytes: size(limits.target_bytes),
            body_bytes: size(limits.body_bytes),
        },
        timeouts: Timeouts {
            header: limits.header_timeout,
            body: limits.body_timeout,
            idle: limits.idle_timeout,
            output: config.sse.stall_timeout,
        },
        limits: ConnectionLimits {
            connections: usize::try_from(connections).unwrap_or(usize::MAX),
            reserve: RESERVE_CONNECTIONS,
            per_address: limits.connections_per_address,
            trusted_proxies: limits.trusted_proxies.clone(),
            requests_per_connection: limits.requests_per_connection,
            buffer_bytes: size(limits.buffer_bytes),
            streams_per_token: limits.streams_per_token,
            publish_rate: limits.publish_rate,
        },
    }
}

/// The webhooks for which the log stores events.
pub(super) fn webhooks(config: &Config) -> log::Webhooks {
    let filter = |it: &WebhookDeclaration| log::WebhookFilter {
        name: it.name.as_str().into(),
        events: it.events.clone(),
        projects: it.projects.clone(),
    };
    log::Webhooks {
        filters: config.webhooks.iter().map(filter).collect(),
        rows_max: config.limits.webhook_events as u64,
    }
}

/// The limits of the log.
pub(super) fn journal_limits(config: &Config) -> log::Limits {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    log::Limits {
        retention: Retention {
            messages: config.history.messages,
            bytes: config.history.bytes,
            age_ms: millis(config.history.age),
            runs: config.history.runs,
        },
        open_runs: config.limits.active_runs + config.limits.queued_runs,
        project_runs: match config.limits.runs_per_project {
            0 => usize::MAX,
            runs => runs,
        },
        projects: config.limits.projects,
        key_bytes: config.limits.idempotency_bytes,
        state_outputs_bytes: log::STATE_OUTPUTS_BYTES_MAX,
        plans: log::PlanLimits {
            of_project: config.limits.stored_plans as u64,
            scheduled: config.limits.schedules as u64,
            bytes: config.limits.stored_plan_bytes,
        },
        recent_ms: millis(RECENT),
    }
}

/// Raises the process's descriptor limit to its maximum, and returns it. Commands keep the previous limit.
pub(super) fn descriptors() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    descriptors_at_start();
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let limit = if setrlimit(Resource::Nofile, raised).is_ok() { raised } else { limit };
    limit.current.unwrap_or(u64::MAX)
}

pub(super) fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_tokens_the_server_goes_by_what_it_was_given_alone() {
        let of = |listen: &str, mode, listed: &[&str]| {
            let mut config = Config { listen: ListenAddress::parse(listen).expect(listen), ..Config::default() };
            config.auth.mode = mode;
            config.server.hosts = crate::config::Hosts::parse(listed.iter().copied()).expect("hosts");
            config.metrics.listen = ListenAddress::parse("metrics.internal:9090");
            hosts(&config)
        };
        let open = of("box.internal:8080", AuthMode::None, &["events.example.com"]);
        for known in
            ["box.internal", "BOX.internal:8080", "metrics.internal:9090", "events.example.com", "192.0.2.1:8080"]
        {
            assert!(open.knows(known), "{known}");
        }
        assert!(!open.knows("evil.example"));
        assert!(!of("127.0.0.1:8080", AuthMode::None, &[]).knows("evil.example"));
        assert_eq!(of("127.0.0.1:8080", AuthMode::Jwt, &[]), Hosts::any());
        assert!(!of("127.0.0.1:8080", AuthMode::Jwt, &["events.example.com"]).knows("evil.example"));
    }
}
