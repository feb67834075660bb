//! The ring: the bounded buffer of chunks that all peers of a socket read, and the place of each peer in it.
//!
//! A plain state machine without I/O, clocks or locks. It promises that a chunk stays until every peer owed it has
//! been past it (or the policy dropped it for that peer, counted), and that an origin is told of its delivery only
//! then. A peer that has nothing to be written costs nothing when a chunk is published.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use slab::Slab;

use crate::chunk::{Chunk, Origin};
use crate::config::SlowPeer;
use crate::subscriptions::{Index, PeerId, Prefixes};

/// Bytes that one batch of a peer holds at the most, unless its first chunk alone is larger.
const BATCH_BYTES: usize = 512 * 1024;
/// Segments that one batch of a peer holds at the most (well under IOV_MAX).
const BATCH_SEGMENTS: usize = 64;

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

/// Consecutive bytes of one chunk.
#[derive(Debug)]
pub(crate) struct Segment {
    sequence: u64,
    chunk: Arc<Chunk>,
    range: Range<usize>,
}

impl Segment {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.chunk.bytes().get(self.range.clone()).unwrap_or_default()
    }
}

/// What a peer is to be written next; handed back with [`Ring::advance`].
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The rest of a half-written message whose chunk is no longer in the ring.
    pub(crate) rest: Bytes,
    pub(crate) segments: Vec<Segment>,
    end: u64,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty() && self.segments.is_empty()
    }

    /// How many bytes of the first segment end a message that is half written.
    pub(crate) fn half_written(&self) -> usize {
        match self.segments.first() {
            Some(first) if self.rest.is_empty() => {
                first.chunk.half_written(first.range.start).map_or(0, |end| end - first.range.start)
            }
            _ => 0,
        }
    }
}

/// Where a peer stands.
#[derive(Debug)]
enum Place {
    /// It has been written everything it is owed.
    Live,
    /// It is owed chunks from `next` on.
    Behind {
        next: u64,
        /// Bytes of chunk `next` that were written or passed over.
        sent: usize,
        /// The chunks of the batch that is being written.
        writing: Option<Range<u64>>,
    },
}

#[derive(Debug)]
struct Entry<P> {
    peer: P,
    prefixes: Prefixes,
    place: Place,
    rest: Bytes,
    messages_sent: u64,
    messages_dropped: u64,
}

/// What a subscription did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subscribed {
    /// It counts, and the peer may have something to be written.
    Counted,
    /// The peer has as many distinct prefixes as it may have.
    TooMany,
}

/// What is known of one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerView {
    pub(crate) prefixes: Vec<Vec<u8>>,
    pub(crate) prefixes_total: usize,
    pub(crate) bytes_queued: u64,
    pub(crate) messages_sent: u64,
    pub(crate) messages_dropped: u64,
}

/// The ring. `P` is whatever the caller keeps for a peer.
#[derive(Debug)]
pub(crate) struct Ring<P> {
    config: RingConfig,
    chunks: VecDeque<Arc<Chunk>>,
    /// Sequence number of the first chunk.
    base: u64,
    bytes: usize,
    index: Index,
    peers: Slab<Entry<P>>,
    /// The peers that are behind, by the chunk they stand at.
    cursors: BTreeMap<u64, BTreeSet<PeerId>>,
    subscribed: usize,
    counters: RingCounters,
}

impl<P: Clone> Ring<P> {
    pub(crate) fn new(config: RingConfig) -> Self {
        Self {
            config,
            chunks: VecDeque::new(),
            base: 0,
            bytes: 0,
            index: Index::default(),
            peers: Slab::new(),
            cursors: BTreeMap::new(),
            subscribed: 0,
            counters: RingCounters::default(),
        }
    }

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
    pub(crate) fn peers(&self) -> impl Iterator<Item = (PeerId, &P)> {
        self.peers.iter().map(|(id, entry)| (id, &entry.peer))
    }

    pub(crate) fn peer_count(&self) -> usize {
        self.peers.len()
    }

