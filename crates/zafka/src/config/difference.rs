//! The difference of two configurations, in terms of routes and keys. Pure.
//!
//! Each function takes the old value apart without `..`: a field that comes later does not compile
//! before it has its key here. No value is ever shown, only the path of its key.

#[cfg(test)]
mod tests;

use zafka_bridge::Route;
use zafka_bridge::config::RouteConfig;
use zafka_bridge::zmq_to_kafka::mapping::Mapping;
use zafka_bridge::zmq_to_kafka::{IngestConfig, OnError};
use zafka_kafka::config::{ClusterConfig, GroupConfig, SourceConfig};
use zafka_kafka::produce::ProducerConfig;
use zafka_sockets::config::{EndpointConfig, Limits, PubConfig};
use zafka_sockets::{InboundConfig, InboundKind};

use super::keys::{self, Key, Section};
use super::{AdminConfig, Config, IdentityConfig};

/// The difference of an old configuration and a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The keys that hold for the whole process and only from its start on: `kafka.client_rack`.
    pub needs_restart: Vec<String>,
    /// Each route of the new configuration, then those that are not in it any more.
    pub routes: Vec<(String, RouteChange)>,
}

/// The fate of a route. Routes are the same by their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteChange {
    /// It is as it was.
    Unchanged,
    /// It was not there.
    Added,
    /// It is not there any more.
    Removed,
    /// Keys of it have other values: `route.to.zmq.bind`.
    Changed(Vec<String>),
}

impl Difference {
    /// Compares two configurations.
    pub fn between(old: &Config, new: &Config) -> Self {
        let Config { cluster, routes: _, ingest: _, admin, identity, shutdown_timeout: _ } = old;
        let mut needs_restart = clusters(cluster, &new.cluster);
        needs_restart.extend(admins(admin.as_ref(), new.admin.as_ref()));
        needs_restart.extend(identities(identity.as_ref(), new.identity.as_ref()));
        let (before, after) = (old.all_routes(), new.all_routes());
        let change = |route: &Route| {
            let same_name = before.iter().find(|old| old.name() == route.name());
            let change = match same_name.map(|old| differing(old, route)) {
                None => RouteChange::Added,
                Some(keys) if keys.is_empty() => RouteChange::Unchanged,
                Some(keys) => RouteChange::Changed(keys),
            };
            (route.name().to_owned(), change)
        };
        let is_gone = |old: &&Route| !after.iter().any(|new| new.name() == old.name());
        let gone = before.iter().filter(is_gone);
        let gone = gone.map(|old| (old.name().to_owned(), RouteChange::Removed));
        Self { needs_restart, routes: after.iter().map(change).chain(gone).collect() }
    }
}

/// The paths of the keys whose values differ.
fn paths(section: &Section, keys: &[(bool, &Key)]) -> Vec<String> {
    let differing = keys.iter().filter(|(differs, _)| *differs);
    differing.map(|(_, key)| path(section, key)).collect()
}

fn path(section: &Section, key: &Key) -> String {
    let dot = if section.path.is_empty() { "" } else { "." };
    format!("{}{dot}{}", section.path, key.name)
}

fn clusters(old: &ClusterConfig, new: &ClusterConfig) -> Vec<String> {
    let ClusterConfig { bootstrap_servers, security, client_rack } = old;
    let keys = [
        (*bootstrap_servers != new.bootstrap_servers, &keys::BOOTSTRAP_SERVERS),
        (*client_rack != new.client_rack, &keys::CLIENT_RACK),
        (*security != new.security, &keys::SECURITY),
    ];
    paths(&keys::KAFKA_SECTION, &keys)
}

fn admins(old: Option<&AdminConfig>, new: Option<&AdminConfig>) -> Vec<String> {
    match (old, new) {
        (None, None) => Vec::new(),
        (Some(AdminConfig { bind, hosts, control }), Some(new)) => {
            let keys = [
                (*bind != new.bind, &keys::ADMIN_BIND),
                (*hosts != new.hosts, &keys::ADMIN_HOSTS),
                (*control != new.control, &keys::ADMIN_CONTROL),
            ];
            paths(&keys::ADMIN_SECTION, &keys)
        }
        (Some(_), None) | (None, Some(_)) => vec![path(&keys::TOP, &keys::ADMIN)],
    }
}

