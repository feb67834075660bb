//! Which topics a source reads: names and patterns, matched against what the cluster lists.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataTopic;
use regex::Regex;

use crate::client::Client;
use crate::config::TopicSelector;
use crate::error::TopicFault;

/// Topics with their number of partitions.
pub(crate) type TopicMap = BTreeMap<String, i32>;

/// What a listing found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) topics: TopicMap,
    /// Topics that are named and cannot be read, with the reason.
    pub(crate) missing: Vec<(String, TopicFault)>,
}

impl Listing {
    pub(crate) fn partitions(&self) -> usize {
        self.topics.values().map(|count| usize::try_from(*count).unwrap_or(0)).sum()
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

    /// Whether a topic is meant. Patterns are searched for in the name, and never match internal topics.
    pub(crate) fn selects(&self, topic: &str) -> bool {
        let by_pattern =
            || !topic.starts_with("__") && self.patterns.iter().any(|pattern| pattern.is_match(topic));
        self.names.iter().any(|name| name == topic) || by_pattern()
    }
}

/// Asks the cluster for all topics, and then for each that is named but not among them.
pub(crate) fn list(client: &Client, selection: &Selection, wait: Duration) -> Result<Listing, KafkaError> {
    let all = client.fetch_metadata(None, wait)?;
    let mut listing = Listing::default();
    for topic in all.topics().iter().filter(|topic| selection.selects(topic.name())) {
        listing.add(topic);
    }
    for name in &selection.names {
        if listing.topics.contains_key(name) || listing.missing.iter().any(|(missing, _)| missing == name) {
            continue;
        }
        let one = client.fetch_metadata(Some(name), wait)?;
        match one.topics().iter().find(|topic| topic.name() == name) {
            Some(topic) => listing.add(topic),
            None => listing.missing.push((name.clone(), TopicFault::Unknown)),
        }
    }
    Ok(listing)
}

impl Listing {
    fn add(&mut self, topic: &MetadataTopic) {
        let count = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
        match topic.error() {
            None if count > 0 => {
                self.topics.insert(topic.name().to_owned(), count);
            }
            None => self.missing.push((topic.name().to_owned(), TopicFault::NoPartitions)),
            Some(code) => {
                let fault = match RDKafkaErrorCode::from(code) {
                    RDKafkaErrorCode::UnknownTopicOrPartition => TopicFault::Unknown,
                    RDKafkaErrorCode::TopicAuthorizationFailed => TopicFault::NotAuthorised,
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
