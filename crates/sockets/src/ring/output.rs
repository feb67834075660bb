//! The way out of the ring: batches, how far they were written, and views of a peer.

use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use super::{Entry, LOOKS, PeerState, PeerView, Ring, RingBatch, Segment};
use crate::origin::Origin;
use crate::subscriptions::{PeerId, Tally};

/// A message is known again by so many bytes of its beginning, and its size.
const FINGERPRINT_BYTES: usize = 1024;

/// A message of which a part was written to a peer.
#[derive(Clone, Debug)]
pub(crate) struct HalfWritten {
    pub(crate) origin: Arc<Origin>,
    /// The origin's position once it is delivered, together with the others in its chunk.
    pub(crate) position: i64,
    /// Size in bytes.
    pub(crate) size: usize,
    /// Hash of its beginning: the same if it is sent again.
    pub(crate) fingerprint: u64,
}

impl<P: Clone> Ring<P> {
    /// Returns the bytes that the peer is to be written next, from its position on. If that is
    /// empty, nothing is left for it, or the next call looks further if [`RingBatch::more`] is set.
    pub(crate) fn gather(&mut self, id: PeerId) -> RingBatch {
        self.rise(id);
        let mut batch = RingBatch { is_broken: self.keeper.is_broken(id), ..RingBatch::default() };
        if batch.is_broken {
            return batch;
        }
        let Some(entry) = self.peers.get(&id) else { return batch };
        let PeerState::Behind { next, sent, .. } = entry.state else { return batch };
        batch.unfinished = entry.unfinished.clone();
        batch.end = (next, sent);
        let (mut bytes, mut last) = (0, None);
        let start = ((next - self.base) as usize).min(self.chunks.len());
        for (sequence, chunk) in (next..).zip(self.chunks.range(start..)) {
            if batch.looks >= LOOKS || batch.is_full(bytes) {
                batch.more = true;
                break;
            }
            batch.looks += entry.looks(chunk, sequence);
            batch.end = (sequence, chunk.len());
            last = Some(chunk);
            let sent = if sequence == next { sent } else { 0 };
            for range in entry.wanted(id, chunk, sequence, sent) {
                bytes += range.len();
                let end = range.end;
                batch.segments.push(Segment { sequence, chunk: Arc::clone(chunk), range });
                if batch.is_full(bytes) {
                    batch.end = (sequence, end);
                    batch.more = end < chunk.len();
                    break;
                }
            }
        }
        batch.last = last.cloned();
        #[cfg(test)]
        {
            self.looks += batch.looks;
        }
        self.note_gathered(id, &batch, bytes as u64);
        batch
    }

    /// Takes note of what is going to be written to a peer, or that nothing is.
    fn note_gathered(&mut self, id: PeerId, batch: &RingBatch, bytes: u64) {
        let Some(entry) = self.peers.get_mut(&id) else { return };
        let PeerState::Behind { next, writing, .. } = &mut entry.state else { return };
        if !batch.more {
            entry.queued = bytes;
        }
        let looked_to = batch.last.as_ref().map_or(*next, |_| batch.end.0 + 1);
        if !batch.is_empty() {
            *writing = Some(*next..looked_to);
            return;
        }
        // Nothing up to there concerns it.
        self.cursors.remove(*next, id);
        entry.state = if batch.more {
            self.cursors.add(looked_to, id);
            PeerState::Behind { next: looked_to, sent: 0, writing: None }
        } else {
            PeerState::Live
        };
        self.tidy();
    }

