//! A partition of a route, from its take-up to its release: what was read, and the chunks made of it.
//!
//! A plain state machine: it knows neither tasks nor clocks nor sockets' insides.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use zafka_envelope::{Encoded, Encoder, FramePlan, Record};
use zafka_kafka::{Assignment, Fetched};
use zafka_sockets::{Chunk, Origin};

/// How far a partition has come; shared with whoever reports or commits it.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) assignment: Arc<Assignment>,
    pub(crate) origin: Arc<Origin>,
    read: AtomicI64,
}

impl Progress {
    fn new(assignment: Arc<Assignment>) -> Arc<Self> {
        let start = assignment.start;
        Arc::new(Self { assignment, origin: Origin::new(start), read: AtomicI64::new(start) })
    }

    /// The next offset to read.
    pub(crate) fn read(&self) -> i64 {
        self.read.load(Ordering::Relaxed)
    }

    /// The next offset to deliver.
    pub(crate) fn delivered(&self) -> i64 {
        self.origin.delivered()
    }

    /// Whether all that was read is delivered.
    pub(crate) fn is_drained(&self) -> bool {
        self.delivered() == self.read()
    }

    /// What is to be committed: the assignment and its next offset.
    pub(crate) fn position(&self) -> (Arc<Assignment>, i64) {
        (Arc::clone(&self.assignment), self.delivered())
    }
}

/// A partition that the route holds.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) progress: Arc<Progress>,
    encoder: Encoder,
    /// Offset of the record before the next one; none at the take-up and after a reset.
    prev: Option<i64>,
    /// Where the partition was set to because the log no longer had what was due.
    reset_to: Option<i64>,
}

/// What came of one step through fetched records.
#[derive(Debug)]
pub(crate) struct Step {
    /// The messages made, if there was anything.
    pub(crate) chunk: Option<Chunk>,
    /// Whether the fetched records are used up.
    pub(crate) finished: bool,
    /// Records read.
    pub(crate) records: u64,
    /// Template fields that asked for a header which a record did not have.
    pub(crate) headers_missing: u64,
}

impl Partition {
    pub(crate) fn new(assignment: Arc<Assignment>, plan: &FramePlan, route: &str) -> Self {
        let encoder = plan.encoder(route, &assignment.topic, assignment.partition);
        Self { progress: Progress::new(assignment), encoder, prev: None, reset_to: None }
    }

    /// The log no longer had what was due: the next record from `to` on has no record before it that is known.
    pub(crate) fn reset(&mut self, to: i64) {
        self.reset_to = Some(to);
    }

    /// Encodes fetched records up to `chunk_bytes`, or one record where that alone is larger.
    pub(crate) fn encode(&mut self, fetched: &mut Fetched, chunk_bytes: usize) -> Step {
        let mut encoded = Encoded::default();
        let mut next = self.progress.read();
        let finished = fetched.walk(|record| {
            if encoded.bytes.is_empty() {
                encoded.bytes.reserve(chunk_bytes + chunk_bytes / 8);
            }
            let prev = self.prev_of(record.offset);
            self.encoder.encode(&Record { prev, ..*record }, &mut encoded);
            self.prev = Some(record.offset);
            next = record.offset + 1;
            if encoded.bytes.len() >= chunk_bytes {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        self.encoder.finish(&mut encoded);
        if finished {
            // Past what no reader is given: control records, aborted and compacted ones.
            next = next.max(fetched.next_offset());
        }
        let moved = next != self.progress.read.swap(next, Ordering::Relaxed);
        let records = u64::from(encoded.records);
        let headers_missing = encoded.headers_missing;
        let origin = Arc::clone(&self.progress.origin);
        let chunk = if encoded.bytes.is_empty() {
            moved.then(|| Chunk::marker(origin, next))
        } else {
            encoded.bytes.shrink_to_fit();
            Some(Chunk::new(encoded.bytes, encoded.ends, encoded.same_routing, records, origin, next))
        };
        Step { chunk, finished, records, headers_missing }
    }

    fn prev_of(&mut self, offset: i64) -> Option<i64> {
        let reset = self.reset_to.is_some_and(|to| offset >= to);
        if reset {
            self.reset_to = None;
        }
        self.prev.filter(|prev| !reset && *prev < offset)
    }
}
