//! Loops: what a relay writes to Kafka comes back to it by its own sockets, and is written again.
//! Pure.
//!
//! Topics are followed one by one, as a record of each would go: those that the routes name, and an
//! example for each pattern. So a loop that is found is one; among the topics of two patterns one
//! may be missed.

use std::collections::BTreeSet;

use regex::Regex;
use regex_syntax::hir::{Class, Hir, HirKind};
use zafka_envelope::{Encoded, Record, Timestamp};
use zafka_kafka::config::TopicSelector;
use zafka_sockets::InboundKind;
use zafka_zmtp::frame::read_header;

use crate::config::RouteConfig;
use crate::rename::renamed;
use crate::zmq_to_kafka::IngestConfig;

/// Topics that are followed in a row: names that grow at each turn make a loop too.
const DEPTH: usize = 8;
/// Steps in all: with many routes there are many ways.
const STEPS: usize = 100_000;

/// Two routes of one relay: what the first sends, the second takes.
#[derive(Clone, Copy, Debug)]
pub struct Link<'a> {
    /// The route that begins at Kafka.
    pub from: &'a RouteConfig,
    /// The route that leads to Kafka.
    pub to: &'a IngestConfig,
}

/// A record that goes round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loop {
    /// The link that closes it, by its index.
    pub link: usize,
    /// The topics that the record is written to, one after the other.
    pub topics: Vec<String>,
}

/// Finds loops, one at most for each link that closes one.
pub fn find(links: &[Link<'_>]) -> Vec<Loop> {
    let mut search = Search { links, found: Vec::new(), steps: 0 };
    for topic in examples(links) {
        search.follow(&mut vec![topic]);
    }
    search.found
}

struct Search<'a> {
    links: &'a [Link<'a>],
    found: Vec<Loop>,
    steps: usize,
}

impl Search<'_> {
    fn follow(&mut self, path: &mut Vec<String>) {
        for (index, link) in self.links.iter().enumerate() {
            let Some(topic) = path.last() else { return };
            self.steps += 1;
            if self.steps > STEPS || self.found.iter().any(|found| found.link == index) {
                continue;
            }
            let Some(next) = link.carry(topic) else { continue };
            let is_loop = path.contains(&next) || path.len() == DEPTH;
            path.push(next);
            if is_loop {
                self.found.push(Loop { link: index, topics: path.clone() });
            } else {
                self.follow(path);
            }
            path.pop();
        }
    }
}

impl Link<'_> {
    /// The topic that a record of `topic` is written to, if it is.
    fn carry(&self, topic: &str) -> Option<String> {
        if !self.from.source.topics.iter().any(|selector| selects(selector, topic)) {
            return None;
        }
        let frames = message(self.from, topic);
        if let InboundKind::Sub(prefixes) = &self.to.socket.kind
            && !prefixes.iter().any(|prefix| frames.first().is_some_and(|f| f.starts_with(prefix)))
        {
            return None;
        }
        let mut records = Vec::new();
        let frames: Vec<_> = frames.iter().map(Vec::as_slice).collect();
        self.to.frames.read(&frames, &mut records).ok()?;
        let target = self.to.mapping.target(records.first()?, None).ok()?;
        Some(target.topic.into_owned())
    }
}

/// Returns true if a route that reads `selector` reads the topic.
fn selects(selector: &TopicSelector, topic: &str) -> bool {
    match selector {
        TopicSelector::Name(name) => name == topic,
        TopicSelector::Pattern(pattern) => !topic.starts_with("__") && pattern.is_match(topic),
    }
}

/// The frames of a route's message of a record.
fn message(route: &RouteConfig, topic: &str) -> Vec<Vec<u8>> {
    let RouteConfig { name, frames, rename, .. } = route;
    let mut encoder = frames.encoder_as(name, topic, &renamed(rename, topic), 0);
    let mut encoded = Encoded::default();
    let record = Record {
        offset: 0,
        prev: None,
        timestamp: Timestamp::Create(0),
        key: Some(b"k"),
        value: Some(b"v"),
        headers: &[],
    };
    encoder.encode(&record, &mut encoded);
    encoder.finish(&mut encoded);
    let (mut frames, mut rest) = (Vec::new(), &encoded.bytes[..]);
    while let Some(header) = read_header(rest) {
        let size = usize::try_from(header.body_size).unwrap_or(usize::MAX);
        let end = header.header_size.saturating_add(size);
        let Some((frame, after)) = rest.split_at_checked(end) else { break };
        frames.push(frame[header.header_size..].to_vec());
        rest = after;
    }
    frames
}

/// The topics to follow.
fn examples(links: &[Link<'_>]) -> BTreeSet<String> {
    let selectors = links.iter().flat_map(|link| {
        let constant = link.to.mapping.topic.constant().map(TopicSelector::Name);
        let written = link.to.mapping.allowed.iter().cloned().chain(constant);
        link.from.source.topics.iter().cloned().chain(written)
    });
    let one = |selector| match selector {
        TopicSelector::Name(name) => Some(name),
        TopicSelector::Pattern(pattern) => example(&pattern),
    };
    selectors.filter_map(one).collect()
}

/// A topic that a pattern matches.
fn example(pattern: &Regex) -> Option<String> {
    let mut text = String::new();
    put(&regex_syntax::parse(pattern.as_str()).ok()?, &mut text);
    pattern.is_match(&text).then_some(text)
}

/// Appends the least that a part of a pattern matches, where there is a choice something of it.
fn put(part: &Hir, text: &mut String) {
    match part.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => text.push_str(&String::from_utf8_lossy(&literal.0)),
        HirKind::Class(class) => text.extend(one_of(class)),
        HirKind::Repetition(repetition) => {
            // Something in place of nothing: names are seldom bare prefixes.
            let most = repetition.max.unwrap_or(u32::MAX);
            for _ in 0..repetition.min.max(1).min(most).min(300) {
                put(&repetition.sub, text);
            }
        }
        HirKind::Capture(capture) => put(&capture.sub, text),
        HirKind::Concat(parts) => parts.iter().for_each(|part| put(part, text)),
        HirKind::Alternation(parts) => parts.iter().take(1).for_each(|part| put(part, text)),
    }
}

/// A character of a class that a topic may have.
fn one_of(class: &Class) -> Option<char> {
    let mut usual = ('a'..='z').chain('0'..='9').chain('A'..='Z').chain(['.', '_', '-']);
    usual.find(|c| match class {
        Class::Unicode(class) => {
            class.ranges().iter().any(|range| (range.start()..=range.end()).contains(c))
        }
        Class::Bytes(class) => {
            let ranges = class.ranges().iter();
            u8::try_from(*c).is_ok_and(|c| {
                ranges.clone().any(|range| (range.start()..=range.end()).contains(&c))
            })
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_have_examples() {
        for (pattern, expected) in [
            ("^edge\\.[a-z]+$", Some("edge.a")),
            ("^(sensor|edge)\\.(.+)$", Some("sensor.a")),
            ("orders", Some("orders")),
            ("^a?b{3}\\d$", Some("abbb0")),
            ("^[^a-z]x$", Some("0x")),
            ("^$", Some("")),
            ("a\\bb", None),
        ] {
            let found = example(&Regex::new(pattern).unwrap());
            assert_eq!(found.as_deref(), expected, "{pattern}");
        }
    }
}
