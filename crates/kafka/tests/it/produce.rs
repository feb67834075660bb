//! Records that are written by either way: what is told of them is so.

mod faults;
mod mock;
mod network;
mod secured;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use zafka_kafka::Cluster;
use zafka_kafka::config::{ClusterConfig, FetcherKind, Start};
use zafka_kafka::produce::{
    Compression, News, OutboundRecord, Producer, ProducerConfig, ProducerKind, Ticket, WriteError,
    Written,
};

use crate::route::{PATIENCE, Route, cluster, config};

/// Records under way at the most.
const WINDOW: usize = 300;

/// A producer, and what it told.
pub struct Writer {
    cluster: ClusterConfig,
    pub producer: Producer,
    /// Topic and value of each record.
    sent: Vec<(String, String)>,
    pub told: BTreeMap<Ticket, Result<Written, WriteError>>,
}

pub fn settings(producer: ProducerKind) -> ProducerConfig {
    ProducerConfig {
        route: "test".to_owned(),
        compression: Compression::None,
        linger: Duration::ZERO,
        batch_bytes: 1_000_000,
        delivery_timeout: None,
        producer,
    }
}

impl Writer {
    fn start(bootstrap: &str, config: &ProducerConfig) -> Self {
        let servers = bootstrap.split(',').map(str::to_owned).collect();
        Self::start_in(ClusterConfig { bootstrap_servers: servers, ..cluster("") }, config)
    }

    pub fn start_in(cluster: ClusterConfig, config: &ProducerConfig) -> Self {
        crate::log();
        let producer = Producer::start(&Cluster::new(&cluster).unwrap(), config).unwrap();
        Self { cluster, producer, sent: Vec::new(), told: BTreeMap::new() }
    }

    /// Sends a record whose value names its ticket, and begins with its key's name.
    pub fn send(&mut self, topic: &str, key: Option<&str>) {
        let ticket = self.sent.len();
        let value = format!("{} {ticket}", key.unwrap_or("-"));
        self.send_record(topic, key, value);
    }

    fn send_record(&mut self, topic: &str, key: Option<&str>, value: String) {
        let record = OutboundRecord {
            topic,
            partition: None,
            timestamp: 1_700_000_000_000,
            key: key.map(str::as_bytes),
            value: Some(value.as_bytes()),
            headers: &[],
        };
        let ticket = self.sent.len();
        if let Err(error) = self.producer.send(ticket, &record) {
            self.told.insert(ticket, Err(error));
        }
        self.sent.push((topic.to_owned(), value));
    }

    /// Takes what comes within a moment.
    pub async fn step(&mut self) {
        self.producer.flush();
        let wait = tokio::time::timeout(Duration::from_millis(50), self.producer.next());
        let Ok(News::Deliveries(deliveries)) = wait.await else { return };
        for delivery in deliveries {
            let before = self.told.insert(delivery.ticket, delivery.outcome);
            assert!(before.is_none(), "{} is told once", delivery.ticket);
        }
    }

    async fn until(&mut self, what: &str, enough: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !enough(self) {
            let health = self.producer.health().not_ready();
            let (told, sent) = (self.told.len(), self.sent.len());
            assert!(Instant::now() < deadline, "no {what}: {told} of {sent}, {health:?}");
            self.step().await;
        }
    }

    pub async fn until_all_told(&mut self) {
        self.until("end", |writer| writer.told.len() == writer.sent.len()).await;
    }

    /// Writes keys `k0` to `k4` in turn, while something is done beside.
    async fn load<T: Send + 'static>(
        &mut self,
        topic: &str,
        beside: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let beside = tokio::task::spawn_blocking(beside);
        while !beside.is_finished() {
            let key = format!("k{}", self.sent.len() % 5);
            if self.sent.len() - self.told.len() < WINDOW {
                self.send(topic, Some(&key));
                // A few of them are a batch.
                if !self.sent.len().is_multiple_of(7) {
                    continue;
                }
            }
            self.step().await;
        }
        beside.await.unwrap()
    }

    /// The offset of a record that was reported as written.
    fn place(&self, ticket: Ticket) -> (i32, i64) {
        let written = self.told[&ticket].as_ref().unwrap();
        (written.partition, written.offset.unwrap())
    }

    /// Reads a topic, and compares it with the reports: each record that was reported as written is
    /// there, at its offset, and once; the records of a key are in their order; one that was
    /// reported as failed is not there.
    async fn assert_told_truly(&self, topic: &str) {
        let of_topic = |ticket: &Ticket| self.sent[*ticket].0 == topic;
        let tickets: Vec<Ticket> = (0..self.sent.len()).filter(of_topic).collect();
        let written = tickets.iter().filter(|ticket| self.told[*ticket].is_ok()).count();
        let config = config(FetcherKind::Fast, &[topic], None, Start::Earliest);
        let mut route = Route::start(&self.cluster, config);
        route.until("log", |route| route.records.len() >= written).await;
        let mut found: BTreeMap<String, Vec<(i32, i64)>> = BTreeMap::new();
        for (_, partition, record) in &route.records {
            let value = String::from_utf8(record.value.clone().unwrap()).unwrap();
            found.entry(value).or_default().push((*partition, record.offset));
        }
        let mut last: BTreeMap<&str, (i32, i64)> = BTreeMap::new();
        for ticket in tickets {
            let value = &self.sent[ticket].1;
            let places = found.get(value).map_or(&[][..], Vec::as_slice);
            match &self.told[&ticket] {
                Ok(told) => {
                    let [place] = places else { panic!("{value} is at {places:?}") };
                    assert!(told.offset.is_none_or(|at| (told.partition, at) == *place), "{value}");
                    let key = value.split(' ').next().unwrap();
                    let before = last.insert(key, *place);
                    assert!(key == "-" || before.is_none_or(|it| it < *place), "{value}");
                }
                Err(WriteError::Unknown(_)) => assert!(places.len() <= 1, "{value}: {places:?}"),
                Err(error) => assert!(places.is_empty(), "{value}: {error}, {places:?}"),
            }
        }
        route.close().await;
    }
}
