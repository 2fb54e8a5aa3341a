//! Where the engine is.

use std::fmt;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode, TargetSessionAttrs};

use super::OpenError;

/// What has the password where the url has none, as with PostgreSQL's own programs.
const PASSWORD_VARIABLE: &str = "PGPASSWORD";

/// How long a connection is silent before the system asks whether the other side is there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(10);

/// Where the engine is, as a url has it. Shown without its password.
pub(super) struct PostgresPlace {
    config: Config,
    shown: String,
}

impl PostgresPlace {
    /// Reads a url.
    pub(super) fn parse(url: &str, call_max: Duration) -> Result<Self, OpenError> {
        let mut config: Config = url.parse().map_err(|error: tokio_postgres::Error| {
            let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            OpenError(format!("data: not the url of a PostgreSQL: {why}"))
        })?;
        let shown = shown(&config);
        if config.get_ssl_mode() == SslMode::Require {
            return Err(OpenError(format!(
                "{shown}: sslmode=require is more than this program can do so far: it has no TLS for PostgreSQL; \
                 reach the engine over a socket, a private network or a tunnel, with sslmode=disable"
            )));
        }
        config.keepalives_idle(KEEPALIVE_AFTER).tcp_user_timeout(call_max);
        let hosts = u32::try_from(config.get_hosts().len()).unwrap_or(u32::MAX);
        if config.get_connect_timeout().is_none() {
            // One that does not answer leaves time for the others.
            config.connect_timeout(call_max / hosts.saturating_add(1));
        }
        if hosts > 1 {
            // One that answers and says nothing more is passed over by the next try.
            config.load_balance_hosts(LoadBalanceHosts::Random);
        }
        // Where a replica has taken over, the former primary is none to write to.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        if config.get_password().is_none()
            && let Some(password) = std::env::var_os(PASSWORD_VARIABLE).filter(|it| !it.is_empty())
        {
            config.password(password.as_encoded_bytes());
        }
        if config.get_application_name().is_none() {
            config.application_name("stepcast");
        }
        Ok(Self { config, shown })
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// It, for what goes wrong.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }
}

impl fmt::Debug for PostgresPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

fn shown(config: &Config) -> String {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        Some(Host::Unix(path)) => path.display().to_string(),
        None => String::new(),
    };
    let port = config.get_ports().first().map_or_else(String::new, |port| format!(":{port}"));
    format!("PostgreSQL at {host}{port}/{}", config.get_dbname().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_does_not_answer_leaves_time_for_the_others() {
        let place = |url: &str| PostgresPlace::parse(url, Duration::from_secs(6)).expect("a url");
        let several = place("postgres://a,b/x");
        let timeout = |place: &PostgresPlace| place.config().get_connect_timeout().copied();
        assert_eq!(timeout(&several), Some(Duration::from_secs(2)));
        assert_eq!(several.config().get_load_balance_hosts(), LoadBalanceHosts::Random);
        assert_eq!(timeout(&place("postgres://a,b/x?connect_timeout=5")), Some(Duration::from_secs(5)), "its own");
        assert_eq!(place("postgres://a/x").config().get_load_balance_hosts(), LoadBalanceHosts::Disable);
    }
}
