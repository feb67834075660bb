//! Errors before a source runs.

use std::error::Error;
use std::path::PathBuf;

use zafka_oidc::TokenError;

use crate::config::GroupConfig;

/// The reason why a Kafka client could not be made. Nothing was sent to a broker.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// librdkafka refuses the settings, such as a certificate that cannot be read.
    #[error("the Kafka client cannot be made: {0}")]
    Client(String),
    /// A certificate or key cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A certificate or key is not what it should be.
    #[error("{}: {reason}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// The fault in it.
        reason: String,
    },
    /// The system has no thread left.
    #[error("a thread for the Kafka client cannot be started: {0}")]
    Thread(#[from] std::io::Error),
    /// The caller is not on a tokio runtime.
    #[error("no tokio runtime to fetch on")]
    Runtime,
    /// The OIDC settings cannot be used.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// The reason why a topic that is named cannot be read now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicFault {
    /// The cluster has none of that name, or does not say so.
    #[error("it does not exist")]
    Unknown,
    /// The cluster is just making it.
    #[error("it has no partitions yet")]
    NoPartitions,
    /// The user may not see it.
    #[error("not authorized to read it")]
    NotAuthorized,
    /// Anything else that the cluster says of it.
    #[error("{0}")]
    Other(String),
}

/// The reason why a topic cannot be written to now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteFault {
    /// The cluster has none of that name, or does not say so.
    #[error("it does not exist")]
    Unknown,
    /// The user may not write to it.
    #[error("not authorized to write to it")]
    NotAuthorized,
    /// Anything else that the cluster says of it.
    #[error("{0}")]
    Other(String),
}

/// The reason why a cluster could not be asked for the topics that routes read or write.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The client could not be made.
    #[error(transparent)]
    Start(#[from] StartError),
    /// No broker answered in time, or one refused.
    #[error("the cluster cannot be asked: {0}")]
    Cluster(#[source] ProbeCause),
    /// No producer id is given.
    #[error(
        "idempotent writes are not allowed ({0}): they need IdempotentWrite on the cluster, or \
         Write on a topic"
    )]
    Idempotence(String),
    /// The group cannot be used.
    #[error("group \"{group}\": {reason}")]
    Group {
        /// The group.
        group: String,
        /// The coordinator's answer.
        #[source]
        reason: ProbeCause,
    },
}

/// A cause that is shown, and that no caller decides by.
type ProbeCause = Box<dyn Error + Send + Sync>;

impl ProbeError {
    pub(crate) fn cluster(cause: impl Into<ProbeCause>) -> Self {
        Self::Cluster(cause.into())
    }

    pub(crate) fn group(group: &GroupConfig, reason: impl Into<ProbeCause>) -> Self {
        Self::Group { group: group.id.clone(), reason: reason.into() }
    }
}
