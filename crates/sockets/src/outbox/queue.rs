//! A queue of messages for one peer, such as the answers of a ROUTER.
//!
//! A peer that lets too much wait is not read, so that no more than the answers to what it has sent
//! comes to that. It is closed if it takes nothing for long, or if others need the memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use zafka_zmtp::frame::put_message;

use super::{Batch, Feed, SpareBuffers};
use crate::buffers::Buffer;
use crate::closed::Closed;
use crate::memory::{Charge, PeerMemory};

/// Bytes of messages that may wait for a peer, beyond which it is not read.
pub(crate) const QUEUE_BYTES: usize = 1024 * 1024;
/// Time after which such a peer is closed if its kernel takes nothing.
const UNREAD: Duration = Duration::from_secs(5);

/// Messages that wait for a peer. Filled by any task.
#[derive(Debug)]
pub(crate) struct Queue {
    memory: Arc<PeerMemory>,
    spares: Arc<SpareBuffers>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    messages: Buffer,
    charge: Charge,
    /// True if the kernel took nothing the last time.
    is_blocked: bool,
    /// The time since when more than [`QUEUE_BYTES`] wait and nothing was written.
    unread: Option<Instant>,
    /// The reason why messages were dropped: the peer is to be closed.
    dropped: Option<Overflow>,
}

#[derive(Clone, Copy, Debug)]
enum Overflow {
    Unread,
    NoMemory,
}

/// Takes messages into a queue.
#[derive(Debug)]
pub struct Answers<'a> {
    messages: &'a mut Buffer,
    /// The most bytes that may wait.
    most: usize,
    /// True if a message was left out: the peer cannot go on without it.
    lacks_some: bool,
}

impl Answers<'_> {
    /// Adds a message, unless too much waits already.
    pub fn put<'a>(&mut self, frames: impl ExactSizeIterator<Item = &'a [u8]>) {
        self.add(|bytes| put_message(bytes, frames));
    }

    /// As [`Self::put`], of a message in ZMTP framing.
    pub fn put_framed(&mut self, message: &[u8]) {
        self.add(|bytes| bytes.extend_from_slice(message));
    }

    fn add(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        if self.messages.bytes.len() <= self.most {
            put(&mut self.messages.bytes);
            self.messages.ends.push(self.messages.bytes.len());
        } else {
            self.lacks_some = true;
        }
    }
}

/// Messages on their way to the peer.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    messages: Buffer,
    /// Bytes of them that were written.
    sent: usize,
    /// Their memory.
    _charge: Option<Charge>,
}

/// A queue as the feed of its peer. The messages that were taken last are the session's to keep.
#[derive(Debug)]
pub(crate) struct QueueFeed<'a> {
    pub(crate) queue: &'a Queue,
    pub(crate) taken: &'a mut Taken,
}

impl Queue {
    pub(crate) fn new(memory: &Arc<PeerMemory>, spares: &Arc<SpareBuffers>) -> Self {
        let charge = memory.empty();
        let messages = Buffer::default();
        let waiting = Waiting { messages, charge, is_blocked: false, unread: None, dropped: None };
        let (memory, spares) = (Arc::clone(memory), Arc::clone(spares));
        Self { memory, spares, waiting: Mutex::new(waiting) }
    }

