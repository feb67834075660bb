//! Which bytes of a chunk a peer is to be written.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::chunk::Chunk;
use crate::subscriptions::Prefixes;

/// From this many bytes on, the rest of a message is not copied: it keeps its chunk. (Small in tests, so that they see
/// both.)
const KEPT_FROM: usize = if cfg!(test) { 60 } else { 64 * 1024 };

/// The bytes of a chunk, for as long as somebody needs a part of them.
struct Kept(Arc<Chunk>);

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// The rest of the message that is half written after `sent` bytes of `chunk`, or else the one that was pending. Many
/// peers may have stopped within one large message: they share it.
pub(super) fn rest_of(chunk: &Arc<Chunk>, sent: usize, pending: &Bytes) -> Bytes {
    let rest = chunk.half_written(sent).map(|end| sent..end).filter(|_| pending.is_empty());
    match rest {
        Some(rest) if rest.len() >= KEPT_FROM => Bytes::from_owner(Kept(Arc::clone(chunk))).slice(rest),
        Some(rest) => Bytes::copy_from_slice(chunk.bytes().get(rest).unwrap_or_default()),
        None => pending.clone(),
    }
}

impl Prefixes {
    /// The runs of messages in `chunk`, from byte `sent` on, that these prefixes want. A message of which a part was
    /// sent is wanted in any case.
    pub(super) fn select<'a>(
        &'a self,
        chunk: &'a Chunk,
        sent: usize,
    ) -> impl Iterator<Item = Range<usize>> + 'a {
        let half_written = chunk.half_written(sent);
        let whole = sent < chunk.len()
            && (self.are_all() || chunk.same_routing() && self.matches(chunk.routing_frame(0)));
        let mut messages = chunk.messages_from(half_written.unwrap_or(sent));
        let mut open = if whole { Some(sent..chunk.len()) } else { half_written.map(|end| sent..end) };
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
