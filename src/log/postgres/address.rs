//! The address of the database.

use std::fmt;
use std::time::Duration;

use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode, SslNegotiation, TargetSessionAttrs};
use tokio_postgres::{Client, Config, Connection, Error, Socket};

use super::OpenError;
use super::tls::{Asked, Secured, Tls, TlsError};

/// The variable with the password if the URL has none, as with PostgreSQL's own programs.
const PASSWORD_VARIABLE: &str = "PGPASSWORD";

/// How long a connection is silent before the system asks whether the other side is there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(10);

/// The database that a URL names. Shown without its password.
pub(super) struct DatabaseAddress {
    config: Config,
    tls: Tls,
    /// The same without TLS, if TLS is only preferred.
    plain: Option<Config>,
    shown: String,
}

impl DatabaseAddress {
    /// Reads a url.
    pub(super) fn parse(url: &str, call_max: Duration) -> Result<Self, OpenError> {
        let (url, asked) = Asked::taken_from(url)?;
        let mut config: Config = url.parse().map_err(|error: tokio_postgres::Error| {
            let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            OpenError(format!("data: not a valid PostgreSQL URL: {why}"))
        })?;
        let shown = shown(&config);
        secure(&mut config, asked.mode);
        let is_direct = config.get_ssl_negotiation() == SslNegotiation::Direct;
        let tls = Tls::new(asked.trust, is_direct).map_err(|error| OpenError(format!("{shown}: {error}")))?;
        config.keepalives_idle(KEEPALIVE_AFTER).tcp_user_timeout(call_max);
        let hosts = u32::try_from(config.get_hosts().len()).unwrap_or(u32::MAX);
        if config.get_connect_timeout().is_none() {
            // A host that does not answer leaves time for the others.
            config.connect_timeout(call_max / hosts.saturating_add(1));
        }
        if hosts > 1 {
            // The next try skips a host that accepts and then says nothing.
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
        let plain = (config.get_ssl_mode() == SslMode::Prefer).then(|| {
            let mut plain = config.clone();
            plain.ssl_mode(SslMode::Disable);
            plain
        });
        Ok(Self { config, tls, plain, shown })
    }

    /// Reaches it.
    pub(super) async fn connect(&self) -> Result<(Client, Connection<Socket, Secured>), Error> {
        let made = self.config.connect(self.tls()).await;
        match (made, &self.plain) {
            (Err(error), Some(plain)) if is_of_tls(&error) => plain.connect(self.tls()).await,
            (made, _) => made,
        }
    }

    pub(super) fn tls(&self) -> Tls {
        self.tls.clone()
    }

    /// The URL without its password, for errors.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }
}

/// Has connections encrypted as `mode` says.
fn secure(config: &mut Config, mode: SslMode) {
    let is_local = |host: &Host| matches!(host, Host::Unix(_));
    // PostgreSQL has no TLS over its sockets in the file system, which are nobody else's.
    let is_all_local = !config.get_hosts().is_empty() && config.get_hosts().iter().all(is_local);
    config.ssl_mode(if is_all_local { SslMode::Disable } else { mode });
    if config.get_hosts().is_empty() {
        // An address is a name, too.
        for address in config.get_hostaddrs().to_vec() {
            config.host(address.to_string());
        }
    }
}

/// Was it the handshake that came to nothing?
fn is_of_tls(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<TlsError>)
}

impl fmt::Debug for DatabaseAddress {
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
        let parse = |url: &str| DatabaseAddress::parse(url, Duration::from_secs(6)).expect("a url");
        let several = parse("postgres://a,b/x");
        let timeout = |parse: &DatabaseAddress| parse.config.get_connect_timeout().copied();
        assert_eq!(timeout(&several), Some(Duration::from_secs(2)));
        assert_eq!(several.config.get_load_balance_hosts(), LoadBalanceHosts::Random);
        assert_eq!(timeout(&parse("postgres://a,b/x?connect_timeout=5")), Some(Duration::from_secs(5)), "its own");
        assert_eq!(parse("postgres://a/x").config.get_load_balance_hosts(), LoadBalanceHosts::Disable);
    }

    #[test]
    fn a_socket_in_the_file_system_is_never_encrypted_and_an_address_is_the_name_of_its_certificate() {
        let parse = |url: &str| DatabaseAddress::parse(url, Duration::from_secs(6)).expect("a url");
        for url in ["postgres://%2Frun%2Fpostgresql/x?sslmode=require", "postgres:///x?host=/run&sslmode=require"] {
            assert_eq!(parse(url).config.get_ssl_mode(), SslMode::Disable, "{url}");
        }
        let mixed = parse("postgres://%2Frun,db/x?sslmode=require");
        assert_eq!(mixed.config.get_ssl_mode(), SslMode::Require);
        let address = parse("postgres:///x?hostaddr=10.0.0.7&sslmode=require");
        assert_eq!(address.config.get_hosts(), [Host::Tcp("10.0.0.7".to_owned())]);
    }
}