    /// Adds a message, unless too much waits: then it and all others are dropped. Returns whether
    /// the peer's connection is to be woken: it knows of those that wait already, unless they have
    /// become too many.
    pub(crate) fn push<'a>(&self, frames: impl ExactSizeIterator<Item = &'a [u8]>) -> bool {
        self.push_all(0, |answers| answers.put(frames))
    }

    /// The same of the messages that `put` adds, of about so many bytes.
    pub(crate) fn push_all(&self, expected: usize, put: impl FnOnce(&mut Answers<'_>)) -> bool {
        let mut waiting = self.waiting.lock();
        let Waiting { messages, charge, is_blocked, dropped, .. } = &mut *waiting;
        if dropped.is_some() {
            return false;
        }
        let before = messages.bytes.len();
        if messages.bytes.capacity() == 0 {
            *messages = self.spares.take(expected);
        }
        // What others let wait must not close those that read.
        let limited = *is_blocked && self.memory.is_scarce();
        let most = if limited { QUEUE_BYTES } else { self.memory.limit() };
        let mut answers = Answers { messages, most, lacks_some: false };
        put(&mut answers);
        // Then it is closed, though others may have given memory back meanwhile.
        let lacks_some = answers.lacks_some;
        let bytes = messages.bytes.len();
        let has_memory = charge.set(bytes).is_ok();
        let is_short = lacks_some || !has_memory || self.memory.is_scarce();
        if *is_blocked && bytes > QUEUE_BYTES && is_short {
            waiting.drop_all(Overflow::Unread, &self.memory);
        } else if !has_memory {
            waiting.drop_all(Overflow::NoMemory, &self.memory);
        }
        let is_first = before == 0 && bytes > 0;
        is_first || (before <= QUEUE_BYTES && bytes > QUEUE_BYTES) || waiting.dropped.is_some()
    }

    /// Returns the time at which the peer is closed if it takes nothing until then, and closes it
    /// if that is over. `None` unless so much waits that it is not to be read.
    pub(crate) fn poll_unread(&self, now: Instant) -> Option<Instant> {
        let waiting = &mut *self.waiting.lock();
        if waiting.messages.bytes.len() <= QUEUE_BYTES {
            waiting.unread = None;
            return None;
        }
        let since = *waiting.unread.get_or_insert(now);
        if now >= since + UNREAD {
            waiting.drop_all(Overflow::Unread, &self.memory);
        }
        Some(since + UNREAD)
    }

    /// Returns true if so much waits that the peer is not read.
    pub(crate) fn is_unread(&self) -> bool {
        self.bytes() > QUEUE_BYTES
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.waiting.lock().messages.bytes.len()
    }

    /// Returns true if nothing waits, and nothing was dropped.
    pub(crate) fn is_empty(&self) -> bool {
        let waiting = self.waiting.lock();
        waiting.dropped.is_none() && waiting.messages.bytes.is_empty()
    }

    /// Returns an error unless its peer may stay.
    ///
    /// # Errors
    /// The reason to close the connection, if messages were dropped.
    pub(crate) fn check(&self) -> Result<(), Closed> {
        match self.waiting.lock().dropped {
            Some(Overflow::Unread) => Err(Closed::AnswersUnread(QUEUE_BYTES)),
            Some(Overflow::NoMemory) => Err(Closed::Memory(self.memory.limit())),
            None => Ok(()),
        }
    }

    fn take(&self) -> Result<Taken, Closed> {
        self.check()?;
        let mut waiting = self.waiting.lock();
        let messages = std::mem::take(&mut waiting.messages);
        let charge = std::mem::replace(&mut waiting.charge, self.memory.empty());
        Ok(Taken { messages, sent: 0, _charge: Some(charge) })
    }
}

impl Waiting {
    /// Drops all messages, which closes the peer.
    fn drop_all(&mut self, reason: Overflow, memory: &Arc<PeerMemory>) {
        self.dropped = Some(reason);
        (self.messages, self.charge) = (Buffer::default(), memory.empty());
    }
}

impl Batch for Taken {
    fn is_empty(&self) -> bool {
        self.sent == self.messages.bytes.len()
    }

    fn has_more(&self) -> bool {
        false
    }

    fn half_written(&self) -> usize {
        self.messages.half_written(self.sent).map_or(0, |end| end - self.sent)
    }

    fn slices(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(self.messages.bytes.get(self.sent..).unwrap_or_default())
    }
}

