//! Checks that need several routes, topics or limits side by side.

use toml::de::DeValue;
use zafka_bridge::config::RouteConfig;
use zafka_bridge::rename::renamed;
use zafka_kafka::config::{ClusterConfig, TopicSelector};

use super::endpoints::Securing;
use super::keys;
use super::reader::{Reader, Table};
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

/// Compares the exchange with what is known of the cluster, of the rules and of the routes.
pub fn compare_exchange(
    top: &Table<'_, '_>,
    cluster: Option<&ClusterConfig>,
    securing: &Securing,
    routes: &[ReadRoute],
) {
    let Some(DeValue::Table(identity)) = top.raw(&keys::IDENTITY).map(|value| value.get_ref())
    else {
        return;
    };
    let Some(exchange) = identity.get(keys::EXCHANGE.name) else { return };
    let warn = |text| top.reader().warn(&exchange.span(), "identity.exchange", text);
    if cluster.is_some_and(|cluster| cluster.security.tls.is_none()) {
        warn(
            "the tokens of peers travel to the brokers in the clear, without \
             `kafka.security.tls`",
        );
    }
    let as_peer = |route: &ReadRoute| route.ingest.as_ref().is_none_or(|ingest| ingest.as_peer);
    let has_from_zmq = |route: &&ReadRoute| route.source.is_none();
    if securing.asks_kafka() == Some(false) && !routes.iter().filter(has_from_zmq).any(as_peer) {
        warn(
            "no rule has `read` or `write` = \"kafka\", and no route `as_peer`: no token is \
             exchanged",
        );
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
            "{before} has a pattern in the same group: a topic that both match is divided between \
             the two"
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