fn identities(old: Option<&IdentityConfig>, new: Option<&IdentityConfig>) -> Vec<String> {
    match (old, new) {
        (None, None) => Vec::new(),
        (Some(old), Some(new)) => {
            let IdentityConfig {
                keys,
                folder,
                servers,
                door,
                issuers,
                max_lease,
                clock_skew,
                exchange,
                rules,
            } = old;
            let endpoints = |door: &[EndpointConfig]| -> Vec<_> {
                door.iter().map(|bind| bind.endpoint.clone()).collect()
            };
            let of_table = [
                (keys.first() != new.keys.first(), &keys::SECRET_KEY_FILE),
                (keys.get(1) != new.keys.get(1), &keys::PREVIOUS_SECRET_KEY_FILE),
                (*folder != new.folder, &keys::KEYS_FOLDER),
                (endpoints(door) != endpoints(&new.door), &keys::IDENTITY_BIND),
                (*max_lease != new.max_lease, &keys::MAX_LEASE),
                (*clock_skew != new.clock_skew, &keys::CLOCK_SKEW),
                (*issuers != new.issuers, &keys::ISSUER),
                (*exchange != new.exchange, &keys::EXCHANGE),
                (*rules != new.rules, &keys::ACCESS),
            ];
            let mut differing = paths(&keys::IDENTITY_SECTION, &of_table);
            let known = [(*servers != new.servers, &keys::ENDPOINT_SERVER_KEY_FILE)];
            differing.extend(paths(&keys::ENDPOINT_SECTION, &known));
            differing
        }
        (Some(_), None) | (None, Some(_)) => vec![path(&keys::TOP, &keys::IDENTITY)],
    }
}

fn differing(old: &Route, new: &Route) -> Vec<String> {
    match (old, new) {
        (Route::KafkaToZmq(old), Route::KafkaToZmq(new)) => kafka_to_zmq(old, new),
        (Route::ZmqToKafka(old), Route::ZmqToKafka(new)) => zmq_to_kafka(old, new),
        _ => [&keys::FROM, &keys::TO].map(|key| path(&keys::ROUTE_SECTION, key)).to_vec(),
    }
}

fn kafka_to_zmq(old: &RouteConfig, new: &RouteConfig) -> Vec<String> {
    let RouteConfig { name: _, source: from, frames, rename, socket } = old;
    let mut differing = source(from, &new.source);
    let renamed = [(*rename != new.rename, &keys::FROM_RENAME)];
    differing.extend(paths(&keys::FROM_KAFKA_SECTION, &renamed));
    differing.extend(publishing(socket, &new.socket));
    differing.extend(paths(&keys::TO_ZMQ_SECTION, &[(*frames != new.frames, &keys::FRAMES)]));
    differing
}

fn source(old: &SourceConfig, new: &SourceConfig) -> Vec<String> {
    let SourceConfig {
        route: _,
        topics,
        group,
        start,
        isolation,
        on_out_of_range,
        on_corrupt,
        revoke_timeout,
        topic_refresh,
        fetcher,
        stall_timeout,
    } = old;
    let mut differing = groups(group.as_ref(), new.group.as_ref());
    let keys = [
        (*topics != new.topics, &keys::TOPICS),
        (*start != new.start, &keys::START),
        (*isolation != new.isolation, &keys::ISOLATION),
        (*on_out_of_range != new.on_out_of_range, &keys::ON_OUT_OF_RANGE),
        (*on_corrupt != new.on_corrupt, &keys::ON_CORRUPT),
        (*revoke_timeout != new.revoke_timeout, &keys::REVOKE_TIMEOUT),
        (*topic_refresh != new.topic_refresh, &keys::TOPIC_REFRESH),
        (*fetcher != new.fetcher, &keys::FETCHER),
        (*stall_timeout != new.stall_timeout, &keys::STALL_TIMEOUT),
    ];
    differing.extend(paths(&keys::FROM_KAFKA_SECTION, &keys));
    differing
}

fn groups(old: Option<&GroupConfig>, new: Option<&GroupConfig>) -> Vec<String> {
    let keys = match (old, new) {
        (Some(GroupConfig { id, instance, protocol, session_timeout }), Some(new)) => vec![
            (*id != new.id, &keys::GROUP),
            (*instance != new.instance, &keys::INSTANCE),
            (*protocol != new.protocol, &keys::GROUP_PROTOCOL),
            (*session_timeout != new.session_timeout, &keys::SESSION_TIMEOUT),
        ],
        (old, new) => vec![(old.is_some() != new.is_some(), &keys::GROUP)],
    };
    paths(&keys::FROM_KAFKA_SECTION, &keys)
}

