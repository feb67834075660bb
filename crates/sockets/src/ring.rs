//! The ring: the bounded buffer of chunks that all peers of a socket read, and the place of each
//! peer in it.
//!
//! A plain state machine without I/O, clocks or locks. It promises that a chunk stays until every
//! peer owed it has been past it (or the policy dropped it for that peer, counted), and that its
//! delivery is reported to its origin only then. A peer that has nothing to be written costs
//! nothing when a chunk is published, and one that takes nothing costs nothing when a chunk is
//! dropped.
//!
//! The ring's lock is to be held for moments: a call looks at so many chunks or subscriptions at
//! the most ([`LOOKS`]) and leaves the rest to the next ([`Ring::is_untidy`]), and what is let
//! go is handed out to be freed without the lock ([`Ring::take_spent`]).

mod batch;
mod demands;
mod input;
mod keeper;
mod output;
mod peers;
mod release;
mod select;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::chunk::Chunk;
use crate::config::SlowPeer;
use crate::demand::Demand;
use crate::gate::Access;
use crate::label::{Allowed, Label, Rights};
use crate::memory::{self, PeerMemory};
use crate::subscriptions::{Change, Index, PeerId};
use crate::trie::IntoKeys;

pub(crate) use batch::RingBatch;
use batch::Segment;
use demands::Demands;
use keeper::Keeper;
pub(crate) use output::HalfWritten;
use peers::{Cursors, Entry, PeerState};
pub(crate) use peers::{PeerView, Subscribed};

/// Chunks looked at, or subscriptions changed, in one call. (Small in tests, so that they see many
/// calls.)
pub(crate) const LOOKS: usize = if cfg!(test) { 4 } else { 256 };
/// Small neighbors are put together up to this size in bytes, or up to a part of a small ring.
const MERGED_BYTES: usize = 16 * 1024;
/// Divisor of the ring's size that gives that part.
const MERGED_PART: usize = if cfg!(test) { 8 } else { 64 };

/// The settings of a ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RingConfig {
    pub(crate) slow_peer: SlowPeer,
    pub(crate) ring_bytes: usize,
    /// Bytes that peers may make the socket hold beside it.
    pub(crate) peer_memory: usize,
}

/// Counts since the ring was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingCounters {
    /// Messages that were published while no peer wanted them, each as its chunk counts it.
    pub unheard: u64,
    /// Messages written, over all peers.
    pub messages_sent: u64,
    /// Bytes written, over all peers.
    pub bytes_sent: u64,
    /// Messages that the policy dropped, over all peers.
    pub messages_dropped: u64,
    /// Bytes that peers which left had not been sent.
    pub bytes_unsent: u64,
}

/// The ring. `P` is the caller's data about a peer.
#[derive(Debug)]
pub(crate) struct Ring<P> {
    config: RingConfig,
    chunks: VecDeque<Arc<Chunk>>,
    /// Sequence number of the first chunk.
    base: u64,
    /// The weight of its chunks.
    bytes: usize,
    index: Index,
    peers: BTreeMap<PeerId, Entry<P>>,
    /// The peers that are behind and have not fallen.
    cursors: Cursors,
    /// The number of peers that have fallen ([`PeerState::Fallen`]).
    fallen: usize,
    /// Peers among them that count drops for themselves.
    fallen_alone: BTreeSet<PeerId>,
    subscribed: usize,
    demands: Demands,
    /// The labels there ever were, by name.
    labels: BTreeMap<Arc<str>, Label>,
    /// True if peers have rights of their own.
    is_gated: bool,
    counters: RingCounters,
    /// Chunks published so far.
    published: u64,
    keeper: Keeper,
    /// True if it may admit more than at the last call of [`Self::take_more_room`].
    more_room: bool,
    /// A chunk was added, for which others may have to be dropped.
    crowded: bool,
    /// Peers that have left, with the prefixes that are to leave the index.
    leaving: Vec<(PeerId, IntoKeys<u32>)>,
    /// More chunks are to be let go than one call may look at.
    untidy: bool,
    /// Chunks that were let go, to be freed without the lock.
    spent: Vec<Arc<Chunk>>,
    /// Looks at chunks for peers so far.
    #[cfg(test)]
    pub(crate) looks: usize,
    /// Times that subscriptions were changed.
    #[cfg(test)]
    pub(crate) applied: usize,
}

