//! The ring: the bounded buffer of chunks that all peers of a socket read, and the place of each peer in it.
//!
//! A plain state machine without I/O, clocks or locks. It promises that a chunk stays until every peer owed it has
//! been past it (or the policy dropped it for that peer, counted), and that an origin is told of its delivery only
//! then. A peer that has nothing to be written costs nothing when a chunk is published.

mod batch;
mod output;
mod peers;
mod runs;
mod select;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use crate::chunk::{Chunk, Origin};
use crate::config::SlowPeer;
use crate::subscriptions::{Index, PeerId};

pub(crate) use batch::{Batch, Segment};
use peers::{Cursors, Entry, Place};
pub(crate) use peers::{PeerView, Subscribed};
use runs::Finder;
pub(crate) use runs::Runs;
use select::rest_of;

/// What a ring is made with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RingConfig {
    pub(crate) slow_peer: SlowPeer,
    pub(crate) min_peers: usize,
    pub(crate) ring_bytes: usize,
}

/// Counts since the ring was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingCounters {
    /// Records for which no peer had a subscription.
    pub records_unheard: u64,
    /// Messages written, over all peers.
    pub messages_sent: u64,
    /// Bytes written, over all peers.
    pub bytes_sent: u64,
    /// Messages that the policy dropped, over all peers.
    pub messages_dropped: u64,
    /// Bytes that peers which left had not been sent.
    pub bytes_unsent: u64,
}

/// The ring. `P` is whatever the caller keeps for a peer.
#[derive(Debug)]
pub(crate) struct Ring<P> {
    config: RingConfig,
    chunks: VecDeque<Arc<Chunk>>,
    /// Sequence number of the first chunk.
    base: u64,
    /// What its chunks weigh.
    bytes: usize,
    index: Index,
    peers: BTreeMap<PeerId, Entry<P>>,
    /// Never given twice: the publisher may still hold a peer that has left.
    next_peer: PeerId,
    cursors: Cursors,
    subscribed: usize,
    counters: RingCounters,
    /// It may admit more than when this was last asked.
    more_room: bool,
}

impl<P: Clone> Ring<P> {
    pub(crate) fn new(config: RingConfig) -> Self {
        Self {
            config,
            chunks: VecDeque::new(),
            base: 0,
            bytes: 0,
            index: Index::default(),
            peers: BTreeMap::new(),
            next_peer: 0,
            cursors: Cursors::default(),
            subscribed: 0,
            counters: RingCounters::default(),
            more_room: false,
        }
    }

