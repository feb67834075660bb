//! The memory that answers of brokers may take: a bound for each route, and one for all routes.
//!
//! A route whose peers stand still keeps what it has. So each may have one answer whatever the
//! others hold.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One permit.
const UNIT: usize = 4096;
/// Bytes of answers that all routes hold at once, besides one answer of each.
const ALL_BYTES: usize = 16 << 20;
/// Bytes of answers that one route holds at once, over all brokers.
const ROUTE_BYTES: usize = 8 << 20;

/// The memory of all answers of a cluster.
#[derive(Debug)]
pub(crate) struct AnswerMemory(ByteSemaphore);

impl Default for AnswerMemory {
    fn default() -> Self {
        Self::new(ALL_BYTES)
    }
}

impl AnswerMemory {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(ByteSemaphore::new(bytes))
    }

    /// The part of one route.
    pub(crate) fn budget(&self) -> Budget {
        self.budget_of(ROUTE_BYTES)
    }

    pub(crate) fn budget_of(&self, bytes: usize) -> Budget {
        Budget {
            own: ByteSemaphore::new(bytes),
            first: ByteSemaphore::new(UNIT),
            all: self.0.clone(),
        }
    }
}

/// A part of the memory, shared by all records of one response; given back when the last of them
/// is dropped.
#[derive(Debug)]
pub(crate) struct MemoryPermit {
    _own: OwnedSemaphorePermit,
    /// A part of all routes' memory, or the right to one answer beyond it.
    _shared: Option<OwnedSemaphorePermit>,
}

#[cfg(any(test, feature = "sim"))]
impl MemoryPermit {
    /// A permit of no budget.
    pub(crate) fn unbounded() -> Self {
        let semaphore = Arc::new(Semaphore::new(1));
        // It is there: the semaphore is this one's own.
        let permit = loop {
            if let Ok(permit) = Arc::clone(&semaphore).try_acquire_owned() {
                break permit;
            }
        };
        Self { _own: permit, _shared: None }
    }
}

/// The bytes that one route may have. An answer waits in the kernel, and so at its broker, while
/// there are not enough.
#[derive(Debug)]
pub(crate) struct Budget {
    own: ByteSemaphore,
    /// The one answer that needs nothing of what all have.
    first: ByteSemaphore,
    all: ByteSemaphore,
}

impl Budget {
    /// Waits until there are `size` bytes; an answer larger than a bound has it all for itself.
    pub(crate) async fn reserve(&self, size: usize) -> MemoryPermit {
        let own = self.own.reserve(size).await;
        let shared = tokio::select! {
            biased;
            first = self.first.reserve(UNIT) => first,
            of_all = self.all.reserve(size) => of_all,
        };
        MemoryPermit { _own: own, _shared: Some(shared) }
    }
}

/// Bytes to be had.
#[derive(Clone, Debug)]
struct ByteSemaphore {
    semaphore: Arc<Semaphore>,
    permits: u32,
}

impl ByteSemaphore {
    fn new(bytes: usize) -> Self {
        let permits = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).max(1);
        Self { semaphore: Arc::new(Semaphore::new(permits as usize)), permits }
    }

    async fn reserve(&self, size: usize) -> OwnedSemaphorePermit {
        let permits = u32::try_from(size.div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, self.permits);
        loop {
            // It is never closed.
            if let Ok(permit) = Arc::clone(&self.semaphore).acquire_many_owned(permits).await {
                return permit;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    const MIB: usize = 1 << 20;

    fn now(budget: &Budget, size: usize) -> Option<MemoryPermit> {
        match pin!(budget.reserve(size)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(permit) => Some(permit),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_route_that_stands_still_leaves_the_others_an_answer() {
        let memory = AnswerMemory::new(4 * MIB);
        let (greedy, other) = (memory.budget_of(8 * MIB), memory.budget_of(8 * MIB));
        let held: Vec<_> = (0..5).map(|_| now(&greedy, MIB).unwrap()).collect();
        assert!(now(&greedy, MIB).is_none(), "all is taken, and its one answer beyond it");
        let one = now(&other, MIB).unwrap();
        assert!(now(&other, 1).is_none(), "one answer, not two");
        drop(one);
        let one = now(&other, 100 * MIB).unwrap();
        assert!(now(&other, 1).is_none());
        drop(held);
        assert!(now(&other, 1).is_none(), "its own bound is used up");
        drop(one);
        assert!(now(&other, 8 * MIB).is_some());
    }

    #[test]
    fn a_route_has_no_more_than_its_own_bound() {
        let memory = AnswerMemory::new(100 * MIB);
        let budget = memory.budget_of(2 * MIB);
        let held = now(&budget, MIB).unwrap();
        assert!(now(&budget, MIB + 1).is_none());
        drop(held);
        assert!(now(&budget, 3 * MIB).is_some(), "one that is larger has it all");
    }
}
