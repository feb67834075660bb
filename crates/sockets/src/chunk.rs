//! Chunks: many encoded messages in one buffer, written to every peer as it is.

mod runs;

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use zafka_zmtp::frame;

use crate::buffers::{Buffer, Buffers};
use crate::memory::{Charge, Exceeded, PeerMemory};
use crate::origin::Origin;
use crate::positions::Positions;
pub(crate) use runs::{RunIndex, RunIndexBuilder};

/// A chunk that fills less than this part of its buffer is copied to one of its own size: many lone
/// messages would hold the ring's bytes many times over otherwise.
const COPIED_BELOW: usize = 4;

/// Encoded messages of one origin.
#[derive(Debug)]
pub struct Chunk {
    buffer: Buffer,
    /// The pool that lent the buffer.
    lender: Option<Buffers>,
    same_routing: bool,
    count: u64,
    origin: Arc<Origin>,
    position: i64,
    /// The position of each of its messages in the origin, if it is known.
    positions: Option<Positions>,
    /// The peers that want each of its messages, if that was found when it was published.
    runs: Option<RunIndex>,
    /// Its share of the memory that peers may have, if one needs it beside the ring.
    kept: OnceLock<Charge>,
    /// The epoch of its origin's demand when it was published.
    epoch: u64,
}

impl Chunk {
    /// Makes a chunk of whole messages in ZMTP framing.
    ///
    /// `ends` holds the end of each message in `bytes`, rising, the last one being its length.
    /// `same_routing` is true if every message starts with the same first frame. `count` is what
    /// they count as if no peer wants them: one message may carry many things. `position` is the
    /// origin's position once all of them are delivered.
    pub fn new(
        bytes: Vec<u8>,
        ends: Vec<usize>,
        same_routing: bool,
        count: u64,
        origin: Arc<Origin>,
        position: i64,
    ) -> Self {
        Self::made(Buffer { bytes, ends }, None, same_routing, count, origin, position)
    }

    /// The same of a buffer that `lender` gets back.
    pub(crate) fn lent(
        buffer: Buffer,
        lender: Buffers,
        same_routing: bool,
        count: u64,
        origin: Arc<Origin>,
        position: i64,
    ) -> Self {
        Self::made(buffer, Some(lender), same_routing, count, origin, position)
    }

    fn made(
        buffer: Buffer,
        lender: Option<Buffers>,
        same_routing: bool,
        count: u64,
        origin: Arc<Origin>,
        position: i64,
    ) -> Self {
        debug_assert_eq!(buffer.ends.last().copied().unwrap_or(0), buffer.bytes.len());
        let kept = OnceLock::new();
        Self {
            buffer,
            lender,
            same_routing,
            count,
            origin,
            position,
            positions: None,
            runs: None,
            epoch: 0,
            kept,
        }
    }

    /// A chunk without messages: it moves the origin's position when its turn comes.
    pub fn marker(origin: Arc<Origin>, position: i64) -> Self {
        Self::new(Vec::new(), Vec::new(), true, 0, origin, position)
    }

    /// Adds the positions of its messages in their origin.
    #[must_use]
    pub fn with_positions(mut self, positions: Positions) -> Self {
        self.positions = Some(positions);
        self
    }

    /// Returns the byte at which its messages at `position` or after it begin; its length if there
    /// are none. `None` if it does not know the positions of its messages.
    ///
    /// A message may stand for more than its own position, up to that of the next one: so the one
    /// before may hold `position` too.
    pub fn starts_from(&self, position: i64) -> Option<usize> {
        let first = self.positions.as_ref()?.first_from(position, self.messages());
        let before = first.checked_sub(1).and_then(|before| self.buffer.ends.get(before));
        Some(before.copied().unwrap_or(0))
    }

    /// The position of a message in its origin, by its number. `None` if there is no such message,
    /// or if the chunk does not know.
    pub fn position_of(&self, message: usize) -> Option<i64> {
        let positions = self.positions.as_ref().filter(|_| message < self.messages())?;
        Some(positions.at(message))
    }

    /// Memory that a chunk takes beside its messages and their index, in bytes.
    pub(crate) const OVERHEAD: usize = size_of::<Self>() + 32;

