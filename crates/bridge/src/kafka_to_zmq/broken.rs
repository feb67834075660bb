//! Promises about positions that are checked while the route runs. One that does not hold is a
//! mistake of ours, and stops the route before anything is committed by it.

use zafka_kafka::TopicPartition;

/// A promise that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("internal error: {topic_partition}: {promise}")]
pub struct Broken {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// The promise.
    pub promise: Promise,
}

/// A promise, with the offsets that break it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Promise {
    /// Offsets rise within a generation.
    #[error("a record at offset {offset} came after all before {read} (offsets rise)")]
    OffsetsRise {
        /// The offset of the record that came.
        offset: i64,
        /// The lowest that it could have.
        read: i64,
    },
    /// Records are delivered only after they were read.
    #[error("delivered up to {delivered}, but read up to {read} (delivered <= read)")]
    DeliveredWasRead {
        /// The next offset to deliver.
        delivered: i64,
        /// The next offset to read.
        read: i64,
    },
    /// Commits do not go back, but for a reset of the log.
    #[error(
        "committed up to {committed}, but delivered up to {delivered} (committed <= delivered)"
    )]
    CommittedWasDelivered {
        /// The next offset to deliver.
        delivered: i64,
        /// The position that was handed over to be committed before.
        committed: i64,
    },
}
