//! The way into the ring: chunks, and the peers that they are owed to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use super::{Cursors, Entry, MERGED_BYTES, MERGED_PART, PeerState, Ring};
use crate::chunk::{Chunk, RunIndexBuilder};
use crate::config::SlowPeer;
use crate::subscriptions::PeerId;

impl<P: Clone> Ring<P> {
    /// Adds a chunk, and lists in `idle` the peers that want it and had nothing to be written
    /// before. A chunk of an origin that was withdrawn is not taken. What comes back is to be
    /// dropped without the lock.
    pub(crate) fn publish(&mut self, mut chunk: Chunk, idle: &mut Vec<P>) -> Option<Chunk> {
        if chunk.origin().is_withdrawn() {
            return Some(chunk);
        }
        self.published += 1;
        let epoch = chunk.origin().epoch();
        chunk.set_epoch(epoch);
        let merges = self.merges(&chunk);
        let at = match self.chunks.back().filter(|_| merges) {
            Some(last) => (self.tail() - 1, last.len()),
            None => (self.tail(), 0),
        };
        let mut unheard = 0;
        // One alone goes through the messages no more often by itself.
        let finds = !chunk.same_routing() && self.subscribed > 1;
        let mut builder =
            if finds { RunIndexBuilder::new(chunk.len()) } else { RunIndexBuilder::off() };
        let mut behind = HashMap::new();
        if chunk.same_routing() {
            let routing = 0..chunk.len();
            if !chunk.is_empty()
                && !self.mark_behind(&chunk, at, &routing, &mut builder, &mut behind, idle)
            {
                unheard = chunk.count();
            }
        } else {
            // A peer that wants everything is not looked up for each message.
            let everything = self.index.all().is_some_and(|all| {
                put_behind(
                    &mut self.peers,
                    &mut self.cursors,
                    all,
                    self.published,
                    &chunk,
                    at,
                    idle,
                )
            });
            for message in chunk.messages_from(0) {
                let wanted =
                    self.mark_behind(&chunk, at, &message, &mut builder, &mut behind, idle);
                if !wanted && !everything {
                    unheard += 1;
                }
            }
        }
        let runs = builder.finish();
        for (id, bytes) in runs.iter().flat_map(|runs| runs.by_peer()) {
            if let Some(entry) = self.peers.get_mut(&id).filter(|entry| !entry.prefixes.are_all()) {
                // It was counted as if all of it were wanted.
                entry.queued -= (chunk.len() - bytes) as u64;
            }
        }
        chunk.set_runs(runs);
        let spare = self.put(chunk, merges);
        // If too few want it, it is to come again.
        if epoch.is_multiple_of(2) {
            self.counters.unheard += unheard;
        }
        self.crowded = self.config.slow_peer == SlowPeer::Drop;
        self.tidy();
        spare
    }

    /// Returns true if a chunk goes to the end of the last one: both are small and alike, that one
    /// is being written to no peer, and no peer stands behind it. So messages that come one by one
    /// take few chunks, also if a peer keeps them there.
    fn merges(&mut self, chunk: &Chunk) -> bool {
        let tail = self.tail();
        let limit = MERGED_BYTES.min(self.config.ring_bytes / MERGED_PART);
        let fits = match self.config.slow_peer {
            SlowPeer::Drop => true,
            // The buffer may grow by more than the chunk's own size.
            SlowPeer::Block => self.bytes + chunk.weight() + limit <= self.config.ring_bytes,
        };
        self.chunks.back_mut().is_some_and(|last| {
            last.len() + chunk.len() <= limit
                && fits
                && last.continues_with(chunk)
                && !self.cursors.is_at(tail)
                && Arc::get_mut(last).is_some()
        })
    }

    /// Adds a chunk, or its messages to the last one.
    fn put(&mut self, chunk: Chunk, merges: bool) -> Option<Chunk> {
        if merges && let Some(last) = self.chunks.back_mut().and_then(Arc::get_mut) {
            self.bytes -= last.weight();
            last.append(&chunk);
            self.bytes += last.weight();
            return Some(chunk);
        }
        self.bytes += chunk.weight();
        self.chunks.push_back(Arc::new(chunk));
        None
    }

    /// Puts the peers that want a message, and may have it, behind, at `at`, if they were live, and
    /// adds each to `builder`. The peers of a prefix in `behind` are there already, if it has any.
    /// Returns false if no peer wants it.
    fn mark_behind(
        &mut self,
        chunk: &Chunk,
        at: (u64, usize),
        message: &Range<usize>,
        builder: &mut RunIndexBuilder,
        behind: &mut HashMap<*const BTreeSet<PeerId>, bool>,
        idle: &mut Vec<P>,
    ) -> bool {
        let mut any = false;
        let asked_for_all = usize::from(!chunk.same_routing() && self.index.all().is_some());
        for peers in self.index.matching(chunk.routing_frame(message.start)).skip(asked_for_all) {
            // The index stays as it is meanwhile, so that a set is known by its place.
            let set = std::ptr::from_ref(peers);
            let asks_once = !chunk.same_routing() && builder.is_off();
            if let Some(wanted) = behind.get(&set).filter(|_| asks_once) {
                any |= wanted;
                continue;
            }
            if !builder.is_off() {
                for id in peers {
                    let may_have = |id| {
                        let entry = self.peers.get(id);
                        entry.is_some_and(|entry| entry.may_have(chunk.origin().label()))
                    };
                    if !self.is_gated || may_have(id) {
                        builder.add(*id, message);
                    }
                }
            }
            let wanted = put_behind(
                &mut self.peers,
                &mut self.cursors,
                peers,
                self.published,
                chunk,
                at,
                idle,
            );
            if asks_once {
                behind.insert(set, wanted);
            }
            any |= wanted;
        }
        any
    }
}

/// Puts peers that want a part of a chunk, and may have it, behind, at `at`, if they were live.
/// `number` is the chunk's. Returns false if there is none of them.
fn put_behind<P: Clone>(
    entries: &mut BTreeMap<PeerId, Entry<P>>,
    cursors: &mut Cursors,
    peers: &BTreeSet<PeerId>,
    number: u64,
    chunk: &Chunk,
    at: (u64, usize),
    idle: &mut Vec<P>,
) -> bool {
    let mut any = false;
    for id in peers {
        let Some(entry) = entries.get_mut(id) else { continue };
        if !entry.allowed.allow_from_now(chunk.origin().label()) {
            continue;
        }
        any = true;
        if std::mem::replace(&mut entry.seen, number) != number {
            entry.queued += chunk.len() as u64;
        }
        if matches!(entry.state, PeerState::Live) {
            entry.state = PeerState::Behind { next: at.0, sent: at.1, writing: None };
            cursors.add(at.0, *id);
            idle.push(entry.peer.clone());
        }
    }
    any
}
