//! The admin server on a live relay.

use std::io::Write;
use std::net::TcpStream;
use std::process::{Command, Stdio};

use serde_json::Value;
use zafka_kafka::embedded::{EmbeddedBroker, EmbeddedRecord};
use zafka_testkit::{KafkaNode, LibzmqSub, Proxy, Sequence, Zafka, ports, unique, wait_until};

use crate::common::{OneRoute, RouteToml, endpoint, is_at, relay_toml};
use crate::{DEADLINE, ZAFKA};

#[test]
#[ignore = "needs Java and Maven"]
fn healthy_before_ready() {
    let kafka = KafkaNode::shared();
    let topic = unique("ready");
    kafka.admin().create_topic(&topic, 1, &[]);
    // There is no listener yet. A client goes on to the address that the broker tells.
    let proxy = Proxy::start(&format!("127.0.0.1:{}", ports::free_port()));
    let [one, other] = [endpoint(), endpoint()].map(|endpoint| format!("bind = [\"{endpoint}\"]"));
    let from = format!("topics = [\"{topic}\"], group = \"{topic}\"");
    let missing = format!("topics = [\"{topic}\", \"{topic}-later\"], topic_refresh = \"1s\"");
    let routes = [
        RouteToml { name: "one", from: &from, to: &one },
        RouteToml { name: "other", from: &missing, to: &other },
    ];
    let mut relay = Zafka::run(ZAFKA, &relay_toml(&proxy.address(), &routes));
    relay.wait_log("admin server listens", DEADLINE);
    assert_eq!(relay.get("/healthz").unwrap(), (200, "ok\n".to_owned()));
    let not_ready = |relay: &Zafka| -> (u16, Vec<(String, String)>) {
        let (code, body) = relay.get("/readyz").unwrap();
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["ready"], code == 200, "{body}");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let routes = body["not_ready"].as_array().unwrap().iter();
        (code, routes.map(|route| (text(&route["route"]), text(&route["reason"]))).collect())
    };
    let (code, reasons) = not_ready(&relay);
    assert_eq!((code, reasons.len()), (503, 2), "{reasons:?}");

    proxy.set_upstream(kafka.listener());
    wait_until("one route to be ready, and the other's topic to be missed", DEADLINE, || {
        let (code, reasons) = not_ready(&relay);
        let [(route, reason)] = reasons.as_slice() else { return false };
        (code, route.as_str()) == (503, "other") && reason.contains(&format!("{topic}-later"))
    });
    kafka.admin().create_topic(&format!("{topic}-later"), 1, &[]);
    wait_until("all of it to be ready", DEADLINE, || not_ready(&relay) == (200, vec![]));
    assert_eq!(relay.get("/nothing").unwrap().0, 404);
}

#[test]
#[ignore = "needs Java and Maven"]
fn status_tells_positions_and_peers() {
    let kafka = KafkaNode::shared();
    let topic = unique("status");
    kafka.admin().create_topic(&topic, 2, &[]);
    let produced = Sequence { partitions: vec![0, 1], ..Sequence::new(&topic, 1000) };
    kafka.admin().produce_sequence(&produced);
    let from = format!("topics = [\"{topic}\"], group = \"{topic}\", start = \"earliest\"");
    let mut route = OneRoute::lossless(kafka.bootstrap(), &from);
    let before = route.relay.wait_status("lag", DEADLINE, |status| {
        let partitions = status["routes"][0]["partitions"].as_array();
        partitions.is_some_and(|all| {
            all.len() == 2 && all.iter().all(|partition| partition["lag"] == 500)
        })
    });
    for partition in before["routes"][0]["partitions"].as_array().unwrap() {
        let fields = ["delivered", "committed"].map(|name| partition[name].as_i64());
        assert_eq!(fields, [Some(0), Some(0)], "nothing moves without a peer: {partition}");
    }
    assert_eq!(before["routes"][0]["peers"], serde_json::json!([]));

    let sub = LibzmqSub::connect(route.endpoint(), &[&topic, "other"]);
    sub.wait_messages(1000, DEADLINE);
    let status = route.relay.wait_status("everything to be committed", DEADLINE, |status| {
        (0..2).all(|number| {
            is_at(status, &topic, number, 500)
                && crate::common::partition(status, &topic, number)["committed"] == 500
        })
    });
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    let found = &status["routes"][0];
    assert_eq!((&found["name"], &found["group"]), (&"orders".into(), &topic.as_str().into()));
    for partition in found["partitions"].as_array().unwrap() {
        assert_eq!(
            (&partition["topic"], &partition["read"]),
            (&topic.as_str().into(), &500.into())
        );
    }
    let [peer] = found["peers"].as_array().unwrap().as_slice() else {
        panic!("one peer: {found:#}")
    };
    assert!(
        peer["address"].as_str().is_some_and(|address| address.starts_with("127.0.0.1:")),
        "{peer:#}"
    );
    let mut subscriptions: Vec<String> =
        serde_json::from_value(peer["subscriptions"].clone()).unwrap();
    subscriptions.sort();
    assert_eq!(subscriptions, ["other", topic.as_str()]);
    for (name, value) in [("bytes_queued", 0), ("messages_sent", 1000), ("messages_dropped", 0)] {
        assert_eq!(peer[name], value, "{name}: {peer:#}");
    }
    // Milliseconds since the epoch.
    assert!(peer["connected_since"].as_i64() > Some(1_700_000_000_000), "{peer:#}");
    drop(sub);
    route.relay.wait_status("the peer to go", DEADLINE, |status| {
        status["routes"][0]["peers"].as_array().is_some_and(Vec::is_empty)
    });
}

