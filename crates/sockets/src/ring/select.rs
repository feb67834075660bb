//! Selects the bytes of a chunk that a peer is to be written.

use std::ops::Range;

use crate::chunk::Chunk;
use crate::subscriptions::Prefixes;

impl Prefixes {
    /// The runs of messages in `chunk`, from byte `sent` on, that these prefixes want. A message of
    /// which a part was sent is wanted in any case.
    pub(super) fn select<'a>(
        &'a self,
        chunk: &'a Chunk,
        sent: usize,
    ) -> impl Iterator<Item = Range<usize>> + 'a {
        let half_written = chunk.half_written(sent);
        let whole = sent < chunk.len()
            && (self.are_all() || chunk.same_routing() && self.matches(chunk.routing_frame(0)));
        let mut messages = chunk.messages_from(half_written.unwrap_or(sent));
        let mut open =
            if whole { Some(sent..chunk.len()) } else { half_written.map(|end| sent..end) };
        let mut more = !chunk.same_routing() && !whole;
        std::iter::from_fn(move || {
            while more {
                let Some(message) = messages.next() else {
                    more = false;
                    break;
                };
                if self.matches(chunk.routing_frame(message.start)) {
                    match &mut open {
                        Some(range) => range.end = message.end,
                        None => open = Some(message),
                    }
                } else if open.is_some() {
                    break;
                }
            }
            open.take()
        })
    }
}
