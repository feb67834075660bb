//! Routes: records of Kafka to a ZeroMQ socket, and messages of one to Kafka.
//!
//! A [`Relay`] is a registry of routes: each can be started, stopped and replaced while the others
//! run, and [`StatusHandle`] tells of all. A route decides in plain states (`kafka_to_zmq::state`,
//! `zmq_to_kafka::ledger`): positions, policies, who is owed what. One thin task for each drives
//! them, between a `zafka_kafka::Source` or `Producer` and a socket of `zafka_sockets`.
//!
//! This crate does not know configuration files, HTTP, or how bytes get to a broker or a peer.
//!
//! ```
//! use std::time::Duration;
//!
//! use zafka_bridge::Relay;
//! use zafka_bridge::config::RouteConfig;
//! use zafka_envelope::{FramePlan, Preset};
//! use zafka_kafka::Cluster;
//! use zafka_kafka::config::{ClusterConfig, SourceConfig, Start, TopicSelector};
//! use zafka_kafka::embedded::{EmbeddedBroker, EmbeddedRecord};
//! use zafka_sockets::config::PubConfig;
//! use zafka_sockets::{Endpoint, SubEvent, SubSocket};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let broker = EmbeddedBroker::start()?;
//! broker.create_topic("orders", 1)?;
//! let producer = broker.producer()?;
//! let value = Some(&b"hello"[..]);
//! let record = EmbeddedRecord { topic: "orders", value, ..EmbeddedRecord::default() };
//! producer.send(&record)?;
//! producer.flush(Duration::from_secs(60))?;
//!
//! let cluster = Cluster::new(&ClusterConfig::new(vec![broker.bootstrap()]))?;
//! let topics = vec![TopicSelector::Name("orders".to_owned())];
//! let route = RouteConfig {
//!     name: "a route".to_owned(),
//!     source: SourceConfig { start: Start::Earliest, ..SourceConfig::new("a route", topics) },
//!     frames: FramePlan::preset(Preset::Value),
//!     rename: Vec::new(),
//!     // Nothing is read before somebody wants it.
//!     socket: PubConfig {
//!         bind: vec!["tcp://127.0.0.1:*".parse()?],
//!         min_peers: 1,
//!         ..PubConfig::default()
//!     },
//! };
//! let relay = Relay::start(&cluster, [route]).await?;
//!
//! let status = relay.status_handle().status();
//! let endpoint: Endpoint = status.routes[0].endpoints[0].parse()?;
//! let mut sub = SubSocket::new(endpoint, vec![b"orders".to_vec()]);
//! assert_eq!(sub.next().await, SubEvent::Connected);
//! assert_eq!(sub.next().await, SubEvent::Message(vec!["orders".into(), "hello".into()]));
//! relay.shutdown(Duration::from_secs(5)).await;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests wait by the clock"))]

pub mod config;
mod identity_places;
mod kafka_to_zmq;
pub mod loops;
#[cfg(all(test, feature = "planted"))]
mod planted;
mod principals;
mod registry;
mod relay;
pub mod rename;
#[cfg(feature = "sim")]
#[doc(hidden)]
pub mod sim;
pub mod status;
pub mod template;
mod wait_log;
pub mod zmq_to_kafka;

pub use identity_places::{IdentityPlace, IdentityPlaces};
pub use principals::{PeerLease, Principals};
pub use relay::{Relay, Route, StartError, StatusHandle, StoppedRoute};
