//! The gate of the door: it admits every peer that has proven a key, for a limited time.

#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;
use zafka_sockets::gate::{Access, Gate, Presented, TakePlace, Verdict};
use zafka_zmtp::curve::PublicKey;

use crate::identity::gate::Identities;

/// Time in which a visitor has to enrol its key, or to come back once its lease is over.
const IDLE: Duration = Duration::from_secs(30);
/// Connections of one host whose keys are not enrolled.
const MAX_OF_HOST: usize = 64;
/// Connections of one key.
const MAX_OF_KEY: usize = 16;

/// Lets in every peer that has proven a key, unless its host or its key has many connections.
#[derive(Debug)]
pub struct Visitors {
    identities: Arc<Identities>,
    /// Visitors that are there; bounded by the connections that the door may have.
    there: Mutex<Vec<Weak<Visitor>>>,
    ends: watch::Sender<u64>,
}

/// A peer at the door: it may enrol its key, and nothing else.
#[derive(Debug)]
struct Visitor {
    key: PublicKey,
    /// The address that it comes from, as [`host`] has it.
    host: Option<IpAddr>,
    since: Instant,
    /// True once its key was enrolled or was seen to have a lease.
    is_enrolled: AtomicBool,
    has_ended: AtomicBool,
}

impl Visitors {
    /// Makes the gate, without visitors.
    pub fn new(identities: Arc<Identities>) -> Self {
        Self { identities, there: Mutex::default(), ends: watch::Sender::new(0) }
    }

    /// Closes the connections of visitors that have been there for a while, and whose key has no
    /// lease. Returns how many stay.
    pub fn end_idle(&self, now: Instant) -> usize {
        let mut has_ended = false;
        let mut there = self.there.lock();
        there.retain(|visitor| {
            let Some(visitor) = visitor.upgrade() else { return false };
            if now.saturating_duration_since(visitor.since) < IDLE {
                return true;
            }
            if self.identities.leased(&visitor.key).is_some() {
                visitor.is_enrolled.store(true, Ordering::Relaxed);
                return true;
            }
            visitor.has_ended.store(true, Ordering::Release);
            has_ended = true;
            false
        });
        if has_ended {
            self.ends.send_modify(|ends| *ends += 1);
        }
        there.len()
    }

