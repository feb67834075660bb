//! Memory that the peers of a socket make it hold, bounded in sum.
//!
//! Whoever holds some on behalf of a peer holds a [`Charge`] for it, which gives it back when it is
//! dropped. Nothing is held beyond the limit: the charge is refused first, and the peer that needs
//! it is closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Memory that a subscription takes at the most beside its prefix, which is kept twice: for its
/// peer, and to be found by. Each time that is two nodes of a trie and what the allocator adds, and
/// once a set of peers.
const SUBSCRIPTION_BYTES: usize = 720;

/// The memory of one socket's peers.
#[derive(Debug)]
pub(crate) struct PeerMemory {
    limit: usize,
    used: AtomicUsize,
}

/// A part of that memory.
#[derive(Debug)]
pub(crate) struct Charge {
    memory: Arc<PeerMemory>,
    bytes: usize,
}

/// There is not so much left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exceeded;

/// What a subscription to a prefix takes, in bytes.
pub(crate) fn subscription(prefix: &[u8]) -> usize {
    SUBSCRIPTION_BYTES + 2 * prefix.len()
}

impl PeerMemory {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0) })
    }

    /// Bytes that peers hold now.
    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// A charge of `bytes`.
    pub(crate) fn charge(self: &Arc<Self>, bytes: usize) -> Result<Charge, Exceeded> {
        let mut charge = Charge { memory: Arc::clone(self), bytes: 0 };
        charge.set(bytes)?;
        Ok(charge)
    }

    /// A charge of nothing yet.
    pub(crate) fn empty(self: &Arc<Self>) -> Charge {
        Charge { memory: Arc::clone(self), bytes: 0 }
    }
}

impl Charge {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes it `bytes`, unless they are more than before and there is not so much left: then it
    /// stays as it was.
    pub(crate) fn set(&mut self, bytes: usize) -> Result<(), Exceeded> {
        let used = &self.memory.used;
        if bytes <= self.bytes {
            used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        } else {
            let more = bytes - self.bytes;
            let add =
                |used: usize| used.checked_add(more).filter(|used| *used <= self.memory.limit);
            used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).map_err(|_| Exceeded)?;
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_the_limit_is_refused_and_changes_nothing() {
        let memory = PeerMemory::new(100);
        let mut one = memory.charge(60).unwrap();
        let two = memory.charge(40).unwrap();
        assert_eq!(memory.charge(1).unwrap_err(), Exceeded);
        assert_eq!(one.set(61), Err(Exceeded));
        assert_eq!((one.bytes(), memory.used()), (60, 100));
        assert_eq!(one.set(usize::MAX), Err(Exceeded));
        one.set(10).unwrap();
        assert_eq!(memory.used(), 50);
        drop(two);
        one.set(100).unwrap();
        drop(one);
        assert_eq!(memory.used(), 0);
        assert_eq!(memory.empty().bytes(), 0);
    }
}
