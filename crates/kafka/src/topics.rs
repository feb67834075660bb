//! The topics that a source reads: names and patterns, matched against the cluster's list.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataTopic;
use regex::Regex;

use crate::client::Client;
use crate::config::TopicSelector;
use crate::error::TopicFault;
use crate::topic_partition::TopicPartition;

/// Topics with their number of partitions.
pub(crate) type TopicMap = BTreeMap<Arc<str>, i32>;

/// Lists the partitions of these topics, in their order.
pub(crate) fn partitions_of(topics: &TopicMap) -> impl Iterator<Item = TopicPartition> {
    let topics = topics.iter();
    topics.flat_map(|(topic, count)| {
        (0..*count).map(|number| TopicPartition::new(Arc::clone(topic), number))
    })
}

/// The topics and partitions of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) topics: TopicMap,
    /// Topics that are named and cannot be read, with the reason.
    pub(crate) missing: Vec<(String, TopicFault)>,
}

impl Listing {
    /// Returns true if a topic is gone.
    pub(crate) fn lacks(&self, topic: &str) -> bool {
        !self.topics.contains_key(topic) && !self.hides(topic)
    }

    pub(crate) fn partitions(&self) -> usize {
        self.topics.values().map(|count| usize::try_from(*count).unwrap_or(0)).sum()
    }

    /// Returns true if a partition is there.
    pub(crate) fn has(&self, topic_partition: &TopicPartition) -> bool {
        let count = self.topics.get(&topic_partition.topic);
        count.is_some_and(|count| topic_partition.partition < *count)
    }

    /// Returns true if a topic is there, or may be, and cannot be read now.
    pub(crate) fn hides(&self, topic: &str) -> bool {
        self.missing
            .iter()
            .any(|(missing, fault)| missing == topic && *fault != TopicFault::Unknown)
    }

    /// The topics that are there, and those that may be.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let hidden =
            self.missing.iter().map(|(topic, _)| &**topic).filter(|topic| self.hides(topic));
        self.topics.keys().map(|topic| &**topic).chain(hidden)
    }
}

/// The partitions that were there when the route began, have been since, and were not assigned yet.
/// Any other without a committed offset came later, or again, and begins at its earliest offset.
#[derive(Clone, Debug)]
pub(crate) struct InitialPartitions(HashSet<TopicPartition>);

impl InitialPartitions {
    pub(crate) fn new(topics: &TopicMap) -> Self {
        Self(partitions_of(topics).collect())
    }

    /// Forgets what a later listing lacks. Topics that are there and cannot be read now are not
    /// gone.
    pub(crate) fn listed(&mut self, listing: &Listing) {
        self.0.retain(|TopicPartition { topic, partition }| match listing.topics.get(topic) {
            Some(count) => partition < count,
            None => listing.hides(topic),
        });
    }

    pub(crate) fn contains(&self, topic_partition: &TopicPartition) -> bool {
        self.0.contains(topic_partition)
    }

    /// Takes note that it has a committed offset from now on, or is another one.
    pub(crate) fn assigned(&mut self, topic_partition: &TopicPartition) {
        self.0.remove(topic_partition);
    }
}

/// The topics that are meant.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    names: Vec<String>,
    patterns: Vec<Regex>,
}

impl Selection {
    pub(crate) fn new(selectors: &[TopicSelector]) -> Self {
        let mut selection = Self { names: Vec::new(), patterns: Vec::new() };
        for selector in selectors {
            match selector {
                TopicSelector::Name(name) => selection.names.push(name.clone()),
                TopicSelector::Pattern(pattern) => selection.patterns.push(pattern.clone()),
            }
        }
        selection
    }

    /// Returns true if a topic is named, and not only matched by a pattern.
    pub(crate) fn names(&self, topic: &str) -> bool {
        self.names.iter().any(|name| name == topic)
    }

    /// Returns true if one pattern selects both topics.
    pub(crate) fn selects_alike(&self, topic: &str, other: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.is_match(topic) && pattern.is_match(other))
    }

    /// Returns true if a topic is selected. Patterns are searched for in the name, and never match
    /// internal topics.
    pub(crate) fn selects(&self, topic: &str) -> bool {
        let by_pattern = || {
            !topic.starts_with("__") && self.patterns.iter().any(|pattern| pattern.is_match(topic))
        };
        self.names(topic) || by_pattern()
    }
}

