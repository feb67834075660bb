//! Messages of real senders in the log of a real Kafka, and the answers to the senders.

mod faults;
mod rules;
mod senders;
mod stops;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;
use zafka_testkit::{Acknowledged, KafkaNode, LibzmqSub, Place, Zafka, unique, wait_until};

use crate::common::endpoint;
use crate::{DEADLINE, ZAFKA, decoded};

/// Messages that a sender has under way at the most.
const WINDOW: usize = 500;
/// The route of a [`Sender`].
const ROUTER: &str = r#"socket = "router", frames = ["{id}", "{key}", "{value}"]"#;

/// The same, if the sender tells the partition too.
const ROUTER_TO: &str =
    r#"socket = "router", frames = ["{id}", "{header.to}", "{key}", "{value}"]"#;

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
        let from = format!("bind = [\"{endpoint}\"], {from}");
        Self::start_at(&endpoint, bootstrap, &from, to)
    }

    /// The same with `bind` or `connect` among the keys.
    fn start_at(endpoint: &str, bootstrap: &str, from: &str, to: &str) -> Self {
        let toml = format!(
            "shutdown_timeout = \"30s\"\n[kafka]\nbootstrap_servers = [\"{bootstrap}\"]\n\
             [[route]]\nname = \"edge\"\n\
             from.zmq = {{ {from} }}\nto.kafka = {{ {to} }}\n"
        );
        Self { relay: Zafka::run(ZAFKA, &toml), endpoint: endpoint.to_owned(), toml }
    }

    /// The endpoint it binds.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// A route that answers, to one topic.
    fn router(bootstrap: &str, topic: &str) -> Self {
        Self::start(bootstrap, ROUTER, &format!("topic = \"{topic}\""))
    }

    /// Starts it again on the same endpoint; one that still runs is killed.
    pub fn start_again(&mut self) {
        self.relay.kill9();
        self.relay = Zafka::run(ZAFKA, &self.toml);
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self) {
        self.relay.terminate();
        let status = self.relay.wait_exit(DEADLINE);
        assert!(status.success(), "{}", self.relay.log());
    }

    /// Connects a socket of libzmq.
    fn connect(&self, kind: zmq::SocketType) -> zmq::Socket {
        let socket = zmq::Context::new().socket(kind).unwrap();
        socket.set_rcvtimeo(200).unwrap();
        socket.set_linger(0).unwrap();
        socket.connect(&self.endpoint).unwrap();
        socket
    }

    fn dealer(&self) -> Sender {
        Sender::new(self.connect(zmq::DEALER))
    }

    /// Its only route in `/status`.
    fn route(&self) -> Option<Value> {
        Some(self.relay.status()?["ingest"][0].clone())
    }

    fn counters(&self) -> Option<Value> {
        Some(self.route()?["counters"].clone())
    }

    /// Waits until so many messages are acknowledged, and gives the route's status then.
    fn wait_acknowledged(&mut self, count: usize) -> Value {
        let status = self.relay.wait_status("all to be acknowledged", DEADLINE, |status| {
            status["ingest"][0]["counters"]["acknowledged"] == count
        });
        status["ingest"][0].clone()
    }
}

/// A message of a DEALER sent, and its answer.
fn ask(dealer: &zmq::Socket, frames: &[&[u8]]) -> (String, Value) {
    dealer.send_multipart(frames, 0).unwrap();
    dealer.set_rcvtimeo(DEADLINE.as_millis() as i32).unwrap();
    let frames = dealer.recv_multipart(0).unwrap();
    let [.., word, body] = &frames[..] else { panic!("{frames:?}") };
    (String::from_utf8(word.clone()).unwrap(), serde_json::from_slice(body).unwrap())
}

/// A DEALER that sends numbered messages and keeps what it was told of each.
struct Sender {
    socket: zmq::Socket,
    told: Acknowledged,
    run: String,
    runs: usize,
    next: usize,
    open: BTreeSet<usize>,
    /// The partition, if it tells that.
    to: Option<&'static str>,
}

impl Sender {
    fn new(socket: zmq::Socket) -> Self {
        Self {
            socket,
            told: Acknowledged::default(),
            run: "connection 0".to_owned(),
            runs: 0,
            next: 0,
            open: BTreeSet::new(),
            to: None,
        }
    }

    /// The same, of a route by [`ROUTER_TO`].
    fn to(self, partition: &'static str) -> Self {
        Self { to: Some(partition), ..self }
    }

    /// Sends a new message.
    fn post(&mut self) {
        let number = self.told.message(Some(&key(self.next)), &value(self.next));
        self.next += 1;
        self.open.insert(number);
        self.send(number);
    }

