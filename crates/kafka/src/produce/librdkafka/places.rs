//! The partitions of records that librdkafka writes, chosen here, so that a caller can count what
//! is under way for each. Pure.
//!
//! librdkafka chooses a partition within itself and tells it with the outcome. Its statistics name
//! the partitions of each topic, once a second: with these keys are placed here as librdkafka would
//! place them, and it is told the partition. Until then a record counts among those of unknown
//! topics, and librdkafka places it.
#![warn(clippy::disallowed_methods)]

use std::collections::HashMap;
use std::sync::Arc;

use crate::produce::partitioner::{Answers, Sticky, of_key};
use crate::produce::{PartitionIndex, Ticket};

/// Records without a key that go to one partition before another one is chosen.
const STUCK: u64 = 100;
/// The place of all topics that are not known.
const UNKNOWN: PartitionIndex = PartitionIndex { topic: 0, partition: None };

/// The number of a record under way, by which librdkafka reports its outcome.
pub(super) type RecordNumber = usize;

/// The partitions of a topic: whether each has a leader.
pub(super) type Leaders = Vec<bool>;

/// The topics that are known, and the records under way.
#[derive(Debug, Default)]
pub(super) struct Places {
    names: HashMap<Arc<str>, usize>,
    topics: Vec<KnownTopic>,
    records: HashMap<RecordNumber, UnderWay>,
    next_number: RecordNumber,
    without_key: u64,
}

#[derive(Debug, Default)]
struct KnownTopic {
    leaders: Leaders,
    is_full: Vec<bool>,
    sticky: Sticky,
}

#[derive(Debug)]
struct UnderWay {
    ticket: Ticket,
    place: Option<PartitionIndex>,
    /// The facts that place it once its topic is known.
    early: Option<Early>,
}

#[derive(Debug)]
struct Early {
    topic: Arc<str>,
    wanted: Option<i32>,
    key: Option<Box<[u8]>>,
}

impl Places {
    /// Finds the partition of a record.
    pub(super) fn locate(
        &mut self,
        topic: &str,
        wanted: Option<i32>,
        key: Option<&[u8]>,
    ) -> PartitionIndex {
        let Some(&index) = self.names.get(topic) else { return UNKNOWN };
        let Some(known) = self.topics.get_mut(index) else { return UNKNOWN };
        let batch = self.without_key / STUCK;
        self.without_key += u64::from(wanted.is_none() && key.is_none());
        match known.place(wanted, key, batch) {
            Some(partition) => PartitionIndex { topic: index, partition: Some(partition) },
            None => UNKNOWN,
        }
    }

    /// Enters a record for the place that was found, if one was. Returns its number, and the
    /// partition to be told to librdkafka; `None` if that is to choose.
    pub(super) fn enter(
        &mut self,
        ticket: Ticket,
        place: Option<PartitionIndex>,
        (topic, wanted, key): (&str, Option<i32>, Option<&[u8]>),
    ) -> (RecordNumber, Option<i32>) {
        let number = self.next_number;
        self.next_number = self.next_number.wrapping_add(1);
        let partition = place.and_then(|place| place.partition);
        let is_early = place.is_some() && partition.is_none();
        let early =
            is_early.then(|| Early { topic: Arc::from(topic), wanted, key: key.map(Box::from) });
        self.records.insert(number, UnderWay { ticket, place, early });
        let partition = partition.and_then(|partition| i32::try_from(partition).ok());
        (number, partition.or(wanted))
    }

    /// Takes a record out whose outcome is known, or that could not be sent. Returns its ticket,
    /// and the place that it was counted at.
    pub(super) fn leave(
        &mut self,
        number: RecordNumber,
    ) -> Option<(Ticket, Option<PartitionIndex>)> {
        let record = self.records.remove(&number)?;
        Some((record.ticket, record.place))
    }

    /// Takes note of whether a partition has as much under way as it may.
    pub(super) fn set_full(&mut self, index: PartitionIndex, is_full: bool) {
        let partition = index.partition.unwrap_or(usize::MAX);
        let known = self.topics.get_mut(index.topic);
        if let Some(full) = known.and_then(|known| known.is_full.get_mut(partition)) {
            *full = is_full;
        }
    }

    /// Takes the partitions of topics. Returns the records that have a place now, if a topic was
    /// not known before.
    pub(super) fn handle_topics(
        &mut self,
        topics: Vec<(String, Leaders)>,
    ) -> Option<Vec<(Ticket, PartitionIndex)>> {
        let mut has_new = false;
        for (name, leaders) in topics.into_iter().filter(|(_, leaders)| !leaders.is_empty()) {
            let index = match self.names.get(&*name) {
                Some(index) => *index,
                None => {
                    has_new = true;
                    self.names.insert(name.into(), self.topics.len());
                    self.topics.push(KnownTopic::default());
                    self.topics.len() - 1
                }
            };
            if let Some(known) = self.topics.get_mut(index) {
                known.is_full.resize(leaders.len().max(known.is_full.len()), false);
                known.leaders = leaders;
            }
        }
        has_new.then(|| self.place_early())
    }

