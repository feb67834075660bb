//! Checks that need several routes, topics or limits side by side.

use zafka_bridge::config::RouteConfig;
use zafka_bridge::rename::renamed;
use zafka_kafka::config::TopicSelector;

use super::reader::Reader;
use super::route::{ReadRoute, ReadSource};
use crate::open_files;

/// Reports routes of one file that cannot be there together: by their names, and by their places in
/// one group.
pub fn compare(reader: &Reader<'_>, routes: &[ReadRoute]) {
    for (index, route) in routes.iter().enumerate() {
        for before in routes.iter().take(index) {
            compare_names(reader, before, route);
            compare_sources(reader, before, route);
        }
    }
}

fn compare_names(reader: &Reader<'_>, before: &ReadRoute, route: &ReadRoute) {
    let (Some((one, _)), Some((other, at))) = (&before.name, &route.name) else { return };
    if one == other {
        let found = format!("found {other:?} for the second time");
        reader.mistake(at, "route.name", found, "a name of its own for each route");
    }
}

fn compare_sources(reader: &Reader<'_>, before: &ReadRoute, route: &ReadRoute) {
    let (Some(one), Some(other)) = (&before.source, &route.source) else { return };
    let (Some(group), Some(other_group)) = (&one.group, &other.group) else { return };
    if group.id != other_group.id {
        return;
    }
    let before = match &before.name {
        Some((name, _)) => format!("route {name:?}"),
        None => "a route before".to_owned(),
    };
    if group.instance.is_some() && group.instance == other_group.instance {
        let found = format!("{before} is the same instance of the same group");
        let allowed = "an instance of its own for each route";
        reader.mistake(&other_group.at, "route.from.kafka.instance", found, allowed);
    }
    if let (Some(protocol), Some(other_protocol)) = (group.protocol, other_group.protocol)
        && protocol != other_protocol
    {
        let found = format!("{before} is in the same group with another group_protocol");
        reader.mistake(
            &other_group.at,
            "route.from.kafka.group",
            found,
            "one protocol for each group",
        );
    }
    let key = "route.from.kafka.topics";
    for topic in &other.topics {
        if one.topics.iter().any(|selector| overlap(selector, topic)) {
            let name = selector_text(topic);
            let found =
                format!("{before} reads {name} in the same group, so each would get a part of it");
            reader.mistake(&other.topics_at, key, found, "a group of its own for this route");
        }
    }
    let patterns = |source: &ReadSource| {
        source.topics.iter().any(|topic| matches!(topic, TopicSelector::Pattern(_)))
    };
    if patterns(one) && patterns(other) {
        let text = format!(
            "{before} has a pattern in the same group: a topic that both match is divided between the two"
        );
        reader.warn(&other.topics_at, key, text);
    }
}

/// Returns true if two selectors certainly have a topic in common.
fn overlap(one: &TopicSelector, other: &TopicSelector) -> bool {
    match (one, other) {
        (TopicSelector::Name(one), TopicSelector::Name(other)) => one == other,
        (TopicSelector::Pattern(pattern), TopicSelector::Name(name))
        | (TopicSelector::Name(name), TopicSelector::Pattern(pattern)) => {
            !name.starts_with("__") && pattern.is_match(name)
        }
        (TopicSelector::Pattern(one), TopicSelector::Pattern(other)) => {
            one.as_str() == other.as_str()
        }
    }
}

/// A selector as it stands in the file.
pub fn selector_text(selector: &TopicSelector) -> String {
    match selector {
        TopicSelector::Name(name) => name.clone(),
        TopicSelector::Pattern(pattern) => format!("/{pattern}/"),
    }
}

/// Topics that a route names, each taken to have one partition as long as no cluster tells
/// otherwise.
pub fn named_topics(route: &RouteConfig) -> Vec<(String, i32)> {
    let names = route.source.topics.iter().filter_map(|selector| match selector {
        TopicSelector::Name(name) => Some((name.clone(), 1)),
        TopicSelector::Pattern(_) => None,
    });
    names.collect()
}

/// Pairs of different routing frames of a route of which the first is a prefix of the second: a SUB
/// that subscribes to the first receives the second too. `topics` are names with their number of
/// partitions.
pub fn prefix_pairs(route: &RouteConfig, topics: &[(String, i32)]) -> Vec<(String, String)> {
    let mut frames: Vec<Vec<u8>> = topics
        .iter()
        .flat_map(|(topic, partitions)| {
            let topic = renamed(&route.rename, topic);
            let of = move |partition| route.frames.routing_frame(&route.name, &topic, partition);
            (0..*partitions).filter_map(of)
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
    let text = open_files::too_many_peers(
        routes.iter().filter_map(|route| route.config.as_ref()),
        hard_limit,
    );
    let last = routes.iter().filter_map(|route| route.socket.as_ref()).next_back();
    if let (Some(last), Some(text)) = (last, text) {
        reader.warn(&last.max_peers_at, &format!("{}.max_peers", last.path), text);
    }
}

/// Warns about topics of one route that a SUB cannot tell apart.
pub fn compare_prefixes(reader: &Reader<'_>, route: &ReadRoute) {
    let (Some(config), Some(source)) = (&route.config, &route.source) else { return };
    for (short, long) in prefix_pairs(config, &named_topics(config)) {
        let text =
            format!("a subscription to {short} receives {long} too: SUB sockets match by prefix");
        reader.warn(&source.topics_at, "route.from.kafka.topics", text);
    }
}