    fn send(&mut self, number: usize) {
        self.told.sent(&self.run, number);
        let id = number.to_string();
        let (key, value) = (key(number), value(number));
        let to = self.to.map(str::as_bytes);
        let message = [Some(id.as_bytes()), to, Some(&key), Some(&value)];
        self.socket.send_multipart(message.into_iter().flatten(), 0).unwrap();
    }

    /// Goes on by another socket, which sends first what was not answered: libzmq does not report
    /// that a connection was lost.
    fn go_on(&mut self, socket: zmq::Socket) {
        self.socket = socket;
        self.runs += 1;
        self.run = format!("connection {}", self.runs);
        for number in self.open.clone() {
            self.send(number);
        }
    }

    /// Sends until `count` messages are acknowledged.
    fn run_to(&mut self, count: usize) {
        let deadline = Instant::now() + DEADLINE;
        while self.next - self.open.len() < count {
            assert!(
                Instant::now() < deadline,
                "{} of {count} are answered",
                self.next - self.open.len()
            );
            while self.next < count && self.open.len() < WINDOW {
                self.post();
            }
            self.receive();
        }
    }

    /// Receives until nothing is without an answer.
    fn settle(&mut self) {
        self.run_to(self.next);
    }

    /// Takes an answer, if there is one.
    fn receive(&mut self) {
        let frames = match self.socket.recv_multipart(0) {
            Ok(frames) => frames,
            Err(zmq::Error::EAGAIN) => return,
            Err(error) => panic!("{error}"),
        };
        let [id, word, body] = &frames[..] else { panic!("{frames:?}") };
        let body: Value = serde_json::from_slice(body).unwrap();
        let number: usize = std::str::from_utf8(id).unwrap().parse().unwrap();
        if word == b"OK" {
            let partition = i32::try_from(body["partition"].as_i64().unwrap()).unwrap();
            let place = Place { partition, offset: body["offset"].as_i64() };
            self.told.written(&self.run, number, place);
        } else {
            // No test of a sender has messages that cannot be written.
            assert_eq!(body["code"], "timeout_unknown", "{number}: {body}");
            self.told.unknown(&self.run, number);
        }
        self.open.remove(&number);
    }

    /// Every answer was true, and everything that was answered is in the log.
    fn assert_true(&self, admin: &zafka_testkit::Admin, topic: &str) {
        assert!(self.open.is_empty(), "{} are without an answer", self.open.len());
        self.told.assert_all(&admin.read(topic));
    }
}

fn key(number: usize) -> Vec<u8> {
    format!("k{}", number % 5).into_bytes()
}

fn value(number: usize) -> Vec<u8> {
    format!("{number:0100}").into_bytes()
}

/// A topic of the shared node.
fn topic(name: &str, partitions: i32, configs: &[(&str, &str)]) -> (&'static KafkaNode, String) {
    let node = KafkaNode::shared();
    let topic = unique(name);
    node.admin().create_topic(&topic, partitions, configs);
    (node, topic)
}

/// Reads a topic's log by partition and offset: the value of each record. At least `records` are
/// waited for.
pub fn log(bootstrap: &str, topic: &str, records: usize) -> BTreeMap<(i64, i64), Vec<u8>> {
    let endpoint = endpoint();
    let toml = format!(
        "[kafka]\nbootstrap_servers = [\"{bootstrap}\"]\n[[route]]\nname = \"log\"\n\
         from.kafka = {{ topics = [\"{topic}\"], start = \"earliest\" }}\n\
         to.zmq = {{ socket = \"pub\", bind = [\"{endpoint}\"], slow_peer = \"block\", \
         min_peers = 1 }}\n"
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

/// The numbers of [`value`]s in a topic's log, sorted.
fn numbers(node: &KafkaNode, topic: &str) -> Vec<usize> {
    let number = |value: Vec<u8>| String::from_utf8(value).unwrap().parse::<usize>().unwrap();
    let records = node.admin().read(topic);
    let mut found: Vec<_> =
        records.into_iter().map(|record| number(record.value.unwrap())).collect();
    found.sort_unstable();
    found
}

/// Asserts that each received message is in one of the other counts, or in flight.
fn assert_identity(route: &Value) {
    let counters = &route["counters"];
    let count = |name: &str| counters[name].as_u64().unwrap();
    let settled = ["acknowledged", "refused", "skipped", "dead_lettered", "unknown"].map(count);
    let in_flight = route["in_flight"].as_u64().unwrap();
    assert_eq!(count("received"), settled.iter().sum::<u64>() + in_flight, "{route}");
}

/// A moment in which something that must not happen would.
const MOMENT: Duration = Duration::from_secs(1);
