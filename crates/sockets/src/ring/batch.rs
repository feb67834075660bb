//! A batch: what one write to a peer is made of.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::chunk::Chunk;
#[cfg(feature = "sim")]
use crate::origin::Origin;

/// Bytes that one batch of a peer holds at the most, unless its first chunk alone is larger. (Small
/// in tests, so that they see many batches.)
const BATCH_BYTES: usize = if cfg!(test) { 400 } else { 512 * 1024 };
/// Segments that one batch of a peer holds at the most (well under IOV_MAX).
const BATCH_SEGMENTS: usize = if cfg!(test) { 3 } else { 64 };

/// Consecutive bytes of one chunk.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(super) sequence: u64,
    pub(super) chunk: Arc<Chunk>,
    pub(super) range: Range<usize>,
}

impl Segment {
    /// Returns the origin of its messages.
    #[cfg(feature = "sim")]
    pub(crate) fn origin(&self) -> &Arc<Origin> {
        self.chunk.origin()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.chunk.bytes().get(self.range.clone()).unwrap_or_default()
    }
}

/// The bytes that a peer is to be written next; handed back with
/// [`Ring::advance`](super::Ring::advance).
#[derive(Debug, Default)]
pub(crate) struct RingBatch {
    /// The peer was broken off within a message: nothing may be written to it any more.
    pub(crate) is_broken: bool,
    /// The rest of a half-written message whose chunk is no longer in the ring.
    pub(crate) unfinished: Bytes,
    pub(crate) segments: Vec<Segment>,
    /// The peer's position once all of it is written: a chunk, and bytes of it.
    pub(super) end: (u64, usize),
    /// The last chunk that was looked at.
    pub(super) last: Option<Arc<Chunk>>,
    /// The number of chunks that were looked at; one whose messages had to be gone through counts
    /// for more.
    pub(super) looks: usize,
    /// True if there may be more for the peer than this.
    pub(crate) more: bool,
}

impl RingBatch {
    pub(crate) fn is_empty(&self) -> bool {
        self.unfinished.is_empty() && self.segments.is_empty()
    }

    /// Returns true if it holds as much as it may, with so many bytes.
    pub(super) fn is_full(&self, bytes: usize) -> bool {
        bytes >= BATCH_BYTES || self.segments.len() >= BATCH_SEGMENTS
    }

    /// Returns the number of bytes at its beginning that end a message that is half written.
    pub(crate) fn half_written(&self) -> usize {
        match self.segments.first() {
            Some(first) if self.unfinished.is_empty() => {
                first.chunk.half_written(first.range.start).map_or(0, |end| end - first.range.start)
            }
            _ => self.unfinished.len(),
        }
    }

    /// Its bytes, piece by piece.
    pub(crate) fn slices(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(&*self.unfinished).chain(self.segments.iter().map(Segment::bytes))
    }
}