    /// Takes note of the bytes of a batch that the kernel accepted. Returns true if the peer has
    /// been written everything.
    pub(crate) fn advance(&mut self, id: PeerId, batch: &RingBatch, written: usize) -> bool {
        let tail = self.tail();
        let written = match zafka_planted::is("partial-write-counts-whole") {
            true => {
                batch.unfinished.len() + batch.segments.iter().map(|s| s.range.len()).sum::<usize>()
            }
            false => written,
        };
        let Some(entry) = self.peers.get_mut(&id) else { return true };
        let PeerState::Behind { next, writing, .. } = &mut entry.state else {
            return matches!(entry.state, PeerState::Live);
        };
        // An empty batch does not move the peer: since then it may have fallen behind.
        if writing.take().is_none() {
            return false;
        }
        self.counters.bytes_sent += written as u64;

        let of_rest = written.min(batch.unfinished.len());
        let mut left = written - of_rest;
        let mut messages = 0;
        entry.unfinished = batch.unfinished.slice(of_rest..);
        if !batch.unfinished.is_empty() && entry.unfinished.is_empty() {
            messages += 1;
        }

        // The end of the write: `stop` is the first segment that was not written whole.
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
        entry.queued = entry.queued.saturating_sub((written - of_rest) as u64);
        entry.messages_sent += messages;
        self.counters.messages_sent += messages;

        let half_done = batch.segments.get(stop);
        let evicted = reached.0 < *next;
        let withdrawn = half_done.is_some_and(|segment| segment.chunk.origin().is_withdrawn());
        if let Some(segment) = half_done
            && (evicted || withdrawn)
        {
            self.keeper.keep(id, &segment.chunk, reached.1, &mut entry.unfinished);
        }
        let next = *next;
        if evicted {
            let mut dropped = Tally::default();
            for segment in batch.segments.get(stop..).unwrap_or_default() {
                let from = segment.range.start.max(if segment.sequence == reached.0 {
                    reached.1
                } else {
                    0
                });
                if segment.sequence < next && from < segment.range.end {
                    dropped.messages +=
                        segment.chunk.messages_ending_in(&(from..segment.range.end));
                    dropped.bytes += (segment.range.end - from) as u64;
                }
            }
            // The message that is half written will be finished.
            dropped.messages = dropped.messages.saturating_sub(u64::from(
                half_done.is_some_and(|segment| segment.chunk.half_written(reached.1).is_some()),
            ));
            // Of the chunk in which the batch ended, the messages after it were not looked at.
            if let Some(last) = batch.last.as_ref().filter(|_| batch.end.0 < next) {
                dropped.add(entry.tally(id, last, batch.end.0, batch.end.1));
            }
            entry.drop_messages(dropped);
            self.counters.messages_dropped += dropped.messages;
            reached = (next, 0);
        } else if let Some(chunk) = self.chunks.get((reached.0 - self.base) as usize)
            // It is a marker now if it was withdrawn.
            && reached.1 >= chunk.len()
        {
            reached = (reached.0 + 1, 0);
        }

        let live = reached.0 == tail && entry.unfinished.is_empty();
        if next != reached.0 || live {
            self.cursors.remove(next, id);
        }
        if live {
            (entry.state, entry.queued) = (PeerState::Live, 0);
        } else {
            entry.state = PeerState::Behind { next: reached.0, sent: reached.1, writing: None };
            self.cursors.add(reached.0, id);
        }
        self.tidy();
        live
    }

    // ---- what is known

    /// The message that is half written to a peer, if there is one and the ring has it.
    pub(crate) fn half_written(&self, id: PeerId) -> Option<HalfWritten> {
        let PeerState::Behind { next, sent, .. } = self.peers.get(&id)?.state else { return None };
        let chunk = self.chunks.get(usize::try_from(next.checked_sub(self.base)?).ok()?)?;
        chunk.half_written(sent)?;
        let message = chunk.messages_from(sent).next()?;
        let bytes = chunk.bytes().get(message)?;
        let mut hasher = DefaultHasher::new();
        hasher.write(bytes.get(..FINGERPRINT_BYTES).unwrap_or(bytes));
        Some(HalfWritten {
            origin: Arc::clone(chunk.origin()),
            position: chunk.position(),
            size: bytes.len(),
            fingerprint: hasher.finish(),
        })
    }

    /// Bytes that a peer has yet to be written, without a look at the chunks.
    pub(super) fn bytes_queued(&self, id: PeerId) -> u64 {
        let Some(entry) = self.peers.get(&id) else { return 0 };
        let dropped = self.dropped_since_fallen(entry).bytes;
        // What was withdrawn or is no longer wanted may still be counted.
        entry.queued.saturating_sub(dropped).min(self.bytes as u64) + entry.unfinished.len() as u64
    }

    fn dropped_since_fallen(&self, entry: &Entry<P>) -> Tally {
        match &entry.state {
            PeerState::Fallen { mark: Some(mark) } => {
                self.index.dropped(&entry.prefixes).since(*mark)
            }
            _ => Tally::default(),
        }
    }

    /// The peers that stand at the oldest chunk that any is owed: the first of them, and how many
    /// there are.
    pub(crate) fn furthest_behind(&self) -> Option<(P, usize)> {
        let oldest = self.cursors.oldest()?;
        let first = self.cursors.at(oldest).find_map(|id| self.peers.get(&id))?;
        Some((first.peer.clone(), self.cursors.at(oldest).count()))
    }

    /// `shown`: how many prefixes are listed, and how many bytes of each.
    pub(crate) fn view(&self, id: PeerId, shown: (usize, usize)) -> Option<PeerView> {
        let entry = self.peers.get(&id)?;
        let mut keys = entry.prefixes.keys();
        let shortened = |prefix: &[u8]| prefix[..prefix.len().min(shown.1)].to_vec();
        let prefixes = std::iter::from_fn(|| keys.next().map(shortened)).take(shown.0).collect();
        Some(PeerView {
            prefixes,
            prefixes_total: entry.prefixes.len(),
            bytes_queued: self.bytes_queued(id),
            messages_sent: entry.messages_sent,
            messages_dropped: entry.messages_dropped + self.dropped_since_fallen(entry).messages,
        })
    }
}
