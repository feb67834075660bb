//! `[[route]]` from ZeroMQ to Kafka: `from.zmq` and `to.kafka`.

use zafka_bridge::template::{Fields, Template};
use zafka_bridge::zmq_to_kafka::mapping::{Mapping, is_legal};
use zafka_bridge::zmq_to_kafka::{IngestConfig, OnError};
use zafka_envelope::{InboundPlan, Preset};
use zafka_kafka::produce::{ProducerConfig, ProducerKind};
use zafka_sockets::config::Limits;
use zafka_sockets::{InboundConfig, InboundKind};

use super::endpoints::Securing;
use super::keys;
use super::reader::Table;
use super::rename;
use super::socket::{self, ReadSocket, Role};
use super::text::{self, ErrorPolicy, InboundSocketType};

/// A route, if it could be put together, and what of its socket is compared with others.
pub fn route(
    name: Option<&str>,
    from: Option<&Table<'_, '_>>,
    to: Option<&Table<'_, '_>>,
    securing: &Securing,
) -> (Option<ReadSocket>, Option<IngestConfig>) {
    let socket_type =
        from.and_then(|from| from.choice(&keys::INBOUND_SOCKET, &text::INBOUND_SOCKET));
    let (read, served) = from.map(|from| socket(from, socket_type, securing)).unzip();
    let frames = from.and_then(|from| frames(from, socket_type));
    let written = to.map(|to| written(to, name.unwrap_or_default(), socket_type, frames.as_ref()));
    let as_peer = to.map(|to| as_peer(to, socket_type, securing));
    if let (Some(to), Some(Some((_, _, OnError::Stop, _)))) = (to, &written)
        && securing.is_on()
    {
        let text =
            "every sender that may write can stop the route, by one message that cannot be written";
        to.warn(&keys::ON_ERROR, text.to_owned());
    }
    let config = || {
        let (mapping, producer, on_error, in_flight_bytes) = written.flatten()?;
        let socket = InboundConfig { in_flight_bytes, ..served.flatten()? };
        Some(IngestConfig {
            name: name?.to_owned(),
            socket,
            frames: frames?,
            mapping,
            producer,
            on_error,
            as_peer: as_peer.flatten()?,
        })
    };
    (read, config())
}

fn socket(
    table: &Table<'_, '_>,
    socket_type: Option<InboundSocketType>,
    securing: &Securing,
) -> (ReadSocket, Option<InboundConfig>) {
    let is_sub = socket_type == Some(InboundSocketType::Sub);
    let role = if is_sub { Role::Subscribes } else { Role::Other };
    let read = ReadSocket::read(table, "route.from.zmq", role, securing);
    let config = inbound(table, socket_type, &read);
    (read, config)
}

fn inbound(
    table: &Table<'_, '_>,
    socket_type: Option<InboundSocketType>,
    read: &ReadSocket,
) -> Option<InboundConfig> {
    let ipc_mode = table.text(&keys::IPC_MODE, text::mode);
    let is_sub = socket_type == Some(InboundSocketType::Sub);
    if table.has(&keys::SUBSCRIBE) && socket_type.is_some() && !is_sub {
        table.mistake(&keys::SUBSCRIBE, "not for this socket type", "only with `socket = \"sub\"`");
    }
    if is_sub && !table.has(&keys::SUBSCRIBE) {
        table.mistake(&keys::SUBSCRIBE, "missing", "a list of prefixes; [\"\"] is everything");
    }
    let prefixes =
        table.list(&keys::SUBSCRIBE, |text| Ok(text.as_bytes().to_vec())).unwrap_or_default();
    let max_peers = table.count(&keys::MAX_PEERS);
    let max_message = table.count(&keys::MAX_MESSAGE);
    let peer_memory = table.count(&keys::SENDER_MEMORY);
    Some(InboundConfig {
        kind: match socket_type? {
            InboundSocketType::Pull => InboundKind::Pull,
            InboundSocketType::Sub => {
                InboundKind::Sub(prefixes.into_iter().map(|(prefix, _)| prefix).collect())
            }
            InboundSocketType::Router => InboundKind::Router,
        },
        bind: read.bind.clone(),
        ipc_mode,
        connect: read.connect.clone(),
        heartbeat: socket::heartbeat(table),
        max_peers: max_peers?,
        max_message: max_message?,
        peer_memory: peer_memory?,
        handshake_timeout: Limits::default().handshake_timeout,
        in_flight_bytes: 0,
    })
}

fn frames(table: &Table<'_, '_>, socket_type: Option<InboundSocketType>) -> Option<InboundPlan> {
    if !table.has(&keys::INBOUND_FRAMES) {
        if socket_type == Some(InboundSocketType::Router) {
            table.mistake(
                &keys::INBOUND_FRAMES,
                "missing",
                "a preset or a list of templates: required for `router`",
            );
            return None;
        }
        return Some(InboundPlan::preset(Preset::Json));
    }
    socket::frames(table, &keys::INBOUND_FRAMES, text::inbound_preset, InboundPlan::parse)
}

type Written = (Mapping, ProducerConfig, OnError, usize);

