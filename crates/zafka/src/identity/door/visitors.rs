//! The gate of the door: everybody who has proven a key, for as long as it is of use.

#![allow(clippy::disallowed_methods, reason = "a driver: it hands the time to those who decide")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;
use zafka_sockets::gate::{Access, Gate, Presented, Verdict};
use zafka_zmtp::curve::PublicKey;

use crate::identity::gate::Identities;

/// Time in which a visitor has to enrol its key, or to come back once its lease is over.
const IDLE: Duration = Duration::from_secs(30);

/// Lets in everybody who has proven a key.
#[derive(Debug)]
pub struct Visitors {
    identities: Arc<Identities>,
    /// Those who are there; bounded by the connections that the door may have.
    there: Mutex<Vec<Weak<Visitor>>>,
    ends: watch::Sender<u64>,
}

/// A peer at the door: it may enrol its key, and nothing else.
#[derive(Debug)]
struct Visitor {
    key: PublicKey,
    since: Instant,
    has_ended: AtomicBool,
}

impl Visitors {
    /// Nobody is there.
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
            let is_new = now.saturating_duration_since(visitor.since) < IDLE;
            if is_new || self.identities.leased(&visitor.key).is_some() {
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
}

impl Gate for Visitors {
    fn admit(&self, presented: &Presented<'_>) -> Verdict {
        let Some(key) = presented.peer.key else {
            return Verdict::Refused("it shows no key".to_owned());
        };
        let (since, has_ended) = (Instant::now(), AtomicBool::new(false));
        let visitor = Arc::new(Visitor { key, since, has_ended });
        self.there.lock().push(Arc::downgrade(&visitor));
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
    use crate::identity::tests::{config, dash, presented, wait_admitted};

    #[tokio::test]
    async fn visitors_without_a_lease_have_to_leave() {
        let issuer = zafka_testkit::Issuer::start();
        let identity = start(&config(&issuer)).unwrap();
        let visitors = Visitors::new(Arc::clone(&identity.gate));
        wait_admitted(&identity.gate, 2, &issuer.token("alice", 600, &dash())).await;
        let [alice, stranger] = [2, 3].map(|number| {
            presented(number, "", |presented| match visitors.admit(presented) {
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
}
