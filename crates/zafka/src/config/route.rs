//! `[[route]]`: `from.kafka` and `to.zmq`.

use std::time::Duration;

use toml::de::DeValue;
use zafka_bridge::config::RouteConfig;
use zafka_bridge::zmq_to_kafka::IngestConfig;
use zafka_envelope::FramePlan;
use zafka_kafka::config::{
    FetcherKind, GroupConfig, GroupProtocol, OnCorrupt, SourceConfig, TopicSelector,
};
use zafka_sockets::Endpoint;
use zafka_sockets::config::{Limits, PubConfig};

use super::endpoints::Securing;
use super::ingest;
use super::keys::{self, Key};
use super::reader::{Span, Table};
use super::rename;
use super::socket::{self, ReadSocket, Role};
use super::text;

/// A route, and what of it is compared with the others: what could be read, whatever else is wrong.
pub struct ReadRoute {
    /// The route, if it could be put together; useful only in a file without mistakes.
    pub config: Option<RouteConfig>,
    /// The same of a route from ZeroMQ to Kafka.
    pub ingest: Option<IngestConfig>,
    /// Its name, and the place of that.
    pub name: Option<(String, Span)>,
    /// `from.kafka`.
    pub source: Option<ReadSource>,
    /// `to.zmq`, or `from.zmq`.
    pub socket: Option<ReadSocket>,
}

/// The part of `from.kafka` that is compared.
pub struct ReadSource {
    /// Its topics.
    pub topics: Vec<TopicSelector>,
    /// Their place in the file.
    pub topics_at: Span,
    /// The group.
    pub group: Option<ReadGroup>,
}

/// A group, and the place of it or of its instance.
pub struct ReadGroup {
    /// `group`.
    pub id: String,
    /// `instance`.
    pub instance: Option<String>,
    /// `session_timeout`.
    pub session_timeout: Option<Duration>,
    /// `group_protocol`: `None` for a mistake, `Some(None)` for whatever the cluster has.
    pub protocol: Option<Option<GroupProtocol>>,
    /// Its place in the file.
    pub at: Span,
}

/// The routes of the file.
pub fn routes(top: &Table<'_, '_>, securing: &Securing) -> Vec<ReadRoute> {
    let Some(value) = top.raw(&keys::ROUTE) else { return Vec::new() };
    let DeValue::Array(items) = value.get_ref() else {
        top.mistake(&keys::ROUTE, "not a list of tables", "[[route]]");
        return Vec::new();
    };
    if items.is_empty() {
        top.mistake(&keys::ROUTE, "found an empty list", "at least one route");
    }
    let routes = items.iter().filter_map(|item| match item.get_ref() {
        DeValue::Table(table) => {
            Some(route(&top.reader().table(&keys::ROUTE_SECTION, table, item.span()), securing))
        }
        _ => {
            top.reader().mistake(&item.span(), "route", "not a table", "[[route]]");
            None
        }
    });
    routes.collect()
}

fn route(table: &Table<'_, '_>, securing: &Securing) -> ReadRoute {
    let name = table.text(&keys::NAME, text::label);
    let from = table.table(&keys::FROM, &keys::FROM_SECTION);
    let to = table.table(&keys::TO, &keys::TO_SECTION);
    check_ends(from.as_ref(), to.as_ref());
    let at = table.span_of(&keys::NAME);
    if let Some(from) = from.as_ref().filter(|from| from.has(&keys::FROM_ZMQ)) {
        let from = from.table(&keys::FROM_ZMQ, &keys::FROM_ZMQ_SECTION);
        let to = to.and_then(|to| to.table(&keys::TO_KAFKA, &keys::TO_KAFKA_SECTION));
        let (socket, ingest) = ingest::route(name.as_deref(), from.as_ref(), to.as_ref(), securing);
        return ReadRoute {
            config: None,
            ingest,
            name: name.map(|name| (name, at)),
            source: None,
            socket,
        };
    }
    let from = from.and_then(|from| from.table(&keys::FROM_KAFKA, &keys::FROM_KAFKA_SECTION));
    let to = to.and_then(|to| to.table(&keys::TO_ZMQ, &keys::TO_ZMQ_SECTION));
    let (source, source_config) = from.as_ref().map(|from| source(from, name.as_deref())).unzip();
    let rename = from.as_ref().map(|from| rename::list(from, &keys::FROM_RENAME, |_| None));
    let rename = rename.unwrap_or_default();
    let (socket, served) = to.as_ref().map(|to| socket(to, securing)).unzip();
    let config = || {
        let (socket, frames) = served.flatten()?;
        let source = source_config.flatten()?;
        Some(RouteConfig { name: name.clone()?, source, frames, rename, socket })
    };
    ReadRoute { config: config(), ingest: None, name: name.map(|name| (name, at)), source, socket }
}

