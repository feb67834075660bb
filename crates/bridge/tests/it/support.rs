//! The common parts of the tests: a broker with topics, a relay, checks of records, and waiting.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use zafka_bridge::config::RouteConfig;
use zafka_bridge::status::{PartitionStatus, RouteStatus};
use zafka_bridge::{Relay, StatusHandle};
use zafka_envelope::{FramePlan, OwnedRecord, Preset};
use zafka_kafka::Cluster;
use zafka_kafka::config::{
    ClusterConfig, GroupConfig, GroupProtocol, SourceConfig, Start, TopicSelector,
};
use zafka_kafka::embedded::{EmbeddedBroker, EmbeddedProducer, EmbeddedRecord};
use zafka_sockets::Endpoint;
use zafka_sockets::config::{PubConfig, SlowPeer};

/// Longest time for anything, until a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Time a relay has to send what it has, if a test does not want it to be short.
pub const SHUTDOWN: Duration = Duration::from_secs(5);

/// Waits until a condition holds.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// A broker in this process.
pub struct Broker {
    pub embedded: EmbeddedBroker,
    producer: EmbeddedProducer,
}

impl Broker {
    pub fn start(topics: &[(&str, i32)]) -> Self {
        Self::start_several(1, topics)
    }

    /// Several brokers.
    pub fn start_several(brokers: i32, topics: &[(&str, i32)]) -> Self {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        // Another test may have done it.
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let embedded = EmbeddedBroker::start_several(brokers).unwrap();
        for (topic, partitions) in topics {
            embedded.create_topic(topic, *partitions).unwrap();
        }
        let producer = embedded.producer().unwrap();
        Self { embedded, producer }
    }

    pub fn cluster(&self) -> Cluster {
        self.cluster_at(self.embedded.bootstrap())
    }

    /// The cluster by way of these addresses.
    pub fn cluster_at(&self, bootstrap: String) -> Cluster {
        let config = ClusterConfig::new(bootstrap.split(',').map(str::to_owned).collect());
        Cluster::new(&config).unwrap()
    }

    /// Queues records whose values begin with these numbers and are `size` bytes or longer.
    pub fn queue(&self, topic: &str, partition: i32, numbers: Range<usize>, size: usize) {
        for number in numbers {
            let value = format!("{number:<size$}");
            let record = EmbeddedRecord {
                topic,
                partition: Some(partition),
                key: Some(b"key"),
                value: Some(value.as_bytes()),
                ..EmbeddedRecord::default()
            };
            self.producer.send(&record).unwrap();
        }
    }

    /// Writes records whose values are these numbers.
    pub fn write(&self, topic: &str, partition: i32, numbers: Range<usize>) {
        self.write_sized(topic, partition, numbers, 0);
    }

    pub fn write_sized(&self, topic: &str, partition: i32, numbers: Range<usize>, size: usize) {
        self.queue(topic, partition, numbers, size);
        self.producer.flush(PATIENCE).unwrap();
    }

    pub fn send(&self, record: &EmbeddedRecord<'_>) {
        self.producer.send(record).unwrap();
        self.producer.flush(PATIENCE).unwrap();
    }
}

/// The source of a route: from the earliest offset, in a group that rebalances quickly (the mock's
/// classic groups take a session timeout for each rebalance but the first).
pub fn source(topics: &[&str], group: Option<&str>) -> SourceConfig {
    let topics = topics.iter().map(|topic| TopicSelector::Name((*topic).to_owned()));
    SourceConfig {
        group: group.map(|id| GroupConfig {
            protocol: Some(GroupProtocol::Consumer),
            ..GroupConfig::new(id)
        }),
        start: Start::Earliest,
        topic_refresh: Duration::from_secs(1),
        ..SourceConfig::new("test", topics.collect())
    }
}

/// A route of preset `json` to a PUB socket on a free port, which waits for slow peers.
pub fn route(source: SourceConfig) -> RouteConfig {
    RouteConfig {
        name: "test".to_owned(),
        source,
        frames: FramePlan::preset(Preset::Json),
        rename: Vec::new(),
        socket: PubConfig {
            bind: vec!["tcp://127.0.0.1:*".parse().unwrap()],
            slow_peer: SlowPeer::Block,
            ring_bytes: 4 * 1024 * 1024,
            peer_timeout: None,
            ..PubConfig::default()
        },
    }
}