#[test]
#[ignore = "needs Java, Maven and promtool"]
fn promtool_finds_the_metrics_clean() {
    let kafka = KafkaNode::shared();
    let topic = unique("metrics");
    kafka.admin().create_topic(&topic, 2, &[]);
    kafka
        .admin()
        .produce_sequence(&Sequence { partitions: vec![0, 1], ..Sequence::new(&topic, 100) });
    let from = format!("topics = [\"{topic}\"], group = \"{topic}\", start = \"earliest\"");
    let mut route = OneRoute::lossless(kafka.bootstrap(), &from);
    let sub = route.subscribe(&[""]);
    sub.wait_messages(100, DEADLINE);
    // A peer that has gone leaves a reason behind.
    drop(route.subscribe(&[""]));
    route.relay.wait_status("a closed peer", DEADLINE, |status| {
        let closed = status["routes"][0]["counters"]["peers_closed"].as_array();
        closed.is_some_and(|closed| !closed.is_empty())
            && is_at(status, &topic, 0, 50)
            && is_at(status, &topic, 1, 50)
    });
    let (code, text) = route.relay.get("/metrics").unwrap();
    assert_eq!(code, 200, "{text}");
    let mut promtool = Command::new("promtool");
    promtool
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut promtool = promtool.spawn().expect("promtool (Debian: prometheus) is there");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let found = promtool.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&found.stdout) + String::from_utf8_lossy(&found.stderr);
    assert!(found.status.success() && told.is_empty(), "{told}\n{text}");
    for sample in [
        "zafka_records_read_total{route=\"orders\"} 100".to_owned(),
        "zafka_messages_sent_total{route=\"orders\"} 100".to_owned(),
        "zafka_route_ready{route=\"orders\"} 1".to_owned(),
        format!(
            "zafka_partition_delivered_offset\
             {{partition=\"1\",route=\"orders\",topic=\"{topic}\"}} 50"
        ),
        format!("zafka_partition_lag{{partition=\"0\",route=\"orders\",topic=\"{topic}\"}} 0"),
    ] {
        assert!(text.lines().any(|line| line == sample), "{sample}\n{text}");
    }
}

/// A SUB that has subscribed to everything and reads nothing.
fn stuck_peer(endpoint: &str) -> TcpStream {
    let mut stream = TcpStream::connect(endpoint.trim_start_matches("tcp://")).unwrap();
    let mut bytes = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 3, 1];
    bytes.extend_from_slice(b"NULL");
    bytes.resize(64, 0);
    bytes.extend_from_slice(b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03SUB");
    bytes.extend_from_slice(b"\x00\x01\x01");
    stream.write_all(&bytes).unwrap();
    stream
}

#[test]
fn waits_are_ready_and_faults_are_not() {
    const PARTITIONS: i32 = 4;
    let broker = EmbeddedBroker::start().unwrap();
    broker.create_topic("orders", PARTITIONS).unwrap();
    let from = "topics = [\"orders\"], group = \"g\", start = \"earliest\", stall_timeout = \"1s\"";
    let to = "ring_bytes = \"64KiB\", slow_peer = \"block\", min_peers = 1";
    let route = OneRoute::start(&broker.bootstrap(), from, to);
    let ready = |kind: &str| {
        let Ok((code, body)) = route.relay.get("/readyz") else { return false };
        let body: Value = serde_json::from_str(&body).unwrap();
        let waiting = body["waiting"].as_array().unwrap();
        code == 200 && waiting.iter().any(|wait| wait["route"] == "orders" && wait["kind"] == kind)
    };
    wait_until("a wait for subscribers", DEADLINE, || ready("subscribers"));

    // More than the kernel holds for a peer that takes nothing.
    let producer = broker.producer().unwrap();
    let value = vec![b'x'; 100_000];
    for number in 0..PARTITIONS * 45 {
        let partition = Some(number % PARTITIONS);
        let record = EmbeddedRecord {
            topic: "orders",
            partition,
            value: Some(&value),
            ..EmbeddedRecord::default()
        };
        producer.send(&record).unwrap();
    }
    producer.flush(DEADLINE).unwrap();
    let stuck = stuck_peer(route.endpoint());
    wait_until("a wait for the peer", DEADLINE, || ready("peer"));
    let address = stuck.local_addr().unwrap().to_string();
    let (code, body) = route.relay.get("/readyz").unwrap();
    assert!(code == 200 && body.contains(&address), "{body}");
    let (_, metrics) = route.relay.get("/metrics").unwrap();
    let sample = "zafka_waiting_seconds{kind=\"peer\",route=\"orders\"} ";
    let waited = metrics.lines().find_map(|line| line.strip_prefix(sample)).unwrap();
    assert!(waited.parse::<f64>().unwrap() > 0.0, "{waited}");

    // A fault is one, whatever is waited for.
    broker.set_reachable(false).unwrap();
    wait_until("the broker to be missed", DEADLINE, || {
        route
            .relay
            .get("/readyz")
            .is_ok_and(|(code, body)| code == 503 && body.contains("no broker"))
    });
    broker.set_reachable(true).unwrap();
    wait_until("a wait for the peer again", DEADLINE, || ready("peer"));
    drop(stuck);
    wait_until("a wait for subscribers again", DEADLINE, || ready("subscribers"));
}