/// Reports a route whose two ends do not make one of the two directions.
fn check_ends(from: Option<&Table<'_, '_>>, to: Option<&Table<'_, '_>>) {
    let one =
        |table: &Table<'_, '_>, key: &Key, other: &Key| match (table.has(key), table.has(other)) {
            (false, false) => {
                table.mistake(key, "missing", format!("a table; or `{}`", other.name))
            }
            (true, true) => {
                table.mistake(other, format!("`{}` is there too", key.name), "one of the two")
            }
            _ => {}
        };
    if let Some(from) = from {
        one(from, &keys::FROM_KAFKA, &keys::FROM_ZMQ);
    }
    let Some(to) = to else { return };
    let ingest = from.is_some_and(|from| from.has(&keys::FROM_ZMQ));
    let (wanted, other) =
        if ingest { (&keys::TO_KAFKA, &keys::TO_ZMQ) } else { (&keys::TO_ZMQ, &keys::TO_KAFKA) };
    if to.has(other) && !to.has(wanted) {
        let goes_with = if ingest { "from.zmq" } else { "from.kafka" };
        to.mistake(other, format!("does not go with `{goes_with}`"), format!("`{}`", wanted.name));
    } else {
        one(to, wanted, other);
    }
}

fn source(table: &Table<'_, '_>, route: Option<&str>) -> (ReadSource, Option<SourceConfig>) {
    let topics = table.readable(&keys::TOPICS, text::topic);
    let read = ReadSource {
        topics: topics.into_iter().map(|(topic, _)| topic).collect(),
        topics_at: table.span_of(&keys::TOPICS),
        group: group(table),
    };
    let config = source_config(table, route.unwrap_or_default(), &read);
    (read, config)
}

fn group(table: &Table<'_, '_>) -> Option<ReadGroup> {
    let id = table.text(&keys::GROUP, text::label);
    let instance = table.text(&keys::INSTANCE, text::instance);
    let protocol = table.choice(&keys::GROUP_PROTOCOL, &text::GROUP_PROTOCOL);
    let session_timeout = table.duration(&keys::SESSION_TIMEOUT);
    if table.has(&keys::SESSION_TIMEOUT) && protocol == Some(GroupProtocol::Consumer) {
        table.mistake(
            &keys::SESSION_TIMEOUT,
            "found together with group_protocol = \"consumer\"",
            "only a group of the classic protocol; by the newer one the brokers set it \
             (group.consumer.session.timeout.ms, a group's consumer.session.timeout.ms)",
        );
    }
    if !table.has(&keys::GROUP) {
        for key in [&keys::INSTANCE, &keys::GROUP_PROTOCOL, &keys::SESSION_TIMEOUT] {
            if table.has(key) {
                table.mistake(key, "`group` is missing", "only together with `group`");
            }
        }
    }
    Some(ReadGroup {
        id: id?,
        instance,
        session_timeout,
        protocol: if table.has(&keys::GROUP_PROTOCOL) { protocol.map(Some) } else { Some(None) },
        at: table.span_of(if table.has(&keys::INSTANCE) { &keys::INSTANCE } else { &keys::GROUP }),
    })
}

