//! Who may have how much: connections and streams are counted, publishing is metered.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use slab::Slab;

use crate::model::{Lender, Taken};

pub use crate::config::Cidr;

/// Bounds on connections and what they do.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    /// Connections and streams in all.
    pub connections: usize,
    /// Connections beyond that, kept to be told so.
    pub reserve: usize,
    /// Connections and streams of one address.
    pub per_address: u32,
    /// Peers whose forwarded addresses are believed.
    pub trusted_proxies: Vec<Cidr>,
    /// Requests of one connection.
    pub requests_per_connection: u32,
    /// Bytes of requests and answers that all connections together may hold.
    pub buffer_bytes: usize,
    /// Streams of one token.
    pub streams_per_token: u32,
    /// Messages that one token may publish a second.
    pub publish_rate: u32,
}

/// Counts by key, each key known by a small number while it is counted.
#[derive(Debug)]
pub(super) struct Counts<K> {
    entries: Slab<(K, u32)>,
    by_key: HashMap<K, u32>,
    held: Lender<NonZeroU32>,
}

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self { entries: Slab::new(), by_key: HashMap::new(), held: Lender::default() }
    }
}

impl<K: Hash + Eq + Copy> Counts<K> {
    /// Counts one more, unless that would be more than `max`; the number to [release](Self::release).
    pub(super) fn take(&mut self, key: K, max: u32) -> Option<NonZeroU32> {
        let index = match self.by_key.get(&key) {
            Some(&index) => index,
            None if max == 0 => return None,
            None => {
                let index = self.entries.insert((key, 0)) as u32;
                self.by_key.insert(key, index);
                index
            }
        };
        let (_, count) = &mut self.entries[index as usize];
        if *count >= max {
            return None;
        }
        *count += 1;
        NonZeroU32::new(index + 1)
    }

    /// As [`take`](Self::take), for whoever may still be refused: counted no longer once it is dropped.
    pub(super) fn hold(&mut self, key: K, max: u32) -> Option<Taken<NonZeroU32>> {
        self.returned();
        self.take(key, max).map(|number| self.held.lend(number))
    }

    fn returned(&mut self) {
        for number in self.held.returned() {
            self.release(Some(number));
        }
    }

    /// Keys that are counted.
    #[cfg(test)]
    pub(super) fn len(&mut self) -> usize {
        self.returned();
        debug_assert_eq!(self.entries.len(), self.by_key.len());
        self.by_key.len()
    }

    /// Counts one less.
    pub(super) fn release(&mut self, number: Option<NonZeroU32>) {
        let Some(number) = number else { return };
        let index = number.get() as usize - 1;
        let Some((key, count)) = self.entries.get_mut(index) else { return };
        *count -= 1;
        if *count == 0 {
            let key = *key;
            self.entries.remove(index);
            self.by_key.remove(&key);
        }
    }
}

/// The address that a peer is counted by: an IPv6 one by its /64, which is what one customer has.
pub(super) fn counted_address(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.into(),
            None => Ipv6Addr::from(u128::from(v6) >> 64 << 64).into(),
        },
    }
}

/// The address that a trusted proxy forwards: the last one of `X-Forwarded-For` that is not itself trusted.
pub(super) fn forwarded_address<'v>(values: impl Iterator<Item = &'v [u8]>, trusted: &[Cidr]) -> Option<IpAddr> {
    // Split before anything is read: what the client sent may be no text, and what the proxy added stands behind it.
    let hops = values.flat_map(|value| value.split(|&b| b == b',')).map(parse_hop);
    let is_trusted = |address| trusted.iter().any(|cidr| cidr.contains(address));
    hops.filter(|hop| !hop.is_some_and(is_trusted)).last().flatten()
}

