//! Waits: states in which nothing comes from Kafka though nothing is wrong with the relay.

use crate::topic_partition::TopicPartition;

/// One wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The topic and partition that waits; `None` if it is the whole source.
    pub partition: Option<TopicPartition>,
    /// Its kind.
    pub kind: WaitKind,
    /// A text for people, without the partition.
    pub reason: String,
    /// The moment it began, in ms since the epoch.
    pub since: i64,
}

/// The kinds of a source's waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitKind {
    /// A broker holds its answers back, for the client has used up its quota.
    Quota,
}

impl WaitKind {
    /// Its name in the status and in labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quota => "quota",
        }
    }
}
