//! Binds listening sockets.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use mio::event::Source;
use mio::net::{TcpListener, TcpStream, UnixListener};
use mio::{Interest, Registry};
use rustix::io::Errno;
use socket2::{Socket, TcpKeepalive};

use super::error::{StartError, failed};
use super::listener::{ListenKey, Listener, ListeningSocket, Origin};
use crate::api::Door;
use crate::config::{Config, ListenAddress, TlsConfig};

/// The size of a socket's send buffer in the kernel. It is small, because the server itself limits what a slow reader
/// may have outstanding.
const SEND_BUFFER_BYTES: usize = 128 * 1024;

/// How long a peer may leave data unacknowledged before its connection counts as broken.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection is idle before it is probed.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// The time between two probes. If the first one is not answered by then, the peer counts as gone, because the user
/// timeout has passed.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// How often to try another free port, if a port is free at one address of a name and taken at another.
const FREE_PORTS_MAX: usize = 16;

/// The token of the waker. Listeners have the tokens right below it, and sockets have those from 0 on.
pub(super) const WAKER: mio::Token = mio::Token(usize::MAX);

/// A listening socket in the loop.
#[derive(Debug)]
pub(super) enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Acceptor {
    /// Returns the next connection and the address of its client. A client of a Unix socket is on this machine.
    ///
    /// # Errors
    /// As accept(2).
    pub(super) fn accept(&self) -> io::Result<(TcpStream, IpAddr)> {
        match self {
            Self::Tcp(listener) => listener.accept().map(|(socket, peer)| (socket, peer.ip())),
            Self::Unix(listener) => {
                let (socket, _) = listener.accept()?;
                // The loop only sends, receives, polls and shuts down, for which the family of a stream socket makes no
                // difference.
                let socket = TcpStream::from_std(OwnedFd::from(socket).into());
                Ok((socket, IpAddr::V4(Ipv4Addr::LOCALHOST)))
            }
        }
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(listener) => listener,
            Self::Unix(listener) => listener,
        }
    }
}

/// All listeners with their purposes. Each has a token of its own, below the waker's.
#[derive(Debug)]
pub(super) struct Listeners(Vec<(Acceptor, Way)>);

/// What the connections of a listener are for, and whether they use TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) door: Door,
    pub(super) is_tls: bool,
}

impl Listeners {
    /// The same sockets as `listeners`, for the loop. `config` determines which use TLS.
    ///
    /// # Errors
    /// If the process may open no more descriptors.
    pub(super) fn of(listeners: &[Listener], config: &TlsConfig) -> io::Result<Self> {
        let acceptor = |listener: &Listener| -> io::Result<_> {
            let acceptor = match listener.socket() {
                ListeningSocket::Tcp(socket) => Acceptor::Tcp(TcpListener::from_std(socket.try_clone()?)),
                ListeningSocket::Unix(socket) => Acceptor::Unix(UnixListener::from_std(socket.try_clone()?)),
            };
            Ok((acceptor, Way { door: listener.door(), is_tls: speaks_tls(listener, config) }))
        };
        Ok(Self(listeners.iter().map(acceptor).collect::<io::Result<_>>()?))
    }

    /// Registers all of them with the poll.
    ///
    /// # Errors
    /// If one of them can't be registered.
    pub(super) fn register(&mut self, registry: &Registry) -> io::Result<()> {
        for (index, (listener, _)) in self.0.iter_mut().enumerate() {
            registry.register(listener.source(), mio::Token(WAKER.0 - 1 - index), Interest::READABLE)?;
        }
        Ok(())
    }

    /// The index of the listener with this token, if it is one.
    pub(super) fn index_of(&self, token: mio::Token) -> Option<usize> {
        WAKER.0.checked_sub(1)?.checked_sub(token.0).filter(|index| *index < self.0.len())
    }

