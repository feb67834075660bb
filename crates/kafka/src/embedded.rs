//! A broker in this process, for the demo and for tests: librdkafka's mock cluster, and a producer
//! for it.
//!
//! It keeps 5 MB a partition in memory and forgets older records.

use std::fmt;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;

use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::types::RDKafkaApiKey;

/// An error of the embedded broker, or of its producer.
#[derive(Debug, thiserror::Error)]
#[error("the embedded broker: {0}")]
pub struct EmbeddedError(#[from] rdkafka::error::KafkaError);

/// A broker in this process; it ends when it is dropped.
pub struct EmbeddedBroker(MockCluster<'static, DefaultProducerContext>);

impl fmt::Debug for EmbeddedBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EmbeddedBroker").field(&self.bootstrap()).finish()
    }
}

impl EmbeddedBroker {
    /// Starts one on a free port of the loopback interface.
    ///
    /// # Errors
    /// If librdkafka cannot make it.
    pub fn start() -> Result<Self, EmbeddedError> {
        Self::start_several(1)
    }

    /// Starts several, with the ids from 1 on, each on a free port.
    ///
    /// # Errors
    /// If librdkafka cannot make them.
    pub fn start_several(brokers: i32) -> Result<Self, EmbeddedError> {
        Ok(Self(MockCluster::new(brokers)?))
    }

    /// Its `HOST:PORT`.
    pub fn bootstrap(&self) -> String {
        self.0.bootstrap_servers()
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// If there is one of that name.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<(), EmbeddedError> {
        Ok(self.0.create_topic(name, partitions, 1)?)
    }

    /// Makes the broker unreachable, or reachable again.
    ///
    /// # Errors
    /// If librdkafka refuses.
    pub fn set_reachable(&self, reachable: bool) -> Result<(), EmbeddedError> {
        self.set_broker_reachable(1, reachable)
    }

    /// The same of one of several.
    ///
    /// # Errors
    /// If librdkafka refuses.
    pub fn set_broker_reachable(&self, broker: i32, reachable: bool) -> Result<(), EmbeddedError> {
        let set = if reachable { self.0.broker_up(broker) } else { self.0.broker_down(broker) };
        Ok(set?)
    }

    /// Takes a partition's leader away, or gives it back.
    ///
    /// # Errors
    /// Where there is no such partition.
    pub fn set_leader(
        &self,
        topic: &str,
        partition: i32,
        has_leader: bool,
    ) -> Result<(), EmbeddedError> {
        let leader = has_leader.then_some(1);
        Ok(self.0.partition_leader(topic, partition, leader)?)
    }

    /// Makes a broker the leader of a partition.
    ///
    /// # Errors
    /// Where there is no such partition or broker.
    pub fn move_leader(
        &self,
        topic: &str,
        partition: i32,
        broker: i32,
    ) -> Result<(), EmbeddedError> {
        Ok(self.0.partition_leader(topic, partition, Some(broker))?)
    }

    /// Makes the broker as old as one that has no newer version of the Fetch request.
    ///
    /// # Errors
    /// If librdkafka refuses.
    pub fn limit_fetch(&self, newest: i16) -> Result<(), EmbeddedError> {
        Ok(self.0.apiversion(RDKafkaApiKey::Fetch, Some(0), Some(newest))?)
    }

    /// Makes the broker as old as one that has no newer version of the Metadata request.
    ///
    /// # Errors
    /// If librdkafka refuses.
    pub fn limit_metadata(&self, newest: i16) -> Result<(), EmbeddedError> {
        Ok(self.0.apiversion(RDKafkaApiKey::Metadata, Some(0), Some(newest))?)
    }

    /// Makes the broker as old as one that has no newer version of the Produce request.
    ///
    /// # Errors
    /// If librdkafka refuses.
    pub fn limit_produce(&self, newest: i16) -> Result<(), EmbeddedError> {
        Ok(self.0.apiversion(RDKafkaApiKey::Produce, Some(0), Some(newest))?)
    }

    /// A producer for it.
    ///
    /// # Errors
    /// If librdkafka cannot make it.
    pub fn producer(&self) -> Result<EmbeddedProducer, EmbeddedError> {
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", self.bootstrap()).set("linger.ms", "0");
        Ok(EmbeddedProducer(settings.create()?))
    }
}

/// A record to be written into the embedded broker.
#[derive(Clone, Copy, Debug, Default)]
pub struct EmbeddedRecord<'a> {
    /// Topic.
    pub topic: &'a str,
    /// Partition; by the key if `None`.
    pub partition: Option<i32>,
    /// Key.
    pub key: Option<&'a [u8]>,
    /// Value.
    pub value: Option<&'a [u8]>,
    /// Headers.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
    /// Time in ms since the epoch; now if `None`.
    pub timestamp: Option<i64>,
}

/// Writes records into an embedded broker.
pub struct EmbeddedProducer(ThreadedProducer<DefaultProducerContext>);

impl fmt::Debug for EmbeddedProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmbeddedProducer")
    }
}

impl EmbeddedProducer {
    /// Queues a record to be written.
    ///
    /// # Errors
    /// If the queue is full.
    pub fn send(&self, record: &EmbeddedRecord<'_>) -> Result<(), EmbeddedError> {
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (key, value) in record.headers {
            headers = headers.insert(Header { key, value: *value });
        }
        let mut new = BaseRecord::<[u8], [u8]>::to(record.topic).headers(headers);
        new.key = record.key;
        new.payload = record.value;
        new.partition = record.partition;
        new.timestamp = record.timestamp;
        Ok(self.0.send(new).map_err(|(error, _)| error)?)
    }

    /// Waits until everything queued is written.
    ///
    /// # Errors
    /// If that takes longer than `wait`.
    pub fn flush(&self, wait: Duration) -> Result<(), EmbeddedError> {
        Ok(self.0.flush(wait)?)
    }
}
