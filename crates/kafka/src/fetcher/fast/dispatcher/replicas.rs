//! Brokers that answer, and so the replicas that can be fetched from (KIP-392). A leader that names
//! one gives no records itself, so a partition goes there only once the replica is known to answer;
//! until then its leader is asked without our rack, and serves it.
//!
//! Plain state; time is an argument.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::backoff::Backoff;

/// Time for which a partition is fetched from a replica before its leader is asked for a preferred
/// one again.
pub(super) const REPLICA_LEASE: Duration = Duration::from_secs(300);
/// Time for which a leader serves in the place of a replica that is being connected to, or that did
/// not help a partition.
pub(super) const KEPT: Duration = Duration::from_secs(30);
/// Time for which a replica that failed is not tried again: twice as long after each further
/// failure.
const SHUN: Backoff = Backoff::new(Duration::from_secs(2), REPLICA_LEASE);

#[derive(Clone, Copy, Debug)]
struct Shunned {
    failures: u32,
    until: Instant,
}

/// The knowledge of brokers as replicas.
#[derive(Debug, Default)]
pub(super) struct Replicas {
    connected: HashSet<i32>,
    shunned: HashMap<i32, Shunned>,
}

/// The verdict on a replica as a place to fetch from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplicaVerdict {
    Yes,
    /// It failed lately; its leader serves in its place until then.
    Not(Instant),
    /// It is to be connected to first; its leader serves in its place, until then at the most.
    Probe(Instant),
}

impl Replicas {
    pub(super) fn connected(&mut self, broker: i32) {
        self.connected.insert(broker);
    }

    /// Returns true if any broker answers.
    pub(super) fn has_connected(&self) -> bool {
        !self.connected.is_empty()
    }

    /// It cannot be fetched from.
    pub(super) fn failed(&mut self, broker: i32, now: Instant) {
        self.connected.remove(&broker);
        let shunned = self.shunned.entry(broker).or_insert(Shunned { failures: 0, until: now });
        if now < shunned.until {
            // The same failure, told again.
            return;
        }
        // A lease and more without a failure: this is another one.
        let failures = if now - shunned.until > REPLICA_LEASE { 0 } else { shunned.failures };
        let pause = SHUN.after(failures);
        *shunned = Shunned { failures: failures + 1, until: now + pause };
    }

    /// Its task has ended, and with it the connection.
    pub(super) fn retain(&mut self, is_there: impl Fn(i32) -> bool) {
        self.connected.retain(|broker| is_there(*broker));
    }

    pub(super) fn shunned_until(&self, broker: i32, now: Instant) -> Option<Instant> {
        self.shunned.get(&broker).map(|shunned| shunned.until).filter(|until| *until > now)
    }

    pub(super) fn verdict(&self, broker: i32, now: Instant) -> ReplicaVerdict {
        match self.shunned_until(broker, now) {
            Some(until) => ReplicaVerdict::Not(until),
            None if self.connected.contains(&broker) => ReplicaVerdict::Yes,
            None => ReplicaVerdict::Probe(now + KEPT),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_tried_once_it_answers_and_more_and_more_seldom_where_it_fails() {
        let (mut replicas, mut now) = (Replicas::default(), Instant::now());
        assert_eq!(replicas.verdict(1, now), ReplicaVerdict::Probe(now + KEPT));
        replicas.connected(1);
        assert_eq!(replicas.verdict(1, now), ReplicaVerdict::Yes);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            replicas.failed(1, now);
            let ReplicaVerdict::Not(until) = replicas.verdict(1, now) else {
                panic!("it has just failed")
            };
            replicas.failed(1, now);
            replicas.connected(1);
            assert_eq!(
                replicas.verdict(1, now),
                ReplicaVerdict::Not(until),
                "also where it answers again"
            );
            pauses.push((until - now).as_secs());
            now = until;
            assert_eq!(replicas.verdict(1, now), ReplicaVerdict::Yes);
        }
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        now += REPLICA_LEASE * 2;
        replicas.failed(1, now);
        assert_eq!(
            replicas.verdict(1, now),
            ReplicaVerdict::Not(now + SHUN.first),
            "it had served for long"
        );
        replicas.connected(2);
        replicas.retain(|broker| broker != 2);
        assert_eq!(replicas.verdict(2, now), ReplicaVerdict::Probe(now + KEPT));
    }
}