    /// Whether fewer than `min_peers` peers hold a subscription: then nothing is admitted and nothing retired.
    pub(crate) fn is_held(&self) -> bool {
        self.subscribed < self.config.min_peers
    }

    /// Whether a chunk of this size may be published now.
    pub(crate) fn admits(&self, size: usize) -> bool {
        if self.is_held() {
            return false;
        }
        match self.config.slow_peer {
            SlowPeer::Drop => true,
            SlowPeer::Block => self.bytes == 0 || self.bytes + size <= self.config.ring_bytes,
        }
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
        let entry = self.peers.vacant_entry();
        let peer = make(entry.key());
        entry.insert(Entry {
            peer: peer.clone(),
            prefixes: Prefixes::default(),
            place: Place::Live,
            rest: Bytes::new(),
            messages_sent: 0,
            messages_dropped: 0,
        });
        peer
    }

    /// The peer is gone: it is owed nothing more.
    pub(crate) fn leave(&mut self, id: PeerId) {
        let unsent = self.bytes_queued(id);
        let Some(entry) = self.peers.try_remove(id) else { return };
        self.counters.bytes_unsent += unsent;
        for prefix in entry.prefixes.iter() {
            self.index.remove(id, prefix);
        }
        if !entry.prefixes.is_empty() {
            self.subscribed -= 1;
        }
        if let Place::Behind { next, .. } = entry.place {
            remove_cursor(&mut self.cursors, next, id);
        }
        self.retire();
    }

    /// Counts a subscription. The peer is owed what is published from now on; where the socket was held for want of
    /// peers, it is owed all that is undelivered.
    pub(crate) fn subscribe(&mut self, id: PeerId, prefix: &[u8], max_subscriptions: usize) -> Subscribed {
        let held = self.is_held();
        let Some(entry) = self.peers.get_mut(id) else { return Subscribed::Counted };
        if entry.prefixes.len() >= max_subscriptions && !entry.prefixes.contains(prefix) {
            return Subscribed::TooMany;
        }
        let first = entry.prefixes.is_empty();
        if entry.prefixes.add(prefix) {
            self.index.add(id, prefix);
        }
        if first {
            self.subscribed += 1;
            if held && !self.chunks.is_empty() && matches!(entry.place, Place::Live) {
                entry.place = Place::Behind { next: self.base, sent: 0, writing: None };
                self.cursors.entry(self.base).or_default().insert(id);
            }
            self.retire();
        }
        Subscribed::Counted
    }

    pub(crate) fn cancel(&mut self, id: PeerId, prefix: &[u8]) {
        let Some(entry) = self.peers.get_mut(id) else { return };
        if entry.prefixes.remove(prefix) {
            self.index.remove(id, prefix);
            if entry.prefixes.is_empty() {
                self.subscribed -= 1;
            }
        }
    }

    // ---- what goes in

    /// Adds a chunk, and lists in `idle` the peers that want it and had nothing to be written before.
    pub(crate) fn publish(&mut self, chunk: Chunk, idle: &mut Vec<P>) {
        let sequence = self.tail();
        let chunk = Arc::new(chunk);
        self.bytes += chunk.len();
        self.chunks.push_back(Arc::clone(&chunk));
        if chunk.same_routing() {
            if !chunk.is_empty() && !self.concern(sequence, chunk.routing_frame(0), idle) {
                self.counters.records_unheard += chunk.records();
            }
        } else {
            for message in chunk.messages_from(0) {
                if !self.concern(sequence, chunk.routing_frame(message.start), idle) {
                    self.counters.records_unheard += 1;
                }
            }
        }
        if self.config.slow_peer == SlowPeer::Drop {
            while self.bytes > self.config.ring_bytes && self.chunks.len() > 1 {
                self.evict();
            }
        }
        self.retire();
    }

    /// Puts the peers that want `frame` behind, if they were live. False where nobody wants it.
    fn concern(&mut self, sequence: u64, frame: &[u8], idle: &mut Vec<P>) -> bool {
        for id in self.index.peers(frame) {
            if let Some(entry) = self.peers.get_mut(id)
                && matches!(entry.place, Place::Live)
            {
                entry.place = Place::Behind { next: sequence, sent: 0, writing: None };
                self.cursors.entry(sequence).or_default().insert(id);
                idle.push(entry.peer.clone());
            }
        }
        self.index.any(frame)
    }

