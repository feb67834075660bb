//! The ring for a simulation; for nothing else.

use std::sync::Arc;

use bytes::Bytes;

use crate::chunk::Chunk;
use crate::config::SlowPeer;
use crate::demand::Demand;
use crate::label::Label;
use crate::origin::Origin;
use crate::ring::{self, RingBatch, RingConfig};

/// A ring whose peers are numbers. The work that a call leaves to the next one is done at once.
#[derive(Debug)]
pub struct SimRing(ring::Ring<u64>, u64);

/// The bytes that a peer is to be written next.
#[derive(Debug)]
pub struct PeerBatch(RingBatch);

/// Consecutive bytes of a batch.
#[derive(Debug)]
pub struct Piece {
    /// The origin; `None` for the rest of a message that was begun before.
    pub origin: Option<Arc<Origin>>,
    /// The bytes.
    pub bytes: Bytes,
}

/// Returns the origin of a chunk's messages.
pub fn origin_of(chunk: &Chunk) -> &Arc<Origin> {
    chunk.origin()
}

impl PeerBatch {
    /// Returns its bytes.
    pub fn pieces(&self) -> Vec<Piece> {
        let rest = Piece { origin: None, bytes: self.0.unfinished.clone() };
        let segments = self.0.segments.iter().map(|segment| Piece {
            origin: Some(Arc::clone(segment.origin())),
            bytes: Bytes::copy_from_slice(segment.bytes()),
        });
        std::iter::once(rest).chain(segments).collect()
    }

    /// Returns true if there may be more for the peer than this.
    pub fn more(&self) -> bool {
        self.0.more
    }
}

impl SimRing {
    /// A ring without peers.
    pub fn new(slow_peer: SlowPeer, ring_bytes: usize) -> Self {
        Self(ring::Ring::new(RingConfig { slow_peer, ring_bytes, peer_memory: usize::MAX }), 0)
    }

    /// Returns true if a chunk that takes `size` bytes may be published now.
    pub fn admits(&self, size: usize) -> bool {
        self.0.admits(size)
    }

    /// Adds a chunk, and lists the peers that were idle and want it.
    pub fn publish(&mut self, chunk: Chunk, idle: &mut Vec<u64>) {
        drop(self.0.publish(chunk, idle));
        self.settle();
    }

    /// Adds a peer without subscriptions, and returns its number.
    pub fn join(&mut self) -> u64 {
        self.1 += 1;
        self.0.join(self.1, self.1);
        self.1
    }

    /// Forgets a peer.
    pub fn leave(&mut self, id: u64) {
        drop(self.0.leave(id));
        self.settle();
    }

    /// Counts a subscription.
    pub fn subscribe(&mut self, id: u64, prefix: &[u8]) {
        let _ = self.0.subscribe(id, prefix, usize::MAX);
        self.settle();
    }

    /// Takes what is unsent of an origin out of the ring.
    pub fn withdraw(&mut self, origin: &Arc<Origin>) {
        self.0.withdraw(origin);
        self.settle();
    }

    /// Returns the label of a name.
    pub fn label(&mut self, name: &str) -> Label {
        self.0.label(name)
    }

    /// Returns the demand for a routing frame, or for anything, of those that may have messages of
    /// the label.
    pub fn demand(
        &mut self,
        frame: Option<Vec<u8>>,
        label: Option<&Label>,
        needed: usize,
    ) -> Arc<Demand> {
        self.0.demand(frame.map(Bytes::from), label, needed)
    }

    /// Returns what a peer is to be written next.
    pub fn gather(&mut self, id: u64) -> PeerBatch {
        let batch = PeerBatch(self.0.gather(id));
        self.settle();
        batch
    }

    /// Takes note of how many bytes of a batch were taken.
    pub fn advance(&mut self, id: u64, batch: &PeerBatch, written: usize) {
        self.0.advance(id, &batch.0, written);
        self.settle();
    }

    /// Returns true if demand changed since the last call.
    pub fn take_demand_changed(&mut self) -> bool {
        self.0.take_demand_changed()
    }

    /// Returns true if every peer has been written everything.
    pub fn is_drained(&self) -> bool {
        self.0.is_drained()
    }

    /// Returns true if there were messages that no peer wanted.
    pub fn has_unheard(&self) -> bool {
        self.0.counters().unheard > 0
    }

    fn settle(&mut self) {
        while self.0.is_untidy() {
            drop(self.0.take_spent());
            self.0.tidy();
        }
        drop(self.0.take_spent());
    }
}