    /// Takes note that a key was enrolled: its visitors do not count for their hosts any more.
    pub fn set_enrolled(&self, key: &PublicKey) {
        for visitor in self.there.lock().iter().filter_map(Weak::upgrade) {
            if visitor.key == *key {
                visitor.is_enrolled.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// Returns the host of `IP:PORT`; for IPv6 its network, since a host there has all of its
/// addresses.
fn host(address: &str) -> Option<IpAddr> {
    let address: SocketAddr = address.parse().ok()?;
    Some(match address.ip().to_canonical() {
        IpAddr::V4(host) => IpAddr::V4(host),
        IpAddr::V6(host) => IpAddr::V6(Ipv6Addr::from_bits(host.to_bits() & (u128::MAX << 64))),
    })
}

impl Gate for Visitors {
    fn admit(&self, presented: &Presented<'_>, take_place: TakePlace<'_>) -> Verdict {
        let Some(key) = presented.peer.key else {
            return Verdict::Refused("it shows no key".to_owned());
        };
        let host = host(presented.address);
        let is_enrolled = self.identities.leased(&key).is_some();
        let mut there = self.there.lock();
        let (mut of_key, mut of_host) = (0, 0);
        there.retain(|visitor| {
            let Some(visitor) = visitor.upgrade() else { return false };
            let counts_for_host = !visitor.is_enrolled.load(Ordering::Relaxed);
            of_key += usize::from(visitor.key == key);
            of_host += usize::from(counts_for_host && visitor.host == host);
            true
        });
        if of_key >= MAX_OF_KEY {
            return Verdict::Later("its key has many connections".to_owned());
        }
        if of_host >= MAX_OF_HOST && !is_enrolled {
            let reason = "many connections of its address have enrolled no key";
            return Verdict::Later(reason.to_owned());
        }
        let visitor = Arc::new(Visitor {
            key,
            host,
            since: Instant::now(),
            is_enrolled: AtomicBool::new(is_enrolled),
            has_ended: AtomicBool::new(false),
        });
        if !take_place(&*visitor) {
            return Verdict::NoPlace;
        }
        there.push(Arc::downgrade(&visitor));
        Verdict::Admitted(visitor)
    }

    fn ends(&self) -> watch::Receiver<u64> {
        self.ends.subscribe()
    }
}

impl Access for Visitor {
    fn may_read(&self, _label: &str) -> bool {
        false
    }

    fn may_write(&self, _label: &str) -> bool {
        false
    }

    fn may_write_something(&self) -> bool {
        false
    }

    fn holds(&self) -> bool {
        !self.has_ended.load(Ordering::Acquire)
    }

    fn subject(&self) -> Option<&str> {
        None
    }

    fn key(&self) -> Option<PublicKey> {
        Some(self.key)
    }

    fn properties(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::start;
    use crate::identity::tests::{admitted, config, dash, kept_out, key, presented, wait_admitted};

    /// Returns the verdict on the owner of this key at that address.
    fn come(visitors: &Visitors, number: u8, address: &str) -> Verdict {
        presented(number, "", |presented| {
            visitors.admit(&Presented { address, ..*presented }, &mut |_| true)
        })
    }

    #[tokio::test]
    async fn visitors_without_a_lease_have_to_leave() {
        let issuer = zafka_testkit::Issuer::start();
        let identity = start(&config(&issuer)).unwrap();
        let visitors = Visitors::new(Arc::clone(&identity.gate));
        wait_admitted(&identity.gate, 2, &issuer.token("alice", 600, &dash())).await;
        let [alice, stranger] = [2, 3].map(|number| {
            presented(number, "", |presented| match visitors.admit(presented, &mut |_| true) {
                Verdict::Admitted(access) => access,
                other => panic!("{other:?}"),
            })
        });
        let nobody = alice.may_write_something() || alice.may_read("orders");
        assert!(!nobody && alice.key() != stranger.key());
        let (now, ends) = (Instant::now(), visitors.ends());
        assert_eq!(visitors.end_idle(now), 2);
        assert!(stranger.holds() && !ends.has_changed().unwrap());
        assert_eq!(visitors.end_idle(now + IDLE), 1);
        assert!(alice.holds() && !stranger.holds() && ends.has_changed().unwrap());
        drop(alice);
        assert_eq!(visitors.end_idle(now), 0);
    }

    #[tokio::test]
    async fn an_address_has_few_places_without_a_lease() {
        let issuer = zafka_testkit::Issuer::start();
        let identity = start(&config(&issuer)).unwrap();
        let visitors = Visitors::new(Arc::clone(&identity.gate));
        let one = |number: u8| come(&visitors, number, "192.0.2.1:5");
        let mut there: Vec<_> = (10..74).map(|number| admitted(one(number))).collect();
        assert_eq!(there.len(), MAX_OF_HOST);
        let (may_retry, why) = kept_out(one(74));
        assert!(may_retry && why.contains("its address"), "{why}");
        kept_out(come(&visitors, 74, "[::ffff:192.0.2.1]:6"));
        admitted(come(&visitors, 74, "192.0.2.2:5"));
        // A peer with a lease is let in all the same, and no longer counts once that is known.
        wait_admitted(&identity.gate, 10, &issuer.token("alice", 600, &dash())).await;
        there.push(admitted(one(10)));
        kept_out(one(74));
        visitors.set_enrolled(&key(10).public());
        there.push(admitted(one(74)));
        kept_out(one(75));
        there.pop();
        admitted(one(75));
    }

    #[tokio::test]
    async fn a_key_has_few_places() {
        let issuer = zafka_testkit::Issuer::start();
        let visitors = Visitors::new(Arc::new(Identities::new(&config(&issuer))));
        let from = |host: usize| come(&visitors, 2, &format!("192.0.2.{host}:5"));
        let there: Vec<_> = (0..MAX_OF_KEY).map(|host| admitted(from(host))).collect();
        let (may_retry, why) = kept_out(from(MAX_OF_KEY));
        assert!(may_retry && why.contains("its key"), "{why}");
        admitted(come(&visitors, 3, "192.0.2.1:5"));
        drop(there);
        admitted(from(0));
    }

    #[test]
    fn hosts_that_are_one() {
        assert_eq!(host("[::ffff:192.0.2.1]:5"), host("192.0.2.1:6"));
        assert_eq!(host("[2001:db8::1]:5"), host("[2001:db8::ffff:0:0:2]:6"));
        assert_ne!(host("[2001:db8::1]:5"), host("[2001:db8:0:1::1]:5"));
        assert_ne!(host("192.0.2.1:5"), host("192.0.2.2:5"));
        assert_eq!(host("a"), None);
    }
}