/// Asks the cluster for all topics, and then for each that is named but not among them. So it does
/// for those of `known` that are there by a pattern: of a topic that this relay may not see, only
/// an answer by name says so.
pub(crate) fn list(
    client: &Client,
    selection: &Selection,
    known: &BTreeSet<String>,
    wait: Duration,
) -> Result<Listing, KafkaError> {
    let all = client.fetch_metadata(None, wait)?;
    let mut listing = Listing::default();
    for topic in all.topics().iter().filter(|topic| selection.selects(topic.name())) {
        listing.add(topic);
    }
    for name in selection.names.iter().chain(known) {
        if listing.topics.contains_key(&**name)
            || listing.missing.iter().any(|(missing, _)| missing == name)
        {
            continue;
        }
        let one = client.fetch_metadata(Some(name), wait)?;
        match one.topics().iter().find(|topic| topic.name() == name) {
            Some(topic) => listing.add(topic),
            None => listing.missing.push((name.clone(), TopicFault::Unknown)),
        }
    }
    // A pattern asks for no topic that is not there.
    listing
        .missing
        .retain(|(topic, fault)| selection.names(topic) || *fault != TopicFault::Unknown);
    Ok(listing)
}

impl Listing {
    fn add(&mut self, topic: &MetadataTopic) {
        let count = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
        match topic.error() {
            None if count > 0 => {
                self.topics.insert(topic.name().into(), count);
            }
            None => self.missing.push((topic.name().to_owned(), TopicFault::NoPartitions)),
            Some(code) => {
                let fault = match RDKafkaErrorCode::from(code) {
                    RDKafkaErrorCode::UnknownTopicOrPartition => TopicFault::Unknown,
                    RDKafkaErrorCode::TopicAuthorizationFailed => TopicFault::NotAuthorized,
                    other => TopicFault::Other(other.to_string()),
                };
                self.missing.push((topic.name().to_owned(), fault));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_first_is_so_until_it_goes_or_is_taken_up() {
        let topics = |topics: &[(&str, i32)]| -> TopicMap {
            topics.iter().map(|(topic, count)| (Arc::from(*topic), *count)).collect()
        };
        let part = |topic: &str, partition| TopicPartition::new(topic, partition);
        let mut first = InitialPartitions::new(&topics(&[("a", 3), ("b", 1), ("c", 1), ("d", 1)]));
        assert!(first.contains(&part("a", 2)) && !first.contains(&part("a", 3)));
        first.assigned(&part("b", 0));
        let faults = [("c", TopicFault::NotAuthorized), ("d", TopicFault::Unknown)];
        let missing = faults.map(|(topic, fault)| (topic.to_owned(), fault)).to_vec();
        first.listed(&Listing { topics: topics(&[("a", 2), ("b", 1), ("e", 1)]), missing });
        // They come back.
        let missing = Vec::new();
        first.listed(&Listing {
            topics: topics(&[("a", 4), ("b", 1), ("c", 1), ("d", 1), ("e", 1)]),
            missing,
        });
        for (topic, partition, expected) in [
            ("a", 1, true),
            ("a", 2, false),
            ("b", 0, false),
            ("c", 0, true),
            ("d", 0, false),
            ("e", 0, false),
        ] {
            assert_eq!(first.contains(&part(topic, partition)), expected, "{topic}/{partition}");
        }
    }

    #[test]
    fn names_and_patterns() {
        let pattern = |text| TopicSelector::Pattern(Regex::new(text).unwrap());
        let cases = [
            (TopicSelector::Name("a".to_owned()), "a", true),
            (TopicSelector::Name("a".to_owned()), "ab", false),
            (TopicSelector::Name("__offsets".to_owned()), "__offsets", true),
            (pattern("b"), "abc", true),
            (pattern("^b$"), "abc", false),
            (pattern("^pay\\."), "pay.eu", true),
            (pattern("^pay\\."), "xpay.eu", false),
            (pattern(".*"), "__consumer_offsets", false),
            (pattern("(?i)ORDERS"), "orders", true),
        ];
        for (selector, topic, expected) in cases {
            let selection = Selection::new(std::slice::from_ref(&selector));
            assert_eq!(selection.selects(topic), expected, "{selector:?} on {topic}");
        }
    }
}
