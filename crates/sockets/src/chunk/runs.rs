//! The messages of a chunk that each peer wants, found once when the chunk is published: if routing
//! frames differ from message to message, peers would have to go through all of them each, and most
//! of them for nothing.

use std::ops::Range;

use crate::subscriptions::PeerId;

/// Memory of one run.
const RUN_BYTES: usize = size_of::<(PeerId, Range<usize>)>();

/// The byte ranges of a chunk that each peer wants: sorted by peer, rising, and not touching.
#[derive(Debug, Default)]
pub(crate) struct RunIndex(Vec<(PeerId, Range<usize>)>);

impl RunIndex {
    /// Memory that they take, in bytes.
    pub(crate) fn weight(&self) -> usize {
        self.0.capacity() * RUN_BYTES
    }

    /// Returns the number of bytes that each peer wants.
    pub(crate) fn by_peer(&self) -> impl Iterator<Item = (PeerId, usize)> + '_ {
        let runs = self.0.chunk_by(|(one, _), (other, _)| one == other);
        runs.filter_map(|runs| Some((runs.first()?.0, runs.iter().map(|(_, run)| run.len()).sum())))
    }

    /// The runs of a peer, from byte `sent` on.
    pub(crate) fn of(&self, peer: PeerId, sent: usize) -> impl Iterator<Item = Range<usize>> + '_ {
        let first = self.0.partition_point(|(id, run)| (*id, run.end) <= (peer, sent));
        let runs = self.0[first..].iter().take_while(move |(id, _)| *id == peer);
        runs.map(move |(_, run)| run.start.max(sent)..run.end)
    }
}

/// Gathers runs message by message.
#[derive(Debug)]
pub(crate) struct RunIndexBuilder {
    found: Vec<(PeerId, Range<usize>)>,
    limit: usize,
}

impl RunIndexBuilder {
    /// Makes a builder for a chunk of `bytes` bytes. Its index takes no more memory than the
    /// messages: if there are that many, a peer mostly finds what it wants when it goes through
    /// them.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { found: Vec::new(), limit: bytes / RUN_BYTES }
    }

    /// A builder that gives nothing.
    pub(crate) fn off() -> Self {
        Self { found: Vec::new(), limit: 0 }
    }

    /// Returns true if it gives nothing, even if more is added.
    pub(crate) fn is_off(&self) -> bool {
        self.limit == 0
    }

    /// Adds a message that a peer wants; the same one may come again.
    pub(crate) fn add(&mut self, peer: PeerId, message: &Range<usize>) {
        if self.is_off() {
            return;
        }
        if let Some((last, run)) = self.found.last_mut()
            && *last == peer
            && run.end >= message.start
        {
            run.end = message.end;
        } else if self.found.len() < self.limit {
            self.found.push((peer, message.clone()));
        } else {
            (self.limit, self.found) = (0, Vec::new());
        }
    }

    /// The runs; `None` if there are too many.
    pub(crate) fn finish(mut self) -> Option<RunIndex> {
        if self.is_off() {
            return None;
        }
        self.found.sort_unstable_by_key(|(peer, run)| (*peer, run.start));
        self.found.dedup_by(|(peer, run), (before_peer, before)| {
            let touches = peer == before_peer && run.start <= before.end;
            if touches {
                before.end = before.end.max(run.end);
            }
            touches
        });
        self.found.shrink_to_fit();
        Some(RunIndex(self.found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(limit: usize, wanted: &[(PeerId, Range<usize>)]) -> Option<RunIndex> {
        let mut builder = RunIndexBuilder::new(limit * RUN_BYTES);
        wanted.iter().for_each(|(peer, message)| builder.add(*peer, message));
        builder.finish()
    }

    #[test]
    fn runs_of_each_peer() {
        let wanted = [
            (7, 0..10),
            (3, 0..10),
            (7, 10..15),
            (7, 10..15),
            (3, 15..20),
            (7, 20..30),
            (3, 20..30),
        ];
        let runs = found(7, &wanted).unwrap();
        let of = |peer, sent| runs.of(peer, sent).collect::<Vec<_>>();
        assert_eq!(of(3, 0), [0..10, 15..30]);
        assert_eq!(of(7, 0), [0..15, 20..30]);
        assert_eq!(of(7, 4), [4..15, 20..30]);
        assert_eq!(of(7, 15), of(7, 20));
        assert_eq!(of(3, 30), []);
        assert_eq!(of(5, 0), []);
    }

    #[test]
    fn too_many_are_none() {
        let wanted = |peers: u64| (0..peers).map(|peer| (peer, 0..10)).collect::<Vec<_>>();
        assert!(found(4, &wanted(4)).is_some());
        assert!(found(4, &wanted(5)).is_none());
        assert!(found(0, &[]).is_none());
    }
}
