//! Bytes that are kept for peers beside the ring, within the memory that they may have: the rests
//! of half-written messages.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::chunk::Chunk;
use crate::memory::{Charge, Exceeded, PeerMemory};
use crate::subscriptions::PeerId;

/// Size in bytes from which on the rest of a message is not copied: it keeps its chunk. (Small in
/// tests, so that they see both.)
const KEPT_FROM: usize = if cfg!(test) { 60 } else { 64 * 1024 };

/// The bytes of a chunk, for as long as a part of them is needed.
struct ChunkSlice(Arc<Chunk>);

impl AsRef<[u8]> for ChunkSlice {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// A copy, and what it takes of the memory that peers may have.
struct Copied(Box<[u8]>, #[expect(dead_code, reason = "given back when it is dropped")] Charge);

impl AsRef<[u8]> for Copied {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Keeps rests, and knows the peers for which there was no memory: they are broken off within a
/// message.
#[derive(Debug)]
pub(super) struct Keeper {
    memory: Arc<PeerMemory>,
    broken: BTreeSet<PeerId>,
    /// Peers among them that were not reported.
    untold: Vec<PeerId>,
}

impl Keeper {
    pub(super) fn new(memory: Arc<PeerMemory>) -> Self {
        Self { memory, broken: BTreeSet::new(), untold: Vec::new() }
    }

    pub(super) fn memory(&self) -> &Arc<PeerMemory> {
        &self.memory
    }

    /// Makes `rest` the rest of the message that is half written after `sent` bytes of `chunk`,
    /// unless one is pending.
    pub(super) fn keep(&mut self, id: PeerId, chunk: &Arc<Chunk>, sent: usize, rest: &mut Bytes) {
        if !rest.is_empty() || zafka_planted::is("rest-is-dropped") {
            return;
        }
        let Some(end) = chunk.half_written(sent) else { return };
        match self.rest_of(chunk, sent, end) {
            Ok(kept) => *rest = kept,
            Err(Exceeded) => {
                if self.broken.insert(id) {
                    self.untold.push(id);
                }
            }
        }
    }

    /// Many peers may have stopped within one large message: they share it, and it counts once.
    fn rest_of(&self, chunk: &Arc<Chunk>, sent: usize, end: usize) -> Result<Bytes, Exceeded> {
        if end - sent >= KEPT_FROM {
            chunk.keep(&self.memory)?;
            return Ok(Bytes::from_owner(ChunkSlice(Arc::clone(chunk))).slice(sent..end));
        }
        let charge = self.memory.charge(end - sent)?;
        let copy = chunk.bytes().get(sent..end).unwrap_or_default();
        Ok(Bytes::from_owner(Copied(copy.into(), charge)))
    }

    /// Returns true if the peer was broken off: nothing more may be written to it.
    pub(super) fn is_broken(&self, id: PeerId) -> bool {
        self.broken.contains(&id)
    }

    /// The peers that were broken off since this was last asked.
    pub(super) fn take_untold(&mut self) -> Vec<PeerId> {
        std::mem::take(&mut self.untold)
    }

    pub(super) fn forget(&mut self, id: PeerId) {
        self.broken.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use zafka_zmtp::frame::{Position, put_header};

    use super::super::{Ring, RingConfig};
    use crate::chunk::Chunk;
    use crate::config::SlowPeer;
    use crate::origin::Origin;
    use crate::subscriptions::PeerId;

    fn chunk(size: usize) -> Chunk {
        let mut bytes = Vec::new();
        put_header(&mut bytes, Position::Last, size);
        bytes.resize(bytes.len() + size, b't');
        let end = bytes.len();
        Chunk::new(bytes, vec![end], true, 1, Origin::new(0), 1)
    }

    /// A ring that two peers stand in within the same message, which there is no room for any more.
    fn within_a_dropped_message(size: usize, peer_memory: usize) -> Ring<PeerId> {
        let config = RingConfig { slow_peer: SlowPeer::Drop, ring_bytes: 1, peer_memory };
        let mut ring = Ring::new(config);
        for id in 0..2 {
            ring.join(id, id);
            ring.subscribe(id, b"", 1);
        }
        ring.publish(chunk(size), &mut Vec::new());
        for id in 0..2 {
            let batch = ring.gather(id);
            ring.advance(id, &batch, 10);
        }
        ring.publish(chunk(1), &mut Vec::new());
        ring.tidy();
        ring
    }

    #[test]
    fn a_large_message_that_peers_stand_within_counts_once() {
        let subscriptions = 2 * crate::memory::subscription(b"");
        let weight = chunk(200).kept_weight();
        let mut ring = within_a_dropped_message(200, subscriptions + weight);
        assert_eq!(ring.peer_memory().used(), subscriptions + weight);
        assert!(ring.take_broken().is_empty());
        for id in 0..2 {
            let batch = ring.gather(id);
            assert!(!batch.is_broken);
            assert_eq!(batch.unfinished.len(), 200 + 2 - 10);
            ring.advance(id, &batch, batch.unfinished.len());
        }
        drop(ring.take_spent());
        assert_eq!(ring.peer_memory().used(), subscriptions);
        drop((ring.leave(0), ring.leave(1)));
        assert_eq!(ring.peer_memory().used(), 0);
    }

    #[test]
    fn a_peer_without_memory_for_the_rest_of_its_message_is_written_nothing_more() {
        let subscriptions = 2 * crate::memory::subscription(b"");
        // A copy for one of them, none for the other; and no room for a message that is kept as it
        // is.
        for (size, memory, broken) in [(40, 32, vec![1]), (200, 100, vec![0, 1])] {
            let mut ring = within_a_dropped_message(size, subscriptions + memory);
            assert_eq!(ring.take_broken(), broken, "message of {size} bytes");
            assert!(ring.take_broken().is_empty());
            for id in 0..2 {
                let batch = ring.gather(id);
                assert_eq!(batch.is_broken, broken.contains(&id));
                assert!(!batch.is_broken || batch.is_empty());
            }
            for id in broken {
                ring.leave(id);
                assert!(!ring.gather(id).is_broken);
            }
        }
    }
}
