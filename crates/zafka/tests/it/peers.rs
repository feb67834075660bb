//! SUBs of every implementation: each receives every message, byte for byte.

use std::time::Duration;

use zafka_testkit::{Checker, KafkaNode, Kind, LibzmqSub, Peer, Record, Session, Zafka, unique};

use crate::common::{RouteToml, endpoint, relay_toml};
use crate::{DEADLINE, ZAFKA, decoded};

type Messages = Vec<Vec<Vec<u8>>>;

/// Peers of six implementations start, one after the other, on a busy machine.
const ALL_STARTED: Duration = Duration::from_secs(120);

/// Records that a careless peer, or a careless relay, would not carry over.
fn stream() -> Vec<Record> {
    let bytes = |size: usize, seed: usize| -> Vec<u8> {
        (0..size).map(|at| ((at * 7 + seed) % 256) as u8).collect()
    };
    let all: Vec<u8> = (0..=255).collect();
    let mut records = vec![
        Record::default(),
        Record::new("", ""),
        Record { key: Some(vec![]), ..Record::default() },
        Record { value: Some(vec![]), ..Record::default() },
        Record::new(all.clone(), all),
        Record::new(vec![0], vec![0; 1000]),
        Record {
            headers: vec![("h".into(), None), ("h".into(), Some(vec![0xff]))],
            ..Record::new("k", "v")
        },
    ];
    // Around the sizes at which a ZMTP frame gets a long header.
    records.extend((253..=258).map(|size| Record::new(bytes(size, 1), bytes(size, 2))));
    for number in 0..500 {
        records.push(Record::new(bytes(number % 40, number), bytes(number, number)));
        if number % 125 == 60 {
            records.push(Record::new(format!("large {number}"), bytes(1_000_000, number)));
        }
    }
    records
}

/// Three topics, one of which no prefix matches that is the name of the first.
struct Topics {
    checker: Checker,
    name: String,
    /// Records that a subscriber to `name` is owed.
    count: usize,
}

impl Topics {
    fn create() -> Self {
        let admin = KafkaNode::shared().admin();
        let name = unique("peers");
        for topic in [&name, &format!("{name}-eu"), &format!("no-{name}")] {
            admin.create_topic(topic, 1, &[]);
        }
        Self { checker: Checker::new(), name, count: 0 }
    }

    /// Topics for `from.kafka`.
    fn from(&self) -> String {
        let name = &self.name;
        format!(
            r#"topics = ["{name}", "{name}-eu", "no-{name}"], group = "{name}", start = "earliest""#
        )
    }

    fn write(&mut self) {
        let admin = KafkaNode::shared().admin();
        let records = stream();
        for topic in [&self.name, &format!("{}-eu", self.name)] {
            for (record, at) in records.iter().zip(admin.produce(topic, &records)) {
                self.checker.expect_payload(
                    topic,
                    at,
                    record.key.as_deref(),
                    record.value.as_deref(),
                );
            }
        }
        admin.produce(&format!("no-{}", self.name), &records[..100]);
        self.count = self.checker.len();
    }
}

/// Reports the first difference between two peers' messages; they are too large to be printed.
fn assert_same(who: &str, found: &Messages, expected: &Messages) {
    assert_eq!(found.len(), expected.len(), "{who}: number of messages");
    let first = found.iter().zip(expected).position(|(found, expected)| found != expected);
    assert_eq!(first, None, "{who}: this message is not what the others got");
}

