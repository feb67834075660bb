//! The peers of a ring: what each wants, where each stands, and which stand at which chunk.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;

use crate::subscriptions::{PeerId, Prefixes};

/// Where a peer stands.
#[derive(Debug)]
pub(super) enum Place {
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
pub(super) struct Entry<P> {
    pub(super) peer: P,
    pub(super) prefixes: Prefixes,
    /// The first chunk that was published with these prefixes.
    pub(super) settled: u64,
    pub(super) place: Place,
    /// The rest of a half-written message whose chunk is no longer in the ring.
    pub(super) rest: Bytes,
    /// Whether it was put back to the ring's first chunk while a batch was being written.
    pub(super) begun_again: bool,
    pub(super) messages_sent: u64,
    pub(super) messages_dropped: u64,
}

impl<P> Entry<P> {
    pub(super) fn new(peer: P) -> Self {
        Self {
            peer,
            prefixes: Prefixes::default(),
            settled: 0,
            place: Place::Live,
            rest: Bytes::new(),
            begun_again: false,
            messages_sent: 0,
            messages_dropped: 0,
        }
    }
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

/// The peers that are behind, by the chunk they stand at.
#[derive(Debug, Default)]
pub(super) struct Cursors(BTreeMap<u64, BTreeSet<PeerId>>);

impl Cursors {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The oldest chunk that somebody stands at.
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

    /// Moves everybody at `from` to `to`.
    pub(super) fn shift(&mut self, from: u64, to: u64) {
        if let Some(peers) = self.0.remove(&from) {
            self.0.entry(to).or_default().extend(peers);
        }
    }
}
