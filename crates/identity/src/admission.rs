//! Admissions: peers that were let in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use zafka_zmtp::curve::PublicKey;

use crate::access::Grant;
use crate::claims::Claims;

/// Stands for no end.
const NEVER: i64 = i64::MAX;

/// A peer that was let in: its claims, and its rights until that ends.
#[derive(Debug)]
pub struct Admission {
    /// Its key; none of an `ipc` peer.
    pub key: Option<PublicKey>,
    /// Its claims; `None` for a key that only `any-key` lets in.
    pub claims: Option<Arc<Claims>>,
    /// Its rights.
    pub grant: Grant,
    /// The end of its lease, in s since the epoch.
    until: AtomicI64,
    ended: AtomicBool,
    /// True once its owner was told that its key is enrolled.
    is_enrolled: AtomicBool,
}

impl Admission {
    pub(crate) fn new(key: Option<PublicKey>, claims: Option<Arc<Claims>>, grant: Grant) -> Self {
        let (until, ended) = (AtomicI64::new(NEVER), AtomicBool::new(false));
        let is_enrolled = AtomicBool::new(false);
        Self { key, claims, grant, until, ended, is_enrolled }
    }

    /// Returns true while it is valid. One that has ended never holds again.
    pub fn holds(&self) -> bool {
        !self.ended.load(Ordering::Acquire)
    }

    /// Returns the peer's subject; empty if nothing is known of it.
    pub fn subject(&self) -> &str {
        self.claims.as_deref().map_or("", Claims::subject)
    }

    /// Returns the end of its lease unless it is renewed, in s since the epoch; `None` without a
    /// lease.
    pub fn until(&self) -> Option<i64> {
        Some(self.until.load(Ordering::Acquire)).filter(|until| *until != NEVER)
    }

    /// Takes note that its owner is told that its key is enrolled. Returns whether that is news:
    /// the lease may have begun before, when Kafka answered.
    pub fn set_enrolled(&self) -> bool {
        !self.is_enrolled.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn set_until(&self, until: i64) {
        self.until.store(until, Ordering::Release);
    }

    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }
}
