//! Messages of libzmq senders in the log of a real Kafka, and the answers to the senders.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;
use zafka_testkit::{KafkaNode, LibzmqSub, Zafka, unique, wait_until};

use crate::common::endpoint;
use crate::{DEADLINE, ZAFKA, decoded};

/// Messages that a sender has under way at the most.
const WINDOW: usize = 500;
/// Silence after which what was not answered is sent again: libzmq tells nobody that a connection
/// was lost.
const SILENCE: Duration = Duration::from_secs(2);

/// A relay with one route to Kafka.
pub struct Ingest {
    relay: Zafka,
    endpoint: String,
    toml: String,
}

impl Ingest {
    /// The keys of `from.zmq` but `bind`, and those of `to.kafka`.
    pub fn start(bootstrap: &str, from: &str, to: &str) -> Self {
        let endpoint = endpoint();
        let toml = format!(
            "shutdown_timeout = \"30s\"\n[kafka]\nbootstrap_servers = [\"{bootstrap}\"]\n[[route]]\nname = \"edge\"\n\
             from.zmq = {{ bind = [\"{endpoint}\"], {from} }}\nto.kafka = {{ {to} }}\n"
        );
        Self { relay: Zafka::run(ZAFKA, &toml), endpoint, toml }
    }

    /// The endpoint it binds.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    fn router(bootstrap: &str, topic: &str) -> Self {
        let from = r#"socket = "router", frames = ["{id}", "{key}", "{value}"]"#;
        Self::start(bootstrap, from, &format!("topic = \"{topic}\""))
    }

    fn kill_and_start_again(&mut self) {
        self.relay.kill9();
        self.relay = Zafka::run(ZAFKA, &self.toml);
    }

    fn connect(&self, kind: zmq::SocketType) -> zmq::Socket {
        let socket = zmq::Context::new().socket(kind).unwrap();
        socket.set_rcvtimeo(200).unwrap();
        socket.set_linger(0).unwrap();
        socket.connect(&self.endpoint).unwrap();
        socket
    }

    fn counters(&self) -> Option<Value> {
        Some(self.relay.status()?["ingest"][0]["counters"].clone())
    }
}

/// A DEALER that sends numbered messages and keeps what it was told of each.
struct Sender {
    socket: zmq::Socket,
    next: usize,
    unanswered: BTreeSet<usize>,
    /// Partition and offset by number; the first answer counts.
    told: BTreeMap<usize, (i64, i64)>,
    heard: Instant,
}

impl Sender {
    fn new(socket: zmq::Socket) -> Self {
        Self {
            socket,
            next: 0,
            unanswered: BTreeSet::new(),
            told: BTreeMap::new(),
            heard: Instant::now(),
        }
    }

    fn send(&self, number: usize) {
        let (id, key) = (number.to_string(), format!("k{}", number % 5));
        let message = [id.as_bytes(), key.as_bytes(), &value(number)];
        self.socket.send_multipart(message, 0).unwrap();
    }

    /// Sends until `count` messages are answered.
    fn run_to(&mut self, count: usize) {
        let deadline = Instant::now() + DEADLINE;
        while self.told.len() < count {
            assert!(Instant::now() < deadline, "{} of {count} are answered", self.told.len());
            while self.next < count && self.unanswered.len() < WINDOW {
                self.unanswered.insert(self.next);
                self.send(self.next);
                self.next += 1;
            }
            self.receive();
        }
    }

