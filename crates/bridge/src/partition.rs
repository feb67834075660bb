//! A partition of a route, from its take-up to its release: what was read, and the chunks made of it.
//!
//! A plain state machine: it knows neither tasks nor clocks nor sockets' insides.

#[cfg(test)]
mod tests;

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use zafka_envelope::{Encoded, Encoder, FramePlan, Record};
use zafka_kafka::{Assignment, Fetched};
use zafka_sockets::{Buffer, Buffers, Chunk};

use crate::progress::Progress;

/// Records of one partition in their order, to be walked once.
pub(crate) trait Records {
    /// Hands each record to `f` until it breaks, and goes on after it the next time. True once all were handed out.
    fn walk(&mut self, f: impl FnMut(&Record<'_>) -> ControlFlow<()>) -> bool;

    /// The offset to go on from after all of them.
    fn next_offset(&self) -> i64;
}

impl Records for Fetched {
    fn walk(&mut self, f: impl FnMut(&Record<'_>) -> ControlFlow<()>) -> bool {
        Self::walk(self, f)
    }

    fn next_offset(&self) -> i64 {
        Self::next_offset(self)
    }
}

/// A partition that the route holds.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) progress: Arc<Progress>,
    encoder: Encoder,
    /// Offset of the record before the next one; none at the take-up and after a reset.
    prev: Option<i64>,
    reset: Option<Reset>,
}

/// The log no longer had what was due; the partition goes on at `to`. Held until the first record that is surely from
/// there: those fetched before may still come, and lie in `before`.
#[derive(Clone, Debug)]
struct Reset {
    before: Range<i64>,
    to: i64,
}

impl Reset {
    fn is_back(&self) -> bool {
        self.to < self.before.end
    }
}

/// What came of one step through fetched records.
#[derive(Debug)]
pub(crate) struct Step {
    /// The messages made, if there was anything.
    pub(crate) chunk: Option<Chunk>,
    /// What was read before.
    pub(crate) from: i64,
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
        let start = assignment.start;
        Self { progress: Progress::new(assignment, start), encoder, prev: None, reset: None }
    }

    /// The log no longer had `from`: the next record from `to` on has no record before it that is known. True where
    /// that sets the partition back; then its progress is another one, and what is on its way no longer counts.
    pub(crate) fn reset(&mut self, from: i64, to: i64) -> bool {
        let mut before = self.progress.read()..from;
        if let Some(last) = self.reset.take().filter(|last| last.is_back() && !last.before.is_empty()) {
            before = before.start.min(last.before.start)..before.end.max(last.before.end);
        }
        let reset = self.reset.insert(Reset { before, to });
        if reset.is_back() {
            self.progress = Progress::new(Arc::clone(&self.progress.assignment), to);
        }
        reset.is_back()
    }

    /// Encodes fetched records up to the size of a chunk, or one record where that alone is larger.
    pub(crate) fn encode(&mut self, fetched: &mut impl Records, buffers: &Buffers) -> Step {
        let Buffer { bytes, ends } = buffers.take();
        let mut encoded = Encoded { bytes, ends, ..Encoded::default() };
        let from = self.progress.read();
        let mut next = from;
        let finished = fetched.walk(|record| {
            let prev = self.prev_of(record.offset);
            self.encoder.encode(&Record { prev, ..*record }, &mut encoded);
            self.prev = Some(record.offset);
            next = record.offset + 1;
            if encoded.bytes.len() >= buffers.chunk_bytes() {
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
        if let Some(reset) = self.reset.as_ref().filter(|reset| reset.is_back()) {
            // These may be from before it.
            next = reset.to;
        }
        self.progress.set_read(next);
        let records = u64::from(encoded.records);
        let headers_missing = encoded.headers_missing;
        let origin = Arc::clone(&self.progress.origin);
        let buffer = Buffer { bytes: encoded.bytes, ends: encoded.ends };
        let chunk = if buffer.bytes.is_empty() {
            buffers.give(buffer);
            (next != from).then(|| Chunk::marker(origin, next))
        } else {
            Some(buffers.chunk(buffer, encoded.same_routing, records, origin, next))
        };
        Step { chunk, from, finished, records, headers_missing }
    }

    fn prev_of(&mut self, offset: i64) -> Option<i64> {
        let Some(reset) = &mut self.reset else { return self.prev.filter(|prev| *prev < offset) };
        if !reset.before.contains(&offset) {
            self.reset = None;
            return None;
        }
        reset.before.start = offset + 1;
        // One that may be from before the reset or after it has no `prev` that is sure.
        self.prev.filter(|prev| *prev < offset && !reset.is_back())
    }
}
