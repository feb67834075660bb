//! Buffers of answers that were written, to be filled again: an allocator fetches fresh pages for
//! each that holds the answers to thousands of messages.

use parking_lot::Mutex;

use crate::buffers::Buffer;

/// The most that is kept for a socket, in bytes.
const MOST: usize = 4 << 20;
/// Smaller buffers are not kept: the allocator is fast for those.
const SMALL: usize = 32 << 10;

/// The unused buffers of a socket, freed with it.
#[derive(Debug, Default)]
pub(crate) struct SpareBuffers(Mutex<Spares>);

#[derive(Debug, Default)]
struct Spares {
    buffers: Vec<Buffer>,
    bytes: usize,
}

impl SpareBuffers {
    /// Returns an empty buffer for about `expected` bytes. It takes at most twice as many: a peer
    /// that does not read may hold it for long.
    pub(super) fn take(&self, expected: usize) -> Buffer {
        if expected < SMALL {
            return Buffer::default();
        }
        let mut spares = self.0.lock();
        let fits = |buffer: &Buffer| {
            let room = buffer.bytes.capacity();
            (expected..=2 * expected).contains(&room) && buffer.weight() <= 2 * room
        };
        match spares.buffers.iter().rposition(fits) {
            Some(place) => {
                let buffer = spares.buffers.remove(place);
                spares.bytes -= buffer.weight();
                buffer
            }
            None => Buffer {
                // The next ones may be somewhat more.
                bytes: Vec::with_capacity(expected + expected / 4),
                ends: Vec::new(),
            },
        }
    }

    /// Takes a buffer back; what is in it is gone. The oldest go if there are too many.
    pub(super) fn keep(&self, mut buffer: Buffer) {
        let weight = buffer.weight();
        if buffer.bytes.capacity() < SMALL || weight > MOST {
            return;
        }
        buffer.bytes.clear();
        buffer.ends.clear();
        let mut spares = self.0.lock();
        spares.buffers.push(buffer);
        spares.bytes += weight;
        while spares.bytes > MOST {
            let oldest = spares.buffers.remove(0);
            spares.bytes -= oldest.weight();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: usize) -> Buffer {
        Buffer { bytes: Vec::with_capacity(bytes), ends: Vec::new() }
    }

    #[test]
    fn a_buffer_comes_back_to_whoever_needs_about_as_much() {
        let spares = SpareBuffers::default();
        let mut buffer = of(100_000);
        buffer.bytes.push(1);
        buffer.ends.push(1);
        let place = buffer.bytes.as_ptr();
        spares.keep(buffer);
        spares.keep(of(1_000_000));
        for other in [0, 10, SMALL, 49_999, 100_001, 499_999, 1_000_001] {
            assert!(spares.take(other).bytes.capacity() <= 2 * other, "{other}");
        }
        assert_eq!(spares.0.lock().buffers.len(), 2);
        for expected in [50_000, 100_000] {
            let buffer = spares.take(expected);
            assert_eq!(
                (buffer.bytes.as_ptr(), buffer.bytes.len(), buffer.ends.len()),
                (place, 0, 0)
            );
            spares.keep(buffer);
        }
    }

    #[test]
    fn the_oldest_go_if_there_are_too_many() {
        let spares = SpareBuffers::default();
        for size in [SMALL - 1, MOST + 1] {
            spares.keep(of(size));
        }
        assert_eq!(spares.0.lock().bytes, 0);
        for size in [100_000, 200_000, MOST - 200_000, 300_000] {
            spares.keep(of(size));
            assert!(spares.0.lock().bytes <= MOST);
        }
        assert_eq!(spares.0.lock().bytes, 300_000, "{:?}", spares.0.lock().buffers.len());
        drop(spares.take(300_000));
        assert_eq!(spares.0.lock().bytes, 0);
    }
}
