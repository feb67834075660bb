//! The difference of two configurations, in terms of routes and keys. Pure.
//!
//! The old value is taken apart without `..`: a field that comes later does not compile before it
//! has its key here. No value is ever shown, only the path of its key.

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

/// Compares two values of a type field by field, each with its key in the section, and returns the
/// paths of those that differ. The fields in brackets are left out: something else compares them.
macro_rules! compare {
    ($old:expr, $new:expr, $section:ident, $type:ident [$($other:ident),*] {
        $($field:ident: $key:ident),* $(,)?
    }) => {{
        let $type { $($field,)* $($other: _,)* } = $old;
        paths(&keys::$section, &[$((*$field != $new.$field, &keys::$key)),*])
    }};
}

fn clusters(old: &ClusterConfig, new: &ClusterConfig) -> Vec<String> {
    compare!(old, new, KAFKA_SECTION, ClusterConfig [] {
        bootstrap_servers: BOOTSTRAP_SERVERS,
        client_rack: CLIENT_RACK,
        security: SECURITY,
    })
}

fn admins(old: Option<&AdminConfig>, new: Option<&AdminConfig>) -> Vec<String> {
    match (old, new) {
        (None, None) => Vec::new(),
        (Some(old), Some(new)) => compare!(old, new, ADMIN_SECTION, AdminConfig [] {
            bind: ADMIN_BIND,
            hosts: ADMIN_HOSTS,
            control: ADMIN_CONTROL,
        }),
        (Some(_), None) | (None, Some(_)) => vec![path(&keys::TOP, &keys::ADMIN)],
    }
}

fn identities(old: Option<&IdentityConfig>, new: Option<&IdentityConfig>) -> Vec<String> {
    match (old, new) {
        (None, None) => Vec::new(),
        (Some(old), Some(new)) => {
            let endpoints = |door: &[EndpointConfig]| -> Vec<_> {
                door.iter().map(|bind| bind.endpoint.clone()).collect()
            };
            let of_lists = [
                (old.keys.first() != new.keys.first(), &keys::SECRET_KEY_FILE),
                (old.keys.get(1) != new.keys.get(1), &keys::PREVIOUS_SECRET_KEY_FILE),
                (endpoints(&old.door) != endpoints(&new.door), &keys::IDENTITY_BIND),
            ];
            let mut differing = paths(&keys::IDENTITY_SECTION, &of_lists);
            differing.extend(compare!(old, new, IDENTITY_SECTION,
                IdentityConfig [keys, door, servers] {
                    folder: KEYS_FOLDER,
                    max_lease: MAX_LEASE,
                    clock_skew: CLOCK_SKEW,
                    issuers: ISSUER,
                    exchange: EXCHANGE,
                    rules: ACCESS,
                }
            ));
            let known = [(old.servers != new.servers, &keys::ENDPOINT_SERVER_KEY_FILE)];
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
    let mut differing = groups(old.group.as_ref(), new.group.as_ref());
    differing.extend(compare!(old, new, FROM_KAFKA_SECTION, SourceConfig [route, group] {
        topics: TOPICS,
        start: START,
        isolation: ISOLATION,
        on_out_of_range: ON_OUT_OF_RANGE,
        on_corrupt: ON_CORRUPT,
        revoke_timeout: REVOKE_TIMEOUT,
        topic_refresh: TOPIC_REFRESH,
        fetcher: FETCHER,
        stall_timeout: STALL_TIMEOUT,
    }));
    differing
}

fn groups(old: Option<&GroupConfig>, new: Option<&GroupConfig>) -> Vec<String> {
    match (old, new) {
        (Some(old), Some(new)) => compare!(old, new, FROM_KAFKA_SECTION, GroupConfig [] {
            id: GROUP,
            instance: INSTANCE,
            protocol: GROUP_PROTOCOL,
            session_timeout: SESSION_TIMEOUT,
        }),
        (old, new) => {
            let is_one = old.is_some() != new.is_some();
            paths(&keys::FROM_KAFKA_SECTION, &[(is_one, &keys::GROUP)])
        }
    }
}

fn publishing(old: &PubConfig, new: &PubConfig) -> Vec<String> {
    let mut differing = compare!(old, new, TO_ZMQ_SECTION, PubConfig [limits] {
        bind: BIND,
        ipc_mode: IPC_MODE,
        connect: CONNECT,
        slow_peer: SLOW_PEER,
        min_peers: MIN_PEERS,
        ring_bytes: RING_BYTES,
        peer_timeout: PEER_TIMEOUT,
        heartbeat: HEARTBEAT,
    });
    let (old, new) = (&old.limits, &new.limits);
    differing.extend(compare!(old, new, TO_ZMQ_SECTION, Limits [handshake_timeout] {
        max_peers: MAX_PEERS,
        max_subscriptions: MAX_SUBSCRIPTIONS,
        max_inbound_frame: MAX_INBOUND_FRAME,
        peer_memory: PEER_MEMORY,
    }));
    differing
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
    let is_sub = |kind: &InboundKind| matches!(kind, InboundKind::Sub(_));
    let key = match is_sub(&old.kind) && is_sub(&new.kind) {
        true => &keys::SUBSCRIBE,
        false => &keys::INBOUND_SOCKET,
    };
    let mut differing = paths(&keys::FROM_ZMQ_SECTION, &[(old.kind != new.kind, key)]);
    differing.extend(compare!(old, new, FROM_ZMQ_SECTION,
        InboundConfig [kind, handshake_timeout, in_flight_bytes] {
            bind: BIND,
            ipc_mode: IPC_MODE,
            connect: CONNECT,
            heartbeat: HEARTBEAT,
            max_peers: MAX_PEERS,
            max_message: MAX_MESSAGE,
            peer_memory: SENDER_MEMORY,
        }
    ));
    differing
}

fn mappings(old: &Mapping, new: &Mapping) -> Vec<String> {
    compare!(old, new, TO_KAFKA_SECTION, Mapping [] {
        topic: TO_TOPIC,
        rename: RENAME,
        allowed: TO_TOPICS,
        key: TO_KEY,
        partition: TO_PARTITION,
        headers: TO_HEADERS,
        stamp: STAMP,
    })
}

fn producers(old: &ProducerConfig, new: &ProducerConfig) -> Vec<String> {
    compare!(old, new, TO_KAFKA_SECTION, ProducerConfig [route] {
        compression: COMPRESSION,
        linger: LINGER,
        batch_bytes: BATCH_SIZE,
        delivery_timeout: DELIVERY_TIMEOUT,
        producer: PRODUCER,
    })
}
