//! Numbers for the topics of several producers, each of which numbers its own. Pure.

use std::collections::HashMap;

use zafka_kafka::produce::PartitionIndex;

use super::identities::SlotId;

/// One number for each topic of each producer. A number is used again once its producer is gone.
#[derive(Debug, Default)]
pub(super) struct TopicNumbers {
    numbers: HashMap<(SlotId, usize), usize>,
    topics: Vec<Option<(SlotId, usize)>>,
}

impl TopicNumbers {
    /// A partition of a producer, as it is numbered among those of all.
    pub(super) fn outer(&mut self, slot: SlotId, index: PartitionIndex) -> PartitionIndex {
        // Topics that are not known are as one.
        let Some(_) = index.partition else { return PartitionIndex { topic: 0, ..index } };
        let (numbers, topics) = (&mut self.numbers, &mut self.topics);
        let number = numbers.entry((slot, index.topic)).or_insert_with_key(|topic| {
            let number = topics.iter().position(Option::is_none).unwrap_or(topics.len());
            match topics.get_mut(number) {
                Some(free) => *free = Some(*topic),
                None => topics.push(Some(*topic)),
            }
            number
        });
        PartitionIndex { topic: *number, ..index }
    }

    /// The producer of a partition, and its own number for it.
    pub(super) fn inner(&self, outer: PartitionIndex) -> Option<(SlotId, PartitionIndex)> {
        // Partitions that are not known have no number among all.
        outer.partition?;
        let (slot, topic) = (*self.topics.get(outer.topic)?)?;
        Some((slot, PartitionIndex { topic, ..outer }))
    }

    /// A producer is gone.
    pub(super) fn forget(&mut self, slot: SlotId) {
        self.numbers.retain(|(of, _), _| *of != slot);
        for topic in &mut self.topics {
            topic.take_if(|(of, _)| *of == slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(topic: usize) -> PartitionIndex {
        PartitionIndex { topic, partition: Some(7) }
    }

    #[test]
    fn each_topic_of_each_producer_has_a_number() {
        let mut numbers = TopicNumbers::default();
        let given: Vec<_> = [(0, 5), (1, 5), (0, 6), (0, 5)]
            .map(|(slot, topic)| numbers.outer(slot, index(topic)).topic)
            .into();
        assert_eq!(given, [0, 1, 2, 0]);
        assert_eq!(numbers.inner(index(1)), Some((1, index(5))));
        numbers.forget(0);
        assert_eq!((numbers.inner(index(0)), numbers.inner(index(2))), (None, None));
        assert_eq!(numbers.outer(2, index(9)), index(0), "the first that is free");
        assert_eq!(numbers.inner(index(1)), Some((1, index(5))), "the others stay");
        assert_eq!(numbers.inner(index(9)), None);
    }

    #[test]
    fn topics_that_are_not_known_are_as_one() {
        let mut numbers = TopicNumbers::default();
        let unknown = |topic| PartitionIndex { topic, partition: None };
        assert_eq!(numbers.outer(3, unknown(9_999)), unknown(0));
        assert_eq!(numbers.outer(4, unknown(17)), unknown(0));
        assert_eq!(numbers.outer(4, index(17)), index(0), "it has taken no number");
        assert_eq!(numbers.inner(unknown(0)), None);
    }
}
