//! Decides who is let in: counts connections and streams, meters publishing, and says why while the server takes no
//! work.
//!
//! What is granted here is a guard: a counted slot, or a share of a publish rate. It is given back when it is dropped,
//! whatever happens to the connection or the call that it was granted to.

mod addresses;
mod counts;
mod publish_meter;

use std::net::IpAddr;
use std::time::Duration;

use self::addresses::counted_address;
pub(super) use self::addresses::forwarded_address;
use self::counts::Counts;
pub(super) use self::counts::{Count, Permit};
pub(super) use self::publish_meter::Metered;
use self::publish_meter::PublishMeter;
use super::refused::Limit;
use crate::api::{Condition, Door, Facts, Full};
pub use crate::config::Cidr;
use crate::http::Problem;
use crate::model::{Now, Taken};

/// The limits of connections.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    /// The most connections and streams together.
    pub connections: usize,
    /// How many connections beyond that are accepted to be refused with a response.
    pub reserve: usize,
    /// The most connections and streams of one address.
    pub per_address: u32,
    /// Peers whose forwarded addresses are trusted.
    pub trusted_proxies: Vec<Cidr>,
    /// The most requests of one connection.
    pub requests_per_connection: u32,
    /// The most bytes of requests and responses that all connections may hold together.
    pub buffer_bytes: usize,
    /// The most streams of one token.
    pub streams_per_token: u32,
    /// The most messages that one token may publish per second.
    pub publish_rate: u32,
}

/// Counts connections and streams, and decides which are let in.
pub(super) struct Admission {
    limits: ConnectionLimits,
    /// Connections beyond a limit, which take a permit of the reserve.
    reserve: Count,
    addresses: Counts<IpAddr>,
    tokens: Counts<u64>,
    meter: PublishMeter,
    is_draining: bool,
    is_store_down: bool,
    /// Whether the queue of the log is full.
    is_log_full: bool,
}

/// A connection that was let in.
#[derive(Debug)]
pub(super) struct Admitted {
    /// Its permit: of its address, or of the reserve.
    pub(super) counted: Option<Counted>,
    /// Whether it is a trusted proxy's and counts for the address that it forwards.
    pub(super) is_proxy: bool,
    /// The limit that it is beyond, if it was let in only to be refused.
    pub(super) beyond: Option<Limit>,
}

/// The permit of a connection.
#[derive(Debug)]
pub(super) struct Counted {
    /// `None` for a permit of the reserve.
    address: Option<IpAddr>,
    _permit: Permit,
}

impl Counted {
    /// The address for which it counts.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.address
    }
}

impl Admission {
    /// Starts without connections.
    pub(super) fn new(limits: ConnectionLimits) -> Self {
        Self {
            limits,
            reserve: Count::default(),
            addresses: Counts::default(),
            tokens: Counts::default(),
            meter: PublishMeter::default(),
            is_draining: false,
            is_store_down: false,
            is_log_full: false,
        }
    }

    /// Admits a connection of `peer` when `open` connections and streams are open. `None` if there is not even room to
    /// refuse it. A connection beyond a limit only takes a permit of the reserve, because otherwise one address could
    /// take all connections.
    pub(super) fn admit(&mut self, peer: IpAddr, open: usize) -> Option<Admitted> {
        let is_proxy = self.limits.trusted_proxies.iter().any(|cidr| cidr.contains(peer));
        if open - self.refused() >= self.limits.connections {
            return self.admit_beyond(Limit::Connections, is_proxy);
        }
        if is_proxy {
            return Some(Admitted { counted: None, is_proxy, beyond: None });
        }
        match self.count_for(peer) {
            None => self.admit_beyond(Limit::ConnectionsPerAddress, is_proxy),
            counted => Some(Admitted { counted, is_proxy, beyond: None }),
        }
    }

    fn count_for(&mut self, address: IpAddr) -> Option<Counted> {
        let address = counted_address(address);
        let permit = self.addresses.take(address, self.limits.per_address)?;
        Some(Counted { address: Some(address), _permit: permit })
    }

