//! How a Kafka record is laid out as ZeroMQ frames, and read back.
#![forbid(unsafe_code)]

mod record;

pub use record::{Header, Record, Timestamp};