fn source_config(table: &Table<'_, '_>, route: &str, read: &ReadSource) -> Option<SourceConfig> {
    let start = table.text(&keys::START, text::start);
    let isolation = table.choice(&keys::ISOLATION, &text::ISOLATION);
    let on_out_of_range = table.choice(&keys::ON_OUT_OF_RANGE, &text::ON_OUT_OF_RANGE);
    let revoke_timeout = table.duration(&keys::REVOKE_TIMEOUT);
    let topic_refresh = table.duration(&keys::TOPIC_REFRESH);
    let fetcher = table.choice(&keys::FETCHER, &text::FETCHER);
    let on_corrupt = table.choice(&keys::ON_CORRUPT, &text::ON_CORRUPT);
    if (on_corrupt, fetcher) == (Some(OnCorrupt::Skip), Some(FetcherKind::Librdkafka)) {
        let allowed = "\"stop\", or `fetcher = \"fast\"`";
        table.mistake(&keys::ON_CORRUPT, "found \"skip\" with `fetcher = \"librdkafka\"`", allowed);
    }
    let stall_timeout = table.duration(&keys::STALL_TIMEOUT);
    Some(SourceConfig {
        route: route.to_owned(),
        topics: read.topics.clone(),
        group: read.group.as_ref().map(|group| GroupConfig {
            id: group.id.clone(),
            instance: group.instance.clone(),
            protocol: group.protocol.flatten(),
            session_timeout: group.session_timeout,
        }),
        start: start?,
        isolation: isolation?,
        on_out_of_range: on_out_of_range?,
        on_corrupt: on_corrupt?,
        revoke_timeout: revoke_timeout?,
        topic_refresh: topic_refresh?,
        fetcher: fetcher?,
        stall_timeout: stall_timeout?,
    })
}

type Served = (PubConfig, FramePlan);

fn socket(table: &Table<'_, '_>, securing: &Securing) -> (ReadSocket, Option<Served>) {
    let read = ReadSocket::read(table, "route.to.zmq", Role::Publishes, securing);
    let served = served(table, &read);
    (read, served)
}

fn served(table: &Table<'_, '_>, read: &ReadSocket) -> Option<Served> {
    let socket_type = table.choice(&keys::SOCKET, &text::SOCKET);
    let ipc_mode = table.text(&keys::IPC_MODE, text::mode);
    let is_local = |(endpoint, _): &(Endpoint, Span)| matches!(endpoint, Endpoint::Ipc(_));
    if table.has(&keys::IPC_MODE) && !read.binds.iter().any(is_local) {
        table.mistake(
            &keys::IPC_MODE,
            "no `ipc` endpoint is bound",
            "only together with one in `bind`",
        );
    }
    let frames = socket::frames(table, &keys::FRAMES, text::preset, FramePlan::parse);
    let slow_peer = table.choice(&keys::SLOW_PEER, &text::SLOW_PEER);
    let peer_timeout = table.duration_or_none(&keys::PEER_TIMEOUT);
    let min_peers = table.count(&keys::MIN_PEERS);
    let max_peers = table.count(&keys::MAX_PEERS);
    let ring_bytes = table.count(&keys::RING_BYTES);
    let max_subscriptions = table.count(&keys::MAX_SUBSCRIPTIONS);
    let max_inbound_frame = table.count(&keys::MAX_INBOUND_FRAME);
    let peer_memory = table.count(&keys::PEER_MEMORY);
    let heartbeat = socket::heartbeat(table);
    if let (Some(min), Some(max)) = (min_peers, max_peers)
        && min > max
    {
        table.mistake(
            &keys::MIN_PEERS,
            format!("found {min}"),
            format!("at most `max_peers`, which is {max}"),
        );
    }
    socket_type?;
    let config = PubConfig {
        bind: read.bind.clone(),
        ipc_mode,
        connect: read.connect.clone(),
        slow_peer: slow_peer?,
        min_peers: min_peers?,
        ring_bytes: ring_bytes?,
        peer_timeout: peer_timeout?,
        heartbeat,
        limits: Limits {
            max_peers: max_peers?,
            max_subscriptions: max_subscriptions?,
            peer_memory: peer_memory?,
            max_inbound_frame: max_inbound_frame?,
            ..Limits::default()
        },
    };
    Some((config, frames?))
}
