//! The reason why a range cannot be read further.

use uuid::Uuid;

use crate::topic_partition::TopicPartition;

/// The reason why a range cannot be read further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The log does not reach to the offset, at its begin or at its end.
    #[error("{topic_partition}: the log does not have offset {offset}")]
    OutOfRange {
        /// The partition.
        topic_partition: TopicPartition,
        /// The offset that was due.
        offset: i64,
    },
    /// The log was truncated below what was handed out: records from there on are no more.
    #[error("{topic_partition}: the log was truncated at offset {offset}")]
    Truncated {
        /// The partition.
        topic_partition: TopicPartition,
        /// The first offset that is not in the log any more.
        offset: i64,
    },
    /// The topic is another one: it was deleted and created again.
    #[error("{topic_partition}: the topic was recreated, its id is {topic_id} now")]
    Recreated {
        /// The partition.
        topic_partition: TopicPartition,
        /// The id of the topic that there is.
        topic_id: Uuid,
    },
    /// A batch cannot be read, each time that it is fetched.
    #[error("{topic_partition}: the log cannot be read at offset {offset}: {reason}")]
    Corrupt {
        /// The partition.
        topic_partition: TopicPartition,
        /// The first offset that cannot be read.
        offset: i64,
        /// The fault in it.
        reason: String,
    },
    /// A broker does not have the requests that are needed.
    #[error("{topic_partition}: {reason}")]
    TooOld {
        /// The partition.
        topic_partition: TopicPartition,
        /// The request, and its shortcoming.
        reason: String,
    },
    /// Nothing came for the time that the range has. Another try may help.
    #[error("{topic_partition}: nothing could be read: {reason}")]
    Unavailable {
        /// The partition.
        topic_partition: TopicPartition,
        /// The last error.
        reason: String,
    },
}

impl ReadError {
    /// Returns true if another try from the same position may succeed, without anything being done.
    pub fn is_retriable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}
