//! How far a partition has come, and the chunk that is next.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use zafka_kafka::Assignment;
use zafka_sockets::{Chunk, Origin};

/// How far a partition has come; shared with whoever reports or commits it. `read` >= `delivered`.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) assignment: Arc<Assignment>,
    pub(crate) origin: Arc<Origin>,
    read: AtomicI64,
}

impl Progress {
    /// A partition of which everything before `position` is read and delivered.
    pub(crate) fn new(assignment: Arc<Assignment>, position: i64) -> Arc<Self> {
        Arc::new(Self { assignment, origin: Origin::new(position), read: AtomicI64::new(position) })
    }

    /// The next offset to read.
    pub(crate) fn read(&self) -> i64 {
        self.read.load(Ordering::Relaxed)
    }

    pub(crate) fn set_read(&self, offset: i64) {
        self.read.store(offset, Ordering::Relaxed);
    }

    /// The next offset to deliver.
    pub(crate) fn delivered(&self) -> i64 {
        self.origin.delivered()
    }

    /// Whether all that was read is delivered.
    pub(crate) fn is_drained(&self) -> bool {
        self.delivered() == self.read()
    }

    /// What is to be committed: the assignment and its next offset.
    pub(crate) fn position(&self) -> (Arc<Assignment>, i64) {
        (Arc::clone(&self.assignment), self.delivered())
    }
}

/// A chunk that waits for room in the ring.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) chunk: Chunk,
    pub(crate) progress: Arc<Progress>,
    /// What was read before it.
    pub(crate) from: i64,
}

impl Pending {
    /// Takes the chunk for not read: it will never be delivered.
    pub(crate) fn discard(self) {
        self.progress.set_read(self.from);
    }
}
