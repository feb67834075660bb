//! Kafka from Maven: one node, three nodes, or one with every kind of security.

mod broker;
mod cluster;
mod config;
mod node;
mod secured;

pub use cluster::KafkaCluster;
pub use config::KafkaOptions;
pub use node::KafkaNode;
pub use secured::{PASSWORD, Provider, SecuredKafka, SecuredNode};

/// Any 16 bytes in URL-safe base64; clusters seldom meet, so one id does.
const CLUSTER_ID: &str = "4L6g3nShT-eMCtK--X86sw";
