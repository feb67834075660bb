//! Tests the way from libzmq senders to the mock cluster, and what the senders are answered.

mod hostile;
mod parked;
mod quota;
mod raw;
mod shares;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use regex::Regex;
use serde_json::Value;
use zafka_bridge::rename::Rename;
use zafka_bridge::status::{IngestCounters, IngestStatus};
use zafka_bridge::template::{Fields, Template};
use zafka_bridge::zmq_to_kafka::mapping::Mapping;
use zafka_bridge::zmq_to_kafka::{IngestConfig, OnError};
use zafka_bridge::{Relay, StatusHandle};
use zafka_envelope::InboundPlan;
use zafka_kafka::config::TopicSelector;
use zafka_kafka::produce::{Compression, ProducerConfig, ProducerKind};
use zafka_sockets::config::Heartbeat;
use zafka_sockets::{InboundConfig, InboundKind};

use crate::support::{Broker, PATIENCE, SHUTDOWN, eventually, route, source};

fn template(text: &str) -> Template {
    Template::parse(text, Fields::OfMessage).unwrap()
}

fn pattern(text: &str) -> TopicSelector {
    TopicSelector::Pattern(Regex::new(text).unwrap())
}

/// A route of one socket to the topics `edge.*`.
fn ingest(kind: InboundKind, frames: &[&str]) -> IngestConfig {
    IngestConfig {
        name: "ingest".to_owned(),
        socket: InboundConfig {
            kind,
            bind: vec!["tcp://127.0.0.1:*".parse().unwrap()],
            ipc_mode: None,
            connect: Vec::new(),
            heartbeat: None,
            max_peers: 100,
            max_message: 16 << 20,
            peer_memory: 256 << 20,
            handshake_timeout: Duration::from_secs(5),
            in_flight_bytes: 32 << 20,
        },
        frames: InboundPlan::parse(frames).unwrap(),
        mapping: Mapping {
            topic: template("edge.{topic}"),
            rename: Vec::new(),
            allowed: vec![pattern("^edge\\.[a-z]+$")],
            key: Some(Template::key()),
            partition: None,
            headers: Vec::new(),
            stamp: false,
        },
        producer: ProducerConfig {
            route: "ingest".to_owned(),
            compression: Compression::None,
            linger: Duration::ZERO,
            batch_bytes: 1_000_000,
            delivery_timeout: None,
            producer: ProducerKind::default(),
        },
        on_error: OnError::Skip,
        as_peer: false,
    }
}

struct Running {
    relay: Relay,
    status: StatusHandle,
}

impl Running {
    async fn start(broker: &Broker, config: IngestConfig) -> Self {
        let relay = Relay::start(&broker.cluster(), [config]).await.unwrap();
        let status = relay.status_handle();
        Self { relay, status }
    }

    fn ingest(&self) -> IngestStatus {
        self.status.status().ingest.remove(0)
    }

    fn endpoint(&self) -> String {
        self.ingest().endpoints.remove(0)
    }

    /// Connects a libzmq socket.
    fn connect(&self, kind: zmq::SocketType) -> zmq::Socket {
        let socket = zmq::Context::new().socket(kind).unwrap();
        socket.set_linger(0).unwrap();
        socket.set_rcvtimeo(PATIENCE.as_millis() as i32).unwrap();
        socket.set_sndtimeo(PATIENCE.as_millis() as i32).unwrap();
        socket.connect(&self.endpoint()).unwrap();
        socket
    }
}

/// Runs libzmq's calls, which block, apart from the relay's tasks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