    /// Places the records of topics that are known now; those without a key stay where they are,
    /// for nobody tells which partition librdkafka has chosen.
    fn place_early(&mut self) -> Vec<(Ticket, PartitionIndex)> {
        let mut placed = Vec::new();
        let Self { names, topics, records, .. } = self;
        for record in records.values_mut() {
            let Some(Early { topic, wanted, key }) = &record.early else { continue };
            let Some(&index) = names.get(topic) else { continue };
            let is_told = wanted.is_some() || key.is_some();
            let known = topics.get_mut(index).filter(|_| is_told);
            let partition = known.and_then(|known| known.place(*wanted, key.as_deref(), 0));
            if partition.is_some() {
                let place = PartitionIndex { topic: index, partition };
                record.place = Some(place);
                placed.push((record.ticket, place));
            }
            record.early = None;
        }
        placed
    }
}

impl KnownTopic {
    fn place(&mut self, wanted: Option<i32>, key: Option<&[u8]>, batch: u64) -> Option<usize> {
        let count = u32::try_from(self.leaders.len()).unwrap_or(u32::MAX);
        let index = match (wanted, key) {
            (Some(wanted), _) => u32::try_from(wanted).ok().filter(|at| *at < count)?,
            (None, Some(key)) => of_key(key, count),
            (None, None) => {
                let (leaders, is_full) = (&self.leaders, &self.is_full);
                let answers = |at: u32| {
                    let of = |all: &[bool]| {
                        usize::try_from(at).ok().and_then(|at| all.get(at)) == Some(&true)
                    };
                    let answers = match (of(is_full), of(leaders)) {
                        (true, true) => Answers::Full,
                        (true, false) => Answers::Never,
                        (false, true) => Answers::Yes,
                        (false, false) => Answers::NoLeader,
                    };
                    (batch, answers)
                };
                self.sticky.next(count, answers, || batch)?
            }
        };
        usize::try_from(index).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(topic: usize, partition: usize) -> PartitionIndex {
        PartitionIndex { topic, partition: Some(partition) }
    }

    fn known(topics: &[(&str, &[bool])]) -> Vec<(String, Leaders)> {
        topics.iter().map(|(name, leaders)| ((*name).to_owned(), leaders.to_vec())).collect()
    }

    #[test]
    fn records_are_placed_once_their_topic_is_known() {
        let mut places = Places::default();
        assert_eq!(places.locate("orders", Some(1), None), UNKNOWN);
        let of = [(Some(1), None), (None, Some(&b"kafka"[..])), (None, None), (Some(9), None)];
        for (ticket, (wanted, key)) in (10..).zip(of) {
            let (number, told) = places.enter(ticket, Some(UNKNOWN), ("orders", wanted, key));
            assert_eq!((number, told), (ticket - 10, wanted), "librdkafka places it");
        }
        places.enter(20, Some(UNKNOWN), ("other", Some(0), None));
        assert_eq!(places.handle_topics(known(&[("orders", &[])])), None, "it is not known");
        let placed = places.handle_topics(known(&[("orders", &[true; 10])]));
        let kafka = usize::try_from(of_key(b"kafka", 10)).unwrap();
        let mut placed = placed.unwrap();
        placed.sort_unstable();
        assert_eq!(placed, [(10, at(0, 1)), (11, at(0, kafka)), (13, at(0, 9))]);
        assert_eq!(places.handle_topics(known(&[("orders", &[true; 10])])), None);
        // Each is counted out where it was counted.
        let left: Vec<_> = (0..5).map(|number| places.leave(number)).collect();
        assert_eq!(left[0], Some((10, Some(at(0, 1)))));
        assert_eq!(left[2], Some((12, Some(UNKNOWN))));
        assert_eq!(left[4], Some((20, Some(UNKNOWN))));
        assert_eq!(places.leave(0), None);
    }

    #[test]
    fn librdkafka_is_told_the_partition_that_was_counted() {
        let mut places = Places::default();
        places.handle_topics(known(&[("orders", &[true, true, false])]));
        for (wanted, key) in [(Some(2), None), (None, Some(&b"kafka"[..])), (None, None)] {
            let place = places.locate("orders", wanted, key);
            let told = places.enter(1, Some(place), ("orders", wanted, key)).1;
            assert_eq!(place.partition, told.map(|told| usize::try_from(told).unwrap()));
        }
        // A partition that the topic does not have is librdkafka's to refuse.
        let place = places.locate("orders", Some(7), None);
        assert_eq!(
            (place, places.enter(1, Some(place), ("orders", Some(7), None)).1),
            (UNKNOWN, Some(7))
        );
        // Nothing is counted of what has no place.
        let (number, told) = places.enter(5, None, ("orders", None, Some(b"kafka")));
        assert_eq!((told, places.leave(number)), (None, Some((5, None))));
    }

    #[test]
    fn records_without_a_key_avoid_partitions_that_take_no_more() {
        let mut places = Places::default();
        places.handle_topics(known(&[("orders", &[true, true, false])]));
        let mut next = || places.locate("orders", None, None).partition;
        let first = next();
        assert!((1..STUCK).all(|_| next() == first));
        let other = next();
        assert!(first != other && [first, other].iter().all(|at| at.is_some_and(|at| at < 2)));
        let full = PartitionIndex { topic: 0, partition: other };
        places.set_full(full, true);
        assert_eq!(places.locate("orders", None, None).partition, first);
        places.set_full(full, false);
        places.set_full(UNKNOWN, true);
    }
}
