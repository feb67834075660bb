//! What comes out of the ring: batches, how far they were written, and what is known of a peer.

use std::ops::Range;
use std::sync::Arc;

use super::select::rest_of;
use super::{Batch, PeerView, Place, Ring, Segment};
use crate::chunk::Chunk;
use crate::subscriptions::{PeerId, Prefixes};

/// Bytes that one batch of a peer holds at the most, unless its first chunk alone is larger. (Small in tests, so that
/// they see many batches.)
const BATCH_BYTES: usize = if cfg!(test) { 400 } else { 512 * 1024 };
/// Segments that one batch of a peer holds at the most (well under IOV_MAX).
const BATCH_SEGMENTS: usize = if cfg!(test) { 3 } else { 64 };

impl<P: Clone> Ring<P> {
    /// What the peer is to be written next, from where it stands. Empty where there is nothing.
    pub(crate) fn gather(&mut self, id: PeerId) -> Batch {
        let tail = self.tail();
        let mut batch = Batch { end: (tail, 0), ..Batch::default() };
        let Some(entry) = self.peers.get_mut(&id) else { return batch };
        let Place::Behind { next, sent, writing } = &mut entry.place else { return batch };
        batch.rest = entry.rest.clone();
        let (start, mut bytes) = (*next, 0);
        let mut writing_to = tail;
        for sequence in start..tail {
            let Some(chunk) = self.chunks.get((sequence - self.base) as usize) else { break };
            let sent = if sequence == start { *sent } else { 0 };
            let settled = sequence >= entry.settled;
            for range in wanted(id, &entry.prefixes, settled, chunk, sent) {
                bytes += range.len();
                batch.end = (sequence, range.end);
                batch.segments.push(Segment { sequence, chunk: Arc::clone(chunk), range });
                if bytes >= BATCH_BYTES || batch.segments.len() >= BATCH_SEGMENTS {
                    break;
                }
            }
            if bytes >= BATCH_BYTES || batch.segments.len() >= BATCH_SEGMENTS {
                batch.last = Some(Arc::clone(chunk));
                writing_to = sequence + 1;
                break;
            }
        }
        if batch.last.is_none() {
            batch.end = (tail, 0);
        }
        if batch.is_empty() {
            // Nothing up to the tail concerns it.
            let start = *next;
            entry.place = Place::Live;
            self.cursors.remove(start, id);
            self.retire();
        } else {
            *writing = Some(start..writing_to);
        }
        batch
    }

    /// Tells how many bytes of a batch the kernel accepted. True where the peer has been written everything.
    pub(crate) fn advance(&mut self, id: PeerId, batch: &Batch, written: usize) -> bool {
        let tail = self.tail();
        let Some(entry) = self.peers.get_mut(&id) else { return true };
        let Place::Behind { next, sent, writing } = &mut entry.place else { return true };
        let begun_again = std::mem::take(&mut entry.begun_again);
        // An empty batch leaves the peer where it is: since then it may have fallen behind.
        if writing.take().is_none() && !begun_again {
            return false;
        }
        self.counters.bytes_sent += written as u64;

        let of_rest = written.min(batch.rest.len());
        let mut left = written - of_rest;
        let mut messages = 0;
        entry.rest = batch.rest.slice(of_rest..);
        if !batch.rest.is_empty() && entry.rest.is_empty() {
            messages += 1;
        }

        // Where the write came to: `stop` is the first segment that was not written whole.
        let mut reached = batch.end;
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
        if begun_again {
            if let Some(segment) = half_done {
                entry.rest = rest_of(&segment.chunk, reached.1, &entry.rest);
            }
            return false;
        }
        let evicted = reached.0 < *next;
        let withdrawn = half_done.is_some_and(|segment| segment.chunk.origin().is_withdrawn());
        if let Some(segment) = half_done
            && (evicted || withdrawn)
        {
            entry.rest = rest_of(&segment.chunk, reached.1, &entry.rest);
        }
        if evicted {
            let mut dropped = 0_u64;
            for segment in batch.segments[stop..].iter().filter(|segment| segment.sequence < *next) {
                let from = segment.range.start.max(if segment.sequence == reached.0 { reached.1 } else { 0 });
                dropped += segment.chunk.messages_ending_in(&(from..segment.range.end.max(from)));
            }
            // The message that is half written will be finished.
            dropped = dropped.saturating_sub(u64::from(
                half_done.is_some_and(|segment| segment.chunk.half_written(reached.1).is_some()),
            ));
            // Of the chunk in which the batch ended, the messages after it were not looked at.
            if let Some(last) = batch.last.as_ref().filter(|_| batch.end.0 < *next) {
                dropped += entry.prefixes.count_messages(last, batch.end.1);
            }
            entry.messages_dropped += dropped;
            self.counters.messages_dropped += dropped;
            reached = (*next, 0);
        } else if let Some(chunk) = self.chunks.get((reached.0 - self.base) as usize) {
            if reached.1 >= chunk.len() && !chunk.is_empty() {
                reached = (reached.0 + 1, 0);
            } else {
                // It is a marker now where it was withdrawn.
                reached.1 = reached.1.min(chunk.len());
            }
        }

        let before = *next;
        let live = reached.0 == tail && entry.rest.is_empty();
        if live {
            entry.place = Place::Live;
            self.cursors.remove(before, id);
        } else {
            (*next, *sent) = reached;
            if before != reached.0 {
                self.cursors.remove(before, id);
                self.cursors.add(reached.0, id);
            }
        }
        self.retire();
        live
    }

    // ---- what is known

    pub(super) fn bytes_queued(&self, id: PeerId) -> u64 {
        let Some(entry) = self.peers.get(&id) else { return 0 };
        let Place::Behind { next, sent, .. } = &entry.place else { return 0 };
        let mut bytes = entry.rest.len();
        for sequence in *next..self.tail() {
            let Some(chunk) = self.chunk(sequence) else { break };
            let sent = if sequence == *next { *sent } else { 0 };
            let settled = sequence >= entry.settled;
            bytes +=
                wanted(id, &entry.prefixes, settled, chunk, sent).map(|range| range.len()).sum::<usize>();
        }
        bytes as u64
    }

    /// The peers that stand at the oldest chunk somebody is owed: the first of them, and how many there are.
    pub(crate) fn furthest_behind(&self) -> Option<(P, usize)> {
        let oldest = self.cursors.oldest()?;
        let first = self.cursors.at(oldest).find_map(|id| self.peers.get(&id))?;
        Some((first.peer.clone(), self.cursors.at(oldest).count()))
    }

    /// `shown`: how many prefixes are listed, and how many bytes of each.
    pub(crate) fn view(&self, id: PeerId, shown: (usize, usize)) -> Option<PeerView> {
        let entry = self.peers.get(&id)?;
        let cut = |prefix: &[u8]| prefix[..prefix.len().min(shown.1)].to_vec();
        let mut prefixes: Vec<_> = entry.prefixes.iter().take(shown.0).map(cut).collect();
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

/// The byte ranges of a chunk, from byte `sent` on, that a peer is to be written. `settled`: the peer had these prefixes
/// when the chunk was published, so that what was found then holds.
fn wanted<'a>(
    id: PeerId,
    prefixes: &'a Prefixes,
    settled: bool,
    chunk: &'a Chunk,
    sent: usize,
) -> impl Iterator<Item = Range<usize>> + 'a {
    let runs = chunk.runs().filter(|_| settled).map(|runs| runs.of(id, sent));
    let scanned = runs.is_none().then(|| prefixes.select(chunk, sent));
    runs.into_iter().flatten().chain(scanned.into_iter().flatten())
}
