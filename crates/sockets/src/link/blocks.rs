//! Blocks that connections are read into. Messages keep the one that they came in; once they are
//! taken it is read into again, the last one first, since it is in the processor's cache. Otherwise
//! the thread that reads would allocate each block, and the one that takes the messages would free
//! it.

use parking_lot::Mutex;

/// Size of a block in bytes: the most that is read at a time.
pub(crate) const BLOCK_BYTES: usize = 128 * 1024;
/// Blocks that are kept: 1 MiB for a socket.
const BLOCKS: usize = 8;

/// The unused blocks of a socket, freed with it.
#[derive(Debug, Default)]
pub(crate) struct Blocks(Mutex<Vec<Vec<u8>>>);

impl Blocks {
    /// Makes an empty buffer a block, unless it is one.
    pub(super) fn fill(&self, buffer: &mut Vec<u8>) {
        buffer.clear();
        if buffer.capacity() < BLOCK_BYTES {
            let kept = self.0.lock().pop();
            *buffer = kept.unwrap_or_else(|| Vec::with_capacity(BLOCK_BYTES));
        }
    }

    /// Takes memory that is no longer needed, if it is a block and there are not enough.
    pub(crate) fn keep(&self, mut memory: Vec<u8>) {
        if memory.capacity() != BLOCK_BYTES {
            return;
        }
        memory.clear();
        let mut blocks = self.0.lock();
        if blocks.len() < BLOCKS {
            blocks.push(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_that_was_used_last_is_read_into_first() {
        let blocks = Blocks::default();
        let [first, last] = [1, 2].map(|byte| {
            let mut block = Vec::new();
            blocks.fill(&mut block);
            assert!(block.is_empty() && block.capacity() == BLOCK_BYTES, "{byte}");
            block.push(byte);
            block
        });
        let places = [last.as_ptr(), first.as_ptr()];
        blocks.keep(first);
        blocks.keep(last);
        for place in places {
            // A rest of input is no block.
            let mut buffer = vec![7; 100];
            blocks.fill(&mut buffer);
            assert!(buffer.is_empty() && buffer.as_ptr() == place);
            buffer.push(1);
            blocks.fill(&mut buffer);
            assert!(buffer.is_empty() && buffer.as_ptr() == place, "it is one already");
        }
    }

    #[test]
    fn only_so_many_blocks_are_kept_and_nothing_else() {
        let blocks = Blocks::default();
        for capacity in [0, 100, BLOCK_BYTES - 1, BLOCK_BYTES + 1, 2 * BLOCK_BYTES] {
            blocks.keep(Vec::with_capacity(capacity));
        }
        assert_eq!(blocks.0.lock().len(), 0);
        for _ in 0..2 * BLOCKS {
            blocks.keep(Vec::with_capacity(BLOCK_BYTES));
        }
        assert_eq!(blocks.0.lock().len(), BLOCKS);
    }
}
