//! The meaning of an answer to a Produce request for its batch.

use std::fmt;

use kafka_protocol::ResponseError as Code;

/// The answer for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::produce) struct Answer {
    /// Kafka's error; none if the batch was written.
    pub(in crate::produce) error: Option<Code>,
    /// The broker's message about it.
    pub(in crate::produce) message: Option<String>,
    /// Offset of the first record; -1 if the answer lacks it.
    pub(in crate::produce) base_offset: i64,
    /// Time in ms since the epoch; -1 if the records have their own.
    pub(in crate::produce) log_append_time: i64,
    /// The first offset of the log; -1 if the answer lacks it.
    pub(in crate::produce) log_start: i64,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.error.map_or_else(String::new, |code| code.to_string());
        match &self.message {
            Some(message) => write!(f, "{code}: {message}"),
            None => f.write_str(&code),
        }
    }
}

/// The reason why a partition is not written now. It is tried again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::produce) enum Trouble {
    /// A batch was not taken.
    #[error("{0}")]
    Refused(Answer),
    /// There is no producer id.
    #[error("no producer id: {0}")]
    NoProducerId(Code),
    /// There is no producer id for this user.
    #[error(
        "{0}: an idempotent producer needs IdempotentWrite on the cluster, or Write on a topic"
    )]
    NotAllowed(Code),
}

/// The action that follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is in the log.
    Written,
    /// It is in the log, at an unknown offset.
    Duplicate,
    /// It was not appended, and may be the next time.
    Retry,
    /// It was not appended, for another broker may be the leader.
    NotLeader,
    /// It was appended or not: the same bytes again.
    Unclear,
    /// Unclear as [`Verdict::Unclear`], after an error that may come each time.
    Unknown,
    /// The sequence does not continue the log's. It was not appended.
    Sequence,
    /// The log does not know this epoch, or not this producer. It was not appended.
    Producer,
    /// It was not appended: the batch is larger than the topic takes.
    TooLarge,
    /// It was not appended, because of at least one of its records.
    Refused,
    /// It was not appended: writing there is not allowed.
    NotAllowed,
    /// It was not appended, and never will be.
    Impossible,
}

impl Verdict {
    pub(super) fn of(error: Option<Code>) -> Self {
        let Some(error) = error else { return Self::Written };
        match error {
            Code::DuplicateSequenceNumber => Self::Duplicate,
            Code::NotEnoughReplicas | Code::ThrottlingQuotaExceeded => Self::Retry,
            Code::NotLeaderOrFollower
            | Code::LeaderNotAvailable
            | Code::UnknownTopicOrPartition
            | Code::UnknownTopicId
            | Code::InconsistentTopicId
            | Code::ReplicaNotAvailable
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch
            | Code::ListenerNotFound => Self::NotLeader,
            Code::RequestTimedOut | Code::NotEnoughReplicasAfterAppend
                if zafka_planted::is("acknowledged-too-early") =>
            {
                Self::Written
            }
            Code::RequestTimedOut
            | Code::NotEnoughReplicasAfterAppend
            | Code::NetworkException
            | Code::KafkaStorageError => Self::Unclear,
            Code::OutOfOrderSequenceNumber | Code::UnknownProducerId => Self::Sequence,
            Code::InvalidProducerEpoch
            | Code::InvalidProducerIdMapping
            | Code::ProducerFenced
            | Code::InvalidTxnState => Self::Producer,
            Code::MessageTooLarge | Code::RecordListTooLarge => Self::TooLarge,
            Code::InvalidRecord | Code::InvalidTimestamp | Code::CorruptMessage => Self::Refused,
            Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed => Self::NotAllowed,
            Code::InvalidTopicException
            | Code::InvalidRequest
            | Code::InvalidRequiredAcks
            | Code::PolicyViolation
            | Code::UnsupportedCompressionType
            | Code::UnsupportedForMessageFormat
            | Code::UnsupportedVersion => Self::Impossible,
            _ => Self::Unknown,
        }
    }
}
