//! Buffers for chunks, used again and again.
//!
//! A chunk's buffer is large enough that an allocator fetches fresh pages for it and gives them
//! back each time: at full speed the kernel would spend more on those than on all that is done with
//! the messages. Buffers that were not needed for a while are let go, so that a burst leaves
//! nothing behind.

use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

/// Unused buffers that a trim leaves.
const LEFT: usize = 2;

/// Messages in ZMTP framing, one after the other.
#[derive(Debug, Default)]
pub struct Buffer {
    /// The messages in ZMTP framing.
    pub bytes: Vec<u8>,
    /// The end of each message in `bytes`.
    pub ends: Vec<usize>,
}

impl Buffer {
    /// Memory that it takes, in bytes.
    pub(crate) fn weight(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<usize>()
    }

    /// The byte ranges of its messages, in order, from the first that ends after byte `from`.
    pub(crate) fn messages_from(&self, from: usize) -> impl Iterator<Item = Range<usize>> + '_ {
        let first = self.ends.partition_point(|end| *end <= from);
        let mut start = first.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.ends[first..].iter().map(move |end| {
            let message = start..*end;
            start = *end;
            message
        })
    }

    /// Returns the number of messages that end in `range` (its end included).
    pub(crate) fn messages_ending_in(&self, range: &Range<usize>) -> u64 {
        let ending_by = |position: usize| self.ends.partition_point(|end| *end <= position);
        (ending_by(range.end) - ending_by(range.start)) as u64
    }

    /// The end of the message of which bytes before `sent` were written, unless `sent` lies between
    /// two messages.
    pub(crate) fn half_written(&self, sent: usize) -> Option<usize> {
        let index = self.ends.partition_point(|end| *end < sent);
        match self.ends.get(index) {
            Some(end) if *end != sent && sent != 0 => {
                let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
                (start < sent).then_some(*end)
            }
            _ => None,
        }
    }
}

/// Makes chunks whose buffers come back when the last peer is past them. Clones share what they
/// keep.
#[derive(Clone, Debug)]
pub struct Buffers(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    chunk_bytes: usize,
    limit: usize,
    stack: Mutex<Stack>,
}

#[derive(Debug, Default)]
struct Stack {
    buffers: Vec<Buffer>,
    /// The fewest there were since the last trim.
    unused: usize,
}

impl Buffers {
    /// Buffers for chunks of about `chunk_bytes`; as many are kept as fit `kept_bytes`, but a few
    /// in any case.
    pub fn new(chunk_bytes: usize, kept_bytes: usize) -> Self {
        let limit = (kept_bytes / chunk_bytes.max(1)).max(LEFT);
        Self(Arc::new(Pool { chunk_bytes, limit, stack: Mutex::default() }))
    }

    /// Size at which a chunk is large enough, in bytes.
    pub fn chunk_bytes(&self) -> usize {
        self.0.chunk_bytes
    }

    /// An empty buffer with room for a chunk and for what its last message may go beyond it.
    pub fn take(&self) -> Buffer {
        let kept = {
            let mut stack = self.0.stack.lock();
            let kept = stack.buffers.pop();
            stack.unused = stack.unused.min(stack.buffers.len());
            kept
        };
        kept.unwrap_or_else(|| Buffer { bytes: Vec::with_capacity(self.room()), ends: Vec::new() })
    }

    /// Takes a buffer back; what is in it is gone.
    pub fn give(&self, mut buffer: Buffer) {
        // One that a large message has stretched would hold its memory for nothing.
        let usual =
            buffer.bytes.capacity() <= 2 * self.room() && buffer.ends.capacity() <= self.room();
        buffer.bytes.clear();
        buffer.ends.clear();
        let mut stack = self.0.stack.lock();
        if usual && stack.buffers.len() < self.0.limit {
            stack.buffers.push(buffer);
        }
    }

    /// Lets go of the buffers that were not needed since the last call, all but a few. To be called
    /// now and then.
    pub fn trim(&self) {
        let mut stack = self.0.stack.lock();
        let unused = stack.unused.saturating_sub(LEFT).min(stack.buffers.len());
        // Nothing is freed under the lock.
        let unused: Vec<_> = stack.buffers.drain(..unused).collect();
        stack.unused = stack.buffers.len();
        drop(stack);
        drop(unused);
    }

    /// Buffers that are kept now.
    #[cfg(test)]
    pub(crate) fn unused(&self) -> usize {
        self.0.stack.lock().buffers.len()
    }

    /// A buffer with one message of so many zeros.
    #[cfg(test)]
    pub(crate) fn filled(&self, size: usize) -> Buffer {
        let mut buffer = self.take();
        buffer.bytes.resize(size, 0);
        buffer.ends.push(size);
        buffer
    }

    fn room(&self) -> usize {
        self.0.chunk_bytes + self.0.chunk_bytes / 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_of_the_usual_size_are_kept_up_to_the_limit() {
        for (size, kept_bytes, expected) in [(1000, 10_240, 10), (1000, 0, LEFT), (5000, 10_240, 0)]
        {
            let buffers = Buffers::new(1024, kept_bytes);
            let many: Vec<_> = (0..20).map(|_| buffers.filled(size)).collect();
            many.into_iter().for_each(|buffer| buffers.give(buffer));
            assert_eq!(buffers.unused(), expected, "{size} of {kept_bytes}");
        }
    }

    #[test]
    fn what_was_not_needed_is_let_go() {
        let buffers = Buffers::new(1024, 10_240);
        let give = |many: Vec<Buffer>| many.into_iter().for_each(|buffer| buffers.give(buffer));
        give((0..10).map(|_| buffers.take()).collect());
        buffers.trim();
        assert_eq!(buffers.unused(), 10, "all of them were in use");
        give((0..4).map(|_| buffers.take()).collect());
        buffers.trim();
        assert_eq!(buffers.unused(), 4 + LEFT);
        buffers.trim();
        buffers.trim();
        assert_eq!(buffers.unused(), LEFT);
    }
}
