//! Writes records to Kafka, and tells of each what became of it.
//!
//! Always idempotent, always with `acks = all`: a record that was told as written is in the log.
//! One that may be there or not is told as unknown, never as failed. librdkafka sends; how much is
//! under way is bounded by the caller.

mod context;

use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use tokio::sync::mpsc;

use crate::client::plain;
use crate::cluster;
use crate::config::ClusterConfig;
use crate::error::StartError;
use crate::health::SourceHealth;
use crate::report::Reporter;
use crate::security;
use context::Context;

/// Time for two answers that say that a topic is not there.
const TOPIC_PATIENCE: Duration = Duration::from_secs(5);
/// Size of a record that librdkafka takes; the topic has a limit of its own, which the broker
/// tells.
const RECORD_BYTES: usize = 1_000_000_000;

/// How records are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerConfig {
    /// Name of the route, for logs.
    pub route: String,
    /// Compression of batches.
    pub compression: Compression,
    /// Time that a batch waits for more records.
    pub linger: Duration,
    /// Size of a batch in bytes, at which it is sent whatever `linger` says.
    pub batch_bytes: usize,
    /// Time after which a record is given up; for as long as it takes if `None`.
    pub delivery_timeout: Option<Duration>,
}

/// Compression of record batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// None.
    #[default]
    None,
    /// gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Compression {
    /// Its name in Kafka's settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// A record to be written.
#[derive(Clone, Copy, Debug)]
pub struct OutboundRecord<'a> {
    /// Topic.
    pub topic: &'a str,
    /// Partition; by the key's murmur2 hash as the Java client has it if `None`, and by chance
    /// without a key.
    pub partition: Option<i32>,
    /// In ms since the epoch.
    pub timestamp: i64,
    /// Key; `None` is null.
    pub key: Option<&'a [u8]>,
    /// Value; `None` is null, a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers in their order, repeats kept.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
}

/// The caller's name for a record that is under way.
pub type Ticket = usize;

/// What became of a record.
#[derive(Debug)]
pub struct Delivery {
    /// Which.
    pub ticket: Ticket,
    /// Its place in the log, or why it has none.
    pub outcome: Result<Written, WriteError>,
}

/// The place of a record in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Partition.
    pub partition: i32,
    /// Offset; `None` if the cluster did not tell it.
    pub offset: Option<i64>,
    /// Timestamp in the log in ms since the epoch, if the topic sets its own (LogAppendTime).
    pub log_append_time: Option<i64>,
}

/// Why a record was not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The record is larger than the topic takes.
    #[error("the record is larger than the topic takes ({0})")]
    TooLarge(String),
    /// Kafka does not let this relay write there.
    #[error("{0}")]
    NotAllowed(String),
    /// The record was sent, and no answer tells whether it is in the log.
    #[error("no answer tells whether the record was written ({0})")]
    Unknown(String),
    /// The record is not in the log.
    #[error("{reason}")]
    Kafka {
        /// Kafka's name for the error.
        error: String,
        /// The same in words.
        reason: String,
        /// Whether it is worth another try.
        retriable: bool,
    },
}

/// Writes the records of one route. Dropped, it gives up what is under way.
pub struct Producer {
    client: Arc<ThreadedProducer<Context>>,
    board: Arc<SourceHealth>,
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").field("in_flight", &self.client.in_flight_count()).finish()
    }
}

impl Producer {
    /// Begins. Waits for no broker: they are tried until they are there. What becomes of each
    /// record comes through the channel, which holds no more than the caller has under way.
    ///
    /// # Errors
    /// librdkafka refuses the settings, or a file of them cannot be read.
    pub fn start(
        cluster: &ClusterConfig,
        config: &ProducerConfig,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Delivery>), StartError> {
        let board = Arc::new(SourceHealth::without_assignment());
        let tokens = security::prepare(&cluster.security)?;
        let (deliveries, delivered) = mpsc::unbounded_channel();
        let (wanted, receiver) = security::wanted();
        let reporter = Reporter::new(&config.route, &board, &Arc::default());
        let context =
            Context::new(Arc::clone(&board), reporter, deliveries, tokens.as_ref().map(|_| wanted));
        let client = settings(cluster, config).create_with_context(context);
        let client: Arc<ThreadedProducer<Context>> =
            client.map(Arc::new).map_err(|error| StartError::Client(plain(&error)))?;
        if let Some(provider) = &tokens {
            security::keep_supplied(&client, provider, receiver)?;
        }
        Ok((Self { client, board }, delivered))
    }

    /// Takes a record; its delivery tells the rest.
    ///
    /// # Errors
    /// The record cannot be sent at all. No delivery follows.
    pub fn send(&self, ticket: Ticket, record: &OutboundRecord<'_>) -> Result<(), WriteError> {
        let mut out = BaseRecord::<[u8], [u8], Ticket>::with_opaque_to(record.topic, ticket);
        out.key = record.key;
        out.payload = record.value;
        out.partition = record.partition;
        out.timestamp = Some(record.timestamp);
        if !record.headers.is_empty() {
            let headers = OwnedHeaders::new_with_capacity(record.headers.len());
            let add = |headers: OwnedHeaders, (key, value): &(&str, Option<&[u8]>)| {
                headers.insert(Header { key, value: *value })
            };
            out.headers = Some(record.headers.iter().fold(headers, add));
        }
        self.client.send(out).map_err(|(error, _)| write_error(&error, false))
    }

    /// A handle that shows how the connection to the cluster is.
    pub fn health(&self) -> ProducerHealth {
        ProducerHealth(Arc::clone(&self.board))
    }

    /// Ends the client. What is under way is given up; its place in the log, if any, stays unknown.
    pub async fn close(self) {
        // The client's end waits for its threads.
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }
}

/// Shows how a producer's connection to the cluster is, also after the producer's end.
#[derive(Clone, Debug)]
pub struct ProducerHealth(Arc<SourceHealth>);

impl ProducerHealth {
    /// Why records cannot be sent now; `None` if they can.
    pub fn not_ready(&self) -> Option<String> {
        self.0.status().not_ready
    }

    /// Errors of brokers and of the connections to them since the start.
    pub fn errors(&self) -> u64 {
        self.0.status().kafka_errors
    }
}

fn settings(cluster: &ClusterConfig, config: &ProducerConfig) -> rdkafka::ClientConfig {
    let mut settings = cluster::connection_settings(cluster);
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
            "{text}: an idempotent producer needs IdempotentWrite on the cluster, or Write on a topic"
        )),
        _ if sent => WriteError::Unknown(text),
        code => {
            let retriable =
                matches!(code, Code::MessageTimedOut | Code::QueueFull | Code::PurgeQueue);
            WriteError::Kafka { error: format!("{code:?}"), reason: text, retriable }
        }
    }
}
