//! Records as they come from Kafka.

mod librdkafka;

pub use librdkafka::Fetched;
pub(crate) use librdkafka::{Fetcher, Held};
