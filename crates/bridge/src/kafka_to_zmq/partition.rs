//! A partition of a route, from its assignment to its release: what was read, and the chunks made
//! of it.
//!
//! A plain state machine: it knows neither tasks nor clocks nor sockets' insides.

#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::sync::Arc;

use zafka_envelope::{Encoded, Encoder, Record};
use zafka_kafka::{Assignment, Fetched, Generation};
use zafka_sockets::{Buffer, Buffers, Chunk, Positions};

use super::broken::{Broken, Promise};
use super::gate::Gate;
use super::progress::{Audience, Progress};

/// Records of one partition in their order, to be walked once.
pub trait Records {
    /// The assignment that they belong to.
    fn assignment(&self) -> &Arc<Assignment>;

    /// The reading of the partition that they belong to.
    fn generation(&self) -> Generation;

    /// Hands each record to `f` until it breaks, and goes on after it the next time. True once all
    /// were handed out.
    fn walk(&mut self, f: impl FnMut(&Record<'_>) -> ControlFlow<()>) -> bool;

    /// The offset to go on from after all of them.
    fn next_offset(&self) -> i64;
}

impl Records for Fetched {
    fn assignment(&self) -> &Arc<Assignment> {
        &self.assignment
    }

    fn generation(&self) -> Generation {
        self.generation
    }

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
    pub(crate) gate: Gate,
    encoder: Encoder,
    /// Offset of the record before the next one; `None` if a generation begins.
    prev: Option<i64>,
    /// The offset at which the generation begins, until there is a chunk of it.
    begins: Option<i64>,
    /// The newest generation that was announced and has not begun, with the lowest start of those
    /// that were.
    next: Option<Generation>,
}

/// The result of one step through fetched records.
#[derive(Debug)]
pub(crate) struct Step {
    /// The messages made, if there was anything.
    pub(crate) chunk: Option<Chunk>,
    /// The position before the step.
    pub(crate) from: i64,
    /// True if the fetched records are used up.
    pub(crate) finished: bool,
    /// Records read.
    pub(crate) records: u64,
    /// Template fields that asked for a header which a record did not have.
    pub(crate) headers_missing: u64,
}

impl Partition {
    /// A partition of which nothing was read yet.
    pub(crate) fn new(assignment: Arc<Assignment>, encoder: Encoder, audience: Audience) -> Self {
        let gate = Gate::new(audience.demand.as_ref().is_none_or(|demand| demand.is_enough()));
        let first = Generation { number: 0, start: assignment.start };
        let progress = Progress::new(assignment, first, audience);
        Self { progress, gate, encoder, prev: None, begins: None, next: None }
    }

    /// The number of the generation that is read.
    pub(crate) fn generation(&self) -> u32 {
        self.progress.generation
    }

    /// Begins a generation whose records are to follow: from its start on, what was read before is
    /// no longer in the log. Returns true if that is before the delivered position, so that commits
    /// have to go back.
    pub(crate) fn announce(&mut self, generation: Generation) -> bool {
        if generation.number <= self.newest() {
            return false;
        }
        let start = self.next.map_or(generation.start, |next| next.start.min(generation.start));
        self.next = Some(Generation { start, ..generation });
        let goes_back = generation.start < self.progress.delivered();
        self.progress.end_at(generation.start);
        goes_back
    }

    /// Begins a generation that was announced at once, if nobody reads the partition and all before
    /// `from` is delivered: what lies between that and its start was skipped, so that it is not
    /// read again. Returns whether it did.
    pub(crate) fn skip(&mut self, generation: Generation, from: i64) -> bool {
        let progress = &self.progress;
        let delivered = progress.delivered();
        let is_idle = !self.gate.is_open() && !progress.is_short() && progress.is_drained();
        let is_next = self.next.is_some_and(|next| next.number == generation.number);
        let skips = is_idle && is_next && from <= delivered && delivered < generation.start;
        if skips {
            self.begin_anew(generation);
        }
        skips
    }

    /// Begins a generation that was announced, once everything of those before is encoded.
    pub(crate) fn begin(&mut self, generation: Generation) {
        self.progress = self.progress.next(generation);
        (self.prev, self.begins) = (
            self.prev.filter(|_| zafka_planted::is("prev-crosses-a-reset")),
            Some(generation.start),
        );
        self.next.take_if(|next| next.number <= generation.number);
        if let Some(next) = self.next {
            self.progress.end_at(next.start);
        }
    }

    /// The number of the newest generation that was announced.
    pub(crate) fn newest(&self) -> u32 {
        self.next.map_or(self.generation(), |next| next.number)
    }

    /// Begins a generation at what was delivered, in place of all those before.
    pub(crate) fn restart(&mut self, generation: Generation) {
        self.begin_anew(generation);
        self.gate.opened();
    }

    fn begin_anew(&mut self, generation: Generation) {
        let Progress { assignment, audience, .. } = &*self.progress;
        self.progress = Progress::new(Arc::clone(assignment), generation, audience.clone());
        (self.prev, self.begins, self.next) = (None, None, None);
    }

    /// Encodes fetched records up to the size of a chunk, or one record if that alone is larger.
    ///
    /// # Errors
    /// If a record comes after one of a higher offset. Nothing is read then.
    pub(crate) fn encode(
        &mut self,
        fetched: &mut impl Records,
        buffers: &Buffers,
    ) -> Result<Step, Broken> {
        let Buffer { bytes, ends } = buffers.take();
        let mut encoded = Encoded { bytes, ends, ..Encoded::default() };
        let from = self.progress.encoded();
        let begins = self.begins.take();
        let mut next = begins.unwrap_or(from);
        let mut positions = Positions::starting_at(next);
        let is_batch = self.encoder.is_batch();
        let mut falls_back = None;
        let finished = fetched.walk(|record| {
            if record.offset < next {
                falls_back = Some(Promise::OffsetsRise { offset: record.offset, read: next });
                return ControlFlow::Break(());
            }
            let prev = self.prev.filter(|prev| *prev < record.offset);
            self.encoder.encode(&Record { prev, ..*record }, &mut encoded);
            if is_batch {
                positions.note(encoded.ends.len(), record.offset);
            } else if record.offset != next {
                positions.note(encoded.ends.len().saturating_sub(1), record.offset);
            }
            self.prev = Some(record.offset);
            next = record.offset + 1;
            if encoded.bytes.len() >= buffers.chunk_bytes() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        self.encoder.finish(&mut encoded);
        if let Some(promise) = falls_back {
            buffers.give(Buffer { bytes: encoded.bytes, ends: encoded.ends });
            return Err(self.progress.broken(promise));
        }
        if finished {
            // Past what no reader is given: control records, aborted and compacted ones.
            next = next.max(fetched.next_offset());
        }
        self.progress.set_read(next);
        let records = u64::from(encoded.records);
        let headers_missing = encoded.headers_missing;
        let origin = Arc::clone(&self.progress.origin);
        let buffer = Buffer { bytes: encoded.bytes, ends: encoded.ends };
        let chunk = if buffer.bytes.is_empty() {
            buffers.give(buffer);
            // A generation begins in the ring too: once that is past what is before it, the
            // generation stands there.
            let moves = (next != from || begins.is_some())
                && !zafka_planted::is("unseen-offsets-do-not-count");
            moves.then(|| Chunk::marker(origin, next))
        } else {
            let chunk = buffers.chunk(buffer, encoded.same_routing, records, origin, next);
            Some(chunk.with_positions(positions))
        };
        Ok(Step { chunk, from, finished, records, headers_missing })
    }
}
