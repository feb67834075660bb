//! The fetch position of a partition.

use std::sync::Arc;

use kafka_protocol::ResponseError as Code;
use uuid::Uuid;

use crate::assignment::Assignment;
use crate::generation::Generation;
use crate::reset::DueOffset;
use crate::topic_partition::TopicPartition;

/// A partition with what the next fetch of it says. Held by one task at a time.
#[derive(Clone, Debug)]
pub(crate) struct FetchPosition {
    pub(crate) assignment: Arc<Assignment>,
    pub(crate) generation: Generation,
    /// The next offset to fetch.
    pub(crate) offset: i64,
    /// Leader epoch of the last batch fetched, by which the leader detects truncation (KIP-595,
    /// `LastFetchedEpoch`); -1 if it is not known.
    pub(crate) last_epoch: i32,
    /// A `last_epoch` that is not sent: by it the leader reported a truncation that was none. -1 if
    /// there is no such.
    pub(crate) doubted: i32,
    /// Epoch of the leader that is asked (KIP-320); -1 if it is not known.
    pub(crate) leader_epoch: i32,
    /// The topic's id; nil if brokers have none.
    pub(crate) topic_id: Uuid,
    /// True if its generation has just begun, and no record of it has reached the route.
    pub(crate) repositioned: bool,
    /// True if the leader is to give the records itself, and name no preferred replica.
    pub(crate) without_rack: bool,
}

impl FetchPosition {
    /// An assignment at its position.
    pub(crate) fn of(assignment: &Arc<Assignment>) -> Self {
        let (generation, offset) = assignment.reading().place();
        Self::new(Arc::clone(assignment), generation, offset)
    }

    /// Returns the position at the start of a generation.
    pub(super) fn start(assignment: Arc<Assignment>, generation: Generation) -> Self {
        Self { repositioned: true, ..Self::new(assignment, generation, generation.start) }
    }

    pub(super) fn new(assignment: Arc<Assignment>, generation: Generation, offset: i64) -> Self {
        let last_epoch = assignment.epochs().before(offset);
        Self {
            assignment,
            generation,
            offset,
            last_epoch,
            doubted: -1,
            leader_epoch: -1,
            topic_id: Uuid::nil(),
            repositioned: false,
            without_rack: false,
        }
    }

    pub(super) fn topic_partition(&self) -> &TopicPartition {
        &self.assignment.topic_partition
    }

    /// Returns the offset that was due when it could not be fetched.
    pub(super) fn due(&self) -> DueOffset {
        let assignment = Arc::clone(&self.assignment);
        DueOffset { assignment, generation: self.generation.number, offset: self.offset }
    }

    /// The epoch of the last batch, as requests have it.
    pub(super) fn claim(&self) -> i32 {
        if self.last_epoch == self.doubted { -1 } else { self.last_epoch }
    }

    /// Goes on at another offset, of which nothing is known.
    pub(super) fn seek(&mut self, offset: i64) {
        self.offset = offset;
        self.last_epoch = -1;
    }
}

/// The reason why a partition left a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReturnReason {
    /// It was asked back.
    Requested,
    /// Another broker leads it, or this one does not know it; the leader and its epoch if the
    /// answer has them (KIP-951).
    NotLeader { error: Code, leader: Option<(i32, i32)> },
    /// The leader names a replica to fetch from instead (KIP-392).
    PreferredReplica(i32),
    /// The log does not have the offset.
    OutOfRange,
    /// The log was truncated: it ends at this offset, before ours does.
    Diverged(i64),
}
