//! What can be seen only with several routes, topics or limits side by side.

use zafka_bridge::config::RouteConfig;
use zafka_kafka::config::TopicSelector;

use super::reader::Reader;
use super::route::ReadRoute;
use crate::open_files;

/// Two routes of one file: their names, and their places in one group.
pub fn compare(reader: &Reader<'_>, before: &ReadRoute, route: &ReadRoute) {
    let (one, other) = (&before.config, &route.config);
    if one.name == other.name {
        let found = format!("found {:?} for the second time", other.name);
        reader.mistake(&route.name_at, "route.name", found, "a name of its own for each route");
    }
    let (Some(group), Some(other_group)) = (&one.source.group, &other.source.group) else { return };
    if group.id != other_group.id {
        return;
    }
    if group.instance.is_some() && group.instance == other_group.instance {
        let found = format!("route {:?} is the same instance of the same group", one.name);
        reader.mistake(
            &route.group_at,
            "route.from.kafka.instance",
            found,
            "an instance of its own for each route",
        );
    }
    if group.protocol != other_group.protocol {
        let found = format!("route {:?} is in the same group with another group_protocol", one.name);
        reader.mistake(&route.group_at, "route.from.kafka.group", found, "one protocol for each group");
    }
    for topic in &other.source.topics {
        let shared = one.source.topics.iter().any(|selector| overlap(selector, topic));
        if shared {
            let name = selector_text(topic);
            let found = format!(
                "route {:?} reads {name} in the same group, so each would get a part of it",
                one.name
            );
            reader.mistake(
                &route.topics_at,
                "route.from.kafka.topics",
                found,
                "a group of its own for this route",
            );
        }
    }
    let patterns =
        |route: &RouteConfig| route.source.topics.iter().any(|t| matches!(t, TopicSelector::Pattern(_)));
    if patterns(one) && patterns(other) {
        let text = format!(
            "route {:?} has a pattern in the same group: a topic that both match is divided between the two",
            one.name
        );
        reader.warn(&route.topics_at, "route.from.kafka.topics", text);
    }
}

/// Whether two selectors certainly have a topic in common.
fn overlap(one: &TopicSelector, other: &TopicSelector) -> bool {
    match (one, other) {
        (TopicSelector::Name(one), TopicSelector::Name(other)) => one == other,
        (TopicSelector::Pattern(pattern), TopicSelector::Name(name))
        | (TopicSelector::Name(name), TopicSelector::Pattern(pattern)) => {
            !name.starts_with("__") && pattern.is_match(name)
        }
        (TopicSelector::Pattern(one), TopicSelector::Pattern(other)) => one.as_str() == other.as_str(),
    }
}

/// A selector as it stands in the file.
pub fn selector_text(selector: &TopicSelector) -> String {
    match selector {
        TopicSelector::Name(name) => name.clone(),
        TopicSelector::Pattern(pattern) => format!("/{pattern}/"),
    }
}

/// Topics that a route names, each taken to have one partition as long as no cluster tells otherwise.
pub fn named_topics(route: &RouteConfig) -> Vec<(String, i32)> {
    let names = route.source.topics.iter().filter_map(|selector| match selector {
        TopicSelector::Name(name) => Some((name.clone(), 1)),
        TopicSelector::Pattern(_) => None,
    });
    names.collect()
}

/// Pairs of different routing frames of a route where the first is a prefix of the second: a SUB that subscribes to
/// the first receives the second too. `topics` are names with their number of partitions.
pub fn prefix_pairs(route: &RouteConfig, topics: &[(String, i32)]) -> Vec<(String, String)> {
    let mut frames: Vec<Vec<u8>> = topics
        .iter()
        .flat_map(|(topic, partitions)| {
            (0..*partitions).filter_map(|partition| route.frames.routing_frame(&route.name, topic, partition))
        })
        .collect();
    frames.sort();
    frames.dedup();
    let mut pairs = Vec::new();
    for (index, frame) in frames.iter().enumerate() {
        let longer = frames.iter().skip(index + 1).take_while(|other| other.starts_with(frame));
        pairs.extend(longer.map(|other| (readable(frame), readable(other))));
    }
    pairs
}

fn readable(frame: &[u8]) -> String {
    format!("\"{}\"", frame.escape_ascii())
}

/// Warns about routes whose peers cannot all be connected at once.
pub fn compare_with_limit(reader: &Reader<'_>, routes: &[ReadRoute], hard_limit: u64) {
    let text = open_files::too_many_peers(routes.iter().map(|route| &route.config), hard_limit);
    if let (Some(last), Some(text)) = (routes.last(), text) {
        reader.warn(&last.max_peers_at, "route.to.zmq.max_peers", text);
    }
}
