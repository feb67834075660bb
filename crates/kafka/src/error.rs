//! What can go wrong before a source runs.

/// Why a Kafka client could not be made. Nothing was sent to a broker.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// librdkafka refuses the settings, such as a certificate that cannot be read.
    #[error("the Kafka client cannot be made: {0}")]
    Client(String),
    /// The system has no thread left.
    #[error("a thread for the Kafka client cannot be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// Why a cluster could not be asked for its topics.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The client could not be made.
    #[error(transparent)]
    Start(#[from] StartError),
    /// No broker answered, or one refused.
    #[error("{servers}: {reason}")]
    Unreachable {
        /// The bootstrap servers.
        servers: String,
        /// What the last attempt met.
        reason: String,
    },
    /// A topic that was named cannot be read.
    #[error("topic \"{topic}\": {reason}")]
    Topic {
        /// The topic.
        topic: String,
        /// What the cluster says of it.
        reason: String,
    },
}
