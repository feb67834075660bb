//! Senders of other implementations.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use zafka_testkit::{Acknowledged, Kind, Peer, Place, Sending, wait_until};

use super::{Ingest, assert_identity, topic};
use crate::DEADLINE;
use crate::common::endpoint;

/// Starts a sender. JeroMQ now and then connects and then does nothing for good, not even its
/// greeting (once in some hundred starts, on a machine with much else to do): a sender that nothing
/// is heard of gives way to another.
fn sender(ingest: &Ingest, kind: Kind, sending: &Sending<'_>) -> Peer {
    let first = Peer::send(kind, &ingest.endpoint, sending);
    let patience = Instant::now() + DEADLINE / 4;
    while kind == Kind::Java && !is_heard_of(ingest) {
        if Instant::now() > patience {
            drop(first);
            return Peer::send(kind, &ingest.endpoint, sending);
        }
        sleep(Duration::from_millis(20));
    }
    first
}

/// Returns true if a message has come.
fn is_heard_of(ingest: &Ingest) -> bool {
    ingest.counters().is_some_and(|counters| counters["received"] != 0)
}

/// Sends by a socket that is answered, and checks every answer against the log.
fn is_told_truly(kind: Kind, socket: &str, count: usize) {
    let (node, topic) = topic("answered", 3, &[]);
    let from = r#"socket = "router", frames = ["{id}", "{topic}", "{key}", "{value}"]"#;
    let mut ingest = Ingest::start(node.bootstrap(), from, &format!("topics = [\"{topic}\"]"));
    let sending =
        Sending { way: "connect", socket, topic: &topic, count, window: 200, value_size: 100 };
    let mut peer = sender(&ingest, kind, &sending);
    let answers = peer.wait_messages(count, DEADLINE);
    let mut told = Acknowledged::default();
    for number in 0..count {
        told.message(Some(&sending.key(number)), &sending.value(number));
        told.sent("its connection", number);
    }
    for answer in &answers {
        let [id, word, body] = &answer[..] else { panic!("{answer:?}") };
        let body: Value = serde_json::from_slice(body).unwrap();
        assert_eq!((&word[..], &body["topic"]), (&b"OK"[..], &topic.as_str().into()), "{body}");
        let number = std::str::from_utf8(id).unwrap().parse().unwrap();
        let partition = i32::try_from(body["partition"].as_i64().unwrap()).unwrap();
        let place = Place { partition, offset: Some(body["offset"].as_i64().unwrap()) };
        told.written("its connection", number, place);
    }
    told.assert_all(&node.admin().read(&topic));
    assert_identity(&ingest.wait_acknowledged(count));
}

/// Sends by a PUSH, all of which is in the log, in its order.
fn is_written(kind: Kind, count: usize) {
    let (node, topic) = topic("pushed", 1, &[]);
    let from = r#"socket = "pull", frames = ["{topic}", "{key}", "{value}"]"#;
    let mut ingest = Ingest::start(node.bootstrap(), from, &format!("topics = [\"{topic}\"]"));
    let sending = Sending {
        way: "connect",
        socket: "push",
        topic: &topic,
        count,
        window: 0,
        value_size: 100,
    };
    let mut peer = sender(&ingest, kind, &sending);
    assert_identity(&ingest.wait_acknowledged(count));
    let expected: Vec<_> = (0..count).map(|number| sending.value(number)).collect();
    let log = node.admin().read(&topic);
    let found: Vec<_> = log.into_iter().map(|record| record.value.unwrap()).collect();
    assert!(found == expected, "{} of {count}", found.len());
    assert!(peer.wait_exit(DEADLINE).unwrap().success(), "{}", peer.process().log());
}

/// Hears a PUB that is bound: from some message on, all of it is in the log.
fn is_heard(kind: Kind) {
    const MESSAGES: usize = 1_000;
    let (node, topic) = topic("heard", 1, &[]);
    let endpoint = endpoint();
    let from = format!(
        "socket = \"sub\", connect = [\"{endpoint}\"], subscribe = [\"{topic}\"], \
         frames = [\"{{topic}}\", \"{{key}}\", \"{{value}}\"]"
    );
    let to = format!("topics = [\"{topic}\"]");
    let ingest = Ingest::start_at(&endpoint, node.bootstrap(), &from, &to);
    let sending = Sending {
        way: "bind",
        socket: "pub",
        topic: &topic,
        count: MESSAGES,
        window: 0,
        value_size: 100,
    };
    // One that ended before it was heard tells nothing: another one begins.
    let mut peer = Peer::send(kind, &endpoint, &sending);
    let mut last = Vec::new();
    wait_until("the last message to be in the log", 2 * DEADLINE, || {
        let log = node.admin().read(&topic);
        last = log.into_iter().map(|record| record.value.unwrap()).collect();
        let is_done = last.last() == Some(&sending.value(MESSAGES - 1));
        if !is_done && !peer.process().is_running() && last.is_empty() {
            peer = Peer::send(kind, &endpoint, &sending);
        }
        is_done
    });
    let first = MESSAGES - last.len();
    let expected: Vec<_> = (first..MESSAGES).map(|number| sending.value(number)).collect();
    assert!(last == expected, "{} messages", last.len());
    wait_until("all to be settled", DEADLINE, || {
        ingest.route().is_some_and(|route| route["in_flight"] == 0)
    });
    assert_identity(&ingest.route().unwrap());
}

#[test]
#[ignore = "needs Java, Maven and Python"]
fn python() {
    is_told_truly(Kind::Python, "dealer", 3_000);
    is_told_truly(Kind::Python, "req", 200);
    is_written(Kind::Python, 3_000);
    is_heard(Kind::Python);
}

#[test]
#[ignore = "needs Java, Maven and Node"]
fn node() {
    is_told_truly(Kind::Node, "dealer", 3_000);
    is_told_truly(Kind::Node, "req", 200);
    is_written(Kind::Node, 3_000);
    is_heard(Kind::Node);
}

#[test]
#[ignore = "needs Java and Maven"]
fn java() {
    is_told_truly(Kind::Java, "dealer", 2_000);
    is_told_truly(Kind::Java, "req", 100);
    is_written(Kind::Java, 2_000);
}

#[test]
#[ignore = "needs Java, Maven, Go and libzmq3-dev"]
fn go() {
    is_told_truly(Kind::GoPebbe, "dealer", 2_000);
    is_written(Kind::GoPebbe, 2_000);
}