    fn count_for_reserve(&self) -> Counted {
        Counted { address: None, _permit: self.reserve.take() }
    }

    fn admit_beyond(&self, limit: Limit, is_proxy: bool) -> Option<Admitted> {
        let has_room = self.refused() < self.limits.reserve;
        has_room.then(|| Admitted { counted: Some(self.count_for_reserve()), is_proxy, beyond: Some(limit) })
    }

    /// Counts a trusted proxy's connection for the address that it forwards, or for none if that is unknown.
    ///
    /// # Errors
    /// If the address is at its limit: the permit is one of the reserve.
    pub(super) fn count_forwarded<'v>(
        &mut self,
        values: impl Iterator<Item = &'v [u8]>,
    ) -> Result<Option<Counted>, Counted> {
        let Some(address) = forwarded_address(values, &self.limits.trusted_proxies) else { return Ok(None) };
        self.count_for(address).map(Some).ok_or_else(|| self.count_for_reserve())
    }

    /// A permit for one more stream of a token; `None` at the limit.
    pub(super) fn permit_for_stream(&mut self, token: u64) -> Option<Permit> {
        self.tokens.take(token, self.limits.streams_per_token)
    }

    /// Why a stream is refused: because of its token's limit, unless no streams are begun at all now.
    pub(super) fn refusal_of_stream(&self) -> Problem {
        let limit = self.limits.streams_per_token;
        self.condition().refusal().unwrap_or_else(|| {
            let detail = format!("too many streams are open with this token (limit {limit}, limits.streams_per_token)");
            Problem::too_many("too_many_streams", detail, 5)
        })
    }

    /// Takes messages from the publish rate of a token.
    ///
    /// # Errors
    /// If the token publishes too fast.
    pub(super) fn meter(&mut self, token: u64, messages: usize, now: Duration) -> Result<Taken<Metered>, Problem> {
        let rate = self.limits.publish_rate;
        self.meter.hold(token, messages, rate, now).ok_or_else(|| {
            let detail = format!(
                "too many messages are published with this token (limit {rate} per second, limits.publish_rate)"
            );
            Problem::too_many("publish_rate", detail, 1)
        })
    }

    /// Refuses new work from now on.
    pub(super) fn drain(&mut self) {
        self.is_draining = true;
    }

    /// Whether the store is down.
    pub(super) fn set_store_down(&mut self, is_down: bool) {
        self.is_store_down = is_down;
    }

    pub(super) fn is_store_down(&self) -> bool {
        self.is_store_down
    }

    /// Whether the queue of the log is full.
    pub(super) fn set_log_full(&mut self, is_full: bool) {
        self.is_log_full = is_full;
    }

    pub(super) fn is_log_full(&self) -> bool {
        self.is_log_full
    }

    fn condition(&self) -> Condition {
        if self.is_draining {
            Condition::Draining
        } else if self.is_store_down {
            Condition::StoreDown
        } else if self.is_log_full {
            Condition::Overloaded
        } else {
            Condition::Serving
        }
    }

    /// The facts for a call on a connection that came in by `door`, and the limit that it is beyond, if any.
    pub(super) fn facts(&self, door: Door, beyond: Option<Limit>, now: Now) -> Facts {
        let full = beyond.map(|limit| match limit {
            Limit::ConnectionsPerAddress => Full::OfAddress(self.limits.per_address),
            _ => Full::Connections(self.limits.connections),
        });
        Facts { now, condition: self.condition(), full, door, is_cut_off: false }
    }

    /// The number of connections beyond a limit.
    pub(super) fn refused(&self) -> usize {
        self.reserve.get()
    }

    /// The most connections and streams.
    pub(super) fn connections_max(&self) -> usize {
        self.limits.connections
    }

    /// The most requests of one connection.
    pub(super) fn requests_max(&self) -> u32 {
        self.limits.requests_per_connection
    }

    /// The number of addresses and tokens that hold permits: 0 once everyone has left.
    #[cfg(test)]
    pub(super) fn counted(&self) -> (usize, usize) {
        (self.addresses.len(), self.tokens.len())
    }
}