    /// Drops the oldest chunk for every peer that still stands at it.
    fn evict(&mut self) {
        let Some(chunk) = self.chunks.pop_front() else { return };
        let evicted = self.base;
        self.base += 1;
        self.bytes -= chunk.len();
        for id in self.cursors.remove(&evicted).unwrap_or_default() {
            let Some(entry) = self.peers.get_mut(id) else { continue };
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
            self.cursors.entry(self.base).or_default().insert(id);
        }
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
            for id in self.cursors.get(&sequence).into_iter().flatten() {
                let Some(entry) = self.peers.get_mut(*id) else { continue };
                if let Place::Behind { sent, writing, .. } = &mut entry.place
                    && !writing.as_ref().is_some_and(|range| range.contains(&sequence))
                {
                    entry.rest = rest_of(slot, *sent, &entry.rest);
                    *sent = 0;
                }
            }
            self.bytes -= slot.len();
            *slot = Arc::new(Chunk::marker(Arc::clone(origin), slot.position()));
        }
        self.retire();
    }

    /// Lets go of the chunks that no peer is owed any more.
    fn retire(&mut self) {
        if self.is_held() {
            return;
        }
        let oldest = self.cursors.first_key_value().map_or(u64::MAX, |(sequence, _)| *sequence);
        while self.base < oldest
            && let Some(chunk) = self.chunks.pop_front()
        {
            self.base += 1;
            self.bytes -= chunk.len();
            chunk.origin().deliver(chunk.position());
        }
    }

    // ---- what comes out

    /// What the peer is to be written next, from where it stands. Empty where there is nothing.
    pub(crate) fn gather(&mut self, id: PeerId) -> Batch {
        let tail = self.tail();
        let mut batch = Batch { end: tail, ..Batch::default() };
        let Some(entry) = self.peers.get_mut(id) else { return batch };
        let Place::Behind { next, sent, writing } = &mut entry.place else { return batch };
        batch.rest = entry.rest.clone();
        let (start, mut bytes) = (*next, 0);
        for sequence in start..tail {
            if bytes >= BATCH_BYTES || batch.segments.len() >= BATCH_SEGMENTS {
                batch.end = sequence;
                break;
            }
            let Some(chunk) = self.chunks.get((sequence - self.base) as usize) else { break };
            let sent = if sequence == start { *sent } else { 0 };
            entry.prefixes.select(chunk, sent, |range| {
                bytes += range.len();
                batch.segments.push(Segment { sequence, chunk: Arc::clone(chunk), range });
            });
        }
        if batch.is_empty() {
            // Nothing up to the tail concerns it.
            let start = *next;
            entry.place = Place::Live;
            remove_cursor(&mut self.cursors, start, id);
            self.retire();
        } else {
            *writing = Some(start..batch.end);
        }
        batch
    }

    /// Tells how many bytes of a batch the kernel accepted.
    pub(crate) fn advance(&mut self, id: PeerId, batch: &Batch, written: usize) {
        let tail = self.tail();
        let Some(entry) = self.peers.get_mut(id) else { return };
        let Place::Behind { next, sent, writing } = &mut entry.place else { return };
        *writing = None;
        self.counters.bytes_sent += written as u64;

        let of_rest = written.min(batch.rest.len());
        let mut left = written - of_rest;
        let mut messages = 0;
        entry.rest = batch.rest.slice(of_rest..);
        if !batch.rest.is_empty() && entry.rest.is_empty() {
            messages += 1;
        }

        // Where the write came to: `stop` is the first segment that was not written whole.
        let mut reached = (batch.end, 0);
        let mut stop = batch.segments.len();
        for (index, segment) in batch.segments.iter().enumerate() {
            let accepted = left.min(segment.range.len());
            let position = segment.range.start + accepted;
            messages += segment.chunk.messages_ending_in(&(segment.range.start..position));
            left -= accepted;
            if accepted < segment.range.len() {
                reached = (segment.sequence, position);
                stop = index;
                break;
            }
        }
        entry.messages_sent += messages;
        self.counters.messages_sent += messages;

        let half_done = batch.segments.get(stop);
        let evicted = reached.0 < *next;
        let withdrawn = half_done.is_some_and(|segment| segment.chunk.origin().is_withdrawn());
        if let Some(segment) = half_done
            && (evicted || withdrawn)
        {
            entry.rest = rest_of(&segment.chunk, reached.1, &entry.rest);
        }
        if evicted {
            let mut dropped = 0;
            for segment in batch.segments[stop..].iter().filter(|segment| segment.sequence < *next) {
                let from = segment.range.start.max(if segment.sequence == reached.0 { reached.1 } else { 0 });
                dropped += segment.chunk.messages_ending_in(&(from..segment.range.end.max(from)));
            }
            // The message that is half written will be finished.
            let dropped = dropped.saturating_sub(u64::from(
                half_done.is_some_and(|segment| segment.chunk.half_written(reached.1).is_some()),
            ));
            entry.messages_dropped += dropped;
            self.counters.messages_dropped += dropped;
            reached = (*next, 0);
        } else if withdrawn {
            reached.1 = 0;
        }

        let before = *next;
        if reached.0 == tail && entry.rest.is_empty() {
            entry.place = Place::Live;
            remove_cursor(&mut self.cursors, before, id);
        } else {
            (*next, *sent) = reached;
            if before != reached.0 {
                remove_cursor(&mut self.cursors, before, id);
                self.cursors.entry(reached.0).or_default().insert(id);
            }
        }
        self.retire();
    }

    // ---- what is known

    fn bytes_queued(&self, id: PeerId) -> u64 {
        let Some(entry) = self.peers.get(id) else { return 0 };
        let Place::Behind { next, sent, .. } = &entry.place else { return 0 };
        let mut bytes = entry.rest.len();
        for sequence in *next..self.tail() {
            let Some(chunk) = self.chunk(sequence) else { break };
            let sent = if sequence == *next { *sent } else { 0 };
            entry.prefixes.select(chunk, sent, |range| bytes += range.len());
        }
        bytes as u64
    }

    pub(crate) fn view(&self, id: PeerId, prefixes_shown: usize) -> Option<PeerView> {
        let entry = self.peers.get(id)?;
        let mut prefixes: Vec<_> = entry.prefixes.iter().take(prefixes_shown).map(<[u8]>::to_vec).collect();
        prefixes.sort();
        Some(PeerView {
            prefixes,
            prefixes_total: entry.prefixes.len(),
            bytes_queued: self.bytes_queued(id),
            messages_sent: entry.messages_sent,
            messages_dropped: entry.messages_dropped,
        })
    }
}