fn publishing(old: &PubConfig, new: &PubConfig) -> Vec<String> {
    let PubConfig {
        bind,
        ipc_mode,
        connect,
        slow_peer,
        min_peers,
        ring_bytes,
        peer_timeout,
        heartbeat,
        limits,
    } = old;
    let Limits {
        max_peers,
        max_subscriptions,
        max_inbound_frame,
        peer_memory,
        handshake_timeout: _,
    } = limits;
    let keys = [
        (*bind != new.bind, &keys::BIND),
        (*ipc_mode != new.ipc_mode, &keys::IPC_MODE),
        (*connect != new.connect, &keys::CONNECT),
        (*slow_peer != new.slow_peer, &keys::SLOW_PEER),
        (*min_peers != new.min_peers, &keys::MIN_PEERS),
        (*ring_bytes != new.ring_bytes, &keys::RING_BYTES),
        (*peer_timeout != new.peer_timeout, &keys::PEER_TIMEOUT),
        (*heartbeat != new.heartbeat, &keys::HEARTBEAT),
        (*max_peers != new.limits.max_peers, &keys::MAX_PEERS),
        (*max_subscriptions != new.limits.max_subscriptions, &keys::MAX_SUBSCRIPTIONS),
        (*max_inbound_frame != new.limits.max_inbound_frame, &keys::MAX_INBOUND_FRAME),
        (*peer_memory != new.limits.peer_memory, &keys::PEER_MEMORY),
    ];
    paths(&keys::TO_ZMQ_SECTION, &keys)
}

fn zmq_to_kafka(old: &IngestConfig, new: &IngestConfig) -> Vec<String> {
    let IngestConfig { name: _, socket, frames, mapping, producer, on_error, as_peer } = old;
    let mut differing = taking(socket, &new.socket);
    let laid_out = [(*frames != new.frames, &keys::INBOUND_FRAMES)];
    differing.extend(paths(&keys::FROM_ZMQ_SECTION, &laid_out));
    differing.extend(mappings(mapping, &new.mapping));
    differing.extend(producers(producer, &new.producer));
    let letter = |policy: &OnError| match policy {
        OnError::DeadLetter(topic) => Some(topic.clone()),
        OnError::Skip | OnError::Stop => None,
    };
    let letters = (letter(on_error), letter(&new.on_error));
    let policy = letters == (None, None) && *on_error != new.on_error;
    let in_flight = socket.in_flight_bytes != new.socket.in_flight_bytes;
    let keys = [
        (letters.0 != letters.1, &keys::DEAD_LETTER),
        (policy, &keys::ON_ERROR),
        (in_flight, &keys::IN_FLIGHT_BYTES),
        (*as_peer != new.as_peer, &keys::AS_PEER),
    ];
    differing.extend(paths(&keys::TO_KAFKA_SECTION, &keys));
    differing
}

fn taking(old: &InboundConfig, new: &InboundConfig) -> Vec<String> {
    let InboundConfig {
        kind,
        bind,
        ipc_mode,
        connect,
        heartbeat,
        max_peers,
        max_message,
        peer_memory,
        handshake_timeout: _,
        in_flight_bytes: _,
    } = old;
    let is_sub = |kind: &InboundKind| matches!(kind, InboundKind::Sub(_));
    let subscriptions = is_sub(kind) && is_sub(&new.kind);
    let keys = [
        (*kind != new.kind && !subscriptions, &keys::INBOUND_SOCKET),
        (*kind != new.kind && subscriptions, &keys::SUBSCRIBE),
        (*bind != new.bind, &keys::BIND),
        (*ipc_mode != new.ipc_mode, &keys::IPC_MODE),
        (*connect != new.connect, &keys::CONNECT),
        (*heartbeat != new.heartbeat, &keys::HEARTBEAT),
        (*max_peers != new.max_peers, &keys::MAX_PEERS),
        (*max_message != new.max_message, &keys::MAX_MESSAGE),
        (*peer_memory != new.peer_memory, &keys::SENDER_MEMORY),
    ];
    paths(&keys::FROM_ZMQ_SECTION, &keys)
}

fn mappings(old: &Mapping, new: &Mapping) -> Vec<String> {
    let Mapping { topic, rename, allowed, key, partition, headers, stamp } = old;
    let keys = [
        (*topic != new.topic, &keys::TO_TOPIC),
        (*rename != new.rename, &keys::RENAME),
        (*allowed != new.allowed, &keys::TO_TOPICS),
        (*key != new.key, &keys::TO_KEY),
        (*partition != new.partition, &keys::TO_PARTITION),
        (*headers != new.headers, &keys::TO_HEADERS),
        (*stamp != new.stamp, &keys::STAMP),
    ];
    paths(&keys::TO_KAFKA_SECTION, &keys)
}

fn producers(old: &ProducerConfig, new: &ProducerConfig) -> Vec<String> {
    let ProducerConfig { route: _, compression, linger, batch_bytes, delivery_timeout, producer } =
        old;
    let keys = [
        (*compression != new.compression, &keys::COMPRESSION),
        (*linger != new.linger, &keys::LINGER),
        (*batch_bytes != new.batch_bytes, &keys::BATCH_SIZE),
        (*delivery_timeout != new.delivery_timeout, &keys::DELIVERY_TIMEOUT),
        (*producer != new.producer, &keys::PRODUCER),
    ];
    paths(&keys::TO_KAFKA_SECTION, &keys)
}