/// Reads a topic's log back by the other direction.
async fn read_log<T: Send + 'static>(
    broker: &Broker,
    topic: &str,
    read: impl FnOnce(&zmq::Socket) -> T + Send + 'static,
) -> T {
    let mut out = route(source(&[topic], None));
    out.socket.min_peers = 1;
    let relay = Relay::start(&broker.cluster(), vec![out]).await.unwrap();
    let endpoint = relay.status_handle().status().routes[0].endpoints[0].clone();
    let found = blocking(move || {
        let sub = zmq::Context::new().socket(zmq::SUB).unwrap();
        sub.set_rcvtimeo(PATIENCE.as_millis() as i32).unwrap();
        sub.set_subscribe(b"").unwrap();
        sub.connect(&endpoint).unwrap();
        read(&sub)
    })
    .await;
    relay.shutdown(SHUTDOWN).await;
    found
}

/// Waits until nothing is left of a route's messages.
async fn nothing_left(running: &Running) {
    eventually("nothing is left", || {
        let status = running.ingest();
        status.in_flight_bytes == 0 && status.senders_held == 0 && status.waiting.is_empty()
    })
    .await;
    assert_identity(&running.ingest());
}

/// Asserts that each received message is in one of the other counts, or in flight.
fn assert_identity(status: &IngestStatus) {
    let IngestCounters { received, acknowledged, refused, skipped, dead_lettered, unknown, .. } =
        status.counters;
    let settled = acknowledged + refused + skipped + dead_lettered + unknown;
    assert_eq!(received, settled + status.in_flight, "{status:?}");
    assert_eq!(status.unaccounted, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dealer_is_told_where_each_message_is() {
    const MESSAGES: usize = 2_000;
    let broker = Broker::start(&[("edge.kiln", 3)]);
    let running = Running::start(
        &broker,
        ingest(InboundKind::Router, &["{id}", "{topic}", "{key}", "{value}"]),
    )
    .await;
    let dealer = running.connect(zmq::DEALER);
    let places = blocking(move || {
        let mut places = BTreeMap::new();
        for number in 0..MESSAGES {
            let (id, key, value) =
                (format!("i{number}"), format!("k{}", number % 7), format!("v{number}"));
            dealer
                .send_multipart([id.as_bytes(), b"kiln", key.as_bytes(), value.as_bytes()], 0)
                .unwrap();
        }
        for _ in 0..MESSAGES {
            let frames = dealer.recv_multipart(0).unwrap();
            let [id, word, place] = &frames[..] else { panic!("{frames:?}") };
            assert_eq!(word, b"OK", "{:?}", json(place));
            let place = json(place);
            assert_eq!(place["topic"], "edge.kiln");
            assert!(place["timestamp"].is_i64());
            let at = (place["partition"].as_i64().unwrap(), place["offset"].as_i64().unwrap());
            let number: usize = std::str::from_utf8(&id[1..]).unwrap().parse().unwrap();
            assert_eq!(places.insert(number, at), None, "{number} is told once");
        }
        places
    })
    .await;
    let distinct: BTreeSet<_> = places.values().collect();
    assert_eq!((places.len(), distinct.len()), (MESSAGES, MESSAGES));
    // Messages of one key are in one partition, in their order.
    for key in 0..7 {
        let of_key: Vec<_> =
            places.iter().filter(|(number, _)| *number % 7 == key).map(|(_, at)| *at).collect();
        assert!(of_key.is_sorted_by(|(p, a), (q, b)| p == q && a < b), "{of_key:?}");
    }
    eventually("it is counted", || running.ingest().counters.acknowledged == MESSAGES as u64).await;
    assert_identity(&running.ingest());
    running.relay.shutdown(SHUTDOWN).await;
    // The log has what was told.
    let found = read_log(&broker, "edge.kiln", |sub| {
        let mut found = BTreeMap::new();
        for _ in 0..MESSAGES {
            let frames = sub.recv_multipart(0).unwrap();
            let meta = json(&frames[1]);
            let number: usize = std::str::from_utf8(&frames[3][1..]).unwrap().parse().unwrap();
            found.insert(
                number,
                (meta["partition"].as_i64().unwrap(), meta["offset"].as_i64().unwrap()),
            );
        }
        found
    })
    .await;
    assert_eq!(found, places);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_req_works_as_it_is() {
    let broker = Broker::start(&[("edge.kiln", 1)]);
    let running =
        Running::start(&broker, ingest(InboundKind::Router, &["{topic}", "{value}"])).await;
    let req = running.connect(zmq::REQ);
    blocking(move || {
        for number in 0..20 {
            req.send_multipart([&b"kiln"[..], format!("{number}").as_bytes()], 0).unwrap();
            let frames = req.recv_multipart(0).unwrap();
            assert_eq!(frames[0], b"OK");
            assert_eq!(json(&frames[1])["offset"], number);
        }
    })
    .await;
    running.relay.shutdown(SHUTDOWN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_is_told_in_order() {
    let broker = Broker::start(&[("edge.kiln", 1)]);
    let mut config = ingest(InboundKind::Router, &["{topic}", "{value}"]);
    let to = Template::parse("{1}", Fields::Groups(1)).unwrap();
    config.mapping.rename = vec![Rename { from: pattern("^sensor/(.+)$"), to }];
    let running = Running::start(&broker, config).await;
    let dealer = running.connect(zmq::DEALER);
    let told = blocking(move || {
        let messages: [&[&[u8]]; 8] = [
            &[b"kiln", b"1"],
            &[b"KILN", b"not allowed"],
            &[b"sensor/kiln", b"2"],
            &[b"kiln", b"one", b"too many"],
            &[b"", b"kiln", b"3"],
            &[b"\xff", b"not UTF-8"],
            &[b"absent", b"no such topic"],
            &[b"kiln", b"4"],
        ];
        for message in messages {
            dealer.send_multipart(message, 0).unwrap();
        }
        let tell = |_| {
            let frames = dealer.recv_multipart(0).unwrap();
            let [envelope @ .., word, body] = &frames[..] else { panic!("{frames:?}") };
            let body = json(body);
            let what = if word == b"OK" {
                body["offset"].to_string()
            } else {
                body["code"].as_str().unwrap().to_owned()
            };
            (envelope.len(), what)
        };
        (0..messages.len()).map(tell).collect::<Vec<_>>()
    })
    .await;
    let told: Vec<_> = told.iter().map(|(envelope, what)| (*envelope, what.as_str())).collect();
    // The mock cluster makes topics by itself; real Kafka is asked in the program's tests.
    assert_eq!(
        told[..6],
        [(0, "0"), (0, "not_allowed"), (0, "1"), (0, "bad_message"), (1, "2"), (0, "bad_message")]
    );
    assert_eq!(told[7], (0, "3"));
    let dealer = running.connect(zmq::DEALER);
    blocking(move || {
        dealer.send_multipart([&b"ZAFKA/1"[..], b"READ", b"{}"], 0).unwrap();
        let frames = dealer.recv_multipart(0).unwrap();
        assert_eq!(frames[..2], [b"ZAFKA/1".to_vec(), b"ERROR".to_vec()]);
        assert_eq!(json(&frames[2])["code"], "unsupported");
    })
    .await;
    assert_identity(&running.ingest());
    running.relay.shutdown(SHUTDOWN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_push_sent_before_the_end_is_written() {
    const MESSAGES: usize = 20_000;
    let broker = Broker::start(&[("edge.kiln", 2)]);
    let running = Running::start(&broker, ingest(InboundKind::Pull, &["{topic}", "{value}"])).await;
    let push = running.connect(zmq::PUSH);
    blocking(move || {
        for number in 0..MESSAGES {
            push.send_multipart([&b"kiln"[..], format!("{number}").as_bytes()], 0).unwrap();
        }
        push.send_multipart([&b"KILN"[..], b"skipped"], 0).unwrap();
        push.set_linger(-1).unwrap();
    })
    .await;
    eventually("all were taken", || {
        let counters = running.ingest().counters;
        counters.acknowledged == MESSAGES as u64 && counters.skipped == 1
    })
    .await;
    // Whose that was is told while the connection is there.
    assert!(running.ingest().senders.iter().all(|sender| sender.failed == 1));
    assert_identity(&running.ingest());
    running.relay.shutdown(SHUTDOWN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_with_heartbeats_outlives_a_pause_of_kafka() {
    const MESSAGES: usize = 2_000;
    let broker = Broker::start(&[("edge.kiln", 1)]);
    let mut config = ingest(InboundKind::Pull, &["{topic}", "{value}"]);
    config.socket.in_flight_bytes = 64 << 10;
    config.socket.heartbeat =
        Some(Heartbeat { interval: Duration::from_millis(500), timeout: Duration::from_secs(3) });
    let running = Running::start(&broker, config).await;
    let push = zmq::Context::new().socket(zmq::PUSH).unwrap();
    push.set_heartbeat_ivl(500).unwrap();
    push.set_heartbeat_timeout(3_000).unwrap();
    push.set_heartbeat_ttl(3_000).unwrap();
    push.connect(&running.endpoint()).unwrap();
    let send = |push: zmq::Socket, numbers: std::ops::Range<usize>| {
        blocking(move || {
            for number in numbers {
                push.send_multipart([&b"kiln"[..], format!("{number:1000}").as_bytes()], 0)
                    .unwrap();
            }
            push
        })
    };
    let push = send(push, 0..10).await;
    eventually("it is connected", || running.ingest().counters.acknowledged == 10).await;
    // Its PINGs come, and tell how often it wants to hear of us.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    broker.embedded.set_reachable(false).unwrap();
    let push = send(push, 10..MESSAGES / 2).await;
    eventually("the sender is held", || running.ingest().senders_held == 1).await;
    // Longer than its timeout.
    tokio::time::sleep(Duration::from_secs(5)).await;
    broker.embedded.set_reachable(true).unwrap();
    let push = send(push, MESSAGES / 2..MESSAGES).await;
    eventually("all were taken", || running.ingest().counters.acknowledged == MESSAGES as u64)
        .await;
    let status = running.ingest();
    assert_eq!(
        (status.counters.senders_accepted, status.senders_total),
        (1, 1),
        "it never reconnected"
    );
    assert_identity(&status);
    drop(push);
    running.relay.shutdown(SHUTDOWN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_hold_the_frames_and_the_reason() {
    let broker = Broker::start(&[("edge.kiln", 1), ("dead", 1)]);
    let mut config = ingest(InboundKind::Pull, &["{topic}", "{value}"]);
    config.on_error = OnError::DeadLetter("dead".to_owned());
    let running = Running::start(&broker, config).await;
    let push = running.connect(zmq::PUSH);
    blocking(move || {
        push.set_linger(-1).unwrap();
        push.send_multipart([&b"KILN"[..], b"v"], 0).unwrap();
        push.send_multipart([&b"kiln"[..], b"v"], 0).unwrap();
    })
    .await;
    eventually("both are settled", || {
        let counters = running.ingest().counters;
        (counters.acknowledged, counters.dead_lettered) == (1, 1)
    })
    .await;
    assert_identity(&running.ingest());
    running.relay.shutdown(SHUTDOWN).await;
    let frames = read_log(&broker, "dead", |sub| sub.recv_multipart(0).unwrap()).await;
    assert_eq!(frames[3], b"\x02\0\0\0\x04\0\0\0KILN\x01\0\0\0v");
    let headers = json(&frames[1])["headers"].clone();
    let header = |name: &str| {
        let headers = headers.as_array().unwrap();
        headers.iter().find(|header| header[0] == name).unwrap()[1].as_str().unwrap().to_owned()
    };
    assert_eq!(header("zafka.error"), "not_allowed");
    assert_eq!(header("__connect.errors.connector.name"), "ingest");
    let reason = header("__connect.errors.exception.message");
    assert!(reason.contains("edge.KILN"), "{reason}");
}
