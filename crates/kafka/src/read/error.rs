//! The reason why a range cannot be read further.

use kafka_protocol::ResponseError;
use uuid::Uuid;

use crate::connection::RequestError;
use crate::fetcher::PartitionError;
use crate::metadata::MetadataError;
use crate::reason::{Consequence, Reason};
use crate::records::BatchError;
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
        reason: ReadFault,
    },
    /// A broker does not have the requests that are needed.
    #[error("{topic_partition}: {reason}")]
    TooOld {
        /// The partition.
        topic_partition: TopicPartition,
        /// The broker, and the request.
        reason: ReadFault,
    },
    /// Silence for the time that the range has. Another try may help.
    #[error("{topic_partition}: nothing could be read: {reason}")]
    Unavailable {
        /// The partition.
        topic_partition: TopicPartition,
        /// The last error.
        reason: ReadFault,
    },
}

impl ReadError {
    /// Returns true if another try from the same position may succeed, without anything being done.
    pub fn is_retriable(&self) -> bool {
        self.consequence() == Consequence::Retry
    }
}

impl Reason for ReadError {
    fn consequence(&self) -> Consequence {
        match self {
            Self::Unavailable { .. } => Consequence::Retry,
            Self::OutOfRange { .. }
            | Self::Truncated { .. }
            | Self::Recreated { .. }
            | Self::Corrupt { .. }
            | Self::TooOld { .. } => Consequence::Reject,
        }
    }
}

/// The fault behind a [`ReadError`], for people to read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct ReadFault(#[from] pub(super) RangeFault);

/// A fault that keeps a range from being read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RangeFault {
    /// No answer yet.
    #[error("no answer")]
    NoAnswer,
    /// No metadata.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// Metadata that lack the topic.
    #[error("metadata without the topic")]
    NoTopic,
    /// Metadata that name another topic of its name.
    #[error("the topic has another id")]
    OtherTopic,
    /// The topic lacks the partition.
    #[error("the topic has no such partition")]
    NoPartition,
    /// The partition has no leader now.
    #[error("the partition has no leader")]
    NoLeader,
    /// The cluster's error of the topic, or a leader's of the partition.
    #[error("{0}")]
    Refused(ResponseError),
    /// The leader has no answer.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The leader's answer is of no use.
    #[error(transparent)]
    Partition(#[from] PartitionError),
    /// The leader sends to a replica, or lets go of the partition.
    #[error("the leader gives no records")]
    NoRecords,
    /// A batch cannot be read.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The task that read has broken off.
    #[error("internal error")]
    Internal,
}
