//! Settings of a route, already parsed.

use zafka_envelope::FramePlan;
use zafka_kafka::config::SourceConfig;
use zafka_sockets::config::PubConfig;

use crate::rename::Rename;

/// A route from Kafka to a PUB socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteConfig {
    /// Its name; unique within a relay.
    pub name: String,
    /// The topics that it reads, and how.
    pub source: SourceConfig,
    /// The layout of a record as frames.
    pub frames: FramePlan,
    /// Changes of the topic's name in the routing frame.
    pub rename: Vec<Rename>,
    /// The endpoints at which it serves peers, and how.
    pub socket: PubConfig,
}
