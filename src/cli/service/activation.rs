//! Listening sockets passed by a service manager: `LISTEN_FDS`, `LISTEN_PID` and `LISTEN_FDNAMES`, as in
//! sd_listen_fds(3).

use std::net::SocketAddr;

use crate::cli::error::CommandError;
use crate::config::{Config, ListenAddress};
use crate::server::{ListenKey, Listener, Origin};

/// The name of sockets that replace `metrics.listen`.
const METRICS: &str = "metrics";

/// The name of sockets that replace `tls.listen`; all others replace `listen`.
const TLS: &str = "tls";

/// Takes the sockets that the manager passed, if any. Call this once, before this program opens anything.
///
/// # Errors
/// If one of the descriptors is not a socket that the server can listen on.
pub(in crate::cli) fn listeners() -> Result<Vec<Listener>, CommandError> {
    let failed = |why: String| CommandError::new(format!("cannot use the sockets of the service manager: {why}"));
    check_that_all_are_open().map_err(failed)?;
    let sockets = sd_listen_fds::get().map_err(|error| failed(error.to_string()))?;
    let listener = |(name, socket): (Option<String>, sd_listen_fds::OwnedFd)| {
        let key = match name.as_deref() {
            Some(METRICS) => ListenKey::Metrics,
            Some(TLS) => ListenKey::Tls,
            _ => ListenKey::Main,
        };
        Listener::received(socket.into_std(), key, Origin::Given).map_err(|error| failed(error.to_string()))
    };
    sockets.into_iter().map(listener).collect()
}

/// Fails if a passed descriptor is not open: its number would be reused by whatever is opened next.
fn check_that_all_are_open() -> Result<(), String> {
    const FIRST: u32 = 3;
    let variable = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    if variable("LISTEN_PID") != Some(std::process::id()) {
        return Ok(());
    }
    let count = variable("LISTEN_FDS").unwrap_or(0);
    let is_lacking = |at: &u32| std::fs::symlink_metadata(format!("/proc/self/fd/{at}")).is_err();
    match (FIRST..FIRST.saturating_add(count)).find(is_lacking) {
        Some(lacking) => Err(format!("descriptor {lacking} of LISTEN_FDS={count} is not open")),
        None => Ok(()),
    }
}

/// Replaces the addresses in `config` by those of the passed sockets, so that everything else uses the real ones.
pub(in crate::cli) fn take_places(config: &mut Config, listeners: &[Listener]) {
    let places = [(ListenKey::Main, "listen"), (ListenKey::Tls, "tls.listen"), (ListenKey::Metrics, "metrics.listen")];
    for (key, place) in places {
        let is_one = |listener: &&Listener| listener.key() == key && listener.origin() == Origin::Given;
        let given: Vec<_> = listeners.iter().filter(is_one).collect();
        if given.is_empty() {
            continue;
        }
        let shown: Vec<_> = given.iter().map(ToString::to_string).collect();
        log::info!("ignoring {place}: the service manager has passed the sockets {}", shown.join(", "));
        let address = most_open(given.into_iter().filter_map(Listener::address));
        match key {
            ListenKey::Main => config.listen = address,
            ListenKey::Tls => config.tls.listen = Some(address),
            ListenKey::Metrics => config.metrics.listen = Some(address),
        }
    }
}

/// Returns an address that other machines can reach, if there is one. A Unix socket counts as loopback.
fn most_open(addresses: impl Iterator<Item = SocketAddr>) -> ListenAddress {
    let addresses: Vec<_> = addresses.collect();
    let is_open = |address: &&SocketAddr| !address.ip().to_canonical().is_loopback();
    let chosen = addresses.iter().find(is_open).or(addresses.first());
    let chosen = chosen.copied().unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
    ListenAddress::new(chosen.ip(), chosen.port())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn tcp(address: &str) -> Listener {
        TcpListener::bind(address).expect("a listener").into()
    }

    #[test]
    fn where_one_of_several_sockets_can_be_reached_from_elsewhere_that_is_what_is_checked() {
        let mut config = Config::default();
        config.auth.mode = crate::config::AuthMode::None;
        take_places(&mut config, &[tcp("127.0.0.1:0"), tcp("127.0.0.1:0").for_metrics()]);
        assert!(config.check_for_serving(false).is_ok() && config.metrics.listen.is_some());
        take_places(&mut config, &[tcp("127.0.0.1:0"), tcp("0.0.0.0:0")]);
        assert!(config.check_for_serving(false).is_err());
        let path = std::env::temp_dir().join(format!("stepcast-activation-{}.sock", std::process::id()));
        take_places(&mut config, &[UnixListener::bind(&path).expect("a listener").into()]);
        std::fs::remove_file(path).expect("it is there");
        assert!(config.check_for_serving(false).is_ok());
    }
}
