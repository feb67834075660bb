//! The number of peers that want the messages of an origin, and the messages that are not to count
//! as delivered while those peers are too few.
//!
//! Demand is by routing frame: the ring does not know what it stands for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The number of peers that want one routing frame, or have any subscription, and the number that
/// is needed.
#[derive(Debug)]
pub struct Demand {
    needed: usize,
    peers: AtomicUsize,
    /// One more each time that they become enough or too few: odd while they are too few.
    epoch: AtomicU64,
}

impl Demand {
    /// Demand for something that `peers` want.
    pub(crate) fn new(needed: usize, peers: usize) -> Arc<Self> {
        let epoch = AtomicU64::new(u64::from(peers < needed));
        Arc::new(Self { needed, peers: AtomicUsize::new(peers), epoch })
    }

    /// Peers that want it.
    pub fn peers(&self) -> usize {
        self.peers.load(Ordering::Acquire)
    }

    /// Returns the number that is needed.
    pub fn needed(&self) -> usize {
        self.needed
    }

    /// Returns true if there are so many.
    pub fn is_enough(&self) -> bool {
        self.peers() >= self.needed
    }

    /// A number that stays while they do not become enough or too few.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Changed with the ring's lock alone. Returns true if they became enough or too few by it.
    pub(crate) fn set(&self, peers: usize) -> bool {
        let before = self.peers.swap(peers, Ordering::AcqRel) >= self.needed;
        let changed = before != (peers >= self.needed);
        if changed {
            self.epoch.fetch_add(1, Ordering::AcqRel);
        }
        changed
    }
}
