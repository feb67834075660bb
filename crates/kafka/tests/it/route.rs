//! A source as a route has it, and what a test reads from it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zafka_envelope::{OwnedHeader, OwnedRecord};
use zafka_kafka::config::{
    ClusterConfig, FetcherKind, GroupConfig, GroupProtocol, SourceConfig, Start, TopicSelector,
};
use zafka_kafka::embedded::{EmbeddedBroker, EmbeddedProducer, EmbeddedRecord};
use zafka_kafka::{
    Assignment, Cluster, Ends, Source, SourceEvent, SourceReceivers, TopicPartition,
};

pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn cluster(bootstrap: &str) -> ClusterConfig {
    ClusterConfig::new(vec![bootstrap.to_owned()])
}

/// The same as [`config`], by whatever protocol the cluster and the group have.
pub fn config_in(
    fetching: FetcherKind,
    topics: &[&str],
    group: &str,
    start: Start,
) -> SourceConfig {
    let group =
        GroupConfig { id: group.to_owned(), instance: None, protocol: None, session_timeout: None };
    SourceConfig { group: Some(group), ..config(fetching, topics, None, start) }
}

pub fn config(
    fetching: FetcherKind,
    topics: &[&str],
    group: Option<(&str, GroupProtocol)>,
    start: Start,
) -> SourceConfig {
    let selector = |topic: &&str| match topic.strip_prefix('/') {
        Some(pattern) => {
            TopicSelector::Pattern(regex::Regex::new(pattern.trim_end_matches('/')).unwrap())
        }
        None => TopicSelector::Name((*topic).to_owned()),
    };
    SourceConfig {
        group: group
            .map(|(id, protocol)| GroupConfig { protocol: Some(protocol), ..GroupConfig::new(id) }),
        start,
        revoke_timeout: Duration::from_secs(2),
        topic_refresh: Duration::from_secs(1),
        fetcher: fetching,
        ..SourceConfig::new("test", topics.iter().map(selector).collect())
    }
}

pub struct Route {
    pub source: Source,
    pub receivers: SourceReceivers,
    pub held: Vec<Arc<Assignment>>,
    pub positions: BTreeMap<TopicPartition, (Arc<Assignment>, i64)>,
    pub records: Vec<(String, i32, OwnedRecord)>,
    /// The generation of each of `records`.
    pub generations: Vec<u32>,
    pub events: Vec<String>,
}

impl Route {
    pub fn start(cluster: &ClusterConfig, config: SourceConfig) -> Self {
        Self::of(&Cluster::new(cluster).unwrap(), config)
    }

    /// A route that shares its cluster with others.
    pub fn of(cluster: &Cluster, config: SourceConfig) -> Self {
        crate::log();
        let (source, receivers) = Source::start(cluster, config).unwrap();
        let (held, positions, records) = (vec![], BTreeMap::new(), vec![]);
        Self { source, receivers, held, positions, records, generations: vec![], events: vec![] }
    }

    /// Takes records and answers events until `enough`.
    pub async fn until(&mut self, what: &str, enough: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !enough(self) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {what}: {:?}, {:?}", self.events, self.source.status());
            self.step(left.min(Duration::from_millis(100))).await;
        }
    }

    pub async fn step(&mut self, wait: Duration) {
        tokio::select! {
            biased;
            event = self.receivers.events.recv() => {
                if let Some(event) = event { self.event(event) }
            }
            fetched = self.receivers.records.recv() => {
                let Some(mut fetched) = fetched else { return };
                let assignment = Arc::clone(&fetched.assignment);
                let generation = fetched.generation.number;
                let (records, generations) = (&mut self.records, &mut self.generations);
                // A few at a time, as a route with small chunks would.
                let mut count = 0;
                while !fetched.walk(|record| {
                    let topic = assignment.topic().to_string();
                    records.push((topic, assignment.partition(), owned(record)));
                    generations.push(generation);
                    count += 1;
                    if count % 7 == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                }) {}
                let key = assignment.topic_partition.clone();
                self.positions.insert(key, (assignment, fetched.next_offset()));
            }
            () = tokio::time::sleep(wait) => {}
        }
    }

    fn event(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Assigned(assignments) => {
                self.events.push(format!("assigned {}", assignments.len()));
                self.held.extend(assignments);
            }
            SourceEvent::Revoked { assignments, done } => {
                self.events.push(format!("revoked {}", assignments.len()));
                let positions = assignments
                    .iter()
                    .filter_map(|assignment| self.positions.remove(&assignment.topic_partition));
                done.complete(positions.collect());
                self.held.retain(|held| held.is_active());
            }
            SourceEvent::Lost(assignments) => {
                self.events.push(format!("lost {}", assignments.len()));
                self.held.retain(|held| held.is_active());
            }
            SourceEvent::Reset { from, generation, .. } => {
                self.events.push(format!("reset {from} {}", generation.start));
            }
            SourceEvent::Stopped(reason) => self.events.push(format!("stopped {reason}")),
        }
    }

    pub fn positions(&self) -> Vec<(Arc<Assignment>, i64)> {
        self.positions.values().cloned().collect()
    }

    pub fn end_offset(&self, topic: &str, partition: i32) -> Option<i64> {
        let held =
            |held: &&Arc<Assignment>| **held.topic() == *topic && held.partition() == partition;
        self.source.ends(self.held.iter().find(held)?).map(Ends::readable)
    }

    pub fn values(&self) -> Vec<String> {
        let text = |value: &Option<Vec<u8>>| {
            String::from_utf8_lossy(value.as_deref().unwrap_or_default()).into_owned()
        };
        self.records.iter().map(|(_, _, record)| text(&record.value)).collect()
    }

    pub async fn close(self) {
        let positions = self.positions();
        self.close_at(positions).await;
    }

    pub async fn close_at(self, positions: Vec<(Arc<Assignment>, i64)>) {
        drop(self.receivers);
        self.source.close(positions).await;
    }
}

fn owned(record: &zafka_envelope::Record<'_>) -> OwnedRecord {
    let headers = record.headers.iter();
    OwnedRecord {
        topic: None,
        partition: 0,
        offset: record.offset,
        timestamp: record.timestamp,
        prev: record.prev,
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(<[u8]>::to_vec),
        headers: headers
            .map(|header| OwnedHeader {
                name: header.name.to_vec(),
                value: header.value.map(<[u8]>::to_vec),
            })
            .collect(),
    }
}

/// Writes values `from..to` to a partition.
pub fn write(
    producer: &EmbeddedProducer,
    topic: &str,
    partition: i32,
    numbers: std::ops::Range<usize>,
) {
    for number in numbers {
        let value = number.to_string();
        let record = EmbeddedRecord {
            topic,
            partition: Some(partition),
            key: Some(b"key"),
            value: Some(value.as_bytes()),
            ..EmbeddedRecord::default()
        };
        producer.send(&record).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

pub fn broker(topics: &[(&str, i32)]) -> (EmbeddedBroker, EmbeddedProducer) {
    let broker = EmbeddedBroker::start().unwrap();
    for (topic, partitions) in topics {
        broker.create_topic(topic, *partitions).unwrap();
    }
    let producer = broker.producer().unwrap();
    (broker, producer)
}

pub fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}
