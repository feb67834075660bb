//! Subscriptions: prefixes counted for each peer, and which peers a routing frame concerns.
//!
//! A look-up costs one hash for each distinct length of prefix that fits the frame, however many peers there are.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Which peer, within one socket. Never given twice.
pub(crate) type PeerId = u64;

/// Up to this many prefixes are compared one by one, which is faster than a hash.
const FEW: usize = 4;

/// Prefixes of distinct lengths, with something kept for each.
#[derive(Debug, Default)]
struct PrefixMap<T> {
    entries: HashMap<Box<[u8]>, T>,
    lengths: BTreeMap<usize, usize>,
}

impl<T> PrefixMap<T> {
    fn entry(&mut self, prefix: &[u8]) -> &mut T
    where
        T: Default,
    {
        match self.entries.entry(prefix.into()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                *self.lengths.entry(prefix.len()).or_default() += 1;
                entry.insert(T::default())
            }
        }
    }

    fn remove(&mut self, prefix: &[u8]) {
        if self.entries.remove(prefix).is_some()
            && let Some(count) = self.lengths.get_mut(&prefix.len())
        {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&prefix.len());
            }
        }
    }

    fn matching<'a>(&'a self, frame: &'a [u8]) -> impl Iterator<Item = &'a T> + 'a {
        self.lengths.range(..=frame.len()).filter_map(move |(length, _)| self.entries.get(&frame[..*length]))
    }
}

/// A prefix counts once towards a peer's limit for each so many bytes that it begins. (A Kafka topic's name has at most
/// 249.)
const COUNTED_BYTES: usize = 256;

/// What a prefix counts towards a peer's limit, which bounds memory by that.
fn counted(prefix: &[u8]) -> usize {
    prefix.len().div_ceil(COUNTED_BYTES).max(1)
}

/// The subscriptions of one peer.
#[derive(Debug, Default)]
pub(crate) struct Prefixes {
    counts: PrefixMap<u32>,
    counted: usize,
}

impl Prefixes {
    /// Counts a subscription; true where the prefix is new.
    pub(crate) fn add(&mut self, prefix: &[u8]) -> bool {
        let count = self.counts.entry(prefix);
        *count = count.saturating_add(1);
        let new = *count == 1;
        if new {
            self.counted += counted(prefix);
        }
        new
    }

    /// Whether a prefix would be one too many.
    pub(crate) fn exceeds(&self, prefix: &[u8], limit: usize) -> bool {
        self.counted + counted(prefix) > limit && !self.contains(prefix)
    }

    /// Takes one subscription back; true where that was the last of its prefix. One that never was is ignored.
    pub(crate) fn remove(&mut self, prefix: &[u8]) -> bool {
        match self.counts.entries.get_mut(prefix) {
            Some(count) if *count > 1 => {
                *count -= 1;
                false
            }
            Some(_) => {
                self.counts.remove(prefix);
                self.counted -= counted(prefix);
                true
            }
            None => false,
        }
    }

    fn contains(&self, prefix: &[u8]) -> bool {
        self.counts.entries.contains_key(prefix)
    }

    pub(crate) fn len(&self) -> usize {
        self.counts.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.counts.entries.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.counts.entries.keys().map(|prefix| &**prefix)
    }

    /// Whether a message with this routing frame is wanted.
    pub(crate) fn matches(&self, frame: &[u8]) -> bool {
        if self.len() <= FEW {
            return self.iter().any(|prefix| frame.starts_with(prefix));
        }
        self.counts.matching(frame).next().is_some()
    }
}

/// The subscriptions of all peers of a socket.
#[derive(Debug, Default)]
pub(crate) struct Index(PrefixMap<BTreeSet<PeerId>>);

impl Index {
    pub(crate) fn add(&mut self, peer: PeerId, prefix: &[u8]) {
        self.0.entry(prefix).insert(peer);
    }

    pub(crate) fn remove(&mut self, peer: PeerId, prefix: &[u8]) {
        if let Some(peers) = self.0.entries.get_mut(prefix) {
            peers.remove(&peer);
            if peers.is_empty() {
                self.0.remove(prefix);
            }
        }
    }

    /// The peers that want a message with this routing frame, in a set for each matching prefix; one with several comes
    /// several times.
    pub(crate) fn matching<'a>(&'a self, frame: &'a [u8]) -> impl Iterator<Item = &'a BTreeSet<PeerId>> + 'a {
        self.0.matching(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_each_prefix() {
        let mut prefixes = Prefixes::default();
        assert!(prefixes.add(b"a"));
        assert!(!prefixes.add(b"a"));
        assert!(!prefixes.remove(b"a"));
        assert!(prefixes.matches(b"abc"));
        assert!(prefixes.remove(b"a"));
        assert!(!prefixes.matches(b"abc"));
        assert!(!prefixes.remove(b"a"), "what is not there cannot be cancelled");
        assert!(prefixes.counts.lengths.is_empty());
    }

    #[test]
    fn long_prefixes_count_for_several() {
        let mut prefixes = Prefixes::default();
        let long = [b'a'; 3 * COUNTED_BYTES + 1];
        assert!(!prefixes.exceeds(&long, 4) && prefixes.exceeds(&long, 3));
        prefixes.add(&long);
        prefixes.add(&long);
        assert!(!prefixes.exceeds(&long, 4), "it is counted already");
        assert!(prefixes.exceeds(b"", 4) && !prefixes.exceeds(b"", 5));
        prefixes.remove(&long);
        assert!(prefixes.exceeds(b"", 4));
        prefixes.remove(&long);
        assert_eq!(prefixes.counted, 0);
    }

    #[test]
    fn matches_by_prefix() {
        let mut index = Index::default();
        index.add(1, b"");
        index.add(2, b"orders");
        index.add(3, b"orders.eu");
        index.add(3, b"o");
        let peers = |frame: &[u8]| {
            index.matching(frame).flatten().copied().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
        };
        assert_eq!(peers(b"orders"), [1, 2, 3]);
        assert_eq!(peers(b"orders.eu.1"), [1, 2, 3]);
        assert_eq!(peers(b"payments"), [1]);
        assert_eq!(peers(b""), [1]);
    }
}
