//! The progress of a partition, and the chunk that is next.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use zafka_kafka::{Assignment, Generation};
use zafka_sockets::{Chunk, Demand, Label, Origin};

use super::broken::{Broken, Promise};
use super::sink::Sink;

/// The peers that a partition's records are for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Audience {
    /// Those that have to want it, if `min_peers` asks for any.
    pub(crate) demand: Option<Arc<Demand>>,
    /// The label that the rights of peers are decided by.
    pub(crate) label: Option<Label>,
}

/// The progress of a generation of a partition; shared with the code that reports or commits it.
/// `read` >= `delivered` >= what is handed over to be committed: see `to_commit`.
///
/// A generation begins at the position up to which the one before it was read, or at its own start
/// if that is lower. Chunks of the ones before are owed as they were: the ring gives them out
/// first.
#[derive(Debug)]
pub struct Progress {
    pub(crate) assignment: Arc<Assignment>,
    pub(crate) generation: u32,
    pub(crate) origin: Arc<Origin>,
    pub(crate) audience: Audience,
    before: Vec<Before>,
    read: AtomicI64,
    /// The position that was handed over to be committed, below which no commit may go.
    committed: AtomicI64,
    /// The offset at which the next generation begins, once there is one: the log is another one
    /// from there on.
    end: AtomicI64,
}

/// An earlier generation of which chunks are in the ring.
#[derive(Clone, Debug)]
struct Before {
    origin: Arc<Origin>,
    /// The offset below which the records are still in the log.
    end: i64,
}

impl Progress {
    /// A partition of which everything before `generation.start` is read and delivered.
    pub(crate) fn new(
        assignment: Arc<Assignment>,
        generation: Generation,
        audience: Audience,
    ) -> Arc<Self> {
        Arc::new(Self {
            assignment,
            generation: generation.number,
            origin: audience.origin(generation.start),
            audience,
            before: Vec::new(),
            read: AtomicI64::new(generation.start),
            committed: AtomicI64::new(generation.start),
            end: AtomicI64::new(i64::MAX),
        })
    }

    /// The generation after this one, of which nothing is read yet.
    pub(crate) fn next(&self, generation: Generation) -> Arc<Self> {
        let end = generation.start;
        self.end_at(end);
        // Chunks hold their origin: one that is held nowhere else has none left. So there are no
        // more than chunks.
        let earlier = self.before.iter().filter(|before| Arc::strong_count(&before.origin) > 1);
        let earlier = earlier.map(|before| (&before.origin, before.end.min(end)));
        let before = earlier.chain([(&self.origin, end)]);
        let before =
            before.map(|(origin, end)| Before { origin: Arc::clone(origin), end }).collect();
        let delivered = match zafka_planted::is("reset-counts-undelivered") {
            true => self.read(),
            false => self.delivered(),
        };
        Arc::new(Self {
            assignment: Arc::clone(&self.assignment),
            generation: generation.number,
            origin: self.audience.origin(delivered),
            audience: self.audience.clone(),
            before,
            read: AtomicI64::new(self.read()),
            committed: AtomicI64::new(self.committed.load(Ordering::Relaxed)),
            end: AtomicI64::new(i64::MAX),
        })
    }

    /// Ends what can be committed at `offset`: what was read from there on is no longer in the log.
    /// Nothing beyond is committed of it, and commits may go back to there.
    pub(crate) fn end_at(&self, offset: i64) {
        self.end.fetch_min(offset, Ordering::Relaxed);
        self.committed.fetch_min(offset, Ordering::Relaxed);
    }

    /// Its assignment.
    #[cfg(feature = "sim")]
    pub fn assignment(&self) -> &Arc<Assignment> {
        &self.assignment
    }

    /// The next offset to read.
    pub fn read(&self) -> i64 {
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
    pub fn delivered(&self) -> i64 {
        let before = self.before.iter().map(|before| (&before.origin, before.end));
        let mut delivered = i64::MIN;
        for (origin, end) in before.chain([(&self.origin, i64::MAX)]) {
            delivered = delivered.max(origin.delivered().min(end));
            if origin.is_short() {
                // What comes after it does not count.
                break;
            }
        }
        delivered.min(self.end.load(Ordering::Relaxed))
    }

    /// Returns true if it stands still, because something was published that too few were owed.
    pub(crate) fn is_short(&self) -> bool {
        self.origins().any(|origin| origin.is_short())
    }

    /// Takes what is unsent out of the ring, and what is not delivered for not read.
    pub(crate) fn take_back(&self, sink: &mut impl Sink) {
        self.withdraw(sink);
        self.set_read(self.delivered());
    }

    /// Returns true if all that was read is delivered, or nothing more will be.
    pub(crate) fn is_drained(&self) -> bool {
        self.is_short() || self.delivered() == self.read()
    }

    /// Returns what is to be committed, the assignment and its next offset, and takes note of it.
    ///
    /// # Errors
    /// If committed <= delivered <= read does not hold.
    pub(crate) fn to_commit(&self) -> Result<(Arc<Assignment>, i64), Broken> {
        // In this order: it moves on meanwhile.
        let mut delivered = self.delivered();
        let read = self.read();
        if zafka_planted::is("read-is-committed") {
            delivered = read;
        }
        let committed = self.committed.load(Ordering::Relaxed);
        if delivered > read {
            return Err(self.broken(Promise::DeliveredWasRead { delivered, read }));
        }
        if committed > delivered {
            return Err(self.broken(Promise::CommittedWasDelivered { delivered, committed }));
        }
        self.committed.store(delivered, Ordering::Relaxed);
        Ok((Arc::clone(&self.assignment), delivered))
    }

    /// A promise about it that does not hold.
    pub(crate) fn broken(&self, promise: Promise) -> Broken {
        Broken { topic_partition: self.assignment.topic_partition.clone(), promise }
    }

    /// Its origin, and those of earlier generations that may have chunks in the ring.
    pub(crate) fn origins(&self) -> impl Iterator<Item = &Arc<Origin>> {
        self.before.iter().map(|before| &before.origin).chain([&self.origin])
    }

    /// Takes what is unsent of it out of the ring.
    pub(crate) fn withdraw(&self, sink: &mut impl Sink) {
        self.origins().for_each(|origin| sink.withdraw(origin));
    }
}

impl Audience {
    fn origin(&self, position: i64) -> Arc<Origin> {
        let Self { demand, label } = self.clone();
        Origin::with(position, demand, label)
    }
}

/// A chunk that waits for room in the ring.
#[derive(Debug)]
pub(crate) struct PendingChunk {
    pub(crate) chunk: Chunk,
    pub(crate) progress: Arc<Progress>,
    /// The position before it.
    pub(crate) from: i64,
}

impl PendingChunk {
    /// Takes the chunk for not read: it will never be delivered.
    pub(crate) fn discard(self) {
        self.progress.set_read(self.from);
    }
}
