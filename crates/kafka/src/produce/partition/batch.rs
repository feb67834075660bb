//! The batches of a partition: one that takes records, those that wait for a sequence, those that
//! have one.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::super::Ticket;
use super::super::tickets::Tickets;
use crate::records::{BatchBuilder, Codec, Draft, NewRecord, ProducerId};

/// Time in which a batch takes records if there is a delivery timeout: they are given up together.
const SPAN: Duration = Duration::from_secs(1);

/// Buffers that are no longer held, to be used again.
#[derive(Debug, Default)]
pub(in crate::produce) struct Buffers {
    free: Vec<BytesMut>,
    bytes: usize,
}

impl Buffers {
    /// The most that is kept, in bytes.
    const MOST: usize = 8 << 20;
    /// Smaller buffers are not kept: the allocator is fast for those.
    const SMALL: usize = 32 << 10;

    /// Returns an empty buffer for about `expected` bytes.
    fn take(&mut self, expected: usize) -> BytesMut {
        if expected >= Self::SMALL
            && let Some(buffer) = self.free.pop()
        {
            self.bytes -= buffer.capacity();
            return buffer;
        }
        BytesMut::with_capacity(expected.clamp(512, Self::SMALL))
    }

    fn keep(&mut self, mut buffer: BytesMut) {
        buffer.clear();
        let capacity = buffer.capacity();
        if capacity >= Self::SMALL && self.bytes + capacity <= Self::MOST {
            self.bytes += capacity;
            self.free.push(buffer);
        }
    }

    /// Takes the buffer of sealed bytes back, unless a request still holds them.
    fn reclaim(&mut self, bytes: Bytes) {
        if let Ok(buffer) = bytes.try_into_mut() {
            self.keep(buffer);
        }
    }
}

/// A batch that takes records.
#[derive(Debug)]
pub(super) struct Open {
    builder: BatchBuilder,
    tickets: Tickets,
    /// The times of its first record and its last one.
    pub(super) since: Instant,
    pub(super) last: Instant,
}

impl Open {
    /// Opens a batch. `expected`: an estimate of its size in bytes.
    pub(super) fn new(expected: usize, buffers: &mut Buffers, now: Instant) -> Self {
        let builder = BatchBuilder::new(buffers.take(expected));
        Self { builder, tickets: Tickets::default(), since: now, last: now }
    }

    #[inline]
    pub(super) fn push(&mut self, ticket: Ticket, record: &NewRecord<'_>, now: Instant) {
        self.builder.push(record);
        self.tickets.push(ticket);
        self.last = now;
    }

    /// Takes records that are their value alone, as [`BatchBuilder::push_values`] does; their
    /// tickets follow one another. Returns their number.
    #[inline]
    pub(super) fn push_values<'a>(
        &mut self,
        first: Ticket,
        timestamp: i64,
        most: usize,
        now: Instant,
        next: impl FnMut(usize) -> Option<&'a [u8]>,
    ) -> usize {
        let count = self.builder.push_values(timestamp, most, next);
        if count > 0 {
            self.tickets.push_run(first, count);
            self.last = now;
        }
        count
    }

    /// Does as [`BatchBuilder::sum_up`], if the batch is not to be compressed.
    #[inline]
    pub(super) fn sum_up(&mut self, codec: Option<Codec>) {
        if codec.is_none() {
            self.builder.sum_up();
        }
    }

    /// Returns true if its time is over, of batches that have a delivery timeout.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= SPAN
    }

    /// Size in bytes, uncompressed.
    pub(super) fn size(&self) -> usize {
        self.builder.size()
    }

    pub(super) fn close(self, codec: Option<Codec>, buffers: &mut Buffers) -> Closed {
        let (draft, free) = self.builder.finish(codec);
        if let Some(free) = free {
            buffers.keep(free);
        }
        Closed { draft, tickets: self.tickets, last: self.last }
    }
}

/// A batch without a sequence that takes no more records.
#[derive(Debug)]
pub(super) struct Closed {
    draft: Draft,
    pub(super) tickets: Tickets,
    /// The time of its last record.
    pub(super) last: Instant,
}

impl Closed {
    /// Records.
    pub(super) fn count(&self) -> i32 {
        self.draft.count()
    }

    pub(super) fn seal(self, producer: ProducerId, sequence: i32) -> Sealed {
        let Self { draft, tickets, last } = self;
        let count = draft.count();
        let bytes = draft.seal(producer, sequence);
        Sealed {
            bytes,
            count,
            tickets,
            last,
            request: None,
            may_be_written: false,
            is_to_be_divided: false,
            unclear: 0,
        }
    }

    /// Returns the bytes for a reader, without a producer.
    pub(super) fn into_readable(self) -> (Bytes, Tickets) {
        (self.draft.seal(ProducerId::NONE, -1), self.tickets)
    }
}

/// A batch with a sequence. Its bytes never change.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) bytes: Bytes,
    pub(super) count: i32,
    /// Tickets of the records; empty once their outcome was delivered.
    pub(super) tickets: Tickets,
    /// The time of its last record.
    pub(super) last: Instant,
    /// The request that is under way with it.
    pub(super) request: Option<u64>,
    /// True if a request with it ended without an answer that it was not appended.
    pub(super) may_be_written: bool,
    /// True if it is to be sent in two parts.
    pub(super) is_to_be_divided: bool,
    /// Errors in a row without a known meaning.
    pub(super) unclear: u32,
}

impl Sealed {
    /// Returns true if its records' outcome was delivered before its requests have ended.
    pub(super) fn was_told(&self) -> bool {
        self.tickets.is_empty()
    }

    /// Takes its sequence away. To be called only if it is known not to be in the log.
    pub(super) fn unseal(self) -> Closed {
        Closed { draft: Draft::of_sealed(&self.bytes), tickets: self.tickets, last: self.last }
    }

    pub(super) fn reclaim(self, buffers: &mut Buffers) {
        buffers.reclaim(self.bytes);
    }
}
