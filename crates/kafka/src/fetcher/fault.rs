//! Faults that a fetcher cannot decide about itself.

use crate::connection::RequestError;
use crate::records::BatchError;
use crate::reset::{DueOffset, ResetReason};

#[derive(Debug)]
pub(crate) enum FetchFault {
    /// The log does not have the offset.
    OutOfRange { due: DueOffset, error: FetchFailure },
    /// The partition has to resume at `to`, or at the earliest offset.
    ResetNeeded { due: DueOffset, to: Option<i64>, reason: ResetReason },
    /// A batch cannot be read, each time it is fetched.
    Corrupt(CorruptBatch),
    /// Brokers do not have the requests that our own fetcher needs.
    BrokerTooOld(RequestError),
    /// A broker is one of another cluster; its id.
    OtherCluster(String),
}

/// A batch that cannot be read.
#[derive(Debug)]
pub(crate) struct CorruptBatch {
    pub(crate) due: DueOffset,
    /// The offset after it, if that is known.
    pub(crate) next: Option<i64>,
    /// The check that it fails.
    pub(crate) error: FetchFailure,
}

/// A fetcher's reason for what it cannot fetch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FetchFailure {
    /// The leader does not have the offset.
    #[error("Broker: Offset out of range")]
    OutOfRange,
    /// A batch fails our own checks.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// librdkafka's text, which has more than its code.
    #[error("{0}")]
    Librdkafka(String),
}
