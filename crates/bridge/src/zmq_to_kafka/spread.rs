//! The memory of a message with several records, by partition. Pure.
//!
//! A message keeps all of its memory until its last record is written. What is written of it counts
//! in a partition that it still waits for, so that one which cannot be written has its part, and no
//! more, of what is stuck for it.

use zafka_kafka::produce::PartitionIndex;

/// The records of a message that are under way, and its memory.
#[derive(Debug)]
pub(super) struct Spread {
    parts: Vec<SpreadPart>,
}

#[derive(Debug)]
struct SpreadPart {
    index: PartitionIndex,
    /// Their number, at least one.
    records: usize,
    weight: usize,
}

/// Memory that counts in a partition no more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Freed {
    pub(super) weight: usize,
    /// The partition that it counts in from now on; `None` if all of the message is settled.
    pub(super) to: Option<PartitionIndex>,
}

impl Spread {
    /// Spreads a message of this weight, whose records go to these partitions.
    pub(super) fn new(places: &[PartitionIndex], weight: usize) -> Self {
        let mut spread = Self { parts: Vec::new() };
        let each = weight.checked_div(places.len()).unwrap_or(0);
        for place in places {
            spread.add(*place, each);
        }
        if let Some(first) = spread.parts.first_mut() {
            first.weight += weight - each * places.len();
        }
        spread
    }

    /// Each of its partitions, with what counts there.
    pub(super) fn parts(&self) -> impl Iterator<Item = (PartitionIndex, usize)> + '_ {
        self.parts.iter().map(|part| (part.index, part.weight))
    }

    /// Takes the partition of a record whose topic was not known before. Returns the memory that
    /// counts there from now on.
    pub(super) fn place(&mut self, index: PartitionIndex) -> usize {
        let unknown = PartitionIndex { partition: None, ..index };
        let Some(at) = self.find(unknown) else { return 0 };
        let Some(part) = self.parts.get_mut(at) else { return 0 };
        let weight = part.weight.checked_div(part.records).unwrap_or(0);
        part.weight -= weight;
        part.records -= 1;
        if part.records == 0 {
            let rest = self.parts.swap_remove(at).weight;
            self.add(index, weight + rest);
            return weight + rest;
        }
        self.add(index, weight);
        weight
    }

    /// Takes note that so many records are settled in a partition. Returns the memory that does not
    /// count there any more, if those were the last.
    pub(super) fn settle(&mut self, index: PartitionIndex, records: usize) -> Option<Freed> {
        let at = self.find(index)?;
        let part = self.parts.get_mut(at)?;
        part.records = part.records.saturating_sub(records);
        if part.records > 0 {
            return None;
        }
        let weight = self.parts.swap_remove(at).weight;
        let to = self.parts.first_mut().map(|part| {
            part.weight += weight;
            part.index
        });
        Some(Freed { weight, to })
    }

    /// The topic is always the same; of those that are not known nobody tells which it is.
    fn find(&self, index: PartitionIndex) -> Option<usize> {
        self.parts.iter().position(|part| part.index.partition == index.partition)
    }

    fn add(&mut self, index: PartitionIndex, weight: usize) {
        let at = self.find(index);
        match at.and_then(|at| self.parts.get_mut(at)) {
            Some(part) => {
                part.records += 1;
                part.weight += weight;
            }
            None => self.parts.push(SpreadPart { index, records: 1, weight }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(partition: usize) -> PartitionIndex {
        PartitionIndex { topic: 1, partition: Some(partition) }
    }

    const UNKNOWN: PartitionIndex = PartitionIndex { topic: 1, partition: None };

    fn parts(spread: &Spread) -> Vec<(Option<usize>, usize)> {
        let mut parts: Vec<_> =
            spread.parts().map(|(index, weight)| (index.partition, weight)).collect();
        parts.sort_unstable();
        parts
    }

    #[test]
    fn what_is_stuck_counts_where_it_is_waited_for() {
        let mut spread = Spread::new(&[at(0), at(1), at(0), at(2)], 403);
        assert_eq!(parts(&spread), [(Some(0), 203), (Some(1), 100), (Some(2), 100)]);
        assert_eq!(spread.settle(at(0), 1), None, "another one is there");
        let freed = spread.settle(at(1), 1).unwrap();
        assert_eq!(freed.weight, 100);
        assert!(freed.to.is_some_and(|to| to != at(1)));
        // Whatever had it, in the end the last has all.
        let freed = spread.settle(at(2), 1).unwrap();
        assert_eq!(freed.to, Some(at(0)));
        assert_eq!(parts(&spread), [(Some(0), 403)]);
        assert_eq!(spread.settle(at(0), 1), Some(Freed { weight: 403, to: None }));
        assert_eq!(spread.settle(at(0), 1), None);
    }

    #[test]
    fn records_get_their_partitions_later() {
        let mut spread = Spread::new(&[UNKNOWN; 3], 100);
        assert_eq!(parts(&spread), [(None, 100)]);
        assert_eq!(spread.place(at(1)), 33);
        assert_eq!(parts(&spread), [(None, 67), (Some(1), 33)]);
        assert_eq!(spread.place(at(0)), 33);
        assert_eq!(spread.place(at(1)), 34, "nothing is left over");
        assert_eq!(parts(&spread), [(Some(0), 33), (Some(1), 67)]);
        assert_eq!(spread.place(at(1)), 0);
        // Those that never get one.
        let mut spread = Spread::new(&[UNKNOWN; 2], 10);
        let unknown = PartitionIndex { topic: 0, partition: None };
        assert_eq!(spread.settle(unknown, 1), None);
        assert_eq!(spread.settle(unknown, 1), Some(Freed { weight: 10, to: None }));
    }
}
