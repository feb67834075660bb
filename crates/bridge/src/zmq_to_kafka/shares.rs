//! The part of `in_flight_bytes` that each partition has under way, so that those which cannot be
//! written do not stop the others. Pure.
//!
//! A partition may have a third of what no partition has: a quarter of all if it is the first, a
//! quarter of the rest if another one has that already, and so on. So some is left for the others
//! also if a broker with many partitions is away. Topics whose partitions are not known yet count
//! as one partition, since a sender may name any.

use zafka_kafka::produce::PartitionIndex;

/// Divisor of the free bytes that gives the most a partition may have.
const PART: usize = 3;
/// Divisor of the free bytes that gives those below which a full partition takes more again: not
/// after each message, since connections wake up.
const AGAIN: usize = 2 * PART;

/// The bytes that all partitions have under way.
#[derive(Debug)]
pub(super) struct Shares {
    capacity: usize,
    total: usize,
    unknown: Share,
    /// Bytes of settled messages that wait for earlier ones of their sender to be answered.
    untold: Share,
    /// Bytes by topic, then by partition.
    known: Vec<Vec<Share>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Share {
    bytes: usize,
    is_full: bool,
}

impl Share {
    /// Adds bytes. Returns true if the partition takes no more, which it did before.
    fn add(&mut self, bytes: usize, free: usize) -> bool {
        self.bytes += bytes;
        // A partition with nothing under way would never open again.
        let is_full = self.bytes > 0 && self.bytes.saturating_mul(PART) >= free;
        is_full && !std::mem::replace(&mut self.is_full, true)
    }

    /// Removes bytes. Returns true if the partition takes more again, which it did not before.
    fn remove(&mut self, bytes: usize, free: usize) -> bool {
        self.bytes = self.bytes.saturating_sub(bytes);
        let is_open = self.bytes == 0 || self.bytes.saturating_mul(AGAIN) <= free;
        is_open && !zafka_planted::is("full-stays-full") && std::mem::take(&mut self.is_full)
    }
}

impl Shares {
    /// Makes the shares of a route with `capacity` bytes of memory.
    pub(super) fn new(capacity: usize) -> Self {
        let (unknown, untold) = (Share::default(), Share::default());
        Self { capacity, total: 0, unknown, untold, known: Vec::new() }
    }

    /// Returns true if a partition takes no more for now. One that has nothing under way takes any
    /// message.
    pub(super) fn is_full(&self, PartitionIndex { topic, partition }: PartitionIndex) -> bool {
        let known = |partition: usize| self.known.get(topic)?.get(partition);
        match partition {
            Some(partition) => known(partition).is_some_and(|share| share.is_full),
            None => self.unknown.is_full,
        }
    }

    /// The bytes after which a partition takes no more: so many at the least, added at once or one
    /// after the other.
    pub(super) fn room(&self, index: PartitionIndex) -> usize {
        let PartitionIndex { topic, partition } = index;
        let known = |partition: usize| self.known.get(topic)?.get(partition);
        let share = match partition {
            Some(partition) => known(partition).copied().unwrap_or_default(),
            None => self.unknown,
        };
        // Each byte is one more that it has, and one less that is free.
        let left = self.free().saturating_sub(share.bytes.saturating_mul(PART));
        if share.is_full { 0 } else { left.div_ceil(PART + 1) }
    }

    /// Takes note of bytes that are under way from now on. Returns true if the partition takes no
    /// more, which it did before.
    pub(super) fn add(&mut self, index: PartitionIndex, bytes: usize) -> bool {
        self.total += bytes;
        let free = self.free();
        self.share(index).add(bytes, free)
    }

    /// Takes note of bytes that are not under way any more. Returns true if the partition takes
    /// more again, which it did not before.
    pub(super) fn remove(&mut self, index: PartitionIndex, bytes: usize) -> bool {
        self.total = self.total.saturating_sub(bytes);
        let free = self.free();
        self.share(index).remove(bytes, free)
    }

    /// Takes note of bytes that wait for earlier messages of their sender to be answered.
    pub(super) fn add_untold(&mut self, bytes: usize) {
        self.total += bytes;
        let free = self.free();
        self.untold.add(bytes, free);
    }

    /// Takes note of bytes that no longer wait for that.
    pub(super) fn remove_untold(&mut self, bytes: usize) {
        self.total = self.total.saturating_sub(bytes);
        let free = self.free();
        self.untold.remove(bytes, free);
    }

    /// Returns true if no more bytes may wait for earlier messages to be answered.
    pub(super) fn is_untold_full(&self) -> bool {
        self.untold.is_full
    }

    fn free(&self) -> usize {
        self.capacity.saturating_sub(self.total)
    }

