//! Memory that the peers of a socket make it hold, bounded in sum.
//!
//! Memory that is held on behalf of a peer has a [`Charge`], which gives it back when it is
//! dropped. Nothing is held beyond the limit: the charge is refused first, and the peer that needs
//! it is closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Memory that a subscription takes at the most beside its prefix, which is kept twice: for its
/// peer, and to be found by. Each time that is two nodes of a trie and what the allocator adds, and
/// once a set of peers.
const SUBSCRIPTION_BYTES: usize = 720;

/// The memory of one socket's peers.
#[derive(Debug)]
pub(crate) struct PeerMemory {
    limit: usize,
    used: AtomicUsize,
    /// The number of those that wait for room, and the signal that wakes one of them.
    waiting: AtomicUsize,
    freed: Notify,
}

/// One that waits for room, as long as this lives.
struct Waiter<'a>(&'a PeerMemory);

/// A part of that memory.
#[derive(Debug)]
pub(crate) struct Charge {
    memory: Arc<PeerMemory>,
    bytes: usize,
}

/// There is not so much left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exceeded;

/// Returns the memory of a subscription to a prefix, in bytes.
pub(crate) fn subscription(prefix: &[u8]) -> usize {
    SUBSCRIPTION_BYTES + 2 * prefix.len()
}

impl PeerMemory {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        let (used, waiting) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { limit, used, waiting, freed: Notify::new() })
    }

    /// Bytes that peers may hold together.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Returns true if no more is held than may be.
    pub(crate) fn is_within_limit(&self) -> bool {
        self.used.load(Ordering::Relaxed) <= self.limit
    }

    /// Returns true if more than half of it is held.
    pub(crate) fn is_scarce(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.limit / 2
    }

    /// Bytes that peers hold now.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// A charge of `bytes`.
    pub(crate) fn charge(self: &Arc<Self>, bytes: usize) -> Result<Charge, Exceeded> {
        let mut charge = Charge { memory: Arc::clone(self), bytes: 0 };
        charge.set(bytes)?;
        Ok(charge)
    }

    /// Waits until there may be room for `bytes` more. What becomes free wakes one waiter; it is to
    /// take what it needs, and to try again if that fails.
    pub(crate) async fn room(&self, bytes: usize) {
        // Counted before it looks, so that what becomes free after that wakes it.
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let _waiting = Waiter(self);
        while self.limit.saturating_sub(self.used.load(Ordering::SeqCst)) < bytes {
            self.freed.notified().await;
        }
    }

    /// Gives bytes back.
    fn free(&self, bytes: usize) {
        if bytes > 0 {
            self.used.fetch_sub(bytes, Ordering::SeqCst);
            if self.waiting.load(Ordering::SeqCst) > 0 {
                self.freed.notify_one();
            }
        }
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
        if bytes <= self.bytes {
            self.memory.free(self.bytes - bytes);
        } else {
            let more = bytes - self.bytes;
            let add =
                |used: usize| used.checked_add(more).filter(|used| *used <= self.memory.limit);
            let used = &self.memory.used;
            used.fetch_update(Ordering::SeqCst, Ordering::Relaxed, add).map_err(|_| Exceeded)?;
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Makes it `bytes`, regardless of the limit.
    pub(crate) fn set_beyond_limit(&mut self, bytes: usize) {
        self.memory.used.fetch_add(bytes.saturating_sub(self.bytes), Ordering::SeqCst);
        self.memory.free(self.bytes.saturating_sub(bytes));
        self.bytes = bytes;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.memory.free(self.bytes);
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
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
