//! Start offsets of a group's partitions that have no committed offset. Decides, and sends nothing.
//!
//! A topic begins at `start` once in the life of its group: a member that finds no offset in any of
//! its partitions commits the start of all of them. From then on a partition without one came
//! later, and has its records from the first.

use std::collections::{BTreeSet, HashMap};

use super::LookupError;
use crate::topic_partition::TopicPartition;
use crate::topics::{InitialPartitions, Selection, TopicMap, partitions_of};

/// A source's knowledge of its topics at the time of an assignment.
#[derive(Clone, Debug)]
pub(crate) struct TopicSnapshot {
    pub(crate) topics: TopicMap,
    pub(crate) first: InitialPartitions,
}

/// A plan for the start offsets of partitions without a committed offset.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct StartPlan {
    /// Those that begin at `start`, with the whole of their topics.
    pub(super) at_start: Vec<TopicPartition>,
    /// Partitions that begin there too and are not this member's, as far as is known.
    pub(super) others: Vec<TopicPartition>,
    /// Those that begin at their earliest offset.
    pub(super) late: Vec<TopicPartition>,
    /// Those of which it is not known, and why: whether their topic has begun could not be asked.
    pub(super) open: Vec<(TopicPartition, LookupError)>,
}

/// The committed offset of each partition that was asked for, or why it is not known.
pub(super) type Committed<T> = HashMap<TopicPartition, Result<Option<T>, LookupError>>;

impl TopicSnapshot {
    /// Returns the partitions of the topics, with those of `others` that the listing does not have
    /// yet.
    pub(super) fn partitions(&self, others: &[TopicPartition]) -> BTreeSet<TopicPartition> {
        partitions_of(&self.topics).chain(others.iter().cloned()).collect()
    }

    /// Plans for `new` partitions of this member, which have no committed offset.
    pub(super) fn plan<T>(
        &self,
        selection: &Selection,
        new: &[TopicPartition],
        committed: &Committed<T>,
    ) -> StartPlan {
        let mut plan = StartPlan::default();
        let mut begun: BTreeSet<&str> = BTreeSet::new();
        let mut unknown: HashMap<&str, &LookupError> = HashMap::new();
        for (TopicPartition { topic, .. }, answer) in committed {
            match answer {
                Ok(Some(_)) => drop(begun.insert(topic)),
                Ok(None) => {}
                Err(reason) => drop(unknown.insert(topic, reason)),
            }
        }
        // The member that began a pattern's topics began all that were there.
        let is_late = |topic: &str| {
            let begun_with = || begun.iter().any(|other| selection.selects_alike(topic, other));
            begun.contains(topic) || (!selection.names(topic) && begun_with())
        };
        for partition in new {
            match unknown.get(&*partition.topic) {
                _ if !self.first.contains(partition) || is_late(&partition.topic) => {
                    plan.late.push(partition.clone())
                }
                Some(reason) => plan.open.push((partition.clone(), (*reason).clone())),
                None => plan.at_start.push(partition.clone()),
            }
        }
        if !plan.at_start.is_empty() {
            let own: BTreeSet<&TopicPartition> = new.iter().collect();
            plan.others = self
                .partitions(&[])
                .into_iter()
                .filter(|partition| {
                    let open = is_late(&partition.topic) || unknown.contains_key(&*partition.topic);
                    self.first.contains(partition) && !open && !own.contains(partition)
                })
                .collect();
        }
        plan
    }
}

