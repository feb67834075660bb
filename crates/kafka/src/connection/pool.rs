//! Buffers of frames that were read, to be used again once no part of them is held. The connections
//! of a cluster share them, so that what is kept does not grow with its brokers.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

/// The most that is kept, and the largest buffer of it, in bytes.
const MOST: usize = 16 << 20;
const LARGEST: usize = 4 << 20;
/// A buffer that was not taken for so long is freed.
const UNUSED: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Kept {
    buffer: Bytes,
    capacity: usize,
    since: Instant,
}

/// Buffers, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<VecDeque<Kept>>);

impl Pool {
    /// An empty buffer for so many bytes: one that is no longer held, or a new one.
    pub(super) fn take(&self, size: usize) -> BytesMut {
        let mut kept = self.0.lock();
        let free = kept.iter().position(|kept| kept.capacity >= size && kept.buffer.is_unique());
        let taken = free.and_then(|free| kept.remove(free));
        drop(kept);
        match taken.map(|taken| taken.buffer.try_into_mut()) {
            Some(Ok(mut buffer)) if buffer.capacity() >= size => {
                buffer.clear();
                buffer
            }
            _ => BytesMut::with_capacity(size),
        }
    }

    /// Keeps the buffer of a frame, which has this capacity, in place of the oldest ones.
    pub(super) fn keep(&self, buffer: &Bytes, capacity: usize, now: Instant) {
        if capacity > LARGEST {
            return;
        }
        let mut kept = self.0.lock();
        kept.push_back(Kept { buffer: buffer.clone(), capacity, since: now });
        let mut bytes: usize = kept.iter().map(|kept| kept.capacity).sum();
        while bytes > MOST
            && let Some(oldest) = kept.pop_front()
        {
            bytes -= oldest.capacity;
        }
    }

    /// Frees buffers that were not taken for long.
    pub(super) fn trim(&self, now: Instant) {
        let mut kept = self.0.lock();
        while kept.front().is_some_and(|oldest| now.duration_since(oldest.since) > UNUSED) {
            kept.pop_front();
        }
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.0.lock().iter().map(|kept| kept.capacity).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_and_does_not_stay() {
        let (pool, start) = (Pool::default(), Instant::now());
        for at in 0..100 {
            let frame = BytesMut::with_capacity(1 << 20).freeze();
            pool.keep(&frame, 1 << 20, start + Duration::from_millis(at));
        }
        assert_eq!(pool.bytes(), MOST);
        pool.keep(&Bytes::new(), LARGEST + 1, start);
        assert_eq!(pool.bytes(), MOST);
        pool.trim(start + UNUSED);
        assert_eq!(pool.bytes(), MOST);
        pool.trim(start + UNUSED + Duration::from_secs(1));
        assert_eq!(pool.bytes(), 0);
    }

    #[test]
    fn a_buffer_comes_back_once_nobody_holds_a_part_of_it() {
        let (pool, now) = (Pool::default(), Instant::now());
        let mut buffer = BytesMut::with_capacity(20_000);
        buffer.extend_from_slice(&[7; 20_000]);
        let (at, capacity) = (buffer.as_ptr(), buffer.capacity());
        let frame = buffer.freeze();
        pool.keep(&frame, capacity, now);
        let part = frame.slice(5..10);
        drop(frame);
        assert_ne!(pool.take(10_000).as_ptr(), at, "a part of it is held");
        drop(part);
        assert_ne!(pool.take(30_000).as_ptr(), at, "it is too small");
        let again = pool.take(10_000);
        assert_eq!((again.as_ptr(), again.len()), (at, 0));
        assert_eq!(pool.bytes(), 0);
    }
}