    /// Bytes of memory that the chunks take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn counters(&self) -> RingCounters {
        self.counters
    }

    /// Peers with a subscription.
    pub(crate) fn subscribed(&self) -> usize {
        self.subscribed
    }

    /// Peers, those without a subscription included.
    pub(crate) fn peers(&self) -> impl Iterator<Item = &P> {
        self.peers.values().map(|entry| &entry.peer)
    }

    pub(crate) fn peer_count(&self) -> usize {
        self.peers.len()
    }

    /// Whether fewer than `min_peers` peers hold a subscription: then nothing is admitted and nothing retired.
    pub(crate) fn is_held(&self) -> bool {
        self.subscribed < self.config.min_peers
    }

    /// Whether a chunk that takes `size` bytes may be published now.
    pub(crate) fn admits(&self, size: usize) -> bool {
        if self.is_held() {
            return false;
        }
        match self.config.slow_peer {
            SlowPeer::Drop => true,
            SlowPeer::Block => {
                self.bytes == 0 || self.bytes + size + Chunk::OVERHEAD <= self.config.ring_bytes
            }
        }
    }

    /// Whether it may admit more than when this was last asked.
    pub(crate) fn take_more_room(&mut self) -> bool {
        std::mem::take(&mut self.more_room)
    }

    /// Whether every peer has been written everything.
    pub(crate) fn is_drained(&self) -> bool {
        self.cursors.is_empty()
    }

    fn tail(&self) -> u64 {
        self.base + self.chunks.len() as u64
    }

    fn chunk(&self, sequence: u64) -> Option<&Arc<Chunk>> {
        self.chunks.get(usize::try_from(sequence.checked_sub(self.base)?).ok()?)
    }

    // ---- peers

    pub(crate) fn join(&mut self, make: impl FnOnce(PeerId) -> P) -> P {
        let id = self.next_peer;
        self.next_peer += 1;
        let peer = make(id);
        self.peers.insert(id, Entry::new(peer.clone()));
        peer
    }

    /// The peer is gone: it is owed nothing more.
    pub(crate) fn leave(&mut self, id: PeerId) {
        let unsent = self.bytes_queued(id);
        let Some(entry) = self.peers.remove(&id) else { return };
        self.counters.bytes_unsent += unsent;
        for prefix in entry.prefixes.iter() {
            self.index.remove(id, prefix);
        }
        if !entry.prefixes.is_empty() {
            self.subscribed -= 1;
        }
        if let Place::Behind { next, .. } = entry.place {
            self.cursors.remove(next, id);
        }
        self.retire();
    }

    /// Counts a subscription. The peer is owed what is published from now on; where the socket was held for want of
    /// peers, it is owed all that is undelivered.
    pub(crate) fn subscribe(&mut self, id: PeerId, prefix: &[u8], max_subscriptions: usize) -> Subscribed {
        let (held, tail) = (self.is_held(), self.tail());
        let Some(entry) = self.peers.get_mut(&id) else { return Subscribed::Counted };
        if entry.prefixes.exceeds(prefix, max_subscriptions) {
            return Subscribed::TooMany;
        }
        let first = entry.prefixes.is_empty();
        if entry.prefixes.add(prefix) {
            self.index.add(id, prefix);
            entry.settled = tail;
        }
        if first {
            self.subscribed += 1;
            self.more_room = true;
            if held && !self.chunks.is_empty() {
                self.begin_at_base(id);
            }
            self.retire();
        }
        Subscribed::Counted
    }

    /// Owes a peer all that is in the ring, also what it was owed before. A message that is half written is finished
    /// first.
    fn begin_at_base(&mut self, id: PeerId) {
        let Some(entry) = self.peers.get_mut(&id) else { return };
        match &mut entry.place {
            Place::Live => {
                entry.place = Place::Behind { next: self.base, sent: 0, writing: None };
            }
            Place::Behind { next, sent, writing } => {
                if writing.take().is_some() {
                    entry.begun_again = true;
                } else if let Some(chunk) =
                    next.checked_sub(self.base).and_then(|index| self.chunks.get(index as usize))
                {
                    entry.rest = rest_of(chunk, *sent, &entry.rest);
                }
                self.cursors.remove(*next, id);
                (*next, *sent) = (self.base, 0);
            }
        }
        self.cursors.add(self.base, id);
    }

    pub(crate) fn cancel(&mut self, id: PeerId, prefix: &[u8]) {
        let tail = self.tail();
        let Some(entry) = self.peers.get_mut(&id) else { return };
        if entry.prefixes.remove(prefix) {
            self.index.remove(id, prefix);
            entry.settled = tail;
            if entry.prefixes.is_empty() {
                self.subscribed -= 1;
            }
        }
    }

    // ---- what goes in

    /// Adds a chunk, and lists in `idle` the peers that want it and had nothing to be written before. A chunk of an
    /// origin that was withdrawn is not taken.
    pub(crate) fn publish(&mut self, mut chunk: Chunk, idle: &mut Vec<P>) {
        if chunk.origin().is_withdrawn() {
            return;
        }
        let mut unheard = 0;
        // One alone goes through the messages no more often by itself.
        let finds = !chunk.same_routing() && self.subscribed > 1;
        let mut finder = if finds { Finder::new(chunk.len()) } else { Finder::off() };
        let mut behind = HashSet::new();
        if chunk.same_routing() {
            let routing = 0..chunk.len();
            if !chunk.is_empty() && !self.concern(&chunk, &routing, &mut finder, &mut behind, idle) {
                unheard = chunk.records();
            }
        } else {
            for message in chunk.messages_from(0) {
                if !self.concern(&chunk, &message, &mut finder, &mut behind, idle) {
                    unheard += 1;
                }
            }
        }
        chunk.set_runs(finder.finish());
        self.bytes += chunk.weight();
        self.chunks.push_back(Arc::new(chunk));
        // The last peer may have left since this chunk was admitted: then it waits for the next one, and whoever
        // restores the count hears it.
        if self.is_held() {
            return;
        }
        self.counters.records_unheard += unheard;
        if self.config.slow_peer == SlowPeer::Drop {
            while self.bytes > self.config.ring_bytes && self.chunks.len() > 1 {
                self.evict();
            }
        }
        self.retire();
    }

    /// Puts the peers that want a message behind the chunk that is next, if they were live, and tells `finder` of each.
    /// The peers of a prefix in `behind` are there already. False where nobody wants it.
    fn concern(
        &mut self,
        chunk: &Chunk,
        message: &Range<usize>,
        finder: &mut Finder,
        behind: &mut HashSet<*const BTreeSet<PeerId>>,
        idle: &mut Vec<P>,
    ) -> bool {
        let sequence = self.tail();
        let mut any = false;
        for peers in self.index.matching(chunk.routing_frame(message.start)) {
            any = true;
            // The index stays as it is meanwhile, so that a set is known by its place.
            if !chunk.same_routing() && finder.is_off() && !behind.insert(std::ptr::from_ref(peers)) {
                continue;
            }
            for id in peers {
                finder.add(*id, message);
                if let Some(entry) = self.peers.get_mut(id)
                    && matches!(entry.place, Place::Live)
                {
                    entry.place = Place::Behind { next: sequence, sent: 0, writing: None };
                    self.cursors.add(sequence, *id);
                    idle.push(entry.peer.clone());
                }
            }
        }
        any
    }

    /// Drops the oldest chunk for every peer that still stands at it.
    fn evict(&mut self) {
        let Some(chunk) = self.chunks.pop_front() else { return };
        let evicted = self.base;
        self.base += 1;
        self.bytes -= chunk.weight();
        for id in self.cursors.at(evicted) {
            let Some(entry) = self.peers.get_mut(&id) else { continue };
            if let Place::Behind { next, sent, writing } = &mut entry.place {
                if !writing.as_ref().is_some_and(|range| range.contains(&evicted)) {
                    // What is being written is counted when it is handed back.
                    let dropped = entry.prefixes.count_messages(&chunk, *sent);
                    entry.messages_dropped += dropped;
                    self.counters.messages_dropped += dropped;
                    entry.rest = rest_of(&chunk, *sent, &entry.rest);
                }
                *next = self.base;
                *sent = 0;
            }
        }
        self.cursors.shift(evicted, self.base);
        chunk.origin().deliver(chunk.position());
    }

    /// Takes what is unsent of an origin out of the ring; only half-written messages are finished.
    pub(crate) fn withdraw(&mut self, origin: &Arc<Origin>) {
        origin.withdraw();
        for (index, slot) in self.chunks.iter_mut().enumerate() {
            if !Arc::ptr_eq(slot.origin(), origin) {
                continue;
            }
            let sequence = self.base + index as u64;
            for id in self.cursors.at(sequence) {
                let Some(entry) = self.peers.get_mut(&id) else { continue };
                if let Place::Behind { sent, writing, .. } = &mut entry.place
                    && !writing.as_ref().is_some_and(|range| range.contains(&sequence))
                {
                    entry.rest = rest_of(slot, *sent, &entry.rest);
                    *sent = 0;
                }
            }
            self.bytes -= slot.weight();
            *slot = Arc::new(Chunk::marker(Arc::clone(origin), slot.position()));
            self.bytes += slot.weight();
            self.more_room = true;
        }
        self.retire();
    }

    /// Lets go of the chunks that no peer is owed any more.
    fn retire(&mut self) {
        if self.is_held() {
            return;
        }
        let oldest = self.cursors.oldest().unwrap_or(u64::MAX);
        while self.base < oldest
            && let Some(chunk) = self.chunks.pop_front()
        {
            self.base += 1;
            self.bytes -= chunk.weight();
            self.more_room = true;
            chunk.origin().deliver(chunk.position());
        }
    }
}
