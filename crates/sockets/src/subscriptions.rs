//! Subscriptions: prefixes counted for each peer, and the peers that a routing frame concerns.
//!
//! Each is a trie, so that a lookup is one walk along the routing frame, regardless of other
//! subscriptions.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::trie::{IntoKeys, Keys, Trie};

/// The number of a peer within one socket. Never given twice.
pub(crate) type PeerId = u64;

/// Up to this many prefixes of a peer are few.
const FEW: usize = 4;
/// A prefix counts once toward a peer's limit for each so many bytes that it begins. (A Kafka
/// topic's name has at most 249.)
const COUNTED_BYTES: usize = 256;

/// The bytes that a prefix counts toward a peer's limit, which bounds memory by that.
fn counted(prefix: &[u8]) -> usize {
    prefix.len().div_ceil(COUNTED_BYTES).max(1)
}

/// The subscriptions of one peer.
#[derive(Debug, Default)]
pub(crate) struct Prefixes {
    counts: Trie<u32>,
    counted: usize,
}

impl Prefixes {
    /// Counts a subscription; true if the prefix is new.
    pub(crate) fn add(&mut self, prefix: &[u8]) -> bool {
        let count = self.counts.entry(prefix);
        *count = count.saturating_add(1);
        let new = *count == 1;
        if new {
            self.counted += counted(prefix);
        }
        new
    }

    /// Returns true if a prefix would be one too many.
    pub(crate) fn exceeds(&self, prefix: &[u8], limit: usize) -> bool {
        self.counted + counted(prefix) > limit && !self.contains(prefix)
    }

    /// Takes one subscription back; true if that was the last of its prefix. One that never was is
    /// ignored.
    pub(crate) fn remove(&mut self, prefix: &[u8]) -> bool {
        match self.counts.get_mut(prefix) {
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

    pub(crate) fn contains(&self, prefix: &[u8]) -> bool {
        self.counts.get(prefix).is_some()
    }

    pub(crate) fn len(&self) -> usize {
        self.counts.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// The prefixes, sorted.
    pub(crate) fn keys(&self) -> Keys<'_, u32> {
        self.counts.keys()
    }

    /// The prefixes one by one, each gone with it.
    pub(crate) fn into_keys(self) -> IntoKeys<u32> {
        self.counts.into_keys()
    }

    /// Returns true if there are so few that they are soon gone through.
    pub(crate) fn are_few(&self) -> bool {
        self.len() <= FEW
    }

    /// Returns true if every message is wanted: the empty prefix is there.
    pub(crate) fn are_all(&self) -> bool {
        self.counts.root().is_some()
    }

    /// Returns true if a message with this routing frame is wanted.
    pub(crate) fn matches(&self, frame: &[u8]) -> bool {
        self.counts.matching(frame).next().is_some()
    }
}

/// A peer's change of its subscriptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Subscribe(Bytes),
    Cancel(Bytes),
}

/// Messages, and the bytes that they take on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
    }

    pub(crate) fn since(self, mark: Self) -> Self {
        Self { messages: self.messages - mark.messages, bytes: self.bytes - mark.bytes }
    }
}

/// The peers that have a prefix, and the count of its messages that were dropped.
#[derive(Debug, Default)]
struct Audience {
    peers: BTreeSet<PeerId>,
    /// The number of them for which [`Audience::dropped`] counts what is dropped.
    fallen: u64,
    /// The count of what was dropped since some peer has the prefix.
    dropped: Tally,
}

/// The subscriptions of all peers of a socket.
#[derive(Debug, Default)]
pub(crate) struct Index(Trie<Audience>);

impl Index {
    pub(crate) fn add(&mut self, peer: PeerId, prefix: &[u8]) {
        self.0.entry(prefix).peers.insert(peer);
    }

