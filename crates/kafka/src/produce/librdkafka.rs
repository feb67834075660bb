//! Records written by librdkafka's idempotent producer.

mod context;
mod places;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use tokio::sync::mpsc;

use super::{
    Deliveries, News, OutboundRecord, PartitionIndex, ProducerConfig, Ticket, WriteError, Written,
};
use crate::client::plain;
use crate::cluster::{Cluster, connection_settings};
use crate::config::ClusterConfig;
use crate::error::StartError;
use crate::health::SourceHealth;
use crate::report::Reporter;
use crate::security;
use context::Context;
use places::{Leaders, Places, RecordNumber};

/// Time between two answers that lack a topic, after which it counts as absent.
const TOPIC_PATIENCE: Duration = Duration::from_secs(5);
/// Size of a record that librdkafka takes; the topic has a limit of its own, which the broker
/// reports.
const RECORD_BYTES: usize = 1_000_000_000;

/// A report of the client.
enum ClientReport {
    /// The outcome of a record.
    Outcome(RecordNumber, Result<Written, WriteError>),
    /// The topics that are written to.
    Topics(Vec<(String, Leaders)>),
}

/// The client, and its events.
pub(super) struct Librdkafka {
    client: Arc<ThreadedProducer<Context>>,
    reports: mpsc::UnboundedReceiver<ClientReport>,
    places: Places,
    /// News to be reported before the client's.
    first: VecDeque<News>,
}

impl std::fmt::Debug for Librdkafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Librdkafka").field("in_flight", &self.client.in_flight_count()).finish()
    }
}

impl Librdkafka {
    pub(super) fn start(
        cluster: &Cluster,
        config: &ProducerConfig,
        health: &Arc<SourceHealth>,
    ) -> Result<Self, StartError> {
        let tokens = cluster.tokens();
        // It holds no more than the caller has under way.
        let (tell, reports) = mpsc::unbounded_channel();
        let (wanted, receiver) = security::wanted();
        let reporter = Reporter::new(&config.route, health, &Arc::default());
        let context = Context::new(Arc::clone(health), reporter, tell, tokens.map(|_| wanted));
        let client = settings(cluster.config(), config).create_with_context(context);
        let client: Arc<ThreadedProducer<Context>> =
            client.map(Arc::new).map_err(|error| StartError::Client(plain(&error)))?;
        if let Some(provider) = tokens {
            security::keep_supplied(&client, provider, receiver)?;
        }
        Ok(Self { client, reports, places: Places::default(), first: VecDeque::new() })
    }

    /// Finds the partition of a record, if it is sent now.
    pub(super) fn locate(
        &mut self,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
    ) -> PartitionIndex {
        self.places.locate(topic, partition, key)
    }

    /// Takes note of whether a partition has as much under way as it may.
    pub(super) fn set_full(&mut self, index: PartitionIndex, is_full: bool) {
        self.places.set_full(index, is_full);
    }

    /// Sends a record, to the partition that was found if one was.
    pub(super) fn send(
        &mut self,
        place: Option<PartitionIndex>,
        ticket: Ticket,
        record: &OutboundRecord<'_>,
    ) -> Result<(), WriteError> {
        let of = (record.topic, record.partition, record.key);
        let (number, partition) = self.places.enter(ticket, place, of);
        let mut out = BaseRecord::<[u8], [u8], RecordNumber>::with_opaque_to(record.topic, number);
        out.key = record.key;
        out.payload = record.value;
        out.partition = partition;
        out.timestamp = Some(record.timestamp);
        if !record.headers.is_empty() {
            let headers = OwnedHeaders::new_with_capacity(record.headers.len());
            let add = |headers: OwnedHeaders, (key, value): &(&str, Option<&[u8]>)| {
                headers.insert(Header { key, value: *value })
            };
            out.headers = Some(record.headers.iter().fold(headers, add));
        }
        self.client.send(out).map_err(|(error, _)| {
            self.places.leave(number);
            write_error(&error, false)
        })
    }

    /// Reports this before anything else.
    pub(super) fn tell_first(&mut self, news: impl IntoIterator<Item = News>) {
        self.first.extend(news);
    }

    pub(super) async fn next(&mut self) -> News {
        if let Some(first) = self.first.pop_front() {
            return first;
        }
        loop {
            match self.reports.recv().await {
                Some(ClientReport::Outcome(number, outcome)) => {
                    let Some((ticket, place)) = self.places.leave(number) else { continue };
                    let told = Deliveries::new([ticket].into_iter().collect(), outcome);
                    return News::Deliveries(match place {
                        Some(place) => told.at(place),
                        None => told,
                    });
                }
                Some(ClientReport::Topics(topics)) => {
                    if let Some(placed) = self.places.handle_topics(topics) {
                        return News::Placed(placed);
                    }
                }
                // The client has a sender for as long as it lives, which is here.
                None => std::future::pending().await,
            }
        }
    }
}

fn settings(cluster: &ClusterConfig, config: &ProducerConfig) -> rdkafka::ClientConfig {
    let mut settings = connection_settings(cluster);
    let timeout = config.delivery_timeout.map_or(0, |timeout| timeout.as_millis().max(1));
    settings
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", config.compression.name())
        .set("queue.buffering.max.ms", config.linger.as_millis().to_string())
        .set("batch.size", config.batch_bytes.to_string())
        .set("batch.num.messages", "1000000")
        .set("message.max.bytes", RECORD_BYTES.to_string())
        // How much is under way is bounded by the caller, in bytes.
        .set("queue.buffering.max.messages", "0")
        .set("queue.buffering.max.kbytes", i32::MAX.to_string())
        .set("message.timeout.ms", timeout.to_string())
        .set("topic.metadata.propagation.max.ms", TOPIC_PATIENCE.as_millis().to_string())
        // As the Java client places keys.
        .set("partitioner", "murmur2_random")
        .set("statistics.interval.ms", "1000");
    settings
}

/// The error of a record. `sent`: whether it may be in the log.
fn write_error(error: &KafkaError, sent: bool) -> WriteError {
    let text = plain(error);
    let Some(code) = error.rdkafka_error_code() else {
        return WriteError::Kafka { error: "client".to_owned(), reason: text, retriable: false };
    };
    match code {
        Code::MessageSizeTooLarge | Code::InvalidMessageSize => WriteError::TooLarge(text),
        Code::TopicAuthorizationFailed => WriteError::NotAllowed(text),
        Code::ClusterAuthorizationFailed => WriteError::NotAllowed(format!(
            "{text}: an idempotent producer needs IdempotentWrite on the cluster, or Write on a \
             topic"
        )),
        _ if sent => WriteError::Unknown(text),
        code => {
            let retriable =
                matches!(code, Code::MessageTimedOut | Code::QueueFull | Code::PurgeQueue);
            WriteError::Kafka { error: format!("{code:?}"), reason: text, retriable }
        }
    }
}
