//! Partitions that the group takes back, while they drain.

use std::sync::Arc;
use std::time::{Duration, Instant};

use zafka_kafka::RevokeDone;

use super::progress::Progress;

/// Time between two looks at whether a revoked partition has drained, if nothing else happens.
const LOOK: Duration = Duration::from_millis(2);

/// Partitions that were revoked at once.
#[derive(Debug)]
pub(super) struct Revoked {
    pub(super) partitions: Vec<Arc<Progress>>,
    pub(super) done: RevokeDone,
    deadline: Instant,
}

/// The partitions that drain now.
#[derive(Debug, Default)]
pub(super) struct Revoking {
    revoked: Vec<Revoked>,
    looked: Option<Instant>,
}

impl Revoking {
    pub(super) fn add(
        &mut self,
        partitions: Vec<Arc<Progress>>,
        done: RevokeDone,
        deadline: Instant,
        now: Instant,
    ) {
        self.revoked.push(Revoked { partitions, done, deadline });
        self.looked = Some(now);
    }

    /// Returns those that have drained or whose time is up.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Revoked> {
        if self.revoked.is_empty() {
            return Vec::new();
        }
        self.looked = Some(now);
        let due = |revoked: &mut Revoked| {
            now >= revoked.deadline
                || revoked.partitions.iter().all(|progress| progress.is_drained())
        };
        self.revoked.extract_if(.., due).collect()
    }

    pub(super) fn take_all(&mut self) -> Vec<Revoked> {
        std::mem::take(&mut self.revoked)
    }

    /// Returns the time at which it is to be looked at again. Nothing tells that a partition has
    /// drained.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let looked = self.looked.filter(|_| !self.revoked.is_empty())?;
        let first = self.revoked.iter().map(|revoked| revoked.deadline).min()?;
        Some(first.min(looked + LOOK))
    }
}
