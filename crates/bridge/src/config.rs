//! What can be set on a route, already parsed.

use zafka_envelope::FramePlan;
use zafka_kafka::config::SourceConfig;
use zafka_sockets::config::PubConfig;

use crate::rename::Rename;

/// A route from Kafka to a PUB socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteConfig {
    /// Its name; unique within a relay.
    pub name: String,
    /// What it reads.
    pub source: SourceConfig,
    /// How a record is laid out as frames.
    pub frames: FramePlan,
    /// Changes of the topic's name in the routing frame.
    pub rename: Vec<Rename>,
    /// Where it serves peers, and how.
    pub socket: PubConfig,
}