impl<P: Clone> Ring<P> {
    /// A ring whose peers may have everything.
    pub(crate) fn new(config: RingConfig) -> Self {
        Self {
            config,
            chunks: VecDeque::new(),
            base: 0,
            bytes: 0,
            index: Index::default(),
            peers: BTreeMap::new(),
            cursors: Cursors::default(),
            fallen: 0,
            fallen_alone: BTreeSet::new(),
            subscribed: 0,
            demands: Demands::default(),
            labels: BTreeMap::new(),
            is_gated: false,
            counters: RingCounters::default(),
            published: 0,
            keeper: Keeper::new(PeerMemory::new(config.peer_memory)),
            more_room: false,
            crowded: false,
            leaving: Vec::new(),
            untidy: false,
            spent: Vec::new(),
            #[cfg(test)]
            looks: 0,
            #[cfg(test)]
            applied: 0,
        }
    }

    /// A ring whose peers may have nothing before they have rights.
    pub(crate) fn gated(config: RingConfig) -> Self {
        Self { is_gated: true, ..Self::new(config) }
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

    /// Returns true if a chunk that takes `size` bytes may be published now.
    pub(crate) fn admits(&self, size: usize) -> bool {
        match self.config.slow_peer {
            SlowPeer::Drop => true,
            SlowPeer::Block => {
                self.bytes == 0 || self.bytes + size + Chunk::OVERHEAD <= self.config.ring_bytes
            }
        }
    }

    /// Returns true if it may admit more than at the last call.
    pub(crate) fn take_more_room(&mut self) -> bool {
        std::mem::take(&mut self.more_room)
    }

    /// Demand for a routing frame, or for anything, that so many peers make enough. Peers count
    /// that may have messages of the label.
    pub(crate) fn demand(
        &mut self,
        frame: Option<Bytes>,
        label: Option<&Label>,
        needed: usize,
    ) -> Arc<Demand> {
        if let Some(demand) = self.demands.get(frame.as_ref(), label) {
            return Arc::clone(demand);
        }
        let wants = |entry: &&Entry<P>| match &frame {
            Some(frame) => entry.prefixes.matches(frame),
            None => !entry.prefixes.is_empty(),
        };
        let peers = self.peers.values().filter(wants).filter(|entry| entry.may_have(label)).count();
        let demand = Demand::new(needed, peers);
        self.demands.insert(frame, label, &demand);
        demand
    }

    /// The label of a name: the same one each time.
    pub(crate) fn label(&mut self, name: &str) -> Label {
        if let Some(label) = self.labels.get(name) {
            return label.clone();
        }
        let name: Arc<str> = name.into();
        let number = u32::try_from(self.labels.len()).unwrap_or(u32::MAX);
        let label = Label::new(Arc::clone(&name), number);
        self.labels.insert(name, label.clone());
        label
    }

    /// Gives a peer of a gated ring rights, before it has a subscription.
    pub(crate) fn give_rights(&mut self, id: PeerId, access: Arc<dyn Access>) {
        if let Some(entry) = self.peers.get_mut(&id) {
            debug_assert!(entry.prefixes.is_empty());
            entry.allowed = Allowed::By(Rights::new(access));
        }
    }

    /// Returns true if something became wanted by enough or by too few peers since the last call.
    pub(crate) fn take_demand_changed(&mut self) -> bool {
        std::mem::take(&mut self.demands.changed)
    }

    /// Returns true if every peer has been written everything.
    pub(crate) fn is_drained(&self) -> bool {
        self.cursors.is_empty() && self.fallen == 0
    }

    /// Returns true if [`Ring::tidy`] is to be called again, after others had the lock.
    pub(crate) fn is_untidy(&self) -> bool {
        self.untidy
    }

    /// Returns the chunks that were let go since the last call. To be dropped without the lock: it
    /// may be the last to hold much memory.
    pub(crate) fn take_spent(&mut self) -> Vec<Arc<Chunk>> {
        std::mem::take(&mut self.spent)
    }

    /// Returns the memory that peers make the socket hold beside the ring.
    pub(crate) fn peer_memory(&self) -> &Arc<PeerMemory> {
        self.keeper.memory()
    }

    /// The peers for which there was no memory since this was last asked: they are to be closed.
    pub(crate) fn take_broken(&mut self) -> Vec<P> {
        let untold = self.keeper.take_untold();
        untold.iter().filter_map(|id| Some(self.peers.get(id)?.peer.clone())).collect()
    }

    fn tail(&self) -> u64 {
        self.base + self.chunks.len() as u64
    }

    // ---- peers

    /// Takes in a peer, without a subscription. An id is never used twice: the publisher may still
    /// hold a peer that has left.
    pub(crate) fn join(&mut self, id: PeerId, peer: P) {
        let allowed = if self.is_gated { Allowed::Nothing } else { Allowed::Everything };
        self.peers.insert(id, Entry::new(peer, allowed, self.keeper.memory().empty()));
    }

    /// The peer is gone: it is owed nothing more. What was kept for it is to be dropped without the
    /// lock.
    pub(crate) fn leave(&mut self, id: PeerId) -> Option<impl Sized + use<P>> {
        self.rise(id);
        let unsent = self.bytes_queued(id);
        let mut entry = self.peers.remove(&id)?;
        self.keeper.forget(id);
        self.counters.bytes_unsent += unsent;
        if !entry.prefixes.is_empty() {
            self.subscribed -= 1;
            self.demands.count_any(|label| entry.may_have(label), false);
            self.demands.leave(&entry.prefixes, |label| entry.may_have(label));
            // They leave the index in parts.
            self.leaving.push((id, std::mem::take(&mut entry.prefixes).into_keys()));
        }
        if let PeerState::Behind { next, .. } = entry.state {
            self.cursors.remove(next, id);
        }
        self.tidy();
        Some(entry)
    }

    /// Applies a peer's changes of its subscriptions, in its order.
    pub(crate) fn apply(
        &mut self,
        id: PeerId,
        changes: &[Change],
        max_subscriptions: usize,
    ) -> Subscribed {
        #[cfg(test)]
        {
            self.applied += 1;
        }
        for change in changes {
            match change {
                Change::Subscribe(prefix) => match self.subscribe(id, prefix, max_subscriptions) {
                    Subscribed::Counted => {}
                    refused => return refused,
                },
                Change::Cancel(prefix) => self.cancel(id, prefix),
            }
        }
        Subscribed::Counted
    }

    /// Counts a subscription. The peer is owed what is published from now on.
    pub(crate) fn subscribe(
        &mut self,
        id: PeerId,
        prefix: &[u8],
        max_subscriptions: usize,
    ) -> Subscribed {
        self.rise(id);
        let tail = self.tail();
        let Some(entry) = self.peers.get_mut(&id) else { return Subscribed::Counted };
        if entry.prefixes.exceeds(prefix, max_subscriptions) {
            return Subscribed::TooMany;
        }
        let is_new = !entry.prefixes.contains(prefix);
        if is_new {
            let bytes = entry.charge.bytes() + memory::subscription(prefix);
            if entry.charge.set(bytes).is_err() {
                return Subscribed::NoMemory;
            }
        }
        if entry.prefixes.is_empty() {
            self.subscribed += 1;
            self.demands.count_any(|label| entry.may_have(label), true);
        }
        if is_new {
            self.demands.subscribe(&entry.prefixes, prefix, |label| entry.may_have(label));
            self.index.add(id, prefix);
            entry.prefixes_since = tail;
        }
        entry.prefixes.add(prefix);
        Subscribed::Counted
    }

    pub(crate) fn cancel(&mut self, id: PeerId, prefix: &[u8]) {
        self.rise(id);
        let tail = self.tail();
        let Some(entry) = self.peers.get_mut(&id) else { return };
        if entry.prefixes.remove(prefix) {
            self.demands.cancel(&entry.prefixes, prefix, |label| entry.may_have(label));
            self.index.remove(id, prefix);
            let bytes = entry.charge.bytes().saturating_sub(memory::subscription(prefix));
            // Less is never refused.
            let _ = entry.charge.set(bytes);
            entry.prefixes_since = tail;
            if entry.prefixes.is_empty() {
                self.subscribed -= 1;
                self.demands.count_any(|label| entry.may_have(label), false);
            }
        }
    }
}
