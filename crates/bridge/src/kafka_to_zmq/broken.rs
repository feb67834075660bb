//! Promises about positions that are checked while the route runs. One that does not hold is a
//! mistake of ours, and stops the route before anything is committed by it.

use std::fmt;

use zafka_kafka::TopicPartition;

/// A promise that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// The promise.
    pub promise: Promise,
}

/// A promise, with the offsets that break it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Offsets rise within a generation.
    OffsetsRise {
        /// The offset of the record that came.
        offset: i64,
        /// The lowest that it could have.
        read: i64,
    },
    /// Records are delivered only after they were read.
    DeliveredWasRead {
        /// The next offset to deliver.
        delivered: i64,
        /// The next offset to read.
        read: i64,
    },
    /// Commits do not go back, but for a reset of the log.
    CommittedWasDelivered {
        /// The next offset to deliver.
        delivered: i64,
        /// The position that was handed over to be committed before.
        committed: i64,
    },
}

impl std::error::Error for Broken {}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic_partition, promise } = self;
        write!(f, "internal error: {topic_partition}: ")?;
        match promise {
            Promise::OffsetsRise { offset, read } => {
                write!(f, "a record at offset {offset} came after all before {read} (offsets rise)")
            }
            Promise::DeliveredWasRead { delivered, read } => {
                write!(f, "delivered up to {delivered}, but read up to {read} (delivered <= read)")
            }
            Promise::CommittedWasDelivered { delivered, committed } => write!(
                f,
                "committed up to {committed}, but delivered up to {delivered} \
                 (committed <= delivered)"
            ),
        }
    }
}
