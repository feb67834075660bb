//! A record as it is decoded: it owns what it carries.

use crate::{Header, Record, Timestamp};

/// One record read back from a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRecord {
    /// Topic; `None` if the message does not carry it.
    pub topic: Option<String>,
    /// Partition.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
    /// The time, and the clock that it is of.
    pub timestamp: Timestamp,
    /// Offset of the record before this one; `None` for the first one read.
    pub prev: Option<i64>,
    /// Key; `None` is null.
    pub key: Option<Vec<u8>>,
    /// Value; `None` is null, a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers in their order, repeats kept.
    pub headers: Vec<OwnedHeader>,
}

/// One header of a decoded record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedHeader {
    /// Name; not always UTF-8.
    pub name: Vec<u8>,
    /// Value; `None` is null.
    pub value: Option<Vec<u8>>,
}

impl OwnedRecord {
    /// The headers as a [`Record`] borrows them.
    pub fn borrow_headers(&self) -> Vec<Header<'_>> {
        self.headers.iter().map(|h| Header { name: &h.name, value: h.value.as_deref() }).collect()
    }

    /// The record for an encoder, with the headers that [`OwnedRecord::borrow_headers`] gave.
    pub fn as_record<'a>(&'a self, headers: &'a [Header<'a>]) -> Record<'a> {
        Record {
            offset: self.offset,
            prev: self.prev,
            timestamp: self.timestamp,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers,
        }
    }
}
