//! The way out of the ring for chunks: delivered, dropped or withdrawn.

use std::sync::Arc;

use super::{LOOKS, PeerState, Ring};
use crate::chunk::Chunk;
use crate::label::Allowed;
use crate::origin::Origin;
use crate::subscriptions::{PeerId, Tally};

impl<P: Clone> Ring<P> {
    /// Lets go of the chunks that no peer is owed any more, and under `drop` of those that there is
    /// no room for, and of the subscriptions of peers that have left: as many as one call may
    /// look at.
    pub(crate) fn tidy(&mut self) {
        self.untidy = false;
        for _ in 0..LOOKS {
            if self.forget() {
                continue;
            }
            if !self.retire() && !self.evict() {
                self.crowded = false;
                return;
            }
        }
        self.untidy = true;
    }

    /// Takes a prefix of a peer that has left out of the index.
    fn forget(&mut self) -> bool {
        let Some((id, prefixes)) = self.leaving.last_mut() else { return false };
        match prefixes.next() {
            Some(prefix) => self.index.remove(*id, prefix),
            None => drop(self.leaving.pop()),
        }
        true
    }

    /// Lets go of the oldest chunk if no peer is owed it.
    fn retire(&mut self) -> bool {
        let oldest = self.cursors.oldest().unwrap_or(u64::MAX);
        if self.fallen > 0 || oldest <= self.base {
            return false;
        }
        let Some(chunk) = self.take_oldest() else { return false };
        self.more_room = true;
        self.spent.push(chunk);
        true
    }

    /// Drops the oldest chunk if there is no room for it. Peers that fell before cost nothing.
    fn evict(&mut self) -> bool {
        if !self.crowded || self.bytes <= self.config.ring_bytes || self.chunks.len() < 2 {
            return false;
        }
        let evicted = self.base;
        let Some(chunk) = self.take_oldest() else { return false };
        self.count_dropped(&chunk, evicted);
        for id in self.cursors.take(evicted) {
            self.fall(id, evicted, &chunk);
        }
        self.spent.push(chunk);
        true
    }

    fn take_oldest(&mut self) -> Option<Arc<Chunk>> {
        let chunk = self.chunks.pop_front()?;
        self.base += 1;
        self.bytes -= chunk.weight();
        chunk.deliver();
        Some(chunk)
    }

    /// Counts a chunk as dropped for the peers that fell before.
    fn count_dropped(&mut self, chunk: &Chunk, sequence: u64) {
        if self.fallen > self.fallen_alone.len() {
            if chunk.same_routing() {
                let tally = Tally { messages: chunk.messages() as u64, bytes: chunk.len() as u64 };
                self.counters.messages_dropped +=
                    self.index.drop_messages(chunk.routing_frame(0), tally);
            } else {
                for message in chunk.messages_from(0) {
                    let tally = Tally { messages: 1, bytes: message.len() as u64 };
                    self.counters.messages_dropped +=
                        self.index.drop_messages(chunk.routing_frame(message.start), tally);
                }
            }
        }
        for id in &self.fallen_alone {
            let Some(entry) = self.peers.get_mut(id) else { continue };
            let tally = entry.tally(*id, chunk, sequence, 0);
            entry.drop_messages(tally);
            self.counters.messages_dropped += tally.messages;
        }
    }

    /// The peer stood at a chunk that was dropped. What is being written to it is counted when it
    /// is handed back.
    fn fall(&mut self, id: PeerId, evicted: u64, chunk: &Arc<Chunk>) {
        let Some(entry) = self.peers.get_mut(&id) else { return };
        let PeerState::Behind { next, sent, writing } = &mut entry.state else { return };
        let (from, under_way) = (std::mem::take(sent), writing.is_some());
        *next = self.base;
        if !writing.as_ref().is_some_and(|range| range.contains(&evicted)) {
            let tally = entry.tally(id, chunk, evicted, from);
            entry.drop_messages(tally);
            self.counters.messages_dropped += tally.messages;
            self.keeper.keep(id, chunk, from, &mut entry.unfinished);
        }
        if under_way {
            self.cursors.add(self.base, id);
            return;
        }
        // What is dropped for one that may not have everything is counted for itself.
        let is_alike = entry.prefixes.are_few() && matches!(entry.allowed, Allowed::Everything);
        let mark = is_alike.then(|| self.index.fall(&entry.prefixes));
        if mark.is_none() {
            self.fallen_alone.insert(id);
        }
        entry.state = PeerState::Fallen { mark };
        self.fallen += 1;
    }

    /// Puts a peer that has fallen back among those that have a cursor, before it is written to or
    /// changes.
    pub(super) fn rise(&mut self, id: PeerId) {
        let Some(entry) = self.peers.get_mut(&id) else { return };
        let PeerState::Fallen { mark } = entry.state else { return };
        match mark {
            // That much is counted over all peers already.
            Some(mark) => entry.drop_messages(self.index.rise(&entry.prefixes).since(mark)),
            None => drop(self.fallen_alone.remove(&id)),
        }
        self.fallen -= 1;
        entry.state = PeerState::Behind { next: self.base, sent: 0, writing: None };
        self.cursors.add(self.base, id);
    }

    /// Takes what is unsent of an origin out of the ring; only half-written messages are finished.
    pub(crate) fn withdraw(&mut self, origin: &Arc<Origin>) {
        origin.withdraw();
        for (index, slot) in self.chunks.iter_mut().enumerate() {
            if !slot.is_of(origin) {
                continue;
            }
            let sequence = self.base + index as u64;
            for id in self.cursors.at(sequence) {
                let Some(entry) = self.peers.get_mut(&id) else { continue };
                if let PeerState::Behind { sent, writing, .. } = &mut entry.state
                    && !writing.as_ref().is_some_and(|range| range.contains(&sequence))
                {
                    self.keeper.keep(id, slot, *sent, &mut entry.unfinished);
                    *sent = 0;
                }
            }
            self.bytes -= slot.weight();
            let marker = Arc::new(Chunk::marker(Arc::clone(origin), slot.position()));
            self.spent.push(std::mem::replace(slot, marker));
            self.bytes += slot.weight();
            self.more_room = true;
        }
        self.tidy();
    }
}