impl Feed for QueueFeed<'_> {
    type Batch = Taken;

    fn next_batch(&mut self) -> Result<Taken, Closed> {
        if self.taken.is_empty() {
            return self.queue.take();
        }
        Ok(std::mem::take(self.taken))
    }

    fn advance(&mut self, mut batch: Taken, written: usize) -> bool {
        batch.sent += written;
        let mut waiting = self.queue.waiting.lock();
        waiting.is_blocked = written == 0 && !batch.is_empty();
        if written > 0 {
            waiting.unread = None;
        }
        drop(waiting);
        if !batch.is_empty() {
            *self.taken = batch;
            return false;
        }
        self.queue.spares.keep(batch.messages);
        self.queue.is_empty()
    }
}

/// The feed of a peer that is sent no messages.
#[derive(Debug)]
pub(crate) struct NoFeed;

impl Feed for NoFeed {
    type Batch = Taken;

    fn next_batch(&mut self) -> Result<Taken, Closed> {
        Ok(Taken::default())
    }

    fn advance(&mut self, _batch: Taken, _written: usize) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_of_what_was_written_is_filled_again() {
        let (memory, spares) = (PeerMemory::new(8 * QUEUE_BYTES), Arc::default());
        let put = |queue: &Queue| {
            let body = [7; 50];
            queue.push_all(2_000 * 52, |answers| {
                (0..1_999).for_each(|_| answers.put([&body[..]].into_iter()));
                answers.put_framed(&[&[0, 50][..], &body].concat());
            });
        };
        let mut places = Vec::new();
        for _ in 0..3 {
            // Of one peer after the other.
            let (queue, mut taken) = (Queue::new(&memory, &spares), Taken::default());
            let mut feed = QueueFeed { queue: &queue, taken: &mut taken };
            put(&queue);
            let batch = feed.next_batch().unwrap();
            let bytes = bytes(&batch);
            assert_eq!((bytes.len(), batch.messages.ends.len()), (2_000 * 52, 2_000));
            assert_eq!((&bytes[..3], batch.half_written()), (&[0, 50, 7][..], 0));
            places.push(batch.messages.bytes.as_ptr());
            assert!(!feed.advance(batch, 1_000));
            let batch = feed.next_batch().unwrap();
            assert!(feed.advance(batch, bytes.len() - 1_000));
            assert_eq!(memory.used(), 0);
        }
        assert!(places.iter().all(|place| *place == places[0]));
    }

    fn push(queue: &Queue, body: &[u8]) {
        queue.push([body].into_iter());
    }

    fn bytes(batch: &Taken) -> Vec<u8> {
        batch.slices().collect::<Vec<_>>().concat()
    }