/// Returns the start of a partition that was found to begin at `found` while its group `stands`
/// elsewhere, for another member may have begun the topic at the same time: the smaller, so that
/// neither skips what the other would have sent.
pub(super) fn smaller(found: i64, stands: Option<i64>) -> i64 {
    stands.map_or(found, |stands| stands.min(found))
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;
    use crate::config::TopicSelector;

    fn partition(text: &str) -> TopicPartition {
        let (topic, number) = text.split_once('/').unwrap();
        TopicPartition::new(topic, number.parse().unwrap())
    }

    fn partitions(text: &str) -> Vec<TopicPartition> {
        text.split_whitespace().map(partition).collect()
    }

    fn topics(text: &str) -> TopicMap {
        partitions(text).into_iter().map(|of| (of.topic, of.partition)).collect()
    }

    fn selection(text: &str) -> Selection {
        let selector = |text: &str| match text.strip_prefix('/') {
            Some(pattern) => TopicSelector::Pattern(Regex::new(pattern).unwrap()),
            None => TopicSelector::Name(text.to_owned()),
        };
        Selection::new(&text.split_whitespace().map(selector).collect::<Vec<_>>())
    }

    /// Selectors; topics with their count now, and at first; partitions with an offset, and of
    /// which it is not known; those given. What begins at `start`, whether this member's or
    /// not; what is late; what is open.
    type Row = ([&'static str; 3], [&'static str; 2], &'static str, [&'static str; 4]);

    #[test]
    fn a_topic_begins_once() {
        let rows: &[Row] = &[
            // A new group.
            (["a", "a/2", "a/2"], ["", ""], "a/0", ["a/0", "a/1", "", ""]),
            (["a b", "a/1 b/2", "a/1 b/2"], ["", ""], "a/0", ["a/0", "b/0 b/1", "", ""]),
            // A partition was added, and another relay begins.
            (["a", "a/3", "a/3"], ["a/0 a/1", ""], "a/2", ["", "", "a/2", ""]),
            // As far as this one knows.
            (["a", "a/2", "a/2"], ["", ""], "a/1 a/2", ["a/1", "a/0", "a/2", ""]),
            // A topic that came while this relay ran, and is not the group's first.
            (["a b", "a/1 b/1", "a/1"], ["a/0", ""], "b/0", ["", "", "b/0", ""]),
            // One that was named since has its start.
            (["a b", "a/1 b/2", "a/1 b/2"], ["a/0", ""], "b/0", ["b/0", "b/1", "", ""]),
            // One that a pattern selects begins with the others of the pattern.
            (["/^a", "a/1 ab/2", "a/1 ab/2"], ["a/0", ""], "ab/0", ["", "", "ab/0", ""]),
            (["/^a", "a/1 ab/2", "a/1 ab/2"], ["", ""], "ab/0", ["ab/0", "a/0 ab/1", "", ""]),
            (["/^a /^b", "a/1 b/1", "a/1 b/1"], ["a/0", ""], "b/0", ["b/0", "", "", ""]),
            (["/^a ab", "a/1 ab/1", "a/1 ab/1"], ["a/0", ""], "ab/0", ["ab/0", "", "", ""]),
            // It is not known whether it has begun.
            (["a b", "a/2 b/1", "a/2 b/1"], ["", "a/1"], "a/0 b/0", ["b/0", "", "", "a/0"]),
            (["a b", "a/2 b/1", "a/2 b/1"], ["a/0", "a/1"], "b/0", ["b/0", "", "", ""]),
        ];
        for (at, ([selectors, now, first], [with, unknown], given, expected)) in
            rows.iter().enumerate()
        {
            let known = TopicSnapshot {
                topics: topics(now),
                first: InitialPartitions::new(&topics(first)),
            };
            let given = partitions(given);
            let mut committed: Committed<()> = known
                .partitions(&given)
                .into_iter()
                .map(|partition| (partition, Ok(None)))
                .collect();
            committed
                .extend(partitions(with).into_iter().map(|partition| (partition, Ok(Some(())))));
            committed.extend(
                partitions(unknown)
                    .into_iter()
                    .map(|partition| (partition, Err(LookupError::NoAnswer))),
            );
            let plan = known.plan(&selection(selectors), &given, &committed);
            let [at_start, others, late, open] = expected.map(partitions);
            let open =
                open.into_iter().map(|partition| (partition, LookupError::NoAnswer)).collect();
            assert_eq!(plan, StartPlan { at_start, others, late, open }, "row {at}");
        }
    }

    #[test]
    fn two_that_begin_at_once_begin_at_the_smaller() {
        for (found, stands, expected) in
            [(7, None, 7), (7, Some(7), 7), (7, Some(9), 7), (7, Some(5), 5)]
        {
            assert_eq!(smaller(found, stands), expected);
        }
    }
}
