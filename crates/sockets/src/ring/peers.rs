//! The peers of a ring: their subscriptions, their positions, and the peers at each chunk.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;

use crate::chunk::Chunk;
use crate::label::{Allowed, Label};
use crate::memory::Charge;
use crate::subscriptions::{PeerId, Prefixes, Tally};

/// Messages that may be gone through for one look at a chunk.
const MESSAGES_PER_LOOK: usize = 32;

/// The state of a peer.
#[derive(Debug)]
pub(super) enum PeerState {
    /// Everything that it is owed has been written.
    Live,
    /// It is owed chunks from `next` on.
    Behind {
        next: u64,
        /// Bytes of chunk `next` that were written or passed over.
        sent: usize,
        /// The chunks of the batch that is being written.
        writing: Option<Range<u64>>,
    },
    /// The ring had no room for what it stood at. It is owed all that is in the ring, and is not
    /// looked at again before it takes something.
    Fallen {
        /// The count of what was dropped before of what its prefixes want; `None` if they are many,
        /// so that it is counted for itself.
        mark: Option<Tally>,
    },
}

#[derive(Debug)]
pub(super) struct Entry<P> {
    pub(super) peer: P,
    pub(super) prefixes: Prefixes,
    /// The messages that it may have.
    pub(super) allowed: Allowed,
    /// Memory of its prefixes.
    pub(super) charge: Charge,
    /// The first chunk that was published with these prefixes.
    pub(super) prefixes_since: u64,
    pub(super) state: PeerState,
    /// The rest of a half-written message whose chunk is no longer in the ring.
    pub(super) unfinished: Bytes,
    /// Bytes of the ring that it is owed. Exact while its subscriptions stay as they are and
    /// nothing is withdrawn; made so again whenever it is looked at up to the ring's end.
    pub(super) queued: u64,
    /// The last chunk, counted since the ring was made, that was added to `queued`.
    pub(super) seen: u64,
    pub(super) messages_sent: u64,
    pub(super) messages_dropped: u64,
}

impl<P> Entry<P> {
    pub(super) fn new(peer: P, allowed: Allowed, charge: Charge) -> Self {
        Self {
            peer,
            prefixes: Prefixes::default(),
            allowed,
            charge,
            prefixes_since: 0,
            state: PeerState::Live,
            unfinished: Bytes::new(),
            queued: 0,
            seen: 0,
            messages_sent: 0,
            messages_dropped: 0,
        }
    }
}

impl<P> Entry<P> {
    /// Returns true if the peer may have messages of a label.
    pub(super) fn may_have(&self, label: Option<&Label>) -> bool {
        self.allowed.allow(label) || zafka_planted::is("who-may-not-have-it-counts")
    }

    /// Counts the messages, and their bytes, that the peer is to be written of a chunk from byte
    /// `sent` on.
    pub(super) fn tally(&self, id: PeerId, chunk: &Chunk, sequence: u64, sent: usize) -> Tally {
        let mut tally = Tally::default();
        for range in self.wanted(id, chunk, sequence, sent) {
            let whole = chunk.half_written(range.start).unwrap_or(range.start);
            tally.messages += chunk.messages_ending_in(&(whole..range.end.max(whole)));
            tally.bytes += range.len() as u64;
        }
        tally
    }

    /// The byte ranges of a chunk, from byte `sent` on, that the peer is to be written.
    pub(super) fn wanted<'a>(
        &'a self,
        id: PeerId,
        chunk: &'a Chunk,
        sequence: u64,
        sent: usize,
    ) -> impl Iterator<Item = Range<usize>> + 'a {
        let may_have = self.may_have(chunk.origin().label());
        // It had these prefixes when the chunk was published, so that what was found then holds.
        let found =
            chunk.runs().filter(|_| sequence >= self.prefixes_since && !self.prefixes.are_all());
        let runs = found.map(|runs| runs.of(id, sent));
        let scanned = runs.is_none().then(|| self.prefixes.select(chunk, sent));
        let wanted = runs.into_iter().flatten().chain(scanned.into_iter().flatten());
        wanted.filter(move |_| may_have)
    }

    /// Returns the weight of a look at a chunk.
    pub(super) fn looks(&self, chunk: &Chunk, sequence: u64) -> usize {
        let found = chunk.runs().is_some() && sequence >= self.prefixes_since;
        let known = chunk.same_routing() || found || self.prefixes.are_all();
        if known { 1 } else { 1 + chunk.messages() / MESSAGES_PER_LOOK }
    }

    /// Takes note of what was dropped of what is queued for it.
    pub(super) fn drop_messages(&mut self, tally: Tally) {
        self.messages_dropped += tally.messages;
        self.queued = self.queued.saturating_sub(tally.bytes);
    }
}

/// The effect of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subscribed {
    /// It counts, and the peer may have something to be written.
    Counted,
    /// The peer has as many distinct prefixes as it may have.
    TooMany,
    /// There is no memory for it.
    NoMemory,
}

/// A peer at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerView {
    pub(crate) prefixes: Vec<Vec<u8>>,
    pub(crate) prefixes_total: usize,
    pub(crate) bytes_queued: u64,
    pub(crate) messages_sent: u64,
    pub(crate) messages_dropped: u64,
}

/// The peers that are behind, by the chunk they stand at.
#[derive(Debug, Default)]
pub(super) struct Cursors(BTreeMap<u64, BTreeSet<PeerId>>);

impl Cursors {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The oldest chunk that a peer stands at.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.0.first_key_value().map(|(sequence, _)| *sequence)
    }

    pub(super) fn at(&self, sequence: u64) -> impl Iterator<Item = PeerId> + '_ {
        self.0.get(&sequence).into_iter().flatten().copied()
    }

    pub(super) fn add(&mut self, sequence: u64, id: PeerId) {
        self.0.entry(sequence).or_default().insert(id);
    }

    pub(super) fn remove(&mut self, sequence: u64, id: PeerId) {
        if let Some(peers) = self.0.get_mut(&sequence) {
            peers.remove(&id);
            if peers.is_empty() {
                self.0.remove(&sequence);
            }
        }
    }

    /// Returns true if a peer stands at a chunk, or at the place where it will be.
    pub(super) fn is_at(&self, sequence: u64) -> bool {
        self.0.contains_key(&sequence)
    }

    /// Takes all peers away from a chunk.
    pub(super) fn take(&mut self, sequence: u64) -> BTreeSet<PeerId> {
        self.0.remove(&sequence).unwrap_or_default()
    }
}