    /// Memory that the chunk takes, in bytes.
    pub fn weight(&self) -> usize {
        self.buffer.weight()
            + self.runs.as_ref().map_or(0, RunIndex::weight)
            + self.positions.as_ref().map_or(0, Positions::weight)
            + Self::OVERHEAD
    }

    /// Takes note that a peer needs it beside the ring, unless there is no memory for that. It
    /// counts once.
    pub(crate) fn keep(&self, memory: &Arc<PeerMemory>) -> Result<(), Exceeded> {
        if self.kept.get().is_none() {
            let _ = self.kept.set(memory.charge(self.kept_weight())?);
        }
        Ok(())
    }

    /// Memory that it takes beside the ring, in bytes, with what the allocator adds. A chunk that
    /// stays while all around it goes leaves gaps: 8 % with 256 of them of 1 MB, by glibc's.
    pub(crate) fn kept_weight(&self) -> usize {
        let weight = self.weight();
        weight + weight / 8
    }

    pub(crate) fn runs(&self) -> Option<&RunIndex> {
        self.runs.as_ref()
    }

    pub(crate) fn set_runs(&mut self, runs: Option<RunIndex>) {
        self.runs = runs;
    }

    /// Size in bytes.
    pub fn len(&self) -> usize {
        self.buffer.bytes.len()
    }

    /// Returns true if it has no messages.
    pub fn is_empty(&self) -> bool {
        self.buffer.bytes.is_empty()
    }

    /// Returns true if its messages come from `origin`.
    pub fn is_of(&self, origin: &Arc<Origin>) -> bool {
        Arc::ptr_eq(&self.origin, origin)
    }

    /// Number of messages.
    pub fn messages(&self) -> usize {
        self.buffer.ends.len()
    }

    /// The messages, one after the other.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer.bytes
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn origin(&self) -> &Arc<Origin> {
        &self.origin
    }

    /// Returns the position of its origin once it is delivered.
    pub fn position(&self) -> i64 {
        self.position
    }

    pub(crate) fn set_epoch(&mut self, epoch: u64) {
        self.epoch = epoch;
    }

    /// Takes note that all of it was delivered, or dropped by policy.
    pub(crate) fn deliver(&self) {
        self.origin.deliver_of(self.epoch, self.position);
    }

    /// Returns true if the messages of `next` can stand after its own in one chunk: they have the
    /// same origin and the same routing frame. A chunk without messages goes with any.
    pub(crate) fn continues_with(&self, next: &Self) -> bool {
        self.is_of(&next.origin)
            && self.epoch == next.epoch
            && self.same_routing
            && next.same_routing
            && (self.is_empty()
                || next.is_empty()
                || self.routing_frame(0) == next.routing_frame(0))
    }

    /// Puts the messages of `next` after its own. Nothing of `next` is freed here.
    pub(crate) fn append(&mut self, next: &Self) {
        let (before, messages) = (self.len(), self.messages());
        self.positions = match (self.positions.take(), &next.positions) {
            (Some(mut positions), Some(next)) => {
                positions.append(messages, next);
                Some(positions)
            }
            (None, Some(next)) if messages == 0 => Some(next.clone()),
            (positions, None) if next.is_empty() => positions,
            _ => None,
        };
        self.buffer.bytes.extend_from_slice(&next.buffer.bytes);
        self.buffer.ends.extend(next.buffer.ends.iter().map(|end| before + end));
        self.count += next.count;
        self.position = next.position;
    }

    pub(crate) fn same_routing(&self) -> bool {
        self.same_routing
    }

    /// The routing frame of the message that starts at byte `start`.
    pub(crate) fn routing_frame(&self, start: usize) -> &[u8] {
        self.buffer.bytes.get(start..).and_then(frame::first_body).unwrap_or_default()
    }

    /// The byte ranges of its messages, in order, from the first that ends after byte `from`.
    pub(crate) fn messages_from(&self, from: usize) -> impl Iterator<Item = Range<usize>> + '_ {
        self.buffer.messages_from(from)
    }

    /// Returns the number of messages that end in `range` (its end included).
    pub(crate) fn messages_ending_in(&self, range: &Range<usize>) -> u64 {
        self.buffer.messages_ending_in(range)
    }

    /// The end of the message of which bytes before `sent` were written, unless `sent` lies between
    /// two messages.
    pub(crate) fn half_written(&self, sent: usize) -> Option<usize> {
        self.buffer.half_written(sent)
    }
}