/// An address, perhaps with a port, an IPv6 one perhaps in brackets.
fn parse_hop(hop: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(hop).ok()?.trim();
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if let Ok(socket) = text.parse::<std::net::SocketAddr>() {
        return Some(socket.ip());
    }
    text.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// Tokens whose publishing is metered; beyond, the one that was heard of longest ago is forgotten.
const METERED_TOKENS_MAX: usize = 10_000;

/// What each token may still publish: a bucket that holds a second's worth and fills again over a second.
#[derive(Debug, Default)]
pub(super) struct PublishMeter {
    buckets: HashMap<u64, Bucket>,
    held: Lender<Metered>,
}

/// What a call to publish takes of its token's rate.
#[derive(Debug)]
pub(super) struct Metered {
    token: u64,
    messages: usize,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    messages: f64,
    at: Duration,
}

impl PublishMeter {
    /// As [`take`](Self::take), for a call that may still be refused: given back once that is dropped.
    pub(super) fn hold(&mut self, token: u64, messages: usize, rate: u32, now: Duration) -> Option<Taken<Metered>> {
        for Metered { token, messages } in self.held.returned() {
            if let Some(bucket) = self.buckets.get_mut(&token) {
                bucket.messages += messages as f64;
            }
        }
        self.take(token, messages, rate, now).then(|| self.held.lend(Metered { token, messages }))
    }

    /// Takes `messages` from the token's bucket, if it holds as many. A bucket that is full lets even more than it
    /// holds pass, and goes into debt, so that a large array is not refused for ever.
    fn take(&mut self, token: u64, messages: usize, rate: u32, now: Duration) -> bool {
        if self.buckets.len() >= METERED_TOKENS_MAX && !self.buckets.contains_key(&token) {
            self.forget_oldest();
        }
        let rate = f64::from(rate);
        let bucket = self.buckets.entry(token).or_insert(Bucket { messages: rate, at: now });
        let refill = now.saturating_sub(bucket.at).as_secs_f64() * rate;
        bucket.messages = (bucket.messages + refill).min(rate);
        bucket.at = now;
        if bucket.messages < (messages as f64).min(rate) {
            return false;
        }
        bucket.messages -= messages as f64;
        true
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.buckets.iter().min_by_key(|(_, bucket)| bucket.at).map(|(&token, _)| token) {
            self.buckets.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_stop_at_their_limit_and_forget_who_is_gone() {
        let mut counts = Counts::default();
        let first = counts.take("a", 2);
        let second = counts.take("a", 2);
        assert!(first.is_some() && second.is_some() && counts.take("a", 2).is_none());
        assert!(counts.take("b", 2).is_some());
        counts.release(first);
        assert!(counts.take("a", 1).is_none(), "one is still counted");
        counts.release(second);
        assert_eq!(counts.by_key.len(), 1, "whoever has nothing left is forgotten");
        counts.release(None);
    }

    #[test]
    fn a_forwarded_address_is_the_last_that_is_not_trusted() {
        let trusted = [Cidr::parse("127.0.0.0/8").expect("a range"), Cidr::parse("10.0.0.0/8").expect("a range")];
        for (header, expected) in [
            ("203.0.113.9", Some("203.0.113.9")),
            ("198.51.100.1, 203.0.113.9, 10.1.1.1", Some("203.0.113.9")),
            ("203.0.113.9:4711", Some("203.0.113.9")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("10.0.0.1", None),
            ("unknown", None),
            ("", None),
        ] {
            let forwarded = forwarded_address([header.as_bytes()].into_iter(), &trusted);
            assert_eq!(forwarded, expected.map(|text| text.parse().expect("an address")), "{header}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_hide_no_forwarded_address() {
        let trusted = [Cidr::parse("10.0.0.0/8").expect("a range")];
        let forwarded = forwarded_address([&b"\xff, 203.0.113.9, 10.0.0.1"[..]].into_iter(), &trusted);
        assert_eq!(forwarded, "203.0.113.9".parse().ok());
        assert_eq!(forwarded_address([&b"203.0.113.9, \xff"[..]].into_iter(), &trusted), None);
    }

    #[test]
    fn an_ipv6_address_counts_by_its_network() {
        let counted = |text: &str| counted_address(text.parse().expect("an address")).to_string();
        assert_eq!(counted("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(counted("::ffff:192.0.2.1"), "192.0.2.1");
    }

    #[test]
    fn publishing_is_metered_by_token_and_recovers() {
        let mut meter = PublishMeter::default();
        let at = Duration::from_millis;
        assert!(meter.take(1, 10, 10, at(0)) && !meter.take(1, 1, 10, at(0)) && meter.take(2, 1, 10, at(0)));
        assert!(meter.take(1, 1, 10, at(100)) && !meter.take(1, 1, 10, at(100)));
        assert!(meter.take(1, 1000, 10, at(5000)), "a large array passes when the bucket is full");
        assert!(!meter.take(1, 1, 10, at(6000)), "and is paid for afterwards");
    }
}
