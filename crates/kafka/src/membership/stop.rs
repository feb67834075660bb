//! Reasons for which a source stops and its route with it: a restart without a change would not
//! help.

use rdkafka::error::RDKafkaErrorCode;

use crate::client::ClientError;
use crate::error::StartError;
use crate::fetcher::FetchFailure;
use crate::guard::Panicked;
use crate::topic_partition::TopicPartition;

#[derive(Debug, thiserror::Error)]
pub(super) enum StopReason {
    /// `on_out_of_range = "stop"`, and the log has no such offset.
    #[error(
        "{topic_partition}: the log has no offset {offset}: {error} (on_out_of_range = \"stop\")"
    )]
    OutOfRange { topic_partition: TopicPartition, offset: i64, error: FetchFailure },
    /// `on_out_of_range = "stop"`, and the log was truncated.
    #[error(
        "{topic_partition}: the log was truncated to {to}, below {offset} (on_out_of_range = \
         \"stop\"; to go on, set the group's offset to {to}, or on_out_of_range to \"earliest\")"
    )]
    Truncated { topic_partition: TopicPartition, offset: i64, to: i64 },
    /// Another member joined by the same `instance`, and would be fenced in turn.
    #[error("{0}: another relay has the same `instance`")]
    Fenced(RDKafkaErrorCode),
    /// librdkafka cannot fetch in place of our own fetcher.
    #[error("fetching by librdkafka: {0}")]
    Fetcher(ClientError),
    /// No thread for a part of the source.
    #[error("no thread: {0}")]
    Thread(#[from] std::io::Error),
    /// No client can be made.
    #[error(transparent)]
    Client(StartError),
    /// A thread or a task panicked.
    #[error(transparent)]
    Panicked(Panicked),
}