    fn share(&mut self, PartitionIndex { topic, partition }: PartitionIndex) -> &mut Share {
        let Some(partition) = partition else { return &mut self.unknown };
        if self.known.len() <= topic {
            self.known.resize_with(topic + 1, Vec::new);
        }
        let of_topic = &mut self.known[topic];
        if of_topic.len() <= partition {
            of_topic.resize(partition + 1, Share::default());
        }
        &mut of_topic[partition]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(topic: usize, partition: usize) -> PartitionIndex {
        PartitionIndex { topic, partition: Some(partition) }
    }

    const UNKNOWN: PartitionIndex = PartitionIndex { topic: 9, partition: None };

    #[test]
    fn one_partition_has_a_quarter_and_takes_more_below_an_eighth() {
        for index in [partition(3, 1), UNKNOWN] {
            let mut shares = Shares::new(1600);
            assert!(!shares.add(index, 399) && !shares.is_full(index));
            assert!(shares.add(index, 1) && shares.is_full(index));
            assert!(!shares.add(index, 50), "it was full before");
            // A seventh of all is a sixth of the rest.
            assert!(!shares.remove(index, 221) && shares.is_full(index));
            assert!(shares.remove(index, 1) && !shares.is_full(index));
            assert!(!shares.remove(index, 228), "it was open before");
        }
    }

    #[test]
    fn a_partition_is_full_once_its_room_is_taken() {
        for capacity in [0, 1, 2, 3, 1600, 1601, 1602, 1603] {
            for index in [partition(3, 1), UNKNOWN] {
                for before in [0, 1, 7, 100, 399, 2000] {
                    let mut shares = Shares::new(capacity);
                    shares.add(partition(0, 0), before);
                    let room = shares.room(index);
                    let mut others = Shares::new(capacity);
                    others.add(partition(0, 0), before);
                    let one_by_one = (1..).find(|_| others.add(index, 1)).unwrap();
                    // One that has nothing takes something.
                    assert_eq!(room.max(1), one_by_one, "{capacity} {before}");
                    assert!(room < 2 || !shares.add(index, room - 1));
                    assert!(room < 2 || shares.room(index) == 1);
                    assert!(shares.add(index, 1), "{capacity} {before}");
                    assert_eq!(shares.room(index), 0);
                }
            }
        }
    }

    #[test]
    fn several_dead_partitions_leave_something_for_the_others() {
        let mut shares = Shares::new(1_000_000);
        let dead: Vec<_> = (0..10).map(|dead| partition(0, dead)).collect();
        let mut open = dead.clone();
        // One after the other is the worst order.
        for index in &dead {
            while !shares.is_full(*index) {
                shares.add(*index, 100);
            }
        }
        assert!(shares.total < 950_000, "{}", shares.total);
        let alive = partition(1, 0);
        for _ in 0..100 {
            assert!(!shares.add(alive, 100));
        }
        assert!(dead.iter().all(|index| shares.is_full(*index)));
        // Each opens by itself, and the first one has the most.
        while let Some(index) = open.pop() {
            while !shares.remove(index, 100) {}
        }
        assert!(!dead.iter().any(|index| shares.is_full(*index)));
    }

    #[test]
    fn a_larger_message_goes_alone() {
        let mut shares = Shares::new(1000);
        let (one, other) = (partition(0, 0), partition(0, 1));
        assert!(shares.add(one, 5000));
        // Nothing is free, and it has nothing yet.
        assert!(!shares.add(other, 0) && !shares.is_full(other));
        assert!(shares.add(other, 5000));
        assert!(shares.remove(one, 5000), "it has nothing any more");
        assert!(!shares.is_full(one) && shares.is_full(other));
    }

    #[test]
    fn what_is_not_told_has_a_part_too() {
        let mut shares = Shares::new(1600);
        shares.add_untold(399);
        assert!(!shares.is_untold_full());
        shares.add_untold(1);
        assert!(shares.is_untold_full() && !shares.is_full(partition(0, 0)));
        // A quarter of the rest.
        assert!(!shares.add(partition(0, 0), 299) && shares.add(partition(0, 0), 1));
        shares.remove_untold(400);
        assert!(!shares.is_untold_full() && shares.total > 0);
    }

    #[test]
    fn topics_that_are_not_known_share_one_part() {
        let mut shares = Shares::new(1600);
        for topic in 0..500 {
            let topic = PartitionIndex { topic, partition: None };
            if !shares.is_full(topic) {
                shares.add(topic, 1);
            }
        }
        assert_eq!(shares.total, 400);
        assert!(shares.is_full(UNKNOWN) && !shares.is_full(partition(0, 0)));
    }
}
