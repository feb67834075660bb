//! Where the fetching of a partition stands.

use std::sync::Arc;

use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::assignment::Assignment;
use crate::generation::{Due, Generation};

/// Topic and partition.
pub(super) type Key = (Arc<str>, i32);

/// A partition with what the next fetch of it says. Held by one task at a time.
#[derive(Clone, Debug)]
pub(super) struct Position {
    pub(super) assignment: Arc<Assignment>,
    pub(super) generation: Generation,
    /// The next offset to fetch.
    pub(super) offset: i64,
    /// Leader epoch of the last batch fetched, by which the leader sees a cut log (KIP-595,
    /// `LastFetchedEpoch`); -1 where it is not known.
    pub(super) last_epoch: i32,
    /// A `last_epoch` that is not told: by it the leader spoke of a cut that was none. -1 where
    /// there is no such.
    pub(super) doubted: i32,
    /// Epoch of the leader that is asked (KIP-320); -1 where it is not known.
    pub(super) leader_epoch: i32,
    /// The topic's id; nil where brokers have none.
    pub(super) topic_id: Uuid,
    /// Whether its generation has just begun, and the route has not heard of it by a record.
    pub(super) sought: bool,
    /// Whether the leader is to give the records itself, and name no replica that is nearer.
    pub(super) without_rack: bool,
}

impl Position {
    /// An assignment where it stands.
    pub(super) fn of(assignment: &Arc<Assignment>) -> Self {
        let (generation, offset) = assignment.reading().place();
        Self::new(Arc::clone(assignment), generation, offset)
    }

    /// Where a generation begins.
    pub(super) fn start(assignment: Arc<Assignment>, generation: Generation) -> Self {
        Self { sought: true, ..Self::new(assignment, generation, generation.start) }
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
            sought: false,
            without_rack: false,
        }
    }

    pub(super) fn key(&self) -> Key {
        (Arc::clone(&self.assignment.topic), self.assignment.partition)
    }

    /// What was due when it could not be fetched.
    pub(super) fn due(&self) -> Due {
        let assignment = Arc::clone(&self.assignment);
        Due { assignment, generation: self.generation.number, offset: self.offset }
    }

    /// The epoch to tell of the last batch.
    pub(super) fn claim(&self) -> i32 {
        if self.last_epoch == self.doubted { -1 } else { self.last_epoch }
    }

    /// Goes on at another offset, of which nothing is known.
    pub(super) fn seek(&mut self, offset: i64) {
        self.offset = offset;
        self.last_epoch = -1;
    }
}

/// Why a partition left a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// It was asked back.
    Asked,
    /// Another broker leads it, or this one does not know it; the leader and its epoch where the
    /// answer tells them (KIP-951).
    Elsewhere { reason: String, leader: Option<(i32, i32)> },
    /// The leader sends it to a replica that is nearer (KIP-392).
    Nearer(i32),
    /// The log does not have the offset.
    OutOfRange,
    /// The log was cut: it ends at this offset where ours goes on.
    Diverged(i64),
}

pub(super) fn topic_name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}
