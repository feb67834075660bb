//! The Kafka side of zafka. The only crate that names a Kafka library.
//!
//! A [`Source`] reads what a route asks for: it takes partitions up, hands out their records,
//! commits what it is told, and lets partitions go. librdkafka holds the membership and fetches;
//! the threads here only move what it says to where it belongs:
//! - membership: polls librdkafka without a pause, answers rebalances, and owns every assignment;
//! - look-ups: lists topics and resolves positions, which may wait for brokers;
//! - fetch: takes records off librdkafka's queue; it stands still while nobody receives;
//! - commits: one at a time, waiting for the coordinator.
//!
//! What this crate does not know: ZeroMQ, frames, and what "delivered" means.

mod assignment;
mod client;
mod cluster;
mod commits;
pub mod config;
mod connection;
mod coordinator;
pub mod embedded;
mod epochs;
mod error;
mod failing;
mod fetcher;
mod generation;
mod guard;
mod lookup;
mod membership;
mod native;
mod noise;
mod probe;
pub mod produce;
mod quota;
mod reason;
mod records;
mod report;
mod security;
mod source;
mod status;
mod topics;
mod wait;

pub use assignment::{Assignment, RevokeDone, SourceEvent, SourceReceivers};
pub use error::{ProbeError, StartError, TopicFault};
pub use fetcher::Fetched;
pub use generation::Generation;
pub use probe::{Found, probe};
#[cfg(feature = "bench")]
#[doc(hidden)]
pub use records::bench;
pub use security::TokenError;
pub use source::Source;
pub use status::{Ends, SourceStatus};
pub use wait::{Wait, WaitKind};
