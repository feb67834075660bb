//! Admissions: peers that were let in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use zafka_zmtp::curve::PublicKey;

use crate::access::Grant;
use crate::claims::Claims;

/// Stands for no end.
const NEVER: i64 = i64::MAX;

/// A peer that was let in: who it is, and what it may do until that ends.
#[derive(Debug)]
pub struct Admission {
    /// Its key; none of an `ipc` peer.
    pub key: Option<PublicKey>,
    /// What is known of it; nothing of a key that only `any-key` lets in.
    pub claims: Option<Arc<Claims>>,
    /// What it may do.
    pub grant: Grant,
    /// When its lease ends, in s since the epoch.
    until: AtomicI64,
    ended: AtomicBool,
}

impl Admission {
    pub(crate) fn new(key: Option<PublicKey>, claims: Option<Arc<Claims>>, grant: Grant) -> Self {
        let (until, ended) = (AtomicI64::new(NEVER), AtomicBool::new(false));
        Self { key, claims, grant, until, ended }
    }

    /// Whether it holds. One that has ended never holds again.
    pub fn holds(&self) -> bool {
        !self.ended.load(Ordering::Acquire)
    }

    /// Who the peer is; empty if nothing is known of it.
    pub fn subject(&self) -> &str {
        self.claims.as_deref().map_or("", Claims::subject)
    }

    /// When its lease ends unless it is renewed, in s since the epoch; none without a lease.
    pub fn until(&self) -> Option<i64> {
        Some(self.until.load(Ordering::Acquire)).filter(|until| *until != NEVER)
    }

    pub(crate) fn set_until(&self, until: i64) {
        self.until.store(until, Ordering::Release);
    }

    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }
}
