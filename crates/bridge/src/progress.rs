//! How far a partition has come, and the chunk that is next.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use zafka_kafka::{Assignment, Generation};
use zafka_sockets::{Chunk, Origin, PubSocket};

/// How far a generation of a partition has come; shared with whoever reports or commits it. `read` >= `delivered`.
///
/// A generation goes on where the one before it was read up to, or at its own start where that is lower. Chunks of the
/// ones before are owed as they were: the ring gives them out first.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) assignment: Arc<Assignment>,
    pub(crate) generation: u32,
    pub(crate) origin: Arc<Origin>,
    before: Vec<Before>,
    read: AtomicI64,
    /// Where the next generation begins, once it is known that there is one: the log is another one from there on.
    end: AtomicI64,
}

/// An earlier generation of which chunks are in the ring.
#[derive(Clone, Debug)]
struct Before {
    origin: Arc<Origin>,
    /// What lies below it is still in the log.
    end: i64,
}

impl Progress {
    /// A partition of which everything before `generation.start` is read and delivered.
    pub(crate) fn new(assignment: Arc<Assignment>, generation: Generation) -> Arc<Self> {
        Arc::new(Self {
            assignment,
            generation: generation.number,
            origin: Origin::new(generation.start),
            before: Vec::new(),
            read: AtomicI64::new(generation.start),
            end: AtomicI64::new(i64::MAX),
        })
    }

    /// The generation after this one, of which nothing is read yet.
    pub(crate) fn next(&self, generation: Generation) -> Arc<Self> {
        let end = generation.start;
        self.end_at(end);
        // Chunks hold their origin: one that nobody else holds has none left. So there are no more than chunks.
        let earlier = self.before.iter().filter(|before| Arc::strong_count(&before.origin) > 1);
        let earlier = earlier.map(|before| (&before.origin, before.end.min(end)));
        let before = earlier.chain([(&self.origin, end)]);
        let before = before.map(|(origin, end)| Before { origin: Arc::clone(origin), end }).collect();
        Arc::new(Self {
            assignment: Arc::clone(&self.assignment),
            generation: generation.number,
            origin: Origin::new(self.delivered()),
            before,
            read: AtomicI64::new(self.read()),
            end: AtomicI64::new(i64::MAX),
        })
    }

    /// From `offset` on, what was read is no longer in the log. Nothing beyond is committed of it.
    pub(crate) fn end_at(&self, offset: i64) {
        self.end.fetch_min(offset, Ordering::Relaxed);
    }

    /// The next offset to read.
    pub(crate) fn read(&self) -> i64 {
        self.encoded().min(self.end.load(Ordering::Relaxed))
    }

    /// The next offset to encode, whether or not the log still has what was before it.
    pub(crate) fn encoded(&self) -> i64 {
        self.read.load(Ordering::Relaxed)
    }

    pub(crate) fn set_read(&self, offset: i64) {
        self.read.store(offset, Ordering::Relaxed);
    }

    /// The next offset to deliver.
    pub(crate) fn delivered(&self) -> i64 {
        let before = self.before.iter().map(|before| before.origin.delivered().min(before.end));
        let delivered = before.fold(self.origin.delivered(), i64::max);
        delivered.min(self.end.load(Ordering::Relaxed))
    }

    /// Whether all that was read is delivered.
    pub(crate) fn is_drained(&self) -> bool {
        self.delivered() == self.read()
    }

    /// What is to be committed: the assignment and its next offset.
    pub(crate) fn position(&self) -> (Arc<Assignment>, i64) {
        let delivered = self.delivered();
        debug_assert!(delivered <= self.read(), "{self:?}");
        (Arc::clone(&self.assignment), delivered.min(self.read()))
    }

    /// Its origin, and those of earlier generations that may have chunks in the ring.
    pub(crate) fn origins(&self) -> impl Iterator<Item = &Arc<Origin>> {
        self.before.iter().map(|before| &before.origin).chain([&self.origin])
    }

    /// Takes what is unsent of it out of the ring.
    pub(crate) fn withdraw(&self, socket: &PubSocket) {
        self.origins().for_each(|origin| socket.withdraw(origin));
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