    fn receive(&mut self) {
        match self.socket.recv_multipart(0) {
            Ok(frames) => {
                self.heard = Instant::now();
                let [id, word, body] = &frames[..] else { panic!("{frames:?}") };
                let body: Value = serde_json::from_slice(body).unwrap();
                let number: usize = std::str::from_utf8(id).unwrap().parse().unwrap();
                assert_eq!(word, b"OK", "{number}: {body}");
                let at = (body["partition"].as_i64().unwrap(), body["offset"].as_i64().unwrap());
                self.unanswered.remove(&number);
                self.told.entry(number).or_insert(at);
            }
            Err(zmq::Error::EAGAIN) if self.heard.elapsed() > SILENCE => {
                self.heard = Instant::now();
                self.unanswered.iter().for_each(|number| self.send(*number));
            }
            Err(zmq::Error::EAGAIN) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn value(number: usize) -> Vec<u8> {
    format!("{number:100}").into_bytes()
}

/// All of a topic's log by partition and offset: the value of each record. At least `records` are
/// waited for.
pub fn log(bootstrap: &str, topic: &str, records: usize) -> BTreeMap<(i64, i64), Vec<u8>> {
    let endpoint = endpoint();
    let toml = format!(
        "[kafka]\nbootstrap_servers = [\"{bootstrap}\"]\n[[route]]\nname = \"log\"\n\
         from.kafka = {{ topics = [\"{topic}\"], start = \"earliest\" }}\n\
         to.zmq = {{ socket = \"pub\", bind = [\"{endpoint}\"], slow_peer = \"block\", min_peers = 1 }}\n"
    );
    let relay = Zafka::run(ZAFKA, &toml);
    let subscriber = LibzmqSub::connect(&endpoint, &[topic]);
    wait_until("the log to be read to its end", DEADLINE, || {
        let partitions = relay.status().map(|status| status["routes"][0]["partitions"].clone());
        let Some(partitions) = partitions.as_ref().and_then(Value::as_array) else { return false };
        let delivered: i64 =
            partitions.iter().filter_map(|partition| partition["delivered"].as_i64()).sum();
        let is_read = partitions.iter().all(|partition| partition["lag"] == 0);
        let count = subscriber.count();
        is_read && count >= records && i64::try_from(count) == Ok(delivered)
    });
    let messages = subscriber.messages();
    drop(relay);
    let place = |message: zafka_testkit::Received| {
        ((i64::from(message.partition), message.offset), message.value.unwrap_or_default())
    };
    decoded(&messages).into_iter().map(place).collect()
}

/// Every answer names the place of its message, and messages of one key are in order there.
fn assert_told_truly(bootstrap: &str, topic: &str, told: &BTreeMap<usize, (i64, i64)>) {
    let log = log(bootstrap, topic, told.len());
    for (number, at) in told {
        assert_eq!(log.get(at), Some(&value(*number)), "message {number} is told to be at {at:?}");
    }
    for key in 0..5 {
        let of_key: Vec<_> =
            told.iter().filter(|(number, _)| *number % 5 == key).map(|(_, at)| at).collect();
        assert!(of_key.is_sorted(), "key {key}: {of_key:?}");
    }
}

#[test]
#[ignore = "needs Java and Maven"]
fn what_is_acknowledged_is_in_the_log_where_it_was_told() {
    const MESSAGES: usize = 5_000;
    let node = KafkaNode::shared();
    let topic = unique("edge");
    node.admin().create_topic(&topic, 3, &[]);
    let mut ingest = Ingest::router(node.bootstrap(), &topic);
    let mut sender = Sender::new(ingest.connect(zmq::DEALER));
    sender.run_to(MESSAGES);
    assert_told_truly(node.bootstrap(), &topic, &sender.told);
    let counters = ingest.counters().unwrap();
    assert_eq!(
        (&counters["received"], &counters["acknowledged"]),
        (&MESSAGES.into(), &MESSAGES.into())
    );
    ingest.relay.terminate();
    assert!(ingest.relay.wait_exit(DEADLINE).success());
}

#[test]
#[ignore = "needs Java and Maven"]
fn a_relay_that_is_killed_told_nothing_that_is_not_so() {
    let node = KafkaNode::shared();
    let topic = unique("edge");
    node.admin().create_topic(&topic, 2, &[]);
    let mut ingest = Ingest::router(node.bootstrap(), &topic);
    let mut sender = Sender::new(ingest.connect(zmq::DEALER));
    for kill in 1..=3 {
        sender.run_to(kill * 1_000);
        // More is under way.
        sender.unanswered.extend(sender.next..sender.next + WINDOW);
        (sender.next..sender.next + WINDOW).for_each(|number| sender.send(number));
        sender.next += WINDOW;
        ingest.kill_and_start_again();
    }
    let all = sender.next;
    sender.run_to(all);
    let log = log(node.bootstrap(), &topic, all);
    for (number, at) in &sender.told {
        assert_eq!(log.get(at), Some(&value(*number)), "message {number} is told to be at {at:?}");
    }
}

#[test]
#[ignore = "needs Java and Maven"]
fn a_broker_that_is_killed_loses_nothing_that_was_acknowledged() {
    let mut node = KafkaNode::start();
    node.admin().create_topic("edge", 2, &[]);
    let ingest = Ingest::router(node.bootstrap(), "edge");
    let mut sender = Sender::new(ingest.connect(zmq::DEALER));
    sender.run_to(1_000);
    (sender.next..sender.next + WINDOW).for_each(|number| sender.send(number));
    sender.unanswered.extend(sender.next..sender.next + WINDOW);
    sender.next += WINDOW;
    node.kill9();
    wait_until("the relay to say that no broker is there", DEADLINE, || {
        ingest.relay.get("/readyz").is_ok_and(|(code, body)| code == 503 && body.contains("broker"))
    });
    node.restart();
    sender.heard = Instant::now() + DEADLINE;
    sender.run_to(3_000);
    assert_told_truly(node.bootstrap(), "edge", &sender.told);
}

#[test]
#[ignore = "needs Java and Maven"]
fn what_kafka_does_not_take_is_told_with_its_reason() {
    let node = KafkaNode::shared();
    let [small, absent] = ["small", "absent"].map(unique);
    node.admin().create_topic(&small, 1, &[("max.message.bytes", "1000")]);
    let to = format!("topics = [\"{small}\", \"{absent}\"]");
    let ingest = Ingest::start(node.bootstrap(), r#"socket = "router", frames = "value""#, &to);
    let dealer = ingest.connect(zmq::DEALER);
    dealer.set_rcvtimeo(DEADLINE.as_millis() as i32).unwrap();
    let ask = |topic: &str, value: &[u8]| {
        dealer.send_multipart([topic.as_bytes(), value], 0).unwrap();
        let frames = dealer.recv_multipart(0).unwrap();
        let body: Value = serde_json::from_slice(&frames[1]).unwrap();
        (String::from_utf8(frames[0].clone()).unwrap(), body)
    };
    let (word, body) = ask(&small, &[b'x'; 5_000]);
    assert_eq!((word.as_str(), &body["code"]), ("ERROR", &"too_large".into()), "{body}");
    let (word, body) = ask(&absent, b"x");
    assert_eq!(
        (word.as_str(), &body["code"], &body["retriable"]),
        ("ERROR", &"kafka".into(), &false.into()),
        "{body}"
    );
    let (word, body) = ask("other", b"x");
    assert_eq!((word.as_str(), &body["code"]), ("ERROR", &"not_allowed".into()), "{body}");
    let (word, body) = ask(&small, b"x");
    assert_eq!((word.as_str(), &body["offset"]), ("OK", &0.into()), "{body}");
}

#[test]
#[ignore = "needs Java and Maven"]
fn what_a_push_had_under_way_at_sigterm_is_written() {
    const MESSAGES: usize = 50_000;
    let node = KafkaNode::shared();
    let topic = unique("edge");
    node.admin().create_topic(&topic, 2, &[]);
    let from = r#"socket = "pull", frames = ["{key}", "{value}"]"#;
    let mut ingest = Ingest::start(node.bootstrap(), from, &format!("topic = \"{topic}\""));
    let push = ingest.connect(zmq::PUSH);
    for number in 0..MESSAGES {
        push.send_multipart([&b"k"[..], &value(number)], 0).unwrap();
    }
    wait_until("some to be received", DEADLINE, || {
        ingest.counters().is_some_and(|counters| counters["received"].as_u64() > Some(0))
    });
    ingest.relay.terminate();
    assert!(ingest.relay.wait_exit(DEADLINE).success());
    // What libzmq had not written yet stays with the sender; what was written is in the log,
    // without a hole.
    let log = log(node.bootstrap(), &topic, 1);
    let mut found: Vec<_> = log.values().cloned().collect();
    found.sort();
    let expected: Vec<_> = (0..found.len()).map(value).collect();
    assert_eq!(found, expected, "{} of {MESSAGES}", found.len());
}
