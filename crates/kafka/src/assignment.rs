//! Partitions that are assigned to a source.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering};

use parking_lot::{Mutex, MutexGuard};
use uuid::Uuid;

use crate::ends::Ends;
use crate::epochs::Epochs;
use crate::generation::{Generation, Reading};
use crate::skipped::SkippedOffsets;
use crate::topic_partition::TopicPartition;

const ACTIVE: u8 = 0;
const REVOKING: u8 = 1;
const GONE: u8 = 2;

/// No offset known yet.
const NONE: i64 = -1;

/// One assignment of a partition to this relay.
#[derive(Debug)]
pub struct Assignment {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// Offset of the next record to be handed out, whether it exists yet or not.
    pub start: i64,
    phase: AtomicU8,
    committed: AtomicI64,
    reading: Reading,
    ends: Mutex<Option<Ends>>,
    corrupt: AtomicI64,
    skipped: Mutex<SkippedOffsets>,
    /// True if the route wants nothing of it for now.
    paused: AtomicBool,
    epochs: Epochs,
    topic_id: Mutex<Uuid>,
}

impl Assignment {
    /// An assignment. A source makes those that it reports.
    pub fn new(topic_partition: TopicPartition, start: i64, committed: Option<i64>) -> Arc<Self> {
        Arc::new(Self {
            topic_partition,
            start,
            phase: AtomicU8::new(ACTIVE),
            committed: AtomicI64::new(committed.unwrap_or(NONE)),
            reading: Reading::new(start),
            ends: Mutex::default(),
            corrupt: AtomicI64::new(NONE),
            skipped: Mutex::default(),
            paused: AtomicBool::new(false),
            epochs: Epochs::default(),
            topic_id: Mutex::default(),
        })
    }

    /// The partition's topic.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic_partition.topic
    }

    /// The partition's number.
    pub fn partition(&self) -> i32 {
        self.topic_partition.partition
    }

    /// Returns true while the partition is held: false from the moment it is revoked or lost.
    pub fn is_active(&self) -> bool {
        self.phase.load(Ordering::Acquire) == ACTIVE
    }

    /// The offset that the group's coordinator has; the next one to be read.
    pub fn committed(&self) -> Option<i64> {
        let committed = self.committed.load(Ordering::Acquire);
        (committed != NONE).then_some(committed)
    }

    /// The generation that is read now. What is received may still be of one before it.
    pub fn generation(&self) -> Generation {
        self.reading.generation()
    }

    /// The next offset to be handed out.
    pub(crate) fn position(&self) -> i64 {
        self.reading.position()
    }

    pub(crate) fn reading(&self) -> &Reading {
        &self.reading
    }

    /// Returns true if this is the number of the generation that is read now.
    pub(crate) fn is_read_as(&self, generation: u32) -> bool {
        self.generation().number == generation
    }

    /// The ends of the partition's log, if the fetcher reports them.
    pub(crate) fn ends(&self) -> Option<Ends> {
        *self.ends.lock()
    }

    pub(crate) fn set_ends(&self, ends: Option<Ends>) {
        *self.ends.lock() = ends;
    }

    /// The offset that cannot be read, once it was met. Nothing from there on is handed out: that
    /// would skip it.
    pub(crate) fn corrupt_at(&self) -> Option<i64> {
        let corrupt = self.corrupt.load(Ordering::Acquire);
        (corrupt != NONE).then_some(corrupt)
    }

    pub(crate) fn set_corrupt_at(&self, generation: u32, offset: i64) {
        self.corrupt.store(offset, Ordering::Release);
        self.reading.set_position(generation, offset);
    }

    /// The offsets that were counted as skipped.
    pub(crate) fn skipped(&self) -> MutexGuard<'_, SkippedOffsets> {
        self.skipped.lock()
    }

    /// The next generation begins elsewhere: what could not be read is left behind. If the log was
    /// truncated there, what is before is known.
    pub(crate) fn reset_to(&self, to: i64, was_truncated: bool) -> Generation {
        self.corrupt.store(NONE, Ordering::Release);
        if was_truncated {
            self.epochs.truncate(to);
        } else {
            self.epochs.forget();
        }
        self.reading.begin(to)
    }

    /// Begins the next generation at an offset that was read already, unless one began that the
    /// caller does not know.
    pub(crate) fn restart(&self, known: u32, offset: i64) -> Option<Generation> {
        let generation = self.reading.begin_after(known, offset)?;
        self.paused.store(false, Ordering::Release);
        // Its fetcher reports them again.
        self.set_ends(None);
        // It is met again, unless it was mended.
        self.corrupt.store(NONE, Ordering::Release);
        self.skipped.lock().forget_below(offset);
        Some(generation)
    }

    /// The leader epochs of its records, as far as the fetcher reports them.
    pub(crate) fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    /// The id of the topic that it is, or is to be, read of; nil while it is not known.
    pub(crate) fn topic_id(&self) -> Uuid {
        *self.topic_id.lock()
    }

    pub(crate) fn set_topic_id(&self, id: Uuid) {
        *self.topic_id.lock() = id;
    }

    /// Holds its records back until it is restarted.
    pub(crate) fn pause(&self) {
        self.paused.store(true, Ordering::Release);
    }

    /// Returns true if the route holds it back.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// Returns true if more of it is wanted.
    pub(crate) fn is_wanted(&self) -> bool {
        self.is_active() && self.corrupt_at().is_none() && !self.is_paused()
    }

    /// Returns true if a commit is still this relay's to make.
    pub(crate) fn may_commit(&self) -> bool {
        self.phase.load(Ordering::Acquire) != GONE
    }

    pub(crate) fn set_revoking(&self) {
        let _ = self.phase.compare_exchange(ACTIVE, REVOKING, Ordering::AcqRel, Ordering::Acquire);
    }

    pub(crate) fn set_gone(&self) {
        self.phase.store(GONE, Ordering::Release);
    }

    pub(crate) fn set_committed(&self, offset: i64) {
        self.committed.store(offset, Ordering::Release);
    }

    /// Lets the next commit go below the last one.
    pub(crate) fn forget_committed(&self) {
        self.set_committed(NONE);
    }
}

impl fmt::Display for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.topic_partition.fmt(f)
    }
}

/// Positions: assignments with the next offset to be read.
pub(crate) type Positions = Vec<(Arc<Assignment>, i64)>;