#[test]
#[ignore = "needs Java and Maven, Python, Node, Go, libzmq3-dev and the crate registry"]
fn every_implementation_receives_the_same_stream() {
    let mut topics = Topics::create();
    topics.write();
    let (tcp, directory) = (endpoint(), tempfile::tempdir().unwrap());
    let ipc = format!("ipc://{}", directory.path().join("pub").display());
    let to = format!(r#"bind = ["{tcp}", "{ipc}"], slow_peer = "block", min_peers = 8"#);
    let route = RouteToml { name: "all", from: &topics.from(), to: &to };
    let mut relay = Zafka::run(ZAFKA, &relay_toml(KafkaNode::shared().bootstrap(), &[route]));
    let prefixes = [topics.name.as_str()];
    let kinds = [Kind::Python, Kind::Node, Kind::GoPebbe, Kind::GoPure, Kind::Java, Kind::Rust];
    let mut peers: Vec<_> = kinds
        .iter()
        .map(|kind| (kind, Peer::spawn(*kind, &tcp, &prefixes, topics.count)))
        .collect();
    let libzmq = [LibzmqSub::connect(&tcp, &prefixes), LibzmqSub::connect(&ipc, &prefixes)];
    relay.wait_status("all peers", ALL_STARTED, |status| {
        status["routes"][0]["peers_subscribed"] == 8
    });

    let expected = libzmq[0].wait_messages(topics.count, DEADLINE);
    topics.checker.assert(&[Session::new(decoded(&expected))]);
    assert_same("libzmq by ipc", &libzmq[1].wait_messages(topics.count, DEADLINE), &expected);
    for (kind, peer) in &mut peers {
        assert_same(&format!("{kind:?}"), &peer.wait_messages(topics.count, DEADLINE), &expected);
        // Each ends by itself after the last message, so that none came twice.
        assert!(
            peer.wait_exit(DEADLINE).is_some_and(|exit| exit.success()),
            "{kind:?}: {}",
            peer.process().log()
        );
    }
}

#[test]
#[ignore = "needs Java and Maven, and Python"]
fn a_relay_that_connects_serves_subscribers_that_bind() {
    let mut topics = Topics::create();
    topics.write();
    let directory = tempfile::tempdir().unwrap();
    let ipc = |name| format!("ipc://{}", directory.path().join(name).display());
    let endpoints = [endpoint(), ipc("c"), endpoint(), ipc("python")];
    let prefixes = [topics.name.as_str()];
    let to = format!(r#"connect = {endpoints:?}, slow_peer = "block", min_peers = 4"#);
    let route = RouteToml { name: "connects", from: &topics.from(), to: &to };
    // The relay is there first, so that every connection has to be tried again.
    let mut relay = Zafka::run(ZAFKA, &relay_toml(KafkaNode::shared().bootstrap(), &[route]));
    relay.wait_status("the partitions", DEADLINE, |status| {
        status["routes"][0]["partitions"].as_array().is_some_and(|partitions| partitions.len() == 3)
    });
    let libzmq = endpoints[..2]
        .iter()
        .map(|endpoint| LibzmqSub::bind(endpoint, &prefixes))
        .collect::<Vec<_>>();
    let bind = |endpoint| Peer::bind(Kind::Python, endpoint, &prefixes, topics.count);
    let mut python = endpoints[2..].iter().map(|endpoint| bind(endpoint)).collect::<Vec<_>>();

    let expected = libzmq[0].wait_messages(topics.count, ALL_STARTED);
    topics.checker.assert(&[Session::new(decoded(&expected))]);
    assert_same("libzmq by ipc", &libzmq[1].wait_messages(topics.count, DEADLINE), &expected);
    for (peer, endpoint) in python.iter_mut().zip(&endpoints[2..]) {
        assert_same(endpoint, &peer.wait_messages(topics.count, DEADLINE), &expected);
    }
    let status = relay.status().expect("the admin server answers");
    assert_eq!(status["routes"][0]["counters"]["messages_dropped"], 0, "{status:#}");
}

#[test]
#[ignore = "needs Java and Maven, and Python"]
fn prefixes_choose_the_messages_of_each_peer() {
    let mut topics = Topics::create();
    let name = topics.name.clone();
    let (eu, no) = (format!("{name}-eu"), format!("no-{name}"));
    let tcp = endpoint();
    let to = format!(r#"bind = ["{tcp}"], slow_peer = "block", min_peers = 1"#);
    let route = RouteToml { name: "prefixes", from: &topics.from(), to: &to };
    let mut relay = Zafka::run(ZAFKA, &relay_toml(KafkaNode::shared().bootstrap(), &[route]));
    let everything = LibzmqSub::connect(&tcp, &[""]);
    let half = LibzmqSub::connect(&tcp, &[&eu[..eu.len() - 1]]);
    // Two that overlap: nothing comes twice. One that is longer than any routing frame: nothing
    // comes by it.
    let both = LibzmqSub::connect(&tcp, &[&name, &eu, &format!("{name}-europe")]);
    let mut other = Peer::spawn(Kind::Python, &tcp, &[&no, "no-such-topic"], 0);
    relay.wait_status("every subscription", DEADLINE, |status| {
        let peers = status["routes"][0]["peers"].as_array();
        let counts = peers.into_iter().flatten().map(|peer| peer["subscriptions_total"].as_u64());
        counts.flatten().sum::<u64>() == 7
    });
    topics.write();

    let topic_of = |message: &Vec<Vec<u8>>| String::from_utf8_lossy(&message[0]).into_owned();
    let all = everything.wait_messages(topics.count + 100, DEADLINE);
    let only = |wanted: &[&String]| -> Messages {
        all.iter().filter(|message| wanted.contains(&&topic_of(message))).cloned().collect()
    };
    for (who, found, expected) in [
        ("a part of a topic's name", half.wait_messages(topics.count / 2, DEADLINE), only(&[&eu])),
        (
            "prefixes of one another",
            both.wait_messages(topics.count, DEADLINE),
            only(&[&name, &eu]),
        ),
        ("Python", other.wait_messages(100, DEADLINE), only(&[&no])),
    ] {
        assert_same(who, &found, &expected);
    }
    topics.checker.assert(&[Session::new(decoded(&both.messages()))]);
}
