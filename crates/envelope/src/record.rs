//! A record as it is handed to an encoder: borrowed, nothing copied.

/// One record of a partition. Topic and partition are the encoder's, since they do not change
/// within one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Offset in the partition.
    pub offset: i64,
    /// Offset of the record before this one, as a reader of the topic sees it; `None` for the
    /// first one read.
    pub prev: Option<i64>,
    /// The time, and the clock that it is of.
    pub timestamp: Timestamp,
    /// Key; `None` is null.
    pub key: Option<&'a [u8]>,
    /// Value; `None` is null, a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers in their order, repeats kept.
    pub headers: &'a [Header<'a>],
}

/// One header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Name; UTF-8 by Kafka's rules, not always in fact.
    pub name: &'a [u8],
    /// Value; `None` is null.
    pub value: Option<&'a [u8]>,
}

/// A record's timestamp in ms since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timestamp {
    /// The record has none.
    None,
    /// Set by the producer.
    Create(i64),
    /// Set by the broker.
    LogAppend(i64),
}