fn written(
    table: &Table<'_, '_>,
    route: &str,
    socket_type: Option<InboundSocketType>,
    frames: Option<&InboundPlan>,
) -> Option<Written> {
    let mapping = mapping(table, frames);
    let compression = table.choice(&keys::COMPRESSION, &text::COMPRESSION);
    let linger = table.duration(&keys::LINGER);
    let batch_bytes = table.count(&keys::BATCH_SIZE);
    let in_flight_bytes = table.count(&keys::IN_FLIGHT_BYTES);
    let delivery_timeout = table.duration(&keys::DELIVERY_TIMEOUT);
    let producer = table.choice(&keys::PRODUCER, &text::PRODUCER);
    let on_error = on_error(table, socket_type);
    Some((
        mapping?,
        ProducerConfig {
            route: route.to_owned(),
            compression: compression?,
            linger: linger?,
            batch_bytes: batch_bytes?,
            delivery_timeout,
            producer: producer?,
        },
        on_error?,
        in_flight_bytes?,
    ))
}

/// Reads whether records are written in their senders' names, and reports if they cannot be.
fn as_peer(
    table: &Table<'_, '_>,
    socket_type: Option<InboundSocketType>,
    securing: &Securing,
) -> Option<bool> {
    let as_peer = table.flag(&keys::AS_PEER)?;
    if !as_peer {
        return Some(false);
    }
    let key = &keys::AS_PEER;
    if socket_type.is_some_and(|socket_type| socket_type != InboundSocketType::Router) {
        let found = "the senders of `pull` and `sub` cannot be told that Kafka refuses them";
        table.mistake(key, found, "only with `socket = \"router\"`");
    }
    if securing.has_exchange() == Some(false) {
        let found = "`[identity.exchange]` is missing, by which senders' tokens are exchanged";
        table.mistake(key, found, "true only together with `[identity.exchange]`");
    }
    if table.choice(&keys::PRODUCER, &text::PRODUCER) == Some(ProducerKind::Librdkafka) {
        let found = "librdkafka does not write in the names of senders";
        table.mistake(key, found, "only with `producer = \"fast\"`");
    }
    Some(true)
}

fn on_error(table: &Table<'_, '_>, socket_type: Option<InboundSocketType>) -> Option<OnError> {
    let on_error = table.choice(&keys::ON_ERROR, &text::ON_ERROR);
    let name = |text: &str| text::legal_name(text, "a topic's name");
    let dead_letter = table.text(&keys::DEAD_LETTER, name);
    if socket_type == Some(InboundSocketType::Router) {
        for key in [&keys::ON_ERROR, &keys::DEAD_LETTER] {
            if table.has(key) {
                table.mistake(
                    key,
                    "the senders of a `router` are told",
                    "only with `pull` and `sub`",
                );
            }
        }
    }
    if table.has(&keys::DEAD_LETTER) {
        if table.has(&keys::ON_ERROR) {
            table.mistake(&keys::ON_ERROR, "`dead_letter` is there too", "one of the two");
        }
        return dead_letter.map(OnError::DeadLetter);
    }
    on_error.map(|policy| match policy {
        ErrorPolicy::Skip => OnError::Skip,
        ErrorPolicy::Stop => OnError::Stop,
    })
}

fn mapping(table: &Table<'_, '_>, frames: Option<&InboundPlan>) -> Option<Mapping> {
    let topic = table.text(&keys::TO_TOPIC, text::written_template);
    let allowed = table.readable(&keys::TO_TOPICS, text::written_topic);
    let rename = rename::list(table, &keys::RENAME, written_name);
    let key = table.text(&keys::TO_KEY, text::template);
    let partition = table.text(&keys::TO_PARTITION, text::template);
    let headers =
        table.texts(&keys::TO_HEADERS, |text| text::template(text).map(|_| text.to_owned()));
    let stamp = table.flag(&keys::STAMP);
    let topic = topic?;
    check_topic(table, &topic, frames);
    let key = match (table.has(&keys::TO_KEY), frames) {
        (true, _) => Some(key?),
        (false, Some(frames)) if frames.has_key() => Some(Template::key()),
        (false, _) => None,
    };
    let headers = headers.into_iter().filter_map(|(name, text)| {
        if name.starts_with("zafka.") {
            table.mistake(
                &keys::TO_HEADERS,
                format!("found the header {name:?}"),
                "names that do not begin with \"zafka.\"",
            );
        }
        Some((name, Template::parse(&text, Fields::OfMessage).ok()?))
    });
    let headers = headers.collect();
    let allowed = allowed.into_iter().map(|(topic, _)| topic).collect();
    let mapping = Mapping { topic, rename, allowed, key, partition, headers, stamp: stamp? };
    if let Some(topic) = mapping.topic.constant().filter(|topic| !mapping.allows(topic)) {
        let found = format!("{topic:?} is not among `topics`, so that nothing could be written");
        table.mistake(&keys::TO_TOPIC, found, "one of them");
    }
    Some(mapping)
}

fn check_topic(table: &Table<'_, '_>, topic: &Template, frames: Option<&InboundPlan>) {
    if !topic.is_constant() && !table.has(&keys::TO_TOPICS) {
        let allowed = "the topics that senders may write to, such as [\"/^edge\\\\.[a-z]+$/\"]";
        table.mistake(&keys::TO_TOPICS, "missing: `topic` has a field", allowed);
    }
    if topic.has_topic() && frames.is_some_and(|frames| !frames.has_topic()) {
        let allowed = "a `topic` without {topic}, or frames that have one";
        table.mistake(&keys::TO_TOPIC, "the messages carry no topic", allowed);
    }
}

/// Returns the fault of a constant name that the message's topic is changed to, if it has one.
fn written_name(name: &str) -> Option<&'static str> {
    let is_fine = is_legal(name) && !name.starts_with("__");
    (!is_fine).then_some("1 to 249 letters, digits, '.', '_' and '-', and no internal topic")
}