fn remove_cursor(cursors: &mut BTreeMap<u64, BTreeSet<PeerId>>, sequence: u64, id: PeerId) {
    if let Some(peers) = cursors.get_mut(&sequence) {
        peers.remove(&id);
        if peers.is_empty() {
            cursors.remove(&sequence);
        }
    }
}

/// The rest of the message that is half written after `sent` bytes of `chunk`, or else the one that was pending.
fn rest_of(chunk: &Chunk, sent: usize, pending: &Bytes) -> Bytes {
    match chunk.half_written(sent).and_then(|end| chunk.bytes().get(sent..end)) {
        Some(rest) if pending.is_empty() => Bytes::copy_from_slice(rest),
        _ => pending.clone(),
    }
}

impl Prefixes {
    /// Hands out the runs of messages in `chunk`, from byte `sent` on, that these prefixes want. A message of which a
    /// part was sent is wanted in any case.
    fn select(&self, chunk: &Chunk, sent: usize, mut run: impl FnMut(Range<usize>)) {
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
    fn count_messages(&self, chunk: &Chunk, sent: usize) -> u64 {
        let mut messages = 0;
        let from = chunk.half_written(sent).unwrap_or(sent);
        self.select(chunk, from, |range| messages += chunk.messages_ending_in(&range));
        messages
    }
}
