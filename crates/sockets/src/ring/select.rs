//! Which bytes of a chunk a peer is to be written.

use std::ops::Range;

use bytes::Bytes;

use crate::chunk::Chunk;
use crate::subscriptions::Prefixes;

/// The rest of the message that is half written after `sent` bytes of `chunk`, or else the one that was pending.
pub(super) fn rest_of(chunk: &Chunk, sent: usize, pending: &Bytes) -> Bytes {
    match chunk.half_written(sent).and_then(|end| chunk.bytes().get(sent..end)) {
        Some(rest) if pending.is_empty() => Bytes::copy_from_slice(rest),
        _ => pending.clone(),
    }
}

impl Prefixes {
    /// Hands out the runs of messages in `chunk`, from byte `sent` on, that these prefixes want. A message of which a
    /// part was sent is wanted in any case.
    pub(super) fn select(&self, chunk: &Chunk, sent: usize, mut run: impl FnMut(Range<usize>)) {
        if sent >= chunk.len() {
            return;
        }
        let half_written = chunk.half_written(sent);
        if chunk.same_routing() {
            if self.matches(chunk.routing_frame(0)) {
                run(sent..chunk.len());
            } else if let Some(end) = half_written {
                run(sent..end);
            }
            return;
        }
        let mut open: Option<Range<usize>> = half_written.map(|end| sent..end);
        for message in chunk.messages_from(half_written.unwrap_or(sent)) {
            if self.matches(chunk.routing_frame(message.start)) {
                match &mut open {
                    Some(range) => range.end = message.end,
                    None => open = Some(message),
                }
            } else if let Some(range) = open.take() {
                run(range);
            }
        }
        if let Some(range) = open {
            run(range);
        }
    }

    /// How many messages of `chunk` these prefixes want that were not begun after `sent` bytes.
    pub(super) fn count_messages(&self, chunk: &Chunk, sent: usize) -> u64 {
        let mut messages = 0;
        let from = chunk.half_written(sent).unwrap_or(sent);
        self.select(chunk, from, |range| messages += chunk.messages_ending_in(&range));
        messages
    }
}