    #[test]
    fn messages_are_taken_in_order_and_finished() {
        let memory = PeerMemory::new(100);
        let (queue, mut taken) = (Queue::new(&memory, &Arc::default()), Taken::default());
        push(&queue, b"one");
        push(&queue, b"two");
        let mut feed = QueueFeed { queue: &queue, taken: &mut taken };
        let batch = feed.next_batch().unwrap();
        assert_eq!((bytes(&batch), batch.half_written()), (b"\0\x03one\0\x03two".to_vec(), 0));
        push(&queue, b"x");
        assert!(!feed.advance(batch, 7));
        let batch = feed.next_batch().unwrap();
        assert_eq!((bytes(&batch), batch.half_written()), (b"two".to_vec(), 3));
        assert_eq!(memory.used(), 13, "until it is written");
        assert!(!feed.advance(batch, 3), "one more waits");
        assert_eq!(memory.used(), 3);
        let batch = feed.next_batch().unwrap();
        assert!(feed.advance(batch, 3) && queue.is_empty());
        assert!(feed.next_batch().unwrap().is_empty());
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn a_peer_that_lets_much_wait_is_not_read_and_closed_if_it_takes_nothing() {
        let memory = PeerMemory::new(8 * QUEUE_BYTES);
        let (queue, mut taken) = (Queue::new(&memory, &Arc::default()), Taken::default());
        let mut feed = QueueFeed { queue: &queue, taken: &mut taken };
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        push(&queue, b"first");
        let batch = feed.next_batch().unwrap();
        assert!(!feed.advance(batch, 0));
        push(&queue, &vec![0; QUEUE_BYTES - 9]);
        assert_eq!((queue.poll_unread(at(0)), queue.is_unread()), (None, false));
        push(&queue, b"");
        assert_eq!((queue.poll_unread(at(1)), queue.is_unread()), (Some(at(6)), true));
        assert_eq!(queue.poll_unread(at(5)), Some(at(6)));
        // Whatever it takes, it is read again later.
        let batch = feed.next_batch().unwrap();
        assert!(!feed.advance(batch, 3));
        assert_eq!(queue.poll_unread(at(6)), Some(at(11)));
        assert!(queue.check().is_ok());
        let batch = feed.next_batch().unwrap();
        assert!(!feed.advance(batch, 4));
        let batch = feed.next_batch().unwrap();
        assert!(!feed.advance(batch, 0));
        assert_eq!((queue.poll_unread(at(60)), queue.is_unread()), (None, false));
        push(&queue, &vec![0; QUEUE_BYTES]);
        assert_eq!(queue.poll_unread(at(61)), Some(at(66)));
        assert_eq!(queue.poll_unread(at(66)), Some(at(66)));
        assert!(matches!(queue.check(), Err(Closed::AnswersUnread(QUEUE_BYTES))));
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn a_peer_that_lacks_a_message_is_closed_though_memory_is_back() {
        let memory = PeerMemory::new(4 * QUEUE_BYTES);
        let (queue, mut taken) = (Queue::new(&memory, &Arc::default()), Taken::default());
        let mut feed = QueueFeed { queue: &queue, taken: &mut taken };
        push(&queue, b"first");
        let batch = feed.next_batch().unwrap();
        assert!(!feed.advance(batch, 0));
        let others = memory.charge(2 * QUEUE_BYTES + 1).unwrap();
        queue.push_all(0, |answers| {
            answers.put([&vec![0; QUEUE_BYTES][..]].into_iter());
            answers.put([&b"this one is left out"[..]].into_iter());
            drop(others);
        });
        assert!(matches!(queue.check(), Err(Closed::AnswersUnread(QUEUE_BYTES))));
    }

    #[test]
    fn a_peer_that_lets_too_much_wait_is_to_be_closed() {
        let memory = PeerMemory::new(2 * QUEUE_BYTES);
        let (queue, mut taken) = (Queue::new(&memory, &Arc::default()), Taken::default());
        let mut feed = QueueFeed { queue: &queue, taken: &mut taken };
        // The kernel takes all, and then nothing.
        push(&queue, &vec![0; QUEUE_BYTES + 1]);
        let batch = feed.next_batch().unwrap();
        let size = bytes(&batch).len();
        assert!(feed.advance(batch, size));
        push(&queue, b"one");
        let batch = feed.next_batch().unwrap();
        assert!(!feed.advance(batch, 2));
        let batch = feed.next_batch().unwrap();
        assert!(!feed.advance(batch, 0));
        *feed.taken = Taken::default();
        push(&queue, &vec![0; QUEUE_BYTES - 9]);
        assert!(!queue.is_empty());
        push(&queue, b"");
        assert!(matches!(queue.take(), Err(Closed::AnswersUnread(QUEUE_BYTES))));
        assert_eq!((queue.bytes(), memory.used()), (0, 0));
        let (queue, other) =
            (Queue::new(&memory, &Arc::default()), memory.charge(QUEUE_BYTES + 1).unwrap());
        push(&queue, &vec![0; QUEUE_BYTES - 9]);
        assert!(matches!(queue.take(), Err(Closed::Memory(limit)) if limit == 2 * QUEUE_BYTES));
        push(&queue, b"more");
        assert!(queue.take().is_err() && !queue.is_empty(), "it stays so");
        drop(other);
        assert_eq!(memory.used(), 0);
    }
}
