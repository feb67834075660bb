//! The memory that answers of all brokers may take together.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One permit.
const UNIT: usize = 4096;

/// A part of the budget, shared by all records of one fetch response; given back when the last of
/// them is dropped.
#[derive(Debug)]
pub(super) struct MemoryPermit {
    _permit: OwnedSemaphorePermit,
}

#[cfg(feature = "sim")]
impl MemoryPermit {
    /// A permit of no budget.
    pub(super) fn unbounded() -> Self {
        let semaphore = Arc::new(Semaphore::new(1));
        // It is there: the semaphore is this one's own.
        let permit = loop {
            if let Ok(permit) = Arc::clone(&semaphore).try_acquire_owned() {
                break permit;
            }
        };
        Self { _permit: permit }
    }
}

/// Bytes to be had. An answer waits in the kernel, and so at its broker, while there are not
/// enough.
#[derive(Debug)]
pub(super) struct Budget {
    semaphore: Arc<Semaphore>,
    permits: u32,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        let permits = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).max(1);
        Self { semaphore: Arc::new(Semaphore::new(permits as usize)), permits }
    }

    /// Waits until there are `size` bytes; an answer larger than the budget has it all for itself.
    pub(super) async fn reserve(&self, size: usize) -> MemoryPermit {
        let permits = u32::try_from(size.div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, self.permits);
        loop {
            // It is never closed.
            if let Ok(permit) = Arc::clone(&self.semaphore).acquire_many_owned(permits).await {
                return MemoryPermit { _permit: permit };
            }
        }
    }
}
