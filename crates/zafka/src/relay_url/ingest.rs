//! `zafka relay` from a ZeroMQ socket to Kafka.

use std::path::Path;

use zafka_bridge::template::Template;
use zafka_bridge::zmq_to_kafka::IngestConfig;
use zafka_bridge::zmq_to_kafka::mapping::Mapping;
use zafka_envelope::InboundPlan;
use zafka_kafka::config::ClusterConfig;
use zafka_kafka::produce::ProducerConfig;
use zafka_sockets::{Endpoint, InboundConfig, InboundKind};

use super::{Mistakes, Query, ROUTE, brings_credentials, split_query};
use crate::config::text::{self, InboundSocketType};
use crate::redact::redacted;

const SOURCE: &str =
    "pull+tcp://, sub+tcp://, router+tcp://, each also as +ipc:// and +connect+tcp://";
const DESTINATION: &str = "kafka://HOST:PORT[,HOST:PORT]/TOPIC?topics=NAME";
const SOURCE_KEYS: &[&str] = &["frames", "subscribe"];
const DESTINATION_KEYS: &[&str] = &["topics"];

/// Returns true if a URL is that of a socket that takes messages.
pub(super) fn is_source(url: &str) -> bool {
    let scheme = url.split("://").next().unwrap_or_default();
    let socket = scheme.split('+').next().unwrap_or_default();
    scheme.contains('+') && text::INBOUND_SOCKET.read(socket).is_ok()
}

/// Returns true if these are the keys of this direction.
pub(super) fn is_ingest_key(keys: &[&str]) -> bool {
    keys == SOURCE_KEYS || keys == DESTINATION_KEYS
}

/// The cluster and the route of two URLs.
pub(super) fn route(
    source: &str,
    destination: &str,
    defaults: IngestConfig,
    mistakes: &mut Mistakes,
) -> Option<(ClusterConfig, IngestConfig)> {
    let from = from_zmq(source, defaults.frames, defaults.socket, mistakes);
    let frames = from.as_ref().map(|(_, frames)| frames);
    let to = to_kafka(destination, frames, mistakes);
    let ((socket, frames), (cluster, mapping)) = (from?, to?);
    let producer = ProducerConfig { route: ROUTE.to_owned(), ..defaults.producer };
    let on_error = defaults.on_error;
    let name = ROUTE.to_owned();
    // It needs a configuration file, with [identity].
    let as_peer = false;
    Some((cluster, IngestConfig { name, socket, frames, mapping, producer, on_error, as_peer }))
}

fn from_zmq(
    url: &str,
    frames: InboundPlan,
    defaults: InboundConfig,
    mistakes: &mut Mistakes,
) -> Option<(InboundConfig, InboundPlan)> {
    if !url.contains("ipc://") && brings_credentials(url, SOURCE_KEYS) {
        return mistakes.credentials("SOURCE", url, SOURCE);
    }
    let unknown = |mistakes: &mut Mistakes| {
        mistakes.add("SOURCE", format!("found {:?}", redacted(url)), SOURCE)
    };
    let Some((scheme, rest)) = url.split_once("://") else { return unknown(mistakes) };
    let parts: Vec<_> = scheme.split('+').collect();
    let (socket, connects, transport) = match parts[..] {
        [socket, transport @ ("tcp" | "ipc")] => (socket, false, transport),
        [socket, "connect", transport @ ("tcp" | "ipc")] => (socket, true, transport),
        _ => return unknown(mistakes),
    };
    let Ok(socket) = text::INBOUND_SOCKET.read(socket) else { return unknown(mistakes) };
    let (address, query) = split_query(rest);
    let query = Query::parse("SOURCE", query, SOURCE_KEYS, mistakes);
    // A path on the command line is relative to the working directory.
    let read: fn(&str, &Path) -> text::Parsed<Endpoint> =
        if connects { text::connect } else { text::bind };
    let endpoint = mistakes
        .decoded("SOURCE", address, |text| read(&format!("{transport}://{text}"), Path::new("")));
    let default = (socket != InboundSocketType::Router).then_some(frames);
    let frames = query.frames(default, text::inbound_preset, InboundPlan::parse, mistakes);
    let prefixes = query.values("subscribe");
    let kind = match socket {
        InboundSocketType::Sub if prefixes.is_empty() => mistakes.add(
            "SOURCE subscribe",
            "missing",
            "a prefix for each time the key is there; an empty one is everything",
        ),
        InboundSocketType::Sub => {
            let read = |raw: &str| Ok(raw.as_bytes().to_vec());
            let prefixes =
                prefixes.into_iter().map(|raw| mistakes.decoded("SOURCE subscribe", raw, read));
            prefixes.collect::<Option<_>>().map(InboundKind::Sub)
        }
        _ if !prefixes.is_empty() => {
            mistakes.add("SOURCE subscribe", "not for this socket type", "only with sub+")
        }
        InboundSocketType::Pull => Some(InboundKind::Pull),
        InboundSocketType::Router => Some(InboundKind::Router),
    };
    let endpoint = vec![endpoint?.into()];
    let (bind, connect) = if connects { (Vec::new(), endpoint) } else { (endpoint, Vec::new()) };
    let socket = InboundConfig { kind: kind?, bind, connect, ..defaults };
    Some((socket, frames?))
}

fn to_kafka(
    url: &str,
    frames: Option<&InboundPlan>,
    mistakes: &mut Mistakes,
) -> Option<(ClusterConfig, Mapping)> {
    if brings_credentials(url, DESTINATION_KEYS) {
        return mistakes.credentials(
            "DESTINATION",
            url,
            "kafka.security.sasl of a file (zafka run -c FILE)",
        );
    }
    let Some((rest, query)) = url.strip_prefix("kafka://").map(split_query) else {
        return mistakes.add("DESTINATION", format!("found {:?}", redacted(url)), DESTINATION);
    };
    let query = Query::parse("DESTINATION", query, DESTINATION_KEYS, mistakes);
    let (servers, topic) = rest.split_once('/').unwrap_or((rest, ""));
    let servers =
        servers.split(',').map(|raw| mistakes.decoded("DESTINATION brokers", raw, text::broker));
    let servers = servers.collect::<Vec<_>>();
    let topic = mistakes.decoded("DESTINATION topic", topic, text::written_template);
    let allowed = query.values("topics").into_iter();
    let allowed: Vec<_> = allowed
        .map(|raw| mistakes.decoded("DESTINATION topics", raw, text::written_topic))
        .collect();
    let topic = topic?;
    if !topic.is_constant() && allowed.is_empty() {
        let wanted = "the topics that senders may write to: NAME or /^PATTERN$/, for each time the \
                      key is there";
        return mistakes.add("DESTINATION topics", "missing: the topic has a field", wanted);
    }
    if topic.has_topic() && frames.is_some_and(|frames| !frames.has_topic()) {
        return mistakes.add(
            "DESTINATION topic",
            "the messages carry no topic",
            "a topic without {topic}",
        );
    }
    let cluster = ClusterConfig::new(servers.into_iter().collect::<Option<_>>()?);
    let mapping = Mapping {
        topic,
        rename: Vec::new(),
        allowed: allowed.into_iter().collect::<Option<_>>()?,
        key: frames.filter(|frames| frames.has_key()).map(|_| Template::key()),
        partition: None,
        headers: Vec::new(),
        stamp: false,
    };
    Some((cluster, mapping))
}