/// The same, but nothing is read without a subscriber.
pub fn lossless(source: SourceConfig) -> RouteConfig {
    let mut route = route(source);
    route.socket.min_peers = 1;
    route
}

/// The same on a local endpoint, with a small ring: between it and a peer that does not read there
/// is little room.
pub fn narrow(source: SourceConfig, directory: &tempfile::TempDir) -> RouteConfig {
    let mut route = lossless(source);
    route.socket.bind = vec![local(directory).parse().unwrap()];
    route.socket.ring_bytes = 64 * 1024;
    route
}

/// The endpoint of [`narrow`].
pub fn local(directory: &tempfile::TempDir) -> String {
    format!("ipc://{}/test", directory.path().display())
}

/// A relay and its status.
pub struct Running {
    pub relay: Relay,
    pub status: StatusHandle,
}

impl Running {
    pub async fn start(broker: &Broker, routes: Vec<RouteConfig>) -> Self {
        let relay = Relay::start(&broker.cluster(), routes).await.unwrap();
        let status = relay.status_handle();
        Self { relay, status }
    }

    pub fn route(&self) -> RouteStatus {
        self.status.status().routes.remove(0)
    }

    /// A partition of its first route, if it is held.
    pub fn partition(&self, number: i32) -> Option<PartitionStatus> {
        self.route().partitions.into_iter().find(|partition| partition.partition == number)
    }

    pub fn endpoint(&self) -> Endpoint {
        self.route().endpoints[0].parse().unwrap()
    }

    /// Waits until the status of its first route is as wanted.
    pub async fn until(&self, what: &str, wanted: impl Fn(&RouteStatus) -> bool) -> RouteStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let route = self.route();
            for partition in &route.partitions {
                assert!(partition.delivered <= partition.read, "{partition:?}");
            }
            if wanted(&route) {
                return route;
            }
            assert!(Instant::now() < deadline, "waited in vain until {what}: {route:#?}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until its partitions hold this many offsets in all, delivered and committed.
    pub async fn until_committed(&self, offsets: i64) -> RouteStatus {
        let what = format!("{offsets} are committed");
        self.until(&what, |route| {
            let committed = |part: &PartitionStatus| part.committed == Some(part.delivered);
            route.partitions.iter().all(committed)
                && route.partitions.iter().map(|part| part.delivered).sum::<i64>() == offsets
        })
        .await
    }

    /// Waits until a peer that does not read holds everything up: delivery stands still while more
    /// is read.
    pub async fn until_stuck(&self) -> RouteStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let before = self.route();
            sleep(Duration::from_millis(300)).await;
            let after = self.route();
            let moved = before.counters.messages_sent != after.counters.messages_sent
                || before.counters.records_read != after.counters.records_read;
            let behind = after
                .partitions
                .iter()
                .any(|part| part.delivered > 0 && part.delivered < part.read);
            if !moved && behind {
                return after;
            }
            assert!(Instant::now() < deadline, "never stuck: {after:#?}");
        }
    }

    pub async fn shutdown(self) -> StatusHandle {
        self.relay.shutdown(SHUTDOWN).await;
        self.status
    }
}

/// The offsets received, by partition, in their order.
pub fn offsets(records: &[OwnedRecord]) -> BTreeMap<i32, Vec<i64>> {
    let mut offsets: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
    for record in records {
        offsets.entry(record.partition).or_default().push(record.offset);
    }
    offsets
}

/// Asserts that every offset of a range was received, in any order and number.
pub fn assert_complete(records: &[OwnedRecord], partition: i32, range: Range<i64>) {
    let mut found = offsets(records).remove(&partition).unwrap_or_default();
    found.sort_unstable();
    found.dedup();
    let missing: Vec<i64> = range.filter(|offset| found.binary_search(offset).is_err()).collect();
    assert!(missing.is_empty(), "partition {partition} lacks {missing:?}");
}

/// Asserts that each record names the one before it, but for the first of a partition.
pub fn assert_chained(records: &[OwnedRecord]) {
    let mut last: BTreeMap<i32, i64> = BTreeMap::new();
    for record in records {
        let before = last.insert(record.partition, record.offset);
        assert_eq!(record.prev, before, "{}/{}", record.partition, record.offset);
    }
}
