//! The publisher: what writes a PUB socket's ring.

use std::sync::Arc;

use super::shared::PubShared;
use super::subscriber::RingFeed;
use crate::chunk::Chunk;
use crate::link::Wire;

/// Bytes of chunks that are added before they are written, unless the ring is small.
const FLUSH_BYTES: usize = 512 * 1024;

/// The one writer of a socket's ring.
#[derive(Debug)]
pub struct Publisher {
    shared: Arc<PubShared>,
    /// Peers that were idle and are owed what was added since the last flush.
    idle: Vec<Arc<Wire>>,
    /// Memory that the chunks added since then take, in bytes.
    unflushed: usize,
    flush_bytes: usize,
}

impl Publisher {
    /// Waits until a chunk that takes `size` bytes ([`Chunk::weight`]) may be published: peers
    /// enough, and (if slow peers block) room in the ring. There is no deadline here: a peer that
    /// is gone is closed (`peer_timeout`), and one that lives is waited for.
    pub async fn room(&self, size: usize) {
        while !self.admits(size) {
            self.shared.room.notified().await;
        }
    }

    /// Returns true if a chunk that takes `size` bytes may be published now.
    pub fn admits(&self, size: usize) -> bool {
        self.shared.admits(size)
    }

    /// Adds a chunk to the ring and writes it to the peers that are idle.
    pub fn publish(&mut self, chunk: Chunk) {
        self.add(chunk);
        self.flush();
    }

    /// Adds a chunk to the ring, to be written to the peers that are idle with the next
    /// [`Publisher::flush`], which has to follow: for chunks that are at hand one after the other.
    /// What comes to half a megabyte is written now. Each write wakes a peer's program, and costs
    /// more than the copying if it is small.
    pub fn add(&mut self, chunk: Chunk) {
        // A ring that drops what it has no room for would drop what is not written yet.
        if self.unflushed + chunk.weight() > self.shared.config.ring_bytes {
            self.flush();
        }
        self.unflushed += chunk.weight();
        // The one that waits for room is the publisher itself: it needs no word of what it makes.
        let mut ring = self.shared.ring();
        let spare = ring.publish(chunk, &mut self.idle);
        let (spent, untidy) = (ring.take_spent(), ring.is_untidy());
        drop(ring);
        drop((spare, spent));
        if untidy {
            self.shared.change(|ring| ring.tidy());
        }
        if self.unflushed >= self.flush_bytes {
            self.flush();
        }
    }

    /// Writes what was added to the peers that were idle.
    pub fn flush(&mut self) {
        self.unflushed = 0;
        for wire in self.idle.drain(..) {
            let mut feed = RingFeed { shared: &self.shared, id: wire.peer().id() };
            wire.write_now(&mut feed);
        }
    }

    pub(super) fn new(shared: Arc<PubShared>) -> Self {
        let flush_bytes = FLUSH_BYTES.min(shared.config.ring_bytes / 8);
        Self { shared, idle: Vec::new(), unflushed: 0, flush_bytes }
    }
}
