//! Faults that a fetcher cannot decide about itself.

use crate::reset::{DueOffset, ResetReason};

#[derive(Debug)]
pub(crate) enum FetchFault {
    /// The log does not have the offset; the broker's text.
    OutOfRange { due: DueOffset, error: String },
    /// The partition has to resume at `to`, or at the earliest offset.
    ResetNeeded { due: DueOffset, to: Option<i64>, reason: ResetReason },
    /// A batch cannot be read, each time it is fetched.
    Corrupt(CorruptBatch),
    /// Brokers do not have the requests that our own fetcher needs; the missing one.
    BrokerTooOld(String),
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
    pub(crate) error: String,
}