    pub(crate) fn remove(&mut self, peer: PeerId, prefix: &[u8]) {
        if let Some(audience) = self.0.get_mut(prefix) {
            audience.peers.remove(&peer);
            if audience.peers.is_empty() {
                self.0.remove(prefix);
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The peers that want every message.
    pub(crate) fn all(&self) -> Option<&BTreeSet<PeerId>> {
        self.0.root().map(|audience| &audience.peers)
    }

    /// The peers that want a message with this routing frame, in a set for each matching prefix,
    /// those that want every message first; one with several prefixes comes several times.
    pub(crate) fn matching<'a>(
        &'a self,
        frame: &'a [u8],
    ) -> impl Iterator<Item = &'a BTreeSet<PeerId>> + 'a {
        self.0.matching(frame).map(|audience| &audience.peers)
    }

    // What is dropped for a peer that takes nothing is counted once for all that have the prefix,
    // however many they are. Only for peers with few prefixes, which have to stay as they are
    // meanwhile.

    /// Counts drops for a peer with these prefixes from now on. Returns the drops before.
    pub(crate) fn fall(&mut self, prefixes: &Prefixes) -> Tally {
        self.fallen(prefixes, |fallen| *fallen += 1)
    }

    /// The end of that. Returns what was dropped up to now.
    pub(crate) fn rise(&mut self, prefixes: &Prefixes) -> Tally {
        self.fallen(prefixes, |fallen| *fallen -= 1)
    }

    fn fallen(&mut self, prefixes: &Prefixes, change: impl Fn(&mut u64)) -> Tally {
        let mut total = Tally::default();
        // Each wanted message has exactly one of these.
        let mut minimal = prefixes.counts.minimal();
        while let Some(prefix) = minimal.next() {
            if let Some(audience) = self.0.get_mut(prefix) {
                change(&mut audience.fallen);
                total.add(audience.dropped);
            }
        }
        total
    }

    /// Returns the count of what was dropped up to now of what these prefixes want.
    pub(crate) fn dropped(&self, prefixes: &Prefixes) -> Tally {
        let mut total = Tally::default();
        let mut minimal = prefixes.counts.minimal();
        while let Some(prefix) = minimal.next() {
            if let Some(audience) = self.0.get(prefix) {
                total.add(audience.dropped);
            }
        }
        total
    }

    /// Counts messages with this routing frame as dropped. Returns how many that is over all peers.
    pub(crate) fn drop_messages(&mut self, frame: &[u8], tally: Tally) -> u64 {
        let mut peers = 0;
        self.0.for_matching(frame, |audience| {
            audience.dropped.add(tally);
            peers += audience.fallen;
        });
        peers * tally.messages
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
        assert!(prefixes.matches(b"abc") && !prefixes.are_all());
        assert!(prefixes.remove(b"a"));
        assert!(!prefixes.matches(b"abc"));
        assert!(!prefixes.remove(b"a"), "what is not there cannot be canceled");
        assert!(prefixes.is_empty());
        prefixes.add(b"");
        assert!(prefixes.are_all() && prefixes.matches(b""));
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
            index
                .matching(frame)
                .flatten()
                .copied()
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect::<Vec<_>>()
        };
        assert_eq!(peers(b"orders"), [1, 2, 3]);
        assert_eq!(peers(b"orders.eu.1"), [1, 2, 3]);
        assert_eq!(peers(b"payments"), [1]);
        assert_eq!(peers(b""), [1]);
        assert_eq!(index.all(), Some(&BTreeSet::from([1])));
    }

    #[test]
    fn what_is_dropped_is_counted_once_for_a_peer_with_prefixes_that_cover_each_other() {
        let mut index = Index::default();
        let mut prefixes = Prefixes::default();
        for prefix in ["orders", "orders.eu", "p"] {
            prefixes.add(prefix.as_bytes());
            index.add(1, prefix.as_bytes());
        }
        let one = Tally { messages: 1, bytes: 10 };
        assert_eq!(index.drop_messages(b"orders.eu", one), 0, "nobody has fallen");
        let mark = index.fall(&prefixes);
        let dropped: Vec<_> = [&b"orders.eu.1"[..], b"orders", b"payments", b"x"]
            .map(|frame| index.drop_messages(frame, one))
            .into();
        assert_eq!(dropped, [1, 1, 1, 0]);
        assert_eq!(index.dropped(&prefixes).since(mark), Tally { messages: 3, bytes: 30 });
        assert_eq!(index.rise(&prefixes).since(mark), Tally { messages: 3, bytes: 30 });
        assert_eq!(index.drop_messages(b"orders", one), 0);
    }
}
