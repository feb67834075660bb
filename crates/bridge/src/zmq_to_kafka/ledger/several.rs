//! The records of a message that has several of them, and the outcome of each.

use std::collections::BTreeMap;
use std::sync::Arc;

use zafka_kafka::produce::{WriteError, Written};

use crate::zmq_to_kafka::wire::{Batch, BatchPart, Failure, Place};

/// The records of a message with several of them.
#[derive(Debug)]
pub(super) struct Several {
    records: usize,
    left: usize,
    parts: Parts,
    failure: Option<WriteError>,
}

/// The records that are written, by partition.
#[derive(Debug, Default)]
struct Parts {
    first: Option<BatchPart>,
    others: BTreeMap<i32, BatchPart>,
}

impl Several {
    pub(super) fn new(records: usize) -> Self {
        Self { records, left: records, parts: Parts::default(), failure: None }
    }

    pub(super) fn records(&self) -> usize {
        self.records
    }

    /// Takes the outcome of a record. Returns true if it was the last.
    pub(super) fn take(&mut self, outcome: &Result<Written, WriteError>) -> bool {
        self.left = self.left.saturating_sub(1);
        match outcome {
            Ok(written) => self.parts.add(*written),
            Err(error) => {
                // A record that may be in the log counts for more than the reason why others are
                // not.
                let is_unknown = |error: &WriteError| matches!(error, WriteError::Unknown(_));
                if !self.failure.as_ref().is_some_and(is_unknown) {
                    self.failure = Some(error.clone());
                }
            }
        }
        self.left == 0 || zafka_planted::is("told-before-its-last-record")
    }

    /// The outcome of the message, once that of its last record is known.
    pub(super) fn outcome(
        self,
        topic: Option<Arc<str>>,
        timestamp: i64,
        is_batch: bool,
    ) -> Result<Place, Failure> {
        let Self { records, parts, failure, .. } = self;
        match failure {
            // Some records of a batch may be in the log: then the whole is not known to be failed.
            Some(error)
                if parts.first.is_some() && !zafka_planted::is("unknown-is-told-failed") =>
            {
                Err(WriteError::Unknown(format!(
                    "a part of the batch was written; the rest: {error}"
                ))
                .into())
            }
            Some(error) => Err(error.into()),
            None => Ok(place(topic, timestamp, records, parts, is_batch)),
        }
    }
}

impl Parts {
    fn add(&mut self, written: Written) {
        let Written { partition, offset, .. } = written;
        let new = BatchPart { partition, first: offset, last: offset, count: 0 };
        let first = self.first.get_or_insert(new);
        let part = if first.partition == partition {
            first
        } else {
            self.others.entry(partition).or_insert(new)
        };
        part.count += 1;
        // An unknown offset leaves the ends unknown.
        part.first = part.first.zip(offset).map(|(known, offset)| known.min(offset));
        part.last = part.last.zip(offset).map(|(known, offset)| known.max(offset));
    }

    /// Returns the parts in the order of their numbers.
    fn into_sorted(self) -> Vec<BatchPart> {
        let mut all: Vec<_> = self.first.into_iter().chain(self.others.into_values()).collect();
        all.sort_unstable_by_key(|part| part.partition);
        all
    }
}

fn place(
    topic: Option<Arc<str>>,
    timestamp: i64,
    count: usize,
    parts: Parts,
    is_batch: bool,
) -> Place {
    let only = parts.first.filter(|_| parts.others.is_empty());
    let (first, last) = (only.and_then(|part| part.first), only.and_then(|part| part.last));
    let partitions = if only.is_some() { Vec::new() } else { parts.into_sorted() };
    Place {
        topic: topic.unwrap_or_default(),
        partition: only.map(|part| part.partition),
        offset: last,
        timestamp,
        batch: is_batch.then(|| Box::new(Batch { first, last, count, partitions })),
    }
}
