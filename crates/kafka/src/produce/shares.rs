//! The part of `in_flight_bytes` that each partition has under way, so that one that cannot be
//! written does not stop the others. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::PartitionIndex;
use super::partitioner::of_key;

/// Parts of the memory that together are a quarter of it: the share of a partition, and that of a
/// topic whose partitions are not known yet, so that it is for any of them. A third one may be on
/// its way to the route when a share is used up.
const PARTS: usize = 32;
const OF_PARTITION: usize = 6;

/// The shares of all partitions.
#[derive(Debug)]
pub struct Shares {
    part: usize,
    /// Bytes by topic, then by partition; the first is that of records whose partition is not known
    /// yet.
    held: Vec<Vec<usize>>,
    full: BTreeSet<PartitionIndex>,
}

/// A change of what is taken for a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// There is none.
    None,
    /// No more is taken.
    Full,
    /// More is taken again.
    Open,
}

impl Shares {
    /// For a route with so much memory, in bytes.
    pub fn new(in_flight_bytes: usize) -> Self {
        Self { part: in_flight_bytes / PARTS, held: Vec::new(), full: BTreeSet::new() }
    }

    /// Takes note of bytes that are under way from now on.
    pub fn add(&mut self, index: PartitionIndex, bytes: usize) -> Change {
        let share = self.share(index);
        let held = self.held_by(index);
        *held += bytes;
        if *held >= share && self.full.insert(index) { Change::Full } else { Change::None }
    }

    /// Takes note of bytes that are not under way any more.
    pub fn remove(&mut self, index: PartitionIndex, bytes: usize) -> Change {
        // Not with each message: connections wake up.
        let again = self.share(index) / 2;
        let held = self.held_by(index);
        *held = held.saturating_sub(bytes);
        if *held <= again && self.full.remove(&index) { Change::Open } else { Change::None }
    }

    fn share(&self, index: PartitionIndex) -> usize {
        if index.partition.is_some() { self.part * OF_PARTITION } else { self.part }
    }

    /// The partitions that take no more for now.
    pub fn full(&self) -> &BTreeSet<PartitionIndex> {
        &self.full
    }

    fn held_by(&mut self, PartitionIndex { topic, partition }: PartitionIndex) -> &mut usize {
        if self.held.len() <= topic {
            self.held.resize_with(topic + 1, Vec::new);
        }
        let of_topic = &mut self.held[topic];
        let place = partition.map_or(0, |partition| partition + 1);
        if of_topic.len() <= place {
            of_topic.resize(place + 1, 0);
        }
        &mut of_topic[place]
    }
}

/// A partition that takes no more for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullPartition {
    /// Name of its topic.
    pub topic: Arc<str>,
    /// Its number; `None` while the partitions of the topic are not known.
    pub partition: Option<usize>,
    /// Partitions that the topic has.
    pub count: u32,
}

/// Returns true if the partition of a record is among the full ones. A record without a key and
/// partition goes to any.
pub fn is_full(
    full: &[FullPartition],
    topic: &str,
    partition: Option<i32>,
    key: Option<&[u8]>,
) -> bool {
    let of_topic = || full.iter().filter(|full| *full.topic == *topic);
    let has = |partition: usize| of_topic().any(|full| full.partition == Some(partition));
    if of_topic().any(|full| full.partition.is_none()) {
        return true;
    }
    let Some(FullPartition { count, .. }) = of_topic().next() else { return false };
    match (partition, key) {
        (Some(partition), _) => usize::try_from(partition).is_ok_and(has),
        (None, Some(key)) => usize::try_from(of_key(key, *count)).is_ok_and(has),
        (None, None) => u32::try_from(of_topic().count()).is_ok_and(|full| full >= *count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_waits_only_for_what_is_full() {
        let full =
            |topic: &str, partition| FullPartition { topic: Arc::from(topic), partition, count: 2 };
        let key = |partition: u32| {
            let mut keys = (0..).map(|number| format!("k{number}").into_bytes());
            keys.find(|key| of_key(key, 2) == partition).unwrap()
        };
        let (zero, one) = (key(0), key(1));
        let list = [full("t", Some(1)), full("unknown", None)];
        for (topic, partition, key, waits) in [
            ("t", Some(1), None, true),
            ("t", Some(0), Some(&*one), false),
            ("t", None, Some(&*one), true),
            ("t", None, Some(&*zero), false),
            ("t", None, None, false),
            ("other", Some(1), None, false),
            ("unknown", Some(1), None, true),
        ] {
            let found = is_full(&list, topic, partition, key);
            assert_eq!(found, waits, "{topic} {partition:?} {key:?}");
        }
        let both = [full("t", Some(1)), full("t", Some(0))];
        assert!(is_full(&both, "t", None, None));
    }

    #[test]
    fn a_partition_is_full_at_its_share_and_open_again_below_it() {
        let mut shares = Shares::new(1600);
        let [a, b] = [Some(0), None].map(|partition| PartitionIndex { topic: 3, partition });
        assert_eq!(shares.add(a, 299), Change::None);
        assert_eq!(shares.add(b, 49), Change::None);
        assert_eq!(shares.add(a, 1), Change::Full);
        assert_eq!(shares.add(a, 50), Change::None, "it is known");
        assert_eq!(shares.full().iter().collect::<Vec<_>>(), [&a]);
        assert_eq!(shares.remove(a, 199), Change::None);
        assert_eq!(shares.remove(a, 1), Change::Open);
        assert_eq!(shares.remove(a, 150), Change::None);
        // A larger one goes alone.
        assert_eq!(shares.add(b, 5000), Change::Full);
        assert_eq!(shares.remove(b, 5000), Change::None, "more than half is left");
        assert_eq!(shares.remove(b, 49), Change::Open);
        assert!(shares.full().is_empty());
    }
}
