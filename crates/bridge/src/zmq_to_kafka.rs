//! Routes from ZeroMQ to Kafka: messages become records, and their senders are answered.
//!
//! `mapping`, `wire` and `ledger` decide; `task` carries out.

mod ages;
mod arrivals;
mod counts;
mod identities;
mod ledger;
mod letters;
pub mod mapping;
mod message;
mod parked;
mod shared;
mod shares;
#[cfg(feature = "sim")]
pub(crate) mod sim;
mod spread;
mod task;
mod topic_numbers;
mod wire;

use zafka_envelope::InboundPlan;
use zafka_kafka::produce::ProducerConfig;
use zafka_sockets::InboundConfig;

use mapping::Mapping;
pub(crate) use shared::IngestShared;
pub(crate) use task::run;

/// A route from a PULL, SUB or ROUTER socket to Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngestConfig {
    /// Its name; unique within a relay.
    pub name: String,
    /// The endpoints at which it takes messages, and how.
    pub socket: InboundConfig,
    /// The layout of a message's frames.
    pub frames: InboundPlan,
    /// The way from a message to a record.
    pub mapping: Mapping,
    /// The way records are written.
    pub producer: ProducerConfig,
    /// The reaction to a message of PULL or SUB that cannot be written.
    pub on_error: OnError,
    /// True if records are written in the names of their senders, each by its own token. Only for
    /// ROUTER.
    pub as_peer: bool,
}

/// The reaction to a message that cannot be written and whose sender gets no answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// Counted and logged.
    #[default]
    Skip,
    /// The route stops.
    Stop,
    /// It is written to this topic, with the reason.
    DeadLetter(String),
}