    pub(super) fn get(&self, index: usize) -> Option<(&Acceptor, Way)> {
        self.0.get(index).map(|(listener, way)| (listener, *way))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Stops accepting: new connections wait in the queue of the socket, which other processes hold too.
    pub(super) fn close(&mut self, registry: &Registry) {
        for (mut listener, _) in self.0.drain(..) {
            // Otherwise the poll would report it as long as any process holds the socket.
            let _ = registry.deregister(listener.source());
        }
    }
}

/// Whether this listener uses TLS. If TLS has an address of its own, only that one does; a Unix socket never does.
pub(super) fn speaks_tls(listener: &Listener, config: &TlsConfig) -> bool {
    let is_there = listener.key() == ListenKey::Tls || config.listen.is_none();
    config.cert.is_some() && is_there && listener.address().is_some()
}

/// Binds the listeners: first those for everything, then those with TLS at an address of its own, then those for
/// metrics. A socket that is `given` replaces the configured address. One that a predecessor has bound is used if the
/// configuration still names it.
pub(super) fn bind_all(config: &Config, mut given: Vec<Listener>) -> Result<Vec<Listener>, StartError> {
    let places = [
        (ListenKey::Main, Some(&config.listen)),
        (ListenKey::Tls, config.tls.listen.as_ref()),
        (ListenKey::Metrics, config.metrics.listen.as_ref()),
    ];
    let mut listeners = Vec::new();
    for (key, wanted) in places {
        let held = given.extract_if(.., |listener| listener.key() == key).collect();
        listeners.extend(at_key(wanted, key, held)?);
    }
    Ok(listeners)
}

fn at_key(wanted: Option<&ListenAddress>, key: ListenKey, held: Vec<Listener>) -> Result<Vec<Listener>, StartError> {
    let is_given = held.iter().any(|listener| listener.origin() == Origin::Given);
    if is_given || (!held.is_empty() && wanted.is_some_and(|wanted| stands_for(wanted, &held))) {
        held.iter().try_for_each(adopt).map_err(|error| failed("use a socket passed by another process", &error))?;
        return Ok(held);
    }
    let bound = wanted.map_or(Ok(Vec::new()), bind_name)?;
    let configured = |listener: TcpListener| Listener::configured(OwnedFd::from(listener).into(), key);
    Ok(bound.into_iter().map(configured).collect())
}

/// Whether these sockets are the result of listening at `wanted`. One of a name's addresses may be missing.
fn stands_for(wanted: &ListenAddress, held: &[Listener]) -> bool {
    let Ok(resolved) = wanted.resolve() else { return false };
    let is_one = |address: SocketAddr| {
        resolved.iter().any(|it| it.ip() == address.ip() && (it.port() == 0 || it.port() == address.port()))
    };
    held.iter().all(|listener| listener.address().is_some_and(is_one))
}

/// Configures a socket that another process has bound like those that are bound here.
fn adopt(listener: &Listener) -> io::Result<()> {
    match listener.socket() {
        ListeningSocket::Tcp(socket) => {
            socket.set_nonblocking(true)?;
            prepare(&socket2::SockRef::from(socket));
        }
        ListeningSocket::Unix(socket) => {
            socket.set_nonblocking(true)?;
            // This is an optimization.
            let _ = socket2::SockRef::from(socket).set_send_buffer_size(SEND_BUFFER_BYTES);
        }
    }
    Ok(())
}

fn bind_name(listen: &ListenAddress) -> Result<Vec<TcpListener>, StartError> {
    let resolved = listen.resolve().map_err(|error| failed(&format!("resolve {listen}"), &error))?;
    bind_each(&resolved)
}

/// Listens at each address of a name, all with the same port: a client of the name may use any of them.
fn bind_each(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, StartError> {
    // A name may have the same address twice.
    let is_first = |(at, address): &(usize, &SocketAddr)| !addresses[..*at].contains(address);
    let addresses: Vec<SocketAddr> = addresses.iter().enumerate().filter(is_first).map(|(_, it)| *it).collect();
    let takes_any_port = addresses.iter().any(|address| address.port() == 0);
    let mut attempts = if takes_any_port { FREE_PORTS_MAX } else { 1 };
    loop {
        attempts -= 1;
        match bind_to_one_port(&addresses) {
            Ok(listeners) => return Ok(listeners),
            Err((_, error)) if attempts > 0 && error.kind() == io::ErrorKind::AddrInUse => {}
            Err((address, error)) => return Err(failed(&format!("listen on {address}"), &error)),
        }
    }
}

/// Skips an address that the machine does not have (IPv6 may be disabled) if there is another.
fn bind_to_one_port(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, (SocketAddr, io::Error)> {
    let (mut listeners, mut lacking, mut port) = (Vec::new(), None, None);
    for &address in addresses {
        let address = SocketAddr::new(address.ip(), port.unwrap_or(address.port()));
        match bind(address).and_then(|listener| Ok((listener.local_addr()?.port(), listener))) {
            Ok((bound_to, listener)) => {
                port = Some(bound_to);
                listeners.push(listener);
            }
            Err(error) if is_lacking(&error) => lacking = Some((address, error)),
            Err(error) => return Err((address, error)),
        }
    }
    match lacking {
        Some(lacking) if listeners.is_empty() => Err(lacking),
        Some((address, error)) => {
            log::warn!("cannot listen on {address}, continuing with the other addresses of the name: {error}");
            Ok(listeners)
        }
        None => Ok(listeners),
    }
}

/// Whether this machine has no such address, or no address of its kind.
fn is_lacking(error: &io::Error) -> bool {
    let kinds = [Errno::ADDRNOTAVAIL, Errno::AFNOSUPPORT];
    Errno::from_io_error(error).is_some_and(|errno| kinds.contains(&errno))
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    /// The most connections that may wait to be accepted: a reconnect of ten thousand watchers must fit.
    const WAITING_MAX: i32 = 16 * 1024;
    let domain = socket2::Domain::for_address(address);
    let socket = Socket::new(domain, socket2::Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(address.ip().is_loopback())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Before anyone can connect.
    prepare(&socket);
    socket.bind(&address.into())?;
    socket.listen(WAITING_MAX)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Sets the options that the connections of a listener inherit, which saves five system calls for each.
fn prepare(listener: &Socket) {
    // Each of these is an optimization.
    let _ = listener.set_tcp_nodelay(true);
    let _ = listener.set_send_buffer_size(SEND_BUFFER_BYTES);
    let _ = listener.set_tcp_user_timeout(Some(USER_TIMEOUT));
    let _ = listener.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE_INTERVAL));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    fn bound(texts: &[&str]) -> Result<Vec<SocketAddr>, String> {
        let listeners = bind_each(&addresses(texts)).map_err(|error| error.to_string())?;
        Ok(listeners.iter().map(|listener| listener.local_addr().expect("bound")).collect())
    }

    #[test]
    fn a_name_is_listened_at_on_one_port_at_each_of_its_addresses() {
        let bound = bound(&["127.0.0.1:0", "127.0.0.2:0", "127.0.0.3:0"]).expect("listeners");
        let ips: Vec<_> = bound.iter().map(|address| address.ip().to_string()).collect();
        assert_eq!(ips, ["127.0.0.1", "127.0.0.2", "127.0.0.3"]);
        assert!(bound.iter().all(|address| address.port() == bound[0].port()), "{bound:?}");
    }

    #[test]
    fn an_address_that_this_machine_lacks_is_passed_over_while_there_is_another() {
        // An address from a range for documentation (RFC 5737).
        let bound_at = |texts: &[&str]| bound(texts).map(|bound| bound.len());
        assert_eq!(bound_at(&["192.0.2.1:0", "127.0.0.1:0"]), Ok(1));
        assert_eq!(bound_at(&["127.0.0.1:0", "192.0.2.1:0"]), Ok(1));
        let refused = bound_at(&["192.0.2.1:0"]).expect_err("nothing is left");
        assert!(refused.starts_with("cannot listen on 192.0.2.1:0: "), "{refused}");
    }

    #[test]
    fn an_address_in_use_is_an_error_though_others_are_free() {
        // Addresses of which no other test takes a free port.
        let taken = std::net::TcpListener::bind("127.77.0.2:0").expect("a listener");
        let port = taken.local_addr().expect("bound").port();
        let refused = bound(&[&format!("127.77.0.1:{port}"), &format!("127.77.0.2:{port}")]).expect_err("in use");
        assert!(refused.starts_with(&format!("cannot listen on 127.77.0.2:{port}: ")), "{refused}");
    }

    #[test]
    fn an_address_that_is_written_twice_is_listened_at_once() {
        let free = bound(&["127.77.0.3:0"]).expect("a listener")[0].to_string();
        assert_eq!(bound(&[&free, &free]).expect("listeners").len(), 1);
    }

    #[test]
    fn what_a_predecessor_has_bound_is_kept_as_long_as_the_configuration_names_it() {
        let mut config =
            Config { listen: ListenAddress::parse("127.0.0.1:0").expect("an address"), ..Config::default() };
        let bound = |listeners: &[Listener]| listeners.iter().map(ToString::to_string).collect::<Vec<_>>();
        let first = bind_all(&config, Vec::new()).expect("a listener");
        let address = bound(&first);
        let second = bind_all(&config, first).expect("the same listener");
        assert_eq!(bound(&second), address);
        config.listen = ListenAddress::parse("127.0.0.2:0").expect("an address");
        let third = bind_all(&config, second).expect("another listener");
        assert!(bound(&third)[0].starts_with("127.0.0.2:"), "{third:?}");
    }

    #[test]
    fn what_is_given_counts_whatever_the_configuration_says() {
        let config = Config { listen: ListenAddress::parse("192.0.2.1:9").expect("an address"), ..Config::default() };
        let given = || Listener::from(std::net::TcpListener::bind("127.0.0.1:0").expect("a listener"));
        let listeners = bind_all(&config, vec![given(), given().for_metrics()]).expect("listeners");
        let doors: Vec<_> = listeners.iter().map(Listener::door).collect();
        assert_eq!(doors, [Door::Main, Door::Metrics]);
        // They don't block, as the loop requires.
        let error = Listeners::of(&listeners, &TlsConfig::default()).expect("listeners").0[0]
            .0
            .accept()
            .expect_err("nobody comes");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn localhost_is_listened_at_by_ipv4_too() {
        let localhost = ListenAddress::parse("localhost:0").expect("an address");
        let listeners = bind_name(&localhost).expect("listeners");
        let bound: Vec<_> = listeners.iter().map(|listener| listener.local_addr().expect("bound")).collect();
        assert!(bound[0].is_ipv4() && bound.iter().all(|address| address.port() == bound[0].port()), "{bound:?}");
    }

    #[test]
    fn however_many_listeners_there_are_each_is_heard() {
        const MANY: usize = 40;
        let texts: Vec<String> = (1..=MANY).map(|n| format!("127.0.0.{n}:0")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let bound = bind_each(&addresses(&texts)).expect("listeners");
        let addresses: Vec<_> = bound.iter().map(|listener| listener.local_addr().expect("bound")).collect();
        let way = Way { door: Door::Main, is_tls: false };
        let mut listeners = Listeners(bound.into_iter().map(|it| (Acceptor::Tcp(it), way)).collect());
        let mut poll = mio::Poll::new().expect("a poll");
        listeners.register(poll.registry()).expect("registered");
        let connect = |address| std::net::TcpStream::connect(address).expect("a connection");
        let _clients: Vec<_> = addresses.into_iter().map(connect).collect();
        let mut heard = std::collections::BTreeSet::new();
        let mut events = mio::Events::with_capacity(MANY);
        while heard.len() < MANY {
            poll.poll(&mut events, None).expect("events");
            heard.extend(events.iter().filter_map(|event| listeners.index_of(event.token())));
        }
        assert_eq!((listeners.index_of(WAKER), listeners.index_of(mio::Token(0))), (None, None));
        assert_eq!(listeners.index_of(mio::Token(WAKER.0 - 1 - MANY)), None);
    }

    #[test]
    fn connections_inherit_what_their_listener_was_set_to() {
        let listener = bind("127.0.0.1:0".parse().expect("an address")).expect("a listener");
        let address = listener.local_addr().expect("an address");
        socket2::SockRef::from(&listener).set_nonblocking(false).expect("a listener that waits");
        let _client = std::net::TcpStream::connect(address).expect("a connection");
        let (socket, _) = listener.accept().expect("a connection");
        let reference = socket2::SockRef::from(&socket);
        assert!(reference.tcp_nodelay().expect("an option") && reference.keepalive().expect("an option"));
        assert_eq!(reference.tcp_keepalive_time().expect("an option"), KEEPALIVE);
        assert_eq!(reference.tcp_keepalive_interval().expect("an option"), KEEPALIVE_INTERVAL);
        assert_eq!(reference.tcp_user_timeout().expect("an option"), Some(USER_TIMEOUT));
        // Linux returns twice the requested size, for its own needs.
        assert_eq!(reference.send_buffer_size().expect("an option"), 2 * SEND_BUFFER_BYTES);
    }
}