impl Buffers {
    /// Makes a chunk, as [`Chunk::new`] does.
    pub fn chunk(
        &self,
        buffer: Buffer,
        same_routing: bool,
        count: u64,
        origin: Arc<Origin>,
        position: i64,
    ) -> Chunk {
        if buffer.bytes.len() < buffer.bytes.capacity() / COPIED_BELOW {
            let (bytes, ends) = (buffer.bytes.as_slice().to_vec(), buffer.ends.as_slice().to_vec());
            self.give(buffer);
            return Chunk::new(bytes, ends, same_routing, count, origin, position);
        }
        Chunk::lent(buffer, self.clone(), same_routing, count, origin, position)
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if let Some(lender) = self.lender.take() {
            lender.give(std::mem::take(&mut self.buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three_messages() -> Chunk {
        let bytes = b"\x00\x01a\x00\x02bb\x00\x01c".to_vec();
        Chunk::new(bytes, vec![3, 7, 10], false, 3, Origin::new(0), 3)
    }

    #[test]
    fn finds_its_messages() {
        let chunk = three_messages();
        let from = |position| chunk.messages_from(position).collect::<Vec<_>>();
        assert_eq!(from(0), vec![0..3, 3..7, 7..10]);
        assert_eq!(from(2), vec![0..3, 3..7, 7..10]);
        assert_eq!(from(3), vec![3..7, 7..10]);
        assert_eq!(from(10), vec![]);
        assert_eq!(chunk.routing_frame(3), b"bb");
        assert_eq!(chunk.messages_ending_in(&(2..7)), 2);
        assert_eq!(chunk.messages_ending_in(&(3..7)), 1);
    }

    #[test]
    fn finds_where_a_position_begins() {
        let mut positions = Positions::starting_at(5);
        positions.note(1, 8);
        let mut chunk = three_messages().with_positions(positions);
        let starts = |chunk: &Chunk| [0, 5, 6, 8, 9, 10].map(|at| chunk.starts_from(at).unwrap());
        assert_eq!(starts(&chunk), [0, 0, 3, 3, 7, 10]);
        assert_eq!([0, 1, 2, 3].map(|at| chunk.position_of(at)), [Some(5), Some(8), Some(9), None]);
        let next = Chunk::new(b"\x00\x01d".to_vec(), vec![3], false, 1, Origin::new(0), 31);
        chunk.append(&Chunk::marker(Origin::new(0), 20));
        chunk.append(&next.with_positions(Positions::starting_at(30)));
        assert_eq!((chunk.starts_from(10), chunk.starts_from(31)), (Some(10), Some(13)));
        assert_eq!(chunk.position_of(3), Some(30));
        chunk.append(&three_messages());
        assert_eq!(chunk.starts_from(0), None, "where a part of them stands is not known");
    }

    #[test]
    fn knows_a_half_written_message() {
        let chunk = three_messages();
        for (sent, end) in
            [(0, None), (1, Some(3)), (3, None), (4, Some(7)), (7, None), (9, Some(10)), (10, None)]
        {
            assert_eq!(chunk.half_written(sent), end, "after {sent} bytes");
        }
    }

    #[test]
    fn a_buffer_comes_back_with_its_chunk() {
        let buffers = Buffers::new(1024, 4096);
        let buffer = buffers.filled(1000);
        let memory = buffer.bytes.as_ptr();
        let chunk = buffers.chunk(buffer, true, 1, Origin::new(0), 1);
        assert_eq!((chunk.len(), chunk.messages(), buffers.unused()), (1000, 1, 0));
        assert!(chunk.weight() >= 1024, "memory counts, not what is used of it");
        drop(chunk);
        let again = buffers.take();
        assert_eq!((again.bytes.as_ptr(), again.bytes.len(), again.ends.len()), (memory, 0, 0));
    }

    #[test]
    fn a_small_chunk_holds_what_it_needs() {
        let buffers = Buffers::new(1024, 4096);
        let chunk = buffers.chunk(buffers.filled(100), true, 1, Origin::new(0), 1);
        assert_eq!((chunk.len(), chunk.messages(), buffers.unused()), (100, 1, 1));
        assert!(chunk.weight() < 100 + 8 + 2 * Chunk::OVERHEAD);
        drop(chunk);
        assert_eq!(buffers.unused(), 1, "that one was its own");
    }
}
