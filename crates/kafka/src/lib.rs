//! The Kafka side of zafka. The only crate that names a Kafka library.
//!
//! A [`Source`] reads what a route asks for: it receives partitions, hands out their records,
//! commits positions, and gives partitions back. librdkafka manages the group membership. Records
//! are fetched by our own requests (`fetcher::fast`), or by librdkafka if it is configured so or if
//! a broker is older than 2.7. The threads and tasks of a source:
//! - membership: polls librdkafka without a pause, answers rebalances, and owns every assignment;
//! - lookup: lists topics and resolves positions, which may wait for brokers;
//! - fetch: a dispatcher and one task for each broker, or a thread that empties librdkafka's queue;
//! - commit: one commit at a time, waiting for the coordinator.
//!
//! What this crate does not know: ZeroMQ, frames, and what "delivered" means.
//!
//! ```
//! use std::ops::ControlFlow;
//! use std::time::Duration;
//!
//! use zafka_kafka::{Cluster, Source};
//! use zafka_kafka::config::{
//!     ClusterConfig, FetcherKind, Isolation, OnCorrupt, OnOutOfRange, SourceConfig,
//!     Start, TopicSelector,
//! };
//! use zafka_kafka::embedded::{EmbeddedBroker, EmbeddedRecord};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let broker = EmbeddedBroker::start()?;
//! broker.create_topic("orders", 1)?;
//! let producer = broker.producer()?;
//! let record =
//!     EmbeddedRecord { topic: "orders", value: Some(b"hello"), ..EmbeddedRecord::default() };
//! producer.send(&record)?;
//! producer.flush(Duration::from_secs(60))?;
//!
//! let cluster = Cluster::new(&ClusterConfig::new(vec![broker.bootstrap()]))?;
//! let topics = vec![TopicSelector::Name("orders".to_owned())];
//! let config =
//!     SourceConfig { start: Start::Earliest, ..SourceConfig::new("a route", topics) };
//! let (source, mut receivers) = Source::start(&cluster, config)?;
//! let mut values = Vec::new();
//! while values.is_empty() {
//!     // A run of records of one partition, borrowed while they are walked.
//!     let mut run = receivers.records.recv().await.ok_or("the source has stopped")?;
//!     run.walk(|record| {
//!         values.push(record.value.map(<[u8]>::to_vec));
//!         ControlFlow::Continue(())
//!     });
//! }
//! assert_eq!(values, [Some(b"hello".to_vec())]);
//! drop(receivers);
//! source.close(Vec::new()).await;
//! # Ok(())
//! # }
//! ```
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests wait by the clock"))]

mod assignment;
mod authorized;
mod backoff;
mod client;
mod cluster;
mod commits;
pub mod config;
mod connection;
mod consumer;
mod coordinator;
pub mod embedded;
mod ends;
mod epochs;
mod error;
mod error_text;
mod exchange;
mod failing_commits;
mod fetcher;
mod generation;
mod guard;
mod health;
mod log_limiter;
mod lookup;
mod mailbox;
mod membership;
mod metadata;
mod native;
#[cfg(all(test, feature = "planted"))]
mod planted;
mod principal;
mod probe;
pub mod produce;
mod quota;
pub mod read;
mod reason;
mod records;
mod report;
mod reset;
mod security;
#[cfg(feature = "sim")]
#[doc(hidden)]
pub mod sim;
mod skipped;
mod source;
mod topic_partition;
mod topics;
mod wait;

pub use assignment::Assignment;
pub use authorized::{AskedTopics, AuthorizedTopics};
pub use cluster::Cluster;
pub use ends::Ends;
pub use error::{ProbeError, StartError, TopicFault, WriteFault};
pub use exchange::{RevokeDone, SourceEvent};
pub use fetcher::Fetched;
pub use generation::Generation;
pub use health::SourceStatus;
pub use principal::{AuthorizationError, Principal};
pub use probe::{ProbeResult, Writable, WritableTopic, probe, probe_token, probe_writing};
#[cfg(feature = "bench")]
#[doc(hidden)]
pub use records::bench;
pub use source::{Source, SourceReceivers};
pub use topic_partition::TopicPartition;
pub use wait::{Wait, WaitKind};
pub use zafka_oidc::TokenError;
